//! Links between the simulated nodes: dialled, cut, broken and healed.

use std::time::Duration;

use bytes::BytesMut;
use raftd::node::io::{Input, Knowledge, LinkId};
use wire::error::Error;
use wire::frame;
use wire::hello::{Hello, Welcome};
use wire::limits::HELLO_FRAME_BYTES_MAX;
use wire::peer::Message;
use wire::types::NodeId;

use super::{Cluster, Happening, Link, ms};

impl Cluster {
    /// Nothing gets through between any two.
    pub(crate) fn cut_all(&mut self) {
        for id in self.ids() {
            self.isolate(id);
        }
    }

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

    /// Everything gets through between the two again. Links that were open stay as they are.
    pub(crate) fn uncut(&mut self, a: NodeId, b: NodeId) {
        self.cut.remove(&(a, b));
        self.cut.remove(&(b, a));
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

    /// A message of `from` arrives that others have overtaken: it was on a link of before, say.
    /// Answers come in where the questions go out.
    pub(crate) fn arrives_late(&mut self, from: NodeId, to: NodeId, message: Message) {
        let ends = match message.is_answer() {
            true => (to, from),
            false => (from, to),
        };
        let mut links = self.links.iter();
        let found = links.find(|(_, link)| (link.from, link.to) == ends);
        let (link, _) = found.expect("there is such a link");
        let link = *link;
        self.turn(to, vec![Input::Peer { link, message }]);
    }

    /// The links that a node has dialled, by their names.
    pub(crate) fn dialled(&self, id: NodeId) -> Vec<LinkId> {
        let links = self.links.iter().filter(|(_, link)| link.from == id);
        links.map(|(link, _)| *link).collect()
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

    /// The caller closes its link and dials again at once.
    pub(super) fn renew_link(&mut self, caller: NodeId, id: LinkId) {
        // If it broke a moment ago, it is dialled again anyway.
        let Some(Link { from, to }) = self.links.remove(&id) else {
            return;
        };
        assert_eq!(from, caller, "the caller renews a link");
        if self.is_up(to) {
            self.later(
                self.options.link_delay,
                Happening::Closed { link: id, at: to },
            );
        }
        self.dial_later(from, to, Duration::ZERO);
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
        let answer = match self.greet(from, to) {
            Ok(answer) => answer,
            Err(error) => {
                if error == Error::Removed {
                    self.turn(from, vec![Input::RemovedBy(to)]);
                }
                return self.dial_later(from, to, ms(10));
            }
        };
        self.serial += 1;
        let link = LinkId(self.serial);
        self.links.insert(link, Link { from, to });
        self.turn(to, vec![Input::LinkAccepted { link, peer: from }]);
        self.later(self.options.link_delay, Happening::Welcome { link, answer });
    }

    /// The answer to the hello on a link arrives, if nothing happened to either meanwhile.
    pub(super) fn welcomed(&mut self, link: LinkId, answer: &Answer) {
        let Some(Link { from, to }) = self.links.get(&link).copied() else {
            return;
        };
        if self.cut.contains(&(to, from)) || self.welcome(from, to, answer).is_err() {
            return self.break_link(link, Some(from));
        }
        self.turn(from, vec![Input::LinkDialled { link, peer: to }]);
    }

    /// `from` says hello to `to`; the answer is on its way.
    pub(crate) fn greet(&mut self, from: NodeId, to: NodeId) -> Result<Answer, Error> {
        let (hello, knowledge) = self.node(from).hello_to(to);
        let welcome = self.check_hello(to, &through_hello(&hello))?;
        Ok(Answer {
            knowledge,
            welcome: through_welcome(&welcome),
        })
    }

    /// The answer to a hello that `from` said to `to` arrives.
    pub(crate) fn welcome(
        &mut self,
        from: NodeId,
        to: NodeId,
        answer: &Answer,
    ) -> Result<(), Error> {
        let Answer { knowledge, welcome } = answer;
        let verdict = self.node_mut(from).check_welcome(to, *knowledge, welcome);
        self.turn(from, Vec::new());
        verdict
    }
}

/// A welcome on its way.
#[derive(Debug)]
pub(crate) struct Answer {
    knowledge: Knowledge,
    pub(crate) welcome: Welcome,
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
