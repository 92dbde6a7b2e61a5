//! Data directories out of scripts: one as a node leaves it, then what nobody would do to it.

use std::ops::Range;

use byteorder::{BigEndian, ByteOrder};
use raft::{HardState, Ticket, Write};
use raftd::disk::sim::{Fault, SimDisk};
use raftd::disk::{Disk, Latched};
use raftd::wal::format::{
    ALIGN_BYTES, BATCH_HEADER_BYTES, BATCH_MAGIC, MARK_BYTES, MARK_MAGIC,
    SEGMENT_HEADER_USED_BYTES, TABLE_ROW_BYTES, batch_bytes,
};
use raftd::wal::identity::{IDENTITY_NAME, SLOT_BYTES};
use raftd::wal::segment::{self, WAL_DIR, segment_name};
use raftd::wal::{Error, Pending, Wal};
use wire::entry::ENTRY_HEADER_BYTES;
use wire::types::{EntryId, Index, NodeId, Term};

use super::super::disk::{entry, membership_entry};
use super::super::script::Script;
use super::{DISK_BYTES, make_spare, open, own_identity, write};

const SECTOR: usize = ALIGN_BYTES as usize;
/// Writes that the node did, at most.
const WRITES_MAX: usize = 12;
/// Things done to its files, at most.
const DAMAGES_MAX: usize = 32;

/// A node's log, its end, and what happened to its files afterwards. Says whether checksums were made
/// right.
pub(super) fn draw(script: &mut Script<'_>) -> (SimDisk, bool) {
    let disk = draw_sound(script);
    let mut forged = false;
    for _ in 0..DAMAGES_MAX {
        if script.is_over() {
            break;
        }
        forged |= damage(&disk, script);
    }
    (disk, forged)
}

/// A node's log and its end: the process, or the power, at any operation.
pub(super) fn draw_sound(script: &mut Script<'_>) -> SimDisk {
    let disk = SimDisk::new(u64::from(script.byte()), DISK_BYTES);
    let end = script.byte();
    if end < 64 {
        let fault = script.pick(&[Fault::PowerLoss, Fault::Kill]);
        disk.fail_at(1 + u64::from(end) * 2, fault);
    }
    live(&disk, script);
    if end & 1 == 1 && !disk.is_down() {
        disk.power_loss();
    }
    disk.restart()
}

/// Writes until the machine goes down, if it does.
fn live(disk: &SimDisk, script: &mut Script<'_>) {
    let Ok(opened) = open(disk) else {
        return;
    };
    let mut wal = opened.recovered.wal;
    let (mut term, mut last, mut commit) = (1, 0, 0);
    let mut garbage = wal.first_segment()..wal.first_segment();
    for ticket in 1..=script.below(WRITES_MAX + 1) as u64 {
        let choice = script.byte();
        let (mut reset, mut truncate_from) = (None, None);
        if choice & 3 == 3 {
            term += 1;
            if last > commit && choice & 4 == 4 {
                truncate_from = Some(Index(commit + 1));
                last = commit;
            } else if script.rarely(4) {
                commit += 1 + script.below(8) as u64;
                last = commit;
                reset = Some(EntryId {
                    term: Term(term),
                    index: Index(commit),
                });
            }
        }
        let count =
            [1, 0, 3, 1][usize::from(choice >> 4 & 3)].max(u64::from(truncate_from.is_some()));
        let bytes = [10, 0, 600, 70_000][usize::from(choice >> 6)];
        let entries = (last + 1..=last + count).map(|index| match (bytes, index % 2) {
            (10, 0) => membership_entry(term, index),
            _ => entry(term, index, bytes),
        });
        let mut pending = Pending::default();
        pending.push(Write {
            ticket: Ticket(ticket),
            hard_state: HardState {
                term: Term(term),
                vote: Some(NodeId(1)),
                lost: false,
            },
            reset,
            truncate_from,
            entries: entries.collect(),
            commit: Index(commit),
        });
        last += count;
        if choice & 8 == 8 {
            commit = last;
        }
        if write(&mut wal, &mut pending).is_err()
            || (script.rarely(4) && keep_house(&mut wal, &mut garbage, commit).is_err())
        {
            return;
        }
    }
    if script.flag() {
        // The machine may go down in the middle of it.
        let _ = make_spare(&mut wal);
    }
}

/// Publishes a snapshot of what is committed, lets the log forget what it covers, and removes one
/// file of that.
fn keep_house(
    wal: &mut Wal<Latched<SimDisk>>,
    garbage: &mut Range<u64>,
    commit: u64,
) -> Result<(), Error> {
    let newest = wal.load(Index(commit), Index(commit), 0)?;
    if let [entry] = &newest[..] {
        wal.mark(entry.id());
        write(wal, &mut Pending::default())?;
    }
    garbage.end = wal.compact(wal.snapshot().index, 0).end;
    Ok(segment::remove(wal.disk(), garbage)?)
}

/// One of the log's files; those that are there more often than others.
fn a_name(script: &mut Script<'_>) -> String {
    match script.below(16) {
        0..=8 => segment_name(1),
        9..=12 => segment_name(2),
        13 => segment_name(3),
        14 => segment_name(script.near(4)),
        _ => format!("{WAL_DIR}/{:016x}.wal.tmp", script.below(4)),
    }
}

/// One thing done to one file. Says whether checksums were made right, so that it cannot be noticed.
pub(super) fn damage(disk: &SimDisk, script: &mut Script<'_>) -> bool {
    let choice = script.below(16);
    if choice == 0 {
        let name = script.pick(&[IDENTITY_NAME, "IDENTITY.tmp"]);
        if disk.content(name).is_some() {
            damage_file(disk, name, script);
        }
        return false;
    }
    let name = a_name(script);
    let Some(mut bytes) = disk.content(&name) else {
        // A file of somebody else, or a copy of one of ours.
        let copy = disk.content(&segment_name(1)).unwrap_or_default();
        if choice > 8 {
            let content = if script.flag() {
                &copy
            } else {
                script.bytes(600)
            };
            put(disk, &name, content);
        }
        return false;
    };
    match choice {
        1..=9 => edit_batch(&mut bytes, script),
        10 => edit_mark(&mut bytes, script),
        11 => edit_page(&mut bytes, script),
        _ => {
            damage_file(disk, &name, script);
            return false;
        }
    }
    disk.tamper(&name, |file| *file = bytes);
    true
}

/// Places in a file: near the front more often than not, where the batches are.
fn a_place(script: &mut Script<'_>, bytes: usize) -> usize {
    let sector = match script.below(4) {
        0 => usize::from(script.byte()) << 8 | usize::from(script.byte()),
        1 => 0,
        _ => 8 + script.below(24),
    };
    (sector * SECTOR + script.below(256) * 2) % bytes.max(1)
}

/// Without any checksum made right.
fn damage_file(disk: &SimDisk, name: &str, script: &mut Script<'_>) {
    let bytes = disk.content(name).map_or(0, |bytes| bytes.len());
    let (at, from) = (a_place(script, bytes), a_place(script, bytes));
    match script.below(8) {
        0 => disk.remove(name).expect("it is there"),
        1 => disk.tamper(name, |file| file.truncate(at)),
        2 => disk.make_unreadable(name, at as u64..at as u64 + 1),
        3 => disk.tamper(name, |file| {
            let (from, to) = (from / SECTOR * SECTOR, at / SECTOR * SECTOR);
            let sectors = script.below(8) * SECTOR;
            let most = file.len() - from.max(to);
            file.copy_within(from..from + sectors.min(most), to);
        }),
        4 => disk.tamper(name, |file| {
            let end = file.len().min(at + script.below(256) * 16);
            file[at..end].fill(script.pick(&[0, 0, 0xff]));
        }),
        5 => disk.tamper(name, |file| {
            if let Some(byte) = file.get_mut(at) {
                *byte ^= 1 << script.below(8);
            }
        }),
        6 => disk.tamper(name, |file| {
            let new = script.bytes(1024);
            let end = file.len().min(at + new.len());
            file[at..end].copy_from_slice(&new[..end - at]);
        }),
        _ => disk.tamper(name, |file| {
            let longer = file.len() + script.below(256) * 100;
            file.resize(longer, 0);
        }),
    }
    // What is there now was there always.
    disk.sync_dir(WAL_DIR).expect("the machine is up");
    disk.sync_dir("").expect("the machine is up");
}

fn put(disk: &SimDisk, name: &str, bytes: &[u8]) {
    let file = disk
        .create(name, bytes.len() as u64)
        .expect("there is room");
    disk.write_at(&file, 0, bytes).expect("the machine is up");
    disk.sync(&file).expect("the machine is up");
    disk.sync_dir(WAL_DIR).expect("the machine is up");
}

/// Where the genuine looking batches of a segment stand.
fn batches(bytes: &[u8]) -> Vec<usize> {
    let places = (0..bytes.len()).step_by(SECTOR);
    let magic = |at: &usize| bytes[*at..].starts_with(&BATCH_MAGIC.to_be_bytes());
    places.skip(8).filter(magic).collect()
}

/// Changes fields of a batch's header and table, or of one of its records, and makes every
/// checksum right again, also those of the batches behind it.
fn edit_batch(bytes: &mut [u8], script: &mut Script<'_>) {
    let batches = batches(bytes);
    // The newest are the most interesting.
    let Some(at) = batches.iter().rev().nth(script.below(4)).copied() else {
        return;
    };
    let Some(head) = bytes[at..].get_mut(..BATCH_HEADER_BYTES + 2 * TABLE_ROW_BYTES) else {
        return;
    };
    for _ in 0..1 + script.below(2) {
        let wide = [
            32, 40, 48, 64, 72, 80, 96, 104, 112, 120, 128, 144, 8, 16, 24,
        ];
        let narrow = [56, 60, 88, 92, 136, 140, 152];
        if script.rarely(4) {
            let field = &mut head[script.pick(&narrow)..][..4];
            let value = script.near(u64::from(BigEndian::read_u32(field)));
            BigEndian::write_u32(field, value as u32);
        } else {
            let field = &mut head[script.pick(&wide)..][..8];
            let value = script.near(BigEndian::read_u64(field));
            BigEndian::write_u64(field, value);
        }
    }
    if script.flag() {
        edit_record(bytes, at, script);
    }
    if !script.rarely(8) {
        seal_batches(bytes, &batches);
    }
}

/// Changes the first record of the batch at `at` and puts its new checksum into record and table.
fn edit_record(bytes: &mut [u8], at: usize, script: &mut Script<'_>) {
    let entries = BigEndian::read_u32(&bytes[at + 60..]) as usize;
    let start = at.saturating_add(BATCH_HEADER_BYTES + entries.saturating_mul(TABLE_ROW_BYTES));
    let Some(record) = bytes.get_mut(start..) else {
        return;
    };
    if entries == 0 || record.len() < ENTRY_HEADER_BYTES {
        return;
    }
    let field = &mut record[script.pick(&[8, 16, 24, 40])..][..8];
    let value = script.near(BigEndian::read_u64(field));
    BigEndian::write_u64(field, value);
    let term = BigEndian::read_u64(&record[8..]);
    let length = BigEndian::read_u32(record) as usize;
    if let Some(covered) = record.get(8..length) {
        let crc = crc32fast::hash(covered);
        BigEndian::write_u32(&mut record[4..], crc);
        let row = &mut bytes[at + BATCH_HEADER_BYTES..];
        BigEndian::write_u64(row, term);
        BigEndian::write_u32(&mut row[12..], crc);
    }
}

/// Gives every batch the checksum of what it says, and every next one that of the one before;
/// their marks too.
fn seal_batches(bytes: &mut [u8], batches: &[usize]) {
    let mut previous = None;
    for at in batches {
        let batch = &mut bytes[*at..];
        if batch.len() < BATCH_HEADER_BYTES {
            return;
        }
        if let Some(crc) = previous {
            BigEndian::write_u32(&mut batch[88..], crc);
        }
        let entries = BigEndian::read_u32(&batch[60..]) as usize;
        let payload = BigEndian::read_u32(&batch[92..]) as usize;
        let head = BATCH_HEADER_BYTES.saturating_add(entries.saturating_mul(TABLE_ROW_BYTES));
        let Some(covered) = batch.get(8..head) else {
            return;
        };
        let crc = crc32fast::hash(covered);
        BigEndian::write_u32(&mut batch[4..], crc);
        previous = Some(crc);
        let (number, term, vote) = (field(batch, 32), field(batch, 40), field(batch, 48));
        let flags = BigEndian::read_u16(&batch[56..]);
        let end = usize::try_from(batch_bytes(entries, payload)).expect("64 bits");
        if let Some(mark) = batch.get_mut(end..end + MARK_BYTES)
            && mark.starts_with(&MARK_MAGIC.to_be_bytes())
        {
            BigEndian::write_u64(&mut mark[24..], number);
            BigEndian::write_u64(&mut mark[40..], term);
            BigEndian::write_u64(&mut mark[48..], vote);
            BigEndian::write_u32(&mut mark[56..], crc);
            BigEndian::write_u16(&mut mark[60..], flags);
            let crc = crc32fast::hash(&mark[8..]);
            BigEndian::write_u32(&mut mark[4..], crc);
        }
    }
}

fn field(bytes: &[u8], at: usize) -> u64 {
    BigEndian::read_u64(&bytes[at..])
}

/// Changes a field of a mark and makes its checksum right again; or removes it.
fn edit_mark(bytes: &mut [u8], script: &mut Script<'_>) {
    let places = (0..bytes.len()).step_by(SECTOR);
    let mut marks = places.filter(|at| bytes[*at..].starts_with(&MARK_MAGIC.to_be_bytes()));
    let Some(at) = marks.next() else {
        return;
    };
    let Some(mark) = bytes[at..].get_mut(..MARK_BYTES) else {
        return;
    };
    if script.flag() {
        mark.fill(0);
        return;
    }
    let field = &mut mark[script.pick(&[8, 16, 24, 32, 40, 48])..][..8];
    let value = script.near(BigEndian::read_u64(field));
    BigEndian::write_u64(field, value);
    let crc = crc32fast::hash(&mark[8..]);
    BigEndian::write_u32(&mut mark[4..], crc);
}

/// Changes a field of the header page and makes its checksum right again.
fn edit_page(bytes: &mut [u8], script: &mut Script<'_>) {
    let Some(page) = bytes.get_mut(..SEGMENT_HEADER_USED_BYTES) else {
        return;
    };
    let field = &mut page[script.pick(&[64, 48, 56, 16, 24, 32, 40, 72])..][..8];
    let value = script.near(BigEndian::read_u64(field));
    BigEndian::write_u64(field, value);
    let crc = crc32fast::hash(&page[12..]);
    BigEndian::write_u32(&mut page[8..], crc);
}

/// IDENTITY as a node made it, then changed, with the right checksums or without.
pub(super) fn draw_identity(script: &mut Script<'_>) -> SimDisk {
    let disk = SimDisk::new(u64::from(script.byte()), DISK_BYTES);
    let mut identity = own_identity();
    identity.members = (1..=script.below(17) as u64)
        .map(|id| (NodeId(id), format!("host-{id}:7401")))
        .collect();
    identity.create(&disk).expect("there is room");
    for _ in 0..DAMAGES_MAX {
        if script.is_over() || disk.content(IDENTITY_NAME).is_none() {
            break;
        }
        if script.rarely(4) {
            damage_file(&disk, IDENTITY_NAME, script);
        } else {
            disk.tamper(IDENTITY_NAME, |file| edit_slot(file, script));
        }
    }
    disk
}

/// Changes a slot and makes its checksum right again.
fn edit_slot(file: &mut [u8], script: &mut Script<'_>) {
    let start = script.below(2) * SLOT_BYTES;
    let Some(slot) = file.get_mut(start..start + SLOT_BYTES) else {
        return;
    };
    match script.below(4) {
        0 | 1 => {
            let at = script.pick(&[16, 64, 66, 68, 12, 24, 40, 48, 56, 74, 76, 96]);
            let field = &mut slot[at..at + 8];
            let value = script.near(BigEndian::read_u64(field));
            BigEndian::write_u64(field, value);
        }
        2 => {
            let field = &mut slot[script.pick(&[64, 66, 76])..][..2];
            let value = script.near(u64::from(BigEndian::read_u16(field)));
            BigEndian::write_u16(field, value as u16);
        }
        _ => {
            let at = 12 + script.below(256);
            let new = script.bytes(1024);
            slot[at..at + new.len()].copy_from_slice(new);
        }
    }
    let crc = crc32fast::hash(&slot[12..]);
    BigEndian::write_u32(&mut slot[8..], crc);
}
