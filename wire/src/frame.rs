//! Frames: what a connection carries, back to back, from its first byte on.
//!
//! ```text
//!  0  u32  bytes after this field: 16 + payload
//!  4  u8   version, 1
//!  5  u8   kind
//!  6  u16  flags, 0
//!  8  u64  request id; 0 for what nobody asked for
//! 16  u32  CRC-32 (IEEE) of bytes 0..16 and the payload
//! 20  ..   payload
//! ```

use byteorder::{BigEndian, ByteOrder};
use bytes::{BufMut, BytesMut};
use crc32fast::Hasher;

use crate::buf::{Reader, limited, malformed};
use crate::error::Error;
use crate::hello::{VERSION_MAX, VERSION_MIN};

/// Bytes of a frame before its payload.
pub const HEADER_BYTES: usize = 20;

/// Bytes of the length field, which does not count itself.
pub const LENGTH_BYTES: usize = 4;
/// Header bytes that the checksum covers.
const COVERED_BYTES: usize = 16;

/// The version of the frames that this build writes.
const VERSION: u8 = 1;
const _: () = assert!(VERSION_MIN == VERSION && VERSION_MAX == VERSION);

macro_rules! kinds {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// What a frame carries.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(u8)]
        pub enum Kind {
            $($(#[$doc])* $name = $code,)*
        }

        impl Kind {
            /// Every kind, by code.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The kind of a code, if this version knows it.
            #[must_use]
            pub fn from_code(code: u8) -> Option<Self> {
                match code {
                    $($code => Some(Self::$name),)*
                    _ => None,
                }
            }
        }
    };
}

kinds! {
    /// [`crate::hello::Hello`].
    Hello = 0x01,
    /// [`crate::hello::Welcome`].
    Welcome = 0x02,
    /// [`crate::error::Error`]: refuses the request of the same id; with id 0, the connection.
    Error = 0x03,
    /// [`crate::peer::Append`].
    Append = 0x10,
    /// [`crate::peer::AppendOk`].
    AppendOk = 0x11,
    /// [`crate::peer::AppendConflict`].
    AppendConflict = 0x12,
    /// [`crate::peer::StaleTerm`].
    StaleTerm = 0x13,
    /// [`crate::peer::PreVote`].
    PreVote = 0x14,
    /// [`crate::peer::PreVoteAnswer`].
    PreVoteAnswer = 0x15,
    /// [`crate::peer::RequestVote`].
    RequestVote = 0x16,
    /// [`crate::peer::VoteAnswer`].
    VoteAnswer = 0x17,
    /// [`crate::peer::InstallSnapshot`].
    InstallSnapshot = 0x18,
    /// [`crate::peer::SnapshotOk`].
    SnapshotOk = 0x19,
    /// [`crate::peer::TimeoutNow`].
    TimeoutNow = 0x1a,
    /// [`crate::peer::Fetch`].
    Fetch = 0x1b,
    /// [`crate::peer::Fetched`].
    Fetched = 0x1c,
    /// [`crate::peer::ReadIndex`].
    ReadIndex = 0x1d,
    /// [`crate::peer::ReadIndexAnswer`].
    ReadIndexAnswer = 0x1e,
    /// [`crate::client::Request::Write`].
    Write = 0x20,
    /// [`crate::client::Request::Get`].
    Get = 0x21,
    /// [`crate::client::Request::Scan`].
    Scan = 0x22,
    /// [`crate::client::Request::Status`].
    Status = 0x23,
    /// [`crate::client::Request::Snapshot`].
    Snapshot = 0x24,
    /// [`crate::client::Request::ReadSnapshot`].
    ReadSnapshot = 0x25,
    /// [`crate::client::Request::ChangeMembers`].
    ChangeMembers = 0x26,
    /// [`crate::client::Request::Join`].
    Join = 0x27,
    /// [`crate::client::Request::TransferLeader`].
    TransferLeader = 0x28,
    /// [`crate::client::Request::Leaders`].
    Leaders = 0x29,
    /// [`crate::client::Request::WatchLeader`].
    WatchLeader = 0x2a,
    /// [`crate::client::Reply::Written`].
    Written = 0x30,
    /// [`crate::client::Reply::Value`].
    Value = 0x31,
    /// [`crate::client::Reply::Missing`].
    Missing = 0x32,
    /// [`crate::client::Reply::Page`].
    Page = 0x33,
    /// [`crate::client::Reply::Status`].
    StatusReply = 0x34,
    /// [`crate::client::Reply::SnapshotPiece`].
    SnapshotPiece = 0x35,
    /// [`crate::client::Reply::MembersChanged`].
    MembersChanged = 0x36,
    /// [`crate::client::Reply::Admitted`].
    Admitted = 0x37,
    /// [`crate::client::Reply::LeaderTransferred`].
    LeaderTransferred = 0x38,
    /// [`crate::client::Reply::LeaderChanges`].
    LeaderChanges = 0x39,
    /// [`crate::client::Reply::Moved`].
    Moved = 0x3a,
}

impl Kind {
    /// The code in the header.
    #[must_use]
    pub fn code(self) -> u8 {
        self as u8
    }
}

/// A whole, checked frame at the front of a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame<'a> {
    /// What it carries.
    pub kind: Kind,
    /// Chosen by who asks, not 0, repeated in the answer; 0 for what nobody asked for.
    pub request_id: u64,
    /// The message.
    pub payload: &'a [u8],
    /// Bytes of the whole frame, header included: what the caller consumes.
    pub len: usize,
}

/// Takes a look at the front of `buffer`; `None` if the frame is not complete yet.
///
/// The length is judged as soon as it is there, version, kind and flags as soon as the header
/// is: a caller never collects bytes for a frame that will be refused. An error is final for the
/// connection, since where the next frame begins cannot be trusted any more; answer it under
/// [`request_id`] and close.
///
/// # Errors
/// `TooLarge` if the frame is over `bytes_max` (header included), `UnsupportedVersion`,
/// `UnknownKind`, `UnknownFlags`, `Malformed` for a length below the header or a wrong checksum.
pub fn parse(buffer: &[u8], bytes_max: usize) -> Result<Option<Frame<'_>>, Error> {
    let Some(len) = claimed(buffer) else {
        return Ok(None);
    };
    if len < HEADER_BYTES {
        return Err(malformed("a frame is shorter than its header"));
    }
    limited("frame", bytes_max, len)?;
    let Some(header) = buffer.get(LENGTH_BYTES..HEADER_BYTES) else {
        return Ok(None);
    };
    let (kind, request_id, crc) = read_header(header)?;
    let Some((header, payload)) = buffer
        .get(..len)
        .and_then(|frame| frame.split_at_checked(HEADER_BYTES))
    else {
        return Ok(None);
    };
    if checksum(header, payload) != crc {
        return Err(malformed("the checksum of a frame is wrong"));
    }
    Ok(Some(Frame {
        kind,
        request_id,
        payload,
        len,
    }))
}

/// What there is of a frame whose end is missing, unchecked: its payload is what has come of it.
/// `None` while the header is not there, or once the frame is whole.
pub(crate) fn beginning(buffer: &[u8]) -> Option<Frame<'_>> {
    let len = claimed(buffer).filter(|len| buffer.len() < *len)?;
    let (header, payload) = buffer.split_at_checked(HEADER_BYTES)?;
    let (_, header) = header.split_at_checked(LENGTH_BYTES)?;
    let (kind, request_id, _) = read_header(header).ok()?;
    Some(Frame {
        kind,
        request_id,
        payload,
        len,
    })
}

/// Kind, request id and checksum, from what follows the length.
fn read_header(header: &[u8]) -> Result<(Kind, u64, u32), Error> {
    let mut reader = Reader::new(header);
    if reader.u8()? != VERSION {
        return Err(Error::UnsupportedVersion {
            min: VERSION_MIN,
            max: VERSION_MAX,
        });
    }
    let code = reader.u8()?;
    let Some(kind) = Kind::from_code(code) else {
        return Err(Error::UnknownKind { kind: code });
    };
    let flags = reader.u16()?;
    if flags != 0 {
        return Err(Error::UnknownFlags { flags });
    }
    Ok((kind, reader.u64()?, reader.u32()?))
}

/// Bytes of the whole frame at the front of `buffer`, as it claims; [`HEADER_BYTES`] while the
/// length is not there. Ask after [`parse`] said `None`: it has checked the claim.
#[must_use]
pub fn wanted(buffer: &[u8]) -> usize {
    claimed(buffer).map_or(HEADER_BYTES, |len| len.max(HEADER_BYTES))
}

/// The request id of a frame that [`parse`] refused, so that the refusal can be told to the
/// request; 0 if it is not there.
#[must_use]
pub fn request_id(buffer: &[u8]) -> u64 {
    buffer.get(8..COVERED_BYTES).map_or(0, BigEndian::read_u64)
}

/// Opens a frame at the end of `out` and returns where; the payload follows, then [`finish`].
#[must_use]
pub fn begin(out: &mut BytesMut, kind: Kind, request_id: u64) -> usize {
    let start = out.len();
    out.put_u32(0);
    out.put_u8(VERSION);
    out.put_u8(kind.code());
    out.put_u16(0);
    out.put_u64(request_id);
    out.put_u32(0);
    start
}

/// Closes the frame opened at `start`: what follows its header in `out` is its payload.
///
/// # Panics
/// If no frame was opened there.
pub fn finish(out: &mut BytesMut, start: usize) {
    let (header, payload) = out
        .get_mut(start..)
        .and_then(|frame| frame.split_first_chunk_mut::<HEADER_BYTES>())
        .expect("begin wrote a header");
    let length = HEADER_BYTES - LENGTH_BYTES + payload.len();
    BigEndian::write_u32(
        header,
        u32::try_from(length).expect("no frame is near 4 GiB"),
    );
    let crc = checksum(header, payload);
    let (_, field) = header.split_at_mut(COVERED_BYTES);
    BigEndian::write_u32(field, crc);
}

/// Bytes of the whole frame that the length field claims.
fn claimed(buffer: &[u8]) -> Option<usize> {
    let length = BigEndian::read_u32(buffer.first_chunk::<LENGTH_BYTES>()?) as usize;
    Some(length.saturating_add(LENGTH_BYTES))
}

fn checksum(header: &[u8], payload: &[u8]) -> u32 {
    let (covered, _) = header.split_at(COVERED_BYTES);
    let mut hasher = Hasher::new();
    hasher.update(covered);
    hasher.update(payload);
    hasher.finalize()
}

/// Refuses an id where nobody asked, and the lack of one where somebody did.
pub(crate) fn expect_request_id(frame: &Frame<'_>, asked: bool) -> Result<(), Error> {
    match (frame.request_id != 0, asked) {
        (true, false) => Err(malformed("a request id where there is no request")),
        (false, true) => Err(malformed("request id 0 names no request")),
        _ => Ok(()),
    }
}
