//! A sweep of damage over a follower's data directory, by real processes: one place after the
//! other, one follower at a time, of a cluster that serves all the while.
//!
//! After each strike the follower either comes up, and then it must get whole: the state of the
//! others, and a vote for what is written when it is needed for a quorum; or it refuses with 65,
//! says where and what to try, and gets back what was there. In both cases nothing that was
//! acknowledged is lost or changed, on any member.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use raftctl::client::{Client, Command, Consistency, Deadline, Options as ClientOptions};
use raftctl::client::{KeyRange, Scan, ScanMode, status_of};
use raftd::disk::ReadOnly;
use raftd::snapshot::{SNAPSHOT_DIR, snapshot_id};
use raftd::wal::format::{BATCH_HEADER_BYTES, SEGMENT_HEADER_USED_BYTES, TABLE_ROW_BYTES};
use raftd::wal::identity::IDENTITY_NAME;
use raftd::wal::segment::segment_name;
use raftd::wal::{FoundBatch, examine};

use super::Failure;
use super::members::{Members, Under};
use super::nemesis::Stop;
use super::rot::Rot;
use super::round::converge;
use crate::cluster::Cluster;
use crate::sim::random::Random;

/// Of every member: small files, of which a little is kept behind each snapshot, so that there is
/// something of everything to damage.
const SETTINGS: [&str; 5] = [
    "wal.segment_bytes=256KiB",
    "snapshot.log_bytes=256KiB",
    "snapshot.log_factor=0",
    "snapshot.gap=0s",
    "snapshot.keep_bytes=256KiB",
];
const MEMBERS: usize = 3;
/// Keys that are written again and again.
const KEYS: u64 = 300;
/// Writes before the first strike: some segments.
const WRITES_FIRST: u64 = 400;
/// Writes while the follower is there, and while it is not.
const WRITES: u64 = 20;
/// Bytes of a value.
const VALUE_BYTES: (u64, u64) = (10, 4000);
/// A cluster with a majority serves within that.
const SERVES_WITHIN: Duration = Duration::from_secs(20);
const STATUS_WITHIN: Duration = Duration::from_millis(500);
/// Draws of a place until one changes something.
const DRAWS_MAX: u32 = 100;
const WORD_BYTES: u64 = 8;

/// What a sweep is to be.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// How often a follower is damaged.
    pub strikes: u32,
    /// Decides the places.
    pub seed: u64,
}

/// A part of a data directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Part {
    /// The length of an entry in a batch of the newest segment; what makes etcd take the rest of
    /// its log for the end of it.
    LengthWord,
    /// `IDENTITY`.
    Identity,
    /// The header of a segment in use.
    SegmentHeader,
    /// The header of a batch, and the identities of its entries.
    BatchHeader,
    /// The entries of a batch, and what fills its last sector.
    Payload,
    /// What is behind the last batch: its mark, then zeros.
    Tail,
    /// A snapshot.
    Snapshot,
}

impl Part {
    const ALL: [Self; 7] = [
        Self::LengthWord,
        Self::Identity,
        Self::SegmentHeader,
        Self::BatchHeader,
        Self::Payload,
        Self::Tail,
        Self::Snapshot,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::LengthWord => "length-word",
            Self::Identity => "identity",
            Self::SegmentHeader => "segment-header",
            Self::BatchHeader => "batch-header",
            Self::Payload => "payload",
            Self::Tail => "tail",
            Self::Snapshot => "snapshot",
        }
    }
}

/// What keys hold.
type Content = BTreeMap<String, Vec<u8>>;

/// What the members did, by the part that was damaged.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// It came up and got whole.
    pub whole: BTreeMap<Part, u32>,
    /// It refused with 65, and with a reason.
    pub refused: BTreeMap<Part, u32>,
    /// Writes that were acknowledged.
    pub acknowledged: u64,
    /// Keys that do not hold what was acknowledged last: the first look that finds some ends a run.
    pub lost: u64,
    /// Keys that nobody wrote.
    pub wrong: u64,
}

impl Tally {
    /// The line that ends what a run tells.
    #[must_use]
    pub fn summary(&self) -> String {
        let (acked, lost, wrong) = (self.acknowledged, self.lost, self.wrong);
        let [whole, refused] = [&self.whole, &self.refused].map(|of| of.values().sum::<u32>());
        format!("{acked} acked, {lost} lost, {wrong} wrong, {whole} whole again, {refused} refused")
    }

    /// Demands that all is there that was written, and nothing else.
    fn compare(&mut self, written: &Content, found: &Content, whose: &str) -> Result<(), Stop> {
        let lost = written
            .iter()
            .filter(|(key, value)| found.get(*key) != Some(*value));
        let lost: Vec<&String> = lost.map(|(key, _)| key).collect();
        let wrong: Vec<&String> = found
            .keys()
            .filter(|key| !written.contains_key(*key))
            .collect();
        (self.lost, self.wrong) = (lost.len() as u64, wrong.len() as u64);
        if lost.is_empty() && wrong.is_empty() {
            return Ok(());
        }
        Err(Stop::Failed(format!(
            "{whose} has other values of {lost:?} than were acknowledged, and {wrong:?}, which nobody wrote"
        )))
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<16} whole  refused", "damaged")?;
        for part in Part::ALL {
            let count = |of: &BTreeMap<Part, u32>| of.get(&part).copied().unwrap_or(0);
            let (whole, refused) = (count(&self.whole), count(&self.refused));
            writeln!(f, "{:<16} {whole:>5} {refused:>8}", part.name())?;
        }
        Ok(())
    }
}

/// Damages followers until there were enough strikes, `cancelled` is raised or something is wrong;
/// everything is kept then. Returns what it amounts to, and why it failed if it did.
#[must_use]
pub fn run(
    options: Options,
    cancelled: &AtomicBool,
    say: &(dyn Fn(&str) + Sync),
) -> (Tally, Option<Failure>) {
    let settings = SETTINGS.map(|setting| ["--set", setting]).concat();
    let mut cluster = Cluster::prepare(MEMBERS, &settings);
    let mut sweep = Sweep::new(&mut cluster, options.seed, say);
    let done = sweep.play(options.strikes, cancelled);
    let tally = sweep.tally;
    let failure = match done {
        Ok(()) | Err(Stop::Asked) => None,
        Err(Stop::Failed(what)) => Some(Failure {
            seed: options.seed,
            what,
            kept: Some(cluster.keep()),
        }),
    };
    (tally, failure)
}

struct Sweep<'a> {
    members: Members<'a>,
    addrs: Vec<String>,
    client: Client,
    random: Random,
    /// What every key holds.
    written: Content,
    say: &'a (dyn Fn(&str) + Sync),
    tally: Tally,
}

impl<'a> Sweep<'a> {
    fn new(cluster: &'a mut Cluster, seed: u64, say: &'a (dyn Fn(&str) + Sync)) -> Self {
        let nodes = cluster.nodes.iter();
        let addrs: Vec<String> = nodes.map(|node| node.client_addr.clone()).collect();
        Self {
            members: Members {
                nodes: &mut cluster.nodes,
                restarts: 0,
            },
            client: Client::new(ClientOptions::new(addrs.clone())),
            addrs,
            random: Random::new(seed),
            written: BTreeMap::new(),
            say,
            tally: Tally::default(),
        }
    }

    fn play(&mut self, strikes: u32, cancelled: &AtomicBool) -> Result<(), Stop> {
        self.members.start_all()?;
        self.write(WRITES_FIRST)?;
        converge(&self.addrs, "the new cluster serves")?;
        let mut bag = Vec::new();
        for _ in 0..strikes {
            if cancelled.load(Ordering::Relaxed) {
                return Err(Stop::Asked);
            }
            if bag.is_empty() {
                bag.extend(Part::ALL);
            }
            let part = bag.swap_remove(self.random.index(bag.len()));
            self.strike(part)?;
            converge(&self.addrs, "the damaged member gets whole")?;
            self.read_all()?;
        }
        Ok(())
    }

    /// Damages that part of a follower's directory, and has the follower come back.
    fn strike(&mut self, part: Part) -> Result<(), Stop> {
        self.write(WRITES)?;
        let leader = self.leader()?;
        let i = (leader + 1 + self.random.index(MEMBERS - 1)) % MEMBERS;
        if self.random.below(2) == 0 {
            self.members.kill(i)?;
        } else {
            self.members.stop(i)?;
        }
        self.write(WRITES)?;
        let rot = self.damage(i, part)?;
        let place = format!("{}: {}", part.name(), rot.describe());
        (self.say)(&place);
        self.members.launch(i, Under::Nothing);
        if let Some(status) = self.members.ready_or_end(i)? {
            self.members.demand(i, status, 65, &place)?;
            let said = self.members.nodes[i].log_since_start();
            if !(said.contains("  where: ") && said.contains("  try: ")) {
                let what = format!("refuses damage without saying where: {place}");
                return Err(self.members.failed(i, &what));
            }
            rot.put_back().map_err(|error| told(&rot, &error))?;
            self.members.start(i)?;
            *self.tally.refused.entry(part).or_default() += 1;
            return Ok(());
        }
        converge(&self.addrs, "the damaged member gets whole")?;
        // It counts again: without it there is no majority.
        let other = MEMBERS - leader - i;
        self.members.kill(other)?;
        self.write(1)?;
        self.members.start(other)?;
        *self.tally.whole.entry(part).or_default() += 1;
        Ok(())
    }

    fn leader(&self) -> Result<usize, Stop> {
        let asked = self.addrs.iter();
        let told = asked.filter_map(|addr| status_of(addr, STATUS_WITHIN).ok());
        let newest = told.max_by_key(|status| status.term);
        let leader = newest.and_then(|status| status.leader);
        let leader = leader.ok_or_else(|| Stop::Failed("nobody knows a leader".to_owned()))?;
        Ok(leader.0 as usize - 1)
    }

    /// So many writes, of which each is acknowledged.
    fn write(&mut self, count: u64) -> Result<(), Stop> {
        for _ in 0..count {
            let key = format!("key/{:03}", self.random.below(KEYS));
            let mut value = format!("{:x}.", self.random.bits()).into_bytes();
            let bytes = self.random.within(VALUE_BYTES.0..=VALUE_BYTES.1);
            value.resize(bytes.max(value.len() as u64) as usize, b'.');
            let put = Command::Put {
                key: key.as_bytes(),
                value: &value,
            };
            let written = self.client.write(put, Deadline::after(SERVES_WITHIN));
            written.map_err(|error| Stop::Failed(format!("{key} is not written: {error}")))?;
            self.written.insert(key, value);
            self.tally.acknowledged += 1;
        }
        Ok(())
    }

    /// Reads everything, through the leader and from each member.
    fn read_all(&mut self) -> Result<(), Stop> {
        let all = scan(&mut self.client, Consistency::Linearizable)?;
        self.tally.compare(&self.written, &all, "the leader")?;
        for addr in &self.addrs {
            let mut own = Client::new(ClientOptions::new(vec![addr.clone()]));
            let own = scan(&mut own, Consistency::Stale)?;
            self.tally.compare(&self.written, &own, addr)?;
        }
        Ok(())
    }

    /// Damages a random place of that part of a stopped member's directory.
    fn damage(&mut self, i: usize, part: Part) -> Result<Rot, Stop> {
        let data_dir = self.members.nodes[i].data_dir.clone();
        let atlas = Atlas::of(&data_dir)?;
        for _ in 0..DRAWS_MAX {
            let Some((name, from, to)) = atlas.draw(part, &mut self.random) else {
                break;
            };
            let path = data_dir.join(name);
            let content = fs::read(&path).map_err(|e| Stop::Failed(e.to_string()))?;
            let at = from + self.random.below(to - from);
            let (offset, is) = match self.random.below(3) {
                _ if part == Part::LengthWord => (from, vec![0; (to - from) as usize]),
                0 => (at, vec![content[at as usize] ^ (1 << self.random.below(8))]),
                1 => (at - at % WORD_BYTES, vec![0; WORD_BYTES as usize]),
                _ => (at, Vec::new()),
            };
            let rot = Rot::put(path, offset, is);
            let rot = rot.map_err(|e| Stop::Failed(e.to_string()))?;
            if rot.bites() {
                return Ok(rot);
            }
        }
        let what = format!("{} has nothing of {}", data_dir.display(), part.name());
        Err(Stop::Failed(what))
    }
}

fn told(rot: &Rot, error: &dyn fmt::Display) -> Stop {
    Stop::Failed(format!("{}: {error}", rot.describe()))
}

fn scan(client: &mut Client, consistency: Consistency) -> Result<Content, Stop> {
    let mut found = BTreeMap::new();
    let mut after: Option<Vec<u8>> = None;
    loop {
        let scan = Scan {
            freshness: consistency.into(),
            after: after.as_deref(),
            limit: 100,
            ..Scan::new(ScanMode::Items, KeyRange::default())
        };
        let page = client.scan(scan, Deadline::after(SERVES_WITHIN));
        let page = page.map_err(|error| Stop::Failed(format!("not all can be read: {error}")))?;
        for item in page.items() {
            let key = String::from_utf8_lossy(item.key).into_owned();
            found.insert(key, item.value.to_vec());
        }
        match page.more_after {
            Some(key) => after = Some(key),
            None => return Ok(found),
        }
    }
}

/// Where what stands in a data directory.
struct Atlas {
    batches: Vec<Batch>,
    /// Bytes of each segment's file.
    segment_bytes: u64,
    snapshots: Vec<(PathBuf, u64)>,
    identity_bytes: u64,
}

#[derive(Clone, Copy)]
struct Batch {
    segment: u64,
    offset: u64,
    head_end: u64,
    end: u64,
    entries: u64,
}

impl Atlas {
    fn of(data_dir: &Path) -> Result<Self, Stop> {
        let told =
            |error: &dyn fmt::Display| Stop::Failed(format!("{}: {error}", data_dir.display()));
        let mut batches = Vec::new();
        let seen = |found: FoundBatch<'_>| {
            let header = found.header;
            batches.push(Batch {
                segment: found.segment,
                offset: header.offset,
                head_end: header.offset + header.head_bytes() as u64,
                end: header.end(),
                entries: u64::from(header.entries),
            });
        };
        let examined = examine(&ReadOnly::new(data_dir.to_path_buf()), None, seen);
        let examined = examined.map_err(|error| told(&error))?;
        examined.verdict.map_err(|error| told(&error))?;
        let bytes = |name: &Path| fs::metadata(data_dir.join(name)).map(|file| file.len());
        let mut snapshots = Vec::new();
        for entry in fs::read_dir(data_dir.join(SNAPSHOT_DIR)).map_err(|error| told(&error))? {
            let entry = entry.map_err(|error| told(&error))?;
            if snapshot_id(&entry.file_name().to_string_lossy()).is_some() {
                let name = Path::new(SNAPSHOT_DIR).join(entry.file_name());
                let bytes = bytes(&name).map_err(|error| told(&error))?;
                snapshots.push((name, bytes));
            }
        }
        Ok(Self {
            batches,
            segment_bytes: examined.segments.last().map_or(0, |last| last.header.bytes),
            snapshots,
            identity_bytes: bytes(Path::new(IDENTITY_NAME)).map_err(|error| told(&error))?,
        })
    }

    /// A file and bytes of it. `None`: there is nothing of the kind.
    fn draw(&self, part: Part, random: &mut Random) -> Option<(PathBuf, u64, u64)> {
        let newest = self.batches.last()?;
        let batch = self.batches[random.index(self.batches.len())];
        let segment = |id, from, to| Some((PathBuf::from(segment_name(id)), from, to));
        match part {
            Part::LengthWord => {
                let mine = |batch: &&Batch| batch.segment == newest.segment && batch.entries > 0;
                let batches: Vec<_> = self.batches.iter().filter(mine).collect();
                let batch = *batches.get(random.index(batches.len()))?;
                let row = random.below(batch.entries) * TABLE_ROW_BYTES as u64;
                // The length stands behind the term.
                let at = batch.offset + BATCH_HEADER_BYTES as u64 + row + 8;
                segment(batch.segment, at, at + 4)
            }
            Part::Identity => Some((PathBuf::from(IDENTITY_NAME), 0, self.identity_bytes)),
            Part::SegmentHeader => segment(batch.segment, 0, SEGMENT_HEADER_USED_BYTES as u64),
            Part::BatchHeader => segment(batch.segment, batch.offset, batch.head_end),
            Part::Payload if batch.head_end < batch.end => {
                segment(batch.segment, batch.head_end, batch.end)
            }
            Part::Payload => self.draw(part, random),
            Part::Tail => segment(newest.segment, newest.end, self.segment_bytes),
            Part::Snapshot => {
                let (name, bytes) = self.snapshots.get(random.index(self.snapshots.len()))?;
                Some((name.clone(), 0, *bytes))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_lost_or_nobody_s_is_told_in_the_last_line() {
        let content = |text: &str| -> Content {
            let keys = text.split_whitespace();
            keys.map(|key| (key[..1].to_owned(), key[1..].into()))
                .collect()
        };
        let mut tally = Tally::default();
        let written = content("a1 b2 c3");
        assert_eq!(tally.compare(&written, &written, "n1"), Ok(()));
        assert!(tally.summary().contains(" 0 lost, 0 wrong, "));
        let found = content("a1 b3 x1 y1 z1");
        assert!(tally.compare(&written, &found, "n1").is_err());
        let told = tally.summary();
        assert!(told.contains(" 2 lost, 3 wrong, "), "{told}");
    }
}
