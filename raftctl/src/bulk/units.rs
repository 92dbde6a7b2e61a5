//! The bytes of the input that were read and not decoded yet.

use std::io::{self, ErrorKind, Read};

/// A buffer with bytes of an input.
///
/// Invariant: `bytes[start..end]` was read and not consumed. It grows to what one unit needs, which
/// decoders bound, and one read.
#[derive(Debug, Default)]
pub(crate) struct Units {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
    /// Bytes of the input before `start`.
    offset: u64,
}

impl Units {
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Where in the input they begin.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    pub(crate) fn consume(&mut self, count: usize) {
        self.start += count;
        self.offset += count as u64;
        assert!(self.start <= self.end, "more was consumed than read");
    }

    /// Reads up to `count` bytes more; 0 is the end.
    pub(crate) fn fill(&mut self, from: &mut impl Read, count: usize) -> io::Result<usize> {
        self.bytes.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        if self.bytes.len() < self.end + count {
            self.bytes.resize(self.end + count, 0);
        }
        loop {
            match from.read(&mut self.bytes[self.end..self.end + count]) {
                Ok(read) => {
                    self.end += read;
                    return Ok(read);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}
