//! Who changes the members: an operator with wishes, and the machines that join by them.
//!
//! All is asked through connections of clients, by the real codec: [`Request::ChangeMembers`] and
//! [`Request::TransferLeader`] once each, [`Request::Join`] again and again, as the daemon does. The
//! operator is as careless as people are: it wishes while members are down, asks the leader to remove
//! itself, forgets to start whom it added, and does not wait for an answer. What it is told must be
//! what it asked for (`change.rs`).

mod change;

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use raft::Instant;
use wire::client::{Admitted, Reply, Request};
use wire::error::Error;
use wire::frame::{self, Kind};
use wire::hello::{Hello, Role, VERSION_MAX, VERSION_MIN};
use wire::limits::CLIENT_FRAME_BYTES_MAX;
use wire::membership::{Membership, Suffrage};
use wire::types::{Incarnation, NodeId};

use self::change::Change;
use super::member::{host_at, name_of, peer_addr};
use super::net::Host;
use super::plan::Changes;
use super::random::{MILLION, Random};

/// No more members than this are wished for.
const MEMBERS_MOST: usize = 9;
/// Nobody waits longer for an answer.
const ANSWER_MAX: Duration = Duration::from_secs(4);
/// Between two questions of a machine that joins.
const JOIN_PAUSE: Duration = Duration::from_millis(300);
/// A machine that nobody admits stops asking.
const JOIN_MAX: Duration = Duration::from_secs(30);

/// What is done for the operator and the machines that join, in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Dial a member, under this number, and say all this.
    Call(u64, Host, Bytes),
    /// Hang up.
    HangUp(u64),
    /// The cluster admits this machine.
    Admit(Host, Admitted, Incarnation),
}

/// What the operator sees of the cluster.
#[derive(Clone, Debug)]
pub struct View {
    /// Who leads, if anybody does.
    pub leader: Option<Host>,
    /// The membership in force there, or the committed one.
    pub membership: Membership,
}

/// How a wish ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each is what its name says")]
pub enum End {
    Added,
    Promoted,
    Demoted,
    Removed,
    Replaced,
    Updated,
    Transferred,
    TransferFailed,
    Admitted,
    /// Another machine did not get in under a member's name.
    KeptOut,
    /// The cluster said why not.
    Refused,
    /// Any other error, or no answer.
    Open,
}

/// What somebody waits for.
#[derive(Clone, Debug)]
enum Errand {
    Change(Change),
    Transfer,
    Join(Host),
    /// Another machine asks to join as this member.
    Intrude(NodeId),
}

#[derive(Debug)]
struct Call {
    errand: Errand,
    since: Instant,
    input: BytesMut,
}

/// A machine that wants to join.
#[derive(Debug)]
struct Newcomer {
    incarnation: Incarnation,
    ask_at: Instant,
    until: Instant,
    /// Whom to ask; anybody if nobody said.
    hint: Option<Host>,
}

/// The operator.
///
/// Invariants:
/// - each machine joins once at most, and asks for itself only while it was not admitted;
/// - a call ends with its first answer, or after `ANSWER_MAX`;
/// - an answer to a change tells that change and no other; no id is given to two machines.
#[derive(Debug)]
pub struct Operator {
    changes: Changes,
    random: Random,
    /// The cluster began with so many, on the first machines.
    members: usize,
    /// Machines on which nobody was added yet, the next one last.
    unused: Vec<Host>,
    newcomers: BTreeMap<Host, Newcomer>,
    calls: BTreeMap<u64, Call>,
    serial: u64,
    wish_at: Instant,
    /// Nothing is wished any more.
    retired: bool,
    /// How wishes ended.
    pub ends: BTreeMap<End, u64>,
    /// The first answer that must not be.
    breach: Option<String>,
}

impl Operator {
    /// One of a cluster of so many members.
    #[must_use]
    pub fn new(changes: Changes, members: usize, random: Random) -> Self {
        Self {
            changes,
            random,
            members,
            unused: (members..members + changes.spares).rev().collect(),
            newcomers: BTreeMap::new(),
            calls: BTreeMap::new(),
            serial: 0,
            wish_at: Instant::default() + changes.every,
            retired: false,
            ends: BTreeMap::new(),
            breach: None,
        }
    }

    /// The first answer that must not be.
    #[must_use]
    pub fn breach(&self) -> Option<&str> {
        self.breach.as_deref()
    }

    /// When [`Operator::act`] is due.
    #[must_use]
    pub fn next_at(&self) -> Option<Instant> {
        let calls = self.calls.values().map(|call| call.since + ANSWER_MAX);
        let newcomers = self.newcomers.iter();
        let newcomers = newcomers
            .filter(|(host, _)| !self.asks(**host))
            .map(|(_, newcomer)| newcomer.ask_at);
        let wish = (!self.retired).then_some(self.wish_at);
        calls.chain(newcomers).chain(wish).min()
    }

    fn asks(&self, newcomer: Host) -> bool {
        let mut calls = self.calls.values();
        calls.any(|call| matches!(call.errand, Errand::Join(host) if host == newcomer))
    }

    /// Does what is due.
    pub fn act(&mut self, now: Instant, view: &View, out: &mut Vec<Action>) {
        let late = |call: &Call| call.since + ANSWER_MAX <= now;
        let late: Vec<u64> = self
            .calls
            .iter()
            .filter(|(_, call)| late(call))
            .map(|(number, _)| *number)
            .collect();
        for number in late {
            out.push(Action::HangUp(number));
            self.over(number, End::Open, now);
        }
        if !self.retired && self.wish_at <= now {
            let every = self.changes.every;
            self.wish_at = now + self.random.heavy(every, every * 4);
            self.wish(now, view, out);
        }
        self.newcomers.retain(|_, newcomer| now < newcomer.until);
        let due = self.newcomers.iter();
        let due: Vec<Host> = due
            .filter(|(host, newcomer)| newcomer.ask_at <= now && !self.asks(**host))
            .map(|(host, _)| *host)
            .collect();
        for host in due {
            self.ask_to_join(host, now, view, out);
        }
    }

    /// Trouble is over: nothing more is wished, nobody joins any more.
    pub fn retire(&mut self, out: &mut Vec<Action>) {
        self.retired = true;
        self.newcomers.clear();
        let calls = std::mem::take(&mut self.calls);
        out.extend(calls.into_keys().map(Action::HangUp));
    }

    fn call(
        &mut self,
        errand: Errand,
        to: Host,
        now: Instant,
        says: &Request<'_>,
        out: &mut Vec<Action>,
    ) {
        self.serial += 1;
        let mut bytes = BytesMut::new();
        let hello = Hello {
            version_min: VERSION_MIN,
            version_max: VERSION_MAX,
            features: 0,
            cluster: None,
            epoch: None,
            group: 0,
            role: Role::Client,
        };
        hello.encode(&mut bytes);
        says.encode(1, &mut bytes);
        let call = Call {
            errand,
            since: now,
            input: BytesMut::new(),
        };
        self.calls.insert(self.serial, call);
        out.push(Action::Call(self.serial, to, bytes.freeze()));
    }

    fn ask_to_join(&mut self, host: Host, now: Instant, view: &View, out: &mut Vec<Action>) {
        let Some(newcomer) = self.newcomers.get_mut(&host) else {
            return;
        };
        newcomer.ask_at = now + JOIN_PAUSE;
        let incarnation = newcomer.incarnation;
        let hint = newcomer.hint.take();
        let name = name_of(host);
        let members = hosts_of(&view.membership);
        let to = hint.unwrap_or_else(|| *self.random.pick(&members));
        let request = Request::Join {
            name: &name,
            peer_addr: &peer_addr(host, 0).to_string(),
            incarnation,
        };
        self.call(Errand::Join(host), to, now, &request, out);
    }

    // --- wishes ---

    fn wish(&mut self, now: Instant, view: &View, out: &mut Vec<Action>) {
        let members = &view.membership.members;
        let any = self.random.pick(members).id;
        let to = match view.leader.filter(|_| !self.random.chance(MILLION / 8)) {
            Some(leader) => leader,
            None => *self.random.pick(&hosts_of(&view.membership)),
        };
        let some = |random: &mut Random, suffrage| {
            let members = members.iter().filter(|m| m.suffrage == suffrage);
            let ids: Vec<NodeId> = members.map(|member| member.id).collect();
            (!ids.is_empty()).then(|| *random.pick(&ids))
        };
        let wishes = self.changes.wishes;
        let weights = [
            wishes.add,
            wishes.remove,
            wishes.promote,
            wishes.demote,
            wishes.update,
            wishes.intrude,
            wishes.transfer,
        ];
        let change = match self.random.weigh(&weights) {
            0 if members.len() < MEMBERS_MOST => self.wish_for_more(any, now),
            1 => Some(Change::Remove(any)),
            2 => some(&mut self.random, Suffrage::Learner).map(Change::Promote),
            3 => some(&mut self.random, Suffrage::Voter).map(Change::Demote),
            4 => self.wish_for_address(view, any),
            5 => return self.intrude(view, any, to, now, out),
            _ => None,
        };
        let Some(change) = change else {
            let request = Request::TransferLeader {
                deadline_ms: *self.random.pick(&[0, 100, 3_000]),
                to: self.random.chance(MILLION * 2 / 3).then_some(any),
            };
            return self.call(Errand::Transfer, to, now, &request, out);
        };
        let request = Request::ChangeMembers {
            dry_run: self.random.chance(MILLION / 20),
            change: change.request(),
        };
        self.call(Errand::Change(change.clone()), to, now, &request, out);
    }

    /// A member more, in most cases one that is started.
    fn wish_for_more(&mut self, any: NodeId, now: Instant) -> Option<Change> {
        let host = self.unused.pop()?;
        let promote_within_ms = self.random.chance(MILLION * 3 / 4);
        let promote_within_ms = promote_within_ms.then(|| self.random.within(300..=8_000));
        let replaces = promote_within_ms.filter(|_| self.random.chance(MILLION / 3));
        if !self.random.chance(self.changes.absent) {
            let newcomer = Newcomer {
                incarnation: self.incarnation(),
                ask_at: now + self.random.time(Duration::ZERO..=Duration::from_secs(2)),
                until: now + JOIN_MAX,
                hint: None,
            };
            self.newcomers.insert(host, newcomer);
        }
        Some(Change::Add {
            name: name_of(host),
            peer_addr: peer_addr(host, 0).to_string(),
            promote_within_ms,
            replaces: replaces.map(|_| any),
        })
    }

    fn incarnation(&mut self) -> Incarnation {
        Incarnation(self.random.bits() | 1)
    }

    fn wish_for_address(&mut self, view: &View, id: NodeId) -> Option<Change> {
        let known = &view.membership.get(id)?.peer_addr;
        let host = host_at(known.parse().ok()?)?;
        let nth = self.random.within(1..=200) as u8;
        Some(Change::Update {
            id,
            peer_addr: peer_addr(host, nth).to_string(),
        })
    }

    /// A member's disk was replaced by an empty one, say, and it asks to join under its name.
    fn intrude(&mut self, view: &View, id: NodeId, to: Host, now: Instant, out: &mut Vec<Action>) {
        let Some(member) = view.membership.get(id) else {
            return;
        };
        let host = member.peer_addr.parse().ok().and_then(host_at);
        // Who has not come yet may be anybody.
        let Some(host) = host.filter(|host| *host < self.members || member.incarnation.is_some())
        else {
            return;
        };
        let request = Request::Join {
            name: &name_of(host),
            peer_addr: &member.peer_addr,
            incarnation: self.incarnation(),
        };
        self.call(Errand::Intrude(id), to, now, &request, out);
    }

    // --- answers ---

    /// Bytes came for a call.
    pub fn hears(&mut self, number: u64, bytes: &[u8], now: Instant, out: &mut Vec<Action>) {
        let Some(call) = self.calls.get_mut(&number) else {
            return;
        };
        call.input.extend_from_slice(bytes);
        let errand = call.errand.clone();
        let input = call.input.clone();
        let mut at = 0;
        while let Ok(Some(frame)) = frame::parse(&input[at..], CLIENT_FRAME_BYTES_MAX) {
            at += frame.len;
            if frame.kind == Kind::Welcome {
                continue;
            }
            out.push(Action::HangUp(number));
            let end = match Reply::decode(&frame) {
                Ok(reply) => self.answered(&errand, &reply, out),
                Err(_) => End::Open,
            };
            return self.over(number, end, now);
        }
    }

    fn answered(&mut self, errand: &Errand, reply: &Reply<'_>, out: &mut Vec<Action>) -> End {
        match (errand, reply) {
            (Errand::Change(change), Reply::MembersChanged(changed)) => {
                if let Err(why) = change.check(changed) {
                    self.breach.get_or_insert(why);
                }
                change.end()
            }
            (Errand::Transfer, Reply::LeaderTransferred { done: true, .. }) => End::Transferred,
            (Errand::Transfer, Reply::LeaderTransferred { .. }) => End::TransferFailed,
            (Errand::Join(host), Reply::Admitted(admitted)) => {
                if let Some(newcomer) = self.newcomers.remove(host) {
                    out.push(Action::Admit(*host, admitted.clone(), newcomer.incarnation));
                }
                End::Admitted
            }
            (Errand::Join(host), Reply::Error(Error::NotLeader { leader })) => {
                if let Some(newcomer) = self.newcomers.get_mut(host) {
                    newcomer.hint = leader.client_addr.parse().ok().and_then(host_at);
                }
                End::Open
            }
            (Errand::Intrude(id), Reply::Admitted(_)) => {
                let why = format!("another data directory is admitted as member {id}");
                self.breach.get_or_insert(why);
                End::Admitted
            }
            (Errand::Intrude(_), Reply::Error(Error::WrongIncarnation { .. })) => End::KeptOut,
            (_, Reply::Error(Error::Refused { .. })) => End::Refused,
            _ => End::Open,
        }
    }

    /// A call has broken.
    pub fn closed(&mut self, number: u64, now: Instant) {
        self.over(number, End::Open, now);
    }

    fn over(&mut self, number: u64, end: End, now: Instant) {
        if let Some(call) = self.calls.remove(&number) {
            *self.ends.entry(end).or_default() += 1;
            if let Errand::Join(host) = call.errand
                && let Some(newcomer) = self.newcomers.get_mut(&host)
            {
                newcomer.ask_at = newcomer.ask_at.max(now);
            }
        }
    }
}

/// The machines of all members.
pub fn hosts_of(membership: &Membership) -> Vec<Host> {
    let addrs = membership.members.iter();
    let hosts = addrs.filter_map(|member| host_at(member.peer_addr.parse().ok()?));
    hosts.collect()
}
