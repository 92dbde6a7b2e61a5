//! What a number of runs amounts to: how much was simulated, what went wrong in it, which rare
//! branches were reached, and whether the numbers mean anything.

mod marks;
mod show;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::time::Duration;

pub use self::marks::{BRANCHES, Marks, Watch, expected_errors};
use super::faults::kind::Kind;
use super::plan::Outside;

/// From so many runs on, the median one must reach [`MEDIAN`], and not too many may be vacuous.
pub const MEDIANS_DUE: usize = 100;
/// From so many runs on, every mark must have been reached.
pub const MARKS_DUE: usize = 10_000;
/// Of a hundred runs so many may be vacuous.
pub const VACUOUS_PERCENT_MAX: usize = 2;
/// Of a hundred keys so many may be given up by the search for an order, which needs no log.
pub const GIVEN_UP_PERCENT_MAX: u64 = 5;
/// In [`Run::judged`]: keys that were searched.
pub const KEYS: &str = "keys";
/// In [`Run::judged`]: those that were given up.
pub const KEYS_GIVEN_UP: &str = "keys given up";

/// What the median run reaches at least.
pub const MEDIAN: Size = Size {
    simulated: Duration::from_secs(60),
    operations: 2_000,
    faults: 20,
    leaders: 2,
};
/// A run that reaches less in any of these has tested nothing much: it is vacuous.
pub const FLOOR: Size = Size {
    simulated: Duration::from_secs(45),
    operations: 250,
    faults: 8,
    leaders: 1,
};

/// How much happened in a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Size {
    /// Virtual time.
    pub simulated: Duration,
    /// Operations of clients that came to an end, whichever.
    pub operations: u64,
    /// Faults that began.
    pub faults: u64,
    /// Leaders, one per term.
    pub leaders: u64,
}

impl Size {
    fn reaches(&self, other: &Self) -> bool {
        self.simulated >= other.simulated
            && self.operations >= other.operations
            && self.faults >= other.faults
            && self.leaders >= other.leaders
    }
}

/// What one run amounts to.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// Its seed.
    pub seed: u64,
    /// How it left the model, if it did.
    pub outside: Option<Outside>,
    /// Virtual time.
    pub simulated: Duration,
    /// Operations by how they ended.
    pub operations: BTreeMap<&'static str, u64>,
    /// Faults by kind.
    pub faults: BTreeMap<Kind, u64>,
    /// What the network did to parcels and connections.
    pub network: BTreeMap<&'static str, u64>,
    /// What the checkers of the history looked at; nothing if it was not judged.
    pub judged: BTreeMap<&'static str, u64>,
    /// Leaders, one per term.
    pub leaders: u64,
    /// Rare branches.
    pub marks: Marks,
    /// A rule that was broken, if one was.
    pub violation: Option<String>,
}

impl Run {
    fn size(&self) -> Size {
        Size {
            simulated: self.simulated,
            operations: self.operations.values().sum(),
            faults: self.faults.values().sum(),
            leaders: self.leaders,
        }
    }
}

/// Runs, added up. The order in which they are added does not matter.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    sizes: Vec<Size>,
    vacuous: Vec<u64>,
    outside: BTreeMap<&'static str, u64>,
    operations: BTreeMap<&'static str, u64>,
    faults: BTreeMap<Kind, u64>,
    network: BTreeMap<&'static str, u64>,
    judged: BTreeMap<&'static str, u64>,
    marks: Marks,
    violations: BTreeMap<u64, String>,
}

impl Ledger {
    /// Adds a run.
    pub fn add(&mut self, run: Run) {
        let size = run.size();
        // A run that breaks a rule ends there; one outside the model may lose its whole cluster.
        if !size.reaches(&FLOOR) && run.outside.is_none() && run.violation.is_none() {
            self.vacuous.push(run.seed);
        }
        self.sizes.push(size);
        if let Some(outside) = run.outside {
            *self.outside.entry(outside.name()).or_default() += 1;
        }
        add_up(&mut self.operations, run.operations);
        add_up(&mut self.faults, run.faults);
        add_up(&mut self.network, run.network);
        add_up(&mut self.judged, run.judged);
        self.marks.add(run.marks);
        if let Some(violation) = run.violation {
            self.violations.insert(run.seed, violation);
        }
    }

    /// Adds another ledger.
    pub fn merge(&mut self, other: Self) {
        self.sizes.extend(other.sizes);
        self.vacuous.extend(other.vacuous);
        add_up(&mut self.outside, other.outside);
        add_up(&mut self.operations, other.operations);
        add_up(&mut self.faults, other.faults);
        add_up(&mut self.network, other.network);
        add_up(&mut self.judged, other.judged);
        self.marks.add(other.marks);
        self.violations.extend(other.violations);
    }

    /// How many runs.
    #[must_use]
    pub fn runs(&self) -> usize {
        self.sizes.len()
    }

    /// The seeds that broke a rule, and which.
    #[must_use]
    pub fn violations(&self) -> &BTreeMap<u64, String> {
        &self.violations
    }

    /// The beginning of the line that ends what the runs tell.
    #[must_use]
    pub fn summary(&self) -> String {
        let (runs, violations) = (self.runs(), self.violations.len());
        let vacuous = self.vacuous.len();
        format!("{runs} seeds, {violations} violations, {vacuous} vacuous")
    }

    /// What each quantity is in the middle of all runs; they need not be the same run's.
    #[must_use]
    pub fn median(&self) -> Size {
        fn middle<T: Ord + Copy + Default>(all: impl Iterator<Item = T>) -> T {
            let mut all: Vec<T> = all.collect();
            all.sort_unstable();
            all.get(all.len() / 2).copied().unwrap_or_default()
        }
        let sizes = &self.sizes;
        Size {
            simulated: middle(sizes.iter().map(|size| size.simulated)),
            operations: middle(sizes.iter().map(|size| size.operations)),
            faults: middle(sizes.iter().map(|size| size.faults)),
            leaders: middle(sizes.iter().map(|size| size.leaders)),
        }
    }

    /// Marks that no run has reached, kinds of faults among them.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        let kinds = Kind::ALL
            .iter()
            .filter(|kind| !self.faults.contains_key(kind));
        let kinds = kinds.map(|kind| format!("fault {}", kind.name()));
        kinds.chain(self.marks.missing()).collect()
    }

    /// Why all this is not good enough; empty if it is.
    #[must_use]
    pub fn complaints(&self) -> Vec<String> {
        let mut complaints = Vec::new();
        if !self.violations.is_empty() {
            complaints.push(format!("{} seeds broke a rule", self.violations.len()));
        }
        let runs = self.runs();
        if runs >= MEDIANS_DUE {
            let median = self.median();
            if !median.reaches(&MEDIAN) {
                complaints.push(format!("the median run is too small: {median}"));
            }
            if self.vacuous.len() * 100 > runs * VACUOUS_PERCENT_MAX {
                let vacuous = self.vacuous.len();
                complaints.push(format!("{vacuous} of {runs} runs are vacuous"));
            }
            let judged = |name| self.judged.get(name).copied().unwrap_or_default();
            let (keys, given_up) = (judged(KEYS), judged(KEYS_GIVEN_UP));
            if given_up * 100 > keys * GIVEN_UP_PERCENT_MAX || keys == 0 {
                complaints.push(format!("the search gave up {given_up} of {keys} keys"));
            }
        }
        let missing = self.missing();
        if runs >= MARKS_DUE && !missing.is_empty() {
            complaints.push(format!("never reached: {}", missing.join(", ")));
        }
        complaints
    }
}

fn add_up<K: Ord>(sum: &mut BTreeMap<K, u64>, more: BTreeMap<K, u64>) {
    for (name, count) in more {
        *sum.entry(name).or_default() += count;
    }
}
