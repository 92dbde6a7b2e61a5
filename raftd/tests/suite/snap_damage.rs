//! Whatever happens to the bytes of a snapshot, it is refused, with the place, and never a panic.

use bytes::BytesMut;
use raftd::disk::sim::SimDisk;
use raftd::snapshot::format::{
    CHUNK_BYTES, CHUNK_HEADER_BYTES, ChunkHeader, ChunkKind, HEADER_BYTES, Header, TRAILER_BYTES,
    Trailer,
};
use raftd::snapshot::{Error, Found, SnapshotInfo, Verifier, snapshot_name, verify};
use wire::client::Item;
use wire::types::Index;
use xxhash_rust::xxh3::xxh3_128;

use super::snap_support::{Maker, load_it, publish};

/// Two go into a chunk.
const VALUE_BYTES: usize = CHUNK_BYTES * 2 / 5;

/// A snapshot with several chunks of both ways to store them.
struct Sound {
    disk: SimDisk,
    info: SnapshotInfo,
    content: Vec<u8>,
    /// Where its chunks begin.
    chunks: Vec<usize>,
}

fn sound() -> Sound {
    let mut maker = Maker::new(7);
    for n in 0..9_u8 {
        maker.put(&[n; 5], &vec![n; VALUE_BYTES]);
    }
    let disk = SimDisk::new(1, 8 << 20);
    let info = publish(&disk, maker.store.view()).unwrap();
    let content = disk.content(&snapshot_name(info.id)).unwrap();
    let pieces = pieces(&content);
    assert_eq!(pieces.len(), 8, "five chunks of keys, one of sessions");
    assert!(content.len() < 20_000);
    let heads = pieces.iter().scan(0, |end, piece| {
        *end += piece.len();
        Some(*end)
    });
    let chunks = heads.take(6).collect();
    Sound {
        disk,
        info,
        content,
        chunks,
    }
}

/// Header page, chunks and trailer.
fn pieces(content: &[u8]) -> Vec<&[u8]> {
    let mut source = content;
    let mut verifier = Verifier::open(&mut source, "it").unwrap();
    let mut pieces = vec![&content[..HEADER_BYTES]];
    loop {
        let from = verifier.offset() as usize;
        let found = verifier.step(&mut source).unwrap();
        let end = content.len() - source.len();
        pieces.push(&content[from..end]);
        if let Found::End(_) = found {
            return pieces;
        }
    }
}

impl Sound {
    fn name(&self) -> String {
        snapshot_name(self.info.id)
    }

    /// Every byte of every header and of the trailer, and some of what is between.
    fn places(&self) -> impl Iterator<Item = usize> {
        let trailer = self.content.len() - TRAILER_BYTES;
        let mut all: Vec<usize> = (0..HEADER_BYTES).collect();
        for chunk in &self.chunks {
            all.extend(*chunk..*chunk + CHUNK_HEADER_BYTES);
        }
        all.extend(trailer..self.content.len());
        all.extend((HEADER_BYTES..trailer).step_by(7));
        all.into_iter()
    }

    /// Refuses these bytes, from a file and from a pipe, and tells a place that is in the file. Returns
    /// what is told.
    fn must_refuse(&self, bytes: &[u8], context: &str) -> String {
        assert!(bytes != self.content, "{context}: nothing was changed");
        self.disk
            .tamper(&self.name(), |content| *content = bytes.to_vec());
        let loaded = load_it(&self.disk, self.info.id).expect_err(context);
        let verified = verify(&mut &bytes[..], &self.name()).expect_err(context);
        for error in [&loaded, &verified] {
            let Error::Damaged(damage) = error else {
                panic!("{context}: {error}");
            };
            assert_eq!(damage.file, self.name());
            assert!(damage.offset <= self.content.len() as u64, "{context}");
            assert!(!damage.what.is_empty());
        }
        assert_eq!(loaded.to_string(), verified.to_string(), "{context}");
        loaded.to_string()
    }
}

#[test]
fn a_changed_bit_is_told_wherever_it_is() {
    let sound = sound();
    for at in sound.places() {
        let mut bytes = sound.content.clone();
        bytes[at] ^= 1 << (at % 8);
        sound.must_refuse(&bytes, &format!("bit at {at}"));
    }
}

#[test]
fn a_zeroed_word_is_told_wherever_it_is() {
    let sound = sound();
    for at in sound.places().filter(|at| at % 4 == 0) {
        let mut bytes = sound.content.clone();
        let end = bytes.len().min(at + 4);
        bytes[at..end].fill(0);
        if bytes != sound.content {
            sound.must_refuse(&bytes, &format!("zeros at {at}"));
        }
    }
}

#[test]
fn a_file_that_is_cut_short_is_told_wherever_it_ends() {
    let sound = sound();
    for at in sound.places() {
        sound.must_refuse(&sound.content[..at], &format!("cut at {at}"));
    }
}

#[test]
fn bytes_too_many_holes_and_pieces_of_others_are_told() {
    let sound = sound();
    let content = &sound.content;
    for more in [&[0][..], &[0; 512], content] {
        sound.must_refuse(&[content, more].concat(), "bytes behind the trailer");
    }
    // A hole of a whole page, as a file system leaves it when it loses an extent.
    for page in (0..content.len()).step_by(4096) {
        let mut bytes = content.clone();
        let end = bytes.len().min(page + 4096);
        bytes[page..end].fill(0);
        if bytes != *content {
            sound.must_refuse(&bytes, &format!("hole at {page}"));
        }
    }
    let all = pieces(content);
    for n in 0..all.len() {
        let mut missing = all.clone();
        missing.remove(n);
        sound.must_refuse(&missing.concat(), &format!("without piece {n}"));
        let mut twice = all.clone();
        twice.insert(n, all[n]);
        sound.must_refuse(&twice.concat(), &format!("piece {n} twice"));
        if n > 0 {
            let mut swapped = all.clone();
            swapped.swap(n - 1, n);
            sound.must_refuse(&swapped.concat(), &format!("piece {n} too early"));
        }
    }
    sound.must_refuse(all[all.len() - 1], "only the trailer");
}

/// The same state but for one value: no part of one fits the other.
#[test]
fn a_chunk_of_another_snapshot_is_told() {
    let sound = sound();
    let mut maker = Maker::new(7);
    for n in 0..9_u8 {
        maker.put(&[n; 5], &vec![if n == 4 { 99 } else { n }; VALUE_BYTES]);
    }
    let other = {
        let disk = SimDisk::new(1, 8 << 20);
        let info = publish(&disk, maker.store.view()).unwrap();
        assert_eq!(info.id, sound.info.id);
        disk.content(&snapshot_name(info.id)).unwrap()
    };
    let (own, foreign) = (pieces(&sound.content), pieces(&other));
    for n in [0, 3, own.len() - 1] {
        let mut mixed = own.clone();
        mixed[n] = foreign[n];
        if mixed != own {
            sound.must_refuse(&mixed.concat(), &format!("piece {n} of another one"));
        }
    }
    assert_ne!(
        (own[3], own[own.len() - 1]),
        (foreign[3], foreign[own.len() - 1])
    );
}

/// However well it is sealed. No room is made for items that cannot be there.
#[test]
fn a_chunk_of_more_or_fewer_items_than_it_says_is_told() {
    let sound = sound();
    let all = pieces(&sound.content);
    let mut header = Header::decode(all[0]).unwrap();
    (header.head.keys, header.head.sessions) = (u64::MAX, u64::MAX);
    let page = header.encode();
    for (n, of_one) in [(1, "an item"), (all.len() - 2, "a session")] {
        for (items, told) in [
            (u32::MAX, format!("{of_one} cannot be understood")),
            (1, "a chunk holds more than its items".to_owned()),
        ] {
            let (mut sealed, mut chunk) = (all.clone(), all[n].to_vec());
            let (header, _) = ChunkHeader::decode(chunk.first_chunk().unwrap()).unwrap();
            ChunkHeader { items, ..header }.encode(&mut chunk);
            (sealed[0], sealed[n]) = (&page, &chunk);
            let error = sound.must_refuse(&sealed.concat(), &format!("chunk {n}"));
            assert!(error.ends_with(&told), "{error}");
        }
    }
}

/// Every part of it is whole, and yet it is not what the writer had.
#[test]
fn another_digest_than_that_of_the_content_is_told() {
    let sound = sound();
    let (rest, end) = sound.content.split_last_chunk().unwrap();
    let mut trailer = Trailer::decode(end).unwrap();
    trailer.digest ^= 1;
    let bytes = [rest, &trailer.encode()].concat();
    let error = sound.must_refuse(&bytes, "another digest");
    assert!(error.ends_with("the content has another digest"), "{error}");
}

/// Sealed as if it were right: the digest does not tell, for it is a sum.
#[test]
fn keys_out_of_order_are_told() {
    let sound = sound();
    let mut header = Header::decode(&sound.content[..HEADER_BYTES]).unwrap();
    header.head.keys = 2;
    let key = |key| Item {
        key,
        value: b"",
        revision: Index(1),
        create_revision: Index(1),
        version: 1,
    };
    let (low, high) = (key(b"a"), key(b"b"));
    for chunks in [
        &[&[high, low][..]][..],
        &[&[low, low]],
        &[&[high], &[low]],
        &[&[low], &[low]],
    ] {
        let mut bytes = header.encode();
        for (number, items) in chunks.iter().enumerate() {
            let mut content = BytesMut::new();
            items.iter().for_each(|item| item.encode(&mut content));
            let mut chunk = vec![0; CHUNK_HEADER_BYTES];
            chunk.extend_from_slice(&content);
            let header = ChunkHeader {
                number: number as u64,
                kind: ChunkKind::Keys,
                items: items.len() as u32,
                content_bytes: content.len() as u32,
                stored_bytes: content.len() as u32,
                content_hash: xxh3_128(&content),
            };
            header.encode(&mut chunk);
            bytes.extend_from_slice(&chunk);
        }
        let verified = verify(&mut &bytes[..], "it").unwrap_err().to_string();
        assert!(verified.ends_with("keys are out of order"), "{verified}");
        sound.disk.tamper(&sound.name(), |content| *content = bytes);
        let loaded = load_it(&sound.disk, sound.info.id).unwrap_err().to_string();
        assert!(loaded.ends_with("not above the one before it"), "{loaded}");
    }
}

#[test]
fn what_cannot_be_read_is_damage_with_its_place() {
    let sound = sound();
    for at in (0..sound.content.len() as u64).step_by(512) {
        let disk = sound.disk.fork(1);
        disk.make_unreadable(&sound.name(), at..at + 1);
        let error = load_it(&disk, sound.info.id).unwrap_err();
        let Error::Damaged(damage) = &error else {
            panic!("{error}");
        };
        assert!(damage.what.starts_with("cannot be read"), "{error}");
        assert!(damage.offset <= at + 511, "{error}");
    }
}
