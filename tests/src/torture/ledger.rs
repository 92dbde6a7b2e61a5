//! What a run did and saw, and whether that was enough to mean something.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wire::client::Consistency;
use wire::command::Outcome;
use wire::types::Index;

use crate::history::{Answer, Command, Operation, Record};

/// What is done to a cluster. Each is counted when it was seen to bite, not when it was meant to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Fault {
    /// What one member sends another arrives late.
    Delay,
    /// Nothing passes between two members for a while, then all of it at once.
    Stall,
    /// The connections between two members are reset.
    Reset,
    /// What one member sends another is lost; the other direction works.
    Cut,
    /// A member is cut off from all others, in both directions.
    Isolate,
    /// What one member sends another passes slowly.
    Throttle,
    /// One bit of what one member sends another is flipped.
    Corrupt,
    /// SIGKILL to one member.
    Kill,
    /// SIGKILL to all members.
    KillAll,
    /// SIGTERM to one member.
    Stop,
    /// SIGSTOP to one member or all, and SIGCONT.
    Freeze,
    /// fdatasync of one member takes long.
    SlowSync,
    /// fdatasync of one member fails.
    FailedSync,
    /// The tmpfs of one member is full.
    FullTmpfs,
    /// The ext4 of one member is full.
    FullExt4,
    /// A file of one member is damaged while it is down.
    Rot,
    /// A member is started with an empty directory.
    Wipe,
    /// Connections of clients are reset.
    ClientReset,
}

impl Fault {
    /// All of them, in the order of the ledger.
    pub const ALL: [Self; 18] = [
        Self::Delay,
        Self::Stall,
        Self::Reset,
        Self::Cut,
        Self::Isolate,
        Self::Throttle,
        Self::Corrupt,
        Self::Kill,
        Self::KillAll,
        Self::Stop,
        Self::Freeze,
        Self::SlowSync,
        Self::FailedSync,
        Self::FullTmpfs,
        Self::FullExt4,
        Self::Rot,
        Self::Wipe,
        Self::ClientReset,
    ];

    /// Its word in the ledger and in the log of a run.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Delay => "delay",
            Self::Stall => "stall",
            Self::Reset => "reset",
            Self::Cut => "cut",
            Self::Isolate => "isolate",
            Self::Throttle => "throttle",
            Self::Corrupt => "corrupt",
            Self::Kill => "kill",
            Self::KillAll => "kill-all",
            Self::Stop => "stop",
            Self::Freeze => "freeze",
            Self::SlowSync => "slow-sync",
            Self::FailedSync => "failed-sync",
            Self::FullTmpfs => "full-tmpfs",
            Self::FullExt4 => "full-ext4",
            Self::Rot => "rot",
            Self::Wipe => "wipe",
            Self::ClientReset => "client-reset",
        }
    }
}

/// What clients ask for. It counts when it is answered, and did what it was to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Deed {
    /// A value was put.
    Put,
    /// A key was deleted, or was not there.
    Delete,
    /// A value was put under a condition, which held.
    Swap,
    /// A number was added to.
    Increment,
    /// A value was made longer.
    Append,
    /// A range was deleted.
    DeleteRange,
    /// A txn was done.
    Txn,
    /// The leader was read.
    Read,
    /// The newest state was read from any member.
    ReadAnywhere,
    /// An old state was read from any member.
    ReadStale,
    /// A state was read that had to be of an entry or later.
    ReadAfter,
    /// A page of a view was read, behind the first one.
    ViewPage,
}

impl Deed {
    /// All of them, in the order of the ledger.
    pub const ALL: [Self; 12] = [
        Self::Put,
        Self::Delete,
        Self::Swap,
        Self::Increment,
        Self::Append,
        Self::DeleteRange,
        Self::Txn,
        Self::Read,
        Self::ReadAnywhere,
        Self::ReadStale,
        Self::ReadAfter,
        Self::ViewPage,
    ];

    /// Its word in the ledger.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Put => "put",
            Self::Delete => "delete",
            Self::Swap => "swap",
            Self::Increment => "increment",
            Self::Append => "append",
            Self::DeleteRange => "delete-range",
            Self::Txn => "txn",
            Self::Read => "read",
            Self::ReadAnywhere => "read-anywhere",
            Self::ReadStale => "read-stale",
            Self::ReadAfter => "read-after",
            Self::ViewPage => "view-page",
        }
    }

    /// What was done by an operation that is answered so; nothing if it is not.
    pub fn of(record: &Record) -> impl Iterator<Item = Self> {
        let outcome = match &record.answer {
            Answer::Written { outcome, .. } => Some(outcome),
            _ => None,
        };
        let written = outcome.and_then(|outcome| match outcome {
            Outcome::Put => Some(Self::Put),
            Outcome::Swapped => Some(Self::Swap),
            Outcome::Incremented(_) => Some(Self::Increment),
            Outcome::Appended(_) => Some(Self::Append),
            Outcome::Deleted(_) => Some(match record.operation {
                Operation::Write {
                    command: Command::DeleteRange { .. },
                    ..
                } => Self::DeleteRange,
                _ => Self::Delete,
            }),
            Outcome::Txn { .. } => Some(Self::Txn),
            _ => None,
        });
        let (mut read, mut later) = (None, None);
        if let (
            Operation::Read {
                consistency, after, ..
            },
            Some(_),
        ) = (&record.operation, record.index())
        {
            read = Some(match consistency {
                Consistency::Linearizable => Self::Read,
                Consistency::LinearizableAnywhere => Self::ReadAnywhere,
                Consistency::Stale | Consistency::Bounded { .. } => Self::ReadStale,
            });
            later = (*after > Index(0)).then_some(Self::ReadAfter);
        }
        [written, read, later].into_iter().flatten()
    }
}

/// Acknowledgements per second that a run must reach.
pub const ACKED_PER_SECOND_MIN: u64 = 100;
/// Faults of each kind that a run of [`WHOLE_RUN`] or longer must reach.
pub const EACH_FAULT_MIN: u64 = 5;
/// Answers of each kind that a run of [`WHOLE_RUN`] or longer must reach.
pub const EACH_DEED_MIN: u64 = 50;
/// Snapshots that a run of [`WHOLE_RUN`] or longer must reach.
pub const SNAPSHOTS_MIN: u64 = 20;
/// Shorter runs are looked at for violations only.
pub const WHOLE_RUN: Duration = Duration::from_secs(60);

/// Counts, from several threads.
#[derive(Debug, Default)]
pub struct Tally(Mutex<BTreeMap<Fault, u64>>);

impl Tally {
    /// One more.
    pub fn count(&self, fault: Fault) {
        *self.counts().entry(fault).or_default() += 1;
    }

    /// How many there were.
    #[must_use]
    pub fn of(&self, fault: Fault) -> u64 {
        self.counts().get(&fault).copied().unwrap_or(0)
    }

    fn counts(&self) -> MutexGuard<'_, BTreeMap<Fault, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a run amounts to.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// How long faults and clients went on, in all rounds.
    pub tortured: Duration,
    /// Clusters that were formed, tortured, healed and checked.
    pub rounds: u64,
    /// Faults that bit.
    pub faults: BTreeMap<Fault, u64>,
    /// Kinds that this machine or this user cannot have, with the reason.
    pub left_out: BTreeMap<Fault, String>,
    /// Times a member was started again.
    pub restarts: u64,
    /// Requests that were answered: writes acknowledged, reads served.
    pub answered: u64,
    /// What they did.
    pub deeds: BTreeMap<Deed, u64>,
    /// Writes among them.
    pub acknowledged: u64,
    /// Of those, writes that the committed log does not hold.
    pub lost: u64,
    /// Answers that no right history explains: the first look that finds some ends a run.
    pub wrong: u64,
    /// Writes that were certainly not applied.
    pub not_applied: u64,
    /// Writes whose outcome the clients never learned.
    pub unknown: u64,
    /// The longest time without any answer while faults went on.
    pub longest_gap: Duration,
    /// The longest time from the end of all faults until every member had everything.
    pub healed_within: Duration,
    /// Snapshots that members took or were sent, and published.
    pub snapshots: u64,
    /// Snapshots that members were sent and went on from.
    pub installs: u64,
    /// Entries of the committed logs that were read back from the members' files.
    pub entries: u64,
    /// Keys whose windows the exhaustive search decided.
    pub searched: u64,
}

impl Ledger {
    /// Takes in another round.
    pub fn merge(&mut self, round: Self) {
        self.tortured += round.tortured;
        self.rounds += round.rounds;
        for (fault, count) in round.faults {
            *self.faults.entry(fault).or_default() += count;
        }
        self.left_out.extend(round.left_out);
        self.restarts += round.restarts;
        self.answered += round.answered;
        for (deed, count) in round.deeds {
            *self.deeds.entry(deed).or_default() += count;
        }
        self.acknowledged += round.acknowledged;
        self.lost += round.lost;
        self.wrong += round.wrong;
        self.not_applied += round.not_applied;
        self.unknown += round.unknown;
        self.longest_gap = self.longest_gap.max(round.longest_gap);
        self.healed_within = self.healed_within.max(round.healed_within);
        self.snapshots += round.snapshots;
        self.installs += round.installs;
        self.entries += round.entries;
        self.searched += round.searched;
    }

    /// Writes acknowledged per second of torture.
    #[must_use]
    pub fn acked_per_second(&self) -> u64 {
        let seconds = self.tortured.as_secs_f64().max(0.001);
        (self.acknowledged as f64 / seconds) as u64
    }

    /// The line that ends what a run tells.
    #[must_use]
    pub fn summary(&self) -> String {
        let (acknowledged, lost, wrong) = (self.acknowledged, self.lost, self.wrong);
        let faults: u64 = self.faults.values().sum();
        let gap_ms = self.longest_gap.as_millis();
        format!(
            "{acknowledged} acked, {lost} lost, {wrong} wrong, {faults} faults, gap {gap_ms} ms"
        )
    }

    /// What is too little for the numbers to mean something; empty if nothing.
    #[must_use]
    pub fn below_floors(&self) -> Vec<String> {
        let mut below = Vec::new();
        let rate = self.acked_per_second();
        if rate < ACKED_PER_SECOND_MIN {
            below.push(format!(
                "{rate} acknowledgements per second, and {ACKED_PER_SECOND_MIN} are the floor"
            ));
        }
        if self.tortured < WHOLE_RUN {
            return below;
        }
        if self.snapshots < SNAPSHOTS_MIN {
            let taken = self.snapshots;
            below.push(format!(
                "{taken} snapshots, and {SNAPSHOTS_MIN} are the floor"
            ));
        }
        for fault in Fault::ALL {
            let count = self.faults.get(&fault).copied().unwrap_or(0);
            if count < EACH_FAULT_MIN && !self.left_out.contains_key(&fault) {
                let name = fault.name();
                below.push(format!(
                    "{count} of {name}, and {EACH_FAULT_MIN} are the floor"
                ));
            }
        }
        for deed in Deed::ALL {
            let count = self.deeds.get(&deed).copied().unwrap_or(0);
            if count < EACH_DEED_MIN {
                let name = deed.name();
                below.push(format!(
                    "{count} of {name}, and {EACH_DEED_MIN} are the floor"
                ));
            }
        }
        below
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = self.tortured.as_secs();
        writeln!(f, "seconds           {seconds} in {} rounds", self.rounds)?;
        let faults: u64 = self.faults.values().sum();
        writeln!(f, "faults            {faults}")?;
        for fault in Fault::ALL {
            let name = fault.name();
            match (self.faults.get(&fault), self.left_out.get(&fault)) {
                (None, Some(reason)) => writeln!(f, "  {name:<15} left out: {reason}")?,
                (count, _) => writeln!(f, "  {name:<15} {}", count.copied().unwrap_or(0))?,
            }
        }
        writeln!(f, "restarts          {}", self.restarts)?;
        writeln!(f, "answers           {}", self.answered)?;
        for deed in Deed::ALL {
            let (name, count) = (deed.name(), self.deeds.get(&deed).copied().unwrap_or(0));
            writeln!(f, "  {name:<15} {count}")?;
        }
        let rate = self.acked_per_second();
        writeln!(
            f,
            "writes acked      {}, {rate} per second",
            self.acknowledged
        )?;
        writeln!(f, "  not applied     {}", self.not_applied)?;
        writeln!(f, "  unknown         {}", self.unknown)?;
        writeln!(f, "longest gap       {} ms", self.longest_gap.as_millis())?;
        writeln!(f, "healed within     {} ms", self.healed_within.as_millis())?;
        writeln!(f, "snapshots         {}", self.snapshots)?;
        writeln!(f, "  installed       {}", self.installs)?;
        writeln!(f, "entries checked   {}", self.entries)?;
        write!(f, "keys searched     {}", self.searched)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_with_too_little_of_anything_is_told() {
        let mut ledger = Ledger {
            tortured: WHOLE_RUN,
            acknowledged: 6_000,
            snapshots: SNAPSHOTS_MIN,
            faults: Fault::ALL.map(|fault| (fault, EACH_FAULT_MIN)).into(),
            deeds: Deed::ALL.map(|deed| (deed, EACH_DEED_MIN)).into(),
            ..Ledger::default()
        };
        assert_eq!(ledger.below_floors(), [""; 0]);
        ledger.acknowledged -= 1;
        ledger.faults.insert(Fault::Rot, 4);
        ledger.faults.remove(&Fault::Wipe);
        ledger.deeds.insert(Deed::Txn, EACH_DEED_MIN - 1);
        let below = ledger.below_floors();
        let begin = ["99 ack", "4 of rot", "0 of wipe", "49 of txn"];
        assert_eq!(below.len(), begin.len(), "{below:?}");
        assert!(
            below
                .iter()
                .zip(begin)
                .all(|(line, begin)| line.starts_with(begin)),
            "{below:?}"
        );
        // What cannot be had is not asked for, and of a short run no fault is.
        ledger.left_out.insert(Fault::Wipe, "no reason".to_owned());
        assert_eq!(ledger.below_floors().len(), 3);
        ledger.tortured = WHOLE_RUN / 2;
        assert_eq!(ledger.below_floors(), [""; 0]);
    }

    #[test]
    fn the_last_line_tells_of_all_rounds() {
        let mut ledger = Ledger {
            acknowledged: 100,
            faults: [(Fault::Kill, 2)].into(),
            longest_gap: Duration::from_millis(70),
            ..Ledger::default()
        };
        ledger.merge(Ledger {
            acknowledged: 20,
            lost: 3,
            wrong: 1,
            longest_gap: Duration::from_millis(80),
            ..Ledger::default()
        });
        let told = "120 acked, 3 lost, 1 wrong, 2 faults, gap 80 ms";
        assert_eq!(ledger.summary(), told);
    }

    #[test]
    fn every_fault_and_every_deed_has_a_line() {
        let text = Ledger::default().to_string();
        let names = Fault::ALL.map(Fault::name);
        for name in names.into_iter().chain(Deed::ALL.map(Deed::name)) {
            let lines = text
                .lines()
                .filter(|line| line.trim() == format!("{name:<15} 0"));
            assert_eq!(lines.count(), 1, "{name}");
        }
    }
}
