//! What members of a cluster tell of themselves and of each other, inside other messages.

use bytes::{BufMut, BytesMut};

use crate::buf::{Reader, malformed};
use crate::error::Error;
use crate::types::Index;

/// A state digest at an index (rules D5).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digest {
    /// The applied index that it belongs to.
    pub index: Index,
    /// The digest.
    pub sum: u128,
}

impl Digest {
    pub(super) fn encode(self, out: &mut BytesMut) {
        out.put_u64(self.index.0);
        out.put_u128(self.sum);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            index: reader.index()?,
            sum: reader.u128()?,
        })
    }
}

/// How much room a node's disk has (rules E5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskState {
    /// Enough.
    #[default]
    Ok,
    /// Below the soft mark: client writes should stop.
    Soft,
    /// No new segment is possible.
    Hard,
}

impl DiskState {
    pub(crate) fn encode(self, out: &mut BytesMut) {
        out.put_u8(match self {
            Self::Ok => 1,
            Self::Soft => 2,
            Self::Hard => 3,
        });
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        match reader.u8()? {
            1 => Ok(Self::Ok),
            2 => Ok(Self::Soft),
            3 => Ok(Self::Hard),
            _ => Err(malformed("the state of a disk is not known")),
        }
    }
}

/// The state of the answering node's disk.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskReport {
    /// Room.
    pub state: DiskState,
    /// Age of the oldest unfinished write, in milliseconds; 0 if none.
    pub oldest_write_ms: u32,
}

impl DiskReport {
    pub(super) fn encode(self, out: &mut BytesMut) {
        self.state.encode(out);
        out.put_u32(self.oldest_write_ms);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            state: DiskState::decode(reader)?,
            oldest_write_ms: reader.u32()?,
        })
    }
}

/// In what the answering node is less than whole (rules D4, D5). Both may be true at once.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Entries that it may have acknowledged are gone, and which they were is not known: it neither
    /// votes nor counts.
    pub lost: bool,
    /// Its log is good, its state is not: it votes and acknowledges, and waits for a snapshot.
    pub rebuilding: bool,
}

impl Health {
    pub(super) fn encode(self, out: &mut BytesMut) {
        out.put_u8(u8::from(self.lost));
        out.put_u8(u8::from(self.rebuilding));
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            lost: reader.flag()?,
            rebuilding: reader.flag()?,
        })
    }
}

/// What a leader holds of the receiver's log (rules D4).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Standing {
    /// Nothing is known to be wrong with it.
    #[default]
    Unsaid,
    /// It lacks what was acknowledged: it is lost, whether its node knows or not.
    Lost,
    /// It is lost no more once it is durable and agrees with this leader's up to here: what is up to
    /// here is held by a quorum of others, too.
    Whole(Index),
}

impl Standing {
    pub(super) fn encode(self, out: &mut BytesMut) {
        match self {
            Self::Unsaid => out.put_u8(1),
            Self::Lost => out.put_u8(2),
            Self::Whole(upto) => {
                out.put_u8(3);
                out.put_u64(upto.0);
            }
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        match reader.u8()? {
            1 => Ok(Self::Unsaid),
            2 => Ok(Self::Lost),
            3 => Ok(Self::Whole(reader.index()?)),
            _ => Err(malformed("the standing of a log is not known")),
        }
    }
}
