//! When to dial which peer: each node dials every other (rules B1).

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;

use raft::Instant;
use wire::error::Error;
use wire::types::NodeId;

use crate::fatal::{ExitStatus, Fatal};
use crate::resolve::Resolved;

/// The first pause after a failure; each further one is twice as long.
const BACK_OFF_MIN: Duration = Duration::from_millis(10);
/// The longest pause.
const BACK_OFF_MAX: Duration = Duration::from_secs(1);
/// A name that takes longer counts as a failure.
const RESOLVE_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Dial at this time.
    Waiting(Instant),
    /// The resolver was asked; it has until this time.
    Resolving(Instant),
    /// A connection is under way; the driver's name of it, once there is one.
    Dialling(Option<u64>),
    /// The link is open.
    Up,
}

#[derive(Debug)]
struct Peer {
    id: NodeId,
    addr: String,
    state: State,
    back_off: Duration,
    /// Addresses not tried yet since the name was last resolved.
    candidates: VecDeque<SocketAddr>,
    /// When the link was last renewed.
    renewed: Option<Instant>,
    /// When an attempt was last given up for a new one.
    given_up: Option<Instant>,
    /// What was last logged of it, up or down: one line per outage and reason to refuse this node,
    /// not per attempt.
    logged: Option<bool>,
    /// Why the peer refuses this node, since its last welcome.
    rejection: Option<Error>,
}

impl Peer {
    /// Due at once.
    fn new(id: NodeId, addr: String) -> Self {
        Self {
            id,
            addr,
            state: State::Waiting(Instant::default()),
            back_off: BACK_OFF_MIN,
            candidates: VecDeque::new(),
            renewed: None,
            given_up: None,
            logged: None,
            rejection: None,
        }
    }
}

/// What to do for a peer now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Due {
    /// Connect.
    Dial(NodeId, SocketAddr),
    /// Ask the resolver.
    Resolve(NodeId, String),
}

/// The peers' turns.
///
/// Invariants:
/// - a peer has at most one connection dialled by this node, or being dialled;
/// - pauses grow from `BACK_OFF_MIN` to `BACK_OFF_MAX`, each shortened at random by up to a
///   half, and start over once a link is up.
#[derive(Debug)]
pub struct Dialler {
    peers: Vec<Peer>,
    /// xorshift64*: jitter needs no more.
    random: u64,
}

impl Dialler {
    /// All are due at once.
    pub fn new(peers: impl IntoIterator<Item = (NodeId, String)>, seed: u64) -> Self {
        let peers = peers.into_iter().map(|(id, addr)| Peer::new(id, addr));
        Self {
            peers: peers.collect(),
            random: seed | 1,
        }
    }

    /// These are the peers from now on, each at its address. Returns those of before whose
    /// connections are of no use any more: they are peers no more, or are elsewhere.
    #[must_use]
    pub fn set_peers(&mut self, peers: Vec<(NodeId, String)>) -> Vec<NodeId> {
        let mut before = std::mem::take(&mut self.peers);
        for (id, addr) in peers {
            let stays = before
                .iter()
                .position(|peer| peer.id == id && peer.addr == addr);
            self.peers.push(match stays {
                Some(place) => before.swap_remove(place),
                None => Peer::new(id, addr),
            });
        }
        before.into_iter().map(|peer| peer.id).collect()
    }

    /// How many members there are, this node included.
    pub fn members(&self) -> usize {
        self.peers.len() + 1
    }

    /// When [`Dialler::next_due`] is worth a call.
    pub fn deadline(&self) -> Option<Instant> {
        let times = self.peers.iter().filter_map(|peer| match peer.state {
            State::Waiting(until) | State::Resolving(until) => Some(until),
            State::Dialling(_) | State::Up => None,
        });
        times.min()
    }

    /// The next thing to do. The caller tells how it went.
    pub fn next_due(&mut self, now: Instant) -> Option<Due> {
        let late = |peer: &&Peer| matches!(peer.state, State::Resolving(until) if until <= now);
        while let Some(id) = self.peers.iter().find(late).map(|peer| peer.id) {
            self.failed(id, now, "the name was not resolved in time");
        }
        let peer = self
            .peers
            .iter_mut()
            .find(|peer| matches!(peer.state, State::Waiting(until) if until <= now))?;
        let literal = peer.addr.parse().ok();
        match literal.or_else(|| peer.candidates.pop_front()) {
            Some(addr) => {
                peer.state = State::Dialling(None);
                Some(Due::Dial(peer.id, addr))
            }
            None => {
                peer.state = State::Resolving(now + RESOLVE_TIMEOUT);
                Some(Due::Resolve(peer.id, peer.addr.clone()))
            }
        }
    }

    /// The resolver's answer. One that comes too late is used all the same, unless the peer has
    /// another name by then.
    pub fn resolved(&mut self, answer: Resolved, now: Instant) {
        let asked = |peer: &&mut Peer| peer.addr == answer.name;
        let Some(peer) = self.peers.iter_mut().find(asked) else {
            return;
        };
        match answer.addresses {
            Ok(addresses) => {
                peer.candidates = addresses.into();
                if matches!(peer.state, State::Resolving(_)) {
                    peer.state = State::Waiting(now);
                }
            }
            Err(why) if matches!(peer.state, State::Resolving(_)) => {
                let id = peer.id;
                self.failed(id, now, &why);
            }
            Err(_) => {}
        }
    }

    /// The attempt to reach `id` is under way as this `connection`.
    pub fn dialled(&mut self, id: NodeId, connection: u64) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == id) {
            peer.state = State::Dialling(Some(connection));
        }
    }

    /// The link with `id` is up.
    pub fn succeeded(&mut self, id: NodeId) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == id) {
            peer.state = State::Up;
            peer.back_off = BACK_OFF_MIN;
            peer.rejection = None;
            if peer.logged.replace(true) != Some(true) {
                log::info!("peer link up peer={id} addr={}", peer.addr);
            }
        }
    }

    /// The link was closed so that a new one, with a new hello, takes its place: at once, unless
    /// that was done a moment ago, as when two nodes answer in turn under one address.
    pub fn renew(&mut self, id: NodeId, now: Instant) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == id) {
            let earliest = peer.renewed.map_or(now, |at| at + BACK_OFF_MAX);
            let due = earliest.max(now);
            peer.renewed = Some(due);
            peer.state = State::Waiting(due);
        }
    }

    /// The peer dialled this node: it is there, so a pause before the next attempt would only keep
    /// a restarted member waiting for its leader. So would an attempt that began when it was not
    /// there, whose packets are lost: that connection is returned, to be dropped and dialled anew,
    /// but not over and over.
    #[must_use]
    pub fn heard(&mut self, id: NodeId, now: Instant) -> Option<u64> {
        let peer = self.peers.iter_mut().find(|peer| peer.id == id)?;
        match peer.state {
            State::Waiting(until) => {
                peer.state = State::Waiting(now.min(until));
                peer.back_off = BACK_OFF_MIN;
                None
            }
            State::Dialling(attempt) => {
                let again = peer.given_up.is_some_and(|at| now < at + BACK_OFF_MAX);
                let attempt = attempt.filter(|_| !again)?;
                peer.given_up = Some(now);
                peer.state = State::Waiting(now);
                Some(attempt)
            }
            State::Resolving(_) | State::Up => None,
        }
    }

    /// The peer said why it refuses this node. That is told once more than that the link is down.
    pub fn refused(&mut self, id: NodeId, error: &Error) {
        if let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == id)
            && peer.rejection.as_ref() != Some(error)
        {
            peer.rejection = Some(error.clone());
            peer.logged = None;
        }
    }

    /// Why this node must end: a majority of the members refuses what it is. The word of fewer
    /// is no reason, for they may be the ones that are wrong. So is whoever answers at the address
    /// of another.
    pub fn rejected(&self) -> Option<Fatal> {
        let mut rejections = self.peers.iter().filter_map(|peer| {
            let error = peer.rejection.as_ref()?;
            let foreign = matches!(
                error,
                Error::WrongCluster { .. } | Error::WrongEpoch | Error::WrongIncarnation { .. }
            );
            foreign.then_some((peer, error))
        });
        if rejections.clone().count() <= self.members() / 2 {
            return None;
        }
        let (peer, error) = rejections.next()?;
        let remedy = match error {
            Error::WrongIncarnation { .. } => {
                "this data directory is not the one that the cluster knows: bring that one back, \
                 or have this node replaced (raftctl replace-peer)"
            }
            Error::WrongEpoch => {
                "the cluster was made anew from one member (raftctl recover apply): add this node \
                 to it with an empty data directory (raftctl add-peer)"
            }
            _ => {
                "the data directory that it had in this cluster; a new cluster needs the same \
                 --initial-cluster and --cluster-token on every member, and an empty data \
                 directory on this one"
            }
        };
        let what = format!("a majority of the cluster refuses this node: {error}");
        let place = format!("peer {} at {}", peer.id, peer.addr);
        Some(
            Fatal::new(ExitStatus::Config, what)
                .at(place)
                .remedy(remedy),
        )
    }

    /// The attempt failed, or the link is gone: dial again after a pause.
    pub fn failed(&mut self, id: NodeId, now: Instant, why: &str) {
        // The upper bits of xorshift64* are the good ones.
        self.random ^= self.random >> 12;
        self.random ^= self.random << 25;
        self.random ^= self.random >> 27;
        let share = (self.random.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 40) as u32;
        let Some(peer) = self.peers.iter_mut().find(|peer| peer.id == id) else {
            return;
        };
        let half = peer.back_off / 2;
        let jitter = half.mul_f64(f64::from(share) / f64::from(1_u32 << 24));
        peer.state = State::Waiting(now + half + jitter);
        peer.back_off = (peer.back_off * 2).min(BACK_OFF_MAX);
        if peer.logged.replace(false) != Some(false) {
            log::warn!("peer link down peer={id} addr={} why={why:?}", peer.addr);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: NodeId = NodeId(2);

    fn dialler(addr: &str) -> Dialler {
        Dialler::new([(A, addr.to_owned())], 7)
    }

    fn at(ms: u64) -> Instant {
        Instant::default() + Duration::from_millis(ms)
    }

    #[test]
    fn pauses_double_up_to_a_second_and_start_over_after_a_success() {
        let mut dialler = dialler("127.0.0.1:7");
        let mut now = at(0);
        for expected_ms in [10, 20, 40, 80, 160, 320, 640, 1000, 1000] {
            assert!(matches!(dialler.next_due(now), Some(Due::Dial(A, _))));
            assert_eq!(dialler.next_due(now), None, "one connection at a time");
            assert_eq!(dialler.deadline(), None);
            dialler.failed(A, now, "refused");
            let pause = dialler.deadline().unwrap().since(now);
            let longest = Duration::from_millis(expected_ms);
            assert!(
                pause >= longest / 2 && pause <= longest,
                "{pause:?} of {longest:?}"
            );
            assert_eq!(dialler.next_due(now), None);
            now = dialler.deadline().unwrap();
        }
        assert!(dialler.next_due(now).is_some());
        dialler.succeeded(A);
        dialler.failed(A, now, "closed");
        assert!(dialler.deadline().unwrap().since(now) <= BACK_OFF_MIN);
    }

    #[test]
    fn a_peer_that_dials_is_dialled_at_once() {
        let mut dialler = dialler("127.0.0.1:7");
        for ms in 0..9 {
            dialler.failed(A, at(ms), "refused");
        }
        assert_eq!(dialler.next_due(at(10)), None);
        assert_eq!(dialler.heard(A, at(10)), None);
        assert!(matches!(dialler.next_due(at(10)), Some(Due::Dial(A, _))));
        dialler.succeeded(A);
        assert_eq!(dialler.heard(A, at(11)), None, "it is reached");
        assert_eq!(dialler.next_due(at(11)), None, "one connection at a time");
    }

    #[test]
    fn an_attempt_that_a_restarted_peer_may_never_see_is_dropped_but_not_over_and_over() {
        let mut dialler = dialler("127.0.0.1:7");
        assert!(dialler.next_due(at(0)).is_some());
        dialler.dialled(A, 17);
        assert_eq!(dialler.heard(A, at(900)), Some(17));
        assert!(matches!(dialler.next_due(at(900)), Some(Due::Dial(A, _))));
        dialler.dialled(A, 18);
        assert_eq!(dialler.heard(A, at(1_899)), None);
        assert_eq!(dialler.next_due(at(1_899)), None);
        assert_eq!(dialler.heard(A, at(1_900)), Some(18));
        assert!(matches!(dialler.next_due(at(1_900)), Some(Due::Dial(A, _))));
        dialler.succeeded(A);
        dialler.renew(A, at(1_901));
        let due = dialler.next_due(at(1_901));
        assert!(
            matches!(due, Some(Due::Dial(A, _))),
            "renewing is another matter"
        );
    }

    #[test]
    fn a_renewed_link_is_dialled_at_once_but_not_over_and_over() {
        let mut dialler = dialler("127.0.0.1:7");
        assert!(dialler.next_due(at(0)).is_some());
        dialler.succeeded(A);
        dialler.renew(A, at(5));
        assert!(matches!(dialler.next_due(at(5)), Some(Due::Dial(A, _))));
        dialler.succeeded(A);
        assert_eq!(dialler.peers[0].logged, Some(true));
        dialler.renew(A, at(6));
        assert_eq!(dialler.next_due(at(1_004)), None);
        assert!(matches!(dialler.next_due(at(1_005)), Some(Due::Dial(A, _))));
        dialler.failed(A, at(1_006), "refused");
        assert_eq!(dialler.peers[0].logged, Some(false));
    }

    #[test]
    fn every_address_of_a_name_is_tried_before_it_is_resolved_again() {
        let mut dialler = dialler("db.example:7");
        assert_eq!(
            dialler.next_due(at(0)),
            Some(Due::Resolve(A, "db.example:7".into()))
        );
        let addresses: Vec<SocketAddr> = ["127.0.0.1:1", "127.0.0.2:1"]
            .map(|a| a.parse().unwrap())
            .into();
        let answer = Resolved {
            name: "db.example:7".into(),
            addresses: Ok(addresses.clone()),
        };
        dialler.resolved(answer, at(1));
        assert_eq!(dialler.next_due(at(1)), Some(Due::Dial(A, addresses[0])));
        dialler.failed(A, at(2), "refused");
        assert_eq!(dialler.next_due(at(100)), Some(Due::Dial(A, addresses[1])));
        dialler.failed(A, at(100), "refused");
        assert!(matches!(dialler.next_due(at(200)), Some(Due::Resolve(..))));
    }

    #[test]
    fn what_is_heard_of_a_peers_old_name_is_not_used() {
        let mut dialler = dialler("old.example:7");
        assert!(dialler.next_due(at(0)).is_some());
        let peers = vec![(A, "new.example:7".to_owned())];
        assert_eq!(dialler.set_peers(peers), [A]);
        let asked = Due::Resolve(A, "new.example:7".into());
        assert_eq!(dialler.next_due(at(1)), Some(asked));
        let mut answer = |name: &str, host: u8| {
            let resolved = Resolved {
                name: name.into(),
                addresses: Ok(vec![SocketAddr::from(([127, 0, 0, host], 7))]),
            };
            dialler.resolved(resolved, at(2));
            dialler.next_due(at(2))
        };
        assert_eq!(answer("old.example:7", 1), None);
        let addr = SocketAddr::from(([127, 0, 0, 2], 7));
        assert_eq!(answer("new.example:7", 2), Some(Due::Dial(A, addr)));
    }

    #[test]
    fn who_stays_a_peer_stays_connected() {
        const B: NodeId = NodeId(3);
        let mut dialler = dialler("127.0.0.1:7");
        assert!(dialler.next_due(at(0)).is_some());
        dialler.succeeded(A);
        let with = |b: &str| vec![(A, "127.0.0.1:7".to_owned()), (B, b.to_owned())];
        let addr = |port: u16| SocketAddr::from(([127, 0, 0, 1], port));
        assert_eq!(dialler.set_peers(with("127.0.0.1:8")), []);
        assert_eq!(dialler.members(), 3);
        assert_eq!(dialler.next_due(at(1)), Some(Due::Dial(B, addr(8))));
        dialler.succeeded(B);
        assert_eq!(dialler.set_peers(with("127.0.0.1:9")), [B]);
        assert_eq!(dialler.next_due(at(2)), Some(Due::Dial(B, addr(9))));
        assert_eq!(dialler.set_peers(Vec::new()), [A, B]);
        assert_eq!(dialler.next_due(at(3)), None);
    }

    #[test]
    fn only_a_majority_that_refuses_this_node_ends_it() {
        let peers = [2, 3].map(|id| (NodeId(id), format!("127.0.0.1:{id}")));
        let mut dialler = Dialler::new(peers, 7);
        let wrong = Error::WrongIncarnation {
            reason: "another".into(),
        };
        let elsewhere = Error::WrongNode {
            reason: "this is node 3, not node 2".into(),
        };
        dialler.refused(NodeId(2), &elsewhere);
        dialler.refused(NodeId(3), &elsewhere);
        assert_eq!(dialler.rejected(), None, "they are wrong themselves");
        dialler.refused(NodeId(3), &Error::ShuttingDown);
        dialler.refused(NodeId(2), &wrong);
        assert_eq!(dialler.rejected(), None, "one of three");
        dialler.refused(NodeId(3), &Error::ShuttingDown);
        assert_eq!(dialler.rejected(), None, "a refusal for another reason");
        dialler.refused(NodeId(3), &wrong);
        assert_eq!(dialler.rejected().unwrap().status, ExitStatus::Config);
        dialler.succeeded(NodeId(2));
        assert_eq!(dialler.rejected(), None);
    }

    #[test]
    fn a_node_of_before_a_recovery_is_told_to_join_anew() {
        let peers = [2, 3].map(|id| (NodeId(id), format!("127.0.0.1:{id}")));
        let mut dialler = Dialler::new(peers, 7);
        dialler.refused(NodeId(2), &Error::WrongEpoch);
        dialler.refused(NodeId(3), &Error::WrongEpoch);
        let remedy = dialler.rejected().unwrap().to_string();
        assert!(remedy.contains("raftctl add-peer"), "{remedy}");
    }

    #[test]
    fn a_name_that_takes_too_long_or_is_unknown_is_asked_for_again() {
        let mut dialler = dialler("db.example:7");
        assert!(dialler.next_due(at(0)).is_some());
        assert_eq!(dialler.deadline(), Some(at(5000)));
        assert_eq!(dialler.next_due(at(5000)), None, "late: a pause begins");
        let answer = Resolved {
            name: "db.example:7".into(),
            addresses: Err("unknown".into()),
        };
        dialler.resolved(answer, at(5001));
        assert!(matches!(dialler.next_due(at(6000)), Some(Due::Resolve(..))));
    }
}
