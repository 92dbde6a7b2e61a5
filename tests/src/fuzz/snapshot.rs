//! A file that says it is a snapshot.

use bytes::{BufMut, BytesMut};
use lz4_flex::block::{compress_into, get_maximum_output_size};
use raftd::disk::Disk;
use raftd::disk::sim::SimDisk;
use raftd::snapshot::format::{CHUNK_HEADER_BYTES, ChunkHeader, ChunkKind, Header, Trailer};
use raftd::snapshot::{Expected, Loaded, Receiver, Step, Writer, load, snapshot_name, verify};
use raftd::store::session::SESSIONS_MAX;
use raftd::store::{ImageHead, Kept, SessionImage, digest};
use wire::client::Item;
use wire::command::{Outcome, Results, Undone};
use wire::types::{ClusterId, EntryId, Epoch, Index, NodeId, Term};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

use super::disk::membership;
use super::script::Script;

const CLUSTER: ClusterId = ClusterId(0xc1);
const EPOCH: Epoch = Epoch(5);
const DISK_BYTES: u64 = 16 * 1024 * 1024;
const CHUNKS_MAX: usize = 5;
const ITEMS_MAX: usize = 6;
const REPLIES_MAX: usize = 4;
/// Things done to the file, at most.
const DAMAGES_MAX: usize = 8;
/// The counters of a state are around this.
const AROUND: u64 = 40;

/// A snapshot of anything, with the right checksums, then damaged or not: it is refused, and for
/// the same reason when asked again, or it is a state that
/// - a reader in constant memory finds sound, too;
/// - has the digest that a scan of it comes to;
/// - can be written, and is then read as it was.
///
/// What is found of it in a transfer is never more than the file.
pub fn snapshot(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let (id, mut file) = match script.rarely(8) {
        true => (entry_id(&mut script), script.all().to_vec()),
        false => draw(&mut script),
    };
    for _ in 0..script.below(DAMAGES_MAX + 1) {
        if !file.is_empty() && !script.is_over() {
            damage(&mut file, &mut script);
        }
    }
    let disk = disk_with(&snapshot_name(id), &file);
    let verified = verify(&mut &file[..], &snapshot_name(id));
    match open(&disk, id) {
        Err(reason) => assert_eq!(open(&disk, id).err(), Some(reason), "refused otherwise"),
        Ok(loaded) => {
            let verified = verified.expect("what is loaded is sound");
            assert_eq!(verified.info(), loaded.info);
            assert_eq!(verified.bytes, file.len() as u64);
            check(&loaded);
        }
    }
    let part = snapshot_name(id).replace(".snap", ".part.tmp");
    let disk = disk_with(&part, &file);
    if let Ok(receiver) = Receiver::open(&disk, id, file.len() as u64) {
        assert!(receiver.received_bytes() <= file.len() as u64);
    }
}

fn disk_with(name: &str, content: &[u8]) -> SimDisk {
    let disk = SimDisk::new(1, DISK_BYTES);
    disk.create(name, 1).expect("there is room");
    disk.tamper(name, |file| *file = content.to_vec());
    disk
}

fn open(disk: &SimDisk, id: EntryId) -> Result<Loaded, String> {
    let expected = Expected {
        cluster: CLUSTER,
        epoch: EPOCH,
        id,
    };
    load(disk, &expected, SESSIONS_MAX).map_err(|error| error.to_string())
}

/// The state that was in it is one, and is what is written again.
fn check(loaded: &Loaded) {
    let view = loaded.store.view();
    assert_eq!(view.recompute_digest(), view.digest());
    let disk = SimDisk::new(1, DISK_BYTES);
    let writer = Writer::begin(&disk, view.clone(), CLUSTER, &loaded.header.members);
    let mut writer = writer.expect("there is room");
    let info = loop {
        if let Step::Published(info) = writer.step(&disk).expect("there is room") {
            break info;
        }
    };
    assert_eq!(info.digest, loaded.info.digest);
    let again = open(&disk, info.id).expect("what was written is read");
    assert_eq!(again.header, loaded.header);
    let again = again.store.view();
    assert!(again.items().eq(view.items()), "the keys");
    assert!(again.sessions().eq(view.sessions()), "the sessions");
}

fn entry_id(script: &mut Script<'_>) -> EntryId {
    EntryId {
        term: Term(3),
        index: Index(script.mostly(AROUND)),
    }
}

/// A file in which all checksums are right.
fn draw(script: &mut Script<'_>) -> (EntryId, Vec<u8>) {
    let id = entry_id(script);
    let mut horizon = None;
    if script.rarely(4) {
        horizon = Some(Index(script.near(AROUND / 4)));
    }
    let told = script.rarely(4).then(|| membership(script.below(2) as u64));
    let mut sum = digest::horizon(horizon).wrapping_add(digest::membership(told.as_ref()));
    let (mut keys, mut sessions) = (0, 0);
    let mut hashes = Vec::new();
    let (mut chunks, mut trailer) = (Vec::new(), Trailer::default());
    for number in 0..script.below(CHUNKS_MAX + 1) as u64 {
        let kind = script.pick(&[ChunkKind::Keys, ChunkKind::Keys, ChunkKind::Sessions]);
        let items = 1 + script.below(ITEMS_MAX) as u32;
        let mut content = BytesMut::new();
        for _ in 0..items {
            let part = match kind {
                ChunkKind::Keys => {
                    keys += 1;
                    put_key(script, keys, &mut content)
                }
                ChunkKind::Sessions => {
                    sessions += 1;
                    put_session(script, sessions, &mut content)
                }
            };
            sum = sum.wrapping_add(part);
        }
        let chunk = seal(script, number, kind, items, &content);
        trailer.chunks += 1;
        trailer.content_bytes += content.len() as u64;
        trailer.chunks_bytes += chunk.len() as u64;
        hashes.push(xxh3_128(&content));
        chunks.extend_from_slice(&chunk);
    }
    let header = Header {
        cluster: CLUSTER,
        head: ImageHead {
            applied: id,
            wall_ms: 7,
            epoch: EPOCH,
            horizon,
            keys: script.mostly(keys),
            sessions: script.mostly(sessions),
            membership: told.clone(),
        },
        members: match told {
            Some(_) => Vec::new(),
            None => vec![(NodeId(1), "a:1".to_owned())],
        },
    };
    let mut file = header.encode();
    let mut hasher = Xxh3::new();
    hasher.update(&file);
    for hash in hashes {
        hasher.update(&hash.to_be_bytes());
    }
    trailer.content_hash = hasher.digest128();
    trailer.digest = sum;
    file.extend_from_slice(&chunks);
    file.extend_from_slice(&trailer.encode());
    (id, file)
}

/// A key, mostly above the one before it; returns its part of the digest.
fn put_key(script: &mut Script<'_>, number: u64, content: &mut BytesMut) -> u128 {
    let mut key = script.mostly(number).to_be_bytes().to_vec();
    key.extend_from_slice(script.bytes(4));
    let created = script.mostly(number % AROUND + 1);
    let more = script.below(3) as u64;
    let item = Item {
        key: &key,
        value: script.bytes(100),
        revision: Index(created.saturating_add(more)),
        create_revision: Index(created),
        version: script.mostly(1 + more),
    };
    item.encode(content);
    digest::item(&item)
}

/// A session that mostly wrote after the one before it; returns its part of the digest.
fn put_session(script: &mut Script<'_>, number: u64, content: &mut BytesMut) -> u128 {
    let outcomes = [
        Outcome::Put,
        Outcome::Deleted(2),
        Outcome::NotSwapped(Some(Index(3))),
        Outcome::Incremented(-1),
        Outcome::Applied,
        Outcome::Txn {
            held: true,
            results: Some(Results::new(&[1, 1, 3])),
        },
        Outcome::Undone {
            held: false,
            operation: 1,
            why: Undone::Overflow,
        },
    ];
    let mut image = SessionImage {
        born: Index(script.mostly(0)),
        nonce: script.mostly(number),
        replies: Vec::new(),
    };
    for reply in 1..=script.below(REPLIES_MAX + 1) as u64 {
        image.replies.push(Kept {
            seq: script.mostly(reply),
            fingerprint: number,
            id: EntryId {
                term: Term(script.mostly(3)),
                index: Index(script.mostly(number + reply)),
            },
            outcome: outcomes[script.below(outcomes.len())].clone(),
        });
    }
    content.put_u64(image.born.0);
    content.put_u64(image.nonce);
    content.put_u16(image.replies.len() as u16);
    for kept in &image.replies {
        content.put_u64(kept.seq);
        content.put_u64(kept.fingerprint);
        content.put_u64(kept.id.term.0);
        content.put_u64(kept.id.index.0);
        kept.outcome.encode(content);
    }
    digest::session(&image)
}

/// A chunk of this content, mostly: compressed, as it is, or from something else.
fn seal(
    script: &mut Script<'_>,
    number: u64,
    kind: ChunkKind,
    items: u32,
    content: &[u8],
) -> Vec<u8> {
    let mut stored = content.to_vec();
    if script.flag() {
        let mut block = vec![0; get_maximum_output_size(content.len())];
        let bytes = compress_into(content, &mut block).expect("there is room");
        block.truncate(bytes);
        if bytes < content.len() {
            stored = block;
        }
    }
    if script.rarely(8) {
        let noise = script.bytes(content.len());
        if !noise.is_empty() {
            stored = noise.to_vec();
        }
    }
    let header = ChunkHeader {
        number: script.mostly(number),
        kind,
        items: if script.rarely(16) { items + 1 } else { items },
        content_bytes: content.len() as u32,
        stored_bytes: stored.len() as u32,
        content_hash: xxh3_128(content),
    };
    let mut chunk = vec![0; CHUNK_HEADER_BYTES];
    chunk.extend_from_slice(&stored);
    header.encode(&mut chunk);
    chunk
}

/// One thing done to the file.
fn damage(file: &mut Vec<u8>, script: &mut Script<'_>) {
    let at = usize::from(u16::from_be_bytes([script.byte(), script.byte()])) % file.len();
    match script.below(5) {
        0 => file[at] ^= 1 << script.below(8),
        1 => file.truncate(at),
        2 => file.extend_from_slice(script.bytes(100)),
        3 => {
            let end = file.len().min(at + 4);
            file[at..end].fill(0);
        }
        _ => {
            let bytes = script.bytes(100);
            let end = file.len().min(at + bytes.len());
            file[at..end].copy_from_slice(&bytes[..end - at]);
        }
    }
}
