//! Freeing trees piece by piece.

use triomphe::Arc;

use super::Tree;
use super::node::Node;
use crate::store::record::Record;

/// Records that are freed in one piece: some 20 us of work, most of it cache misses.
const PIECE_RECORDS: usize = 80;
/// So many bytes of a record count as one more: the system takes large values back one by one.
const LARGE_BYTES: usize = 16 * 1024;

/// Trees that nobody needs any more. To free a large one at once takes longer than a loop may wait
/// (rules A7); and on another thread, writers would wait for each piece of memory that it gives back
/// to the heap that they take theirs from. So whoever writes frees too, a piece now and then.
///
/// Invariant: nothing is left of these trees but what `nodes` and `roots` hold.
#[derive(Debug, Default)]
pub struct Remains {
    /// Of the tree that is being freed.
    nodes: Vec<Node>,
    /// Of those that come after it.
    roots: Vec<Node>,
}

impl Remains {
    pub(in crate::store) fn add(&mut self, tree: Tree) {
        self.roots.push(tree.root);
    }

    /// Whether all is freed.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.nodes.is_empty() && self.roots.is_empty()
    }

    /// Frees some 80 small records, or less that are large, but a leaf at least; what another tree
    /// shares stays. The more trees wait, the more is freed, so that they do not pile up.
    pub fn free_piece(&mut self) {
        let mut left = PIECE_RECORDS * self.roots.len().max(1);
        while left > 0
            && let Some(node) = self.nodes.pop().or_else(|| self.roots.pop())
        {
            left = left.saturating_sub(self.free(node));
        }
    }

    /// Frees a node; says how many records that was worth.
    fn free(&mut self, node: Node) -> usize {
        match node {
            Node::Branch(branch) => {
                if let Ok(branch) = Arc::try_unwrap(branch) {
                    self.nodes.extend(branch.children);
                }
                1
            }
            Node::Leaf(leaf) => Arc::try_unwrap(leaf).map_or(1, |leaf| {
                let worth = |record: &Record| 1 + record.bytes() / LARGE_BYTES;
                leaf.records.iter().map(worth).sum()
            }),
        }
    }
}
