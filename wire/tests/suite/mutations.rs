//! Hostile bytes: valid frames, damaged in every way that a seeded generator thinks of, and frames
//! out of nothing. Nothing panics, and nothing decodes that was not in the bytes.
//!
//! That nothing is allocated past the cap follows from two things shown here: whatever decodes
//! encodes to the very bytes that it came from, so that what a decoder keeps is never more than
//! the frame held, whose size is capped before it is read; and a length or count that the rest of
//! the payload cannot hold is refused where it is read, before anything is made for it (`limits`).

use bytes::BytesMut;
use wire::client::Reply;
use wire::frame::{self, HEADER_BYTES, Kind};
use wire::limits::PEER_FRAME_BYTES_MAX;

use crate::any::{Any, parse, sealed};
use crate::samples;

/// Xorshift64*: the same mutations on every run.
struct Seeded(u64);

impl Seeded {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound.max(1) as u64).expect("below a usize")
    }

    fn byte(&mut self) -> u8 {
        self.next().to_be_bytes()[0]
    }

    /// A place in `bytes` and one not before it.
    fn range(&mut self, bytes: &[u8]) -> std::ops::Range<usize> {
        let start = self.below(bytes.len() + 1);
        start..start + self.below(bytes.len() - start + 1).min(64)
    }
}

fn mutate(random: &mut Seeded, bytes: &mut Vec<u8>, other: &[u8]) {
    let at = random.below(bytes.len());
    match random.below(9) {
        0 if !bytes.is_empty() => bytes[at] ^= 1 << random.below(8),
        1 if !bytes.is_empty() => bytes[at] = random.byte(),
        // What a length, a count, a flag or a code is most surprised by.
        2 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
        3 => {
            let fill = [0, 0xff][random.below(2)];
            let range = random.range(bytes);
            bytes[range].fill(fill);
        }
        4 => bytes.truncate(at),
        5 => {
            let extra = random.below(40);
            bytes.extend((0..extra).map(|_| random.byte()));
        }
        6 => {
            let copy = bytes[random.range(bytes)].to_vec();
            bytes.splice(at..at, copy);
        }
        7 => {
            let range = random.range(bytes);
            bytes.drain(range);
        }
        _ => {
            let graft = other[random.range(other)].to_vec();
            bytes.splice(at..at, graft);
        }
    }
}

/// Decodes a frame; what comes out must be what went in.
fn check(bytes: &[u8]) -> bool {
    let Ok(Some(frame)) = frame::parse(bytes, PEER_FRAME_BYTES_MAX) else {
        return false;
    };
    let Ok(any) = Any::decode(&frame) else {
        return false;
    };
    let _ = format!("{any:?}");
    if !any.is_abridged() {
        assert_eq!(any.encode(), bytes[..frame.len], "two encodings of {any:?}");
    }
    true
}

#[test]
fn damaged_frames_never_panic() {
    let mut random = Seeded(0x5eed_0001);
    let frames: Vec<BytesMut> = samples::all().iter().map(|(_, any)| any.encode()).collect();
    for good in &frames {
        for _ in 0..300 {
            let mut bytes = good.to_vec();
            let other = &frames[random.below(frames.len())];
            for _ in 0..=random.below(3) {
                mutate(&mut random, &mut bytes, other);
            }
            check(&bytes);
        }
    }
}

/// The checksum would hide the decoders: these frames are sealed after the damage is done.
#[test]
fn damaged_payloads_never_panic_and_decode_to_what_they_hold() {
    let mut random = Seeded(0x5eed_0002);
    let frames: Vec<BytesMut> = samples::all().iter().map(|(_, any)| any.encode()).collect();
    let mut decoded = 0;
    for good in &frames {
        let frame = parse(good);
        for _ in 0..3000 {
            let mut payload = frame.payload.to_vec();
            let other = &frames[random.below(frames.len())][HEADER_BYTES..];
            for _ in 0..=random.below(3) {
                mutate(&mut random, &mut payload, other);
            }
            decoded += u32::from(check(&sealed(frame.kind, frame.request_id, &payload)));
        }
    }
    // About one in seven: the mutations reach deep enough to be worth their time.
    assert!(decoded > 10_000, "only {decoded} mutants decoded");
}

#[test]
fn payloads_of_one_kind_never_panic_as_another() {
    for (_, any) in samples::all() {
        let good = any.encode();
        let payload = parse(&good).payload;
        for kind in Kind::ALL {
            for request_id in [0, 1] {
                check(&sealed(*kind, request_id, payload));
            }
        }
    }
}

#[test]
fn frames_out_of_nothing_never_panic() {
    let mut random = Seeded(0x5eed_0003);
    for _ in 0..20_000 {
        let length = random.below(200);
        let noise: Vec<u8> = (0..length).map(|_| random.byte()).collect();
        check(&noise);
        let kind = Kind::ALL[random.below(Kind::ALL.len())];
        check(&sealed(kind, random.next() % 2, &noise));
    }
}

#[test]
fn every_cut_of_every_payload_is_refused() {
    for (name, any) in samples::all() {
        let good = any.encode();
        let frame = parse(&good);
        for cut in 0..frame.payload.len() {
            let bytes = sealed(frame.kind, frame.request_id, &frame.payload[..cut]);
            match Any::decode(&parse(&bytes)) {
                Err(_) => {}
                // The same bytes as of a page of a count, which has no items.
                Ok(Any::Reply(_, Reply::Page { items, .. })) if items.bytes.is_empty() => {}
                Ok(any) => panic!("{name} cut at {cut}: {any:?}"),
            }
        }
    }
}

#[test]
fn bytes_after_the_end_are_refused() {
    for (name, any) in samples::all().iter().filter(|(_, any)| !any.is_abridged()) {
        let good = any.encode();
        let frame = parse(&good);
        for extra in [&[0][..], &[1, 2, 3], &[0xff; 100]] {
            let payload = [frame.payload, extra].concat();
            let bytes = sealed(frame.kind, frame.request_id, &payload);
            assert!(Any::decode(&parse(&bytes)).is_err(), "{name} and {extra:?}");
        }
    }
}
