//! The bytes of the log, frozen, and the manual page that tells them.

use std::collections::BTreeSet;

use bytes::BytesMut;
use raft::HardState;
use raftd::disk::Disk;
use raftd::disk::sim::SimDisk;
use raftd::wal::format::{
    ALIGN_BYTES, BATCH_BYTES_MAX, BATCH_HEADER_BYTES, BATCH_MAGIC, BATCH_NUMBER_MAX, BatchHeader,
    BatchKind, Chain, FORMAT, MARK_BYTES, MARK_MAGIC, Owner, RESERVE_BYTES, SEGMENT_BYTES_MAX,
    SEGMENT_BYTES_MIN, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_USED_BYTES, SEGMENT_MAGIC,
    SegmentHeader, SyncMark, TABLE_ROW_BYTES, batch_bytes_max, entry_bytes_max,
};
use raftd::wal::identity::{IDENTITY_MAGIC, SLOT_BYTES};
use raftd::wal::segment::{SegmentMaker, WAL_DIR, segment_id, segment_name};
use wire::entry::{ENTRY_HEADER_BYTES, Entry, EntryKind};
use wire::limits::ENTRY_BYTES_MAX;
use wire::types::{ClusterId, EntryId, Incarnation, Index, NodeId, Term};

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn segment() -> SegmentHeader {
    SegmentHeader {
        owner: Owner {
            cluster: ClusterId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
            node: NodeId(3),
            incarnation: Incarnation(0x1122_3344_5566_7788),
        },
        id: 0x2a,
        salt: 0xa1a2_a3a4_a5a6_a7a8,
        bytes: 64 << 20,
    }
}

fn batch() -> (BatchHeader, Entry) {
    let id = EntryId {
        term: Term(5),
        index: Index(1001),
    };
    let entry = Entry::build(&mut BytesMut::new(), id, 1, EntryKind::Command, b"body");
    let header = BatchHeader {
        kind: BatchKind::Append,
        offset: 8192,
        number: 77,
        previous: Chain {
            number: 76,
            header_crc: 0xdead_beef,
            last: EntryId {
                term: Term(4),
                index: Index(1000),
            },
        },
        hard_state: HardState {
            term: Term(5),
            vote: Some(NodeId(2)),
            lost: false,
        },
        first_index: Index(1001),
        entries: 1,
        payload_bytes: 52,
        commit: Index(999),
        snapshot: EntryId {
            term: Term(3),
            index: Index(900),
        },
    };
    (header, entry)
}

#[test]
fn the_header_page_is_frozen() {
    let page = segment().encode();
    assert_eq!(
        hex(&page),
        concat!(
            "524146544457414c9b4d58a6000000010102030405060708090a0b0c0d0e0f10",
            "00000000000000031122334455667788000000000000002aa1a2a3a4a5a6a7a8",
            "0000000004000000000002000000000000000000000000000000000000000000",
        )
    );
    let mut whole = vec![0; SEGMENT_HEADER_BYTES as usize];
    whole[..page.len()].copy_from_slice(&page);
    assert_eq!(SegmentHeader::decode(&whole), Some(segment()));
    for at in 0..whole.len() {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        assert_eq!(SegmentHeader::decode(&damaged), None, "byte {at}");
    }
}

#[test]
fn a_batch_header_is_frozen() {
    let (header, entry) = batch();
    let mut head = Vec::new();
    let crc = header.encode(&segment(), &[entry], &mut head);
    assert_eq!(
        hex(&head),
        concat!(
            "52424154c7d04ac1a1a2a3a4a5a6a7a80000000000002000000000000000002a",
            "000000000000004d000000000000000500000000000000020000000200000001",
            "00000000000003e900000000000003e80000000000000004deadbeef00000034",
            "000000000000004c00000000000003e700000000000003840000000000000003",
            "000000000000000500000034d1d4e0f4",
        )
    );
    assert_eq!(
        BatchHeader::decode(&head, &segment(), 8192),
        Some((header, crc))
    );
    assert_eq!(header.end(), 8192 + 512);
    for at in 0..head.len() {
        let mut damaged = head.clone();
        damaged[at] ^= 0x10;
        assert_eq!(
            BatchHeader::decode(&damaged, &segment(), 8192),
            None,
            "byte {at}"
        );
    }
    // Nor is it genuine anywhere else.
    assert_eq!(BatchHeader::decode(&head, &segment(), 8704), None);
    let other = SegmentHeader {
        id: 0x2b,
        ..segment()
    };
    assert_eq!(BatchHeader::decode(&head, &other, 8192), None);
    let other = SegmentHeader {
        salt: 1,
        ..segment()
    };
    assert_eq!(BatchHeader::decode(&head, &other, 8192), None);
}

#[test]
fn a_mark_is_frozen() {
    let mark = SyncMark {
        offset: 8704,
        number: 77,
        hard_state: batch().0.hard_state,
        header_crc: 0x0102_0304,
    };
    let bytes = mark.encode(&segment());
    assert_eq!(
        hex(&bytes),
        concat!(
            "5253594e50a74e48a1a2a3a4a5a6a7a80000000000002200000000000000004d",
            "0000000000002200000000000000000500000000000000020102030400000000",
        )
    );
    assert_eq!(SyncMark::decode(&bytes, &segment(), 8704), Some(mark));
    let mut lost = mark;
    lost.hard_state.lost = true;
    let flagged = lost.encode(&segment());
    assert_eq!(flagged[60..], [0, 1, 0, 0]);
    assert_eq!(SyncMark::decode(&flagged, &segment(), 8704), Some(lost));
    assert_eq!(SyncMark::decode(&bytes, &segment(), 8192), None);
    for at in 0..bytes.len() {
        let mut damaged = bytes;
        damaged[at] ^= 0x10;
        assert_eq!(
            SyncMark::decode(&damaged, &segment(), 8704),
            None,
            "byte {at}"
        );
    }
}

/// Rot may claim a table that nobody would want to read.
#[test]
fn a_header_claims_no_more_entries_than_a_batch_holds() {
    let (header, entry) = batch();
    let mut head = Vec::new();
    header.encode(&segment(), &[entry], &mut head);
    let mut claimed = |entries: u32| {
        head[60..64].copy_from_slice(&entries.to_be_bytes());
        BatchHeader::claimed_head_bytes(&head, &segment())
    };
    let most = BATCH_BYTES_MAX as usize / (TABLE_ROW_BYTES + ENTRY_HEADER_BYTES);
    let bytes = BATCH_HEADER_BYTES + most * TABLE_ROW_BYTES;
    assert_eq!(claimed(most as u32), Some(bytes));
    assert_eq!(claimed(most as u32 + 1), None);
}

#[test]
fn a_batch_number_that_no_node_writes_is_not_believed() {
    let of = |number: u64| {
        let (mut header, entry) = batch();
        (header.number, header.previous.number) = (number, number - 1);
        let mark = SyncMark {
            offset: 8704,
            number,
            hard_state: header.hard_state,
            header_crc: 0x0102_0304,
        };
        let mut head = Vec::new();
        header.encode(&segment(), &[entry], &mut head);
        (
            BatchHeader::decode(&head, &segment(), 8192).is_some(),
            SyncMark::decode(&mark.encode(&segment()), &segment(), 8704).is_some(),
        )
    };
    assert_eq!(of(BATCH_NUMBER_MAX), (true, true));
    // A log that is lost begins anew with the next number, and must be found again.
    assert_eq!(of(BATCH_NUMBER_MAX + 1), (false, false));
    assert_eq!(of(u64::MAX), (false, false));
}

#[test]
fn a_header_page_says_a_size_that_segments_have_and_a_salt() {
    let is_genuine = |bytes, salt| {
        let header = SegmentHeader {
            bytes,
            salt,
            ..segment()
        };
        SegmentHeader::decode(&header.page()) == Some(header)
    };
    assert!(is_genuine(SEGMENT_BYTES_MIN, 1) && is_genuine(SEGMENT_BYTES_MAX, 1));
    assert!(!is_genuine(SEGMENT_BYTES_MIN - ALIGN_BYTES, 1));
    assert!(!is_genuine(SEGMENT_BYTES_MAX + ALIGN_BYTES, 1));
    assert!(!is_genuine(SEGMENT_BYTES_MIN + 1, 1));
    assert!(!is_genuine(SEGMENT_BYTES_MIN, 0));
}

/// Nothing of one segment is taken for another's, also if it is made again in another life.
#[test]
fn no_two_segments_have_the_same_salt() {
    let owner = segment().owner;
    let other = Owner {
        incarnation: Incarnation(1),
        ..owner
    };
    let disk = SimDisk::new(1, 1 << 20);
    disk.create_dir(WAL_DIR).unwrap();
    let salts = [(owner, 1, 1), (owner, 1, 2), (owner, 2, 1), (other, 1, 1)];
    let salts = salts.map(|(owner, id, seed)| {
        let maker = SegmentMaker::begin(&disk, owner, id, SEGMENT_BYTES_MIN, seed);
        maker.unwrap().finish(&disk).unwrap();
        let page = disk.content(&segment_name(id)).unwrap();
        SegmentHeader::decode(&page).unwrap().salt
    });
    assert_eq!(BTreeSet::from(salts).len(), 4);
}

/// Whoever reads a log need not ask again what a genuine header says of itself.
#[test]
fn a_batch_that_contradicts_itself_is_not_genuine() {
    type Change = fn(&mut BatchHeader);
    let is_genuine = |change: Change, entries: u32, patch: &[(usize, u8)]| {
        let (mut header, entry) = batch();
        header.entries = entries;
        header.payload_bytes *= entries;
        change(&mut header);
        let mut head = Vec::new();
        header.encode(&segment(), &vec![entry; entries as usize], &mut head);
        patch.iter().for_each(|(at, byte)| head[*at] = *byte);
        let crc = crc32fast::hash(&head[8..]);
        head[4..8].copy_from_slice(&crc.to_be_bytes());
        BatchHeader::decode(&head, &segment(), header.offset).is_some()
    };
    let genuine: [(Change, u32); 4] = [
        (|_| {}, 2),
        (|header| header.first_index = Index(901), 1),
        (RESET, 0),
        (ANEW, 0),
    ];
    for (n, (change, entries)) in genuine.into_iter().enumerate() {
        assert!(is_genuine(change, entries, &[]), "{n}");
    }
    let contradictions: [(Change, u32); 17] = [
        (|header| header.payload_bytes -= 1, 1),
        (|header| header.first_index = Index(1002), 1),
        (|header| header.first_index = Index(900), 1),
        (
            |header| {
                header.snapshot = EntryId::default();
                header.first_index = Index(0);
            },
            1,
        ),
        (|header| header.previous.last.term = Term(0), 1),
        (|header| header.snapshot.term = Term(0), 1),
        (|header| header.snapshot.index = Index(0), 1),
        (|header| header.kind = BatchKind::Open, 1),
        (|header| header.offset = SEGMENT_HEADER_BYTES, 1),
        (|header| header.offset = segment().bytes, 1),
        (RESET, 1),
        (
            |header| {
                RESET(header);
                header.first_index = Index(902);
            },
            0,
        ),
        (
            |header| {
                RESET(header);
                (header.first_index, header.snapshot) = (Index(1), EntryId::default());
            },
            0,
        ),
        (ANEW, 1),
        (
            |header| {
                ANEW(header);
                header.first_index = Index(902);
            },
            0,
        ),
        (
            |header| {
                ANEW(header);
                header.hard_state.lost = false;
            },
            0,
        ),
        (
            |header| {
                ANEW(header);
                header.offset = 8192;
            },
            0,
        ),
    ];
    for (n, (change, entries)) in contradictions.into_iter().enumerate() {
        assert!(!is_genuine(change, entries, &[]), "{n}");
    }
    // Flags, kinds and a number of the batch before that nobody writes.
    for patch in [(57, 2), (59, 0), (59, 6), (103, 75)] {
        assert!(!is_genuine(|_| {}, 1, &[patch]), "{patch:?}");
    }
}

const RESET: fn(&mut BatchHeader) = |header| {
    header.kind = BatchKind::Reset;
    header.first_index = header.snapshot.index.next();
};

const ANEW: fn(&mut BatchHeader) = |header| {
    RESET(header);
    header.kind = BatchKind::Anew;
    header.offset = SEGMENT_HEADER_BYTES;
    header.hard_state.lost = true;
};

#[test]
fn zeros_are_never_valid() {
    let zeros = [0; 4096];
    assert_eq!(SegmentHeader::decode(&zeros), None);
    assert_eq!(
        BatchHeader::decode(&zeros[..BATCH_HEADER_BYTES], &segment(), 0),
        None
    );
    assert_eq!(SyncMark::decode(&zeros, &segment(), 0), None);
}

#[test]
fn limits_fit_each_other_at_every_segment_size() {
    for shift in 18..=30 {
        let bytes = 1_u64 << shift;
        let batch_bytes_max = batch_bytes_max(bytes);
        assert!(batch_bytes_max <= BATCH_BYTES_MAX);
        assert!(SEGMENT_HEADER_BYTES + batch_bytes_max <= bytes - RESERVE_BYTES);
        let entry = entry_bytes_max(bytes);
        let batch = raftd::wal::format::batch_bytes(1, entry);
        assert!(batch <= batch_bytes_max, "an entry of {entry} bytes fits");
    }
    assert_eq!(entry_bytes_max(64 << 20), ENTRY_BYTES_MAX);
    assert!(entry_bytes_max(SEGMENT_BYTES_MIN) > 128 * 1024);
}

#[test]
fn segment_names_have_one_spelling() {
    assert_eq!(segment_name(0x2a), "wal/000000000000002a.wal");
    assert_eq!(segment_id("000000000000002a.wal"), Some(0x2a));
    for odd in [
        "2a.wal",
        "000000000000002A.wal",
        "0000000000000000.wal",
        "000000000000002a.wal.tmp",
    ] {
        assert_eq!(segment_id(odd), None, "{odd}");
    }
}

#[test]
fn the_manual_page_tells_the_constants() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../man/raftd-wal.5");
    let page = std::fs::read_to_string(path).unwrap();
    let told = [
        format!("\"{}\"", String::from_utf8_lossy(SEGMENT_MAGIC)),
        format!("\"{}\"", String::from_utf8_lossy(IDENTITY_MAGIC)),
        format!("\"RBAT\", {BATCH_MAGIC:#010x}"),
        format!("\"RSYN\", {MARK_MAGIC:#010x}"),
        format!("format, {FORMAT}\n"),
        format!("header page, {SEGMENT_HEADER_BYTES} bytes"),
        format!("CRC of bytes 12..{SEGMENT_HEADER_USED_BYTES}\n"),
        format!("CRC of bytes 8..{BATCH_HEADER_BYTES} and the table"),
        format!("CRC of bytes 8..{MARK_BYTES}\n"),
        format!("CRC of bytes 12..{SLOT_BYTES}\n"),
        format!("Two slots of {SLOT_BYTES} bytes"),
        format!("alignment of batches, {ALIGN_BYTES}\n"),
        format!("{BATCH_HEADER_BYTES}  table: u64 term, u32 length, u32 CRC"),
        format!("at most {BATCH_BYTES_MAX} bytes"),
        format!("above 2^{}", BATCH_NUMBER_MAX.ilog2()),
        format!("last {RESERVE_BYTES} bytes"),
        format!("end\\-{}K", RESERVE_BYTES / 1024).replace('\\', ""),
        format!("{SEGMENT_BYTES_MIN} to {SEGMENT_BYTES_MAX}"),
        "1 Open, 2 Append, 3 Seal, 4 Reset".to_owned(),
    ];
    for words in told {
        assert!(page.contains(&words), "the page does not tell {words:?}");
    }
    assert_eq!(TABLE_ROW_BYTES, 16, "u64 term, u32 length, u32 CRC");
}
