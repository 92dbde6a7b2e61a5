//! Damage of a simulated disk: what was synced rots, cannot be read, or is gone.
//!
//! Each kind is made for a case of recovery's tables (`raftd-wal(5)`), which bits that flip at
//! random would seldom meet. Only two kinds can make a member forget without noticing, which the
//! rules state as the ambiguity that remains (rules E3): [`Damage::LastBatch`] and
//! [`Damage::LastMark`] are for runs that leave the model. The others spare the last batch, or
//! leave evidence.

#[cfg(test)]
mod tests;

use bytes::Bytes;
use raftd::disk::sim::SimDisk;
use raftd::disk::{Disk, SECTOR_BYTES};
use raftd::snapshot::format::HEADER_BYTES;
use raftd::snapshot::{PARTIAL_SUFFIX, SNAPSHOT_DIR};
use raftd::wal::format::{
    BATCH_BYTES_MAX, BATCH_HEADER_BYTES, BatchHeader, BatchKind, Chain, SEGMENT_HEADER_BYTES,
    SegmentHeader,
};
use raftd::wal::identity::{IDENTITY_NAME, SLOT_BYTES};
use raftd::wal::segment::{WAL_DIR, segment_id, segment_name};
use wire::entry::Entry;

use super::random::{MILLION, Random};

/// So many batches before the end of a log are new.
const NEWEST: usize = 8;

/// What is damaged.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Damage {
    /// A record of a batch, with evidence behind it (case D).
    Record,
    /// The header of a batch, with evidence behind it (case H).
    Header,
    /// A batch begins with a sector of zeros, with evidence behind it (case H).
    Blank,
    /// A batch cannot be read.
    Unreadable,
    /// A record of a batch cannot be read, with evidence behind it (case D).
    RecordUnreadable,
    /// A sector of the last batch cannot be read, which no crash brings about (cases O and P).
    LastUnreadable,
    /// A batch says that it follows another than it does (case B).
    Chain,
    /// The last records of a sealed segment, and the seal (case E).
    RecordAndSeal,
    /// The seal of a segment that has a successor (case I).
    Seal,
    /// A byte behind the seal (case N).
    BehindSeal,
    /// A batch behind the seal (case C).
    BatchBehindSeal,
    /// A byte out of reach behind the end of the log (case Q).
    FarByte,
    /// The same, and the mark of the last batch (case L).
    MarkAndFarByte,
    /// The last records, their mark, and a byte out of reach (case F).
    RecordAndFarByte,
    /// The first batch of the newest segment in use (case h).
    FirstBatch,
    /// The header page of the newest segment in use, and its first batch, which would tell what stood
    /// there (case d).
    NewestPage,
    /// The header page of the newest segment in use, whose first batch tells what stood there.
    NewestPageAlone,
    /// The name of the newest segment in use (case a).
    NewestName,
    /// The name of an older segment.
    OlderName,
    /// The header page of an older segment.
    OlderPage,
    /// The header page of the next spare (case e).
    NextPage,
    /// A byte in the next spare (case j).
    NextSpare,
    /// The header page of the spare behind it (case f). Harmless to a member that is down, as the
    /// next two are: recovery removes what it cannot use.
    LaterPage,
    /// A byte in that spare (case k).
    LaterSpare,
    /// The name of that spare, which leaves a gap.
    LaterName,
    /// Both copies in IDENTITY.
    Identity,
    /// One of them, which the other heals.
    IdentityCopy,
    /// The name of IDENTITY.
    IdentityName,
    /// A part of the newest snapshot.
    Snapshot,
    /// A part of what it holds: most of a small one is its header page.
    SnapshotContent,
    /// Its name.
    SnapshotName,
    /// A part of what is being received of one. Harmless: it is received again.
    SnapshotPart,
    /// Bits of any sector that was ever written, the last batch and its mark excepted.
    Anywhere,
    /// The last batch, while its mark stands. Outside the model: the mark may be on its way only.
    LastBatch,
    /// The last batch and its mark. Outside the model: nothing vouches for it.
    LastMark,
}

impl Damage {
    /// Those that must be noticed or be harmless.
    pub const INSIDE: [Self; 29] = [
        Self::Record,
        Self::Header,
        Self::Blank,
        Self::Unreadable,
        Self::RecordUnreadable,
        Self::LastUnreadable,
        Self::Chain,
        Self::RecordAndSeal,
        Self::Seal,
        Self::BehindSeal,
        Self::BatchBehindSeal,
        Self::FarByte,
        Self::MarkAndFarByte,
        Self::RecordAndFarByte,
        Self::FirstBatch,
        Self::NewestPage,
        Self::NewestPageAlone,
        Self::NewestName,
        Self::OlderName,
        Self::OlderPage,
        Self::NextPage,
        Self::NextSpare,
        Self::Identity,
        Self::IdentityCopy,
        Self::IdentityName,
        Self::Snapshot,
        Self::SnapshotContent,
        Self::SnapshotName,
        Self::Anywhere,
    ];

    /// Those that cost a member that is down nothing.
    pub const HARMLESS: [Self; 4] = [
        Self::LaterPage,
        Self::LaterSpare,
        Self::LaterName,
        Self::SnapshotPart,
    ];

    /// One of those that must be noticed or be harmless. Few segments are large enough for a byte
    /// out of reach, so that those get one often; and to end a log at zeros is the mistake that
    /// others have made.
    #[must_use]
    pub fn draw(random: &mut Random, segment_bytes: u64) -> Self {
        if segment_bytes > BATCH_BYTES_MAX && random.chance(MILLION * 3 / 4) {
            return *random.pick(&[Self::FarByte, Self::MarkAndFarByte, Self::RecordAndFarByte]);
        }
        if random.chance(MILLION / 6) {
            return Self::Blank;
        }
        if random.chance(MILLION / 4) {
            return *random.pick(&[Self::Record, Self::Record, Self::RecordUnreadable]);
        }
        *random.pick(&Self::INSIDE)
    }

    /// Whether it may take away the newest term and vote, or who the member is: then it must refuse
    /// to start (rules D4). After the others it gets whole again.
    #[must_use]
    pub fn may_be_final(self) -> bool {
        !matches!(
            self,
            Self::Record
                | Self::Header
                | Self::Blank
                | Self::Unreadable
                | Self::RecordUnreadable
                | Self::Chain
                | Self::RecordAndSeal
                | Self::Seal
                | Self::BehindSeal
                | Self::FirstBatch
                | Self::NewestPageAlone
                | Self::OlderName
                | Self::OlderPage
                | Self::NextPage
                | Self::IdentityCopy
                | Self::Snapshot
                | Self::SnapshotContent
                | Self::SnapshotName
        )
    }

    /// Whether a living process goes on writing there and is none the wiser: all that it makes
    /// durable from then on is lost with the rest.
    #[must_use]
    pub fn undermines(self) -> bool {
        matches!(
            self,
            Self::NewestName
                | Self::NewestPage
                | Self::NewestPageAlone
                | Self::NextPage
                | Self::NextSpare
        )
    }

    /// Damages the disk. Says what it did, or `None` if the disk has no such place.
    pub fn inflict(self, disk: &SimDisk, random: &mut Random) -> Option<String> {
        let mut victim = Victim {
            log: Log::read(disk),
            disk,
            random,
            done: Vec::new(),
        };
        victim.suffer(self)?;
        Some(format!("{self:?}: {}", victim.done.join(", ")))
    }
}

/// A segment in use, as the disk holds it.
struct Segment {
    name: String,
    header: SegmentHeader,
    batches: Vec<Batch>,
}

#[derive(Clone, Copy)]
struct Batch {
    header: BatchHeader,
    crc: u32,
}

impl Segment {
    /// Reads the batches that follow each other from the front.
    fn read(disk: &SimDisk, id: u64) -> Option<Self> {
        let name = segment_name(id);
        let mut page = [0; SEGMENT_HEADER_BYTES as usize];
        let header = disk
            .read_durable(&name, 0, &mut page)
            .then(|| SegmentHeader::decode(&page))??;
        let mut batches = Vec::new();
        let mut offset = SEGMENT_HEADER_BYTES;
        while let Some(batch) = read_batch(disk, &name, &header, offset) {
            offset = batch.header.end();
            batches.push(batch);
        }
        Some(Self {
            name,
            header,
            batches,
        })
    }

    fn is_sealed(&self) -> bool {
        let last = self.batches.last();
        last.is_some_and(|last| last.header.kind == BatchKind::Seal)
    }

    fn end(&self) -> u64 {
        let last = self.batches.last();
        last.map_or(SEGMENT_HEADER_BYTES, |last| last.header.end())
    }
}

fn read_batch(disk: &SimDisk, name: &str, segment: &SegmentHeader, offset: u64) -> Option<Batch> {
    let mut head = vec![0; BATCH_HEADER_BYTES];
    let fits = disk.read_durable(name, offset, &mut head);
    let claimed = fits.then(|| BatchHeader::claimed_head_bytes(&head, segment))??;
    head.resize(claimed, 0);
    let fits = disk.read_durable(name, offset, &mut head);
    let (header, crc) = fits.then(|| BatchHeader::decode(&head, segment, offset))??;
    Some(Batch { header, crc })
}

/// The files with durable names, with their sizes. One that was removed, and may be back after a loss
/// of power, can be harmed no more; and of one that was made anew since, only what both have.
fn files(disk: &SimDisk) -> Vec<(String, u64)> {
    let mut files = disk.durable_files();
    files.retain_mut(|(name, bytes)| {
        let now = disk.open(name).and_then(|file| disk.bytes(&file));
        *bytes = now.as_ref().map_or(0, |now| *now.min(bytes));
        now.is_ok()
    });
    files
}

/// The segments of a disk.
struct Log {
    /// Those with batches, in order.
    used: Vec<Segment>,
    /// The names of the others, in order.
    spares: Vec<String>,
}

impl Log {
    fn read(disk: &SimDisk) -> Self {
        let mut log = Self {
            used: Vec::new(),
            spares: Vec::new(),
        };
        for (name, _) in files(disk) {
            let file = name
                .strip_prefix(WAL_DIR)
                .and_then(|rest| rest.strip_prefix('/'));
            let Some(id) = file.and_then(segment_id) else {
                continue;
            };
            match Segment::read(disk, id) {
                Some(segment) if !segment.batches.is_empty() => log.used.push(segment),
                _ => log.spares.push(name),
            }
        }
        log
    }

    /// Every batch behind which another one is in its segment, with that segment's place.
    fn vouched(&self) -> Vec<(usize, Batch)> {
        let segments = self.used.iter().enumerate();
        let batches = segments.flat_map(|(n, segment)| {
            let (_, vouched) = segment.batches.split_last()?;
            Some(vouched.iter().map(move |batch| (n, *batch)))
        });
        batches.flatten().collect()
    }

    /// The segments that have a successor in use.
    fn older(&self) -> &[Segment] {
        self.used.split_last().map_or(&[], |(_, older)| older)
    }
}

/// A disk under attack.
struct Victim<'a> {
    log: Log,
    disk: &'a SimDisk,
    random: &'a mut Random,
    done: Vec<String>,
}

impl Victim<'_> {
    fn suffer(&mut self, damage: Damage) -> Option<()> {
        match damage {
            Damage::Record
            | Damage::Header
            | Damage::Blank
            | Damage::Unreadable
            | Damage::RecordUnreadable
            | Damage::Chain => self.vouched_batch(damage),
            Damage::RecordAndSeal
            | Damage::Seal
            | Damage::BehindSeal
            | Damage::BatchBehindSeal
            | Damage::OlderName
            | Damage::OlderPage => self.older_segment(damage),
            Damage::FarByte
            | Damage::MarkAndFarByte
            | Damage::RecordAndFarByte
            | Damage::FirstBatch
            | Damage::NewestPage
            | Damage::NewestPageAlone
            | Damage::NewestName
            | Damage::LastUnreadable
            | Damage::LastBatch
            | Damage::LastMark => self.newest_segment(damage),
            Damage::NextPage
            | Damage::NextSpare
            | Damage::LaterPage
            | Damage::LaterSpare
            | Damage::LaterName => self.spare(damage),
            Damage::Identity | Damage::IdentityCopy | Damage::IdentityName => self.identity(damage),
            Damage::Snapshot
            | Damage::SnapshotContent
            | Damage::SnapshotName
            | Damage::SnapshotPart => self.snapshot(damage),
            Damage::Anywhere => self.anywhere(),
        }
    }

    fn vouched_batch(&mut self, damage: Damage) -> Option<()> {
        let vouched = self.log.vouched();
        let fitting = vouched.iter().filter(|(_, batch)| match damage {
            Damage::Record | Damage::RecordUnreadable => batch.header.payload_bytes > 0,
            Damage::Chain => batch.header.kind == BatchKind::Append,
            _ => true,
        });
        let fitting: Vec<&(usize, Batch)> = fitting.collect();
        // What is old, a snapshot covers often.
        let newest = if self.random.chance(MILLION / 2) {
            fitting.len().saturating_sub(NEWEST)
        } else {
            0
        };
        let fitting = &fitting[newest..];
        let (n, batch) = **fitting.get(self.random.index(fitting.len()))?;
        let name = self.log.used[n].name.clone();
        match damage {
            Damage::Record => self.rot_record(&name, &batch.header),
            Damage::Header => {
                self.rot_within(&name, batch.header.offset, batch.header.head_bytes());
            }
            Damage::Blank => self.blank(&name, batch.header.offset),
            Damage::Unreadable => self.make_unreadable(&name, batch.header.offset),
            Damage::RecordUnreadable => {
                let behind = self.random.below(u64::from(batch.header.payload_bytes));
                let payload = batch.header.offset + batch.header.head_bytes() as u64;
                self.make_unreadable(&name, payload + behind);
            }
            _ => self.forge_chain(n, &batch)?,
        }
        Some(())
    }

    fn older_segment(&mut self, damage: Damage) -> Option<()> {
        let sealed = self
            .log
            .older()
            .iter()
            .filter(|segment| segment.is_sealed());
        let places = sealed.count();
        let n = (places > 0).then(|| self.random.index(places))?;
        let segment = &self.log.used[n];
        let (name, end) = (segment.name.clone(), segment.end());
        let seal = segment.batches.last()?.header;
        match damage {
            Damage::OlderName => self.lose(&name),
            Damage::OlderPage => self.rot_within(&name, 0, 64),
            Damage::Seal => self.rot_within(&name, seal.offset, BATCH_HEADER_BYTES),
            Damage::RecordAndSeal => {
                let last = segment.batches[..segment.batches.len() - 1].last()?.header;
                (last.payload_bytes > 0).then_some(())?;
                self.rot_record(&name, &last);
                self.rot_within(&name, seal.offset, BATCH_HEADER_BYTES);
            }
            Damage::BehindSeal => {
                (end < segment.header.bytes).then_some(())?;
                self.rot_within(&name, end, 1);
            }
            _ => self.forge_behind(n)?,
        }
        Some(())
    }

    fn newest_segment(&mut self, damage: Damage) -> Option<()> {
        let segment = self.log.used.last()?;
        let (name, end, bytes) = (segment.name.clone(), segment.end(), segment.header.bytes);
        let last = segment.batches.last()?.header;
        let room_beyond = end + BATCH_BYTES_MAX + SECTOR_BYTES < bytes;
        match damage {
            Damage::NewestPage => {
                self.rot_within(&name, 0, 64);
                self.rot_within(&name, SEGMENT_HEADER_BYTES, BATCH_HEADER_BYTES);
            }
            Damage::NewestPageAlone => self.rot_within(&name, 0, 64),
            Damage::NewestName => self.lose(&name),
            Damage::FirstBatch => {
                let first = segment.batches[0].header;
                (segment.batches.len() > 1).then_some(())?;
                self.rot_within(&name, first.offset, BATCH_HEADER_BYTES);
            }
            Damage::LastUnreadable => {
                let behind = self.random.below(last.end() - last.offset);
                self.make_unreadable(&name, last.offset + behind);
            }
            Damage::FarByte | Damage::MarkAndFarByte => {
                room_beyond.then_some(())?;
                self.rot_within(&name, bytes - SECTOR_BYTES, 1);
                if damage == Damage::MarkAndFarByte {
                    self.rot_within(&name, end, 64);
                }
            }
            Damage::RecordAndFarByte => {
                (room_beyond && last.payload_bytes > 0 && !segment.is_sealed()).then_some(())?;
                self.rot_record(&name, &last);
                self.rot_within(&name, end, 64);
                self.rot_within(&name, bytes - SECTOR_BYTES, 1);
            }
            _ => {
                (segment.batches.len() > 1).then_some(())?;
                let whole = (last.end() - last.offset) as usize;
                let most = if last.payload_bytes > 0 {
                    last.head_bytes()
                } else {
                    whole
                };
                self.rot_within(&name, last.offset, most);
                if damage == Damage::LastMark {
                    self.rot_within(&name, end, 64);
                }
            }
        }
        Some(())
    }

    fn spare(&mut self, damage: Damage) -> Option<()> {
        let later = !matches!(damage, Damage::NextPage | Damage::NextSpare);
        let name = self.log.spares.get(usize::from(later))?.clone();
        match damage {
            Damage::NextPage | Damage::LaterPage => self.rot_within(&name, 0, 64),
            Damage::LaterName => self.lose(&name),
            _ => self.rot_within(&name, SEGMENT_HEADER_BYTES, 8192),
        }
        Some(())
    }

    fn identity(&mut self, damage: Damage) -> Option<()> {
        let mut byte = [0];
        self.disk
            .read_durable(IDENTITY_NAME, 0, &mut byte)
            .then_some(())?;
        let slot = self.random.below(2) * SLOT_BYTES as u64;
        match damage {
            Damage::IdentityName => self.lose(IDENTITY_NAME),
            Damage::IdentityCopy => self.rot_within(IDENTITY_NAME, slot, 64),
            _ => {
                self.rot_within(IDENTITY_NAME, 0, 64);
                self.rot_within(IDENTITY_NAME, SLOT_BYTES as u64, 64);
            }
        }
        Some(())
    }

    fn snapshot(&mut self, damage: Damage) -> Option<()> {
        let suffix = match damage {
            Damage::SnapshotPart => PARTIAL_SUFFIX,
            _ => ".snap",
        };
        let files = files(self.disk);
        let mut fitting = files.iter().rev().filter(|(name, _)| {
            let in_dir = name.strip_prefix(SNAPSHOT_DIR);
            in_dir.is_some_and(|rest| rest.starts_with('/') && rest.ends_with(suffix))
        });
        let (name, bytes) = fitting.next()?;
        match damage {
            Damage::SnapshotName => self.lose(name),
            Damage::SnapshotContent => {
                let page = HEADER_BYTES as u64;
                let behind = bytes.checked_sub(page).filter(|behind| *behind > 0)?;
                self.rot_within(name, page, behind as usize);
            }
            _ => {
                (*bytes > 0).then_some(())?;
                self.rot_within(name, 0, *bytes as usize);
            }
        }
        Some(())
    }

    /// A sector that holds something. Of the newest segment only those before its last batch: all
    /// behind is the mark, or nothing.
    fn anywhere(&mut self) -> Option<()> {
        let newest = self.log.used.last()?;
        let spared = newest.batches.last()?.header.offset / SECTOR_BYTES;
        let spared_in = newest.name.clone();
        let mut places = Vec::new();
        for (name, _) in files(self.disk) {
            let sectors = self.disk.used_sectors(&name).into_iter();
            let fitting = sectors.filter(|sector| name != spared_in || *sector < spared);
            places.extend(fitting.map(|sector| (name.clone(), sector)));
        }
        let (name, sector) = places.get(self.random.index(places.len()))?;
        self.rot_within(name, sector * SECTOR_BYTES, SECTOR_BYTES as usize);
        Some(())
    }

    // --- the ways to do harm ---

    /// Flips bits: of one byte within the range, or of all bytes of that byte's sector that lie
    /// within it.
    fn rot_within(&mut self, name: &str, offset: u64, length: usize) {
        let at = offset + self.random.below(length as u64);
        let mut range = at..at + 1;
        if self.random.chance(MILLION / 4) {
            let sector = at / SECTOR_BYTES * SECTOR_BYTES;
            range = offset.max(sector)..(offset + length as u64).min(sector + SECTOR_BYTES);
        }
        self.done.push(format!("{name} rots at {range:?}"));
        for at in range {
            self.disk.rot(name, at, self.random.within(1..=255) as u8);
        }
    }

    /// A sector, which begins there, turns into zeros.
    fn blank(&mut self, name: &str, offset: u64) {
        let mut sector = [0; SECTOR_BYTES as usize];
        let whole = self.disk.read_durable(name, offset, &mut sector);
        assert!(whole, "a sector of {name} lies outside of it");
        for (byte, at) in sector.into_iter().zip(offset..) {
            self.disk.rot(name, at, byte);
        }
        self.done.push(format!("{name} at {offset} is zeros"));
    }

    fn make_unreadable(&mut self, name: &str, at: u64) {
        self.disk.make_unreadable(name, at..at + 1);
        self.done.push(format!("{name} at {at} cannot be read"));
    }

    fn rot_record(&mut self, name: &str, batch: &BatchHeader) {
        let payload = batch.offset + batch.head_bytes() as u64;
        self.rot_within(name, payload, batch.payload_bytes as usize);
    }

    fn lose(&mut self, name: &str) {
        self.disk.lose_name(name);
        self.done.push(format!("{name} is gone"));
    }

    /// Another header in its place, genuine in itself, as if it followed another batch.
    fn forge_chain(&mut self, n: usize, batch: &Batch) -> Option<()> {
        let segment = &self.log.used[n];
        let name = segment.name.clone();
        let header = batch.header;
        let mut payload = vec![0; header.payload_bytes as usize];
        let at = header.offset + header.head_bytes() as u64;
        self.disk
            .read_durable(&name, at, &mut payload)
            .then_some(())?;
        let mut payload = Bytes::from(payload);
        let mut entries = Vec::new();
        while let Ok(entry) = Entry::split_from(&mut payload) {
            entries.push(entry);
        }
        (entries.len() == header.entries as usize).then_some(())?;
        let forged = BatchHeader {
            previous: Chain {
                header_crc: !header.previous.header_crc,
                ..header.previous
            },
            ..header
        };
        let mut head = Vec::new();
        forged.encode(&segment.header, &entries, &mut head);
        self.overwrite(&name, header.offset, &head);
        Some(())
    }

    /// A batch where nothing may stand any more.
    fn forge_behind(&mut self, n: usize) -> Option<()> {
        let segment = &self.log.used[n];
        let (name, seal) = (segment.name.clone(), segment.batches.last()?);
        // An earlier damage may hide it.
        segment.is_sealed().then_some(())?;
        (segment.end() + SECTOR_BYTES <= segment.header.bytes).then_some(())?;
        let forged = BatchHeader {
            kind: BatchKind::Append,
            offset: segment.end(),
            number: seal.header.number + 1,
            previous: Chain {
                number: seal.header.number,
                header_crc: seal.crc,
                last: seal.header.previous.last,
            },
            ..seal.header
        };
        let mut head = Vec::new();
        forged.encode(&segment.header, &[], &mut head);
        self.overwrite(&name, forged.offset, &head);
        Some(())
    }

    fn overwrite(&mut self, name: &str, offset: u64, bytes: &[u8]) {
        let mut held = vec![0; bytes.len()];
        if self.disk.read_durable(name, offset, &mut held) {
            for (at, (old, new)) in held.iter().zip(bytes).enumerate() {
                self.disk.rot(name, offset + at as u64, old ^ new);
            }
            self.done
                .push(format!("{name} says something else at {offset}"));
        }
    }
}
