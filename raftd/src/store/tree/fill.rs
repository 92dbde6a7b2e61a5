//! A tree from records that come in order.

use std::{mem, slice};

use triomphe::Arc;

use super::Tree;
use super::node::{Branch, Fences, Items, Leaf, Node, separator};
use crate::store::record::Record;

/// Fills leaves and branches from left to right: nothing is searched, moved or split.
///
/// Invariants:
/// - keys ascend;
/// - every node to the left of the open ones is full, but that a branch leaves one child to its
///   successor, which so never stays alone.
#[derive(Debug, Default)]
pub(in crate::store) struct Filler {
    leaf: Items<Record>,
    /// What is not above the keys of the open leaf.
    low: Option<Box<[u8]>>,
    /// The open branch of each level, the lowest first.
    open: Vec<Open>,
    len: usize,
}

/// A branch that is being filled. Each of its children is followed by a key: the one between it and
/// its successor.
#[derive(Debug, Default)]
struct Open {
    keys: Items<Box<[u8]>>,
    children: Items<Node>,
    /// What is not above its keys.
    low: Option<Box<[u8]>>,
}

impl Filler {
    /// The key of the last record.
    pub(in crate::store) fn last_key(&self) -> Option<&[u8]> {
        self.leaf.last().map(Record::key)
    }

    /// Records so far.
    pub(in crate::store) fn len(&self) -> usize {
        self.len
    }

    /// Adds the next record.
    ///
    /// # Panics
    /// If its key is not above the one before it.
    pub(in crate::store) fn push(&mut self, record: Record) {
        assert!(self.last_key() < Some(record.key()), "keys ascend");
        if self.leaf.is_full() {
            let records = mem::take(&mut self.leaf);
            let key = separator(&records, slice::from_ref(&record));
            let fences = Fences {
                low: self.low.as_deref(),
                high: Some(&key),
            };
            let leaf = Leaf::new(records, fences);
            self.low = Some(key.clone());
            self.rise(0, Node::Leaf(Arc::new(leaf)), key);
        }
        self.leaf.push(record);
        self.len += 1;
    }

    /// The tree.
    pub(in crate::store) fn finish(mut self) -> Tree {
        let fences = Fences {
            low: self.low.as_deref(),
            high: None,
        };
        let leaf = Leaf::new(mem::take(&mut self.leaf), fences);
        let mut root = Node::Leaf(Arc::new(leaf));
        let mut level = 0;
        while level < self.open.len() {
            self.make_room(level);
            root = mem::take(&mut self.open[level]).close(root);
            level += 1;
        }
        Tree {
            root,
            len: self.len,
        }
    }

    /// Hands a node that is complete to the branch above it; `key` is between it and its successor.
    fn rise(&mut self, level: usize, child: Node, key: Box<[u8]>) {
        if level == self.open.len() {
            self.open.push(Open::default());
        }
        self.make_room(level);
        let open = &mut self.open[level];
        open.children.push(child);
        open.keys.push(key);
    }

    /// Leaves room for one more child in the open branch of `level`.
    fn make_room(&mut self, level: usize) {
        if let Some((branch, key)) = self.open[level].split() {
            self.rise(level + 1, branch, key);
        }
    }
}

impl Open {
    /// If it is full: all children but the last one as a branch, and the key behind it.
    fn split(&mut self) -> Option<(Node, Box<[u8]>)> {
        if !self.children.is_full() {
            return None;
        }
        let mut full = mem::take(self);
        self.keys.extend(full.keys.pop());
        self.children.extend(full.children.pop());
        let key = full.keys.pop().expect("a key follows each child");
        self.low = Some(key.clone());
        Some((full.into_branch(Some(&key)), key))
    }

    /// The branch, with its last child.
    fn close(mut self, last: Node) -> Node {
        self.children.push(last);
        self.into_branch(None)
    }

    fn into_branch(self, high: Option<&[u8]>) -> Node {
        let fences = Fences {
            low: self.low.as_deref(),
            high,
        };
        let branch = Branch::new(self.keys, self.children, fences);
        Node::Branch(Arc::new(branch))
    }
}
