//! Reads that a follower serves (thesis 6.4): it asks the leader up to where it must have applied.

use bytes::{BufMut, BytesMut};

use crate::buf::{Reader, malformed};
use crate::error::Error;
use crate::types::{Index, Term};

/// A follower asks its leader for a read index, for all reads that arrived before. It speaks for
/// itself, too: it was in this term after they arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadIndex {
    /// The follower's term, which is the leader's.
    pub term: Term,
    /// Names the question; a repeated question has the same name, and in a node's life, or a later
    /// one, no other has. 1 or more.
    pub question: u64,
}

/// The answer to [`ReadIndex`]: the receiver led the term after the question arrived.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadIndexAnswer {
    /// The leader's term.
    pub term: Term,
    /// The question.
    pub question: u64,
    /// Whoever has applied up to here sees every write acknowledged before the question was sent.
    pub index: Index,
}

impl ReadIndex {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.question);
    }

    pub(super) fn decode(term: Term, reader: &mut Reader<'_>) -> Result<Self, Error> {
        let question = question(reader)?;
        Ok(Self { term, question })
    }
}

impl ReadIndexAnswer {
    pub(super) fn encode(&self, out: &mut BytesMut) {
        out.put_u64(self.question);
        out.put_u64(self.index.0);
    }

    pub(super) fn decode(reader: &mut Reader<'_>) -> Result<Self, Error> {
        Ok(Self {
            term: reader.term()?,
            question: question(reader)?,
            index: reader.index()?,
        })
    }
}

fn question(reader: &mut Reader<'_>) -> Result<u64, Error> {
    match reader.counter()? {
        0 => Err(malformed("a question without a name")),
        question => Ok(question),
    }
}
