//! The bytes of a segment, as constants, and the codecs over them. `man/raftd-wal.5` is this file
//! in words; a test holds the two together. Integers are big-endian.
//!
//! ```text
//! 0        header page, static               [SegmentHeader]
//! 4096     batch  Open                       [BatchHeader], table, payload, zeros to the sector
//! ..       batch  Append, batch, batch ..    each at a multiple of 512
//! ..       sync mark                         [SyncMark], until the next header overwrites it
//! ..       zeros
//! size-64K room for batches without entries: votes fit on a full disk
//! size-512 room for the Seal
//! ```

use byteorder::{BigEndian, ByteOrder};
use raft::HardState;
use wire::entry::{ENTRY_HEADER_BYTES, Entry};
use wire::limits::ENTRY_BYTES_MAX;
use wire::types::{ClusterId, EntryId, Incarnation, Index, NodeId, Term};

use crate::disk::SECTOR_BYTES;

/// The version of everything in this file.
pub const FORMAT: u32 = 1;
/// Opens a segment.
pub const SEGMENT_MAGIC: &[u8; 8] = b"RAFTDWAL";
/// Opens a batch: "RBAT".
pub const BATCH_MAGIC: u32 = 0x5242_4154;
/// Opens a sync mark: "RSYN".
pub const MARK_MAGIC: u32 = 0x5253_594e;
/// A flag of header and mark: the log has lost entries, and nobody knows which (rules D4).
pub const FLAG_LOST: u16 = 1;

/// Batches start at multiples of this: no sector holds parts of two (rules E1).
pub const ALIGN_BYTES: u64 = SECTOR_BYTES;
/// The header page of a segment.
pub const SEGMENT_HEADER_BYTES: u64 = 4096;
/// What of the header page is used.
pub const SEGMENT_HEADER_USED_BYTES: usize = 96;
/// A batch header before its table.
pub const BATCH_HEADER_BYTES: usize = 128;
/// One entry's place in the table: term, length, CRC.
pub const TABLE_ROW_BYTES: usize = 16;
/// A sync mark.
pub const MARK_BYTES: usize = 64;
/// The end of a segment that serves batches without entries only (rules E5).
pub const RESERVE_BYTES: u64 = 64 * 1024;
/// A batch, its zeros up to the sector included (rules E1): the largest torn tail.
pub const BATCH_BYTES_MAX: u64 = 2 * 1024 * 1024;
/// The highest batch number that is believed: what no node writes in its life. So a node can always
/// count on from what it found, and what it then writes is believed, too.
pub const BATCH_NUMBER_MAX: u64 = 1 << 62;
/// The smallest segment.
pub const SEGMENT_BYTES_MIN: u64 = 256 * 1024;
/// The largest segment.
pub const SEGMENT_BYTES_MAX: u64 = 1024 * 1024 * 1024;

const _: () = assert!(SEGMENT_HEADER_BYTES.is_multiple_of(ALIGN_BYTES));
const _: () = assert!(SEGMENT_HEADER_USED_BYTES <= SECTOR_BYTES as usize);
const _: () = assert!(MARK_BYTES <= SECTOR_BYTES as usize);
const _: () = assert!(BATCH_HEADER_BYTES <= SECTOR_BYTES as usize);
const _: () = assert!(BATCH_BYTES_MAX.is_multiple_of(ALIGN_BYTES));
const _: () = assert!(RESERVE_BYTES.is_multiple_of(ALIGN_BYTES));
// The smallest segment has room for a batch worth the name between header page and reserve.
const _: () = assert!(SEGMENT_BYTES_MIN >= SEGMENT_HEADER_BYTES + RESERVE_BYTES + 128 * 1024);
// The largest entry fits a batch of the default size.
const _: () = assert!(
    (BATCH_HEADER_BYTES + TABLE_ROW_BYTES + ENTRY_BYTES_MAX) as u64
        <= BATCH_BYTES_MAX - ALIGN_BYTES
);

/// The largest batch in a segment of this size: [`BATCH_BYTES_MAX`], or what lies between its
/// header page and its reserve.
#[must_use]
pub fn batch_bytes_max(segment_bytes: u64) -> u64 {
    let room = segment_bytes - SEGMENT_HEADER_BYTES - RESERVE_BYTES;
    BATCH_BYTES_MAX.min(room / ALIGN_BYTES * ALIGN_BYTES)
}

/// The largest entry, its own header included, that segments of this size can hold.
#[must_use]
pub fn entry_bytes_max(segment_bytes: u64) -> usize {
    let room = batch_bytes_max(segment_bytes) as usize - BATCH_HEADER_BYTES - TABLE_ROW_BYTES;
    room.min(ENTRY_BYTES_MAX)
}

/// Bytes of a batch with this many entries of this many bytes together, up to the sector's end.
#[must_use]
pub fn batch_bytes(entries: usize, payload_bytes: usize) -> u64 {
    let bytes = BATCH_HEADER_BYTES + entries * TABLE_ROW_BYTES + payload_bytes;
    (bytes as u64).next_multiple_of(ALIGN_BYTES)
}

/// Whose segments these are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Owner {
    /// The cluster.
    pub cluster: ClusterId,
    /// The node.
    pub node: NodeId,
    /// The data directory's life.
    pub incarnation: Incarnation,
}

/// The static header page (rules E4).
///
/// ```text
///  0  8 bytes  "RAFTDWAL"          40  u64  incarnation
///  8  u32  CRC-32 of bytes 12..96  48  u64  segment id
/// 12  u32  format, 1               56  u64  salt, never 0
/// 16  u128 cluster                 64  u64  size of the segment
/// 32  u64  node                    72  u32  alignment of batches, 512
///                                  76  20 bytes of zeros
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SegmentHeader {
    /// Whose.
    pub owner: Owner,
    /// Its place in the log: 1, 2, ..; never used twice.
    pub id: u64,
    /// Random; in every batch and mark, so that bytes of another segment are never taken for ours.
    pub salt: u64,
    /// The file's size.
    pub bytes: u64,
}

impl SegmentHeader {
    /// The used part of the page; the rest is zeros.
    #[must_use]
    pub fn encode(&self) -> [u8; SEGMENT_HEADER_USED_BYTES] {
        let mut page = [0; SEGMENT_HEADER_USED_BYTES];
        page[0..8].copy_from_slice(SEGMENT_MAGIC);
        BigEndian::write_u32(&mut page[12..], FORMAT);
        BigEndian::write_u128(&mut page[16..], self.owner.cluster.0);
        BigEndian::write_u64(&mut page[32..], self.owner.node.0);
        BigEndian::write_u64(&mut page[40..], self.owner.incarnation.0);
        BigEndian::write_u64(&mut page[48..], self.id);
        BigEndian::write_u64(&mut page[56..], self.salt);
        BigEndian::write_u64(&mut page[64..], self.bytes);
        BigEndian::write_u32(&mut page[72..], ALIGN_BYTES as u32);
        let crc = crc32fast::hash(&page[12..]);
        BigEndian::write_u32(&mut page[8..], crc);
        page
    }

    /// The whole page.
    #[must_use]
    pub fn page(&self) -> [u8; SEGMENT_HEADER_BYTES as usize] {
        let mut page = [0; SEGMENT_HEADER_BYTES as usize];
        let used = self.encode();
        page[..used.len()].copy_from_slice(&used);
        page
    }

    /// The header in a page, or `None` if none is there: wrong magic, CRC, format or a size out
    /// of bounds.
    #[must_use]
    pub fn decode(page: &[u8]) -> Option<Self> {
        let page = page.get(..SEGMENT_HEADER_BYTES as usize)?;
        let (used, rest) = page.split_at(SEGMENT_HEADER_USED_BYTES);
        let header = Self {
            owner: Owner {
                cluster: ClusterId(BigEndian::read_u128(&used[16..])),
                node: NodeId(BigEndian::read_u64(&used[32..])),
                incarnation: Incarnation(BigEndian::read_u64(&used[40..])),
            },
            id: BigEndian::read_u64(&used[48..]),
            salt: BigEndian::read_u64(&used[56..]),
            bytes: BigEndian::read_u64(&used[64..]),
        };
        let sane = (SEGMENT_BYTES_MIN..=SEGMENT_BYTES_MAX).contains(&header.bytes)
            && header.bytes.is_multiple_of(ALIGN_BYTES)
            && header.salt != 0
            && is_zero(rest);
        (used == header.encode() && sane).then_some(header)
    }

    /// Where batches with entries must end.
    #[must_use]
    pub fn ordinary_end(&self) -> u64 {
        self.bytes - RESERVE_BYTES
    }

    /// Where batches without entries must end: behind it only the `Seal` fits.
    #[must_use]
    pub fn reserve_end(&self) -> u64 {
        self.bytes - ALIGN_BYTES
    }
}

/// The salt that a batch says it was written with; to be believed only if its header is genuine by it.
#[must_use]
pub(super) fn claimed_salt(batch: &[u8]) -> Option<u64> {
    let bytes = batch.get(..16)?;
    (BigEndian::read_u32(bytes) == BATCH_MAGIC).then(|| BigEndian::read_u64(&bytes[8..]))
}

/// What a batch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BatchKind {
    /// The first of a segment.
    Open,
    /// Any other.
    Append,
    /// The last of a segment; no entries. The next segment's `Open` follows it.
    Seal,
    /// Everything before it is gone; the log goes on behind its `snapshot`. No entries.
    Reset,
    /// The first of a segment, instead of `Open`: the log was lost and begins anew behind its
    /// `snapshot`, 0@0 without one. Everything before it is gone (rules D4). No entries.
    Anew,
}

impl BatchKind {
    fn code(self) -> u16 {
        match self {
            Self::Open => 1,
            Self::Append => 2,
            Self::Seal => 3,
            Self::Reset => 4,
            Self::Anew => 5,
        }
    }

    fn from_code(code: u16) -> Option<Self> {
        match code {
            1 => Some(Self::Open),
            2 => Some(Self::Append),
            3 => Some(Self::Seal),
            4 => Some(Self::Reset),
            5 => Some(Self::Anew),
            _ => None,
        }
    }

    /// Whether everything before it is gone.
    #[must_use]
    pub fn resets(self) -> bool {
        matches!(self, Self::Reset | Self::Anew)
    }

    /// Whether it opens a segment.
    fn opens(self) -> bool {
        matches!(self, Self::Open | Self::Anew)
    }
}

/// What a batch must follow: the state of the log's chain.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// The number of the last batch; 0 before the first.
    pub number: u64,
    /// The CRC of its header; 0 before the first.
    pub header_crc: u32,
    /// The last entry of the log as of that batch.
    pub last: EntryId,
}

/// The header of a batch: identities apart from payloads (rules E2).
///
/// ```text
///  0  u32  "RBAT"                            64  u64  first index
///  4  u32  CRC-32 of bytes 8..128 and table  72  u64  previous batch's last index
///  8  u64  salt of the segment               80  u64  previous batch's last term
/// 16  u64  own offset in the segment         88  u32  previous batch's header CRC
/// 24  u64  segment id                        92  u32  payload bytes
/// 32  u64  batch number                      96  u64  durable up to this batch number
/// 40  u64  term                             104  u64  commit hint
/// 48  u64  vote, 0 for none                 112  u64  snapshot's index, 0 for none
/// 56  u16  flags: 1 lost                    120  u64  snapshot's term
/// 58  u16  kind: see [BatchKind]
/// 60  u32  entries
/// 128 table: per entry u64 term, u32 length, u32 CRC of the record
/// ..  payload: the records, verbatim; then zeros to the sector's end
/// ```
///
/// The log is cut before `first_index` before the entries are appended: a batch whose
/// `first_index` is not above the previous last index replaces a suffix (rules A6). A `Reset`
/// replaces the whole log, by the snapshot it names: marker and new base are one record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BatchHeader {
    /// What it is for.
    pub kind: BatchKind,
    /// Where it stands in its segment.
    pub offset: u64,
    /// One more than the previous batch's, over all segments.
    pub number: u64,
    /// What it follows.
    pub previous: Chain,
    /// Term, vote and whether the log is lost, as of this batch.
    pub hard_state: HardState,
    /// Index of the first entry, or of the next one if there is none.
    pub first_index: Index,
    /// Entries in the batch.
    pub entries: u32,
    /// Bytes of all records.
    pub payload_bytes: u32,
    /// min(commit, durable) as of this batch (rules E2).
    pub commit: Index,
    /// The marker: the newest published snapshot as of this batch, 0@0 for none. What it covers is
    /// needed no more.
    pub snapshot: EntryId,
}

/// One entry's identity, apart from its payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TableRow {
    /// The term of the entry.
    pub term: Term,
    /// Bytes of the record.
    pub length: u32,
    /// The CRC that the record carries.
    pub crc: u32,
}

impl BatchHeader {
    /// Bytes of header and table.
    #[must_use]
    pub fn head_bytes(&self) -> usize {
        BATCH_HEADER_BYTES + self.entries as usize * TABLE_ROW_BYTES
    }

    /// Where the sectors of the batch end.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.offset + batch_bytes(self.entries as usize, self.payload_bytes as usize)
    }

    /// Whether a log that was lost begins with it.
    #[must_use]
    pub fn begins_anew(&self) -> bool {
        self.kind == BatchKind::Anew
    }

    /// Writes header and table into `out`, which is emptied first, and returns the header's CRC.
    pub fn encode(&self, segment: &SegmentHeader, entries: &[Entry], out: &mut Vec<u8>) -> u32 {
        assert_eq!(entries.len(), self.entries as usize, "the table is whole");
        out.clear();
        out.resize(self.head_bytes(), 0);
        BigEndian::write_u32(&mut out[0..], BATCH_MAGIC);
        BigEndian::write_u64(&mut out[8..], segment.salt);
        BigEndian::write_u64(&mut out[16..], self.offset);
        BigEndian::write_u64(&mut out[24..], segment.id);
        BigEndian::write_u64(&mut out[32..], self.number);
        BigEndian::write_u64(&mut out[40..], self.hard_state.term.0);
        BigEndian::write_u64(&mut out[48..], vote_code(self.hard_state));
        BigEndian::write_u16(&mut out[56..], flags(self.hard_state));
        BigEndian::write_u16(&mut out[58..], self.kind.code());
        BigEndian::write_u32(&mut out[60..], self.entries);
        BigEndian::write_u64(&mut out[64..], self.first_index.0);
        BigEndian::write_u64(&mut out[72..], self.previous.last.index.0);
        BigEndian::write_u64(&mut out[80..], self.previous.last.term.0);
        BigEndian::write_u32(&mut out[88..], self.previous.header_crc);
        BigEndian::write_u32(&mut out[92..], self.payload_bytes);
        // Batch N+1 is stored only after N's sync returned (rules E1).
        BigEndian::write_u64(&mut out[96..], self.number - 1);
        BigEndian::write_u64(&mut out[104..], self.commit.0);
        BigEndian::write_u64(&mut out[112..], self.snapshot.index.0);
        BigEndian::write_u64(&mut out[120..], self.snapshot.term.0);
        let rows = out[BATCH_HEADER_BYTES..].chunks_exact_mut(TABLE_ROW_BYTES);
        for (row, entry) in rows.zip(entries) {
            BigEndian::write_u64(row, entry.term().0);
            BigEndian::write_u32(&mut row[8..], entry.bytes().len() as u32);
            BigEndian::write_u32(&mut row[12..], entry.crc());
        }
        let crc = crc32fast::hash(&out[8..]);
        BigEndian::write_u32(&mut out[4..], crc);
        crc
    }

    /// How many bytes header and table at the front of `bytes` claim, if a header may be there:
    /// cheap, and to be believed only as far as reading them.
    #[must_use]
    pub fn claimed_head_bytes(bytes: &[u8], segment: &SegmentHeader) -> Option<usize> {
        let bytes = bytes.get(..BATCH_HEADER_BYTES)?;
        let genuine = BigEndian::read_u32(bytes) == BATCH_MAGIC
            && BigEndian::read_u64(&bytes[8..]) == segment.salt;
        let entries = BigEndian::read_u32(&bytes[60..]) as usize;
        let possible = BATCH_BYTES_MAX as usize / (TABLE_ROW_BYTES + ENTRY_HEADER_BYTES);
        (genuine && entries <= possible).then_some(BATCH_HEADER_BYTES + entries * TABLE_ROW_BYTES)
    }

    /// The header whose header and table are exactly `head`, with its CRC, if they are genuine:
    /// made for this segment and this offset, consistent in themselves. What it follows is not
    /// judged here.
    #[must_use]
    pub fn decode(head: &[u8], segment: &SegmentHeader, offset: u64) -> Option<(Self, u32)> {
        if Self::claimed_head_bytes(head, segment)? != head.len() {
            return None;
        }
        let crc = BigEndian::read_u32(&head[4..]);
        if crc32fast::hash(&head[8..]) != crc {
            return None;
        }
        let header = Self {
            kind: BatchKind::from_code(BigEndian::read_u16(&head[58..]))?,
            offset,
            number: BigEndian::read_u64(&head[32..]),
            previous: Chain {
                number: BigEndian::read_u64(&head[96..]),
                header_crc: BigEndian::read_u32(&head[88..]),
                last: EntryId {
                    term: Term(BigEndian::read_u64(&head[80..])),
                    index: Index(BigEndian::read_u64(&head[72..])),
                },
            },
            hard_state: hard_state(&head[40..], BigEndian::read_u16(&head[56..]))?,
            first_index: Index(BigEndian::read_u64(&head[64..])),
            entries: BigEndian::read_u32(&head[60..]),
            payload_bytes: BigEndian::read_u32(&head[92..]),
            commit: Index(BigEndian::read_u64(&head[104..])),
            snapshot: EntryId {
                term: Term(BigEndian::read_u64(&head[120..])),
                index: Index(BigEndian::read_u64(&head[112..])),
            },
        };
        let in_place = BigEndian::read_u64(&head[16..]) == offset
            && BigEndian::read_u64(&head[24..]) == segment.id
            && u64::from(header.payload_bytes) <= BATCH_BYTES_MAX
            && header.end() <= segment.bytes;
        let payload_bytes: u64 = table(head).map(|row| u64::from(row.length)).sum();
        let consistent = header.number <= BATCH_NUMBER_MAX
            && header.previous.number.checked_add(1) == Some(header.number)
            && payload_bytes == u64::from(header.payload_bytes)
            && header.first_index.0 >= 1
            && header.begins_in_place()
            && header.kind.opens() == (offset == SEGMENT_HEADER_BYTES);
        (in_place && consistent).then_some((header, crc))
    }

    /// Whether the batch goes on behind an entry that is there, and keeps what its snapshot covers.
    fn begins_in_place(&self) -> bool {
        let (before, snapshot) = (self.first_index.prev(), self.snapshot);
        let is_id = |id: EntryId| (id.index.0 == 0) == (id.term.0 == 0);
        is_id(self.previous.last)
            && is_id(snapshot)
            && match self.kind {
                BatchKind::Open | BatchKind::Append | BatchKind::Seal => {
                    snapshot.index <= before && before <= self.previous.last.index
                }
                BatchKind::Reset => {
                    snapshot.index.0 != 0 && snapshot.index == before && self.entries == 0
                }
                BatchKind::Anew => {
                    snapshot.index == before && self.entries == 0 && self.hard_state.lost
                }
            }
    }
}

/// The table behind a batch header; `head` is header and table.
pub fn table(head: &[u8]) -> impl Iterator<Item = TableRow> + '_ {
    let rows = head[BATCH_HEADER_BYTES..].chunks_exact(TABLE_ROW_BYTES);
    rows.map(|row| TableRow {
        term: Term(BigEndian::read_u64(row)),
        length: BigEndian::read_u32(&row[8..]),
        crc: BigEndian::read_u32(&row[12..]),
    })
}

/// Written behind a batch once its sync returned, before anyone is told (rules E3).
///
/// ```text
///  0  u32  "RSYN"                    32  u64  where the batch ends: own offset
///  4  u32  CRC-32 of bytes 8..64     40  u64  term
///  8  u64  salt of the segment       48  u64  vote, 0 for none
/// 16  u64  own offset                56  u32  header CRC of the batch
/// 24  u64  batch number              60  u16  flags: 1 lost; then u16 0
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SyncMark {
    /// Where it stands: the end of the batch.
    pub offset: u64,
    /// The batch that is durable, and with it all before.
    pub number: u64,
    /// Term and vote as of that batch.
    pub hard_state: HardState,
    /// The CRC of its header.
    pub header_crc: u32,
}

impl SyncMark {
    /// The mark's bytes, to be put at the front of its sector.
    #[must_use]
    pub fn encode(&self, segment: &SegmentHeader) -> [u8; MARK_BYTES] {
        let mut mark = [0; MARK_BYTES];
        BigEndian::write_u32(&mut mark[0..], MARK_MAGIC);
        BigEndian::write_u64(&mut mark[8..], segment.salt);
        BigEndian::write_u64(&mut mark[16..], self.offset);
        BigEndian::write_u64(&mut mark[24..], self.number);
        BigEndian::write_u64(&mut mark[32..], self.offset);
        BigEndian::write_u64(&mut mark[40..], self.hard_state.term.0);
        BigEndian::write_u64(&mut mark[48..], vote_code(self.hard_state));
        BigEndian::write_u32(&mut mark[56..], self.header_crc);
        BigEndian::write_u16(&mut mark[60..], flags(self.hard_state));
        let crc = crc32fast::hash(&mark[8..]);
        BigEndian::write_u32(&mut mark[4..], crc);
        mark
    }

    /// The mark at the front of a sector, if a genuine one is there: made for this segment and
    /// this offset.
    #[must_use]
    pub fn decode(sector: &[u8], segment: &SegmentHeader, offset: u64) -> Option<Self> {
        let bytes = sector.get(..MARK_BYTES)?;
        let mark = Self {
            offset,
            number: BigEndian::read_u64(&bytes[24..]),
            hard_state: hard_state(&bytes[40..], BigEndian::read_u16(&bytes[60..]))?,
            header_crc: BigEndian::read_u32(&bytes[56..]),
        };
        (bytes == mark.encode(segment) && mark.number <= BATCH_NUMBER_MAX).then_some(mark)
    }
}

/// What stands for the vote: no node has id 0.
fn vote_code(hard_state: HardState) -> u64 {
    hard_state.vote.unwrap_or_default().0
}

fn flags(hard_state: HardState) -> u16 {
    u16::from(hard_state.lost) * FLAG_LOST
}

/// Term and vote as they stand in header and mark, and the flags; `None` with a flag that nobody
/// knows.
fn hard_state(bytes: &[u8], flags: u16) -> Option<HardState> {
    let vote = NodeId(BigEndian::read_u64(&bytes[8..]));
    (flags & !FLAG_LOST == 0).then_some(HardState {
        term: Term(BigEndian::read_u64(bytes)),
        vote: (vote.0 != 0).then_some(vote),
        lost: flags & FLAG_LOST != 0,
    })
}

/// Whether every byte is zero, at the speed of memcmp.
#[must_use]
pub fn is_zero(bytes: &[u8]) -> bool {
    const ZEROS: [u8; 4096] = [0; 4096];
    bytes
        .chunks(ZEROS.len())
        .all(|chunk| chunk == &ZEROS[..chunk.len()])
}
