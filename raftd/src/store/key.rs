//! A key as the map owns it.

use std::borrow::Borrow;
use std::cmp::Ordering;

/// A key of up to this many bytes lies in the map's node itself.
const INLINE_BYTES_MAX: usize = 38;

/// The bytes of a key. A search compares with half a dozen keys on each level of the tree: short
/// keys are stored in place, so that a comparison costs no cache miss of its own.
///
/// Invariants: ordered, compared and borrowed as the bytes; never changes.
#[derive(Clone, Debug)]
pub(super) enum Key {
    /// `bytes[..length]`; the rest is zero.
    Inline {
        length: u8,
        bytes: [u8; INLINE_BYTES_MAX],
    },
    /// A longer one.
    Heap(Box<[u8]>),
}

const _: () = assert!(size_of::<Key>() == 40);

impl Key {
    pub(super) fn as_bytes(&self) -> &[u8] {
        match self {
            Self::Inline { length, bytes } => &bytes[..usize::from(*length)],
            Self::Heap(bytes) => bytes,
        }
    }
}

impl From<&[u8]> for Key {
    fn from(key: &[u8]) -> Self {
        match u8::try_from(key.len()) {
            Ok(length) if key.len() <= INLINE_BYTES_MAX => {
                let mut bytes = [0; INLINE_BYTES_MAX];
                bytes[..key.len()].copy_from_slice(key);
                Self::Inline { length, bytes }
            }
            _ => Self::Heap(key.into()),
        }
    }
}

impl Borrow<[u8]> for Key {
    fn borrow(&self) -> &[u8] {
        self.as_bytes()
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        self.as_bytes() == other.as_bytes()
    }
}

impl Eq for Key {}

impl PartialOrd for Key {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Key {
    fn cmp(&self, other: &Self) -> Ordering {
        self.as_bytes().cmp(other.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_ordered_as_their_bytes_wherever_they_lie() {
        let longest_inline = [7; INLINE_BYTES_MAX];
        let shortest_on_heap = [7; INLINE_BYTES_MAX + 1];
        let keys: [&[u8]; 6] = [
            b"",
            b"\0",
            b"a",
            &longest_inline[..],
            &shortest_on_heap[..],
            &[255; 300],
        ];
        for left in keys {
            assert_eq!(Key::from(left).as_bytes(), left);
            for right in keys {
                assert_eq!(Key::from(left).cmp(&Key::from(right)), left.cmp(right));
            }
        }
    }
}
