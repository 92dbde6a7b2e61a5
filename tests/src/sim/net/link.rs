//! Links: how long they take, what they do to parcels, cuts and clogs.

use std::time::Duration;

use bytes::Bytes;
use raft::Instant;
use wire::frame::LENGTH_BYTES;

use super::{Arrival, End, Host, Net, Parcel};
use crate::sim::event::Events;
use crate::sim::world::Happening;

/// What a link does to parcels. Rates are per million.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weather {
    /// The usual time of a parcel; [`crate::sim::random::Random::heavy`] draws around it.
    pub delay: Duration,
    /// The longest time of a parcel.
    pub delay_max: Duration,
    /// Parcels that never arrive.
    pub loss: u32,
    /// Parcels that arrive twice.
    pub duplication: u32,
    /// Parcels that later ones overtake.
    pub reordering: u32,
    /// Parcels that arrive in two pieces.
    pub tearing: u32,
    /// Parcels with a changed byte.
    pub corruption: u32,
    /// Parcels of which a part arrives, then the connection is reset.
    pub resets: u32,
}

impl Weather {
    /// Nothing but a delay.
    #[must_use]
    pub const fn fair(delay: Duration, delay_max: Duration) -> Self {
        Self {
            delay,
            delay_max,
            loss: 0,
            duplication: 0,
            reordering: 0,
            tearing: 0,
            corruption: 0,
            resets: 0,
        }
    }

    /// The same as TCP has it: what would be lost, doubled or overtaken breaks the connection.
    #[must_use]
    pub fn as_tcp(self) -> Self {
        Self {
            loss: 0,
            duplication: 0,
            reordering: 0,
            resets: self.resets + (self.loss + self.duplication + self.reordering) / 100,
            ..self
        }
    }

    /// Whether it does nothing but delay.
    #[must_use]
    pub fn is_fair(&self) -> bool {
        [
            self.loss,
            self.duplication,
            self.reordering,
            self.tearing,
            self.corruption,
            self.resets,
        ] == [0; 6]
    }
}

/// A directed link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Link {
    pub(super) weather: Weather,
    /// Cuts in force: partitions may overlap.
    pub(super) cuts: u32,
    pub(super) clogged_until: Instant,
}

impl Link {
    pub(super) fn new(weather: Weather) -> Self {
        Self {
            weather,
            cuts: 0,
            clogged_until: Instant::default(),
        }
    }

    /// Whether parcels get through.
    pub(super) fn is_whole(&self, now: Instant) -> bool {
        self.cuts == 0 && self.clogged_until <= now
    }
}

impl Net {
    /// What the link does from now on.
    pub fn set_weather(&mut self, from: Host, to: Host, weather: Weather) {
        // A client may rely on TCP, and has to: else "not applied" would be said of one copy of a
        // request while another is applied.
        let of_clients = from.max(to) == self.hosts - 1;
        self.link(from, to).weather = if of_clients {
            weather.as_tcp()
        } else {
            weather
        };
    }

    /// What the link does.
    #[must_use]
    pub fn weather(&self, from: Host, to: Host) -> Weather {
        self.links[from * self.hosts + to].weather
    }

    /// Nothing gets through from now on.
    pub fn cut(&mut self, from: Host, to: Host) {
        self.link(from, to).cuts += 1;
    }

    /// Takes one cut back; with the last one, what was held comes in one burst.
    pub fn mend(&mut self, now: Instant, from: Host, to: Host, events: &mut Events<Happening>) {
        let link = self.link(from, to);
        link.cuts = link.cuts.saturating_sub(1);
        self.release(now, from, to, events);
    }

    /// Takes all cuts and clogs back.
    pub fn mend_all(&mut self, now: Instant, events: &mut Events<Happening>) {
        for from in 0..self.hosts {
            for to in 0..self.hosts {
                let link = self.link(from, to);
                link.cuts = 0;
                link.clogged_until = now;
                self.release(now, from, to, events);
            }
        }
    }

    /// What arrives before `until` arrives then, all at once.
    pub fn clog(&mut self, from: Host, to: Host, until: Instant, events: &mut Events<Happening>) {
        let link = self.link(from, to);
        link.clogged_until = link.clogged_until.max(until);
        events.plan(until, Happening::Unclog { from, to });
    }

    fn link(&mut self, from: Host, to: Host) -> &mut Link {
        &mut self.links[from * self.hosts + to]
    }

    /// What was held comes in one burst, if the link is whole again.
    pub fn release(&mut self, now: Instant, from: Host, to: Host, events: &mut Events<Happening>) {
        if !self.link(from, to).is_whole(now) {
            return;
        }
        for (name, connection) in &mut self.connections {
            for end in 0..2 {
                if (connection.hosts[end], connection.hosts[1 - end]) != (from, to) {
                    continue;
                }
                let pipe = &mut connection.pipes[end];
                for parcel in pipe.held.drain(..) {
                    let arrival = Arrival {
                        connection: *name,
                        end: 1 - end,
                        parcel,
                    };
                    // Before anything that was sent later and is still on its way.
                    events.plan(now, Happening::Arrival(arrival));
                }
            }
        }
    }

    pub(super) fn send_through(
        &mut self,
        weather: Weather,
        now: Instant,
        connection: u64,
        end: End,
        mut bytes: Bytes,
        events: &mut Events<Happening>,
    ) {
        if self.random.chance(weather.loss) {
            self.counts.lost += 1;
            return;
        }
        if self.random.chance(weather.resets) {
            self.reset_within(now, connection, end, &bytes, events);
            return;
        }
        if self.random.chance(weather.corruption) {
            self.counts.corrupted += 1;
            bytes = self.corrupt(&bytes);
        }
        if self.random.chance(weather.tearing) && bytes.len() > 1 {
            self.counts.torn += 1;
            let first = bytes.split_to(1 + self.random.index(bytes.len() - 1));
            self.put(now, connection, end, Parcel::Bytes(first), events);
            let pause = self.random.heavy(weather.delay, weather.delay_max);
            if let Some(known) = self.connections.get_mut(&connection) {
                let latest = &mut known.pipes[end].latest;
                *latest = *latest + pause;
            }
        }
        if self.random.chance(weather.reordering) {
            self.counts.reordered += 1;
            let late = self.random.heavy(weather.delay, weather.delay_max) * 4;
            let arrival = Arrival {
                connection,
                end: 1 - end,
                parcel: Parcel::Bytes(bytes),
            };
            events.plan(now + weather.delay + late, Happening::Arrival(arrival));
            return;
        }
        if self.random.chance(weather.duplication) {
            self.counts.doubled += 1;
            self.put(now, connection, end, Parcel::Bytes(bytes.clone()), events);
        }
        self.put(now, connection, end, Parcel::Bytes(bytes), events);
    }

    /// A bit, a byte or the rest of the parcel is not what was written. Half of the time it begins in
    /// the first length, which says what all bytes behind it are.
    fn corrupt(&mut self, bytes: &Bytes) -> Bytes {
        let mut bytes = bytes.to_vec();
        let length = bytes.len().min(LENGTH_BYTES);
        let reach = *self.random.pick(&[bytes.len(), length]);
        let at = self.random.index(reach);
        match self.random.below(3) {
            0 => bytes[at] ^= 1 << self.random.below(8),
            1 => bytes[at] = bytes[at].wrapping_add(1 + self.random.below(255) as u8),
            _ => {
                for byte in &mut bytes[at..] {
                    *byte = self.random.bits() as u8;
                }
            }
        }
        bytes.into()
    }

    /// The next connections between two machines that are written to are reset within what is
    /// written: the end is seen on both sides.
    fn reset_within(
        &mut self,
        now: Instant,
        connection: u64,
        end: End,
        bytes: &Bytes,
        events: &mut Events<Happening>,
    ) {
        let first = bytes.slice(..self.random.index(bytes.len() + 1));
        if !first.is_empty() {
            self.put(now, connection, end, Parcel::Bytes(first), events);
        }
        self.reset(now, connection, events);
    }
}
