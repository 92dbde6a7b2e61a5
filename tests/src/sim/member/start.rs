//! How a life begins: from what the disk holds, as `raftd` opens it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::{iter, mem};

use raftd::disk::{Latched, Meter};
use raftd::net::dial::Dialler;
use raftd::node::io::Effects;
use raftd::node::{self, Node};
use raftd::storage::{self, Keeper, LogReader, Scrubber, SpareMaker, open_disk};
use raftd::store::{Builder, Run, Store};
use raftd::wal::identity::Identity;
use raftd::wal::{Report, entry_bytes_max};
use wire::client::Item;
use wire::peer::DiskState;
use wire::types::{Incarnation, Index, NodeId};

use super::table::Table;
use super::{
    CLUSTER, Death, EPOCH, Member, Process, Settings, Surroundings, client_addr, name_of, peer_addr,
};

impl Member {
    /// Who its data directory becomes if it is empty.
    fn identity(&mut self, settings: &Settings) -> Identity {
        let drawn = Incarnation(self.random.bits() | 1);
        match &self.admitted {
            Some((admitted, incarnation)) => Identity {
                cluster: admitted.cluster,
                node: admitted.node,
                incarnation: *incarnation,
                epoch: admitted.epoch,
                formed: admitted.formed.clone(),
                members: admitted.members.clone(),
                next_epoch: None,
            },
            None => Identity {
                cluster: CLUSTER,
                node: self.id,
                incarnation: drawn,
                epoch: EPOCH,
                formed: Vec::new(),
                members: (0..settings.members)
                    .map(|host| (NodeId(host as u64 + 1), peer_addr(host, 0).to_string()))
                    .collect(),
                next_epoch: None,
            },
        }
    }

    /// Opens the data directory and begins a life. Says what recovery found.
    ///
    /// # Errors
    /// The process did not get that far.
    pub fn start(
        &mut self,
        settings: &Settings,
        around: &mut Surroundings<'_>,
    ) -> Result<Report, Death> {
        assert!(self.process.is_none(), "one process at a time");
        self.lives += 1;
        self.disk = self.disk.restart();
        if let Some((after, crash)) = self.crash_in_recovery.take() {
            self.crash_at_operation(after, crash);
        }
        self.clock.start_over(around.now);
        let options = storage::Options {
            data_dir: PathBuf::new(),
            segment_bytes: settings.segment_bytes,
            soft_free_bytes: settings.soft_free_bytes,
            tail_bytes: settings.tail_bytes,
            sessions_max: settings.limits.sessions_max,
            snapshot_rate_bytes: 0,
            scrubbing: storage::Scrubbing::default(),
            meter: Meter::default(),
            create: Some(self.identity(settings)),
            seed: self.random.bits(),
        };
        let mut opened = open_disk(Latched::new(self.disk.clone()), &options)
            .map_err(|fatal| self.death_of(fatal))?;
        // Of no state no part can be wrong.
        if mem::take(&mut self.spoils) && opened.state.store.applied().index > Index(0) {
            spoil(&mut opened.state.store, options.sessions_max);
        }
        let report = opened.log.recovered.report;
        let say = || format!("{} opens its disk: {report}", self.id);
        around.trace.line(around.now, say);
        let identity = opened.log.identity.clone();
        let mut keeper = Keeper::new(self.disk.clone(), &identity, options.sessions_max);
        keeper.set_newest(opened.state.store.data_bytes(), opened.state.snapshot.bytes);
        let (restored, worker) = opened.start();
        let next_segment = worker.wal().next_segment();
        let maker = SpareMaker::new(self.disk.clone(), identity.owner(), next_segment, &options);
        let now = self.clock.show(around.now);
        let config = self.config(settings, &identity, worker.wal().bytes());
        let dialler_seed = self.random.bits();
        let node = Node::new(config, restored, now);
        let dialler = Dialler::new(node.peers(), dialler_seed);
        self.process = Some(Process {
            life: self.lives,
            host: self.host,
            node,
            effects: Effects::default(),
            now,
            worker,
            maker,
            scrubber: Scrubber::new(self.disk.clone()),
            scrubs: settings.scrubs,
            keeper,
            log_reader: LogReader::new(self.disk.clone()),
            keep_at: None,
            waiting: VecDeque::new(),
            at_disk: false,
            round: 0,
            // What is damaged is said in the first round.
            news: true,
            room: DiskState::Ok,
            reports: VecDeque::new(),
            make_at: around.now,
            table: Table::new(settings.timeouts),
            dialler,
            stop_wanted: false,
            stop_at: None,
            stopped: false,
            fuse: None,
            crash_at_report: None,
            refused_vote: None,
        });
        self.plan_spare(around);
        self.go_to_disk(around);
        self.busy_until = around.now;
        self.next_turn = Some(around.now);
        Ok(report)
    }

    fn config(&mut self, settings: &Settings, identity: &Identity, wal_bytes: u64) -> node::Config {
        let keep_bytes = settings.keep_bytes.get(self.host);
        node::Config {
            id: self.id,
            name: name_of(self.host),
            client_addr: client_addr(self.host).to_string(),
            members: identity.members.clone(),
            cluster: identity.cluster,
            epoch: identity.epoch,
            incarnation: identity.incarnation,
            life: self.random.bits(),
            formed: identity.formed.clone(),
            election_timeout_min: settings.election_timeout,
            election_timeout_max: settings.election_timeout * 2,
            heartbeat: settings.heartbeat,
            limits: node::Limits {
                entry_bytes_max: entry_bytes_max(settings.segment_bytes),
                ..settings.limits
            },
            snapshots: node::Policy {
                keep_bytes: *keep_bytes.unwrap_or(&settings.snapshots.keep_bytes),
                ..settings.snapshots
            },
            wal_bytes,
            seed: settings.same_seed.unwrap_or_else(|| self.random.bits()),
            version: "sim".to_owned(),
        }
    }
}

/// Adds a key that nobody wrote, unless an earlier life has kept it in a snapshot.
fn spoil(store: &mut Store, sessions_max: usize) {
    const KEY: &[u8] = b"\0";
    let mut head = store.view().head().clone();
    let first = store.map().iter().next();
    if first.is_some_and(|item| item.key == KEY) {
        return;
    }
    head.keys += 1;
    let mut builder = Builder::new(head);
    let wrong = Item {
        key: KEY,
        value: b"wrong",
        revision: Index(1),
        create_revision: Index(1),
        version: 1,
    };
    let mut run = Run::default();
    for item in iter::once(wrong).chain(store.map().iter()) {
        run.push(item).expect("keys ascend from the first");
    }
    builder.run(run).expect("it is the first");
    for session in store.view().sessions() {
        builder.session(&session).expect("it was one before");
    }
    *store = builder.finish(sessions_max).expect("all of it is there");
}
