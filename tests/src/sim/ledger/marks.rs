//! Coverage marks: rare branches, seen from outside. A branch that no run reaches is one that no
//! run tests.

use std::collections::{BTreeMap, BTreeSet};

use raft::RoleName;
use raftd::fatal::ExitStatus;
use raftd::node::Node;
use raftd::node::io::{Effects, LinkId, LoadPurpose, SnapshotRequest, StorageRequest};
use raftd::wal::{Cases, Report};
use wire::error::{Error, Lag};
use wire::frame::{self, Kind};
use wire::hello::LeaderHint;
use wire::limits::CLIENT_FRAME_BYTES_MAX;
use wire::membership::Membership;
use wire::peer::{DiskState, InstallSnapshot, Message};
use wire::types::{Index, NodeId, Term};

use super::super::clients::Counts;
use super::super::net::Host;
use super::super::operator::End;

macro_rules! branches {
    ($($name:ident = $text:literal,)*) => {
        $(const $name: &str = $text;)*
        /// Every branch that is marked.
        pub const BRANCHES: &[&str] = &[$($text),*];
    };
}

branches! {
    PRE_VOTE_GRANTED = "pre-vote granted",
    PRE_VOTE_REFUSED = "pre-vote refused",
    PRE_VOTE_WITHHELD = "pre-vote refused, leader heard",
    VOTE_GRANTED = "vote granted",
    VOTE_REFUSED = "vote refused",
    STALE_TERM = "stale term told",
    CONFLICT_SHORT = "conflict, log too short",
    CONFLICT_TERM = "conflict, another term",
    ELECTED = "elected",
    ELECTION_LOST = "election lost",
    DEPOSED = "deposed by a later term",
    CHECK_QUORUM = "stepped down, quorum not heard",
    TRUNCATION = "log cut",
    LONG_TRUNCATION = "log cut by more than 50",
    LOAD_FOLLOWER = "loads for a follower",
    LOAD_STORE = "loads for the store",
    LOAD_FETCH = "loads for another member's damage",
    FORMED = "formed record written",
    SNAPSHOT_FROZEN = "snapshot begun",
    SNAPSHOT_NOT_TAKEN = "snapshot not taken",
    SNAPSHOT_PUBLISHED = "snapshot published",
    SNAPSHOT_SENT = "piece of a snapshot sent",
    SNAPSHOT_RESUMED = "snapshot sent on from its middle",
    SNAPSHOT_RECEIVED = "piece of a snapshot received",
    SNAPSHOT_STALE = "snapshot received that is older than the state",
    LOG_RESET = "log replaced by a snapshot",
    COMPACTION = "log begins behind a snapshot",
    SNAPSHOT_START = "started from a snapshot",
    FAULTY = "entries faulty",
    MENDED = "faulty entries mended",
    BEGUN_ANEW = "lost log begun anew",
    LOST_TOLD = "log lost by the leader's word",
    LOST_NO_MORE = "lost no more",
    REBUILDING = "state thrown away",
    REBUILDING_START = "started without a state",
    REBUILT = "state rebuilt",
    SNAPSHOT_ROTTEN = "snapshot found rotten",
    SPLIT = "no quorum agrees on the state",
    HANDED_OVER_STALLED = "handed over, disk stalled",
    HANDED_OVER_FULL = "handed over, disk full",
    HANDED_OVER_WRONG = "handed over, wrong state",
    LED_BY_TRANSFER = "voted with the transfer flag",
    HEALED = "damaged, and whole again",
    HEALED_AMID_CHANGES = "damaged where members change, and whole again",
    SPREAD = "wrong state sent on",
    READ_ROUND = "read round",
    PARKED = "request parked",
    UNPARKED = "request unparked",
    LINK_REFUSED = "link refused by the node",
    LINK_RENEWED = "link renewed",
    DISK_SOFT = "disk soft",
    DISK_HARD = "disk hard",
    DISK_STALLED = "disk stalled",
    STOPPED = "stopped on demand",
    TORN = "torn batch cut",
    EXIT_IO = "exit 74",
    EXIT_DAMAGED = "exit 65",
    RETRIED = "retry told the outcome",
    DOUBLED = "write sent to two members",
    RESENT = "write sent again when it was over",
    REUSED = "name used for another write",
    FUTURE = "session from the future",
    TOO_LONG = "key or value too long",
    GIBBERISH = "gibberish sent by a client",
    HUNG_UP = "client hung up while it waited",
    TXN_HELD = "txn whose compares held",
    TXN_NOT_HELD = "txn whose compares did not hold",
    TXN_UNDONE = "txn undone",
    RANGE_KEPT = "range with another number of keys",
    VIEW_PAGE = "page of a view behind its first",
    VIEW_LOST = "view lost",
    ADDED = "member added",
    PROMOTED = "learner promoted on demand",
    WISH_FULFILLED = "learner promoted by its wish",
    WISH_GIVEN_UP = "learner given up",
    DEMOTED = "voter demoted",
    REMOVED = "member removed",
    REPLACED = "member added to replace another",
    UPDATED = "member's address changed",
    CHANGE_REFUSED = "operator refused",
    TRANSFERRED = "leadership handed over on demand",
    TRANSFER_FAILED = "hand-over on demand failed",
    JOINED = "machine joined",
    KEPT_OUT = "another machine kept out",
    LEFT = "removed member ended itself",
    WENT = "leader voted out",
    MADE_WAY = "handed over to be removed",
    JOINT = "two sets of voters",
    JOINT_START = "started with two sets of voters",
    JOINT_SNAPSHOT = "started from a snapshot of two sets of voters",
    JOINT_INSTALLED = "installed a snapshot of two sets of voters",
    JOINT_ELECTED = "elected by two sets of voters",
    MEMBERSHIP_CUT = "membership cut from a log",
}

/// The row about a file that is neither there nor the next one. The table has it to be complete;
/// recovery asks only about files that are there, and the next.
const UNASKED: char = 'c';

/// What was reached, how often.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// By the names in [`BRANCHES`].
    pub branches: BTreeMap<&'static str, u64>,
    /// Errors that somebody was told, by name.
    pub errors: BTreeMap<&'static str, u64>,
    /// Rows of recovery's tables, by label.
    pub cases: BTreeMap<char, u64>,
}

impl Marks {
    /// How the operator's wishes ended.
    pub fn operator(&mut self, ends: &BTreeMap<End, u64>) {
        for (end, count) in ends {
            let branch = match end {
                End::Added => ADDED,
                End::Promoted => PROMOTED,
                End::Demoted => DEMOTED,
                End::Removed => REMOVED,
                End::Replaced => REPLACED,
                End::Updated => UPDATED,
                End::Transferred => TRANSFERRED,
                End::TransferFailed => TRANSFER_FAILED,
                End::Admitted => JOINED,
                End::KeptOut => KEPT_OUT,
                End::Refused => CHANGE_REFUSED,
                End::Open => continue,
            };
            *self.branches.entry(branch).or_default() += count;
        }
    }

    fn reach(&mut self, branch: &'static str) {
        *self.branches.entry(branch).or_default() += 1;
    }

    /// What clients did and were told.
    pub fn clients(&mut self, counts: &Counts) {
        for (branch, count) in [
            (RETRIED, counts.retried_ok),
            (DOUBLED, counts.doubled),
            (RESENT, counts.resent),
            (REUSED, counts.reused),
            (FUTURE, counts.from_future),
            (TOO_LONG, counts.too_long),
            (GIBBERISH, counts.gibberish),
            (HUNG_UP, counts.hung_up),
            (TXN_HELD, counts.txns_held),
            (TXN_NOT_HELD, counts.txns_not_held),
            (TXN_UNDONE, counts.txns_undone),
            (RANGE_KEPT, counts.ranges_kept),
            (VIEW_PAGE, counts.pages),
            (VIEW_LOST, counts.views_lost),
        ] {
            if count > 0 {
                *self.branches.entry(branch).or_default() += count;
            }
        }
        for (error, count) in &counts.errors {
            *self.errors.entry(error).or_default() += count;
        }
    }

    pub(super) fn add(&mut self, more: Self) {
        super::add_up(&mut self.branches, more.branches);
        super::add_up(&mut self.errors, more.errors);
        super::add_up(&mut self.cases, more.cases);
    }

    /// What was never reached, in words.
    pub(super) fn missing(&self) -> impl Iterator<Item = String> {
        let branches = BRANCHES
            .iter()
            .filter(|name| !self.branches.contains_key(*name));
        let errors = expected_errors()
            .into_iter()
            .filter(|name| !self.errors.contains_key(name));
        let cases = Cases::all().iter().filter(|case| *case != UNASKED);
        let cases = cases.filter(|case| !self.cases.contains_key(case));
        branches
            .map(|name| format!("branch {name}"))
            .chain(errors.map(|name| format!("error {name}")))
            .chain(cases.map(|case| format!("recovery case {case}")))
    }
}

/// The errors that somebody must be told in some run. Left out is what only the daemon's own event
/// loop decides, which no simulated member has: the limit of connections.
#[must_use]
pub fn expected_errors() -> BTreeSet<&'static str> {
    let text = String::new;
    let all = [
        Error::NotLeader {
            leader: LeaderHint {
                node: NodeId(1),
                client_addr: text(),
            },
        },
        Error::NoLeader,
        Error::DeadlineExpired,
        Error::Overloaded { retry_after_ms: 0 },
        Error::ShuttingDown,
        Error::DiskFull { hard: false },
        Error::SessionExpired,
        Error::OutOfOrder { expected: 0 },
        Error::OutcomeUnknown,
        Error::Stale,
        Error::IdReused,
        Error::BornInFuture,
        Error::StateInDoubt,
        Error::Lagging(Box::new(Lag {
            reason: text(),
            entries: 0,
            behind_ms: None,
            better: None,
        })),
        Error::TooLarge {
            what: text(),
            limit: 0,
            actual: 0,
        },
        Error::Malformed { reason: text() },
        Error::UnknownKind { kind: 0 },
        Error::UnknownFlags { flags: 0 },
        Error::UnsupportedVersion { min: 0, max: 0 },
        Error::WrongCluster { cluster: text() },
        Error::WrongEpoch,
        Error::WrongNode { reason: text() },
        Error::WrongIncarnation { reason: text() },
        Error::Divergence { reason: text() },
        Error::Removed,
    ];
    all.iter().map(Error::name).collect()
}

/// What was seen of a member the last time.
#[derive(Clone, Copy, Debug)]
struct Glance {
    role: RoleName,
    term: Term,
    last: Index,
    round: u64,
    parked: usize,
    base: Index,
    lost: bool,
    rebuilding: bool,
    joint: bool,
}

/// Looks at what members do, and marks what is rare.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// What was reached.
    pub marks: Marks,
    glances: BTreeMap<Host, Glance>,
    /// Of each link, the snapshot that pieces of went out on it, and how far they went.
    sent: BTreeMap<(Host, LinkId), (Index, u64)>,
    leaders: BTreeSet<Term>,
}

impl Watch {
    /// How many terms had a leader.
    #[must_use]
    pub fn leaders(&self) -> u64 {
        self.leaders.len() as u64
    }

    /// A member has recovered, and found this.
    pub fn started(&mut self, host: Host, node: &Node, found: &Report) {
        self.glances.remove(&host);
        self.sent.retain(|(sender, _), _| *sender != host);
        self.cases(found.cases);
        for (branch, reached) in [
            (SNAPSHOT_START, node.store().applied().index > Index(0)),
            (TORN, found.torn_bytes > 0),
            // Nothing is behind its first batch yet.
            (BEGUN_ANEW, found.lost && found.batches == 1),
            (REBUILDING_START, node.raft().is_rebuilding()),
            (JOINT_START, node.raft().membership().is_joint()),
            (JOINT_SNAPSHOT, has_joint_state(node)),
        ] {
            if reached {
                self.marks.reach(branch);
            }
        }
    }

    /// A member that was damaged is seen to be whole.
    pub fn healed(&mut self, changes: bool) {
        self.marks
            .reach(if changes { HEALED_AMID_CHANGES } else { HEALED });
    }

    fn cases(&mut self, cases: Cases) {
        for case in cases.iter() {
            *self.marks.cases.entry(case).or_default() += 1;
        }
    }

    /// A process ended itself with this status and these last words.
    pub fn exited(&mut self, status: ExitStatus, words: &str) {
        match status {
            ExitStatus::Io => self.marks.reach(EXIT_IO),
            ExitStatus::Damaged => self.marks.reach(EXIT_DAMAGED),
            _ => {}
        }
        // Damage names its row: "(case D)".
        let case = words
            .split("(case ")
            .nth(1)
            .and_then(|rest| rest.chars().next());
        if let Some(case) = case {
            *self.marks.cases.entry(case).or_default() += 1;
        }
    }

    /// A process ended because it was asked to.
    pub fn stopped(&mut self) {
        self.marks.reach(STOPPED);
    }

    /// A process ended because its member was removed.
    pub fn left(&mut self) {
        self.marks.reach(LEFT);
    }

    /// A snapshot of a wrong state is sent to another member.
    pub fn spread(&mut self) {
        self.marks.reach(SPREAD);
    }

    /// Somebody outside the cluster, a client or a stranger, was sent this.
    pub fn heard(&mut self, mut bytes: &[u8]) {
        while let Ok(Some(frame)) = frame::parse(bytes, CLIENT_FRAME_BYTES_MAX) {
            if frame.kind == Kind::Error
                && let Ok(error) = Error::decode(&frame)
            {
                self.told(&error);
            }
            bytes = &bytes[frame.len..];
        }
    }

    /// Somebody was told this.
    pub fn told(&mut self, error: &Error) {
        *self.marks.errors.entry(error.name()).or_default() += 1;
    }

    /// A member has done the thinking of a turn.
    pub fn turn(&mut self, host: Host, node: &Node, effects: &Effects) {
        let raft = node.raft();
        let now = Glance {
            role: raft.role(),
            term: raft.term(),
            last: raft.last().index,
            round: 0,
            parked: node.parked(),
            base: raft.base().index,
            lost: raft.hard_state().lost,
            rebuilding: raft.is_rebuilding(),
            joint: raft.membership().is_joint(),
        };
        let before = *self.glances.entry(host).or_insert(now);
        let mut round = before.round;
        self.role(before, now);
        for (link, message) in &effects.peers {
            self.message(message, raft.leader().is_some(), &mut round);
            if let Message::InstallSnapshot(piece) = message {
                self.piece(host, *link, piece);
            }
        }
        for request in &effects.storage {
            self.request(request, before.last);
        }
        for (_, error) in &effects.close_links {
            self.marks.reach(LINK_REFUSED);
            self.told(error);
        }
        let says = |words: &str| effects.events.iter().any(|e| e.text.starts_with(words));
        let hands_over = |why: &str| {
            let mut events = effects.events.iter();
            events.any(|e| e.text.starts_with("handing over") && e.text.ends_with(why))
        };
        let marked = [
            (SNAPSHOT_NOT_TAKEN, says("snapshot not taken")),
            (SNAPSHOT_PUBLISHED, says("snapshot published")),
            (
                SNAPSHOT_STALE,
                // Whoever gives up its own state has none, or a snapshot's.
                effects.storage.iter().any(gives_up_state)
                    && !says("snapshot installed")
                    && node.store().applied().index > Index(0),
            ),
            (COMPACTION, now.base > before.base),
            (LINK_RENEWED, !effects.renew_links.is_empty()),
            (PARKED, now.parked > before.parked),
            (UNPARKED, now.parked < before.parked),
            (DISK_STALLED, says("disk stalled=true")),
            (FAULTY, says("entries are damaged")),
            (MENDED, says("damaged entries are whole again")),
            (LOST_TOLD, now.lost && !before.lost),
            (LOST_NO_MORE, before.lost && !now.lost),
            (REBUILDING, now.rebuilding && !before.rebuilding),
            (REBUILT, before.rebuilding && !now.rebuilding),
            (SNAPSHOT_ROTTEN, says("snapshot damaged on disk")),
            (SPLIT, says("no quorum agrees")),
            (HANDED_OVER_STALLED, hands_over("disk-stalled")),
            (HANDED_OVER_FULL, hands_over("disk-full")),
            (HANDED_OVER_WRONG, hands_over("state-differs")),
            (MADE_WAY, hands_over("leaving")),
            (
                WENT,
                now.role != RoleName::Leader && calls_successor(effects),
            ),
            (JOINT, now.joint && !before.joint),
            (WISH_FULFILLED, says("learner promoted")),
            (WISH_GIVEN_UP, says("learner given up")),
            (MEMBERSHIP_CUT, says("members") && cuts(effects)),
            (
                JOINT_INSTALLED,
                says("snapshot installed") && has_joint_state(node),
            ),
            (
                JOINT_ELECTED,
                now.joint && now.role == RoleName::Leader && before.role != RoleName::Leader,
            ),
        ];
        for (branch, reached) in marked {
            if reached {
                self.marks.reach(branch);
            }
        }
        self.glances.insert(host, Glance { round, ..now });
    }

    fn role(&mut self, before: Glance, now: Glance) {
        use RoleName::{Candidate, Follower, Leader};
        match (before.role, now.role) {
            (Leader, Leader) if before.term == now.term => {}
            (_, Leader) => {
                self.leaders.insert(now.term);
                self.marks.reach(ELECTED);
            }
            (Leader, _) if now.term > before.term => self.marks.reach(DEPOSED),
            (Leader, Follower) => self.marks.reach(CHECK_QUORUM),
            (Candidate, Follower) => self.marks.reach(ELECTION_LOST),
            _ => {}
        }
    }

    fn message(&mut self, message: &Message, leader_heard: bool, round: &mut u64) {
        let (branch, disk) = match message {
            Message::Append(append) if append.round > *round => {
                *round = append.round;
                (Some(READ_ROUND), None)
            }
            Message::AppendOk(answer) => (None, Some(answer.disk)),
            Message::SnapshotOk(answer) => (None, Some(answer.disk)),
            Message::AppendConflict(answer) => {
                let short = answer.conflict.is_none();
                (
                    Some(if short { CONFLICT_SHORT } else { CONFLICT_TERM }),
                    Some(answer.disk),
                )
            }
            Message::StaleTerm(_) => (Some(STALE_TERM), None),
            Message::RequestVote(request) if request.transfer.is_some() => {
                (Some(LED_BY_TRANSFER), None)
            }
            Message::PreVoteAnswer(answer) => {
                let branch = match (answer.granted, leader_heard) {
                    (true, _) => PRE_VOTE_GRANTED,
                    (false, true) => PRE_VOTE_WITHHELD,
                    (false, false) => PRE_VOTE_REFUSED,
                };
                (Some(branch), None)
            }
            Message::VoteAnswer(answer) => (
                Some(if answer.granted {
                    VOTE_GRANTED
                } else {
                    VOTE_REFUSED
                }),
                None,
            ),
            _ => (None, None),
        };
        if let Some(branch) = branch {
            self.marks.reach(branch);
        }
        match disk.map(|disk| disk.state) {
            Some(DiskState::Soft) => self.marks.reach(DISK_SOFT),
            Some(DiskState::Hard) => self.marks.reach(DISK_HARD),
            Some(DiskState::Ok) | None => {}
        }
    }

    fn request(&mut self, request: &StorageRequest, last: Index) {
        match request {
            StorageRequest::Write(write) => {
                if write.reset.is_some() {
                    self.marks.reach(LOG_RESET);
                }
                if let Some(from) = write.truncate_from {
                    self.marks.reach(TRUNCATION);
                    if last.0 >= from.0 + 50 {
                        self.marks.reach(LONG_TRUNCATION);
                    }
                }
            }
            StorageRequest::Load { purpose, .. } => self.marks.reach(match purpose {
                LoadPurpose::Replicate(_) => LOAD_FOLLOWER,
                LoadPurpose::Apply => LOAD_STORE,
                LoadPurpose::Fetch(_) => LOAD_FETCH,
            }),
            StorageRequest::Form(_) => self.marks.reach(FORMED),
            StorageRequest::Mark(_)
            | StorageRequest::Compact { .. }
            | StorageRequest::Mend(_)
            | StorageRequest::Alone(_) => {}
            StorageRequest::Snapshot(request) => match request {
                SnapshotRequest::Take(_) => self.marks.reach(SNAPSHOT_FROZEN),
                SnapshotRequest::Receive { .. } => self.marks.reach(SNAPSHOT_RECEIVED),
                _ => {}
            },
        }
    }

    /// A piece that does not go on where the last one ended, and is not the first.
    fn piece(&mut self, host: Host, link: LinkId, piece: &InstallSnapshot) {
        if piece.bytes.is_empty() {
            return;
        }
        self.marks.reach(SNAPSHOT_SENT);
        let (index, end) = (
            piece.snapshot.index,
            piece.offset + piece.bytes.len() as u64,
        );
        let before = self.sent.insert((host, link), (index, end));
        if piece.offset > 0 && before.is_none_or(|(sent, _)| sent != index) {
            self.marks.reach(SNAPSHOT_RESUMED);
        }
    }
}

/// Whether the state is one between the two steps of a change of members.
fn has_joint_state(node: &Node) -> bool {
    let membership = node.store().membership();
    membership.is_some_and(Membership::is_joint)
}

/// Whether a part of the log is cut.
fn cuts(effects: &Effects) -> bool {
    let is_cut = |request: &StorageRequest| match request {
        StorageRequest::Write(write) => write.truncate_from.is_some(),
        _ => false,
    };
    effects.storage.iter().any(is_cut)
}

fn calls_successor(effects: &Effects) -> bool {
    let mut messages = effects.peers.iter().map(|(_, message)| message);
    messages.any(|message| matches!(message, Message::TimeoutNow(_)))
}

/// A state was given up: that of the node, or a snapshot's that came too late.
fn gives_up_state(request: &StorageRequest) -> bool {
    matches!(request, StorageRequest::Snapshot(SnapshotRequest::Free(_)))
}
