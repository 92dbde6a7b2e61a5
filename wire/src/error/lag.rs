//! A node that cannot show a state as fresh as it was asked for.

use alloc::string::String;
use core::fmt;

use bytes::{BufMut, BytesMut};

use crate::buf::{Reader, put_option, put_text};
use crate::error::{Error, text};
use crate::hello::LeaderHint;
use crate::limits::TEXT_BYTES_MAX;

/// How far a node is behind, and who is not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lag {
    /// What keeps it back, for a person.
    pub reason: String,
    /// Entries that it knows to be committed and has not applied.
    pub entries: u64,
    /// Milliseconds since its state was last known to be the newest; `None`: it never was in this
    /// life, or nobody asked.
    pub behind_ms: Option<u64>,
    /// Whom to ask instead: the leader if one is known.
    pub better: Option<LeaderHint>,
}

impl Lag {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        put_text(out, &self.reason, TEXT_BYTES_MAX);
        out.put_u64(self.entries);
        put_option(out, self.behind_ms, BytesMut::put_u64);
        put_option(out, self.better.as_ref(), |out, hint| hint.encode(out));
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            reason: text(reader)?,
            entries: reader.u64()?,
            behind_ms: reader.option(Reader::u64)?,
            better: reader.option(LeaderHint::decode)?,
        })
    }
}

impl fmt::Display for Lag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the node is not up to date: {}, {} entries to apply",
            self.reason, self.entries
        )?;
        match self.behind_ms {
            Some(ms) => write!(f, ", last up to date {ms} ms ago"),
            None => Ok(()),
        }
    }
}
