//! How fresh a read must be, and who may answer it.

use bytes::{BufMut, BytesMut};

use crate::buf::{Reader, malformed};
use crate::error::Error;
use crate::types::Index;

/// What a read must see, in relation to what others do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Consistency {
    /// Every write acknowledged before it was sent (ReadIndex, thesis 6.4). Only the leader answers;
    /// any other node names it.
    #[default]
    Linearizable,
    /// The same, of whichever node is asked: a follower learns from the leader up to where it must
    /// have applied, and answers itself.
    LinearizableAnywhere,
    /// What the node that is asked has applied, whenever that was.
    Stale,
    /// Every write acknowledged so long before the read arrived, by the clock of the node that is
    /// asked. It answers at once if it is known to be as fresh, and else asks the leader.
    Bounded {
        /// Milliseconds.
        max_lag_ms: u32,
    },
}

/// How fresh a read must be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Freshness {
    /// What it must see of the writes of all.
    pub consistency: Consistency,
    /// It sees the entry of this index, too, on any node: so that whoever knows the revision of a
    /// write reads it everywhere. 0 is of no entry.
    pub after: Index,
}

/// Wraps a consistency, so that whoever asks for no revision sends a byte and no more.
const AFTER: u8 = 5;

impl From<Consistency> for Freshness {
    fn from(consistency: Consistency) -> Self {
        let after = Index(0);
        Self { consistency, after }
    }
}

impl Freshness {
    /// Whether any node may answer.
    #[must_use]
    pub fn is_served_anywhere(&self) -> bool {
        self.consistency != Consistency::Linearizable
    }

    pub(super) fn encode(self, out: &mut BytesMut) {
        if self.after > Index(0) {
            out.put_u8(AFTER);
            out.put_u64(self.after.0);
        }
        match self.consistency {
            Consistency::Linearizable => out.put_u8(1),
            Consistency::Stale => out.put_u8(2),
            Consistency::LinearizableAnywhere => out.put_u8(3),
            Consistency::Bounded { max_lag_ms } => {
                out.put_u8(4);
                out.put_u32(max_lag_ms);
            }
        }
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        let mut after = Index(0);
        let mut code = reader.u8()?;
        if code == AFTER {
            after = reader.index()?;
            if after == Index(0) {
                return Err(malformed("a read after no entry"));
            }
            code = reader.u8()?;
        }
        let consistency = match code {
            1 => Consistency::Linearizable,
            2 => Consistency::Stale,
            3 => Consistency::LinearizableAnywhere,
            4 => Consistency::Bounded {
                max_lag_ms: reader.u32()?,
            },
            _ => return Err(malformed("the consistency is not known")),
        };
        Ok(Self { consistency, after })
    }
}
