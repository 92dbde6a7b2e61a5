//! What goes into the state machine and what comes out.

use alloc::vec::Vec;
use core::time::Duration;

use wire::entry::Entry;
use wire::error::Error;
use wire::membership::{Membership, Suffrage};
use wire::peer::{Digest, DiskReport, Health, InstallSnapshot, Message, SnapshotOk};
use wire::types::{EntryId, Index, NodeId, Term};

use crate::time::Instant;

/// What never changes in a node's life.
#[derive(Clone, Debug)]
pub struct Config {
    /// This node.
    pub id: NodeId,
    /// Lower end of the randomized election timeout.
    pub election_timeout_min: Duration,
    /// Upper end of the randomized election timeout: "the election timeout" of every bound.
    pub election_timeout_max: Duration,
    /// How often an idle leader shows that it lives.
    pub heartbeat: Duration,
    /// Entry bytes sent to a follower and not yet acknowledged, at most; one entry may be over.
    pub window_bytes: usize,
    /// Entry bytes kept in memory, at most, beside what is not yet applied or not yet durable.
    pub cache_bytes: usize,
    /// Random at each start: by it the answers to an earlier life of the node are told from those to
    /// this one.
    pub life: u64,
    /// Seeds the one random generator; nodes may share it, their ids tell them apart.
    pub seed: u64,
}

/// What the disk held at start: the log, and the snapshot that the store begins with.
#[derive(Clone, Debug)]
pub struct Restored {
    /// Newest durable term and vote.
    pub hard_state: HardState,
    /// The durable commit hint: everything up to it is committed. At most `last`; may be below
    /// `applied`. While rebuilding, not below the snapshot that is no good: what it covered is
    /// committed.
    pub commit: Index,
    /// The entry that the log begins behind: what is up to it was compacted. 0@0 if the log is
    /// whole.
    pub base: EntryId,
    /// The snapshot's index, from `base` to `last`; 0 without one. The base's index while
    /// rebuilding.
    pub applied: Index,
    /// The wall clock that the snapshot ends with, which no later entry may undercut.
    pub wall_ms: u64,
    /// Who is a member as of `applied`. While rebuilding nobody knows: then who was when the cluster
    /// began; such a node does not lead.
    pub membership: Membership,
    /// The entries behind `applied` that tell who is a member, ascending. Those that are faulty are
    /// not among them.
    pub memberships: Vec<(EntryId, Membership)>,
    /// The first entry of each term in the log, behind `base`, ascending.
    pub terms: Vec<EntryId>,
    /// The last entry; `base` if the log is empty.
    pub last: EntryId,
    /// The newest entries, without gap, ending at `last`; may be fewer than the log holds, but
    /// the last one is among them, unless it is faulty.
    pub tail: Vec<Entry>,
    /// Whether the cluster is formed (rules D1); until then the node is passive.
    pub formed: bool,
    /// The first faulty entry; see [`crate::Raft::set_faulty`].
    pub faulty: Option<Index>,
    /// There is no state to go on from; see [`crate::Raft::rebuild`].
    pub rebuilding: bool,
}

impl Restored {
    /// What a disk without a log holds.
    #[must_use]
    pub fn empty(membership: Membership) -> Self {
        Self {
            hard_state: HardState::default(),
            commit: Index(0),
            base: EntryId::default(),
            applied: Index(0),
            wall_ms: 0,
            membership,
            memberships: Vec::new(),
            terms: Vec::new(),
            last: EntryId::default(),
            tail: Vec::new(),
            formed: false,
            faulty: None,
            rebuilding: false,
        }
    }
}

/// What must not be forgotten beside the entries, durable together: term and vote (thesis 3.3,
/// figure 3.1), and whether the log can be relied upon.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HardState {
    /// The current term.
    pub term: Term,
    /// Who got this node's vote in it.
    pub vote: Option<NodeId>,
    /// The log has lost entries that this node may have acknowledged, and nobody knows which: until
    /// a leader says that it is whole again the node neither votes, campaigns nor counts (rules
    /// D4). Unlike the other two it may be taken back.
    pub lost: bool,
}

/// Names a write. One increasing sequence; writes complete in its order (rules A1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Input {
    /// Time passed; see [`crate::Raft::deadline`].
    Tick,
    /// A peer's message came in, already checked by its codec.
    Receive {
        /// Who said it.
        from: NodeId,
        /// What.
        message: Message,
    },
    /// Every write up to this ticket is on disk.
    Durable(Ticket),
    /// Term and vote of every write up to this ticket are on disk, or newer ones; their entries need
    /// not be: a full disk has room for the former only.
    HardStateDurable(Ticket),
    /// The answer to [`Effect::Load`]. Empty if the range could not be read.
    Loaded {
        /// The follower that the load was for.
        to: NodeId,
        /// The entries from the asked index on, as many as fitted.
        entries: Vec<Entry>,
    },
    /// The connection that carried this term's `Append`s was closed by the other end (rules B3).
    /// A close by this node is no reason to say so.
    LeaderLinkClosed,
    /// The cluster is formed, durably (rules D1).
    Formed,
}

/// Something to do. Effects are carried out in order, those for the disk first.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Make it durable, then report [`Input::Durable`].
    Write(Write),
    /// Send to a peer, once everything up to the ticket is durable. While it waits the term may
    /// change; then it may be dropped, nobody needs it any more.
    Send {
        /// To whom.
        to: NodeId,
        /// The write whose term and vote must be durable first: the term that the message reveals,
        /// the vote that it gives (rules A2). May name a write that the turn's `flush` has yet to bring.
        after: Option<Ticket>,
        /// What.
        message: Message,
    },
    /// Entries up to this index are committed; apply in order what the state lacks of them. On a
    /// follower they may not be durable here yet: the disks of a quorum have them.
    Commit(Index),
    /// A quorum, or the leader, answered this round: reads that were given it, or a lower one, may go
    /// on once their index, and this one, are applied (rules C1).
    RoundConfirmed {
        /// The round.
        round: u64,
        /// What the leader told; 0 if this node leads, for its tickets tell.
        index: Index,
    },
    /// Read entries from disk for a follower that lags behind the cache.
    Load {
        /// The follower.
        to: NodeId,
        /// First index.
        from: Index,
        /// Bytes at most; one entry always fits.
        max_bytes: usize,
    },
    /// Store a piece of a snapshot that this node lacks, then report it by
    /// [`crate::Raft::answer_chunk`], and the whole of it by [`crate::Raft::install`]. Pieces may
    /// come repeated, out of order, or of another snapshot than before.
    Chunk(InstallSnapshot),
    /// A follower that [`crate::Raft::needs_snapshot`] tells how much of one it holds.
    SnapshotAnswer {
        /// The follower.
        from: NodeId,
        /// What it said.
        answer: SnapshotOk,
    },
    /// A peer holds this digest: the leader a quorum's, a follower its own (rules D5). Told when it
    /// is not what that peer told last.
    Digest {
        /// The peer.
        from: NodeId,
        /// What it holds.
        digest: Digest,
    },
    /// Another membership is in force, see [`crate::Raft::membership`].
    MembershipChanged(Membership),
    /// The role, the term or the known leader changed. Pending rounds are lost, whatever the role
    /// was, and if it was the leader's, the outcome of its pending proposals is unknown.
    RoleChanged(RoleChange),
    /// Close the link: the peer asked for what must not be (rules A6).
    Refuse {
        /// The peer.
        peer: NodeId,
        /// Why.
        error: Error,
    },
}

/// Makes entries and hard state durable, in one batch.
#[derive(Clone, Debug, Default)]
pub struct Write {
    /// Reported back.
    pub ticket: Ticket,
    /// Term and vote, as of this write.
    pub hard_state: HardState,
    /// The log is replaced by the snapshot of this id: everything before this write is gone, and
    /// `entries` follow behind the id. Then `truncate_from` is `None`.
    pub reset: Option<EntryId>,
    /// The log is cut before this index first; `entries` follow it without gap.
    pub truncate_from: Option<Index>,
    /// New entries, without gap; may be empty, but not if the log is cut (rules A6).
    pub entries: Vec<Entry>,
    /// min(commit, durable): a hint for restarts that no torn write can belie.
    pub commit: Index,
}

/// See [`Effect::RoleChanged`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RoleChange {
    /// The role now.
    pub role: RoleName,
    /// The term now.
    pub term: Term,
    /// The leader now, if known.
    pub leader: Option<NodeId>,
}

/// A role without its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RoleName {
    /// Follows, or waits to.
    Follower,
    /// Asks whether it would win.
    PreCandidate,
    /// Asks for votes.
    Candidate,
    /// Leads.
    Leader,
}

/// A place in the queue of linearizable reads (rules C1): the read may be served when `round` is
/// confirmed and `index` is applied, and what the confirmation tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReadTicket {
    /// A round that starts after the read arrived.
    pub round: u64,
    /// On a leader max(commit, this term's no-op); 0 on a follower.
    pub index: Index,
}

/// What became of a snapshot that the node would install.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Installed {
    /// The log is past it, or this node leads: nothing changed. A node that is rebuilding says so
    /// only of what its log does not reach back to.
    Stale,
    /// The log holds the snapshot's last entry: it goes on as it was, and what the snapshot covers
    /// counts as applied.
    Kept,
    /// The log was discarded and begins behind the snapshot. The next [`Write`] says so, and until
    /// it is durable nothing that the snapshot covers is acknowledged.
    Reset,
}

/// Why nothing was proposed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CannotPropose {
    /// This node does not lead.
    NotLeader(NotLeader),
    /// Leadership is being transferred: try again when [`crate::Raft::is_transferring`] says no.
    Transferring,
}

/// Why the membership is not changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CannotChange {
    /// This node does not lead.
    NotLeader(NotLeader),
    /// Leadership is being transferred.
    Transferring,
    /// The last change is not committed, or its second step is to come.
    Changing,
    /// This leader has not committed anything in its term (thesis 4.1, erratum): it does not know
    /// whether the membership in force is the newest that is committed.
    Unproven,
}

/// Why leadership is not transferred.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CannotTransfer {
    /// This node does not lead.
    NotLeader(NotLeader),
    /// A transfer is under way.
    Transferring,
    /// The target is no other voter, or will soon be none, or it would not campaign: it is lost or
    /// rebuilding.
    Unfit,
}

/// What a leader knows of a follower.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FollowerView {
    /// The follower.
    pub id: NodeId,
    /// In which set of voters it is.
    pub suffrage: Suffrage,
    /// Its log is known to agree up to here, durably.
    pub match_index: Index,
    /// When `match_index` last rose; the start of the reign before that.
    pub match_rose_at: Instant,
    /// When it last answered; the start of the reign before that.
    pub heard_at: Instant,
    /// It has answered in this reign.
    pub has_answered: bool,
    /// What it told of its disk; room and no unfinished write before that.
    pub disk: DiskReport,
    /// In what it is less than whole. While `lost` it counts for nothing, whether it knows or not.
    pub health: Health,
}

/// This node does not lead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotLeader {
    /// Who does, if known.
    pub leader: Option<NodeId>,
}
