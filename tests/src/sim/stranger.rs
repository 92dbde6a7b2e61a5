//! What somebody says to a member who is no member, or not the one it seems to be.
//!
//! Peers are not malicious: nobody here says anything that only a member could, on a link that was
//! accepted as a member's. But a misconfigured member of another cluster, a member that lost its
//! data, a port scanner and a broken client all exist.

use bytes::{BufMut, Bytes, BytesMut};
use raftd::net::Port;
use wire::frame::{self, Kind};
use wire::hello::{Hello, PeerIdentity, Role, VERSION_MAX, VERSION_MIN};
use wire::leadership::HandOver;
use wire::peer::{Message, RequestVote};
use wire::types::{ClusterId, EntryId, Epoch, Incarnation, Index, NodeId, Term};

use super::net::Host;
use super::random::Random;

/// Somebody who calls a member.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stranger {
    /// What is odd about it.
    pub oddity: Oddity,
    /// Where it calls.
    pub port: Port,
    /// Whom it calls.
    to: Host,
    /// Whom it pretends to be.
    as_node: NodeId,
    /// Decides what the oddity leaves open.
    seed: u64,
}

/// What is odd about a stranger.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Oddity {
    /// An id that no member has.
    ForeignNode,
    /// Another cluster's.
    OtherCluster,
    /// Another history's.
    OtherEpoch,
    /// A member's id with another incarnation, as after its data was lost.
    OtherIncarnation,
    /// It wants to reach another member.
    WrongCallee,
    /// It speaks only versions that do not exist yet.
    LaterVersion,
    /// A peer at the clients' port, or the other way round.
    WrongPort,
    /// It asks for votes before it says who it is.
    VoteFirst,
    /// Bytes that are no frame.
    Garbage,
    /// A frame of a kind that does not exist.
    UnknownKind,
    /// A frame with flags that do not exist.
    UnknownFlags,
    /// A frame with a wrong checksum.
    WrongChecksum,
    /// It claims a frame of four gigabytes.
    HugeFrame,
    /// The first half of a hello, and then nothing.
    HalfHello,
    /// A hello with a broken body.
    BrokenHello,
}

impl Oddity {
    const ALL: [Self; 15] = [
        Self::ForeignNode,
        Self::OtherCluster,
        Self::OtherEpoch,
        Self::OtherIncarnation,
        Self::WrongCallee,
        Self::LaterVersion,
        Self::WrongPort,
        Self::VoteFirst,
        Self::Garbage,
        Self::UnknownKind,
        Self::UnknownFlags,
        Self::WrongChecksum,
        Self::HugeFrame,
        Self::HalfHello,
        Self::BrokenHello,
    ];
}

impl Stranger {
    /// Somebody who calls `to`.
    #[must_use]
    pub fn draw(random: &mut Random, members: usize, to: Host) -> Self {
        let oddity = *random.pick(&Oddity::ALL);
        let other = (to as u64 + random.within(1..=members.max(2) as u64 - 1)) % members as u64 + 1;
        Self {
            oddity,
            port: *random.pick(&[Port::Client, Port::Peer, Port::Peer]),
            to,
            as_node: NodeId(if oddity == Oddity::ForeignNode {
                999
            } else {
                other
            }),
            seed: random.bits(),
        }
    }

    /// What it says, to a member of this cluster.
    #[must_use]
    pub fn bytes(&self, cluster: ClusterId, epoch: Epoch) -> Bytes {
        let mut random = Random::new(self.seed);
        let mut out = BytesMut::new();
        match self.oddity {
            Oddity::VoteFirst => self.ask_for_vote(&mut out),
            // Whoever took the hello would hear what only a member may say.
            Oddity::ForeignNode if self.port == Port::Peer => {
                self.hello(cluster, epoch).encode(&mut out);
                self.ask_for_vote(&mut out);
            }
            Oddity::Garbage => {
                for _ in 0..random.within(1..=200) {
                    out.put_u64(random.bits());
                }
            }
            Oddity::UnknownKind => {
                self.hello(cluster, epoch).encode(&mut out);
                out[5] = 0xee;
            }
            Oddity::UnknownFlags => {
                self.hello(cluster, epoch).encode(&mut out);
                out[6] = 0x80;
            }
            Oddity::WrongChecksum => {
                self.hello(cluster, epoch).encode(&mut out);
                out[16] ^= 1;
            }
            Oddity::HugeFrame => out.put_u64(u64::MAX),
            Oddity::HalfHello => {
                self.hello(cluster, epoch).encode(&mut out);
                out.truncate(random.within(1..=out.len() as u64 - 1) as usize);
            }
            Oddity::BrokenHello => {
                let start = frame::begin(&mut out, Kind::Hello, 0);
                out.put_u64(random.bits());
                frame::finish(&mut out, start);
            }
            _ => self.hello(cluster, epoch).encode(&mut out),
        }
        out.freeze()
    }

    fn hello(&self, cluster: ClusterId, epoch: Epoch) -> Hello {
        let mut random = Random::new(self.seed);
        let odd = |oddity| self.oddity == oddity;
        let peer = (self.port == Port::Peer) != odd(Oddity::WrongPort);
        let identity = PeerIdentity {
            node: self.as_node,
            incarnation: Incarnation(random.bits() | 1),
            life: random.bits(),
            name: "stranger".to_owned(),
            client_addr: "10.9.9.9:9".to_owned(),
            virgin: random.below(2) == 0,
            formed: Vec::new(),
        };
        let callee = self.to as u64 + 1 + u64::from(odd(Oddity::WrongCallee));
        let later = u8::from(odd(Oddity::LaterVersion));
        Hello {
            version_min: VERSION_MIN + later,
            version_max: VERSION_MAX + later,
            features: random.bits(),
            cluster: Some(if odd(Oddity::OtherCluster) {
                ClusterId(random.bits().into())
            } else {
                cluster
            }),
            epoch: Some(if odd(Oddity::OtherEpoch) {
                Epoch(random.bits())
            } else {
                epoch
            }),
            group: 0,
            role: if peer {
                Role::Peer {
                    identity,
                    to: NodeId(callee),
                }
            } else {
                Role::Client
            },
        }
    }

    /// A vote in a term that nobody has reached, which would depose everybody.
    fn ask_for_vote(&self, out: &mut BytesMut) {
        let far = RequestVote {
            term: Term(1 << 40),
            last: EntryId {
                term: Term(1 << 39),
                index: Index(1 << 39),
            },
            transfer: Some(HandOver::Asked),
        };
        Message::RequestVote(far).encode(out);
    }
}
