//! The decoders of payloads, each against its encoder.

use std::fmt::Debug;

use bytes::BytesMut;
use wire::client::{Reply, Request};
use wire::entry::ENTRY_HEADER_BYTES;
use wire::error::Error;
use wire::frame::{self, Frame, Kind};
use wire::hello::{Hello, Welcome, negotiate};
use wire::limits::{PAGE_ITEMS_MAX, PEER_FRAME_BYTES_MAX};
use wire::peer::Message;

use super::frames::seal;
use super::script::Script;

/// Bytes of an `Append` before its entries, without a digest, and those of a digest.
const APPEND_HEAD_BYTES: usize = 8 + 16 + 8 + 8 + 1 + 2;
const DIGEST_BYTES: usize = 24;

// What each target reads. A kind more goes to the end, and leaves the corpus what it was.
const GREETING: &[Kind] = &[Kind::Hello, Kind::Welcome];
const PEER: &[Kind] = &[
    Kind::Append,
    Kind::AppendOk,
    Kind::AppendConflict,
    Kind::StaleTerm,
    Kind::PreVote,
    Kind::PreVoteAnswer,
    Kind::RequestVote,
    Kind::VoteAnswer,
    Kind::InstallSnapshot,
    Kind::SnapshotOk,
    Kind::TimeoutNow,
    Kind::Fetch,
    Kind::Fetched,
    Kind::ReadIndex,
    Kind::ReadIndexAnswer,
];
const REQUEST: &[Kind] = &[
    Kind::Write,
    Kind::Get,
    Kind::Scan,
    Kind::Status,
    Kind::ReadSnapshot,
    Kind::ChangeMembers,
    Kind::Join,
    Kind::TransferLeader,
    Kind::Snapshot,
    Kind::Leaders,
    Kind::WatchLeader,
];
const REPLY: &[Kind] = &[
    Kind::Error,
    Kind::Written,
    Kind::Value,
    Kind::Missing,
    Kind::Page,
    Kind::StatusReply,
    Kind::SnapshotPiece,
    Kind::MembersChanged,
    Kind::Admitted,
    Kind::LeaderTransferred,
    Kind::LeaderChanges,
    Kind::Moved,
];

/// A hello or a welcome.
pub fn hello(bytes: &[u8]) {
    sealed(bytes, GREETING, |frame| {
        if frame.kind == Kind::Hello {
            round_trip(frame, Hello::decode(frame), |hello, out| {
                hello.encode(out);
                let _ = negotiate(hello.version_min, hello.version_max);
            });
        } else {
            round_trip(frame, Welcome::decode(frame), Welcome::encode);
        }
    });
}

/// A message between peers.
pub fn peer(bytes: &[u8]) {
    sealed(bytes, PEER, |frame| {
        round_trip(frame, Message::decode(frame), |message, out| {
            is_awaited(frame);
            if let Message::Append(append) = message {
                let mut last = append.prev;
                for entry in &append.entries {
                    assert_eq!(entry.index(), last.index.next(), "a gap");
                    assert!(entry.term() >= last.term, "a term that falls");
                    last = entry.id();
                }
            }
            message.encode(out);
        });
    });
}

/// Of a good message each beginning may become one.
fn is_awaited(frame: &Frame<'_>) {
    let whole = seal(frame.kind, frame.request_id, frame.payload);
    for cut in (0..whole.len()).step_by(1 + whole.len() / 64) {
        let begun = Message::check_beginning(&whole[..cut]);
        assert_eq!(begun, Ok(()), "cut at {cut} of {}", whole.len());
    }
}

/// What a client asks.
pub fn request(bytes: &[u8]) {
    sealed(bytes, REQUEST, |frame| {
        round_trip(frame, Request::decode(frame), |request, out| {
            if let Request::Write { write, body, .. } = request {
                let mut again = BytesMut::new();
                write.encode_body(&mut again);
                assert_eq!(again, body, "the body of the entry is not the write's");
            }
            request.encode(frame.request_id, out);
        });
    });
}

/// What a server answers.
pub fn reply(bytes: &[u8]) {
    sealed(bytes, REPLY, |frame| {
        let decoded = Reply::decode(frame);
        // An error of a later version is read as far as its text: the rest is dropped.
        if let Ok(Reply::Error(error @ Error::Unknown { .. })) = &decoded {
            let _ = (error.to_string(), error.class());
            return;
        }
        round_trip(frame, decoded, |reply, out| {
            if let Reply::Page { count, items, .. } = reply {
                let held = items.iter().count() as u64;
                assert!(held == 0 || held == *count, "{held} items of {count}");
                assert!(held <= u64::from(PAGE_ITEMS_MAX));
            }
            if let Reply::Error(error) = reply {
                let _ = (error.to_string(), error.class());
            }
            reply.encode(frame.request_id, out);
        });
    });
}

/// The first byte chooses the kind, the second the request id and whether entries get their
/// checksums, the rest is the payload.
fn sealed(bytes: &[u8], kinds: &[Kind], check: impl Fn(&Frame<'_>)) {
    let mut script = Script::new(bytes);
    let kind = script.pick(kinds);
    let choice = script.byte();
    let request_id = [0, 1, 2, u64::MAX][usize::from(choice & 3)];
    let mut payload = script.all().to_vec();
    if kind == Kind::Append && choice & 4 == 0 {
        seal_entries(&mut payload);
    }
    let bytes = seal(kind, request_id, &payload);
    match frame::parse(&bytes, PEER_FRAME_BYTES_MAX) {
        Ok(Some(frame)) => check(&frame),
        Ok(None) => panic!("a sealed frame is whole"),
        Err(error) => assert!(matches!(error, Error::TooLarge { .. }), "{error}"),
    }
}

/// Gives every entry in the payload of an `Append` the checksum of what it holds.
fn seal_entries(payload: &mut [u8]) {
    let digest = payload.get(APPEND_HEAD_BYTES - 3) == Some(&1);
    let head = APPEND_HEAD_BYTES + usize::from(digest) * DIGEST_BYTES;
    let mut rest = payload.get_mut(head..).unwrap_or_default();
    while let Some((length, _)) = rest.split_first_chunk::<4>() {
        let length = u32::from_be_bytes(*length) as usize;
        if !(ENTRY_HEADER_BYTES..=rest.len()).contains(&length) {
            return;
        }
        let (record, behind) = rest.split_at_mut(length);
        let crc = crc32fast::hash(&record[8..]);
        record[4..8].copy_from_slice(&crc.to_be_bytes());
        rest = behind;
    }
}

/// What decodes can be shown and encodes to what it came from; what does not says why.
fn round_trip<T: Debug>(
    frame: &Frame<'_>,
    decoded: Result<T, Error>,
    encode: impl Fn(&T, &mut BytesMut),
) {
    let value = match decoded {
        Ok(value) => value,
        Err(error) => {
            assert!(!error.to_string().is_empty());
            return;
        }
    };
    let _ = format!("{value:?}");
    let mut again = BytesMut::new();
    encode(&value, &mut again);
    assert_eq!(
        again,
        seal(frame.kind, frame.request_id, frame.payload),
        "two encodings of {value:?}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_by_one_target() {
        for kind in Kind::ALL {
            let all = [GREETING, PEER, REQUEST, REPLY];
            let readers = all.iter().filter(|kinds| kinds.contains(kind));
            assert_eq!(readers.count(), 1, "{kind:?}");
        }
    }
}
