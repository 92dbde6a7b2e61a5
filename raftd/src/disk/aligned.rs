//! Memory that a device can read and write by itself.

use std::fmt;
use std::ops::{Deref, DerefMut};

/// What place, length and memory are multiples of where bytes go between memory and device without
/// a copy in the page cache: no common device has larger blocks.
pub const DIRECT_BYTES: usize = 4096;

/// A buffer for [`super::Disk::bypass_cache`]: its bytes begin at a multiple of [`DIRECT_BYTES`] in
/// memory, zeros at first.
///
/// Invariant: `memory` is not resized, so it does not move.
pub struct Aligned {
    memory: Vec<u8>,
    start: usize,
    bytes: usize,
}

impl Aligned {
    /// A buffer of this size.
    #[must_use]
    pub fn new(bytes: usize) -> Self {
        let memory = vec![0; bytes + DIRECT_BYTES];
        let start = memory.as_ptr().align_offset(DIRECT_BYTES);
        assert!(start <= DIRECT_BYTES, "memory can be aligned");
        Self {
            memory,
            start,
            bytes,
        }
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.bytes]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.bytes]
    }
}

impl AsRef<[u8]> for Aligned {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

impl fmt::Debug for Aligned {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.bytes)
    }
}

/// How many of these bytes, from the first on, can go directly between memory and that place in a
/// file: whole blocks, if both are aligned.
#[must_use]
pub(super) fn direct_bytes(offset: u64, bytes: &[u8]) -> usize {
    let is_aligned = offset.is_multiple_of(DIRECT_BYTES as u64)
        && bytes.as_ptr().align_offset(DIRECT_BYTES) == 0;
    if is_aligned {
        bytes.len() / DIRECT_BYTES * DIRECT_BYTES
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_blocks_of_an_aligned_buffer_go_directly() {
        let buffer = Aligned::new(3 * DIRECT_BYTES + 5);
        assert_eq!(buffer.len(), 3 * DIRECT_BYTES + 5);
        assert_eq!(direct_bytes(0, &buffer), 3 * DIRECT_BYTES);
        assert_eq!(direct_bytes(8192, &buffer[4096..]), 2 * DIRECT_BYTES);
        assert_eq!(direct_bytes(8192, &buffer[..4095]), 0);
        assert_eq!(direct_bytes(512, &buffer), 0);
        assert_eq!(direct_bytes(0, &buffer[512..]), 0);
    }
}
