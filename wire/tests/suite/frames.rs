//! The frame parser: every boundary, every refusal, and how early it refuses.

use bytes::BytesMut;
use wire::client::Request;
use wire::error::Error;
use wire::frame::{self, HEADER_BYTES, Kind};
use wire::hello::{VERSION_MAX, VERSION_MIN};
use wire::limits::{CLIENT_FRAME_BYTES_MAX, HELLO_FRAME_BYTES_MAX, PEER_FRAME_BYTES_MAX};
use wire::peer::Message;

use crate::any::{Any, sealed};
use crate::samples;

fn reason(result: Result<Option<frame::Frame<'_>>, Error>) -> String {
    result.expect_err("refused").to_string()
}

#[test]
fn a_frame_cut_anywhere_is_waited_for() {
    for (name, any) in samples::all() {
        let bytes = any.encode();
        for cut in 0..bytes.len() {
            let front = &bytes[..cut];
            assert_eq!(
                frame::parse(front, PEER_FRAME_BYTES_MAX),
                Ok(None),
                "{name} cut at {cut}"
            );
            let wanted = if cut < 4 { HEADER_BYTES } else { bytes.len() };
            assert_eq!(frame::wanted(front), wanted, "{name} cut at {cut}");
        }
    }
}

#[test]
fn frames_follow_each_other_whatever_the_pieces() {
    let samples = samples::all();
    let mut stream = BytesMut::new();
    for (_, any) in &samples {
        stream.extend_from_slice(&any.encode());
    }
    for piece in [1, 7, 19, 20, 21, 1000, stream.len()] {
        let mut buffer = BytesMut::new();
        let mut expected = samples.iter();
        for bytes in stream.chunks(piece) {
            buffer.extend_from_slice(bytes);
            while let Some(found) = frame::parse(&buffer, PEER_FRAME_BYTES_MAX).unwrap() {
                let (_, any) = expected.next().expect("no more frames than were sent");
                assert_eq!(Any::decode(&found).as_ref(), Ok(any));
                let len = found.len;
                let _ = buffer.split_to(len);
            }
        }
        assert_eq!((expected.next(), buffer.len()), (None, 0));
    }
}

/// Frames between peers, by name, and the bytes of each in a stream.
fn of_peers() -> Vec<(String, BytesMut)> {
    let is_peer = |any: &Any<'_>| matches!(any, Any::Peer(_));
    let all = samples::all().into_iter();
    let of_peers = all.filter(|(_, any)| is_peer(any));
    of_peers.map(|(name, any)| (name, any.encode())).collect()
}

#[test]
fn what_can_become_a_message_of_a_peer_is_given_time() {
    for (name, bytes) in of_peers() {
        for cut in 0..=bytes.len() {
            let checked = Message::check_beginning(&bytes[..cut]);
            assert_eq!(checked, Ok(()), "{name} cut at {cut}");
        }
    }
    let mut refusal = BytesMut::new();
    Error::Removed.encode(0, &mut refusal);
    for cut in 0..=refusal.len() {
        assert_eq!(Message::check_beginning(&refusal[..cut]), Ok(()));
    }
}

/// Whatever of the next frames it has swallowed.
#[test]
fn a_message_of_a_peer_that_ends_before_its_frame_is_refused() {
    let malformed = |reason: &str| {
        let reason = reason.into();
        Err(Error::Malformed { reason })
    };
    for (name, mut bytes) in of_peers() {
        let end = bytes.len();
        bytes[1] |= 0x20;
        bytes.extend_from_slice(&[0; 3]);
        for cut in 0..end {
            let checked = Message::check_beginning(&bytes[..cut]);
            assert_eq!(checked, Ok(()), "{name} cut at {cut}");
        }
        let whole = Message::check_beginning(&bytes[..end]);
        assert_eq!(
            whole,
            malformed("a message ends before its frame"),
            "{name}"
        );
        let more = Message::check_beginning(&bytes);
        assert_eq!(
            more,
            malformed("bytes after the end of the message"),
            "{name}"
        );
    }
    let request = sealed(Kind::Get, 1, &[0; 100]);
    let request = Message::check_beginning(&request[..50]);
    assert_eq!(request, malformed("the frame is not one between peers"));
}

/// The canary of promise 6: four bytes are enough to refuse, none of the rest is waited for.
#[test]
fn a_length_over_the_cap_is_refused_before_anything_else_arrives() {
    for cap in [
        HELLO_FRAME_BYTES_MAX,
        CLIENT_FRAME_BYTES_MAX,
        PEER_FRAME_BYTES_MAX,
    ] {
        let length = |whole: usize| u32::try_from(whole - 4).unwrap().to_be_bytes();
        assert_eq!(frame::parse(&length(cap), cap), Ok(None));
        assert_eq!(frame::wanted(&length(cap)), cap);
        assert_eq!(
            frame::parse(&length(cap + 1), cap),
            Err(Error::TooLarge {
                what: "frame".into(),
                limit: cap as u64,
                actual: cap as u64 + 1,
            })
        );
        let most = frame::parse(&[0xff; 4], cap);
        assert!(matches!(most, Err(Error::TooLarge { .. })));
        // What speaks another protocol is refused at once, too.
        let http = frame::parse(b"GET / HTTP/1.1\r\n", cap);
        assert!(matches!(http, Err(Error::TooLarge { .. })));
    }
}

#[test]
fn a_length_below_the_header_is_refused() {
    for length in 0..16_u32 {
        let refusal = reason(frame::parse(&length.to_be_bytes(), HELLO_FRAME_BYTES_MAX));
        assert!(refusal.contains("shorter"), "{refusal}");
    }
    let zeros = [0_u8; 4096];
    assert!(frame::parse(&zeros, HELLO_FRAME_BYTES_MAX).is_err());
    assert_eq!(frame::wanted(&zeros), HEADER_BYTES);
}

#[test]
fn version_kind_and_flags_are_refused_by_the_header_alone() {
    let bytes = sealed(Kind::Get, 9, &[0; 100]);
    let header = |at: usize, value: u8| {
        let mut header = bytes[..HEADER_BYTES].to_vec();
        header[at] = value;
        frame::parse(&header, CLIENT_FRAME_BYTES_MAX).expect_err("refused")
    };
    for version in (0..=u8::MAX).filter(|version| *version != 1) {
        assert_eq!(
            header(4, version),
            Error::UnsupportedVersion {
                min: VERSION_MIN,
                max: VERSION_MAX
            }
        );
    }
    for kind in (0..=u8::MAX).filter(|kind| Kind::from_code(*kind).is_none()) {
        assert_eq!(header(5, kind), Error::UnknownKind { kind });
    }
    for bit in 0..8 {
        let high = u16::from(1_u8 << bit) << 8;
        assert_eq!(header(6, 1 << bit), Error::UnknownFlags { flags: high });
        assert_eq!(
            header(7, 1 << bit),
            Error::UnknownFlags { flags: high >> 8 }
        );
    }
    assert_eq!(frame::request_id(&bytes), 9);
    assert_eq!(frame::request_id(&bytes[..15]), 0);
}

#[test]
fn every_flipped_bit_is_noticed() {
    for (name, any) in samples::all() {
        let good = any.encode();
        for bit in 0..good.len() * 8 {
            let mut bytes = good.to_vec();
            bytes[bit / 8] ^= 1 << (bit % 8);
            let parsed = frame::parse(&bytes, PEER_FRAME_BYTES_MAX);
            assert!(
                !matches!(parsed, Ok(Some(_))),
                "{name} with bit {bit} flipped: {parsed:?}"
            );
        }
    }
}

#[test]
fn request_ids_are_where_they_belong() {
    for (name, any) in samples::all() {
        let good = any.encode();
        let frame = crate::any::parse(&good);
        let other = sealed(frame.kind, u64::from(frame.request_id == 0), frame.payload);
        let decoded = Any::decode(&crate::any::parse(&other));
        if matches!(frame.kind, Kind::Error | Kind::Moved) {
            assert!(decoded.is_ok(), "{name}");
        } else {
            let refusal = decoded.expect_err("refused").to_string();
            assert!(refusal.contains("request"), "{name}: {refusal}");
        }
    }
}

#[test]
#[should_panic(expected = "request id 0 names no request")]
fn a_request_is_never_sent_without_an_id() {
    Request::Status.encode(0, &mut BytesMut::new());
}

#[test]
fn encoding_appends() {
    let mut out = BytesMut::from(&b"before"[..]);
    Request::Status.encode(3, &mut out);
    Request::Status.encode(4, &mut out);
    let (before, frames) = out.split_at(6);
    assert_eq!(before, b"before");
    let first = crate::any::parse(frames);
    assert_eq!((first.request_id, first.len), (3, HEADER_BYTES));
    assert_eq!(crate::any::parse(&frames[first.len..]).request_id, 4);
}
