//! What single operations do to a key, in numbers: values are interned.

use std::collections::{BTreeMap, BTreeSet};

use wire::command::Outcome;

use super::super::model::number;
use super::super::{Command, Expect, Item};

/// The state of a key.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct State {
    /// Its value; 0 if it is absent.
    pub(super) value: u32,
    /// Its revision; 0 if it is absent, or was written by nobody knows which entry.
    pub(super) revision: u64,
}

/// The condition of a compare-and-swap.
#[derive(Clone, Copy, Debug)]
pub(super) enum Condition {
    Absent,
    Revision(u64),
    Value(u32),
}

/// What an operation asks of the state before it, and makes of it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    /// Sets whatever was there.
    Put(u32),
    /// The key was there, or not, and is not any more.
    Delete { was_there: bool },
    /// The condition held.
    Swap { condition: Condition, value: u32 },
    /// The condition did not hold, at this revision (0: absent).
    NoSwap { condition: Condition, found: u64 },
    /// Gave this sum.
    Add { delta: i64, sum: u32 },
    /// Found no number.
    NotANumber,
    /// Found too large a number.
    Overflow { delta: i64 },
    /// A get.
    See(State),
    /// Explains nothing: an answer that no state gives.
    Never,
}

/// What a write of unknown outcome may do.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stray {
    Put(u32),
    Delete,
    Swap { condition: Condition, value: u32 },
    Add { delta: i64 },
}

/// Numbers for values.
#[derive(Debug)]
pub(super) struct Values<'h> {
    ids: BTreeMap<Vec<u8>, u32>,
    /// By id: the value as a number, if it is one. An absent key counts as 0.
    numbers: Vec<Option<i64>>,
    /// The ids of numbers as increments write them.
    sums: BTreeMap<i64, u32>,
    /// The revisions of acknowledged writes, of any key: no other write has them.
    claimed: &'h BTreeSet<u64>,
}

impl<'h> Values<'h> {
    pub(super) fn new(claimed: &'h BTreeSet<u64>) -> Self {
        Self {
            ids: BTreeMap::new(),
            numbers: vec![Some(0)],
            sums: BTreeMap::new(),
            claimed,
        }
    }

    fn id(&mut self, value: &[u8]) -> u32 {
        if let Some(id) = self.ids.get(value) {
            return *id;
        }
        let id = u32::try_from(self.numbers.len()).expect("values fit the memory");
        self.numbers.push(number(value));
        self.ids.insert(value.to_vec(), id);
        id
    }

    /// The id of what an increment writes.
    fn sum(&mut self, sum: i64) -> u32 {
        if let Some(id) = self.sums.get(&sum) {
            return *id;
        }
        let id = self.id(sum.to_string().as_bytes());
        self.sums.insert(sum, id);
        id
    }

    fn number(&self, state: State) -> Option<i64> {
        self.numbers[state.value as usize]
    }

    fn condition(&mut self, expect: &Expect) -> Condition {
        match expect {
            Expect::Absent => Condition::Absent,
            Expect::Revision(revision) => Condition::Revision(revision.0),
            Expect::Value(value) => Condition::Value(self.id(value)),
        }
    }

    /// What the answered write did.
    pub(super) fn write(&mut self, command: &Command, outcome: &Outcome) -> Step {
        match (command, outcome) {
            (Command::Put { value, .. }, Outcome::Put) => Step::Put(self.id(value)),
            (Command::Delete { .. }, Outcome::Deleted(count @ 0..=1)) => Step::Delete {
                was_there: *count == 1,
            },
            (Command::CompareAndSwap { expect, value, .. }, Outcome::Swapped) => Step::Swap {
                condition: self.condition(expect),
                value: self.id(value),
            },
            (Command::CompareAndSwap { expect, .. }, Outcome::NotSwapped(found)) => Step::NoSwap {
                condition: self.condition(expect),
                found: found.map_or(0, |revision| revision.0),
            },
            (Command::Increment { delta, .. }, Outcome::Incremented(sum)) => Step::Add {
                delta: *delta,
                sum: self.sum(*sum),
            },
            (Command::Increment { .. }, Outcome::NotANumber) => Step::NotANumber,
            (Command::Increment { delta, .. }, Outcome::Overflow) => {
                Step::Overflow { delta: *delta }
            }
            _ => Step::Never,
        }
    }

    /// What the answered get saw.
    pub(super) fn get(&mut self, item: Option<&Item>) -> Step {
        Step::See(match item {
            Some(item) => State {
                value: self.id(&item.value),
                revision: item.revision.0,
            },
            None => State::default(),
        })
    }

    /// What a write that was not answered may do.
    pub(super) fn stray(&mut self, command: &Command) -> Stray {
        match command {
            Command::Put { value, .. } => Stray::Put(self.id(value)),
            Command::Delete { .. } => Stray::Delete,
            Command::CompareAndSwap { expect, value, .. } => Stray::Swap {
                condition: self.condition(expect),
                value: self.id(value),
            },
            Command::Increment { delta, .. } => Stray::Add { delta: *delta },
            Command::Append { .. } | Command::DeleteRange { .. } | Command::Txn { .. } => {
                unreachable!("keys that they touch are not searched")
            }
        }
    }

    /// The state after `step` by the entry `revision`; `None` if it does not fit `state`.
    pub(super) fn after(&self, state: State, step: Step, revision: u64) -> Option<State> {
        let set = |value| Some(State { value, revision });
        match step {
            Step::Put(value) => set(value),
            Step::Delete { was_there } => {
                (state.is_there() == was_there).then_some(State::default())
            }
            Step::Swap { condition, value } if self.may_meet(state, condition) => set(value),
            Step::NoSwap { condition, found } => {
                let state = self.seen_at(state, found)?;
                state.may_fail(condition).then_some(state)
            }
            Step::Add { delta, sum } => {
                let expected = self.numbers[sum as usize]?.checked_sub(delta)?;
                (self.number(state)? == expected).then_some(State {
                    value: sum,
                    revision,
                })
            }
            Step::NotANumber => self.number(state).is_none().then_some(state),
            Step::Overflow { delta } => {
                let overflows = self.number(state)?.checked_add(delta).is_none();
                overflows.then_some(state)
            }
            Step::See(seen) if seen.value == state.value => self.seen_at(state, seen.revision),
            Step::Swap { .. } | Step::See(_) | Step::Never => None,
        }
    }

    /// The state after `stray` took effect; `None` if it cannot change `state`.
    pub(super) fn after_stray(&mut self, state: State, stray: Stray) -> Option<State> {
        let set = |value| Some(State { value, revision: 0 });
        match stray {
            Stray::Put(value) => set(value),
            Stray::Delete => state.is_there().then_some(State::default()),
            Stray::Swap { condition, value } if self.may_meet(state, condition) => set(value),
            Stray::Swap { .. } => None,
            Stray::Add { delta } => {
                let sum = self.number(state)?.checked_add(delta)?;
                set(self.sum(sum))
            }
        }
    }

    /// Whether the revision may be this one; an unknown one may be any that nobody claims.
    fn may_be_at(&self, state: State, revision: u64) -> bool {
        if state.revision == 0 {
            revision != 0 && !self.claimed.contains(&revision)
        } else {
            state.revision == revision
        }
    }

    fn may_meet(&self, state: State, condition: Condition) -> bool {
        match condition {
            Condition::Absent => !state.is_there(),
            Condition::Revision(revision) => state.is_there() && self.may_be_at(state, revision),
            Condition::Value(value) => state.value == value,
        }
    }

    /// The state, now that an answer tells its revision (0: absent); `None` if it is another one.
    fn seen_at(&self, state: State, revision: u64) -> Option<State> {
        if state.is_there() {
            self.may_be_at(state, revision)
                .then_some(State { revision, ..state })
        } else {
            (revision == 0).then_some(state)
        }
    }

    /// For people.
    pub(super) fn describe(&self, state: State) -> String {
        let value = self.ids.iter().find(|(_, id)| **id == state.value);
        match value {
            None => "absent".to_owned(),
            Some((value, _)) => format!("{:?}", String::from_utf8_lossy(value)),
        }
    }
}

/// What the last to take effect left unseen, if it was a stray. One that is overwritten unseen could
/// as well not have taken effect: there is no use in trying it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Unseen {
    /// It was answered, or nothing took effect yet.
    Nothing,
    /// The value.
    Value,
    /// The value, and that the key is there, or is not any more.
    Presence,
}

impl Unseen {
    /// After a stray made `after` of `before`.
    pub(super) fn left(before: State, after: State) -> Self {
        if before.is_there() == after.is_there() {
            Self::Value
        } else {
            Self::Presence
        }
    }

    /// Whether `step` would overwrite it.
    pub(super) fn is_lost_by(self, step: Step) -> bool {
        match step {
            Step::Put(_) => self != Self::Nothing,
            Step::Delete { .. } => self == Self::Value,
            _ => false,
        }
    }

    /// Whether `stray` would overwrite it.
    pub(super) fn is_lost_by_stray(self, stray: Stray) -> bool {
        self != Self::Nothing && matches!(stray, Stray::Put(_) | Stray::Delete)
    }
}

impl State {
    fn is_there(self) -> bool {
        self.value != 0
    }

    fn may_fail(self, condition: Condition) -> bool {
        match condition {
            Condition::Absent => self.is_there(),
            Condition::Revision(revision) => !self.is_there() || self.revision != revision,
            Condition::Value(value) => self.value != value,
        }
    }
}
