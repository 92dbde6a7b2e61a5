//! Leaves and branches.

use std::hint::black_box;
use std::mem;
use std::slice;

use arrayvec::ArrayVec;
use triomphe::Arc;

use crate::store::record::Record;

/// Records of a leaf, and children of a branch, at most. Of 16, 32 and 64 this reads and writes
/// fastest while a view lives.
const WIDTH_MAX: usize = 32;
/// A node that a removal leaves with fewer becomes one with a neighbour, or takes from it.
const WIDTH_MIN: usize = WIDTH_MAX / 4;
/// Two neighbours with so many together become one: there is room for more in it.
const JOINED_MAX: usize = WIDTH_MAX * 3 / 4;

/// What a node holds of each kind.
pub(super) type Items<T> = ArrayVec<T, WIDTH_MAX>;

/// What the keys of a node lie between, as the branches above it say: not below `low`, and below
/// `high`. Nothing else is ever looked for in it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fences<'a> {
    pub(super) low: Option<&'a [u8]>,
    pub(super) high: Option<&'a [u8]>,
}

impl<'a> Fences<'a> {
    /// Those of the root.
    pub(super) const NONE: Fences<'static> = Fences {
        low: None,
        high: None,
    };

    /// Those of what is below `key`.
    fn below<'k>(self, key: &'k [u8]) -> Fences<'k>
    where
        'a: 'k,
    {
        Fences {
            high: Some(key),
            ..self
        }
    }

    /// Those of `key` and what is above it.
    fn from<'k>(self, key: &'k [u8]) -> Fences<'k>
    where
        'a: 'k,
    {
        Fences {
            low: Some(key),
            ..self
        }
    }

    /// How many first bytes are the same in all keys between them.
    pub(super) fn common_bytes(self) -> usize {
        match (self.low, self.high) {
            (Some(low), Some(high)) => common_bytes(low, high),
            _ => 0,
        }
    }
}

fn common_bytes(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The keys of a node as numbers: a search reads these few cache lines, and the keys themselves,
/// which lie elsewhere, only where numbers are equal.
///
/// Invariants: `skip` is [`Fences::common_bytes`] of the node; `heads[i]` is the [`head`] of its key
/// `i`.
#[derive(Clone, Debug)]
pub(super) struct Heads {
    pub(super) skip: usize,
    pub(super) heads: Items<u64>,
}

/// The eight bytes of `key` behind the first `skip`, as a number of the same order; zeros where
/// there are no more.
pub(super) fn head(key: &[u8], skip: usize) -> u64 {
    let rest = key.get(skip..).unwrap_or_default();
    let bytes = rest.first_chunk().copied().unwrap_or_else(|| {
        let mut bytes = [0; 8];
        bytes[..rest.len()].copy_from_slice(rest);
        bytes
    });
    u64::from_be_bytes(bytes)
}

impl Heads {
    fn new<'k>(keys: impl Iterator<Item = &'k [u8]>, fences: Fences<'_>) -> Self {
        let skip = fences.common_bytes();
        Self {
            skip,
            heads: keys.map(|key| head(key, skip)).collect(),
        }
    }

    fn insert(&mut self, at: usize, key: &[u8]) {
        self.heads.insert(at, head(key, self.skip));
    }

    /// Where `key` is among `items`, whose keys these are, or where it belongs.
    fn find<T>(&self, items: &[T], key: &[u8], key_of: fn(&T) -> &[u8]) -> Result<usize, usize> {
        let head = head(key, self.skip);
        // Those that are below are counted: no look waits for the one before it, as the steps of a
        // binary search do.
        let first = self.heads.iter().filter(|known| **known < head).count();
        let rest = self.heads[first..].iter();
        let equal = rest.take_while(|known| **known == head).count();
        items[first..first + equal]
            .binary_search_by(|item| key_of(item).cmp(key))
            .map(|at| first + at)
            .map_err(|at| first + at)
    }
}

/// A part of the tree. A clone shares it.
#[derive(Clone, Debug)]
pub(super) enum Node {
    Leaf(Arc<Leaf>),
    Branch(Arc<Branch>),
}

/// Records by ascending key.
#[derive(Debug)]
pub(super) struct Leaf {
    pub(super) heads: Heads,
    pub(super) records: Items<Record>,
}

impl Clone for Leaf {
    /// Shares the records.
    fn clone(&self) -> Self {
        // Each record counts its owners, in its own place in memory, and counting at one place waits for
        // the one before. Looks do not wait for each other, so all are fetched by those first.
        for record in &self.records {
            black_box(record.revisions());
        }
        Self {
            heads: self.heads.clone(),
            records: self.records.clone(),
        }
    }
}

/// Invariants: two children at least, but for a root between a removal and its end; one key less
/// than children; `keys[i]` is above every key in `children[i]`, and not above any in
/// `children[i + 1]`.
#[derive(Clone, Debug)]
pub(super) struct Branch {
    pub(super) heads: Heads,
    pub(super) keys: Items<Box<[u8]>>,
    pub(super) children: Items<Node>,
}

/// The upper part of a node that was full, its new neighbour, and the key between the two.
pub(super) type Split = (Box<[u8]>, Node);

impl Node {
    fn width(&self) -> usize {
        match self {
            Self::Leaf(leaf) => leaf.records.len(),
            Self::Branch(branch) => branch.children.len(),
        }
    }

    /// Adds a record that is not there.
    pub(super) fn add(&mut self, record: Record, fences: Fences<'_>) -> Option<Split> {
        match self {
            Self::Leaf(leaf) => Arc::make_mut(leaf).add_or_split(record, fences),
            Self::Branch(branch) => {
                let branch = Arc::make_mut(branch);
                let at = branch.place(record.key());
                let (child, inner) = branch.fenced_child(at, fences);
                let (key, right) = child.add(record, inner)?;
                branch.add(at, key, right, fences)
            }
        }
    }

    /// Takes out a record that is there.
    pub(super) fn remove(&mut self, key: &[u8], fences: Fences<'_>) -> Option<Record> {
        match self {
            Self::Leaf(leaf) => Arc::make_mut(leaf).remove(key),
            Self::Branch(branch) => {
                let branch = Arc::make_mut(branch);
                let at = branch.place(key);
                let (child, inner) = branch.fenced_child(at, fences);
                let removed = child.remove(key, inner);
                if child.width() < WIDTH_MIN {
                    branch.mend(at.saturating_sub(1), fences);
                }
                removed
            }
        }
    }
}

impl Leaf {
    pub(super) fn new(records: Items<Record>, fences: Fences<'_>) -> Self {
        Self {
            heads: Heads::new(records.iter().map(Record::key), fences),
            records,
        }
    }

    /// Where `key` is, or where it belongs.
    pub(super) fn find(&self, key: &[u8]) -> Result<usize, usize> {
        self.heads.find(&self.records, key, Record::key)
    }

    pub(super) fn get(&self, at: usize) -> Option<&Record> {
        self.records.get(at)
    }

    pub(super) fn records_from(&self, at: usize) -> slice::Iter<'_, Record> {
        self.records[at..].iter()
    }

    pub(super) fn records_before(&self, end: usize) -> slice::Iter<'_, Record> {
        self.records[..end].iter()
    }

    /// Adds a record where it belongs.
    ///
    /// # Errors
    /// The record, if there is no room.
    pub(super) fn add(&mut self, at: usize, record: Record) -> Result<(), Record> {
        if self.records.is_full() {
            return Err(record);
        }
        self.heads.insert(at, record.key());
        self.records.insert(at, record);
        Ok(())
    }

    fn add_or_split(&mut self, record: Record, fences: Fences<'_>) -> Option<Split> {
        let at = self.find(record.key()).unwrap_or_else(|at| at);
        let record = self.add(at, record).err()?;
        let kept = kept_by_split(at);
        let mut lower = mem::take(&mut self.records);
        let mut upper: Items<_> = lower.drain(kept..).collect();
        match at.checked_sub(kept) {
            Some(at) => upper.insert(at, record),
            None => lower.insert(at, record),
        }
        Some(self.split(lower, upper, fences))
    }

    fn remove(&mut self, key: &[u8]) -> Option<Record> {
        let at = self.find(key).ok()?;
        self.heads.heads.remove(at);
        Some(self.records.remove(at))
    }

    /// Becomes a leaf of `lower`, with a neighbour of `upper`.
    fn split(&mut self, lower: Items<Record>, upper: Items<Record>, fences: Fences<'_>) -> Split {
        let key = separator(&lower, &upper);
        *self = Self::new(lower, fences.below(&key));
        let right = Self::new(upper, fences.from(&key));
        (key, Node::Leaf(Arc::new(right)))
    }

    /// Takes what the neighbour `right` has, all or up to `kept` for both together; returns the
    /// rest as its successor.
    fn join(&mut self, right: Self, kept: usize, fences: Fences<'_>) -> Option<Split> {
        let mut lower = mem::take(&mut self.records);
        let upper = pour(&mut lower, right.records, kept);
        if upper.is_empty() {
            *self = Self::new(lower, fences);
            return None;
        }
        Some(self.split(lower, upper, fences))
    }
}

/// Leaves the first `kept` of both in `left`, and returns the others.
fn pour<T>(left: &mut Items<T>, mut right: Items<T>, kept: usize) -> Items<T> {
    match kept.checked_sub(left.len()) {
        Some(more) => {
            left.extend(right.drain(..more));
            right
        }
        None => left.drain(kept..).chain(right).collect(),
    }
}

/// How many items a full node keeps when one more comes at `at`. Keys that come in order leave full
/// nodes behind them.
fn kept_by_split(at: usize) -> usize {
    if at == WIDTH_MAX {
        WIDTH_MAX
    } else {
        WIDTH_MAX / 2
    }
}

/// The shortest key that tells two neighbours apart.
pub(super) fn separator(lower: &[Record], upper: &[Record]) -> Box<[u8]> {
    let below = lower.last().expect("neither is empty").key();
    let above = upper[0].key();
    above[..=common_bytes(below, above)].into()
}

impl Branch {
    pub(super) fn new(keys: Items<Box<[u8]>>, children: Items<Node>, fences: Fences<'_>) -> Self {
        Self {
            heads: Heads::new(keys.iter().map(|key| &**key), fences),
            keys,
            children,
        }
    }

    /// The child to which `key` belongs.
    pub(super) fn place(&self, key: &[u8]) -> usize {
        let found = self.heads.find(&self.keys, key, |known| known);
        found.map_or_else(|at| at, |at| at + 1)
    }

    pub(super) fn child(&self, at: usize) -> &Node {
        &self.children[at]
    }

    pub(super) fn child_mut(&mut self, at: usize) -> &mut Node {
        &mut self.children[at]
    }

    pub(super) fn children_from(&self, at: usize) -> slice::Iter<'_, Node> {
        self.children[at..].iter()
    }

    pub(super) fn children_before(&self, end: usize) -> slice::Iter<'_, Node> {
        self.children[..end].iter()
    }

    /// The place of the child with the highest keys.
    pub(super) fn last_place(&self) -> usize {
        self.children.len() - 1
    }

    pub(super) fn only_child(&self) -> Option<&Node> {
        match &self.children[..] {
            [only] => Some(only),
            _ => None,
        }
    }

    /// What the keys of the child `at` lie between.
    pub(super) fn inner_fences<'a>(
        keys: &'a [Box<[u8]>],
        at: usize,
        fences: Fences<'a>,
    ) -> Fences<'a> {
        let low = at.checked_sub(1).map(|below| &*keys[below]);
        let high = keys.get(at).map(|above| &**above);
        Fences {
            low: low.or(fences.low),
            high: high.or(fences.high),
        }
    }

    fn fenced_child<'a>(&'a mut self, at: usize, fences: Fences<'a>) -> (&'a mut Node, Fences<'a>) {
        let inner = Self::inner_fences(&self.keys, at, fences);
        (&mut self.children[at], inner)
    }

    /// Takes in what the child `at` gave up.
    fn add(&mut self, at: usize, key: Box<[u8]>, child: Node, fences: Fences<'_>) -> Option<Split> {
        if !self.children.is_full() {
            self.heads.insert(at, &key);
            self.keys.insert(at, key);
            self.children.insert(at + 1, child);
            return None;
        }
        // Both have two children at least.
        let kept = kept_by_split(at + 1).min(WIDTH_MAX - 1);
        let (mut lower_keys, mut lower) =
            (mem::take(&mut self.keys), mem::take(&mut self.children));
        let mut upper_keys: Items<_> = lower_keys.drain(kept..).collect();
        let mut upper: Items<_> = lower.drain(kept..).collect();
        match at.checked_sub(kept) {
            Some(at) => {
                upper_keys.insert(at, key);
                upper.insert(at + 1, child);
            }
            None => {
                lower_keys.insert(at, key);
                lower.insert(at + 1, child);
            }
        }
        Some(self.split((lower_keys, lower), (upper_keys, upper), fences))
    }

    /// Becomes a branch of the `lower` keys and children, but for the last key, which is above all
    /// of them; with a neighbour of the `upper` ones.
    fn split(
        &mut self,
        (mut lower_keys, lower): (Items<Box<[u8]>>, Items<Node>),
        (upper_keys, upper): (Items<Box<[u8]>>, Items<Node>),
        fences: Fences<'_>,
    ) -> Split {
        let key = lower_keys.pop().expect("a key between two children");
        *self = Self::new(lower_keys, lower, fences.below(&key));
        let right = Self::new(upper_keys, upper, fences.from(&key));
        (key, Node::Branch(Arc::new(right)))
    }

    /// Takes what the neighbour `right` has, all or up to `kept` for both together; returns the
    /// rest as its successor. `middle` is the key between the two.
    fn join(
        &mut self,
        middle: Box<[u8]>,
        right: Self,
        kept: usize,
        fences: Fences<'_>,
    ) -> Option<Split> {
        let (mut lower_keys, mut lower) =
            (mem::take(&mut self.keys), mem::take(&mut self.children));
        lower_keys.push(middle);
        let upper = pour(&mut lower, right.children, kept);
        if upper.is_empty() {
            lower_keys.extend(right.keys);
            *self = Self::new(lower_keys, lower, fences);
            return None;
        }
        let upper_keys = pour(&mut lower_keys, right.keys, kept);
        Some(self.split((lower_keys, lower), (upper_keys, upper), fences))
    }

    /// Makes the children `at` and `at + 1` one, or shares what they have evenly.
    fn mend(&mut self, at: usize, fences: Fences<'_>) {
        let right = self.children.remove(at + 1);
        let middle = self.keys.remove(at);
        self.heads.heads.remove(at);
        let left = &mut self.children[at];
        let total = left.width() + right.width();
        let kept = if total <= JOINED_MAX {
            total
        } else {
            total / 2
        };
        let both = Self::inner_fences(&self.keys, at, fences);
        let split = match (left, right) {
            (Node::Leaf(left), Node::Leaf(right)) => {
                Arc::make_mut(left).join(Arc::unwrap_or_clone(right), kept, both)
            }
            (Node::Branch(left), Node::Branch(right)) => {
                Arc::make_mut(left).join(middle, Arc::unwrap_or_clone(right), kept, both)
            }
            _ => unreachable!("all leaves are at the same depth"),
        };
        if let Some((key, right)) = split {
            self.heads.insert(at, &key);
            self.keys.insert(at, key);
            self.children.insert(at + 1, right);
        }
    }
}
