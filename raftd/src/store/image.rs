//! The state as a value: a view of it as of one entry, and a state made from what a view showed.

use std::fmt;

use wire::client::Item;
use wire::limits::{COUNTER_MAX, ENTRY_KEYS_MAX, KEY_BYTES_MAX, VALUE_BYTES_MAX};
use wire::membership::Membership;
use wire::types::{EntryId, Epoch, Index};

use super::map::Map;
use super::record::{Record, Revisions, Sums};
use super::session::{KEPT_MAX, KEPT_PER_SESSION_MAX, Kept, SESSIONS_MAX, Sessions, Slots};
use super::tree::Filler;
use super::{Store, digest};

/// What a state is besides its keys and its sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageHead {
    /// The last applied entry.
    pub applied: EntryId,
    /// See [`Store::wall_ms`].
    pub wall_ms: u64,
    /// The history of the data.
    pub epoch: Epoch,
    /// The highest `born` of any evicted session (rules C3).
    pub horizon: Option<Index>,
    /// How many keys there are.
    pub keys: u64,
    /// How many sessions are known.
    pub sessions: u64,
    /// Who is a member; see [`Store::membership`].
    pub membership: Option<Membership>,
}

/// A session with its kept replies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionImage {
    /// The applied index that it was told when it began.
    pub born: Index,
    /// What tells it from others born there.
    pub nonce: u64,
    /// Its kept replies by ascending seq, one at least. The last one is that of its last write.
    pub replies: Vec<Kept>,
}

/// Why a state cannot be made from what was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ImageError {
    /// What is said of the whole state is not possible.
    Head(&'static str),
    /// An item is not possible, or not where it is.
    Item(&'static str),
    /// A session is not possible, or not where it is.
    Session(&'static str),
    /// The head announced another number.
    Count {
        /// Of what.
        what: &'static str,
        /// The head's number.
        announced: u64,
        /// How many there were.
        found: u64,
    },
}

impl fmt::Display for ImageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head(why) => write!(f, "no state is like that: {why}"),
            Self::Item(why) => write!(f, "a key is wrong: {why}"),
            Self::Session(why) => write!(f, "a session is wrong: {why}"),
            Self::Count {
                what,
                announced,
                found,
            } => write!(f, "{found} {what} where {announced} were announced"),
        }
    }
}

impl std::error::Error for ImageError {}

/// Keys and sessions as of one entry, whatever is written later. It shares what does not change
/// with the store and costs the memory of what does.
///
/// Taking one is quick whatever its size; dropping one of many keys that have changed since is not:
/// see [`super::Remains`].
#[derive(Clone, Debug)]
pub struct View {
    head: ImageHead,
    map: Map,
    sessions: Slots,
    digest: u128,
}

impl View {
    pub(super) fn new(store: &Store) -> Self {
        let sessions = store.sessions();
        let head = ImageHead {
            applied: store.applied(),
            wall_ms: store.wall_ms(),
            epoch: sessions.epoch(),
            horizon: sessions.horizon(),
            keys: store.map().len() as u64,
            sessions: sessions.len() as u64,
            membership: store.membership().cloned(),
        };
        Self {
            head,
            map: store.map().clone(),
            sessions: sessions.freeze(),
            digest: store.digest(),
        }
    }

    /// Its keys, which take long to free.
    #[must_use]
    pub fn into_map(self) -> Map {
        self.map
    }

    /// What the state is besides its keys and its sessions.
    #[must_use]
    pub fn head(&self) -> &ImageHead {
        &self.head
    }

    /// The last applied entry.
    #[must_use]
    pub fn applied(&self) -> EntryId {
        self.head.applied
    }

    /// How many keys there are.
    #[must_use]
    pub fn keys(&self) -> u64 {
        self.head.keys
    }

    /// Bytes of all keys and values together.
    #[must_use]
    pub fn data_bytes(&self) -> u64 {
        self.map.data_bytes()
    }

    /// See [`Store::digest`].
    #[must_use]
    pub fn digest(&self) -> u128 {
        self.digest
    }

    /// All keys with what belongs to them, in order.
    pub fn items(&self) -> impl Iterator<Item = Item<'_>> {
        self.map.iter()
    }

    /// Those behind a key, in order; all without one. To go on where one stopped.
    pub fn items_after(&self, after: Option<&[u8]>) -> impl Iterator<Item = Item<'_>> {
        self.map.iter_after(after)
    }

    /// All sessions, by ascending index of their last writes: the order in which they are evicted.
    pub fn sessions(&self) -> impl Iterator<Item = SessionImage> {
        self.sessions_after(Index(0))
    }

    /// Those that wrote after an entry, in the same order. To go on where one stopped.
    pub fn sessions_after(&self, after: Index) -> impl Iterator<Item = SessionImage> {
        self.sessions.images(after)
    }

    /// The digest by a scan of everything: [`View::digest`], if memory is sound.
    #[must_use]
    pub fn recompute_digest(&self) -> u128 {
        let items = self.items().map(|item| digest::item(&item));
        let sessions = self.sessions().map(|session| digest::session(&session));
        let parts = items.chain(sessions);
        parts.fold(digest::head(&self.head), u128::wrapping_add)
    }
}

/// Items made ready to be put in a state, on any thread.
///
/// Invariant: every item is possible by itself, and their keys ascend.
#[derive(Debug, Default)]
pub struct Run {
    records: Vec<Record>,
    sums: Sums,
    /// The newest revision.
    newest: Index,
}

impl Run {
    /// Adds the next item.
    ///
    /// # Errors
    /// [`ImageError::Item`]; nothing is added.
    pub fn push(&mut self, item: Item<'_>) -> Result<(), ImageError> {
        let record = checked(item, self.records.last().map(Record::key))?;
        self.newest = self.newest.max(item.revision);
        self.sums.add(Sums::of(&record));
        self.records.push(record);
        Ok(())
    }
}

/// The record of an item that can be in a map behind the key `last`.
fn checked(item: Item<'_>, last: Option<&[u8]>) -> Result<Record, ImageError> {
    if !(1..=KEY_BYTES_MAX).contains(&item.key.len()) {
        return Err(ImageError::Item("its length is out of range"));
    }
    if item.value.len() > VALUE_BYTES_MAX {
        return Err(ImageError::Item("its value is too long"));
    }
    let (created, modified, version) = (item.create_revision, item.revision, item.version);
    let entries = modified.0.checked_sub(created.0);
    let possible = entries.is_some_and(|more| match version {
        0 => false,
        1 => more == 0,
        // A txn writes a key as often as it touches any.
        version => version <= more.saturating_add(1).saturating_mul(ENTRY_KEYS_MAX as u64),
    });
    if created.0 == 0 || !possible {
        return Err(ImageError::Item("its revisions contradict each other"));
    }
    if last >= Some(item.key) {
        return Err(ImageError::Item("it is not above the one before it"));
    }
    let revisions = Revisions {
        created,
        modified,
        version,
    };
    Ok(Record::new(item.key, item.value, revisions))
}

impl SessionImage {
    /// The entry of its last write.
    ///
    /// # Panics
    /// If it has no reply: no session is like that.
    #[must_use]
    pub fn last_write(&self) -> Index {
        self.replies.last().expect("it wrote").id.index
    }

    /// Whether there can be such a session where `applied` is the last applied entry.
    fn check(&self, applied: EntryId) -> Result<(), ImageError> {
        if !(1..=KEPT_PER_SESSION_MAX).contains(&self.replies.len()) {
            return Err(ImageError::Session("it has too many replies, or none"));
        }
        let (mut seq, mut id) = (0, EntryId::default());
        id.index = self.born;
        for kept in &self.replies {
            let later = kept.id.index > id.index && kept.id.term >= id.term;
            if kept.seq <= seq || kept.seq > COUNTER_MAX || !later {
                return Err(ImageError::Session("its replies are out of order"));
            }
            if kept.outcome != kept.outcome.to_keep() {
                return Err(ImageError::Session(
                    "a reply is longer than any that is kept",
                ));
            }
            (seq, id) = (kept.seq, kept.id);
        }
        if id.index > applied.index || id.term > applied.term {
            return Err(ImageError::Session("it wrote after the last entry"));
        }
        Ok(())
    }
}

/// Makes a state from what a view showed, in the same order.
#[derive(Debug)]
pub struct Builder {
    head: ImageHead,
    filler: Filler,
    sums: Sums,
    sessions: Sessions,
}

impl Builder {
    /// The beginning of such a state.
    #[must_use]
    pub fn new(head: ImageHead) -> Self {
        Self {
            sessions: Sessions::new(head.epoch, SESSIONS_MAX, KEPT_MAX),
            head,
            filler: Filler::default(),
            sums: Sums::default(),
        }
    }

    /// Adds the next items.
    ///
    /// # Errors
    /// [`ImageError::Item`]; nothing is added.
    pub fn run(&mut self, run: Run) -> Result<(), ImageError> {
        self.check_newest(run.newest)?;
        let first = run.records.first().map(Record::key);
        if first.is_some() && self.filler.last_key() >= first {
            return Err(ImageError::Item("it is not above the one before it"));
        }
        self.sums.add(run.sums);
        for record in run.records {
            self.filler.push(record);
        }
        Ok(())
    }

    fn check_newest(&self, revision: Index) -> Result<(), ImageError> {
        if revision > self.head.applied.index {
            return Err(ImageError::Item("it was written after the last entry"));
        }
        Ok(())
    }

    /// Adds the next session.
    ///
    /// # Errors
    /// [`ImageError::Session`]; nothing is added.
    pub fn session(&mut self, image: &SessionImage) -> Result<(), ImageError> {
        image.check(self.head.applied)?;
        self.sessions.restore(image)
    }

    /// The state, of a store that knows at most so many sessions at a time.
    ///
    /// # Errors
    /// [`ImageError::Head`], [`ImageError::Count`], and [`ImageError::Session`] if there are more
    /// than that.
    ///
    /// # Panics
    /// If `sessions_max` is 0 or above [`SESSIONS_MAX`].
    pub fn finish(self, sessions_max: usize) -> Result<Store, ImageError> {
        let Self {
            head,
            filler,
            sums,
            mut sessions,
        } = self;
        check_count("keys", head.keys, filler.len())?;
        check_count("sessions", head.sessions, sessions.len())?;
        let numbers = [head.applied.term.0, head.applied.index.0];
        if numbers.iter().any(|number| *number > COUNTER_MAX) {
            return Err(ImageError::Head("term or index is out of range"));
        }
        if head.horizon.is_some_and(|born| born >= head.applied.index) {
            return Err(ImageError::Head("the horizon is not before the last entry"));
        }
        sessions.restored(sessions_max, head.horizon)?;
        Ok(Store {
            map: Map::restored(filler.finish(), sums),
            sessions,
            membership_digest: digest::membership(head.membership.as_ref()),
            membership: head.membership,
            applied: head.applied,
            wall_ms: head.wall_ms,
        })
    }
}

fn check_count(what: &'static str, announced: u64, found: usize) -> Result<(), ImageError> {
    let found = found as u64;
    if found != announced {
        return Err(ImageError::Count {
            what,
            announced,
            found,
        });
    }
    Ok(())
}

/// A state of so many keys, for tests.
#[cfg(test)]
pub(crate) fn sample(keys: u64) -> Store {
    use wire::types::Term;

    let mut builder = Builder::new(ImageHead {
        applied: EntryId {
            term: Term(1),
            index: Index(1),
        },
        wall_ms: 0,
        epoch: Epoch(1),
        horizon: None,
        keys,
        sessions: 0,
        membership: None,
    });
    let mut run = Run::default();
    for number in 0..keys {
        let item = Item {
            key: &number.to_be_bytes(),
            value: b"value",
            revision: Index(1),
            create_revision: Index(1),
            version: 1,
        };
        run.push(item).expect("keys ascend");
    }
    builder.run(run).expect("nothing is before them");
    builder.finish(1).expect("it has as many keys as it says")
}
