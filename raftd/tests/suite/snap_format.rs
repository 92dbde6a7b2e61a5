//! The bytes of a snapshot, frozen, and the manual page that tells them.

use std::fs;
use std::path::{Path, PathBuf};

use raftd::disk::sim::SimDisk;
use raftd::snapshot::format::{
    CHUNK_BYTES_MAX, CHUNK_HEADER_BYTES, CHUNK_MAGIC, ChunkHeader, ChunkKind, FORMAT, HEADER_BYTES,
    Header, ITEM_BYTES_MAX, SNAPSHOT_BYTES_MIN, SNAPSHOT_MAGIC, TRAILER_BYTES, TRAILER_MAGIC,
    Trailer,
};
use raftd::snapshot::{snapshot_id, snapshot_name, verify};
use raftd::store::{ImageHead, Store};
use wire::command::{Command, Expect};
use wire::limits::{ADDR_BYTES_MAX, MEMBERS_MAX};
use wire::membership::{MemberRecord, Membership, Suffrage};
use wire::types::{ClusterId, Epoch, Incarnation, Index, NodeId};

use super::snap_support::{Maker, assert_same, id, load_it, publish};

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

fn header() -> Header {
    Header {
        cluster: ClusterId(0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10),
        head: ImageHead {
            applied: id(0x2a, 0x1f),
            wall_ms: 0x0199_9999_9999,
            epoch: Epoch(0x1122_3344_5566_7788),
            horizon: Some(Index(0x15)),
            keys: 1_000_000,
            sessions: 65_536,
            membership: None,
        },
        members: vec![
            (NodeId(1), "10.0.0.1:7401".to_owned()),
            (NodeId(3), "c:1".to_owned()),
        ],
    }
}

#[test]
fn the_header_page_is_frozen() {
    let page = header().encode();
    assert_eq!(page.len(), HEADER_BYTES);
    assert_eq!(
        hex(&page[..128]),
        concat!(
            "5241465444534e5026429a53000000010102030405060708090a0b0c0d0e0f10",
            "1122334455667788000000000000002a000000000000001f0000019999999999",
            "00000000000f4240000000000001000000000000000000150000000100020000",
            "000000000001000d31302e302e302e313a373430310000000000000003000363",
        )
    );
    assert_eq!(Header::decode(&page), Some(header()));
    for at in 0..page.len() {
        let mut damaged = page.clone();
        damaged[at] ^= 0x10;
        assert_eq!(Header::decode(&damaged), None, "byte {at}");
        assert_eq!(Header::decode(&page[..at]), None, "{at} bytes");
    }
}

#[test]
fn what_no_header_says_is_refused_however_well_it_is_sealed() {
    let header = header();
    let head = || header.head.clone();
    let with_head = |head| Header {
        head,
        ..header.clone()
    };
    let with_members = |members| Header {
        members,
        ..header.clone()
    };
    let member = &header.members[0];
    for impossible in [
        with_head(ImageHead {
            applied: id(0, 1),
            ..head()
        }),
        with_head(ImageHead {
            applied: id(1, 0),
            ..head()
        }),
        with_head(ImageHead {
            applied: id(u64::MAX, 1),
            ..head()
        }),
        with_members(vec![member.clone(), member.clone()]),
        with_members(header.members.iter().rev().cloned().collect()),
    ] {
        assert_eq!(Header::decode(&impossible.encode()), None);
    }
    // The most that there can be.
    let crowd = (1..=MEMBERS_MAX as u64).map(|n| (NodeId(n), "a".repeat(ADDR_BYTES_MAX)));
    let crowd = with_members(crowd.collect());
    assert_eq!(Header::decode(&crowd.encode()), Some(crowd));
    let few = (1..=MEMBERS_MAX as u64).map(|n| (NodeId(n), "a".to_owned()));
    let one_more = forged(&with_members(few.collect()), |page| {
        let behind = 94 + MEMBERS_MAX * 11;
        page[93] += 1;
        page[behind..behind + 11].copy_from_slice(b"\0\0\0\0\0\0\0\xff\0\x01a");
    });
    assert_eq!(Header::decode(&one_more), None);
    let no_horizon = with_head(ImageHead {
        horizon: None,
        ..head()
    });
    assert_eq!(Header::decode(&no_horizon.encode()), Some(no_horizon));
    // Bits that mean nothing are zero.
    for (at, byte) in [(88, 1), (91, 2), (HEADER_BYTES - 1, 1)] {
        let mut page = header.encode();
        page[at] = byte;
        let crc = crc32fast::hash(&page[12..]);
        page[8..12].copy_from_slice(&crc.to_be_bytes());
        assert_eq!(Header::decode(&page), None, "byte {at}");
    }
}

fn header_with_membership() -> Header {
    let member = |n: u64, suffrage| MemberRecord {
        id: NodeId(n),
        name: format!("n{n}"),
        peer_addr: format!("c:{n}"),
        incarnation: (n == 2).then_some(Incarnation(0x77)),
        suffrage,
        wish: None,
    };
    let header = header();
    Header {
        head: ImageHead {
            membership: Some(Membership {
                newest: NodeId(9),
                members: vec![
                    member(2, Suffrage::Voter),
                    member(7, Suffrage::Incoming),
                    member(8, Suffrage::Leaving),
                ],
            }),
            ..header.head
        },
        members: Vec::new(),
        ..header
    }
}

/// Sealed again after `change`.
fn forged(header: &Header, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let mut page = header.encode();
    change(&mut page);
    assert_eq!(page.len(), HEADER_BYTES);
    let crc = crc32fast::hash(&page[12..]);
    page[8..12].copy_from_slice(&crc.to_be_bytes());
    page
}

#[test]
fn a_header_page_with_a_membership_is_frozen() {
    let header = header_with_membership();
    let page = header.encode();
    assert_eq!(
        hex(&page[92..180]),
        concat!(
            "0000004e00000000000000090003000000000000000200026e320003633a3201",
            "00000000000000770200000000000000000700026e370003633a370003000000",
            "00000000000800026e380003633a38000500000000000000",
        )
    );
    assert_eq!(Header::decode(&page), Some(header.clone()));
    for at in 0..page.len() {
        let mut damaged = page.clone();
        damaged[at] ^= 0x10;
        assert_eq!(Header::decode(&damaged), None, "byte {at}");
    }
    assert_eq!(
        Header::decode(&forged(&header, |_| {})),
        Some(header.clone())
    );
    // What no membership says: a kind that is not known, a member newer than the newest, a length
    // that is not its own.
    for (at, byte) in [(132, 9), (103, 7), (95, 0x4d), (95, 0x4f), (94, 0xff)] {
        let page = forged(&header, |page| page[at] = byte);
        assert_eq!(Header::decode(&page), None, "byte {at}");
    }
}

/// Who is a member is said once.
#[test]
fn a_header_with_members_and_a_membership_is_refused() {
    let with = header_with_membership();
    let body = with.encode()[94..].to_vec();
    let both = forged(&header(), |page| {
        let end = 94 + 8 + 2 + 13 + 8 + 2 + 3;
        page.truncate(end);
        page.extend_from_slice(&body);
        page.truncate(HEADER_BYTES);
    });
    assert_eq!(Header::decode(&both), None);
    let neither = forged(&header(), |page| page[92..].fill(0));
    let neither = Header::decode(&neither).expect("nothing is said");
    assert_eq!(
        (neither.members, neither.head.membership),
        (Vec::new(), None)
    );
}

#[test]
fn a_chunk_header_is_frozen() {
    let header = ChunkHeader {
        number: 7,
        kind: ChunkKind::Sessions,
        items: 3,
        content_bytes: 5,
        stored_bytes: 4,
        content_hash: 0xa1a2_a3a4_a5a6_a7a8_a9aa_abac_adae_afb0,
    };
    let mut chunk = vec![0; CHUNK_HEADER_BYTES];
    chunk.extend_from_slice(b"lz4!");
    header.encode(&mut chunk);
    assert_eq!(
        hex(&chunk),
        concat!(
            "5243484b023ccfae000000000000000700000002000000030000000500000004",
            "a1a2a3a4a5a6a7a8a9aaabacadaeafb06c7a3421",
        )
    );
    assert_eq!(header.chunk_bytes(), chunk.len() as u64);
    let head = *chunk.first_chunk().unwrap();
    let (decoded, crc) = ChunkHeader::decode(&head).unwrap();
    assert_eq!(decoded, header);
    assert_eq!(crc, crc32fast::hash(&chunk[8..]));
}

#[test]
fn a_chunk_header_promises_no_more_than_a_chunk_may_hold() {
    let sane = ChunkHeader {
        number: 0,
        kind: ChunkKind::Keys,
        items: 2,
        content_bytes: CHUNK_BYTES_MAX as u32,
        stored_bytes: 1,
        content_hash: 0,
    };
    let decode = |header: &ChunkHeader| {
        let mut chunk = vec![0; CHUNK_HEADER_BYTES + header.stored_bytes as usize];
        header.encode(&mut chunk);
        ChunkHeader::decode(chunk.first_chunk().unwrap())
    };
    let single = ChunkHeader {
        items: 1,
        content_bytes: ITEM_BYTES_MAX as u32,
        stored_bytes: ITEM_BYTES_MAX as u32,
        ..sane
    };
    for possible in [sane, single] {
        assert_eq!(decode(&possible).unwrap().0, possible);
    }
    let none = |header| assert_eq!(decode(&header), None);
    none(ChunkHeader { items: 0, ..sane });
    none(ChunkHeader {
        content_bytes: CHUNK_BYTES_MAX as u32 + 1,
        ..sane
    });
    none(ChunkHeader {
        content_bytes: ITEM_BYTES_MAX as u32 + 1,
        ..single
    });
    none(ChunkHeader {
        content_bytes: 0,
        stored_bytes: 0,
        ..sane
    });
    none(ChunkHeader {
        stored_bytes: 0,
        ..sane
    });
    none(ChunkHeader {
        content_bytes: 7,
        stored_bytes: 8,
        ..sane
    });
}

#[test]
fn the_trailer_is_frozen() {
    let trailer = Trailer {
        chunks: 4242,
        content_bytes: 1_100_000_000,
        chunks_bytes: 700_000_000,
        digest: 0x0102_0304_0506_0708_090a_0b0c_0d0e_0f10,
        content_hash: 0xa1a2_a3a4_a5a6_a7a8_a9aa_abac_adae_afb0,
    };
    let bytes = trailer.encode();
    assert_eq!(
        hex(&bytes),
        concat!(
            "52454e440664cd600000000000001092000000004190ab000000000029b92700",
            "0102030405060708090a0b0c0d0e0f10a1a2a3a4a5a6a7a8a9aaabacadaeafb0",
        )
    );
    assert_eq!(Trailer::decode(&bytes), Some(trailer));
    for at in 0..bytes.len() {
        let mut damaged = bytes;
        damaged[at] ^= 0x10;
        assert_eq!(Trailer::decode(&damaged), None, "byte {at}");
    }
}

#[test]
fn zeros_are_never_valid() {
    assert_eq!(Header::decode(&[0; HEADER_BYTES]), None);
    assert_eq!(ChunkHeader::decode(&[0; CHUNK_HEADER_BYTES]), None);
    assert_eq!(Trailer::decode(&[0; TRAILER_BYTES]), None);
}

/// A state with everything in it that a snapshot can hold.
fn varied() -> Store {
    let mut maker = Maker::new(3);
    maker.put(b"a", b"1");
    maker.put(b"b", b"");
    maker.put(&[0, 255], &[7; 300]);
    for command in [
        Command::CompareAndSwap {
            key: b"a",
            expect: Expect::Value(b"1"),
            value: b"2",
        },
        Command::CompareAndSwap {
            key: b"a",
            expect: Expect::Absent,
            value: b"3",
        },
        Command::CompareAndSwap {
            key: b"c",
            expect: Expect::Revision(Index(9)),
            value: b"3",
        },
        Command::Increment {
            key: b"n",
            delta: i64::MAX,
        },
        Command::Increment {
            key: b"n",
            delta: 1,
        },
        Command::Increment {
            key: b"b",
            delta: 1,
        },
        Command::Delete { key: b"b" },
        Command::Delete { key: b"b" },
    ] {
        maker.apply(command);
    }
    maker.store
}

fn fixture() -> PathBuf {
    let name = snapshot_name(varied().applied());
    let name = name.rsplit('/').next().unwrap();
    let fixtures = concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/../tests/fixtures/format-1/snap"
    );
    Path::new(fixtures).join(name)
}

/// For ever: whatever is written later, what was written once is read.
#[test]
fn the_snapshot_of_this_format_opens() {
    let path = fixture();
    let bytes = fs::read(&path).unwrap();
    let disk = SimDisk::new(1, 1 << 20);
    let file_name = path.file_name().unwrap().to_str().unwrap();
    let id = snapshot_id(file_name).unwrap();
    let name = snapshot_name(id);
    raftd::disk::Disk::create(&disk, &name, 1).unwrap();
    disk.tamper(&name, |content| content.clone_from(&bytes));
    let loaded = load_it(&disk, id).unwrap();
    assert_same(&varied(), &loaded.store);
    let verified = verify(&mut &bytes[..], "the fixture").unwrap();
    assert_eq!(verified.info(), loaded.info);
}

/// Until the format is frozen, `RAFTD_BLESS=1` writes the fixture anew. After that a difference is
/// a change of how things are compressed at most.
#[test]
fn the_snapshot_of_this_format_is_written() {
    let disk = SimDisk::new(1, 1 << 20);
    let info = publish(&disk, varied().view()).unwrap();
    let bytes = disk.content(&snapshot_name(info.id)).unwrap();
    let path = fixture();
    if std::env::var_os("RAFTD_BLESS").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &bytes).unwrap();
    }
    assert!(fs::read(&path).unwrap() == bytes, "{}", path.display());
}

#[test]
fn the_manual_page_tells_the_constants() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../man/raftd-snap.5");
    let page = fs::read_to_string(path).unwrap();
    let told = [
        format!("\"{}\"", String::from_utf8_lossy(SNAPSHOT_MAGIC)),
        format!("\"RCHK\", {CHUNK_MAGIC:#010x}"),
        format!("\"REND\", {TRAILER_MAGIC:#010x}"),
        format!("format, {FORMAT}\n"),
        format!("header page, {HEADER_BYTES} bytes"),
        format!("{HEADER_BYTES}      chunks"),
        format!("CRC of bytes 12..{HEADER_BYTES}\n"),
        format!("CRC of bytes 8..{CHUNK_HEADER_BYTES} and of what is stored"),
        format!("{CHUNK_HEADER_BYTES}  what is stored"),
        format!("CRC of bytes 8..{TRAILER_BYTES}\n"),
        format!("end-{TRAILER_BYTES}    trailer"),
        format!("at most {CHUNK_BYTES_MAX} bytes"),
        format!("of at most {ITEM_BYTES_MAX} bytes"),
        "kind: 1 keys, 2 sessions".to_owned(),
        "snap/%016x\\-%x.snap\n".to_owned(),
        format!("%x{}\n", raftd::snapshot::UNFINISHED_SUFFIX),
        format!("%x{}\n", raftd::snapshot::PARTIAL_SUFFIX),
    ];
    for words in told {
        assert!(page.contains(&words), "the page does not tell {words:?}");
    }
    assert_eq!(SNAPSHOT_BYTES_MIN, (HEADER_BYTES + TRAILER_BYTES) as u64);
}
