//! What clients ask.

use alloc::vec::Vec;

use bytes::{BufMut, BytesMut};

use super::members::{read_addr, read_label};
use super::{Freshness, MemberChange};
use crate::buf::{Reader, malformed, put_bytes, put_entry_id, put_name, put_option};
use crate::command::Write;
use crate::error::Error;
use crate::frame::{self, Frame, Kind};
use crate::limits::{ADDR_BYTES_MAX, KEY_BYTES_MAX, NAME_BYTES_MAX};
use crate::types::{EntryId, Incarnation, NodeId};

/// What a scan returns of each key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ScanMode {
    /// Keys with values and revisions.
    Items,
    /// Keys with revisions; values are empty.
    Keys,
    /// Nothing but the number of keys.
    Count,
}

/// Keys from one on, up to another, in bytewise order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyRange<'a> {
    /// The first key that may be in it; may be empty.
    pub from: &'a [u8],
    /// The first key behind it; `None`: there is no end.
    pub to: Option<&'a [u8]>,
}

/// Which state a page shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ViewChoice {
    /// The state as of now; the next page may show another one.
    Now,
    /// The state as of now, which the node keeps for the pages that follow on this connection, if
    /// there are more: [`super::Reply::Page`] names the view.
    Keep,
    /// That of a view. It ends with its last page, with the connection, and when it gets too old
    /// or is not used for too long: [`Error::ViewGone`] from then on.
    Of(u64),
}

/// A request. Decoding borrows from the frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request<'a> {
    /// Changes the store.
    Write {
        /// Milliseconds after arrival at which a write not yet appended is dropped; 0 is never.
        deadline_ms: u32,
        /// What to do.
        write: Write<'a>,
        /// The encoded write: the body of its log entry. Filled by decoding; encoding writes
        /// `write` and does not look at it.
        body: &'a [u8],
    },
    /// Reads one key.
    Get {
        /// Milliseconds after arrival at which it is dropped; 0 is never.
        deadline_ms: u32,
        /// How fresh.
        freshness: Freshness,
        /// The key.
        key: &'a [u8],
    },
    /// Reads a page of a range of keys, in bytewise order or against it.
    Scan {
        /// Milliseconds after arrival at which it is dropped; 0 is never.
        deadline_ms: u32,
        /// How fresh. A page of a view that is there is as old as the view.
        freshness: Freshness,
        /// What to return of each key.
        mode: ScanMode,
        /// Keys must be in it.
        range: KeyRange<'a>,
        /// The highest key comes first.
        reverse: bool,
        /// Keys must come behind it, in the order asked for; `None` begins with the range.
        after: Option<&'a [u8]>,
        /// Items at most; capped at [`crate::limits::PAGE_ITEMS_MAX`].
        limit: u32,
        /// Which state it is a page of.
        view: ViewChoice,
    },
    /// Asks how the node sees itself and its cluster. Never waits.
    Status,
    /// Asks the leader to have every member take a snapshot at the same entry. The answer is
    /// [`super::Reply::Written`] with that entry, once it is applied; the files come later, and
    /// [`super::Status::snapshot`] tells when.
    Snapshot,
    /// Reads a piece of the file of a snapshot that the node has, of at most
    /// [`crate::limits::SNAPSHOT_CHUNK_BYTES_MAX`]. While somebody reads a snapshot the node keeps
    /// it. One at a time on a connection.
    ReadSnapshot {
        /// Which.
        snapshot: EntryId,
        /// The place in its file.
        offset: u64,
    },
    /// Asks the leader to change who is a member. Answered by [`super::Reply::MembersChanged`] when
    /// all steps are committed, or by [`Error::Refused`].
    ChangeMembers {
        /// Only tell what it would do.
        dry_run: bool,
        /// Which change.
        change: MemberChange<'a>,
    },
    /// A node without a log that was admitted by name asks the leader who it is. Answered by
    /// [`super::Reply::Admitted`] when it is committed that the id is bound to the incarnation, or
    /// by [`Error::Refused`].
    Join {
        /// Its name.
        name: &'a str,
        /// Where its peers will find it.
        peer_addr: &'a str,
        /// Its data directory's life.
        incarnation: Incarnation,
    },
    /// Asks the leader to hand its office over (thesis 3.10). Answered by
    /// [`super::Reply::LeaderTransferred`] when the attempt has ended, or by
    /// [`Error::Refused`] if nobody fit is meant. To ask again when it is done changes nothing.
    TransferLeader {
        /// Milliseconds after arrival at which nobody waits for the end any more; 0 is never.
        deadline_ms: u32,
        /// To whom; `None`: to the best of the followers.
        to: Option<NodeId>,
    },
    /// Asks which leaders the node has known since it started. Never waits.
    Leaders,
    /// Asks who leads, and from now on to be told of every change (rules B5). Answered by
    /// [`super::Reply::Moved`], at once; more of them follow on the connection, with request id 0.
    WatchLeader,
}

impl ScanMode {
    fn encode(self, out: &mut BytesMut) {
        out.put_u8(match self {
            Self::Items => 1,
            Self::Keys => 2,
            Self::Count => 3,
        });
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        match reader.u8()? {
            1 => Ok(Self::Items),
            2 => Ok(Self::Keys),
            3 => Ok(Self::Count),
            _ => Err(malformed("the mode of a scan is not known")),
        }
    }
}

impl KeyRange<'_> {
    /// Whether the key is in it.
    #[must_use]
    pub fn contains(&self, key: &[u8]) -> bool {
        key >= self.from && self.to.is_none_or(|to| key < to)
    }
}

/// The first key behind all that begin with `prefix`: where their range ends. `None`: there is none,
/// the range has no end.
#[must_use]
pub fn prefix_end(prefix: &[u8]) -> Option<Vec<u8>> {
    let kept = prefix.iter().rposition(|byte| *byte < u8::MAX)?;
    let mut end = prefix.get(..=kept)?.to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    Some(end)
}

impl ViewChoice {
    fn encode(self, out: &mut BytesMut) {
        match self {
            Self::Now => out.put_u8(1),
            Self::Keep => out.put_u8(2),
            Self::Of(id) => {
                out.put_u8(3);
                out.put_u64(id);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        match reader.u8()? {
            1 => Ok(Self::Now),
            2 => Ok(Self::Keep),
            3 => Ok(Self::Of(reader.u64()?)),
            _ => Err(malformed("the choice of a view is not known")),
        }
    }
}

impl<'a> Request<'a> {
    /// Appends it to `out` as a frame. `request_id` is any number but 0; the answer repeats it.
    ///
    /// # Panics
    /// If `request_id` is 0.
    pub fn encode(&self, request_id: u64, out: &mut BytesMut) {
        assert!(request_id != 0, "request id 0 names no request");
        let start = frame::begin(out, self.kind(), request_id);
        match *self {
            Self::Write {
                deadline_ms, write, ..
            } => {
                out.put_u32(deadline_ms);
                write.encode_body(out);
            }
            Self::Get {
                deadline_ms,
                freshness,
                key,
            } => {
                out.put_u32(deadline_ms);
                freshness.encode(out);
                put_bytes(out, key);
            }
            Self::Scan {
                deadline_ms,
                freshness,
                mode,
                range,
                reverse,
                after,
                limit,
                view,
            } => {
                out.put_u32(deadline_ms);
                freshness.encode(out);
                mode.encode(out);
                put_bytes(out, range.from);
                put_option(out, range.to, put_bytes);
                out.put_u8(u8::from(reverse));
                put_option(out, after, put_bytes);
                out.put_u32(limit);
                view.encode(out);
            }
            Self::Status | Self::Snapshot | Self::Leaders | Self::WatchLeader => {}
            Self::ReadSnapshot { snapshot, offset } => {
                put_entry_id(out, snapshot);
                out.put_u64(offset);
            }
            Self::ChangeMembers { dry_run, change } => {
                out.put_u8(u8::from(dry_run));
                change.encode(out);
            }
            Self::Join {
                name,
                peer_addr,
                incarnation,
            } => {
                put_name(out, name, NAME_BYTES_MAX);
                put_name(out, peer_addr, ADDR_BYTES_MAX);
                out.put_u64(incarnation.0);
            }
            Self::TransferLeader { deadline_ms, to } => {
                out.put_u32(deadline_ms);
                put_option(out, to, |out, node| out.put_u64(node.0));
            }
        }
        frame::finish(out, start);
    }

    fn kind(&self) -> Kind {
        match self {
            Self::Write { .. } => Kind::Write,
            Self::Get { .. } => Kind::Get,
            Self::Scan { .. } => Kind::Scan,
            Self::Status => Kind::Status,
            Self::Snapshot => Kind::Snapshot,
            Self::ReadSnapshot { .. } => Kind::ReadSnapshot,
            Self::ChangeMembers { .. } => Kind::ChangeMembers,
            Self::Join { .. } => Kind::Join,
            Self::TransferLeader { .. } => Kind::TransferLeader,
            Self::Leaders => Kind::Leaders,
            Self::WatchLeader => Kind::WatchLeader,
        }
    }

    /// Reads a client's frame. Allocates nothing.
    ///
    /// # Errors
    /// `TooLarge` for a key, a value or an entry; `Malformed` for anything else, also if the
    /// kind is not one of requests.
    pub fn decode(frame: &Frame<'a>) -> Result<Self, Error> {
        let mut reader = Reader::new(frame.payload);
        let request = match frame.kind {
            Kind::Write => {
                let deadline_ms = reader.u32()?;
                let body = reader.take_rest();
                Self::Write {
                    deadline_ms,
                    write: Write::decode_body(body)?,
                    body,
                }
            }
            Kind::Get => Self::Get {
                deadline_ms: reader.u32()?,
                freshness: Freshness::decode(&mut reader)?,
                key: reader.key()?,
            },
            Kind::Scan => Self::Scan {
                deadline_ms: reader.u32()?,
                freshness: Freshness::decode(&mut reader)?,
                mode: ScanMode::decode(&mut reader)?,
                range: KeyRange {
                    from: reader.bytes("key", KEY_BYTES_MAX)?,
                    to: reader.option(|reader| reader.bytes("key", KEY_BYTES_MAX))?,
                },
                reverse: reader.flag()?,
                after: reader.option(Reader::key)?,
                limit: reader.u32()?,
                view: ViewChoice::decode(&mut reader)?,
            },
            Kind::Status => Self::Status,
            Kind::Snapshot => Self::Snapshot,
            Kind::ReadSnapshot => Self::ReadSnapshot {
                snapshot: reader.entry_id()?,
                offset: reader.u64()?,
            },
            Kind::ChangeMembers => Self::ChangeMembers {
                dry_run: reader.flag()?,
                change: MemberChange::decode(&mut reader)?,
            },
            Kind::Join => Self::Join {
                name: read_label(&mut reader)?,
                peer_addr: read_addr(&mut reader)?,
                incarnation: reader.u64().map(Incarnation)?,
            },
            Kind::TransferLeader => Self::TransferLeader {
                deadline_ms: reader.u32()?,
                to: reader.option(Reader::node)?,
            },
            Kind::Leaders => Self::Leaders,
            Kind::WatchLeader => Self::WatchLeader,
            _ => return Err(malformed("the frame is not a request")),
        };
        frame::expect_request_id(frame, true)?;
        reader.finish()?;
        Ok(request)
    }
}
