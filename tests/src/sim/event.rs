//! What is to happen, in the order of time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use raft::Instant;

/// A heap of happenings. Those of the same time happen in the order in which they were planned,
/// so that nothing depends on the heap's insides.
#[derive(Debug)]
pub struct Events<E> {
    heap: BinaryHeap<Planned<E>>,
    serial: u64,
}

#[derive(Debug)]
struct Planned<E> {
    at: Instant,
    serial: u64,
    event: E,
}

impl<E> Default for Events<E> {
    fn default() -> Self {
        Self {
            heap: BinaryHeap::new(),
            serial: 0,
        }
    }
}

impl<E> Events<E> {
    /// Lets it happen at this time.
    pub fn plan(&mut self, at: Instant, event: E) {
        let serial = self.serial;
        self.serial += 1;
        self.heap.push(Planned { at, serial, event });
    }

    /// When the next happens.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        self.heap.peek().map(|planned| planned.at)
    }

    /// The next, if it happens by `until`.
    pub fn pop(&mut self, until: Instant) -> Option<E> {
        if self.next_at()? > until {
            return None;
        }
        self.heap.pop().map(|planned| planned.event)
    }

    /// How many are planned.
    #[must_use]
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether none is planned.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }
}

/// The earliest is the greatest: that one a heap gives first.
impl<E> Ord for Planned<E> {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.serial).cmp(&(self.at, self.serial))
    }
}

impl<E> PartialOrd for Planned<E> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<E> PartialEq for Planned<E> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl<E> Eq for Planned<E> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_earliest_comes_first_and_equals_in_the_order_of_planning() {
        let mut events = Events::default();
        for (at, event) in [(5, 'b'), (3, 'a'), (5, 'c'), (9, 'd')] {
            events.plan(Instant(at), event);
        }
        assert_eq!(events.next_at(), Some(Instant(3)));
        assert_eq!(events.pop(Instant(2)), None);
        let all: String = std::iter::from_fn(|| events.pop(Instant(8))).collect();
        assert_eq!(all, "abc");
        assert_eq!((events.len(), events.is_empty()), (1, false));
    }
}
