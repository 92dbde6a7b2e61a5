//! The frame decoder.

use bytes::BytesMut;
use wire::error::Error;
use wire::frame::{self, HEADER_BYTES, Kind};
use wire::limits::{CLIENT_FRAME_BYTES_MAX, HELLO_FRAME_BYTES_MAX, PEER_FRAME_BYTES_MAX};
use wire::peer::Message;

use super::script::Script;

/// A stream longer than this only takes time.
const STREAM_BYTES_MAX: usize = 4096;

/// A frame's kind, request id and payload.
type Parsed = (Kind, u64, Vec<u8>);

/// A stream of frames, good and bad, in whatever pieces it comes: the same frames come out, then
/// the same refusal, or the wait for the same rest.
///
/// The first byte chooses the cap, the second whether the rest is the stream itself or a script of
/// one, whose frames have the right checksums.
pub fn frames(bytes: &[u8]) {
    let mut script = Script::new(bytes);
    let caps = [
        HELLO_FRAME_BYTES_MAX,
        CLIENT_FRAME_BYTES_MAX,
        PEER_FRAME_BYTES_MAX,
        64,
    ];
    let cap = script.pick(&caps);
    let stream = match script.flag() {
        true => script.all().to_vec(),
        false => compose(&mut script),
    };
    let stream = &stream[..stream.len().min(STREAM_BYTES_MAX)];

    let (whole, end) = at_once(stream, cap);
    let mut left = whole.as_slice();
    let mut front = 0;
    for cut in 0..=stream.len() {
        let buffer = &stream[front..cut];
        let _ = frame::request_id(buffer);
        match frame::parse(buffer, cap) {
            Ok(Some(found)) => {
                assert_eq!(found.len, buffer.len(), "a frame is whole at its last byte");
                assert!(found.len <= cap && found.len == HEADER_BYTES + found.payload.len());
                let (first, rest) = left.split_first().expect("as many as at once");
                assert_eq!((found.kind, found.request_id), (first.0, first.1));
                assert_eq!(found.payload, first.2);
                left = rest;
                front = cut;
            }
            Ok(None) => {
                let wanted = frame::wanted(buffer);
                assert!(
                    wanted > buffer.len(),
                    "{wanted} bytes wanted, they are here"
                );
                assert!(wanted <= cap, "{wanted} bytes wanted, over the cap");
                let _ = Message::check_beginning(buffer);
            }
            Err(error) => {
                assert!(left.is_empty(), "refused before the frames in front");
                assert_eq!(Err(&error), end.as_ref(), "refused for another reason");
                assert!(!error.to_string().is_empty());
                return;
            }
        }
    }
    assert!(left.is_empty(), "fewer frames than at once");
    assert_eq!(end, Ok(stream.len() - front), "refused only at once");
}

/// Every frame of the stream, and why the next one is refused, or how many bytes are left over.
fn at_once(stream: &[u8], cap: usize) -> (Vec<Parsed>, Result<usize, Error>) {
    let mut frames = Vec::new();
    let mut rest = stream;
    loop {
        match frame::parse(rest, cap) {
            Ok(Some(found)) => {
                frames.push((found.kind, found.request_id, found.payload.to_vec()));
                rest = &rest[found.len..];
            }
            Ok(None) => return (frames, Ok(rest.len())),
            Err(error) => return (frames, Err(error)),
        }
    }
}

fn compose(script: &mut Script<'_>) -> Vec<u8> {
    let mut stream = BytesMut::new();
    while !script.is_over() && stream.len() < STREAM_BYTES_MAX {
        let start = stream.len();
        stream.extend_from_slice(&seal(
            script.pick(Kind::ALL),
            script.near(1),
            script.bytes(1024),
        ));
        // Most are left as they are.
        let at = start + script.below(HEADER_BYTES);
        match script.below(16) {
            12 => stream[at] ^= 1 << script.below(8),
            13 => stream[at] = script.byte(),
            14 => stream.truncate(at),
            15 => stream.extend_from_slice(script.bytes(32)),
            _ => {}
        }
    }
    stream.to_vec()
}

/// A frame with any payload and the right checksum.
pub(super) fn seal(kind: Kind, request_id: u64, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    let start = frame::begin(&mut out, kind, request_id);
    out.extend_from_slice(payload);
    frame::finish(&mut out, start);
    out
}
