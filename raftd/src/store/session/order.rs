//! Who wrote last: a list through numbered slots.

/// "No slot".
const NONE: u32 = u32::MAX;

#[derive(Clone, Copy, Debug)]
struct Link {
    older: u32,
    newer: u32,
}

/// Slots in the order of their sessions' last writes.
///
/// Invariants: following `newer` from `oldest`, or `older` from `newest`, comes by every slot in the
/// list once; the links of a slot that is not in it mean nothing.
#[derive(Debug)]
pub(super) struct Order {
    links: Vec<Link>,
    oldest: u32,
    newest: u32,
}

impl Order {
    /// An empty list.
    pub(super) fn new() -> Self {
        Self {
            links: Vec::new(),
            oldest: NONE,
            newest: NONE,
        }
    }

    /// The slot that wrote longest ago.
    pub(super) fn oldest(&self) -> Option<u32> {
        (self.oldest != NONE).then_some(self.oldest)
    }

    /// The slot that wrote last.
    pub(super) fn newest(&self) -> Option<u32> {
        (self.newest != NONE).then_some(self.newest)
    }

    /// Adds a slot that is not in the list, as the newest.
    pub(super) fn push(&mut self, slot: u32) {
        let link = Link {
            older: self.newest,
            newer: NONE,
        };
        match self.links.get_mut(slot as usize) {
            Some(place) => *place = link,
            None => {
                assert_eq!(slot as usize, self.links.len(), "slots have no gaps");
                self.links.push(link);
            }
        }
        match self.newest {
            NONE => self.oldest = slot,
            newest => self.links[newest as usize].newer = slot,
        }
        self.newest = slot;
    }

    /// Takes a slot out of the list.
    pub(super) fn remove(&mut self, slot: u32) {
        let Link { older, newer } = self.links[slot as usize];
        match older {
            NONE => self.oldest = newer,
            older => self.links[older as usize].newer = newer,
        }
        match newer {
            NONE => self.newest = older,
            newer => self.links[newer as usize].older = older,
        }
    }
}
