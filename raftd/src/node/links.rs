//! Links between members: which one a message goes out on (rules B1), and whose silence means
//! that the leader is gone (rules B3).

use std::collections::BTreeMap;

use wire::types::{NodeId, Term};

use super::io::LinkId;

/// Which end opened a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Direction {
    /// This node: its requests go out on it, the answers come in.
    Dialled,
    /// The peer: its requests come in on it, the answers go out.
    Accepted,
}

/// The open links.
///
/// Invariant: `leader` names an open link, or none.
#[derive(Debug, Default)]
pub(super) struct Links {
    open: BTreeMap<LinkId, (NodeId, Direction)>,
    /// The link on which the newest `Append` of the highest term came.
    leader: Option<(LinkId, Term)>,
}

impl Links {
    /// A link is open.
    pub(super) fn open(&mut self, link: LinkId, peer: NodeId, direction: Direction) {
        let previous = self.open.insert(link, (peer, direction));
        assert!(previous.is_none(), "link names are never used twice");
    }

    /// A link is gone. Says the term if it carried that term's newest `Append`.
    pub(super) fn close(&mut self, link: LinkId) -> Option<Term> {
        self.open.remove(&link);
        let (leader, term) = self.leader?;
        if leader != link {
            return None;
        }
        self.leader = None;
        Some(term)
    }

    /// Whose link it is.
    pub(super) fn peer(&self, link: LinkId) -> Option<(NodeId, Direction)> {
        self.open.get(&link).copied()
    }

    /// The newest link with this peer in this direction. Members are few, and so are links.
    pub(super) fn to(&self, peer: NodeId, direction: Direction) -> Option<LinkId> {
        let mut links = self.open.iter().rev();
        let (link, _) = links.find(|(_, end)| **end == (peer, direction))?;
        Some(*link)
    }

    /// Whether there is any link with this peer.
    pub(super) fn connected(&self, peer: NodeId) -> bool {
        self.open.values().any(|(open, _)| *open == peer)
    }

    /// All links, with their peers.
    pub(super) fn all(&self) -> impl Iterator<Item = (LinkId, NodeId)> {
        self.open.iter().map(|(link, (peer, _))| (*link, *peer))
    }

    /// All links with this peer.
    pub(super) fn of(&self, peer: NodeId) -> impl Iterator<Item = LinkId> {
        let links = self.open.iter().filter(move |(_, (open, _))| *open == peer);
        links.map(|(link, _)| *link)
    }

    /// The links that this node dialled, with their peers.
    pub(super) fn dialled(&self) -> impl Iterator<Item = (LinkId, NodeId)> {
        let dialled = |(link, (peer, direction)): (&LinkId, &(NodeId, Direction))| {
            (*direction == Direction::Dialled).then_some((*link, *peer))
        };
        self.open.iter().filter_map(dialled)
    }

    /// An `Append` of this term came on the link.
    pub(super) fn carried_append(&mut self, link: LinkId, term: Term) {
        assert!(
            self.open.contains_key(&link),
            "a link that is gone carries nothing"
        );
        if self.leader.is_none_or(|(_, known)| known <= term) {
            self.leader = Some((link, term));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: NodeId = NodeId(1);
    const TWO: NodeId = NodeId(2);

    #[test]
    fn a_closed_link_is_forgotten() {
        let mut links = Links::default();
        for (link, peer) in [(1, ONE), (2, ONE), (3, TWO)] {
            links.open(LinkId(link), peer, Direction::Dialled);
        }
        links.close(LinkId(2));
        assert_eq!(links.to(ONE, Direction::Dialled), Some(LinkId(1)));
        links.close(LinkId(1));
        assert_eq!(links.to(ONE, Direction::Dialled), None);
        assert_eq!((links.connected(ONE), links.connected(TWO)), (false, true));
        assert_eq!(links.all().collect::<Vec<_>>(), [(LinkId(3), TWO)]);
    }

    /// Else the end of a link on which a leader of before spoke would be taken for the leader's end
    /// (rules B3).
    #[test]
    fn the_link_of_the_newest_leader_tells_of_its_end_once() {
        let mut links = Links::default();
        for (link, peer) in [(1, ONE), (2, TWO)] {
            links.open(LinkId(link), peer, Direction::Accepted);
        }
        links.carried_append(LinkId(1), Term(5));
        links.carried_append(LinkId(2), Term(6));
        links.carried_append(LinkId(1), Term(5));
        assert_eq!(links.close(LinkId(1)), None);
        assert_eq!(links.close(LinkId(2)), Some(Term(6)));
        assert_eq!(links.close(LinkId(2)), None);
    }
}
