//! The ways to do harm to a disk.

use bytes::Bytes;
use raftd::disk::SECTOR_BYTES;
use raftd::disk::sim::SimDisk;
use raftd::snapshot::format::HEADER_BYTES;
use raftd::snapshot::{PARTIAL_SUFFIX, SNAPSHOT_DIR};
use raftd::wal::format::{
    BATCH_BYTES_MAX, BATCH_HEADER_BYTES, BatchHeader, BatchKind, Chain, MARK_BYTES,
    SEGMENT_HEADER_BYTES,
};
use raftd::wal::identity::{IDENTITY_NAME, SLOT_BYTES};
use wire::entry::Entry;

use super::Damage;
use super::log::{Batch, Log, files};
use crate::sim::random::{MILLION, Random};

/// So many batches before the end of a log are new.
const NEWEST: usize = 8;

/// A disk under attack.
pub(super) struct Victim<'a> {
    log: Log,
    disk: &'a SimDisk,
    random: &'a mut Random,
    done: Vec<String>,
}

impl<'a> Victim<'a> {
    pub(super) fn new(disk: &'a SimDisk, random: &'a mut Random) -> Self {
        Self {
            log: Log::read(disk),
            disk,
            random,
            done: Vec::new(),
        }
    }

    /// What was done to it.
    pub(super) fn done(&self) -> &[String] {
        &self.done
    }

    /// `None` if it has no such place.
    pub(super) fn suffer(&mut self, damage: Damage) -> Option<()> {
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
            | Damage::BehindUnreadable
            | Damage::LastBatch
            | Damage::LastMark => self.newest_segment(damage),
            Damage::NextPage
            | Damage::NextSpare
            | Damage::NextFile
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
                if end < bytes && self.random.chance(MILLION / 2) {
                    self.rot_mark(&name, end);
                }
                let head = last.head_bytes() as u64;
                let at = if self.random.chance(MILLION / 2) {
                    last.offset + self.random.below(head)
                } else {
                    last.offset + head + u64::from(last.payload_bytes) - 1
                };
                self.make_unreadable(&name, at);
            }
            Damage::BehindUnreadable => {
                let reach = (end + BATCH_BYTES_MAX).min(bytes);
                let behind_mark = end + SECTOR_BYTES..reach;
                (!behind_mark.is_empty() && !segment.is_sealed()).then_some(())?;
                let at = self.random.within(behind_mark.start..=behind_mark.end - 1);
                self.make_unreadable(&name, at);
            }
            Damage::FarByte | Damage::MarkAndFarByte => {
                room_beyond.then_some(())?;
                if damage == Damage::MarkAndFarByte {
                    self.rot_mark(&name, end);
                }
                self.rot_within(&name, bytes - SECTOR_BYTES, 1);
            }
            Damage::RecordAndFarByte => {
                (room_beyond && last.payload_bytes > 0 && !segment.is_sealed()).then_some(())?;
                self.rot_mark(&name, end);
                self.rot_record(&name, &last);
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
                if damage == Damage::LastMark {
                    self.rot_mark(&name, end);
                }
                self.rot_within(&name, last.offset, most);
            }
        }
        Some(())
    }

    fn spare(&mut self, damage: Damage) -> Option<()> {
        let later = !matches!(
            damage,
            Damage::NextPage | Damage::NextSpare | Damage::NextFile
        );
        let name = self.log.spares.get(usize::from(later))?.clone();
        match damage {
            Damage::NextPage | Damage::LaterPage => self.rot_within(&name, 0, 64),
            Damage::LaterName => self.lose(&name),
            Damage::NextFile => {
                self.rot_within(&name, 0, 64);
                self.rot_within(&name, SEGMENT_HEADER_BYTES, 8192);
            }
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

    /// The mark of the last batch, also if it was on its way to the disk until now.
    fn rot_mark(&mut self, name: &str, end: u64) {
        self.disk.tamper(name, |_| {});
        self.rot_within(name, end, MARK_BYTES);
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
