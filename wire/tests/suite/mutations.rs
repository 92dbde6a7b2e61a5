//! Payloads of the wrong kind, too short and too long: refused, one way for every message. What
//! chance makes of them is for the fuzz targets `hello`, `peer`, `request` and `reply`.
//!
//! That nothing is allocated past the cap follows from two things shown here and there: whatever
//! decodes encodes to the very bytes that it came from, so that what a decoder keeps is never more
//! than the frame held, whose size is capped before it is read; and a length or count that the
//! rest of the payload cannot hold is refused where it is read, before anything is made for it
//! (`limits`).

use wire::client::Reply;
use wire::frame::{self, Kind};
use wire::limits::PEER_FRAME_BYTES_MAX;

use crate::any::{Any, parse, sealed};
use crate::samples;

/// Decodes a frame; what comes out must be what went in.
fn check(bytes: &[u8]) {
    let Ok(Some(frame)) = frame::parse(bytes, PEER_FRAME_BYTES_MAX) else {
        return;
    };
    if let Ok(any) = Any::decode(&frame)
        && !any.is_abridged()
    {
        assert_eq!(any.encode(), bytes[..frame.len], "two encodings of {any:?}");
    }
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
