//! The Raft algorithm as a pure state machine: no clock, thread, socket, file or hash map exists
//! here. Section numbers are those of Diego Ongaro's thesis, "Consensus: Bridging Theory and
//! Practice" (2014).
//!
//! # The idea
//!
//! A few nodes keep copies of one *log*, a sequence of *entries*. An entry that the disks of a
//! *quorum* (more than half of the voters) hold is *committed*: it is never lost nor changed as
//! long as a quorum of disks lives, and all nodes apply the same entries in the same order. Any
//! two quorums share a voter; every proof rests on that.
//!
//! # Terms (3.3)
//!
//! Time is cut into *terms*, numbered upwards, each with at most one *leader*. Messages carry
//! their sender's term. Who sees a later one takes it over and follows nobody until it hears that
//! term's leader; who is spoken to by an earlier one tells its own. Term and vote are durable
//! before any message reveals them ([`Effect::Send`] says which write it waits for).
//!
//! # Roles
//!
//! ```text
//!              timeout              quorum would vote       quorum voted, own vote durable
//!   Follower ───────────> PreCandidate ────────────> Candidate ────────────────> Leader
//!       ^                      │                         │                          │
//!       └──────────────────────┴─────────────────────────┴──────────────────────────┘
//!                 a later term, a leader of this term, no quorum heard (Leader)
//! ```
//!
//! A role's data lives in the role (`follower.rs`, `candidate.rs`, `leader.rs`) and ends with it;
//! what all have is in `state.rs`. `raft.rs` takes the inputs, `gate.rs` checks what peers say,
//! `election.rs` moves between the roles.
//!
//! # Election (3.4, 3.6.1, 4.2.3, 9.6)
//!
//! A follower that hears no leader for its randomized election timeout asks the others whether
//! they would vote for it (*PreVote*), which changes nothing anywhere. If a quorum would, it enters
//! the next term, votes for itself, and asks for votes. A vote is given once per term, to a
//! candidate whose log is at least as new as one's own: last term first, then length. So whoever
//! is elected holds everything that is committed (Leader Completeness, 3.6.3).
//!
//! A node that hears a leader *withholds*: it refuses both questions and does not take over their
//! term, so that a node with a bad link disturbs nobody. The withholding ends with silence for
//! the shortest election timeout, or at once, on this node alone, when the leader's end closes
//! the connection: then the leader's process has probably died, and this node *suspects* it and
//! asks around within milliseconds, in *haste* (`timer.rs`). So it does when the cluster was formed
//! just now, for there is no leader yet that it could disturb.
//!
//! A leader that has heard no quorum for an election timeout steps down (*CheckQuorum*, 6.2).
//!
//! # Replication (3.5, 3.6.2, 10.2)
//!
//! The leader opens its term with a *no-op* and sends entries in [`Append`]s that name the entry
//! before them. A follower that lacks that entry says what it has there, and the leader tries
//! further back, a whole term per answer (`progress.rs`); where the logs agree, everything before
//! agrees too (Log Matching). Then `Append`s are pipelined, within a window of bytes. Entries go
//! out before the leader's own disk is asked, and everyone, the leader too, counts for an entry
//! when its disk has it. An index is committed when a quorum counts for it and the entry is of
//! the leader's own term; what came before is committed with it. What has left the leader's
//! memory is read from its disk ([`Effect::Load`]).
//!
//! # Snapshots (5)
//!
//! A log that only grows fills the disk. A *snapshot* is the state as of one applied entry, by
//! which it is named; the node takes, writes and loads it, and this crate sees its identity only.
//! All nodes take one at the same entries, those of kind `SnapshotAt`, so that the bytes are the
//! same everywhere. Once one is on disk the log may be *compacted*: it begins behind its *base*,
//! an entry at or below the snapshot's. What is up to the base is committed and agreed on by all,
//! so that it is never a conflict, whoever speaks of it ([`Raft::compact`]).
//!
//! A follower that lacks what its leader's log no longer holds is sent a snapshot in pieces. It
//! stores them and says how far it has come, so that a transfer goes on after a broken link, a
//! restart, or a change of leaders ([`Effect::Chunk`]). When it has all of it, its log stays if it
//! holds the snapshot's last entry; any other log is discarded in the one write that names the new
//! base, and nothing of what the snapshot covers is acknowledged before that write is durable
//! ([`Raft::install`]). Then entries flow again.
//!
//! # Damage
//!
//! The thesis assumes that a disk keeps what it has synced. This one may lose some, on a minority
//! of the nodes, and gets it back from the others. A node is less than whole in three ways:
//!
//! - Entries are *faulty*: their payload is lost, and which they were (index, term, checksum) is
//!   known. The node stands by them when it votes, but from the first one on it acknowledges
//!   nothing, counts for nothing and applies nothing, and it does not campaign: nobody could be
//!   sent them. They are fetched from any node and *mended* in their places ([`Raft::set_faulty`]).
//!   One that only few ever had goes as ever: the others elect a leader without it, whose log
//!   replaces it.
//! - The log is *lost*: it is not known which entries it had. To vote by what is left could elect a
//!   leader that lacks what was committed by this node's word; to count it could commit what nobody
//!   has. So it does neither, nor campaigns, and leaders do not wait for it. `HardState::lost` says
//!   so, durably. It takes entries as any follower, and the leader says when it is whole again:
//!   when it, and a quorum without it, hold all that was in the leader's log when the leader learned
//!   of the loss (`loss.rs` says why that is enough). A leader also finds out by itself that a
//!   follower's log ends before what it acknowledged, and then it is the follower that learns it.
//! - The state is lost or wrong, and the log is good: the node is *rebuilding*. It votes and
//!   acknowledges, for both are about the log, but does not lead or apply before it has installed a
//!   snapshot, which may be one that its log is past ([`Raft::rebuild`]). The leader sends one
//!   beside the entries.
//!
//! # Leadership transfer (3.10)
//!
//! A leader that is about to stop, or should not lead, appends nothing more, brings a follower of
//! the node's choice up to date, and has it campaign at once; the others vote although they hear
//! their leader. It has not left its office, so that nothing is lost if the follower fails: after
//! an election timeout it goes on ([`Raft::transfer`]).
//!
//! # Membership (4)
//!
//! Who is a member, and who votes, is what the newest entry of kind `Membership` in the log says,
//! committed or not; what is truncated says nothing any more (4.1). *Learners* receive entries and
//! count for nothing (4.2.1). Every change of voters takes two entries (*joint consensus*, 4.3):
//! behind the first one, whatever is decided takes a majority of the voters of before and one of
//! those of after; when that is committed, whoever leads appends the second one, which ends the set
//! of before. One change is made at a time, and by no leader that has not yet committed an entry of
//! its term. A leader that does not vote any more leads until that is committed, does not count
//! itself, and then has the best of the others campaign at once (4.2.2). Whoever asks is heard,
//! member or not, for the membership here may be an old one; whoever answers is one of those that
//! were asked ([`Raft::change_membership`], `membership.rs`).
//!
//! # Reads (6.4)
//!
//! A linearizable read needs no entry, only proof that no later leader existed when it arrived: the
//! leader starts a *round*, a number that its `Append`s carry, and a quorum answers it. All reads
//! that arrive while a round is in flight share the next (`round.rs`).
//!
//! A follower serves reads, too: it asks its leader up to where it must have applied, one *question*
//! for all reads that wait (`question.rs`). The leader answers behind a round, or at once if it and
//! the follower are a quorum: the follower was in the term after the reads arrived, and the leader is
//! in it now, so that none of the two had voted for a later leader before.
//!
//! # What is missing, and why
//!
//! - *Damage that is not noticed*: of a log that forgot what it acknowledged, and does not know,
//!   only the leader that was told can find out. If that one fails first, the vote is counted.
//! - *Leases* (6.4.1): reads trust no clock.
//!
//! # The driver's duties, in order
//!
//! 1. Give every event to [`Raft::step`], any number per turn, and proposals and reads to
//!    [`Raft::propose`] and [`Raft::read`]. Time never goes back.
//! 2. End the turn with one [`Raft::flush`].
//! 3. Carry out the effects, those for the disk first. Writes are made durable in their order and
//!    reported by [`Input::Durable`], never before the sync returned. A [`Effect::Send`] leaves
//!    once term and vote of every write up to its ticket are durable; held ones may be dropped at
//!    a change of term. Where entries have no room, the newest term and vote may be made durable
//!    before them, which [`Input::HardStateDurable`] reports: so a full disk takes part in elections.
//!    Messages may get lost, repeated or reordered; order per peer is merely faster. One that was
//!    sent to an earlier life of a node never reaches a later one: links end with their processes.
//! 4. Apply what [`Effect::Commit`] tells, as far as the state lacks it, and report it by
//!    [`Raft::applied`]; entries that are no longer in memory ([`Raft::entry`]) are on the disk.
//! 5. Publish a snapshot only of what this node's own disk has durably, and compact only up to one
//!    that the disk names durably. Store pieces of a leader's snapshot, answer each, install the
//!    whole, and take its state over in the same turn. As a leader, send one to each follower that
//!    [`Raft::needs_snapshot`] names, and compact no further than that meanwhile; one that the
//!    follower does not take, because its log begins later, is followed by a newer one.
//! 6. Tell the first faulty entry, at the start and whenever another one is the first. Fetch it
//!    from the others ([`Raft::mended`]); if the leader's log no longer holds it, let a snapshot
//!    cover it: one's own, or by [`Raft::rebuild`] the leader's.
//! 7. Answer a read when its round is confirmed and its index applied. When [`Effect::RoleChanged`]
//!    tells that this node leads no more, fail all that wait; when it follows another leader, or the
//!    same one anew, register those that wait for a round again.
//! 8. Sleep until [`Raft::deadline`] at most, then give [`Input::Tick`].
//! 9. Dial whom [`Raft::membership`] lists, and end when it is committed that this node is not among
//!    them any more.
//! 10. After a crash, build a new [`Raft`] from what the disk holds.
//!
//! # Words
//!
//! | word | meaning | thesis |
//! |---|---|---|
//! | term, vote | the durable hard state | 3.3, 3.4 |
//! | entry, index, [`EntryId`] | a place in the log; its identity (term, index) | 3.5 |
//! | run | the entries of one term in a log | |
//! | snapshot | the state as of one applied entry | 5 |
//! | base | the entry that a compacted log begins behind | 5.1 |
//! | install | take over a leader's snapshot | 5.3 |
//! | faulty, mend | an entry whose payload the disk lost; to put it back in its place | |
//! | lost, whole | a log of which it is not known what it had; one that has all again | |
//! | rebuilding | without a good state, until a snapshot is installed | |
//! | last | the newest entry in memory | |
//! | durable | the last index on this node's disk | 3.8 |
//! | verified | the last index that agrees with the leader heard | 3.5 |
//! | intact | the last index before anything faulty, at most durable | |
//! | match | min(intact, verified) of a follower, as its leader knows it | 3.5 |
//! | next | the next index to send to a follower | 3.5 |
//! | commit, applied | known to be committed; taken by the store | 3.5 |
//! | probe, replicate, snapshot | how a follower is brought up | 10.2.2, 5.3 |
//! | round | proof that a leader still leads | 6.4 |
//! | question | what a follower asks its leader for its reads | 6.4 |
//! | ticket | names a write; what waits for it names it too | 10.2.1 |
//! | quorum, tally | more than half of the voters; who said yes and no | 3.4 |
//! | membership, suffrage | all members; in which of the two sets of voters one is | 4 |
//! | joint | with two sets of voters that differ | 4.3 |
//! | learner | a member in neither set | 4.2.1 |
//! | withhold, suspect | what a heard, a lost leader does to elections | 4.2.3 |
//! | haste | an election that does not wait for the election timeout | |
//! | formed | every initial member has met: the cluster may elect | |
//!
//! [`Append`]: wire::peer::Append
//! [`EntryId`]: wire::types::EntryId
#![no_std]

extern crate alloc;
#[cfg(test)]
extern crate std;

mod cache;
mod candidate;
mod election;
pub mod event;
mod follower;
mod gate;
mod health;
mod invariant;
mod jitter;
mod journal;
mod leader;
mod log;
mod loss;
mod membership;
mod progress;
mod question;
mod quorum;
mod raft;
mod round;
mod snapshot;
mod state;
mod terms;
pub mod time;
mod timer;
mod transfer;

pub use crate::event::{
    CannotChange, CannotPropose, CannotTransfer, Config, Effect, FollowerView, HardState, Input,
    Installed, NotLeader, ReadTicket, Restored, RoleChange, RoleName, Ticket, Write,
};
pub use crate::raft::Raft;
pub use crate::time::Instant;
