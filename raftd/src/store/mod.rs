//! The replicated state: what the committed entries, applied in order, have made.
//!
//! Everything here follows from the entries alone. There is no clock, no randomness, no hash map
//! and no node's own setting: the same index means the same state on every node.

pub mod digest;
mod image;
pub mod map;
mod record;
pub mod session;
mod tree;

use wire::command::{Command, Operations, Outcome, Write};
use wire::entry::{Entry, EntryKind};
use wire::error::Error;
use wire::membership::Membership;
use wire::types::{EntryId, Epoch, Index};

#[cfg(test)]
pub(crate) use self::image::sample;
pub use self::image::{Builder, ImageError, ImageHead, Run, SessionImage, View};
use self::map::Map;
pub use self::session::Kept;
use self::session::{KEPT_MAX, SESSIONS_MAX, Sessions, Verdict};
pub use self::tree::Remains;

/// What applying an entry brought.
#[derive(Debug, PartialEq, Eq)]
pub struct Applied<'e> {
    /// What changed.
    pub changed: Changed<'e>,
    /// How many keys were looked at or touched: the work that it was. One with a long value that was
    /// written or removed counts as many.
    pub keys: usize,
    /// What the writer is told.
    pub answer: Answer,
}

/// The keys that an entry changed, as its command names them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed<'e> {
    /// None.
    Nothing,
    /// This one.
    Key(&'e [u8]),
    /// Some of these were removed.
    Range {
        /// The first of the range.
        from: &'e [u8],
        /// The first behind it.
        to: Option<&'e [u8]>,
    },
    /// Those that these change, but for changes whose own condition did not hold.
    Operations(Operations<'e>),
}

/// What the writer of an entry is told.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// The entry was nobody's write.
    Nothing,
    /// The write took effect, now or, for a retry, the first time.
    Written {
        /// The entry by which it did.
        id: EntryId,
        /// What it did.
        outcome: Outcome,
    },
    /// The session's rules (rules C2, C3, C5) say no; nothing changed.
    Refused(Error),
}

/// Keys, sessions and members as of one index.
///
/// Invariants:
/// - entries are applied one by one, in the order of their indexes, none twice or left out;
/// - `wall_ms` never falls.
#[derive(Debug)]
pub struct Store {
    map: Map,
    sessions: Sessions,
    /// As the newest entry that says so told it, with its part of the digest.
    membership: Option<Membership>,
    membership_digest: u128,
    applied: EntryId,
    wall_ms: u64,
}

impl Store {
    /// The state before the first entry of the history `epoch`; it knows at most so many sessions
    /// at a time.
    #[must_use]
    pub fn new(epoch: Epoch, sessions_max: usize) -> Self {
        Self {
            map: Map::default(),
            sessions: Sessions::new(epoch, sessions_max, KEPT_MAX),
            membership: None,
            membership_digest: 0,
            applied: EntryId::default(),
            wall_ms: 0,
        }
    }

    /// The last applied entry.
    #[must_use]
    pub fn applied(&self) -> EntryId {
        self.applied
    }

    /// The newest wall time among the applied entries, in milliseconds since 1970: the only time
    /// that apply may use.
    #[must_use]
    pub fn wall_ms(&self) -> u64 {
        self.wall_ms
    }

    /// The keys.
    #[must_use]
    pub fn map(&self) -> &Map {
        &self.map
    }

    /// The sessions.
    #[must_use]
    pub fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// Who is a member; `None` if it is still those with whom the cluster began.
    #[must_use]
    pub fn membership(&self) -> Option<&Membership> {
        self.membership.as_ref()
    }

    /// Bytes of all keys and values together.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        self.map.data_bytes()
    }

    /// The digest of all keys, all kept replies, the horizon and the members (rules D5): the same on
    /// every node that has applied as much. Kept up to date by every write; see [`digest`].
    #[must_use]
    pub fn digest(&self) -> u128 {
        self.map
            .digest()
            .wrapping_add(self.sessions.digest())
            .wrapping_add(self.membership_digest)
    }

    /// The state as of now, to be read while it goes on changing; taken in constant time.
    #[must_use]
    pub fn view(&self) -> View {
        View::new(self)
    }

    /// Applies the next committed entry.
    ///
    /// # Panics
    /// If `entry` is not the next one: state would silently differ between nodes.
    pub fn apply<'e>(&mut self, entry: &'e Entry) -> Applied<'e> {
        let id = entry.id();
        assert_eq!(
            id.index,
            self.applied.index.next(),
            "entries are applied in order"
        );
        assert!(id.term >= self.applied.term, "terms rise along the log");
        self.applied = id;
        self.wall_ms = self.wall_ms.max(entry.wall_ms());
        match entry.kind() {
            EntryKind::Noop | EntryKind::SnapshotAt => Applied {
                changed: Changed::Nothing,
                keys: 0,
                answer: Answer::Nothing,
            },
            EntryKind::Membership => {
                // Members refuse entries of which this is not true.
                self.membership = entry.membership().expect("the body was checked");
                self.membership_digest = digest::membership(self.membership.as_ref());
                Applied {
                    changed: Changed::Nothing,
                    keys: 0,
                    answer: Answer::Nothing,
                }
            }
            // A body that no decoder knows is refused alike by every node, never a panic.
            EntryKind::Command => match Write::decode_body(entry.body()) {
                Ok(write) => self.apply_write(id, &write),
                Err(error) => Applied {
                    changed: Changed::Nothing,
                    keys: 0,
                    answer: Answer::Refused(error),
                },
            },
        }
    }

    fn apply_write<'e>(&mut self, id: EntryId, write: &Write<'e>) -> Applied<'e> {
        match self.sessions.judge(id.index, write) {
            Verdict::Apply(place) => {
                let mut keys = 0;
                let command = &write.command;
                let outcome = self.map.apply_counting(id.index, command, &mut keys);
                self.sessions.keep(place, id, write, &outcome);
                Applied {
                    changed: changed(command, &outcome),
                    keys,
                    answer: Answer::Written { id, outcome },
                }
            }
            Verdict::Kept { id, outcome } => Applied {
                changed: Changed::Nothing,
                keys: 0,
                answer: Answer::Written { id, outcome },
            },
            Verdict::Refuse(error) => Applied {
                changed: Changed::Nothing,
                keys: 0,
                answer: Answer::Refused(error),
            },
        }
    }

    /// The data goes on in another history (rules C7): sessions of the old one are over, and
    /// nobody can go on with them.
    pub fn begin_history(&mut self, epoch: Epoch) {
        self.sessions = Sessions::new(epoch, SESSIONS_MAX, KEPT_MAX);
    }

    /// Whether an entry at `index` is part of this state.
    #[must_use]
    pub fn has_applied(&self, index: Index) -> bool {
        index <= self.applied.index
    }
}

fn changed<'e>(command: &Command<'e>, outcome: &Outcome) -> Changed<'e> {
    match (*command, outcome) {
        (
            Command::Put { key, .. }
            | Command::CompareAndSwap { key, .. }
            | Command::Increment { key, .. }
            | Command::Append { key, .. },
            Outcome::Put | Outcome::Swapped | Outcome::Incremented(_) | Outcome::Appended(_),
        ) => Changed::Key(key),
        (_, Outcome::Deleted(0)) => Changed::Nothing,
        (Command::Delete { key }, Outcome::Deleted(_)) => Changed::Key(key),
        (Command::DeleteRange { from, to, .. }, Outcome::Deleted(_)) => Changed::Range { from, to },
        (Command::Txn(txn), Outcome::Txn { held: true, .. }) => Changed::Operations(txn.then),
        (Command::Txn(txn), Outcome::Txn { held: false, .. }) => Changed::Operations(txn.or_else),
        _ => Changed::Nothing,
    }
}
