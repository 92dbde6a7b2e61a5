//! What peers say: messages on links that are opened as they are needed, and hellos.

use bytes::BytesMut;
use raftd::node::io::{Input, Knowledge, LinkId};
use wire::frame::{self, Kind};
use wire::hello::{Hello, PeerIdentity, Role, Welcome};
use wire::peer::Message;
use wire::types::{ClusterId, Incarnation, NodeId};

use super::super::frames::seal;
use super::super::script::Script;
use super::{CLUSTER, Life, incarnation};

impl Life {
    /// The link that requests, or answers, of a peer come in on; opened if there is none.
    pub(super) fn link(&mut self, peer: NodeId, accepted: bool) -> LinkId {
        let known = self
            .links
            .iter()
            .find(|(_, ends)| **ends == (peer, accepted));
        if let Some((link, _)) = known {
            return *link;
        }
        self.serial += 1;
        let link = LinkId(self.serial);
        self.links.insert(link, (peer, accepted));
        self.turn(vec![match accepted {
            true => Input::LinkAccepted { link, peer },
            false => Input::LinkDialled { link, peer },
        }]);
        link
    }

    /// A message of some other member, nearly always on a link that it belongs to.
    pub(super) fn receive(&mut self, script: &mut Script<'_>, message: Message) {
        let place = script.below(self.config.members.len());
        let peer = self.config.members[place].0;
        let link = match script.below(16) {
            0 => LinkId(script.near(self.serial)),
            1 => self.link(peer, message.is_answer()),
            _ => self.link(peer, !message.is_answer()),
        };
        self.turn(vec![Input::Peer { link, message }]);
    }

    pub(super) fn hello(&mut self, script: &mut Script<'_>) {
        let payload = script.bytes(512);
        let kind = script.pick(&[Kind::Hello, Kind::Welcome]);
        let bytes = seal(kind, 0, payload);
        let frame = frame::parse(&bytes, 1 << 20).expect("it is sealed");
        let frame = frame.expect("it is whole");
        let place = script.below(self.config.members.len());
        let peer = self.config.members[place].0;
        if let Ok(hello) = Hello::decode(&frame) {
            self.check_hello(&hello);
        } else if let Ok(welcome) = Welcome::decode(&frame) {
            self.check_welcome(peer, &welcome);
        } else {
            let identity = self.identity(script, peer);
            let mut hello = self.node.hello_to(self.config.id).0;
            let to = NodeId(script.near(self.config.id.0));
            hello.role = Role::Peer { identity, to };
            hello.cluster = script.pick(&[Some(CLUSTER), None, Some(ClusterId(1))]);
            if let Some(mut welcome) = self.check_hello(&hello) {
                welcome.identity = self.identity(script, peer);
                self.check_welcome(peer, &welcome);
            }
        }
        self.turn(Vec::new());
    }

    fn identity(&self, script: &mut Script<'_>, peer: NodeId) -> PeerIdentity {
        let record = self
            .config
            .members
            .iter()
            .map(|(id, _)| (*id, incarnation(*id)));
        let virgin = script.flag();
        PeerIdentity {
            node: NodeId(script.near(peer.0)),
            incarnation: Incarnation(script.near(incarnation(peer).0)),
            life: u64::from(script.byte()),
            name: String::from_utf8_lossy(script.bytes(8)).into_owned(),
            client_addr: String::from_utf8_lossy(script.bytes(8)).into_owned(),
            virgin,
            formed: if virgin { Vec::new() } else { record.collect() },
        }
    }

    fn check_hello(&mut self, hello: &Hello) -> Option<Welcome> {
        match self.node.check_hello(hello) {
            Ok(welcome) => {
                welcome.encode(&mut BytesMut::new());
                Some(welcome)
            }
            Err(error) => {
                assert!(!error.to_string().is_empty());
                None
            }
        }
    }

    fn check_welcome(&mut self, peer: NodeId, welcome: &Welcome) {
        let asked: Knowledge = self.node.hello_to(peer).1;
        if let Err(error) = self.node.check_welcome(peer, asked, welcome) {
            assert!(!error.to_string().is_empty());
        }
    }
}
