//! Every bound of the protocol, and the arithmetic that relates them.

use crate::entry::ENTRY_HEADER_BYTES;

/// A frame until the hello is accepted, header included.
pub const HELLO_FRAME_BYTES_MAX: usize = 4 * 1024;
/// A frame between a client and a server, header included.
pub const CLIENT_FRAME_BYTES_MAX: usize = 2 * 1024 * 1024;
/// A frame between peers, header included.
pub const PEER_FRAME_BYTES_MAX: usize = 4 * 1024 * 1024;
/// A key; it has at least one byte.
pub const KEY_BYTES_MAX: usize = 4 * 1024;
/// A value.
pub const VALUE_BYTES_MAX: usize = 1024 * 1024;
/// A log entry, header included.
pub const ENTRY_BYTES_MAX: usize = 3 * 512 * 1024;
/// Keys that one entry may touch (rules A7), and the compares and operations of a txn together.
pub const ENTRY_KEYS_MAX: usize = 10_000;
/// Appends that a txn may hold. Each makes a whole value anew, so that the work is not bounded by what
/// the entry holds.
pub const TXN_APPENDS_MAX: usize = 256;
/// The results of a txn's operations, encoded. One item always fits.
pub const RESULTS_BYTES_MAX: usize = ENTRY_BYTES_MAX;
/// The entries of one `Append` or `Fetched` together. One entry always fits.
pub const APPEND_BYTES_MAX: usize = 2 * 1024 * 1024;
/// Entries in one `Append`.
pub const APPEND_ENTRIES_MAX: usize = 16 * 1024;
/// Entries in one `Fetch`.
pub const FETCH_ENTRIES_MAX: usize = 64;
/// A piece of a snapshot's file in one `InstallSnapshot`.
pub const SNAPSHOT_CHUNK_BYTES_MAX: usize = 1024 * 1024;
/// Items in one page of a scan.
pub const PAGE_ITEMS_MAX: u32 = 10_000;
/// Keys and values in one page of a scan together. One item always fits.
pub const PAGE_BYTES_MAX: u32 = 512 * 1024;
/// Changes of leaders that a node remembers.
pub const LEADER_CHANGES_MAX: usize = 64;
/// Members of a cluster.
pub const MEMBERS_MAX: usize = 16;
/// A node's name.
pub const NAME_BYTES_MAX: usize = 64;
/// `HOST:PORT` of a node.
pub const ADDR_BYTES_MAX: usize = 262;
/// All members, encoded: [`crate::membership::Membership`].
pub const MEMBERSHIP_BYTES_MAX: usize = 6 * 1024;
/// A message for a person inside an error or a status.
pub const TEXT_BYTES_MAX: usize = 1024;
/// A kept reply; a longer one is kept as "applied at revision R" (rules C2).
pub const KEPT_REPLY_BYTES_MAX: usize = 256;

/// A term, an index, a round or a seq: half of what 64 bits hold, so that counting on from what
/// somebody sent never overflows.
pub const COUNTER_MAX: u64 = u64::MAX >> 1;

/// Bytes around key and value in the body of a write: session, operation, lengths, condition.
pub const WRITE_OVERHEAD_BYTES_MAX: usize = 128;

const _: () = assert!(
    // Any put fits. A compare-and-swap by value carries two values: decoding refuses those that do
    // not fit together.
    ENTRY_HEADER_BYTES + WRITE_OVERHEAD_BYTES_MAX + KEY_BYTES_MAX + VALUE_BYTES_MAX
        <= ENTRY_BYTES_MAX
);
const _: () = assert!(
    // Its own number and the count; of each member id, name, address, incarnation, suffrage, wish.
    8 + 2 + MEMBERS_MAX * (8 + 2 + NAME_BYTES_MAX + 2 + ADDR_BYTES_MAX + 9 + 1 + 18)
        <= MEMBERSHIP_BYTES_MAX
);
const _: () = assert!(ENTRY_BYTES_MAX <= APPEND_BYTES_MAX);
const _: () = assert!(APPEND_BYTES_MAX + 4096 <= PEER_FRAME_BYTES_MAX);
const _: () = assert!(SNAPSHOT_CHUNK_BYTES_MAX + 4096 <= PEER_FRAME_BYTES_MAX);
const _: () = assert!(ENTRY_BYTES_MAX + 4096 <= CLIENT_FRAME_BYTES_MAX);
const _: () = assert!(RESULTS_BYTES_MAX + 4096 <= CLIENT_FRAME_BYTES_MAX);
const _: () = assert!(KEY_BYTES_MAX + VALUE_BYTES_MAX + 64 <= RESULTS_BYTES_MAX);
const _: () = assert!(
    // Of each item lengths and revisions besides key and value, and the last key once more.
    PAGE_BYTES_MAX as usize + PAGE_ITEMS_MAX as usize * 32 + 2 * KEY_BYTES_MAX
        <= CLIENT_FRAME_BYTES_MAX
);
