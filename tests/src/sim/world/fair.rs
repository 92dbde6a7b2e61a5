//! A world in which nothing goes wrong by itself: for tests of the simulator.

use std::time::Duration;

use raftd::node::{Limits, Policy};

use super::{Nature, World};
use crate::sim::member::{Pace, Settings, TRUE_RATE, Timeouts};
use crate::sim::net::Weather;
use crate::sim::random::Random;
use crate::sim::trace::Trace;

const MS: Duration = Duration::from_millis(1);

impl World {
    /// So many members with the usual limits, on equal machines with true clocks and a fair network.
    #[must_use]
    pub fn fair(members: usize, seed: u64, trace: Trace) -> Self {
        let settings = Settings {
            members,
            spares: 0,
            election_timeout: 150 * MS,
            heartbeat: 40 * MS,
            limits: Limits::default(),
            snapshots: Policy::default(),
            keep_bytes: Vec::new(),
            segment_bytes: 256 << 10,
            tail_bytes: 8 << 20,
            soft_free_bytes: 0,
            scrubs: true,
            timeouts: Timeouts {
                hello: 3_000 * MS,
                frame: 10_000 * MS,
            },
            same_seed: None,
        };
        let pace = Pace {
            turn: MS / 100,
            disk: MS / 5,
            disk_max: 20 * MS,
        };
        let nature = Nature {
            paces: vec![pace; members],
            clock_rates: vec![TRUE_RATE; members],
            weather: Weather::fair(MS / 10, 50 * MS),
            disk_bytes: vec![1 << 30; members],
            stall_timeout: 10_000 * MS,
        };
        Self::new(settings, &nature, &mut Random::new(seed), trace)
    }
}
