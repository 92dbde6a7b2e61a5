//! What the generator is to send, when, and what of it counts.

use std::time::Duration;

use hdrhistogram::Histogram;

use super::load::{Action, Load, Material, Mix, Operation, Random};
use super::measurement::{Measurement, Observer, nanos};

/// The keys that were set and not removed.
#[derive(Debug)]
pub(super) struct Touched {
    words: Vec<u64>,
}

impl Touched {
    pub(super) fn new(keys: u32) -> Self {
        Self {
            words: vec![0; (keys as usize).div_ceil(64)],
        }
    }

    fn insert(&mut self, key: u32) {
        self.words[key as usize / 64] |= 1 << (key % 64);
    }

    pub(super) fn remove(&mut self, key: u32) {
        self.words[key as usize / 64] &= !(1 << (key % 64));
    }

    /// The first key at `from` or after it.
    pub(super) fn next(&self, from: u32) -> Option<u32> {
        let mut word = from as usize / 64;
        let mut bits = self.words.get(word)? & (u64::MAX << (from % 64));
        while bits == 0 {
            word += 1;
            bits = *self.words.get(word)?;
        }
        u32::try_from(word * 64 + bits.trailing_zeros() as usize).ok()
    }
}

/// Which operations.
#[derive(Debug)]
enum Work {
    /// None: the phase is for connecting only.
    None,
    /// One for each key, from this number on.
    Each { action: Action, next: u32 },
    /// Keys at random, until the phase is stopped.
    Random(Mix),
}

/// When the open loop sends.
#[derive(Debug)]
struct Schedule {
    /// The first operation's time.
    from_ns: u64,
    interval_ns: f64,
    sent: u64,
    turn: usize,
}

impl Schedule {
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "nanoseconds of a run fit the 53 bits of an f64, and are positive"
    )]
    fn due_ns(&self) -> u64 {
        self.from_ns + (self.sent as f64 * self.interval_ns) as u64
    }

    /// How many are not sent yet of those that are due before `end_ns`.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "operations of a run fit the 53 bits of an f64, and are positive"
    )]
    fn unsent_before(&self, end_ns: u64) -> u64 {
        let due = end_ns.saturating_sub(self.from_ns) as f64 / self.interval_ns;
        (due.ceil() as u64).saturating_sub(self.sent)
    }
}

/// The part of a phase that counts.
#[derive(Debug)]
struct Window {
    opens_ns: u64,
    closes_ns: u64,
    /// What was due in it and found no room is sent until then, and counts as an error later.
    late_until_ns: u64,
    opened_ns: Option<u64>,
    closed_ns: Option<u64>,
    leader_changes_before: u64,
    result: Measurement,
}

/// Invariant: after the end, [`Phase::next`] gives nothing.
#[derive(Debug)]
pub(super) struct Phase {
    doing: &'static str,
    work: Work,
    in_flight: usize,
    over: bool,
    schedule: Option<Schedule>,
    window: Option<Window>,
}

impl Phase {
    /// Nothing but connecting.
    pub(super) fn none(doing: &'static str) -> Self {
        Self {
            doing,
            work: Work::None,
            in_flight: 0,
            over: true,
            schedule: None,
            window: None,
        }
    }

    /// One operation per key: all keys for a put, those that are set for a delete.
    pub(super) fn each(doing: &'static str, action: Action, in_flight: usize) -> Self {
        Self {
            doing,
            work: Work::Each { action, next: 0 },
            in_flight,
            over: false,
            schedule: None,
            window: None,
        }
    }

    /// A measurement that begins now. An open loop makes up for what it is behind for `patience`.
    pub(super) fn measured(load: &Load, now: u64, patience: Duration) -> Self {
        let opens_ns = now + nanos(load.warm_up);
        let closes_ns = opens_ns + nanos(load.measured);
        let latency_us =
            Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("the bounds are sound");
        Self {
            doing: "measuring",
            work: Work::Random(load.mix),
            in_flight: load.in_flight,
            over: false,
            schedule: load.rate.map(|rate| Schedule {
                from_ns: now,
                interval_ns: 1e9 / rate,
                sent: 0,
                turn: 0,
            }),
            window: Some(Window {
                opens_ns,
                closes_ns,
                late_until_ns: closes_ns + nanos(patience),
                opened_ns: None,
                closed_ns: None,
                leader_changes_before: 0,
                result: Measurement {
                    ops: 0,
                    errors: 0,
                    elapsed: Duration::ZERO,
                    latency_us,
                    first_revision: 0,
                    last_revision: 0,
                    leader_changes: 0,
                },
            }),
        }
    }

    pub(super) fn doing(&self) -> &'static str {
        self.doing
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    pub(super) fn is_open_loop(&self) -> bool {
        self.schedule.is_some()
    }

    /// When the open loop wants to send next.
    pub(super) fn due(&self) -> Option<u64> {
        if self.over {
            return None;
        }
        self.schedule.as_ref().map(Schedule::due_ns)
    }

    /// When the window opens or closes next.
    pub(super) fn boundary(&self) -> Option<u64> {
        let window = self.window.as_ref()?;
        match (window.opened_ns, window.closed_ns) {
            (None, _) => Some(window.opens_ns),
            (Some(_), None) => Some(window.closes_ns),
            (Some(_), Some(_)) => None,
        }
    }

    /// Whose turn it is to get the next operation of an open loop.
    pub(super) fn turn(&mut self, channels: usize) -> usize {
        match &mut self.schedule {
            Some(schedule) => {
                schedule.turn = (schedule.turn + 1) % channels;
                schedule.turn
            }
            None => 0,
        }
    }

    /// How far the phase is, 0 to 1.
    #[expect(clippy::cast_precision_loss, reason = "for a progress bar")]
    pub(super) fn part(&self, now: u64, keys: u32) -> f64 {
        match (&self.window, &self.work) {
            (Some(window), _) => {
                let whole = window.closes_ns.saturating_sub(window.opens_ns).max(1);
                now.saturating_sub(window.opens_ns).min(whole) as f64 / whole as f64
            }
            (None, Work::Each { next, .. }) => f64::from(*next) / f64::from(keys),
            (None, _) => 0.0,
        }
    }

    /// Ends the phase early.
    pub(super) fn stop(&mut self, now: u64) {
        self.over = true;
        if let Some(window) = &mut self.window {
            window.closes_ns = window.closes_ns.min(now);
        }
    }

    /// Opens and closes the window when its time has come.
    pub(super) fn watch(&mut self, now: u64, leader_changes: u64, observer: &mut impl Observer) {
        let Some(window) = &mut self.window else {
            return;
        };
        if window.opened_ns.is_none() && now >= window.opens_ns.min(window.closes_ns) {
            window.opened_ns = Some(now);
            window.leader_changes_before = leader_changes;
            observer.window_opened();
        }
        let Some(opened) = window.opened_ns else {
            return;
        };
        if window.closed_ns.is_none() && now >= window.closes_ns {
            window.closed_ns = Some(now);
            window.result.elapsed = Duration::from_nanos(now - opened);
            window.result.leader_changes = leader_changes - window.leader_changes_before;
            observer.window_closed();
        }
        if self.over || window.closed_ns.is_none() {
            return;
        }
        let behind = self.schedule.as_ref();
        let behind = behind.filter(|schedule| schedule.due_ns() < window.closes_ns);
        if behind.is_some() && now < window.late_until_ns {
            return;
        }
        let unsent = behind.map_or(0, |schedule| schedule.unsent_before(window.closes_ns));
        window.result.errors += unsent;
        self.over = true;
    }

    /// The next operation and when it is meant to be sent, if one is due.
    pub(super) fn next(
        &mut self,
        now: u64,
        material: &Material,
        touched: &mut Touched,
        random: &mut Random,
    ) -> Option<(Operation, u64)> {
        if self.over {
            return None;
        }
        let mut intended = now;
        if let Some(schedule) = &mut self.schedule {
            intended = schedule.due_ns();
            let closes_ns = self
                .window
                .as_ref()
                .map_or(u64::MAX, |window| window.closes_ns);
            if intended > now || intended >= closes_ns {
                return None;
            }
            schedule.sent += 1;
        }
        let (action, key) = match &mut self.work {
            Work::None => return None,
            Work::Each { action, next } => {
                let key = match action {
                    Action::Delete => touched.next(*next),
                    Action::Put | Action::Get => Some(*next).filter(|key| *key < material.keys()),
                };
                let Some(key) = key else {
                    self.over = true;
                    return None;
                };
                *next = key + 1;
                (*action, key)
            }
            Work::Random(mix) => {
                let action = match mix {
                    Mix::Put => Action::Put,
                    Mix::Get => Action::Get,
                    Mix::Mixed if random.below(2) == 0 => Action::Put,
                    Mix::Mixed => Action::Get,
                };
                (action, random.below(material.keys()))
            }
        };
        if action == Action::Put {
            touched.insert(key);
        }
        Some((material.operation(action, key, random), intended))
    }

    /// An operation is done. A closed loop counts what is answered within the window, an open loop
    /// what was meant to be sent within it: nothing late is left out, and the time that it took
    /// behind the window counts as well.
    pub(super) fn done(&mut self, now: u64, intended: u64, revision: u64) {
        let open_loop = self.schedule.is_some();
        let Some(window) = &mut self.window else {
            return;
        };
        let counts = if open_loop {
            intended >= window.opens_ns && intended < window.closes_ns
        } else {
            window.opened_ns.is_some() && window.closed_ns.is_none()
        };
        if !counts {
            return;
        }
        let result = &mut window.result;
        result.ops += 1;
        if let (Some(opened), Some(_)) = (window.opened_ns, window.closed_ns) {
            result.elapsed = Duration::from_nanos(now.saturating_sub(opened)).max(result.elapsed);
        }
        let us = now.saturating_sub(intended).div_ceil(1000).max(1);
        result.latency_us.saturating_record(us);
        if revision != 0 {
            let first = result.first_revision;
            result.first_revision = if first == 0 {
                revision
            } else {
                first.min(revision)
            };
            result.last_revision = result.last_revision.max(revision);
        }
    }

    /// Refusals and losses.
    pub(super) fn errors(&mut self, count: u64) {
        if let Some(window) = &mut self.window
            && window.opened_ns.is_some()
            && window.closed_ns.is_none()
        {
            window.result.errors += count;
        }
    }

    /// The result of a measured phase that is over; empty for another.
    pub(super) fn into_measurement(self) -> Option<Measurement> {
        self.window.map(|window| window.result)
    }
}
