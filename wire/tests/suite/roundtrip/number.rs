//! Numbers, names and bytes of any kind.

use proptest::collection::vec;
use proptest::prelude::*;
use wire::limits::COUNTER_MAX;
use wire::types::{EntryId, Index, NodeId, Term};

use crate::make::forever;

/// Small numbers, huge ones and all between.
pub(super) fn counter() -> impl Strategy<Value = u64> {
    prop_oneof![0..5_u64, 0..=COUNTER_MAX, Just(COUNTER_MAX)]
}

pub(super) fn term() -> impl Strategy<Value = Term> {
    counter().prop_map(Term)
}

pub(super) fn index() -> impl Strategy<Value = Index> {
    counter().prop_map(Index)
}

pub(super) fn node() -> impl Strategy<Value = NodeId> {
    (1..=u64::MAX).prop_map(NodeId)
}

pub(super) fn entry_id() -> impl Strategy<Value = EntryId> {
    let some = (1..=COUNTER_MAX, 1..=COUNTER_MAX).prop_map(|(term, index)| EntryId {
        term: Term(term),
        index: Index(index),
    });
    prop_oneof![1 => Just(EntryId::default()), 4 => some]
}

pub(super) fn key() -> impl Strategy<Value = &'static [u8]> {
    vec(any::<u8>(), 1..40).prop_map(forever)
}

pub(super) fn value() -> impl Strategy<Value = &'static [u8]> {
    vec(any::<u8>(), 0..300).prop_map(forever)
}

pub(super) fn name() -> impl Strategy<Value = String> {
    "\\PC{0,16}"
}

pub(super) fn text() -> impl Strategy<Value = String> {
    "\\PC{0,200}"
}

/// A name or an address that is one.
pub(super) fn label() -> impl Strategy<Value = &'static str> {
    "[a-z][a-z0-9.:-]{0,20}".prop_map(|text| -> &'static str { text.leak() })
}
