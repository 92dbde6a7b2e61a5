//! What servers answer.

use alloc::vec::Vec;

use bytes::{BufMut, BytesMut};

use super::{Admitted, LeaderChange, MembersChanged, Status};
use crate::buf::{Reader, limited, malformed, put_bytes, put_option};
use crate::command::Outcome;
use crate::error::Error;
use crate::frame::{self, Frame, Kind};
use crate::hello::LeaderHint;
use crate::limits::{PAGE_BYTES_MAX, PAGE_ITEMS_MAX, SNAPSHOT_CHUNK_BYTES_MAX};
use crate::types::{Index, NodeId, Term};

/// A key with what belongs to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item<'a> {
    /// The key.
    pub key: &'a [u8],
    /// Its value.
    pub value: &'a [u8],
    /// Index of the entry that last wrote it.
    pub revision: Index,
    /// Index of the entry that made it.
    pub create_revision: Index,
    /// Writes since it was made; 1 for a new key.
    pub version: u64,
}

/// A reply. Decoding borrows from the frame.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply<'a> {
    /// The write is committed and applied. For a retry, as it was the first time.
    Written {
        /// The entry's term.
        term: Term,
        /// The entry's index: the revision.
        index: Index,
        /// What it did.
        outcome: Outcome,
    },
    /// The key's item.
    Value {
        /// Applied index of the node when it read.
        index: Index,
        /// The item.
        item: Item<'a>,
    },
    /// There is no such key.
    Missing {
        /// Applied index of the node when it read.
        index: Index,
    },
    /// A page of a scan.
    Page {
        /// Applied index of the node when it read, or when the view was made.
        index: Index,
        /// Keys of this page (the number of items, unless the mode is `Count`).
        count: u64,
        /// The last key of this page if there are more: the next page's `after`.
        more_after: Option<&'a [u8]>,
        /// The view that the next page is to be asked of, if it was to be kept and there are more.
        view: Option<u64>,
        /// The items; [`Items`] iterates.
        items: Items<'a>,
    },
    /// See [`super::Request::Status`].
    Status(Status),
    /// A piece of a snapshot's file.
    SnapshotPiece {
        /// The size of the file; 0 if the node does not have that snapshot, or no more.
        total_bytes: u64,
        /// What stands at the place that was asked for; none behind the end.
        bytes: &'a [u8],
    },
    /// See [`super::Request::ChangeMembers`].
    MembersChanged(MembersChanged),
    /// See [`super::Request::Join`].
    Admitted(Admitted),
    /// How an attempt to hand leadership over ended: see [`super::Request::TransferLeader`].
    LeaderTransferred {
        /// Whether who was meant leads. Else the attempt failed, and nothing has changed if the
        /// leader is the same as before.
        done: bool,
        /// The leader's term.
        term: Term,
        /// Who leads.
        leader: NodeId,
    },
    /// The newest changes of leaders, oldest first, at most
    /// [`crate::limits::LEADER_CHANGES_MAX`]: see [`super::Request::Leaders`].
    LeaderChanges(Vec<LeaderChange>),
    /// Who leads now: see [`super::Request::WatchLeader`]. The only reply but an error that may come
    /// unasked, with id 0.
    Moved {
        /// The node's term.
        term: Term,
        /// The leader, if one is known.
        leader: Option<LeaderHint>,
    },
    /// The request was not done, or nobody knows.
    Error(Error),
}

/// The items of a page, still encoded, back to back: what [`Item::encode`] wrote.
///
/// Invariant of a decoded page: every item was checked; [`Items::iter`] yields as many as the
/// page's `count`, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Items<'a> {
    /// Encoded items.
    pub bytes: &'a [u8],
}

impl<'a> Item<'a> {
    /// Appends it to `out`, not as a frame: for [`Items`].
    pub fn encode(&self, out: &mut BytesMut) {
        put_bytes(out, self.key);
        put_bytes(out, self.value);
        out.put_u64(self.revision.0);
        out.put_u64(self.create_revision.0);
        out.put_u64(self.version);
    }

    /// Takes one off the front of `bytes`: what [`Item::encode`] wrote.
    ///
    /// # Errors
    /// Of a payload that cannot be understood; `bytes` is then unchanged.
    pub fn split_from(bytes: &mut &'a [u8]) -> Result<Self, Error> {
        let mut reader = Reader::new(bytes);
        let item = Self::decode(&mut reader)?;
        *bytes = reader.rest();
        Ok(item)
    }

    pub(crate) fn decode(reader: &mut Reader<'a>) -> Result<Self, Error> {
        Ok(Self {
            key: reader.key()?,
            value: reader.value()?,
            revision: reader.index()?,
            create_revision: reader.index()?,
            version: reader.u64()?,
        })
    }
}

impl<'a> Items<'a> {
    /// The items, in order.
    #[must_use]
    pub fn iter(&self) -> ItemsIter<'a> {
        ItemsIter {
            reader: Reader::new(self.bytes),
        }
    }

    /// Checks every item against its limits and the page against those of pages; returns how many
    /// there are.
    fn check(&self) -> Result<u64, Error> {
        let mut reader = Reader::new(self.bytes);
        let (mut count, mut bytes) = (0_u32, 0);
        while !reader.is_empty() {
            let item = Item::decode(&mut reader)?;
            count += 1;
            bytes += item.key.len() + item.value.len();
            if count > PAGE_ITEMS_MAX {
                return Err(malformed("a page has more items than allowed"));
            }
            if count > 1 {
                limited("page", PAGE_BYTES_MAX as usize, bytes)?;
            }
        }
        Ok(u64::from(count))
    }
}

impl<'a> IntoIterator for Items<'a> {
    type Item = Item<'a>;
    type IntoIter = ItemsIter<'a>;

    fn into_iter(self) -> ItemsIter<'a> {
        self.iter()
    }
}

/// Iterates over [`Items`].
#[derive(Clone, Debug)]
pub struct ItemsIter<'a> {
    reader: Reader<'a>,
}

impl<'a> Iterator for ItemsIter<'a> {
    type Item = Item<'a>;

    fn next(&mut self) -> Option<Item<'a>> {
        Item::decode(&mut self.reader).ok()
    }
}

impl<'a> Reply<'a> {
    /// Appends it to `out` as a frame that answers the request `request_id`.
    pub fn encode(&self, request_id: u64, out: &mut BytesMut) {
        let kind = match self {
            Self::Written { .. } => Kind::Written,
            Self::Value { .. } => Kind::Value,
            Self::Missing { .. } => Kind::Missing,
            Self::Page { .. } => Kind::Page,
            Self::Status(_) => Kind::StatusReply,
            Self::SnapshotPiece { .. } => Kind::SnapshotPiece,
            Self::MembersChanged(_) => Kind::MembersChanged,
            Self::Admitted(_) => Kind::Admitted,
            Self::LeaderTransferred { .. } => Kind::LeaderTransferred,
            Self::LeaderChanges(_) => Kind::LeaderChanges,
            Self::Moved { .. } => Kind::Moved,
            Self::Error(_) => Kind::Error,
        };
        let start = frame::begin(out, kind, request_id);
        match self {
            Self::Written {
                term,
                index,
                outcome,
            } => {
                out.put_u64(term.0);
                out.put_u64(index.0);
                outcome.encode(out);
            }
            Self::Value { index, item } => {
                out.put_u64(index.0);
                item.encode(out);
            }
            Self::Missing { index } => out.put_u64(index.0),
            Self::Page {
                index,
                count,
                more_after,
                view,
                items,
            } => {
                out.put_u64(index.0);
                out.put_u64(*count);
                put_option(out, *more_after, put_bytes);
                put_option(out, *view, BytesMut::put_u64);
                out.put_slice(items.bytes);
            }
            Self::Status(status) => status.encode(out),
            Self::SnapshotPiece { total_bytes, bytes } => {
                out.put_u64(*total_bytes);
                put_bytes(out, bytes);
            }
            Self::MembersChanged(changed) => changed.encode(out),
            Self::Admitted(admitted) => admitted.encode(out),
            Self::LeaderTransferred { done, term, leader } => {
                out.put_u8(u8::from(*done));
                out.put_u64(term.0);
                out.put_u64(leader.0);
            }
            Self::LeaderChanges(changes) => LeaderChange::encode_all(changes, out),
            Self::Moved { term, leader } => {
                out.put_u64(term.0);
                put_option(out, leader.as_ref(), |out, hint| hint.encode(out));
            }
            Self::Error(error) => error.encode_payload(out),
        }
        frame::finish(out, start);
    }

    /// Reads a server's frame. Allocates for a status, members, the results of a txn
    /// and an error only.
    ///
    /// # Errors
    /// `TooLarge` for a key, a value, a page, a name or a text; `Malformed` for anything else,
    /// also if the kind is not one of replies.
    pub fn decode(frame: &Frame<'a>) -> Result<Self, Error> {
        let mut reader = Reader::new(frame.payload);
        let reply = match frame.kind {
            Kind::Written => Self::Written {
                term: reader.term()?,
                index: reader.index()?,
                outcome: Outcome::decode(&mut reader)?,
            },
            Kind::Value => Self::Value {
                index: reader.index()?,
                item: Item::decode(&mut reader)?,
            },
            Kind::Missing => Self::Missing {
                index: reader.index()?,
            },
            Kind::Page => {
                let index = reader.index()?;
                let count = reader.u64()?;
                let more_after = reader.option(Reader::key)?;
                let view = reader.option(Reader::u64)?;
                let items = Items {
                    bytes: reader.take_rest(),
                };
                let held = items.check()?;
                if held != 0 && held != count {
                    return Err(malformed("the count of a page is not that of its items"));
                }
                Self::Page {
                    index,
                    count,
                    more_after,
                    view,
                    items,
                }
            }
            Kind::StatusReply => Self::Status(Status::decode(&mut reader)?),
            Kind::SnapshotPiece => Self::SnapshotPiece {
                total_bytes: reader.u64()?,
                bytes: reader.bytes("piece", SNAPSHOT_CHUNK_BYTES_MAX)?,
            },
            Kind::MembersChanged => Self::MembersChanged(MembersChanged::decode(&mut reader)?),
            Kind::Admitted => Self::Admitted(Admitted::decode(&mut reader)?),
            Kind::LeaderTransferred => Self::LeaderTransferred {
                done: reader.flag()?,
                term: reader.term()?,
                leader: reader.node()?,
            },
            Kind::LeaderChanges => Self::LeaderChanges(LeaderChange::decode_all(&mut reader)?),
            Kind::Moved => {
                let moved = Self::Moved {
                    term: reader.term()?,
                    leader: reader.option(LeaderHint::decode)?,
                };
                reader.finish()?;
                return Ok(moved);
            }
            // With id 0 it refuses the connection.
            Kind::Error => return Error::decode(frame).map(Self::Error),
            _ => return Err(malformed("the frame is not a reply")),
        };
        frame::expect_request_id(frame, true)?;
        reader.finish()?;
        Ok(reply)
    }
}
