//! Links between the simulated nodes: dialled, cut, broken and healed.

use std::time::Duration;

use bytes::BytesMut;
use raftd::node::io::{Input, LinkId};
use wire::frame;
use wire::hello::{Hello, Welcome};
use wire::limits::HELLO_FRAME_BYTES_MAX;
use wire::types::NodeId;

use super::{Cluster, Happening, Link, ms};

impl Cluster {
    /// Nothing gets through between the two, in both directions; no end is told.
    pub(crate) fn cut(&mut self, a: NodeId, b: NodeId) {
        self.cut.insert((a, b));
        self.cut.insert((b, a));
    }

    /// Cuts a node off from all others.
    pub(crate) fn isolate(&mut self, id: NodeId) {
        for other in self.ids() {
            if other != id {
                self.cut(id, other);
            }
        }
    }

    /// Everything gets through again, over new links.
    pub(crate) fn heal(&mut self) {
        let cut = std::mem::take(&mut self.cut);
        let stale = self
            .links
            .iter()
            .filter(|(_, link)| cut.contains(&(link.from, link.to)));
        let stale: Vec<_> = stale.map(|(id, _)| *id).collect();
        for link in stale {
            self.break_link(link, None);
        }
    }

    pub(super) fn links_of(&self, id: NodeId) -> Vec<LinkId> {
        let of = |link: &Link| link.from == id || link.to == id;
        self.links
            .iter()
            .filter(|(_, link)| of(link))
            .map(|(id, _)| *id)
            .collect()
    }

    /// Both ends that are up see the link closed by the other; its caller dials again.
    pub(super) fn break_link(&mut self, id: LinkId, by: Option<NodeId>) {
        let Some(link) = self.links.remove(&id) else {
            return;
        };
        for at in [link.from, link.to] {
            if Some(at) != by && self.is_up(at) {
                self.later(self.options.link_delay, Happening::Closed { link: id, at });
            }
        }
        self.dial_later(link.from, link.to, ms(10));
    }

    pub(super) fn dial_later(&mut self, from: NodeId, to: NodeId, after: Duration) {
        let life = self.members[&from].life;
        let after = after + self.options.link_delay;
        self.later(after, Happening::Dial { from, life, to });
    }

    pub(super) fn later(&mut self, after: Duration, happening: Happening) {
        self.serial += 1;
        self.happenings
            .insert((self.now + after, self.serial), happening);
    }

    pub(super) fn dial(&mut self, from: NodeId, life: u64, to: NodeId) {
        let known = self
            .links
            .values()
            .any(|link| (link.from, link.to) == (from, to));
        if known || !self.is_up(from) || self.members[&from].life != life {
            return;
        }
        if !self.is_up(to) || self.cut.contains(&(from, to)) || self.cut.contains(&(to, from)) {
            return self.dial_later(from, to, ms(10));
        }
        let hello = through_hello(&self.node(from).hello_to(to));
        let callee = self.node_mut(to);
        let welcome = match callee.check_hello(&hello) {
            Ok(welcome) => through_welcome(&welcome),
            Err(_) => return self.dial_later(from, to, ms(10)),
        };
        if self.node_mut(from).check_welcome(to, &welcome).is_err() {
            return self.dial_later(from, to, ms(10));
        }
        self.serial += 1;
        let link = LinkId(self.serial);
        self.links.insert(link, Link { from, to });
        self.turn(to, vec![Input::LinkAccepted { link, peer: from }]);
        self.turn(from, vec![Input::LinkDialled { link, peer: to }]);
    }
}

fn through_hello(hello: &Hello) -> Hello {
    let mut bytes = BytesMut::new();
    hello.encode(&mut bytes);
    let frame = frame::parse(&bytes, HELLO_FRAME_BYTES_MAX)
        .unwrap()
        .unwrap();
    Hello::decode(&frame).unwrap()
}

fn through_welcome(welcome: &Welcome) -> Welcome {
    let mut bytes = BytesMut::new();
    welcome.encode(&mut bytes);
    let frame = frame::parse(&bytes, HELLO_FRAME_BYTES_MAX)
        .unwrap()
        .unwrap();
    Welcome::decode(&frame).unwrap()
}
