//! One round: a cluster, its torture, and the verdict on it.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use raftctl::client::status_of;
use raftd::snapshot::{SNAPSHOT_DIR, snapshot_id, verify};
use rustix::process::Signal;
use wire::client::{Consistency, Status};
use wire::types::Index;

use super::client::{Client, Shared};
use super::disks::Small;
use super::ledger::{Deed, Fault, Ledger, Tally};
use super::load::{ask_on, read_all};
use super::log::Log;
use super::members::{Members, has_strace};
use super::nemesis::{Halt, Scene, Stop};
use super::plan::Plan;
use super::proxy::Proxies;
use super::{Failure, HEALS_WITHIN, Options, SEGMENT_BYTES};
use crate::cluster::Cluster;
use crate::history::search::{self, Budget};
use crate::history::{Answer, History, Operation, acks, text, witness};
use crate::wait;

/// Of every member, whatever the tests of other things set: the timing that ships, and segments so
/// small that a disk can be full in a second.
const SETTINGS: [&str; 6] = [
    "raft.timing=lan",
    // SEGMENT_BYTES
    "wal.segment_bytes=256KiB",
    "wal.soft_free_bytes=1MiB",
    // A snapshot every few seconds.
    "snapshot.log_bytes=256KiB",
    "snapshot.log_factor=0",
    "snapshot.gap=0s",
];
/// How much of the log stays behind a snapshot: nothing, or all that a round can write.
const KEEPS: [&str; 2] = ["snapshot.keep_bytes=0", "snapshot.keep_bytes=16GiB"];
/// What a tmpfs may hold while it is not full.
const TMPFS_BYTES: u64 = 4 << 30;
/// What an ext4 may hold while it is not full.
const EXT4_BYTES: u64 = 1 << 30;
/// Clients at a time.
const CLIENTS: usize = 10;
/// Who reads everything at the end.
const AUDITOR: u64 = 1000;
/// For a look at a member's status when all is whole.
const STATUS_WITHIN: Duration = Duration::from_millis(500);

/// What is left of a round when it fails, and where it is told.
struct Diary<'a> {
    file: Mutex<File>,
    began: Instant,
    say: &'a (dyn Fn(&str) + Sync),
}

impl Diary<'_> {
    fn write(&self, line: &str) {
        let line = format!("{:9.3} {line}", self.began.elapsed().as_secs_f64());
        // A lane that panicked ends the run anyway.
        if let Ok(mut file) = self.file.lock() {
            let _ = writeln!(file, "{line}");
        }
        (self.say)(&line);
    }
}

/// What one seed is given.
pub(super) struct Round<'a> {
    pub(super) plan: &'a Plan,
    /// How long faults go on.
    pub(super) time: Duration,
    pub(super) options: Options,
    pub(super) cancelled: &'a AtomicBool,
    pub(super) say: &'a (dyn Fn(&str) + Sync),
}

/// The machine's part of a round.
struct Stage<'a> {
    round: &'a Round<'a>,
    proxies: Proxies,
    tally: Arc<Tally>,
    cluster: Cluster,
    /// Of which member each is the disk.
    disks: Vec<(usize, Small)>,
    diary: Diary<'a>,
    ledger: Ledger,
    history: History,
    /// What is committed, once it was read back.
    log: Option<Log>,
}

impl Round<'_> {
    /// From the first start to the verdict.
    pub(super) fn run(self) -> (Ledger, Option<Failure>) {
        let mut stage = Stage::set(&self);
        let verdict = stage.play();
        let ledger = std::mem::take(&mut stage.ledger);
        if let Err(Stop::Failed(what)) = verdict {
            stage.diary.write(&what);
            let failure = Failure {
                seed: self.plan.seed,
                what,
                kept: Some(stage.keep()),
            };
            return (ledger, Some(failure));
        }
        if self.options.keep {
            let kept = stage.keep();
            (self.say)(&format!("kept in {}", kept.display()));
        } else {
            stage.clear();
        }
        (ledger, None)
    }
}

impl<'a> Stage<'a> {
    fn set(round: &'a Round<'a>) -> Self {
        let plan = round.plan;
        let tally = Arc::new(Tally::default());
        let proxies = Proxies::open(plan.members, plan.proxy_seed, Arc::clone(&tally));
        let proxies = proxies.expect("ports on loopback");
        let keeps = KEEPS[usize::from(plan.keeps_logs)];
        let settings: Vec<&str> = SETTINGS
            .into_iter()
            .chain([keeps])
            .flat_map(|setting| ["--set", setting])
            .collect();
        let mut cluster = Cluster::prepare_behind(Some(proxies.addrs()), plan.members, &settings);
        let peers = cluster.nodes.iter().map(|node| node.peer_addr.parse());
        proxies.lead_to(peers.collect::<Result<_, _>>().expect("addresses"));
        let file = File::create(cluster.path("torture.log")).expect("a log");
        let diary = Diary {
            file: Mutex::new(file),
            began: Instant::now(),
            say: round.say,
        };
        diary.write(&plan.to_string());
        let mut ledger = Ledger::default();
        let disks = if round.options.unprivileged {
            let why = "it takes root".to_owned();
            ledger
                .left_out
                .extend([Fault::FullTmpfs, Fault::FullExt4].map(|f| (f, why.clone())));
            Vec::new()
        } else {
            mount(&mut cluster, &mut ledger)
        };
        if !has_strace(&cluster.path("")) {
            let why = "strace is missing, or may not be used: apt-get install strace";
            ledger.left_out.insert(Fault::SlowSync, why.to_owned());
            ledger.left_out.insert(Fault::FailedSync, why.to_owned());
        }
        for (fault, why) in &ledger.left_out {
            diary.write(&format!("SKIP {}: {why}", fault.name()));
        }
        Self {
            round,
            proxies,
            tally,
            cluster,
            disks,
            diary,
            ledger,
            history: History::default(),
            log: None,
        }
    }

    fn play(&mut self) -> Result<(), Stop> {
        let addrs: Vec<String> = self
            .cluster
            .nodes
            .iter()
            .map(|node| node.client_addr.clone())
            .collect();
        let shared = Shared::new(addrs.clone(), CLIENTS);
        let mut members = Members {
            nodes: &mut self.cluster.nodes,
            restarts: 0,
        };
        members.start_all()?;
        converge(&addrs, "the new cluster serves")?;
        let healed = self.torture(&shared)?;
        if self.round.cancelled.load(Ordering::Relaxed) {
            return Err(Stop::Asked);
        }
        let committed = converge(&addrs, "the healed cluster converges")?;
        self.ledger.healed_within = healed.elapsed();
        self.audit(&shared)?;
        let log = self.read_back(committed)?;
        self.compare_snapshots()?;
        let verdict = self.judge(&log);
        self.log = Some(log);
        verdict
    }

    /// Faults and clients, until the time is over; then heals, and demands that clients are served.
    /// Returns when it healed.
    fn torture(&mut self, shared: &Shared) -> Result<Instant, Stop> {
        let (plan, diary) = (self.round.plan, &self.diary);
        let failed = AtomicBool::new(false);
        let began = Instant::now();
        let halt = Halt {
            at: began + self.round.time,
            cancelled: self.round.cancelled,
            failed: &failed,
        };
        let room = Mutex::new(());
        let scene = Scene {
            proxies: &self.proxies,
            tally: &self.tally,
            halt: &halt,
            client_addrs: &shared.addrs,
            room: &room,
            strace: !self.ledger.left_out.contains_key(&Fault::SlowSync),
            say: &|line| diary.write(line),
        };
        let disks: Vec<(usize, &Small)> = self.disks.iter().map(|(i, disk)| (*i, disk)).collect();
        let mut members = Members {
            nodes: &mut self.cluster.nodes,
            restarts: 0,
        };
        shared.start_the_gap();
        let (clients, ended) = thread::scope(|scope| {
            let asking: Vec<_> = (0..CLIENTS)
                .map(|number| {
                    let (end, ends) = mpsc::channel();
                    let seed = plan.load_seed.wrapping_add(number as u64);
                    (
                        end,
                        scope.spawn(move || ask_on(shared, number, seed, &ends)),
                    )
                })
                .collect();
            let links = scope.spawn(|| scene.torture_links(plan.clone()));
            let full = scope.spawn(|| {
                let ended = scene.torture_disks(plan.clone(), &disks);
                failed.fetch_or(matches!(ended, Err(Stop::Failed(_))), Ordering::Relaxed);
                ended
            });
            let resets = scope.spawn(|| scene.reset_clients(plan.clone(), shared));
            let mut ended = members.torture(&scene, plan.clone());
            failed.store(true, Ordering::Relaxed);
            let lanes = [
                links.join().map(|()| Err(Stop::Asked)),
                full.join(),
                resets.join().map(|()| Err(Stop::Asked)),
            ];
            for lane in lanes {
                let lane = lane.expect("a lane panicked: see above");
                if matches!(lane, Err(Stop::Failed(_))) {
                    ended = lane;
                }
            }
            self.ledger.tortured = began.elapsed();
            self.proxies.heal();
            let healed = Instant::now();
            if ended == Err(Stop::Asked) && !self.round.cancelled.load(Ordering::Relaxed) {
                diary.write("healed");
                ended = served_again(shared);
            }
            let clients: Vec<Client<'_>> = asking
                .into_iter()
                .map(|(end, client)| {
                    drop(end);
                    client.join().expect("a client panicked: see above")
                })
                .collect();
            (clients, ended.map(|()| healed))
        });
        self.ledger.restarts = members.restarts;
        let lived = members.all_live();
        self.take_in(clients, shared)?;
        lived.and(ended)
    }

    /// What the clients saw.
    fn take_in(&mut self, clients: Vec<Client<'_>>, shared: &Shared) -> Result<(), Stop> {
        let gap_ns = shared.longest_gap_ns.load(Ordering::Relaxed);
        self.ledger.longest_gap = Duration::from_nanos(gap_ns);
        let mut complaints = Vec::new();
        for client in clients {
            for _ in 0..client.resets {
                self.tally.count(Fault::ClientReset);
            }
            let number = client.number();
            *self.ledger.deeds.entry(Deed::ViewPage).or_default() += client.pages;
            self.history.records.extend(client.records);
            let complaint = client.complaint.into_iter();
            complaints.extend(complaint.map(|complaint| format!("client {number}: {complaint}")));
        }
        for record in &self.history.records {
            let is_write = matches!(record.operation, Operation::Write { .. });
            match record.answer {
                Answer::Written { .. } => self.ledger.acknowledged += 1,
                Answer::NotApplied if is_write => self.ledger.not_applied += 1,
                Answer::Unknown if is_write => self.ledger.unknown += 1,
                _ => {}
            }
            self.ledger.answered += u64::from(record.index().is_some());
            for deed in Deed::of(record) {
                *self.ledger.deeds.entry(deed).or_default() += 1;
            }
        }
        self.ledger.faults = Fault::ALL
            .into_iter()
            .map(|fault| (fault, self.tally.of(fault)))
            .filter(|(_, count)| *count > 0)
            .collect();
        self.ledger.wrong = complaints.len() as u64;
        match complaints.into_iter().next() {
            Some(first) => Err(Stop::Failed(first)),
            None => Ok(()),
        }
    }

    /// Reads everything that there is: through the leader, and from every member.
    fn audit(&mut self, shared: &Shared) -> Result<(), Stop> {
        let mut auditor = Client::new(shared, AUDITOR, self.round.plan.seed);
        let mut read = read_all(&mut auditor, Consistency::Linearizable, HEALS_WITHIN);
        for member in 0..shared.addrs.len() {
            auditor.visit(member);
            read &= read_all(&mut auditor, Consistency::Stale, HEALS_WITHIN);
        }
        self.history.records.append(&mut auditor.records);
        match auditor.complaint {
            Some(complaint) => Err(self.wrong(format!("the auditor: {complaint}"))),
            None if !read => Err(Stop::Failed("not all can be read at the end".to_owned())),
            None => Ok(()),
        }
    }

    /// Stops the members and reads their logs, which must agree on everything committed; returns
    /// the one that goes back furthest.
    fn read_back(&mut self, committed: Index) -> Result<Log, Stop> {
        for node in &mut self.cluster.nodes {
            let status = node.stop(Signal::TERM);
            if status.code() != Some(0) {
                let said = node.log_since_start();
                let what = format!("member {} ended with {status} at the end:\n{said}", node.id);
                return Err(Stop::Failed(what));
            }
        }
        let mut whole: Option<Log> = None;
        for node in &self.cluster.nodes {
            let id = node.id;
            let mut log = Log::read(&node.data_dir, SEGMENT_BYTES)?;
            let (held, commit) = (log.last(), log.commit);
            if held < committed || commit > committed {
                let what = format!(
                    "member {id} holds entries up to {held} and believes {commit} are committed; \
                     {committed} are",
                );
                return Err(Stop::Failed(what));
            }
            log.truncate(committed);
            if let Some(Err(entry)) = whole.as_ref().map(|whole| whole.agree(&log)) {
                let what = format!("member {id} has another entry {entry}, which is committed");
                return Err(Stop::Failed(what));
            }
            if whole.as_ref().is_none_or(|whole| log.base < whole.base) {
                whole = Some(log);
            }
        }
        whole.ok_or_else(|| Stop::Failed("a cluster without members".to_owned()))
    }

    /// Snapshots must be whole and, of one entry, the same bytes on all members.
    fn compare_snapshots(&mut self) -> Result<(), Stop> {
        let mut seen: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        for node in &self.cluster.nodes {
            let found = snapshots(&node.data_dir).map_err(|error| error.to_string())?;
            for (name, bytes) in found {
                let place = format!("member {}'s snapshot {name}", node.id);
                verify(&mut &bytes[..], &name).map_err(|error| format!("{place}: {error}"))?;
                if *seen.entry(name).or_insert_with(|| bytes.clone()) != bytes {
                    return Err(Stop::Failed(format!("{place} is not what another has")));
                }
            }
            let said = fs::read(&node.log).unwrap_or_default();
            let said = String::from_utf8_lossy(&said);
            let count = |words| said.matches(words).count() as u64;
            self.ledger.snapshots += count("snapshot published id=");
            self.ledger.installs += count("snapshot installed id=");
        }
        Ok(())
    }

    /// The log must explain what clients were told, as far as it goes back, and so must some order
    /// that knows no log.
    fn judge(&mut self, log: &Log) -> Result<(), Stop> {
        let (held, lost) = log.acknowledged(&self.history);
        self.ledger.lost = lost.len() as u64;
        if let Some(first) = lost.into_iter().next() {
            return Err(Stop::Failed(first));
        }
        let summary = match log.committed() {
            Some(committed) => witness::check(&self.history, committed),
            None => acks::check(&self.history),
        };
        let summary = summary.map_err(|violation| self.wrong(violation.to_string()))?;
        let searched = search::check(&self.history, Budget::default());
        let searched = searched.map_err(|violation| self.wrong(violation.to_string()))?;
        let (base, entries) = (log.base, log.entries.len() as u64);
        self.diary.write(&format!(
            "{entries} entries behind {base} hold {held} acknowledged writes: {summary:?}"
        ));
        self.diary.write(&format!("{searched:?}"));
        self.ledger.entries = entries;
        self.ledger.searched = searched.keys - searched.gave_up.len() as u64;
        self.ledger.rounds = 1;
        Ok(())
    }

    /// A client was told what cannot be.
    fn wrong(&mut self, what: String) -> Stop {
        self.ledger.wrong += 1;
        Stop::Failed(what)
    }

    /// Ends everything and removes it.
    fn clear(self) {
        let Self {
            mut cluster, disks, ..
        } = self;
        cluster.kill_all();
        drop(disks);
        drop(cluster);
    }

    /// Ends everything and puts it where it stays.
    fn keep(self) -> PathBuf {
        let Self {
            mut cluster,
            disks,
            history,
            log,
            ..
        } = self;
        cluster.kill_all();
        // What cannot be kept is missed, and no more.
        if let Ok(file) = File::create(cluster.path("history.jsonl")) {
            let mut out = BufWriter::new(file);
            let _ = text::write(&mut out, &history, log.as_ref().and_then(Log::committed));
        }
        for (member, disk) in &disks {
            let copy = cluster.path(&format!("n{}", member + 1));
            let _ = Command::new("cp")
                .arg("-a")
                .arg(disk.path())
                .arg(copy)
                .status();
        }
        drop(disks);
        let kept = cluster.keep();
        let _ = fs::remove_file(image(&kept));
        kept
    }
}

/// Puts the first two members on disks of their own, where this user may.
fn mount(cluster: &mut Cluster, ledger: &mut Ledger) -> Vec<(usize, Small)> {
    let image = image(&cluster.path(""));
    let made = [
        Small::tmpfs(&cluster.path("disk1"), TMPFS_BYTES),
        Small::ext4(&image, &cluster.path("disk2"), EXT4_BYTES),
    ];
    let mut disks = Vec::new();
    for ((i, small), fault) in made
        .into_iter()
        .enumerate()
        .zip([Fault::FullTmpfs, Fault::FullExt4])
    {
        match small {
            Ok(small) => {
                cluster.nodes[i].data_dir = small.path().join("data");
                disks.push((i, small));
            }
            Err(why) => {
                ledger.left_out.insert(fault, why);
            }
        }
    }
    disks
}

fn image(folder: &Path) -> PathBuf {
    folder.join("disk2.ext4")
}

/// The published snapshots of a stopped member.
fn snapshots(data_dir: &Path) -> io::Result<Vec<(String, Vec<u8>)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(data_dir.join(SNAPSHOT_DIR))? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if snapshot_id(&name).is_some() {
            found.push((name, fs::read(entry.path())?));
        }
    }
    Ok(found)
}

/// Waits until an answer came after now.
fn served_again(shared: &Shared) -> Result<(), Stop> {
    let now_ns = shared.now_ns();
    let end = Instant::now() + HEALS_WITHIN;
    wait::until("an answer or the end of patience", HEALS_WITHIN * 2, || {
        if shared.answered_ns.load(Ordering::Relaxed) > now_ns {
            return Some(Ok(()));
        }
        let what = format!("no client is served within {HEALS_WITHIN:?} after all faults");
        (Instant::now() > end).then_some(Err(Stop::Failed(what)))
    })
}

/// Waits until every member has applied and made durable all that there is, and all have the same
/// state; returns the last index.
pub(super) fn converge(addrs: &[String], what: &str) -> Result<Index, Stop> {
    let end = Instant::now() + HEALS_WITHIN;
    wait::until(what, HEALS_WITHIN * 3, || {
        let asked = addrs.iter().map(|addr| status_of(addr, STATUS_WITHIN));
        let told: Vec<Result<Status, _>> = asked.collect();
        let all: Vec<&Status> = told
            .iter()
            .filter_map(|status| status.as_ref().ok())
            .collect();
        if let Some(first) = all.first().filter(|_| all.len() == addrs.len()) {
            let same = |status: &&Status| {
                status.leader.is_some()
                    && status.leader == first.leader
                    && status.quorum_ok
                    && status.applied == first.last
                    && status.last == first.last
                    && status.durable == first.last
                    && status.digest == first.digest
            };
            if first.last > Index(0) && all.iter().all(same) {
                return Some(Ok(first.last));
            }
        }
        let late = Instant::now() > end;
        late.then(|| {
            Err(Stop::Failed(format!(
                "not within {HEALS_WITHIN:?}: {what}: {told:#?}"
            )))
        })
    })
}
