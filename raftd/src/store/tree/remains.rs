//! Freeing trees piece by piece.

use triomphe::Arc;

use super::Tree;
use super::node::{Leaf, Node};
use crate::store::record::Record;

/// What is freed in one piece: some 50 us of work with small values, most of it cache misses.
const PIECE_BYTES: usize = 32 * 1024;

/// Trees that nobody needs any more. To free a large one at once takes longer than a loop may wait
/// (rules A7); and on another thread, writers would wait for each piece of memory that it gives back
/// to the heap that they take theirs from. So whoever writes frees too, a piece now and then.
///
/// Invariant: nothing of these trees is left but what `nodes` hold.
#[derive(Debug, Default)]
pub struct Remains {
    nodes: Vec<Node>,
}

impl Remains {
    pub(in crate::store) fn add(&mut self, tree: Tree) {
        self.nodes.push(tree.root);
    }

    /// Whether all is freed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// Frees about 32 KiB; what another tree shares stays.
    pub fn free_piece(&mut self) {
        let mut freed_bytes = 0;
        while freed_bytes < PIECE_BYTES {
            freed_bytes += size_of::<Leaf>();
            match self.nodes.pop() {
                Some(Node::Branch(branch)) => {
                    if let Ok(branch) = Arc::try_unwrap(branch) {
                        self.nodes.extend(branch.children);
                    }
                }
                Some(Node::Leaf(leaf)) => {
                    if let Ok(leaf) = Arc::try_unwrap(leaf) {
                        freed_bytes += leaf.records.iter().map(Record::bytes).sum::<usize>();
                    }
                }
                None => return,
            }
        }
    }
}
