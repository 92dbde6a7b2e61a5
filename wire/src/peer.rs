//! What the members of a cluster say to each other.
//!
//! Requests travel on the link that the sender dialled, answers come back on it (rules B1).

use alloc::string::ToString;
use alloc::vec::Vec;

use bytes::{BufMut, Bytes, BytesMut};

use crate::buf::{
    Reader, cut_short, is_cut_short, limited, malformed, put_bytes, put_count, put_entry_id,
    put_option,
};
use crate::entry::{ENTRY_HEADER_BYTES, Entry, EntryError};
use crate::error::Error;
use crate::frame::{self, Frame, Kind};
use crate::leadership::HandOver;
use crate::limits::{APPEND_BYTES_MAX, APPEND_ENTRIES_MAX, SNAPSHOT_CHUNK_BYTES_MAX};
use crate::types::{EntryId, Index, Term};

mod fetch;
mod read;
mod report;

pub use crate::peer::fetch::{Fetch, Fetched};
pub use crate::peer::read::{ReadIndex, ReadIndexAnswer};
pub use crate::peer::report::{Digest, DiskReport, DiskState, Health, Standing};

/// A message between peers. See [`Message::is_answer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    /// The leader replicates, or just shows that it lives.
    Append(Append),
    /// The follower's log holds `prev`.
    AppendOk(AppendOk),
    /// The follower's log does not hold `prev`.
    AppendConflict(AppendConflict),
    /// The receiver of a leader's message of an older term tells its own.
    StaleTerm(StaleTerm),
    /// "Would you vote for me in this term?" Changes nothing (thesis 9.6).
    PreVote(PreVote),
    /// The answer to [`PreVote`].
    PreVoteAnswer(PreVoteAnswer),
    /// Asks for a vote (thesis 3.4).
    RequestVote(RequestVote),
    /// The answer to [`RequestVote`].
    VoteAnswer(VoteAnswer),
    /// A piece of a snapshot, for a follower that lacks what the leader's log no longer holds.
    InstallSnapshot(InstallSnapshot),
    /// The answer to [`InstallSnapshot`].
    SnapshotOk(SnapshotOk),
    /// The leader hands its office over: "campaign now" (thesis 3.10).
    TimeoutNow(TimeoutNow),
    /// Asks any peer for entries that are damaged here.
    Fetch(Fetch),
    /// The answer to [`Fetch`].
    Fetched(Fetched),
    /// A follower asks its leader from where on it may serve reads.
    ReadIndex(ReadIndex),
    /// The answer to [`ReadIndex`].
    ReadIndexAnswer(ReadIndexAnswer),
}

impl Message {
    /// Whether it goes back on the link that the request came on.
    #[must_use]
    pub fn is_answer(&self) -> bool {
        match self {
            Self::Append(_)
            | Self::PreVote(_)
            | Self::RequestVote(_)
            | Self::InstallSnapshot(_)
            | Self::TimeoutNow(_)
            | Self::Fetch(_)
            | Self::ReadIndex(_) => false,
            Self::AppendOk(_)
            | Self::AppendConflict(_)
            | Self::StaleTerm(_)
            | Self::PreVoteAnswer(_)
            | Self::VoteAnswer(_)
            | Self::SnapshotOk(_)
            | Self::Fetched(_)
            | Self::ReadIndexAnswer(_) => true,
        }
    }

    /// The term that the message carries; `None` if it concerns none.
    #[must_use]
    pub fn term(&self) -> Option<Term> {
        let term = match self {
            Self::Append(m) => m.term,
            Self::AppendOk(m) => m.term,
            Self::AppendConflict(m) => m.term,
            Self::StaleTerm(m) => m.term,
            Self::PreVote(m) => m.term,
            Self::PreVoteAnswer(m) => m.term,
            Self::RequestVote(m) => m.term,
            Self::VoteAnswer(m) => m.term,
            Self::InstallSnapshot(m) => m.term,
            Self::SnapshotOk(m) => m.term,
            Self::TimeoutNow(m) => m.term,
            Self::ReadIndex(m) => m.term,
            Self::ReadIndexAnswer(m) => m.term,
            Self::Fetch(_) | Self::Fetched(_) => return None,
        };
        Some(term)
    }

    /// Appends it to `out` as a frame.
    ///
    /// # Panics
    /// If it is over a limit: [`APPEND_BYTES_MAX`], [`APPEND_ENTRIES_MAX`],
    /// [`SNAPSHOT_CHUNK_BYTES_MAX`], [`crate::limits::FETCH_ENTRIES_MAX`].
    pub fn encode(&self, out: &mut BytesMut) {
        let kind = match self {
            Self::Append(_) => Kind::Append,
            Self::AppendOk(_) => Kind::AppendOk,
            Self::AppendConflict(_) => Kind::AppendConflict,
            Self::StaleTerm(_) => Kind::StaleTerm,
            Self::PreVote(_) => Kind::PreVote,
            Self::PreVoteAnswer(_) => Kind::PreVoteAnswer,
            Self::RequestVote(_) => Kind::RequestVote,
            Self::VoteAnswer(_) => Kind::VoteAnswer,
            Self::InstallSnapshot(_) => Kind::InstallSnapshot,
            Self::SnapshotOk(_) => Kind::SnapshotOk,
            Self::TimeoutNow(_) => Kind::TimeoutNow,
            Self::Fetch(_) => Kind::Fetch,
            Self::Fetched(_) => Kind::Fetched,
            Self::ReadIndex(_) => Kind::ReadIndex,
            Self::ReadIndexAnswer(_) => Kind::ReadIndexAnswer,
        };
        let start = frame::begin(out, kind, 0);
        if let Some(term) = self.term() {
            out.put_u64(term.0);
        }
        match self {
            Self::Append(m) => m.encode(out),
            Self::AppendOk(m) => m.encode(out),
            Self::AppendConflict(m) => m.encode(out),
            Self::StaleTerm(_) => {}
            Self::TimeoutNow(m) => m.why.encode(out),
            Self::PreVote(m) => put_entry_id(out, m.last),
            Self::PreVoteAnswer(m) => out.put_u8(u8::from(m.granted)),
            Self::RequestVote(m) => {
                put_entry_id(out, m.last);
                put_option(out, m.transfer, |out, why| why.encode(out));
            }
            Self::VoteAnswer(m) => out.put_u8(u8::from(m.granted)),
            Self::InstallSnapshot(m) => m.encode(out),
            Self::SnapshotOk(m) => m.encode(out),
            Self::Fetch(m) => m.encode(out),
            Self::Fetched(m) => m.encode(out),
            Self::ReadIndex(m) => m.encode(out),
            Self::ReadIndexAnswer(m) => m.encode(out),
        }
        frame::finish(out, start);
    }

    /// Reads a frame of a peer link. Entries are copied once, all into one buffer that they
    /// share, and verified; a piece of a snapshot is copied once.
    ///
    /// # Errors
    /// `Malformed`, also if the kind is not one of peers; `TooLarge` for entries over
    /// [`APPEND_BYTES_MAX`] together, and for a piece of a snapshot over
    /// [`SNAPSHOT_CHUNK_BYTES_MAX`].
    pub fn decode(frame: &Frame<'_>) -> Result<Self, Error> {
        Self::read(frame, Reader::new(frame.payload))
    }

    /// The same for a frame that lies in `whole`: nothing is copied, and `whole` stays as long as
    /// anything of the message does.
    ///
    /// # Errors
    /// As for [`Message::decode`].
    ///
    /// # Panics
    /// If the frame lies elsewhere.
    pub fn decode_shared(frame: &Frame<'_>, whole: &Bytes) -> Result<Self, Error> {
        Self::read(frame, Reader::sharing(frame.payload, whole))
    }

    /// Judges a frame of a peer link of which [`frame::parse`] says that it is not complete: whether
    /// the bytes that are missing can make a message of it.
    ///
    /// The checksum cannot tell before all bytes are there. A length that was damaged on its way may
    /// claim so many that the small messages of an idle link take an hour to bring them, and none of
    /// those is heard. Such a frame holds a whole message already.
    ///
    /// # Errors
    /// `Malformed` if the message ends before its frame does, and whatever else
    /// [`Message::decode`] would say of it.
    pub fn check_beginning(buffer: &[u8]) -> Result<(), Error> {
        // What refuses the connection is read as an error, and is its last frame.
        let Some(frame) = frame::beginning(buffer).filter(|frame| frame.kind != Kind::Error) else {
            return Ok(());
        };
        match Self::decode(&frame) {
            Ok(_) => Err(malformed("a message ends before its frame")),
            Err(error) if is_cut_short(&error) => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn read(frame: &Frame<'_>, mut reader: Reader<'_>) -> Result<Self, Error> {
        let term = |reader: &mut Reader<'_>| match reader.term()? {
            Term(0) => Err(malformed("a request of term 0")),
            term => Ok(term),
        };
        let message = match frame.kind {
            Kind::Append => {
                let term = term(&mut reader)?;
                Self::Append(Append::decode(term, &mut reader)?)
            }
            Kind::AppendOk => Self::AppendOk(AppendOk::decode(&mut reader)?),
            Kind::AppendConflict => Self::AppendConflict(AppendConflict::decode(&mut reader)?),
            Kind::StaleTerm => Self::StaleTerm(StaleTerm {
                term: reader.term()?,
            }),
            Kind::PreVote => Self::PreVote(PreVote {
                term: term(&mut reader)?,
                last: reader.entry_id()?,
            }),
            Kind::PreVoteAnswer => Self::PreVoteAnswer(PreVoteAnswer {
                term: reader.term()?,
                granted: reader.flag()?,
            }),
            Kind::RequestVote => Self::RequestVote(RequestVote {
                term: term(&mut reader)?,
                last: reader.entry_id()?,
                transfer: reader.option(HandOver::decode)?,
            }),
            Kind::VoteAnswer => Self::VoteAnswer(VoteAnswer {
                term: reader.term()?,
                granted: reader.flag()?,
            }),
            Kind::InstallSnapshot => {
                let term = term(&mut reader)?;
                Self::InstallSnapshot(InstallSnapshot::decode(term, &mut reader)?)
            }
            Kind::SnapshotOk => Self::SnapshotOk(SnapshotOk::decode(&mut reader)?),
            Kind::TimeoutNow => Self::TimeoutNow(TimeoutNow {
                term: term(&mut reader)?,
                why: HandOver::decode(&mut reader)?,
            }),
            Kind::Fetch => Self::Fetch(Fetch::decode(&mut reader)?),
            Kind::Fetched => Self::Fetched(Fetched::decode(&mut reader)?),
            Kind::ReadIndex => {
                let term = term(&mut reader)?;
                Self::ReadIndex(ReadIndex::decode(term, &mut reader)?)
            }
            Kind::ReadIndexAnswer => Self::ReadIndexAnswer(ReadIndexAnswer::decode(&mut reader)?),
            _ => return Err(malformed("the frame is not one between peers")),
        };
        frame::expect_request_id(frame, false)?;
        reader.finish()?;
        Ok(message)
    }
}

/// Entries as a list of their records.
fn put_records(out: &mut BytesMut, entries: &[Entry], limit: usize) {
    put_count(out, entries.len(), limit);
    let bytes = entries.iter().map(|entry| entry.bytes().len()).sum();
    assert!(bytes <= APPEND_BYTES_MAX, "entries of {bytes} bytes");
    out.reserve(bytes);
    for entry in entries {
        out.put_slice(entry.bytes());
    }
}

/// Verified entries, which are the rest of the message: in a buffer that they share.
fn read_records(reader: &mut Reader<'_>, what: &str, limit: usize) -> Result<Vec<Entry>, Error> {
    let count = reader.count(limit, ENTRY_HEADER_BYTES)?;
    let records = reader.rest();
    limited(what, APPEND_BYTES_MAX, records.len())?;
    let mut shared = reader.keep(records);
    let mut entries = Vec::with_capacity(count);
    for _ in 0..count {
        let entry = Entry::split_from(&mut shared).map_err(|error| match error {
            EntryError::Short => cut_short(),
            error => malformed(&error.to_string()),
        })?;
        entries.push(entry);
    }
    reader.skip(records.len() - shared.len())?;
    Ok(entries)
}

/// `AppendEntries` (thesis 3.5). Entries follow `prev` without a gap.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Append {
    /// The leader's term.
    pub term: Term,
    /// The entry before the first of `entries`.
    pub prev: EntryId,
    /// The leader's commit index.
    pub commit: Index,
    /// The leader's newest read round (rules C1); never falls within a term.
    pub round: u64,
    /// What the leader holds of the receiver's log.
    pub standing: Standing,
    /// What a quorum's states are known to have as their digest (rules D5), as of the newest index
    /// that this leader has a verdict on.
    pub digest: Option<Digest>,
    /// May be empty.
    pub entries: Vec<Entry>,
}

impl Append {
    fn encode(&self, out: &mut BytesMut) {
        put_entry_id(out, self.prev);
        out.put_u64(self.commit.0);
        out.put_u64(self.round);
        self.standing.encode(out);
        put_option(out, self.digest, |out, digest| digest.encode(out));
        put_records(out, &self.entries, APPEND_ENTRIES_MAX);
    }

    /// Entries must follow `prev` without a gap, in terms that never fall and are not above the
    /// leader's.
    fn decode(term: Term, reader: &mut Reader<'_>) -> Result<Self, Error> {
        let prev = reader.entry_id()?;
        let commit = reader.index()?;
        let round = reader.counter()?;
        let standing = Standing::decode(reader)?;
        let digest = reader.option(Digest::decode)?;
        let entries = read_records(reader, "append", APPEND_ENTRIES_MAX)?;
        let mut last = prev;
        for entry in &entries {
            let id = entry.id();
            if id.index != last.index.next() || id.term < last.term {
                return Err(malformed("entries do not follow each other"));
            }
            last = id;
        }
        if last.term > term {
            return Err(malformed("an entry is of a later term than its leader"));
        }
        Ok(Self {
            term,
            prev,
            commit,
            round,
            standing,
            digest,
            entries,
        })
    }
}

/// The follower holds everything up to `match_index` durably, and it agrees with this leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendOk {
    /// The follower's term.
    pub term: Term,
    /// The highest round among this term's `Append`s that were received.
    pub round: u64,
    /// min(durable, last verified against this leader) (rules A3).
    pub match_index: Index,
    /// The last verified index, durable or not.
    pub received: Index,
    /// The follower's disk.
    pub disk: DiskReport,
    /// In what the follower is less than whole.
    pub health: Health,
    /// The follower's own state digest (rules D5), as of the newest index that it has one for.
    pub digest: Option<Digest>,
}

impl AppendOk {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.round);
        out.put_u64(self.match_index.0);
        out.put_u64(self.received.0);
        self.disk.encode(out);
        self.health.encode(out);
        put_option(out, self.digest, |out, digest| digest.encode(out));
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            term: reader.term()?,
            round: reader.counter()?,
            match_index: reader.index()?,
            received: reader.index()?,
            disk: DiskReport::decode(reader)?,
            health: Health::decode(reader)?,
            digest: reader.option(Digest::decode)?,
        })
    }
}

/// The follower lacks `prev`, or holds another entry there (thesis 3.5, conflict by term).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AppendConflict {
    /// The follower's term.
    pub term: Term,
    /// The highest round among this term's `Append`s that were received.
    pub round: u64,
    /// The `prev` that was refused: tells an old answer from a new one.
    pub prev: EntryId,
    /// What the follower has at `prev.index`: the term, and where that term begins in its log.
    /// `None` if its log ends before `prev`.
    pub conflict: Option<EntryId>,
    /// The follower's last entry.
    pub last: EntryId,
    /// The follower's disk.
    pub disk: DiskReport,
    /// In what the follower is less than whole.
    pub health: Health,
}

impl AppendConflict {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.round);
        put_entry_id(out, self.prev);
        put_option(out, self.conflict, put_entry_id);
        put_entry_id(out, self.last);
        self.disk.encode(out);
        self.health.encode(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            term: reader.term()?,
            round: reader.counter()?,
            prev: reader.entry_id()?,
            conflict: reader.option(Reader::entry_id)?,
            last: reader.entry_id()?,
            disk: DiskReport::decode(reader)?,
            health: Health::decode(reader)?,
        })
    }
}

/// See [`Message::StaleTerm`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StaleTerm {
    /// The answering node's term, above that of the leader's message.
    pub term: Term,
}

/// See [`Message::PreVote`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreVote {
    /// The term that the sender would campaign in: its own plus one.
    pub term: Term,
    /// The sender's last entry.
    pub last: EntryId,
}

/// See [`Message::PreVoteAnswer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PreVoteAnswer {
    /// If granted, the term that was asked for; else the answering node's own term.
    pub term: Term,
    /// Yes or no.
    pub granted: bool,
}

/// See [`Message::RequestVote`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RequestVote {
    /// The candidate's term.
    pub term: Term,
    /// The candidate's last entry.
    pub last: EntryId,
    /// Why a leader asked for this election (thesis 3.10), if one did: then votes are not withheld.
    pub transfer: Option<HandOver>,
}

/// See [`Message::TimeoutNow`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TimeoutNow {
    /// The leader's term.
    pub term: Term,
    /// Why it hands over: for those who look after the cluster.
    pub why: HandOver,
}

/// See [`Message::VoteAnswer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VoteAnswer {
    /// The answering node's term.
    pub term: Term,
    /// Yes or no.
    pub granted: bool,
}

/// A piece of a snapshot's file (thesis 5.3). Snapshots of one entry are the same bytes on every
/// node, so that a transfer that one leader began is continued by the next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InstallSnapshot {
    /// The leader's term.
    pub term: Term,
    /// The leader's newest read round (rules C1); never falls within a term.
    pub round: u64,
    /// The last entry that the snapshot covers; never 0@0.
    pub snapshot: EntryId,
    /// Bytes of the whole file; 1 or more.
    pub total_bytes: u64,
    /// Where `bytes` begin in it.
    pub offset: u64,
    /// The piece. Empty: it only asks how far the follower has come.
    pub bytes: Bytes,
}

impl InstallSnapshot {
    fn encode(&self, out: &mut BytesMut) {
        let length = self.bytes.len();
        assert!(
            length <= SNAPSHOT_CHUNK_BYTES_MAX,
            "a piece of {length} bytes"
        );
        out.put_u64(self.round);
        put_entry_id(out, self.snapshot);
        out.put_u64(self.total_bytes);
        out.put_u64(self.offset);
        put_bytes(out, &self.bytes);
    }

    /// The piece lies within the file, and the snapshot is not of a later term than its sender.
    fn decode(term: Term, reader: &mut Reader<'_>) -> Result<Self, Error> {
        let round = reader.counter()?;
        let snapshot = snapshot_id(reader)?;
        if snapshot.term > term {
            return Err(malformed("a snapshot is of a later term than its leader"));
        }
        let total_bytes = reader.counter()?;
        let offset = reader.counter()?;
        let bytes = reader.bytes("piece of a snapshot", SNAPSHOT_CHUNK_BYTES_MAX)?;
        if total_bytes == 0 || offset + bytes.len() as u64 > total_bytes {
            return Err(malformed("a piece is outside of its snapshot"));
        }
        Ok(Self {
            term,
            round,
            snapshot,
            total_bytes,
            offset,
            bytes: reader.keep(bytes),
        })
    }
}

/// How much of a snapshot's file the follower holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SnapshotOk {
    /// The follower's term.
    pub term: Term,
    /// The highest round among this term's messages of the leader that were received.
    pub round: u64,
    /// The snapshot that was spoken of; never 0@0.
    pub snapshot: EntryId,
    /// Bytes that are held from the start of this very file; 0 if it had to begin anew.
    pub received_bytes: u64,
    /// The follower's disk.
    pub disk: DiskReport,
    /// In what the follower is less than whole.
    pub health: Health,
}

impl SnapshotOk {
    fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.round);
        put_entry_id(out, self.snapshot);
        out.put_u64(self.received_bytes);
        self.disk.encode(out);
        self.health.encode(out);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            term: reader.term()?,
            round: reader.counter()?,
            snapshot: snapshot_id(reader)?,
            received_bytes: reader.counter()?,
            disk: DiskReport::decode(reader)?,
            health: Health::decode(reader)?,
        })
    }
}

fn snapshot_id(reader: &mut Reader<'_>) -> Result<EntryId, Error> {
    let id = reader.entry_id()?;
    if id == EntryId::default() {
        return Err(malformed("a snapshot of nothing"));
    }
    Ok(id)
}
