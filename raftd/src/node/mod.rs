//! The deterministic node: Raft, the store, and everything that waits for either.
//!
//! A driver hands in what happened and carries out the effects; a turn is any number of
//! [`Node::step`]s and one [`Node::flush`]:
//!
//! ```text
//! client bytes -> admission -> raft.propose ---+-> StorageRequest::Write -> Durable --+
//!                    |                         +-> Append -> AppendOk ----------------+-> commit
//!                    +-> parked (no leader, no room)                                        |
//!                    +-> raft.read -> round confirmed + index applied -> reply     apply -> reply
//! ```
//!
//! | file | what waits there | until |
//! |---|---|---|
//! | `admission.rs` | requests | a leader is known, there is room, or their deadline |
//! | `apply.rs` | appended writes | their entry is applied |
//! | `reads.rs` | reads | a quorum, or the leader, answered, and their index is applied |
//! | `views.rs` | views that clients walk over | their last page, or they are too old |
//! | `freeing.rs` | keys of views that are over | their turn: a few are freed in a millisecond |
//! | `outbox.rs` | messages | what they reveal is durable |
//! | `forming.rs` | the whole node | the cluster is formed |
//! | `snapshots.rs` | a frozen state | its entry is durable, and the one before is written |
//! | `changes.rs` | changes of the members | the entries of both steps are applied |
//! | `transfer.rs` | pieces of a snapshot for a follower | the follower has stored the one before |
//! | `fetch.rs` | damaged entries | another member has sent them |
//! | `resign.rs` | an operator, or a stop | a hand-over has ended |
//! | `rebuild.rs` | all who read | the leader's snapshot has replaced a state in doubt |

mod admission;
mod apply;
mod changes;
mod client;
mod config;
mod digests;
mod disk;
mod fetch;
mod forming;
mod freeing;
mod freshness;
mod handover;
pub mod io;
mod journal;
mod leaders;
mod links;
mod members;
mod outbox;
mod plan;
mod reads;
mod rebuild;
mod resign;
mod retry;
mod sending;
mod snapshots;
pub mod status;
mod transfer;
mod views;

use bytes::BytesMut;
use log::Level;
use raft::{Effect, Instant, Raft, RoleChange, RoleName, Ticket};
use wire::error::Error;
use wire::leadership::Cause;
use wire::peer::{DiskState, Message};
use wire::types::{Index, NodeId};

use self::admission::ParkingLot;
use self::apply::{Loader, Proposals};
use self::changes::Changes;
use self::client::Clients;
pub use self::config::{Config, Limits, Policy};
use self::digests::Digests;
use self::disk::Disks;
use self::fetch::Fetching;
use self::forming::Forming;
use self::freeing::Freeing;
use self::io::{
    Effects, Input, LinkId, LoadPurpose, Now, SnapshotFile, StorageEvent, StorageRequest,
};
use self::journal::Journal;
use self::leaders::{Leaders, sign_of};
use self::links::{Direction, Links};
use self::outbox::Outbox;
use self::reads::Reads;
use self::resign::Resignation;
use self::snapshots::Snapshots;
use self::views::Views;
use crate::store::Store;

/// What a data directory holds.
#[derive(Debug)]
pub struct Restored {
    /// Its log.
    pub raft: raft::Restored,
    /// The state that its newest snapshot holds; an empty one if there is none.
    pub store: Store,
    /// That snapshot. If it is damaged and the log before it is gone, `raft` is rebuilding, the store
    /// empty, and there is no snapshot.
    pub snapshot: SnapshotFile,
}

/// One member of a cluster: Raft, store, sessions and what waits for them. No thread, socket,
/// file or clock: the simulator runs this very type.
///
/// Invariants:
/// - applied <= committed, and the store applies every committed entry once, in order;
/// - a request is answered once: with its result, with an error of the class not-applied or final
///   if it was never appended, else with its outcome as decided at apply or "unknown" (rules C4);
/// - what waits is bounded, by count and by bytes, wherever it waits;
/// - the same inputs at the same times bring the same effects.
#[derive(Debug)]
pub struct Node {
    config: Config,
    raft: Raft,
    store: Store,
    forming: Forming,
    links: Links,
    outbox: Outbox,
    disks: Disks,
    clients: Clients,
    parked: ParkingLot,
    proposals: Proposals,
    reads: Reads,
    views: Views,
    freeing: Freeing,
    loader: Loader,
    snapshots: Snapshots,
    fetching: Fetching,
    digests: Digests,
    /// The state is not what a quorum holds, and is to be thrown away.
    condemned: bool,
    handed_over_at: Option<Instant>,
    changes: Changes,
    /// When a learner without a leader says hello anew.
    knock_at: Option<Instant>,
    resignation: Option<Resignation>,
    leaders: Leaders,
    journal: Journal,

    /// The times of the last input.
    now: Now,
    started: Instant,
    role: RoleChange,
    committed: Index,
    /// What was known to be committed at start: until it is applied, the state is an old one.
    replay_to: Index,
    /// Whether the own disk was stalled at the last flush.
    stalled: bool,
    /// Whether the own log was lost at the last flush.
    lost: bool,
    /// When the next parked request or waiting read expires, or earlier.
    expiry: Option<Instant>,
    /// Set by [`Input::Stop`]: when to end at the latest.
    stop_at: Option<Instant>,
    /// The turn's budget did not suffice: the next turn should come at once.
    unfinished: bool,

    /// Buffers for reuse.
    raft_effects: Vec<Effect>,
    page_bytes: BytesMut,
}

impl Node {
    /// A node as its disk tells of it.
    ///
    /// # Panics
    /// If `restored` contradicts itself: it comes from this program's own code.
    #[must_use]
    pub fn new(config: Config, restored: Restored, now: Now) -> Self {
        let Restored {
            raft: restored,
            store,
            snapshot,
        } = restored;
        assert_eq!(
            store.applied(),
            snapshot.id,
            "the state is that of the snapshot"
        );
        let raft_config = raft::Config {
            id: config.id,
            election_timeout_min: config.election_timeout_min,
            election_timeout_max: config.election_timeout_max,
            heartbeat: config.heartbeat,
            window_bytes: config.limits.window_bytes,
            cache_bytes: config.limits.cache_bytes,
            life: config.life,
            seed: config.seed,
        };
        let forming = Forming::new(config.formed.clone());
        let restored = raft::Restored {
            formed: forming.is_formed(),
            ..restored
        };
        let raft = Raft::new(raft_config, restored, now.monotonic);
        Self {
            snapshots: Snapshots::new(snapshot, now.monotonic, store.data_bytes()),
            store,
            forming,
            links: Links::default(),
            outbox: Outbox::default(),
            disks: Disks::new(config.wal_bytes),
            clients: Clients::default(),
            parked: ParkingLot::default(),
            proposals: Proposals::default(),
            reads: Reads::default(),
            views: Views::default(),
            freeing: Freeing::default(),
            loader: Loader::default(),
            fetching: Fetching::default(),
            digests: Digests::new(config.limits.digest_entries),
            condemned: false,
            handed_over_at: None,
            changes: Changes::default(),
            knock_at: None,
            resignation: None,
            leaders: Leaders::default(),
            journal: Journal::default(),
            now,
            started: now.monotonic,
            role: RoleChange {
                role: raft.role(),
                term: raft.term(),
                leader: raft.leader(),
            },
            committed: raft.commit(),
            replay_to: raft.commit(),
            stalled: false,
            lost: false,
            expiry: None,
            stop_at: None,
            unfinished: true,
            raft_effects: Vec::new(),
            page_bytes: BytesMut::new(),
            config,
            raft,
        }
    }

    /// Whether the loop may wait for a disk now. Heartbeats never do (rules B4), so a leader's
    /// loop must not, unless there is nobody to hear them.
    #[must_use]
    pub fn may_wait_for_disk(&self) -> bool {
        let others = self.raft.followers().next().is_some();
        let needed = self.raft.role() == RoleName::Leader && others;
        !needed && !self.stalled
    }

    /// Whether the report of a durable write is wanted at once. Else it may come with the next
    /// input, so that a leader is not woken for what its followers' answers will wake it for.
    #[must_use]
    pub fn awaits_disk(&self) -> bool {
        let held_back = !self.outbox.is_empty() || !self.parked.is_empty();
        held_back || self.stop_at.is_some() || self.raft.awaits_own_disk()
    }

    /// The store: for tests and checkers.
    #[must_use]
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The Raft core: for tests and checkers.
    #[must_use]
    pub fn raft(&self) -> &Raft {
        &self.raft
    }

    /// How many requests wait for a leader or for room: for tests and checkers.
    #[must_use]
    pub fn parked(&self) -> usize {
        self.parked.len()
    }

    /// Takes one input.
    pub fn step(&mut self, now: Now, input: Input<'_>, effects: &mut Effects) {
        self.now = now;
        match input {
            Input::Tick => self.step_raft(raft::Input::Tick, effects),
            Input::LinkDialled { link, peer } => {
                self.links.open(link, peer, Direction::Dialled);
                self.snapshots.transfers.renew_link(peer);
            }
            Input::LinkAccepted { link, peer } => self.links.open(link, peer, Direction::Accepted),
            Input::LinkClosed { link, by_peer } => self.link_closed(link, by_peer, effects),
            Input::Peer { link, message } => self.receive(link, message, effects),
            Input::Client {
                connection,
                request_id,
                request,
            } => self.admit(connection, request_id, request, effects),
            Input::ClientClogged {
                connection,
                clogged,
            } => self.clog_client(connection, clogged),
            Input::ClientClosed(connection) => self.close_client(connection),
            Input::Storage(event) => self.stored(event, effects),
            Input::RemovedBy(peer) => self.end_removed(&format!("node {peer}"), effects),
            Input::Stop => self.stop(effects),
        }
    }

    /// Ends a turn: what the turn's steps brought is sent, written, applied and answered.
    pub fn flush(&mut self, now: Now, effects: &mut Effects) {
        self.now = now;
        self.form(effects);
        self.knock(effects);
        let (report, stalled) = self.disks.report(now.monotonic);
        if stalled != self.stalled {
            self.stalled = stalled;
            self.journal.repeated(
                now.monotonic,
                Level::Warn,
                ("disk", u64::from(stalled)),
                || {
                    format!(
                        "disk stalled={stalled} oldest_write_ms={}",
                        report.oldest_write_ms
                    )
                },
            );
        }
        self.raft.set_disk(report, stalled);
        self.note_loss();
        self.forget_gone();
        self.expire(effects);
        self.views
            .expire(now.monotonic, &self.config.limits, &mut self.freeing);
        self.unpark(effects);
        self.propose_due_snapshot();
        self.hand_over_if_due();
        self.tend_members();
        self.fetch_faulty(effects);
        self.tell_digest();
        let mut raft_effects = std::mem::take(&mut self.raft_effects);
        self.raft.flush(now.monotonic, &mut raft_effects);
        self.absorb(raft_effects, effects);
        self.tend_resignation(effects);
        let applying = self.apply_committed(effects);
        self.rebuild_if_condemned(effects);
        self.tend_snapshots(effects);
        let serving = self.serve_reads(effects);
        // What this flush committed may have made room.
        self.unfinished = applying || serving || self.may_unpark();
        self.freeing.tend(now.monotonic);
        self.end_if_stopped(effects);
        self.journal.drain(effects);
    }

    /// When the next [`Input::Tick`] is due, if nothing else happens.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        if self.unfinished {
            return Some(self.now.monotonic);
        }
        let stalls_at = if self.stalled {
            None
        } else {
            self.disks.stalls_at()
        };
        [
            self.raft.deadline(),
            self.expiry,
            stalls_at,
            self.loader.retry_at,
            self.stop_at,
            self.snapshot_due_at(),
            self.snapshot_wanted_at(),
            self.snapshots.transfers.deadline(),
            self.fetching.deadline(),
            self.knock_at,
            self.resigns_until(),
            self.views.deadline(&self.config.limits),
            self.freeing.deadline(),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// A peer's message (thesis 3.3).
    fn receive(&mut self, link: LinkId, message: Message, effects: &mut Effects) {
        let Some((from, direction)) = self.links.peer(link) else {
            return;
        };
        if message.is_answer() != (direction == Direction::Dialled) {
            let reason = "requests travel on the link that their sender dialled".to_owned();
            effects
                .close_links
                .push((link, Error::Malformed { reason }));
            return;
        }
        self.disks.heard(from, self.raft.membership(), &message);
        self.forming.heard_message(from);
        let message = match message {
            Message::Fetch(asked) => return self.fetch_asked(from, &asked, effects),
            Message::Fetched(answer) => return self.fetched(from, answer, effects),
            // Where the leader serves no reads, its followers do not (rules D5).
            Message::ReadIndex(_) if self.state_in_doubt().is_some() => return,
            message => message,
        };
        let append_term = match &message {
            Message::Append(append) => Some(append.term),
            _ => None,
        };
        self.leaders.expect(sign_of(&message));
        self.step_raft(raft::Input::Receive { from, message }, effects);
        self.leaders.expect(None);
        if append_term == Some(self.raft.term()) {
            self.links.carried_append(link, self.raft.term());
        }
    }

    /// A closed link is a sign that the leader is gone if it carried this term's `Append`s and
    /// the other end closed it (rules B3).
    fn link_closed(&mut self, link: LinkId, by_peer: bool, effects: &mut Effects) {
        let carried = self.links.close(link);
        if by_peer && carried == Some(self.raft.term()) {
            self.leaders.expect(Some(Cause::LinkClosed));
            self.step_raft(raft::Input::LeaderLinkClosed, effects);
            self.leaders.expect(None);
        }
    }

    /// The storage thread reports.
    fn stored(&mut self, event: StorageEvent, effects: &mut Effects) {
        match event {
            StorageEvent::Durable {
                ticket,
                wal_bytes,
                disk,
            } => {
                self.room(disk, wal_bytes, effects);
                self.disks.finished(ticket);
                self.release(ticket, effects);
                self.step_raft(raft::Input::Durable(ticket), effects);
            }
            StorageEvent::HardStateDurable(ticket) => {
                self.release(ticket, effects);
                self.step_raft(raft::Input::HardStateDurable(ticket), effects);
            }
            StorageEvent::Loaded {
                purpose: LoadPurpose::Replicate(to),
                entries,
                ..
            } => self.step_raft(raft::Input::Loaded { to, entries }, effects),
            StorageEvent::Loaded {
                purpose: LoadPurpose::Apply,
                from,
                entries,
            } => self.loaded(from, entries),
            StorageEvent::Loaded {
                purpose: LoadPurpose::Fetch(to),
                entries,
                ..
            } => self.fetch_read(to, entries, effects),
            StorageEvent::Faulty(entries) => self.found_faulty(entries),
            StorageEvent::Rot { upto } => {
                let text = format!("the log is damaged, a snapshot takes its place upto={upto}");
                self.journal.line(Level::Error, text);
                self.snapshots.want(upto);
            }
            StorageEvent::Formed => self.formed(effects),
            StorageEvent::Marked(id) => self.marked(id, effects),
            StorageEvent::Compacted { base, wal_bytes } => {
                self.disks.wal_bytes = wal_bytes;
                self.raft.compact(base.index);
            }
            StorageEvent::Scrubbed { bytes, findings } => {
                let text = format!("scrubbed bytes={bytes} findings={findings}");
                self.journal.line(Level::Info, text);
            }
            StorageEvent::Snapshot(event) => self.snapshot_event(event, effects),
        }
    }

    /// The room on the disk. When it gets low, what the log keeps for followers that lag goes.
    fn room(&mut self, state: DiskState, wal_bytes: u64, effects: &mut Effects) {
        let was_ok = self.disks.state() == DiskState::Ok;
        self.disks.room(state, wal_bytes);
        if was_ok && state != DiskState::Ok {
            self.compact(effects);
        }
    }

    /// Sends what waited for the hard states up to this write.
    fn release(&mut self, ticket: Ticket, effects: &mut Effects) {
        let links = &self.links;
        self.outbox
            .durable(ticket, |to, message| post(links, to, message, effects));
    }

    fn step_raft(&mut self, input: raft::Input, effects: &mut Effects) {
        let mut raft_effects = std::mem::take(&mut self.raft_effects);
        self.raft.step(self.now.monotonic, input, &mut raft_effects);
        self.absorb(raft_effects, effects);
    }

    /// Carries out what Raft wants, in order.
    fn absorb(&mut self, mut raft_effects: Vec<Effect>, effects: &mut Effects) {
        for effect in raft_effects.drain(..) {
            match effect {
                Effect::Write(write) => {
                    self.disks.started(write.ticket, self.now.monotonic);
                    effects.storage.push(StorageRequest::Write(write));
                }
                Effect::Send { to, after, message } => self.send(to, after, message, effects),
                Effect::Commit(index) => self.committed = self.committed.max(index),
                Effect::RoundConfirmed { round, index } => {
                    self.confirm_reads(round, index, effects);
                }
                Effect::Load {
                    to,
                    from,
                    max_bytes,
                } => effects.storage.push(StorageRequest::Load {
                    purpose: LoadPurpose::Replicate(to),
                    from,
                    to: self.raft.durable(),
                    max_bytes,
                }),
                Effect::MembershipChanged(membership) => {
                    self.members_changed(&membership, effects);
                }
                Effect::Digest { from, digest } => self.digest_told(from, digest),
                Effect::RoleChanged(change) => self.role_changed(change, effects),
                Effect::Chunk(chunk) => self.chunk_received(chunk, effects),
                Effect::SnapshotAnswer { from, answer } => {
                    self.snapshot_answered(from, &answer, effects);
                }
                Effect::Refuse { peer, error } => self.refuse_peer(peer, &error, effects),
            }
        }
        self.raft_effects = raft_effects;
    }

    fn send(&mut self, to: NodeId, after: Option<Ticket>, message: Message, effects: &mut Effects) {
        match after {
            Some(ticket) if !self.outbox.may_leave(ticket) => {
                self.outbox.hold(ticket, to, message);
            }
            _ => post(&self.links, to, message, effects),
        }
    }

    fn role_changed(&mut self, change: RoleChange, effects: &mut Effects) {
        let before = std::mem::replace(&mut self.role, change);
        let led = before.role == RoleName::Leader;
        let leads = change.role == RoleName::Leader;
        if change.term != before.term {
            self.outbox.enter_term(change.term);
        }
        if led && (!leads || change.term != before.term) {
            self.abandon_proposals(effects);
            self.fail_reads(effects);
            self.abandon_change(effects);
            self.snapshots.step_down();
        }
        if change.leader != before.leader || change.term != before.term {
            self.reask_reads(effects);
        }
        if leads && !led {
            self.disks.forget_others();
        }
        if leads != led {
            self.digests.forget_told();
        }
        let cause = self.note_leader(before, change);
        self.note_role(before, change, cause);
        if change.leader.is_some() {
            self.tell_news(effects);
        }
    }

    fn refuse_peer(&mut self, peer: NodeId, error: &Error, effects: &mut Effects) {
        let links = self.links.of(peer);
        effects
            .close_links
            .extend(links.map(|link| (link, error.clone())));
        self.journal.repeated(
            self.now.monotonic,
            Level::Error,
            ("link closed", peer.0),
            || format!("link closed peer={peer} reason=\"{error}\""),
        );
    }
}

/// Puts a message on the link that it belongs to. Without a link it is lost, as on any network.
fn post(links: &Links, to: NodeId, message: Message, effects: &mut Effects) {
    let direction = if message.is_answer() {
        Direction::Accepted
    } else {
        Direction::Dialled
    };
    if let Some(link) = links.to(to, direction) {
        effects.peers.push((link, message));
    }
}
