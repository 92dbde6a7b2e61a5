//! An ordered set of records that freezes in no time: a B+tree whose nodes are shared until they
//! differ.
//!
//! A clone of the tree is a view: it shares every node. Who changes a shared node copies it first,
//! and the nodes above it; so a view takes the memory of what has changed since, and nobody ever
//! waits for it. What is not shared is changed in place.
//!
//! `raftd/README.md` has the figures that chose it, beside `BTreeMap`, a persistent map from a crate
//! and a frozen base with an overlay.

mod fill;
mod node;
mod remains;
#[cfg(test)]
mod tests;

use std::ops::Bound;

use arrayvec::ArrayVec;
use triomphe::Arc;

pub(super) use self::fill::Filler;
use self::node::{Branch, Fences, Leaf, Node};
pub use self::remains::Remains;
use super::record::Record;

/// Records in the order of their keys.
///
/// Invariants:
/// - all leaves are at the same depth, and none is empty unless the tree is;
/// - `len` is the number of records.
#[derive(Clone, Debug)]
pub(super) struct Tree {
    root: Node,
    len: usize,
}

impl Default for Tree {
    fn default() -> Self {
        let leaf = Leaf::new(ArrayVec::new(), Fences::NONE);
        Self {
            root: Node::Leaf(Arc::new(leaf)),
            len: 0,
        }
    }
}

impl Tree {
    pub(super) fn len(&self) -> usize {
        self.len
    }

    pub(super) fn get(&self, key: &[u8]) -> Option<&Record> {
        let mut node = &self.root;
        loop {
            match node {
                Node::Branch(branch) => node = branch.child(branch.place(key)),
                Node::Leaf(leaf) => return leaf.get(leaf.find(key).ok()?),
            }
        }
    }

    /// Shows `change` the record of `key`, to be changed; if there is none, adds the one that it
    /// returns then. What is shared on the way there is copied.
    pub(super) fn put(
        &mut self,
        key: &[u8],
        change: impl FnOnce(Option<&mut Record>) -> Option<Record>,
    ) {
        let leaf = self.leaf_mut(key);
        match leaf.find(key) {
            Ok(at) => {
                let more = change(Some(&mut leaf.records[at]));
                debug_assert!(more.is_none(), "one record of a key");
            }
            Err(at) => {
                let Some(record) = change(None) else {
                    return;
                };
                debug_assert_eq!(record.key(), key, "a record of another key");
                if let Err(record) = leaf.add(at, record) {
                    self.add(record);
                }
                self.len += 1;
            }
        }
    }

    fn leaf_mut(&mut self, key: &[u8]) -> &mut Leaf {
        let mut node = &mut self.root;
        loop {
            match node {
                Node::Branch(branch) => {
                    let branch = Arc::make_mut(branch);
                    node = branch.child_mut(branch.place(key));
                }
                Node::Leaf(leaf) => return Arc::make_mut(leaf),
            }
        }
    }

    /// Adds a record that is not there, to a leaf that is full.
    fn add(&mut self, record: Record) {
        if let Some((key, right)) = self.root.add(record, Fences::NONE) {
            let keys = ArrayVec::from_iter([key]);
            let children = ArrayVec::from_iter([self.root.clone(), right]);
            let branch = Branch::new(keys, children, Fences::NONE);
            self.root = Node::Branch(Arc::new(branch));
        }
    }

    /// Takes out the record of `key`.
    pub(super) fn remove(&mut self, key: &[u8]) -> Option<Record> {
        // For a key that is not there nothing is copied.
        self.get(key)?;
        let removed = self.root.remove(key, Fences::NONE);
        if let Node::Branch(branch) = &self.root
            && let Some(only) = branch.only_child()
        {
            self.root = only.clone();
        }
        self.len -= 1;
        removed
    }

    /// The records from `from` on, in order.
    pub(super) fn range(&self, from: Bound<&[u8]>) -> impl Iterator<Item = &Record> {
        let (leaf, above) = self.way(
            |branch| key_at(from).map_or(0, |key| branch.place(key)),
            |branch, at| branch.children_from(at + 1),
        );
        let at = match from {
            Bound::Included(key) => leaf.find(key).unwrap_or_else(|at| at),
            Bound::Excluded(key) => leaf.find(key).map_or_else(|at| at, |at| at + 1),
            Bound::Unbounded => 0,
        };
        Walk {
            above,
            records: leaf.records_from(at),
            children_of: |branch| branch.children_from(0),
            records_of: |leaf| leaf.records_from(0),
        }
    }

    /// The records up to `to`, the last one first.
    pub(super) fn range_back(&self, to: Bound<&[u8]>) -> impl Iterator<Item = &Record> {
        let (leaf, above) = self.way(
            |branch| key_at(to).map_or(branch.last_place(), |key| branch.place(key)),
            |branch, at| branch.children_before(at).rev(),
        );
        let end = match to {
            Bound::Included(key) => leaf.find(key).map_or_else(|at| at, |at| at + 1),
            Bound::Excluded(key) => leaf.find(key).unwrap_or_else(|at| at),
            Bound::Unbounded => leaf.records.len(),
        };
        Walk {
            above,
            records: leaf.records_before(end).rev(),
            children_of: |branch| branch.children_before(branch.last_place() + 1).rev(),
            records_of: |leaf| leaf.records_before(leaf.records.len()).rev(),
        }
    }

    /// Goes down by the children at the places that are told; returns the leaf, and what there is
    /// `beyond` each place, the lowest last.
    fn way<'a, N>(
        &'a self,
        place: impl Fn(&Branch) -> usize,
        beyond: impl Fn(&'a Branch, usize) -> N,
    ) -> (&'a Leaf, Vec<N>) {
        let mut above = Vec::new();
        let mut node = &self.root;
        loop {
            match node {
                Node::Branch(branch) => {
                    let at = place(branch);
                    above.push(beyond(branch, at));
                    node = branch.child(at);
                }
                Node::Leaf(leaf) => return (leaf, above),
            }
        }
    }

    /// All records, in order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &Record> {
        self.range(Bound::Unbounded)
    }
}

fn key_at(bound: Bound<&[u8]>) -> Option<&[u8]> {
    match bound {
        Bound::Included(key) | Bound::Excluded(key) => Some(key),
        Bound::Unbounded => None,
    }
}

/// Records one after the other, in the order in which nodes are iterated.
struct Walk<'a, N, R> {
    /// What comes after this leaf, the nearest last.
    above: Vec<N>,
    records: R,
    children_of: fn(&'a Branch) -> N,
    records_of: fn(&'a Leaf) -> R,
}

impl<'a, N, R> Iterator for Walk<'a, N, R>
where
    N: Iterator<Item = &'a Node>,
    R: Iterator<Item = &'a Record>,
{
    type Item = &'a Record;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.records.next() {
                return Some(record);
            }
            let Some(mut node) = self.above.last_mut()?.next() else {
                self.above.pop();
                continue;
            };
            self.records = loop {
                match node {
                    Node::Branch(branch) => {
                        let mut children = (self.children_of)(branch);
                        node = children.next().expect("a branch has children");
                        self.above.push(children);
                    }
                    Node::Leaf(leaf) => break (self.records_of)(leaf),
                }
            };
        }
    }
}
