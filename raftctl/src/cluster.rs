//! How the members of a cluster see themselves, put together.

use std::thread;
use std::time::Duration;

use raftctl::client::{Client, Deadline, Error, Member, NodeRole, Status, status_of};
use serde::{Serialize, Serializer};
use wire::membership::Suffrage;
use wire::types::{ClusterId, Epoch, NodeId};

/// Time for one member to answer: those that do not are dead, for a person who waits.
pub(crate) const MEMBER_TIMEOUT: Duration = Duration::from_millis(700);

/// The cluster as its members describe it. What no member told is `None`.
#[derive(Debug, Serialize)]
pub(crate) struct Cluster {
    cluster_id: String,
    epoch: String,
    pub(crate) leader: Option<u64>,
    pub(crate) term: u64,
    pub(crate) quorum_ok: bool,
    pub(crate) voters: u64,
    /// How many more voters may fail before the cluster stops.
    pub(crate) failures_tolerated: u64,
    pub(crate) members: Vec<Row>,
}

/// One member.
#[derive(Debug, Serialize)]
pub(crate) struct Row {
    pub(crate) id: u64,
    pub(crate) name: String,
    pub(crate) peer_addr: String,
    pub(crate) client_addr: String,
    pub(crate) reachable: bool,
    pub(crate) role: Option<&'static str>,
    #[serde(rename = "kind", serialize_with = "serialize_kind")]
    pub(crate) suffrage: Suffrage,
    pub(crate) term: Option<u64>,
    pub(crate) last_index: Option<u64>,
    pub(crate) durable_index: Option<u64>,
    pub(crate) commit_index: Option<u64>,
    pub(crate) applied_index: Option<u64>,
    pub(crate) lag_entries: Option<u64>,
    pub(crate) snapshot_index: Option<u64>,
    pub(crate) snapshot_term: Option<u64>,
    pub(crate) snapshot_bytes: Option<u64>,
    /// What it has of the snapshot that it is being sent, if it is, and all of it.
    pub(crate) install_bytes: Option<u64>,
    pub(crate) install_total_bytes: Option<u64>,
    pub(crate) install_left_ms: Option<u64>,
    pub(crate) wal_bytes: Option<u64>,
    pub(crate) keys: Option<u64>,
    pub(crate) digest: Option<String>,
    pub(crate) uptime_ms: Option<u64>,
    pub(crate) version: Option<String>,
    pub(crate) state: Option<String>,
    pub(crate) error: Option<String>,
    #[serde(skip)]
    history: History,
}

/// Asks any node who the members are, then all of them and the other endpoints about themselves,
/// and at last those whom only the newest of these views knows: the first node may have been asked
/// before it had learned who the members are now.
///
/// # Errors
/// No endpoint answers.
pub(crate) fn survey(client: &mut Client, deadline: Deadline) -> Result<Cluster, Error> {
    let first = client.status(deadline)?;
    let timeout = MEMBER_TIMEOUT.min(deadline.left());
    let mut asked: Vec<Option<NodeId>> = vec![Some(first.node)];
    let mut answers: Vec<Answer> = vec![(first.node, Ok(first.clone()))];
    let mut next: Vec<Asked> = members_but(&first, &asked);
    let listed = |addr: &String| first.members.iter().any(|m| m.client_addr == *addr);
    let unlisted = client.endpoints().iter().filter(|addr| !listed(addr));
    next.extend(unlisted.map(|addr| (None, addr.clone())));
    for _ in 0..2 {
        asked.extend(next.iter().map(|(node, _)| *node));
        for answer in ask_all(&first, &next, timeout) {
            if !answers.iter().any(|(node, _)| *node == answer.0) {
                answers.push(answer);
            }
        }
        next = members_but(reference(&first, &answers), &asked);
    }
    Ok(put_together(&first, &answers))
}

/// Whom to ask, if that is known, and where.
type Asked = (Option<NodeId>, String);

fn members_but(status: &Status, asked: &[Option<NodeId>]) -> Vec<Asked> {
    let members = status.members.iter();
    let others = members.filter(|member| !asked.contains(&Some(member.node)));
    others
        .map(|member| (Some(member.node), member.client_addr.clone()))
        .collect()
}

/// Who is asked without being known, and does not answer, is nobody.
fn ask_all(first: &Status, next: &[Asked], timeout: Duration) -> Vec<Answer> {
    let history = History::of(first);
    let ask = |node, addr| history.ask(node, addr, timeout);
    let answers = ask_each(next, |(node, addr)| (*node, ask(*node, addr)));
    let answers = answers.into_iter().filter_map(|(node, answer)| {
        let node = node.or(answer.as_ref().ok().map(|status| status.node))?;
        Some((node, answer))
    });
    answers.collect()
}

/// Asks all of them at the same time; the answers are in their order.
pub(crate) fn ask_each<T: Send, A: Send>(
    asked: impl IntoIterator<Item = T>,
    ask: impl Fn(T) -> A + Sync,
) -> Vec<A> {
    let ask = &ask;
    thread::scope(|scope| {
        let asked = asked.into_iter();
        let threads: Vec<_> = asked.map(|one| scope.spawn(move || ask(one))).collect();
        let answers = threads.into_iter().map(|thread| {
            thread
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        answers.collect()
    })
}

/// The view that counts: that of the latest term, of its leader if it answers, or else of the one
/// that has come furthest.
fn reference<'a>(first: &'a Status, answers: &'a [Answer]) -> &'a Status {
    let alive = answers
        .iter()
        .filter_map(|(_, answer)| answer.as_ref().ok());
    let newest = alive.max_by_key(|s| (s.term, s.role == NodeRole::Leader, s.applied));
    newest.unwrap_or(first)
}

type Answer = (NodeId, Result<Status, String>);

/// A cluster, and which of its histories.
#[derive(Clone, Copy, Debug)]
pub(crate) struct History {
    cluster: ClusterId,
    epoch: Epoch,
}

impl History {
    /// That of the node that told this.
    pub(crate) fn of(status: &Status) -> Self {
        Self {
            cluster: status.cluster,
            epoch: status.epoch,
        }
    }

    /// What a member of it says of itself, or else why that is not to be had.
    pub(crate) fn ask(
        self,
        node: Option<NodeId>,
        addr: &str,
        timeout: Duration,
    ) -> Result<Status, String> {
        if addr.is_empty() {
            return Err("its address is not known: it was not heard yet".into());
        }
        let status = status_of(addr, timeout).map_err(|cause| cause.text)?;
        if node.is_some_and(|node| node != status.node) {
            return Err(format!("node {} answers at its address", status.node));
        }
        if !self.is_that_of(&status) {
            return Err("it is of another cluster now, restored or recovered".into());
        }
        Ok(status)
    }

    /// Whether what a node says is of the same cluster and its same history. One that was never
    /// admitted has none.
    fn is_that_of(self, other: &Status) -> bool {
        let none = Epoch::default();
        let same = (self.cluster, self.epoch) == (other.cluster, other.epoch);
        same || self.epoch == none || other.epoch == none
    }
}

fn put_together(first: &Status, answers: &[Answer]) -> Cluster {
    let alive = || {
        answers
            .iter()
            .filter_map(|(_, answer)| answer.as_ref().ok())
    };
    let leading = alive().filter(|status| status.role == NodeRole::Leader);
    let leading = leading.max_by_key(|status| status.term);
    let newest = alive().max_by_key(|status| status.term).unwrap_or(first);
    let leader = match leading {
        Some(status) if status.term >= newest.term => Some(status.node),
        _ => newest.leader,
    };
    // The leader's word counts; without it, that of those who hear one.
    let quorum_ok = match leading {
        Some(status) => status.quorum_ok,
        None => leader.is_some() && alive().any(|status| status.quorum_ok),
    };
    let reference = reference(first, answers);
    let is_heard = |member: &&Member| {
        let answered = answers
            .iter()
            .any(|(node, answer)| *node == member.node && answer.is_ok());
        member.connected || answered
    };
    // In joint consensus the weaker of both sets of voters counts.
    let survived = |votes: fn(Suffrage) -> bool| {
        let voters = reference.members.iter().filter(|m| votes(m.suffrage));
        let quorum = voters.clone().count() / 2 + 1;
        voters.filter(is_heard).count().saturating_sub(quorum) as u64
    };
    let voters = reference
        .members
        .iter()
        .filter(|m| m.suffrage.votes_after());
    let rows = reference
        .members
        .iter()
        .map(|member| row(member, answers, reference))
        .collect();
    Cluster {
        cluster_id: first.cluster.to_string(),
        epoch: format!("{:016x}", first.epoch.0),
        leader: leader.map(|node| node.0),
        term: newest.term.0,
        quorum_ok,
        voters: voters.count() as u64,
        failures_tolerated: survived(Suffrage::votes_after).min(survived(Suffrage::votes_before)),
        members: rows,
    }
}

/// Whether it votes, as a word; so also while the voters change.
pub(crate) fn kind(suffrage: Suffrage) -> &'static str {
    match suffrage.votes() {
        true => "voter",
        false => "learner",
    }
}

fn serialize_kind<S: Serializer>(suffrage: &Suffrage, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(kind(*suffrage))
}

fn row(member: &Member, answers: &[Answer], reference: &Status) -> Row {
    let answer = answers.iter().find(|(node, _)| *node == member.node);
    let told = answer.and_then(|(_, answer)| answer.as_ref().ok());
    let why = match answer {
        Some((_, Err(why))) => Some(why.clone()),
        _ => told.map(|status| status.error.clone()),
    };
    // A member that does not answer has what the leader knows of it; 0 is what a new leader knows.
    let known = member.match_index.filter(|index| index.0 > 0);
    let last = told.map(|status| status.last).or(known);
    let own = |number: fn(&Status) -> u64| told.map(number);
    Row {
        id: member.node.0,
        name: member.name.clone(),
        peer_addr: member.peer_addr.clone(),
        client_addr: member.client_addr.clone(),
        reachable: told.is_some(),
        role: told.map(|status| match status.role {
            NodeRole::Leader => "leader",
            NodeRole::Candidate => "candidate",
            NodeRole::Follower => "follower",
        }),
        suffrage: member.suffrage,
        term: own(|status| status.term.0),
        last_index: own(|status| status.last.0),
        durable_index: own(|status| status.durable.0),
        commit_index: own(|status| status.commit.0),
        applied_index: own(|status| status.applied.0),
        lag_entries: last.map(|last| reference.last.0.saturating_sub(last.0)),
        snapshot_index: own(|status| status.snapshot.index.0),
        snapshot_term: own(|status| status.snapshot.term.0),
        snapshot_bytes: own(|status| status.snapshot_bytes),
        install_bytes: member.install.map(|install| install.received_bytes),
        install_total_bytes: member.install.map(|install| install.total_bytes),
        install_left_ms: member.install.and_then(|install| install.left_ms),
        wal_bytes: own(|status| status.wal_bytes),
        keys: own(|status| status.keys),
        digest: told.map(|status| format!("{:032x}", status.digest)),
        uptime_ms: own(|status| status.uptime_ms),
        version: told.map(|status| status.version.clone()),
        state: told.map(|status| status.state.clone()),
        error: why.filter(|why| !why.is_empty()),
        history: History::of(reference),
    }
}

/// The name of a member; its id while it was never heard, or when it is none any more.
pub(crate) fn title(members: &[Member], id: NodeId) -> String {
    let member = members.iter().find(|member| member.node == id);
    match member {
        Some(member) if !member.name.is_empty() => member.name.clone(),
        _ => format!("#{id}"),
    }
}

impl Row {
    /// What the member says of itself now.
    pub(crate) fn ask(&self, timeout: Duration) -> Result<Status, String> {
        let node = Some(NodeId(self.id));
        self.history.ask(node, &self.client_addr, timeout)
    }

    /// Its name; its id while it was never heard.
    pub(crate) fn title(&self) -> String {
        if self.name.is_empty() {
            format!("#{}", self.id)
        } else {
            self.name.clone()
        }
    }
}
