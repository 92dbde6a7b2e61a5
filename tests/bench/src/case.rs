//! What is measured, one case at a time, and how.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use raftctl::bench::engine::{Engine, Failure, Setup};
use raftctl::bench::load::{Load, Material, Mix, Random};
use raftctl::bench::measurement::Observer;
use raftctl::bench::protocol::Protocol;
use raftctl::bench::report::Report;

use crate::kernel::{self, Device, DeviceCounts};

/// Bytes of every value.
pub const VALUE_BYTES: usize = 256;
/// Keys drawn from.
pub const KEYS: u32 = 10_000;

/// One way to load a system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Case {
    /// As rows and `--only` name it.
    pub name: &'static str,
    /// Reads or writes.
    pub mix: Mix,
    /// Connections.
    pub connections: usize,
    /// Operations in flight on each.
    pub in_flight: usize,
}

/// All cases.
pub const CASES: [Case; 5] = [
    Case {
        name: "put-c1",
        mix: Mix::Put,
        connections: 1,
        in_flight: 1,
    },
    Case {
        name: "put-c64",
        mix: Mix::Put,
        connections: 64,
        in_flight: 1,
    },
    Case {
        name: "put-16x64",
        mix: Mix::Put,
        connections: 16,
        in_flight: 64,
    },
    Case {
        name: "get-c1",
        mix: Mix::Get,
        connections: 1,
        in_flight: 1,
    },
    Case {
        name: "get-c64",
        mix: Mix::Get,
        connections: 64,
        in_flight: 1,
    },
];

/// One measurement with what the kernel counted meanwhile.
#[derive(Clone, Debug)]
pub struct Sample {
    /// Rates and latencies.
    pub report: Report,
    /// Processor time of all nodes, per operation.
    pub servers_us_per_op: f64,
    /// Processor time of the generator, per operation.
    pub generator_us_per_op: f64,
    /// Flushes of the disk per node and second.
    pub syncs_per_s: f64,
    /// Bytes that the disk wrote per flush.
    pub bytes_per_sync: f64,
    /// The largest resident anonymous memory of a node, in KiB.
    pub rss_kib: u64,
    /// Share of the processors that the hypervisor took, in percent.
    pub steal_percent: f64,
}

impl Sample {
    /// Why the sample must not count; `None` if it may.
    #[must_use]
    pub fn void(&self) -> Option<String> {
        let report = &self.report;
        if report.errors != 0 {
            Some(format!("{} errors", report.errors))
        } else if report.leader_changes != 0 {
            Some(format!("{} leader changes", report.leader_changes))
        } else if report.ops == 0 {
            Some("nothing was done".into())
        } else {
            None
        }
    }
}

/// How long each measurement takes.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Not counted.
    pub warm_up: Duration,
    /// Counted.
    pub measured: Duration,
}

/// Reads the kernel's counters exactly when the measurement begins and ends.
struct Meter<'a> {
    pids: &'a [u32],
    device: Option<&'a Device>,
    before: Reading,
    after: Reading,
}

#[derive(Clone, Copy, Default)]
struct Reading {
    servers_us: u64,
    generator_us: u64,
    disk: DeviceCounts,
    steal: (u64, u64),
    rss_kib: u64,
}

impl Meter<'_> {
    fn read(&self) -> Reading {
        let rss = self.pids.iter().map(|pid| kernel::rss_anon_kib(*pid));
        Reading {
            servers_us: self.pids.iter().map(|pid| kernel::cpu_us(*pid)).sum(),
            generator_us: kernel::cpu_us(std::process::id()),
            disk: self.device.map(Device::counts).unwrap_or_default(),
            steal: kernel::steal_ticks(),
            rss_kib: rss.max().unwrap_or(0),
        }
    }
}

impl Observer for Meter<'_> {
    fn window_opened(&mut self) {
        self.before = self.read();
    }

    fn window_closed(&mut self) {
        self.after = self.read();
    }
}

/// Runs a case against the servers at `endpoints`.
///
/// # Errors
/// [`Failure`].
#[expect(clippy::cast_precision_loss, reason = "counts of one run")]
pub fn run<P: Protocol>(
    case: &Case,
    timing: Timing,
    endpoints: &[String],
    pids: &[u32],
    directory: &Path,
    seed: u64,
    make: impl FnMut(usize) -> P,
) -> Result<Sample, Failure> {
    let mut random = Random::new(seed);
    let material = Material::new(KEYS, VALUE_BYTES, &mut random);
    let setup = Setup {
        endpoints: endpoints.to_vec(),
        connections: case.connections,
        in_flight_max: case.in_flight,
        patience: Duration::from_secs(20),
        interrupted: Arc::new(AtomicBool::new(false)),
    };
    let load = Load {
        mix: case.mix,
        connections: case.connections,
        in_flight: case.in_flight,
        warm_up: timing.warm_up,
        measured: timing.measured,
        rate: None,
    };
    let device = Device::of(directory);
    let mut meter = Meter {
        pids,
        device: device.as_ref(),
        before: Reading::default(),
        after: Reading::default(),
    };
    let mut engine = Engine::new(&setup, material, random, make)?;
    if case.mix.reads() {
        engine.preload(&mut ())?;
    }
    let measured = engine.measure(&load, &mut meter)?;
    let report = Report::new(&load, engine.material(), &measured);
    let (before, after) = (meter.before, meter.after);
    let per_op = |us: u64| us as f64 / report.ops.max(1) as f64;
    let flushes = after.disk.flushes - before.disk.flushes;
    let bytes = after.disk.bytes - before.disk.bytes;
    let ticks = (after.steal.1 - before.steal.1).max(1);
    Ok(Sample {
        servers_us_per_op: per_op(after.servers_us - before.servers_us),
        generator_us_per_op: per_op(after.generator_us - before.generator_us),
        syncs_per_s: flushes as f64 / pids.len().max(1) as f64 / report.seconds.max(1e-3),
        bytes_per_sync: bytes as f64 / flushes.max(1) as f64,
        rss_kib: after.rss_kib,
        steal_percent: 100.0 * (after.steal.0 - before.steal.0) as f64 / ticks as f64,
        report,
    })
}

/// Puts about `count` values, at a rate that takes one second.
///
/// # Errors
/// [`Failure`].
pub fn put<P: Protocol>(
    count: u64,
    endpoints: &[String],
    make: impl FnMut(usize) -> P,
) -> Result<(), Failure> {
    let mut random = Random::new(count);
    let material = Material::new(KEYS, VALUE_BYTES, &mut random);
    let setup = Setup {
        endpoints: endpoints.to_vec(),
        connections: 1,
        in_flight_max: 64,
        patience: Duration::from_secs(20),
        interrupted: Arc::new(AtomicBool::new(false)),
    };
    let load = Load {
        mix: Mix::Put,
        connections: 1,
        in_flight: 64,
        warm_up: Duration::ZERO,
        measured: Duration::from_secs(1),
        rate: Some(count as f64),
    };
    let mut engine = Engine::new(&setup, material, random, make)?;
    engine.measure(&load, &mut ()).map(|_| ())
}
