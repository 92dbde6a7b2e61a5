//! Any message of the protocol, so that one test can be about all of them.

use bytes::{Bytes, BytesMut};
use wire::client::{Reply, Request};
use wire::error::Error;
use wire::frame::{self, Frame, Kind};
use wire::hello::{Hello, Welcome};
use wire::limits::PEER_FRAME_BYTES_MAX;
use wire::peer::Message;

/// A message with the request id of its frame, where it has one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Any<'a> {
    Hello(Hello),
    Welcome(Welcome),
    Peer(Message),
    Request(u64, Request<'a>),
    Reply(u64, Reply<'a>),
}

impl<'a> Any<'a> {
    pub(crate) fn encode(&self) -> BytesMut {
        let mut out = BytesMut::new();
        match self {
            Self::Hello(hello) => hello.encode(&mut out),
            Self::Welcome(welcome) => welcome.encode(&mut out),
            Self::Peer(message) => message.encode(&mut out),
            Self::Request(id, request) => request.encode(*id, &mut out),
            Self::Reply(id, reply) => reply.encode(*id, &mut out),
        }
        out
    }

    /// Decodes by the frame's kind, as a reader would who takes all of them.
    pub(crate) fn decode(frame: &Frame<'a>) -> Result<Self, Error> {
        match frame.kind {
            Kind::Hello => Hello::decode(frame).map(Self::Hello),
            Kind::Welcome => Welcome::decode(frame).map(Self::Welcome),
            Kind::Append
            | Kind::AppendOk
            | Kind::AppendConflict
            | Kind::StaleTerm
            | Kind::PreVote
            | Kind::PreVoteAnswer
            | Kind::RequestVote
            | Kind::VoteAnswer
            | Kind::InstallSnapshot
            | Kind::SnapshotOk
            | Kind::TimeoutNow
            | Kind::Fetch
            | Kind::Fetched
            | Kind::ReadIndex
            | Kind::ReadIndexAnswer => decode_both_ways(frame).map(Self::Peer),
            Kind::Write
            | Kind::Get
            | Kind::Scan
            | Kind::Status
            | Kind::Snapshot
            | Kind::ReadSnapshot
            | Kind::ChangeMembers
            | Kind::Join
            | Kind::TransferLeader
            | Kind::Leaders
            | Kind::WatchLeader => {
                Request::decode(frame).map(|request| Self::Request(frame.request_id, request))
            }
            Kind::Error
            | Kind::Written
            | Kind::Value
            | Kind::Missing
            | Kind::Page
            | Kind::StatusReply
            | Kind::SnapshotPiece
            | Kind::MembersChanged
            | Kind::Admitted
            | Kind::LeaderTransferred
            | Kind::LeaderChanges
            | Kind::Moved => Reply::decode(frame).map(|reply| Self::Reply(frame.request_id, reply)),
        }
    }

    /// Whether its encoding drops something that was decoded: an error of a later version.
    pub(crate) fn is_abridged(&self) -> bool {
        matches!(self, Self::Reply(_, Reply::Error(Error::Unknown { .. })))
    }
}

/// Copied out of the frame or shared with it, a message is the same.
fn decode_both_ways(frame: &Frame<'_>) -> Result<Message, Error> {
    let whole = Bytes::copy_from_slice(frame.payload);
    let inside = Frame {
        payload: &whole,
        ..*frame
    };
    let copied = Message::decode(frame);
    assert_eq!(Message::decode_shared(&inside, &whole), copied);
    copied
}

/// The whole frame at the front of `bytes`.
pub(crate) fn parse(bytes: &[u8]) -> Frame<'_> {
    frame::parse(bytes, PEER_FRAME_BYTES_MAX)
        .expect("a good frame")
        .expect("a whole frame")
}

/// A frame with any payload, sealed as if it were one of ours.
pub(crate) fn sealed(kind: Kind, request_id: u64, payload: &[u8]) -> BytesMut {
    let mut out = BytesMut::new();
    let start = frame::begin(&mut out, kind, request_id);
    out.extend_from_slice(payload);
    frame::finish(&mut out, start);
    out
}

/// Decodes a payload as the message of a kind, under the request id that the kind needs.
pub(crate) fn decode_payload(kind: Kind, payload: &[u8]) -> Result<(), Error> {
    let asked = kind.code() >= Kind::Write.code();
    let bytes = sealed(kind, u64::from(asked), payload);
    Any::decode(&parse(&bytes)).map(|_| ())
}
