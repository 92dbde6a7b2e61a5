//! A key with what belongs to it, in one allocation.

use std::iter;

use triomphe::{Arc, ThinArc};
use wire::client::Item;
use wire::limits::KEY_BYTES_MAX;
use wire::types::Index;

use super::digest;

const _: () = assert!(KEY_BYTES_MAX <= u16::MAX as usize);

/// Which entries wrote a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Revisions {
    pub(super) created: Index,
    pub(super) modified: Index,
    /// 1 for the entry that created it.
    pub(super) version: u64,
}

#[derive(Clone, Copy, Debug)]
struct Header {
    revisions: Revisions,
    key_bytes: u16,
}

/// A key, its value and its revisions. A clone shares them; who changes a shared one gets its own.
#[derive(Clone, Debug)]
pub(super) struct Record(ThinArc<Header, u8>);

impl Record {
    /// # Panics
    /// If the key is longer than any key may be.
    pub(super) fn new(key: &[u8], value: &[u8], revisions: Revisions) -> Self {
        let header = Header {
            revisions,
            key_bytes: u16::try_from(key.len())
                .expect("commands are checked when they are decoded"),
        };
        // Zeros first: a fill and two copies are many times faster than an iterator over both.
        let zeros = iter::repeat_n(0, key.len() + value.len());
        let mut bytes = ThinArc::from_header_and_iter(header, zeros);
        bytes.with_arc_mut(|bytes| {
            let bytes = Arc::get_mut(bytes).expect("nobody else knows it yet");
            let (own_key, own_value) = bytes.slice_mut().split_at_mut(key.len());
            own_key.copy_from_slice(key);
            own_value.copy_from_slice(value);
        });
        Self(bytes)
    }

    pub(super) fn key(&self) -> &[u8] {
        &self.0.slice[..self.key_bytes()]
    }

    pub(super) fn value(&self) -> &[u8] {
        &self.0.slice[self.key_bytes()..]
    }

    pub(super) fn revisions(&self) -> Revisions {
        self.0.header.header.revisions
    }

    pub(super) fn item(&self) -> Item<'_> {
        let revisions = self.revisions();
        Item {
            key: self.key(),
            value: self.value(),
            revision: revisions.modified,
            create_revision: revisions.created,
            version: revisions.version,
        }
    }

    /// Bytes of key and value.
    pub(super) fn bytes(&self) -> usize {
        self.0.slice.len()
    }

    fn key_bytes(&self) -> usize {
        usize::from(self.0.header.header.key_bytes)
    }

    /// Sets the value: in place if nobody shares this record and the length stays.
    pub(super) fn set(&mut self, value: &[u8], revisions: Revisions) {
        let key_bytes = self.key_bytes();
        let in_place = self.0.with_arc_mut(|bytes| {
            let bytes = Arc::get_mut(bytes)?;
            let own_value = &mut bytes.slice_mut()[key_bytes..];
            if own_value.len() != value.len() {
                return None;
            }
            own_value.copy_from_slice(value);
            bytes.header_mut().revisions = revisions;
            Some(())
        });
        if in_place.is_none() {
            *self = Self::new(self.key(), value, revisions);
        }
    }
}

/// What is summed up over records.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    /// Of [`digest::item`].
    pub(super) digest: u128,
    /// Bytes of keys and values.
    pub(super) data_bytes: u64,
}

impl Sums {
    /// What one record adds.
    pub(super) fn of(record: &Record) -> Self {
        Self {
            digest: digest::item(&record.item()),
            data_bytes: record.bytes() as u64,
        }
    }

    pub(super) fn add(&mut self, more: Self) {
        self.digest = self.digest.wrapping_add(more.digest);
        self.data_bytes += more.data_bytes;
    }

    pub(super) fn remove(&mut self, part: Self) {
        self.digest = self.digest.wrapping_sub(part.digest);
        self.data_bytes -= part.data_bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn revisions(modified: u64) -> Revisions {
        Revisions {
            created: Index(1),
            modified: Index(modified),
            version: modified,
        }
    }

    #[test]
    fn a_record_that_is_set_leaves_those_that_share_it_alone() {
        for (value, same_place) in [
            (&b"other"[..], true),
            (b"longer than that", false),
            (b"", false),
        ] {
            let mut record = Record::new(b"key", b"value", revisions(1));
            let place = record.key().as_ptr();
            record.set(value, revisions(2));
            assert_eq!((record.key(), record.value()), (&b"key"[..], value));
            assert_eq!(record.revisions(), revisions(2));
            assert_eq!(record.key().as_ptr() == place, same_place);

            let view = record.clone();
            record.set(b"new", revisions(3));
            assert_eq!((view.value(), view.revisions()), (value, revisions(2)));
            assert_eq!(
                (record.value(), record.revisions()),
                (&b"new"[..], revisions(3))
            );
        }
    }
}
