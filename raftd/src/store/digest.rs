//! The digest of the state: one number that is the same where the state is the same (rules D5).
//!
//! It is a sum, modulo 2^128, of a hash of each key with all that belongs to it, of each kept reply
//! with its session, of the horizon, and of who is a member. So what changes is taken out of it and
//! put in again, in no particular order, and a scan of the whole comes to the same sum. It finds what disks, memory and
//! mistakes do; it is no defence against malice (rules D2).
//!
//! Stable: the hash is XXH3 of 128 bits over numbers in big-endian order, on every machine and in
//! every version. No setting of a node has a part in it.

use bytes::BytesMut;
use wire::client::Item;
use wire::command::Outcome;
use wire::membership::Membership;
use wire::types::Index;
use xxhash_rust::xxh3::{xxh3_64, xxh3_128, xxh3_128_with_seed};

use super::image::{ImageHead, SessionImage};
use super::session::Kept;

/// What a hash is of: its seed, so that no two kinds of things are taken for one another.
#[derive(Clone, Copy)]
enum Of {
    Item = 1,
    Reply = 2,
    Horizon = 3,
    Membership = 4,
}

const WORDS: usize = 8;

fn hash(of: Of, words: [u64; WORDS]) -> u128 {
    let mut bytes = [0; WORDS * 8];
    for (place, word) in bytes.chunks_exact_mut(8).zip(words) {
        place.copy_from_slice(&word.to_be_bytes());
    }
    xxh3_128_with_seed(&bytes, of as u64)
}

fn halves(hash: u128) -> [u64; 2] {
    [(hash >> 64) as u64, hash as u64]
}

/// The part of one key.
#[must_use]
pub fn item(item: &Item<'_>) -> u128 {
    // Each field is hashed by itself, so that it matters where one ends.
    let [key_high, key_low] = halves(xxh3_128(item.key));
    let [value_high, value_low] = halves(xxh3_128(item.value));
    let words = [
        key_high,
        key_low,
        value_high,
        value_low,
        item.revision.0,
        item.create_revision.0,
        item.version,
        0,
    ];
    hash(Of::Item, words)
}

/// The part of one session: the sum of those of its replies.
#[must_use]
pub fn session(image: &SessionImage) -> u128 {
    let parts = image.replies.iter();
    parts
        .map(|kept| reply(image.born, image.nonce, kept))
        .fold(0, u128::wrapping_add)
}

/// The part of one kept reply.
pub(super) fn reply(born: Index, nonce: u64, kept: &Kept) -> u128 {
    let (kind, number) = match &kept.outcome {
        Outcome::Put => (1, 0),
        Outcome::Deleted(keys) => (2, *keys),
        Outcome::Swapped => (3, 0),
        Outcome::NotSwapped(None) => (4, 0),
        Outcome::NotSwapped(Some(revision)) => (5, revision.0),
        Outcome::Incremented(sum) => (6, sum.cast_unsigned()),
        Outcome::NotANumber => (7, 0),
        Outcome::Overflow => (8, 0),
        Outcome::Applied => (9, 0),
        Outcome::Appended(bytes) => (10, *bytes),
        Outcome::TooLong => (11, 0),
        Outcome::NotDeleted(keys) => (12, *keys),
        outcome @ (Outcome::Txn { .. } | Outcome::Undone { .. }) => {
            let mut bytes = BytesMut::new();
            outcome.encode(&mut bytes);
            (13, xxh3_64(&bytes))
        }
    };
    let words = [
        born.0,
        nonce,
        kept.seq,
        kept.fingerprint,
        kept.id.term.0,
        kept.id.index.0,
        kind,
        number,
    ];
    hash(Of::Reply, words)
}

/// The part of the members, as an entry of the log told them; nothing if none did.
#[must_use]
pub fn membership(membership: Option<&Membership>) -> u128 {
    membership.map_or(0, |membership| {
        let mut body = BytesMut::new();
        membership.encode(&mut body);
        xxh3_128_with_seed(&body, Of::Membership as u64)
    })
}

/// The part of what a state is besides its keys and its sessions.
#[must_use]
pub fn head(head: &ImageHead) -> u128 {
    horizon(head.horizon).wrapping_add(membership(head.membership.as_ref()))
}

/// The part of the horizon (rules C3); nothing if nobody was evicted.
#[must_use]
pub fn horizon(horizon: Option<Index>) -> u128 {
    horizon.map_or(0, |born| hash(Of::Horizon, [born.0, 0, 0, 0, 0, 0, 0, 0]))
}
