//! The bytes of a snapshot, as constants, and the codecs over them. `man/raftd-snap.5` is this file
//! in words; a test holds the two together. Integers are big-endian.
//!
//! ```text
//! 0        header page                       [Header]
//! 8192     chunk, chunk, chunk ..            [ChunkHeader], then the content, compressed or not
//! end-64   trailer                           [Trailer]
//! ```
//!
//! Nothing in it says which node wrote it or when: all nodes write the same state in the same bytes.

use byteorder::{BigEndian, ByteOrder};
use bytes::{Buf, BufMut, BytesMut};
use wire::limits::{
    ADDR_BYTES_MAX, COUNTER_MAX, KEY_BYTES_MAX, MEMBERS_MAX, MEMBERSHIP_BYTES_MAX, VALUE_BYTES_MAX,
};
use wire::membership::Membership;
use wire::types::{ClusterId, EntryId, Epoch, Index, NodeId, Term};
use xxhash_rust::xxh3::Xxh3;

use crate::store::ImageHead;

/// The version of everything in this file.
pub const FORMAT: u32 = 1;
/// Opens the header page.
pub const SNAPSHOT_MAGIC: &[u8; 8] = b"RAFTDSNP";
/// Opens a chunk: "RCHK".
pub const CHUNK_MAGIC: u32 = 0x5243_484b;
/// Opens the trailer: "REND".
pub const TRAILER_MAGIC: u32 = 0x5245_4e44;

/// The header page.
pub const HEADER_BYTES: usize = 8192;
/// The header of a chunk.
pub const CHUNK_HEADER_BYTES: usize = 48;
/// The trailer.
pub const TRAILER_BYTES: usize = 64;
/// A chunk that is written takes so much content before it is compressed: as one is pressed at once, and
/// where the processors are busy, whoever answers waits as long as that takes.
pub const CHUNK_BYTES: usize = 64 * 1024;
/// A chunk that is read has at most so much. One item always fits, see [`ITEM_BYTES_MAX`].
pub const CHUNK_BYTES_MAX: usize = 256 * 1024;
/// The largest key with its value, as they stand in a chunk: two lengths and three numbers more.
pub const ITEM_BYTES_MAX: usize = KEY_BYTES_MAX + VALUE_BYTES_MAX + 32;
/// The smallest file that can be whole.
pub const SNAPSHOT_BYTES_MIN: u64 = (HEADER_BYTES + TRAILER_BYTES) as u64;

const FIXED_BYTES: usize = 92;

const _: () = assert!(FIXED_BYTES + 2 + MEMBERS_MAX * (8 + 2 + ADDR_BYTES_MAX) + 2 <= HEADER_BYTES);
const _: () = assert!(FIXED_BYTES + 2 + 2 + MEMBERSHIP_BYTES_MAX <= HEADER_BYTES);
const _: () = assert!(CHUNK_BYTES <= CHUNK_BYTES_MAX);
const _: () = assert!(ITEM_BYTES_MAX > CHUNK_BYTES_MAX && ITEM_BYTES_MAX < u32::MAX as usize);

/// What a snapshot is of (rules C7, D1), on its first page.
///
/// ```text
///  0  8 bytes  "RAFTDSNP"           56  u64  newest wall time of applied entries, ms since 1970
///  8  u32  CRC-32 of bytes 12..8192 64  u64  keys
/// 12  u32  format, 1                72  u64  sessions
/// 16  u128 cluster                  80  u64  horizon: the highest birth of an evicted session
/// 32  u64  epoch                    88  u32  1 if a session was evicted; else 0, and the horizon is 0
/// 40  u64  index of the last entry  92  u16  members: u64 node, u16 length, peer address for each
/// 48  u64  term of the last entry   ..  u16  bytes of the membership, and these; 0 if there is none
///                                   ..  zeros
/// ```
///
/// If the log changed who is a member, the membership says it (`raftd-wire.7`), and no members are
/// listed before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// Of whose state.
    pub cluster: ClusterId,
    /// Of which state, but for keys and sessions.
    pub head: ImageHead,
    /// The members' peer addresses, by ascending id, if they are those with whom the cluster began.
    pub members: Vec<(NodeId, String)>,
}

impl Header {
    /// The page.
    ///
    /// # Panics
    /// If there are more members or longer addresses than [`wire::limits`] allow, or members beside a
    /// membership.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        assert!(self.members.len() <= MEMBERS_MAX, "members are limited");
        let mut page = Vec::with_capacity(HEADER_BYTES);
        page.put_slice(SNAPSHOT_MAGIC);
        page.put_u32(0);
        page.put_u32(FORMAT);
        page.put_u128(self.cluster.0);
        page.put_u64(self.head.epoch.0);
        page.put_u64(self.head.applied.index.0);
        page.put_u64(self.head.applied.term.0);
        page.put_u64(self.head.wall_ms);
        page.put_u64(self.head.keys);
        page.put_u64(self.head.sessions);
        page.put_u64(self.head.horizon.unwrap_or_default().0);
        page.put_u32(u32::from(self.head.horizon.is_some()));
        page.put_u16(self.members.len() as u16);
        for (node, addr) in &self.members {
            assert!(addr.len() <= ADDR_BYTES_MAX, "addresses are limited");
            page.put_u64(node.0);
            page.put_u16(addr.len() as u16);
            page.put_slice(addr.as_bytes());
        }
        if let Some(membership) = &self.head.membership {
            assert!(self.members.is_empty(), "members are told twice");
            let mut body = BytesMut::new();
            membership.encode(&mut body);
            page.put_u16(body.len() as u16);
            page.put_slice(&body);
        }
        page.resize(HEADER_BYTES, 0);
        let crc = crc32fast::hash(&page[12..]);
        BigEndian::write_u32(&mut page[8..], crc);
        page
    }

    /// Who is a member: as the log said, or those with whom the cluster began, whose names and
    /// incarnations are not told.
    #[must_use]
    pub fn membership(&self) -> Membership {
        let told = self.head.membership.clone();
        told.unwrap_or_else(|| Membership::initial(&self.members, &[]))
    }

    /// The header in a page, or `None` if none is there: wrong magic, CRC or format, or values
    /// that no header has.
    #[must_use]
    pub fn decode(page: &[u8]) -> Option<Self> {
        let mut fields = page.get(16..HEADER_BYTES)?;
        let cluster = ClusterId(fields.try_get_u128().ok()?);
        let mut head = ImageHead {
            epoch: Epoch(fields.try_get_u64().ok()?),
            applied: EntryId {
                index: Index(fields.try_get_u64().ok()?),
                term: Term(fields.try_get_u64().ok()?),
            },
            wall_ms: fields.try_get_u64().ok()?,
            keys: fields.try_get_u64().ok()?,
            sessions: fields.try_get_u64().ok()?,
            horizon: Some(Index(fields.try_get_u64().ok()?)),
            membership: None,
        };
        if fields.try_get_u32().ok()? == 0 {
            head.horizon = None;
        }
        let count = usize::from(fields.try_get_u16().ok()?);
        if count > MEMBERS_MAX {
            return None;
        }
        let mut members = Vec::with_capacity(count);
        for _ in 0..count {
            let node = NodeId(fields.try_get_u64().ok()?);
            let length = usize::from(fields.try_get_u16().ok()?);
            if length > ADDR_BYTES_MAX {
                return None;
            }
            let (addr, behind) = fields.split_at_checked(length)?;
            fields = behind;
            let addr = String::from_utf8(addr.to_vec()).ok()?;
            members.push((node, addr));
        }
        let length = usize::from(fields.try_get_u16().ok()?);
        if length > 0 {
            let body = fields.get(..length).filter(|_| members.is_empty())?;
            head.membership = Some(Membership::decode(body).ok()?);
        }
        let counters = [head.applied.index.0, head.applied.term.0];
        let header = Self {
            cluster,
            head,
            members,
        };
        let mut counters = counters.iter();
        let sane = counters.all(|counter| (1..=COUNTER_MAX).contains(counter))
            && header.members.is_sorted_by(|a, b| a.0 < b.0);
        // Whatever else is on the page is zeros, or it is not the page that this header makes.
        (sane && page == header.encode()).then_some(header)
    }
}

/// What is in a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChunkKind {
    /// Keys with what belongs to them, ascending.
    Keys,
    /// Sessions with their kept replies, by ascending index of the last write. Behind all keys.
    Sessions,
}

impl ChunkKind {
    fn code(self) -> u32 {
        match self {
            Self::Keys => 1,
            Self::Sessions => 2,
        }
    }

    fn from_code(code: u32) -> Option<Self> {
        match code {
            1 => Some(Self::Keys),
            2 => Some(Self::Sessions),
            _ => None,
        }
    }
}

/// What stands in front of a chunk's content.
///
/// ```text
///  0  u32  "RCHK"                              20  u32  items
///  4  u32  CRC-32 of bytes 8..48 and what      24  u32  bytes of the content
///          is stored                           28  u32  bytes stored
///  8  u64  number: 0, 1, ..                    32  u128 XXH3 of the content
/// 16  u32  kind: 1 keys, 2 sessions            48  what is stored
/// ```
///
/// Stored is an LZ4 block; or the content itself, if that would not be smaller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChunkHeader {
    /// Its place among the chunks.
    pub number: u64,
    /// What is in it.
    pub kind: ChunkKind,
    /// How many.
    pub items: u32,
    /// Bytes of the content, before it was compressed.
    pub content_bytes: u32,
    /// Bytes that follow the header.
    pub stored_bytes: u32,
    /// Of the content: the same on all nodes, whatever compressed it.
    pub content_hash: u128,
}

impl ChunkHeader {
    /// Writes the header in front of what is stored: `chunk` is room for it, then that.
    pub fn encode(&self, chunk: &mut [u8]) {
        assert_eq!(
            chunk.len(),
            CHUNK_HEADER_BYTES + self.stored_bytes as usize,
            "a chunk is its header and what is stored"
        );
        BigEndian::write_u32(&mut chunk[0..], CHUNK_MAGIC);
        BigEndian::write_u64(&mut chunk[8..], self.number);
        BigEndian::write_u32(&mut chunk[16..], self.kind.code());
        BigEndian::write_u32(&mut chunk[20..], self.items);
        BigEndian::write_u32(&mut chunk[24..], self.content_bytes);
        BigEndian::write_u32(&mut chunk[28..], self.stored_bytes);
        BigEndian::write_u128(&mut chunk[32..], self.content_hash);
        let crc = crc32fast::hash(&chunk[8..]);
        BigEndian::write_u32(&mut chunk[4..], crc);
    }

    /// What the first bytes of a chunk say, with the CRC. To be believed only as far as reading the
    /// rest, which is bounded.
    #[must_use]
    pub fn decode(bytes: &[u8; CHUNK_HEADER_BYTES]) -> Option<(Self, u32)> {
        let header = Self {
            number: BigEndian::read_u64(&bytes[8..]),
            kind: ChunkKind::from_code(BigEndian::read_u32(&bytes[16..]))?,
            items: BigEndian::read_u32(&bytes[20..]),
            content_bytes: BigEndian::read_u32(&bytes[24..]),
            stored_bytes: BigEndian::read_u32(&bytes[28..]),
            content_hash: BigEndian::read_u128(&bytes[32..]),
        };
        let content_bytes_max = match header.items {
            0 => return None,
            1 => ITEM_BYTES_MAX,
            _ => CHUNK_BYTES_MAX,
        };
        let sane = BigEndian::read_u32(bytes) == CHUNK_MAGIC
            && (1..=content_bytes_max).contains(&(header.content_bytes as usize))
            && (1..=header.content_bytes).contains(&header.stored_bytes);
        sane.then(|| (header, BigEndian::read_u32(&bytes[4..])))
    }

    /// Bytes in the file.
    #[must_use]
    pub fn chunk_bytes(&self) -> u64 {
        CHUNK_HEADER_BYTES as u64 + u64::from(self.stored_bytes)
    }

    /// Whether what is stored is an LZ4 block.
    #[must_use]
    pub fn is_compressed(&self) -> bool {
        self.stored_bytes < self.content_bytes
    }
}

/// What ends a snapshot: a file without it is not whole.
///
/// ```text
///  0  u32  "REND"                   24  u64  bytes of all chunks, headers included
///  4  u32  CRC-32 of bytes 8..64    32  u128 digest of the state, recomputed from what was written
///  8  u64  chunks                   48  u128 XXH3 of the header page and the chunks' hashes
/// 16  u64  bytes of all content
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Trailer {
    /// How many chunks there are.
    pub chunks: u64,
    /// Bytes of their content, before it was compressed.
    pub content_bytes: u64,
    /// Bytes of the chunks in the file.
    pub chunks_bytes: u64,
    /// The digest of the state (rules D5).
    pub digest: u128,
    /// The same where header and content are, whatever compressed it.
    pub content_hash: u128,
}

impl Trailer {
    /// The bytes.
    #[must_use]
    pub fn encode(&self) -> [u8; TRAILER_BYTES] {
        let mut bytes = [0; TRAILER_BYTES];
        BigEndian::write_u32(&mut bytes[0..], TRAILER_MAGIC);
        BigEndian::write_u64(&mut bytes[8..], self.chunks);
        BigEndian::write_u64(&mut bytes[16..], self.content_bytes);
        BigEndian::write_u64(&mut bytes[24..], self.chunks_bytes);
        BigEndian::write_u128(&mut bytes[32..], self.digest);
        BigEndian::write_u128(&mut bytes[48..], self.content_hash);
        let crc = crc32fast::hash(&bytes[8..]);
        BigEndian::write_u32(&mut bytes[4..], crc);
        bytes
    }

    /// The trailer in these bytes, or `None` if none is there.
    #[must_use]
    pub fn decode(bytes: &[u8; TRAILER_BYTES]) -> Option<Self> {
        let trailer = Self {
            chunks: BigEndian::read_u64(&bytes[8..]),
            content_bytes: BigEndian::read_u64(&bytes[16..]),
            chunks_bytes: BigEndian::read_u64(&bytes[24..]),
            digest: BigEndian::read_u128(&bytes[32..]),
            content_hash: BigEndian::read_u128(&bytes[48..]),
        };
        (*bytes == trailer.encode()).then_some(trailer)
    }
}

/// Sums up chunks for the [`Trailer`]: by who writes it, and by who checks it.
#[derive(Clone)]
pub(super) struct Sums {
    trailer: Trailer,
    hasher: Xxh3,
}

impl Sums {
    /// No chunk yet, behind this header page.
    pub(super) fn new(page: &[u8]) -> Self {
        let mut hasher = Xxh3::new();
        hasher.update(page);
        Self {
            trailer: Trailer::default(),
            hasher,
        }
    }

    /// Chunks so far.
    pub(super) fn chunks(&self) -> u64 {
        self.trailer.chunks
    }

    /// Where the next chunk begins.
    pub(super) fn offset(&self) -> u64 {
        HEADER_BYTES as u64 + self.trailer.chunks_bytes
    }

    pub(super) fn add(&mut self, chunk: &ChunkHeader) {
        self.trailer.chunks += 1;
        self.trailer.content_bytes += u64::from(chunk.content_bytes);
        self.trailer.chunks_bytes += chunk.chunk_bytes();
        self.hasher.update(&chunk.content_hash.to_be_bytes());
    }

    /// The trailer of these chunks, of a state with this digest.
    pub(super) fn trailer(&self, digest: u128) -> Trailer {
        Trailer {
            digest,
            content_hash: self.hasher.digest128(),
            ..self.trailer
        }
    }
}
