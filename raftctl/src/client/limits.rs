//! What is refused before it is sent, because every server would (`wire::limits`).

use wire::client::MemberChange;
use wire::command::{Command, Expect};
use wire::entry::ENTRY_HEADER_BYTES;
use wire::error::Error as WireError;
use wire::limits::{
    ADDR_BYTES_MAX, ENTRY_BYTES_MAX, KEY_BYTES_MAX, NAME_BYTES_MAX, VALUE_BYTES_MAX,
    WRITE_OVERHEAD_BYTES_MAX,
};

use super::error::Error;

/// What key, value and condition of one write may have together.
const DATA_BYTES_MAX: usize = ENTRY_BYTES_MAX - ENTRY_HEADER_BYTES - WRITE_OVERHEAD_BYTES_MAX;

/// Whether a write keeps every limit of the protocol; all that [`super::Client`] sends does.
///
/// # Errors
/// [`Error::Refused`] with the limit that is exceeded.
pub fn check(command: Command<'_>) -> Result<(), Error> {
    match command {
        Command::Put { key, value } => {
            check_key(key)?;
            at_most("value", VALUE_BYTES_MAX, value.len())
        }
        Command::CompareAndSwap { key, expect, value } => {
            let expected = match expect {
                Expect::Value(value) => value.len(),
                Expect::Absent | Expect::Revision(_) => 0,
            };
            check_key(key)?;
            at_most("value", VALUE_BYTES_MAX, value.len().max(expected))?;
            let together = key.len() + value.len() + expected;
            at_most("entry", DATA_BYTES_MAX, together)
        }
        Command::Append { key, value } => {
            check_key(key)?;
            at_most("value", VALUE_BYTES_MAX, value.len())
        }
        Command::DeleteRange { from, to, .. } => {
            at_most("key", KEY_BYTES_MAX, from.len())?;
            to.map_or(Ok(()), check_key)
        }
        Command::Txn(txn) => {
            let lists = [txn.compares.bytes, txn.then.bytes, txn.or_else.bytes];
            let together = lists.iter().map(|list| list.len()).sum();
            at_most("entry", DATA_BYTES_MAX, together)?;
            txn.check().map_err(refused)
        }
        Command::Delete { key } | Command::Increment { key, .. } => check_key(key),
    }
}

/// # Errors
/// [`Error::Refused`] for an empty key or one that is too long.
pub(crate) fn check_key(key: &[u8]) -> Result<(), Error> {
    something("key", KEY_BYTES_MAX, key.len())
}

/// # Errors
/// [`Error::Refused`] for a name or an address that is empty or too long.
pub(super) fn check_change(change: MemberChange<'_>) -> Result<(), Error> {
    let (name, addr) = match change {
        MemberChange::Add {
            name, peer_addr, ..
        } => (Some(name), Some(peer_addr)),
        MemberChange::Update {
            name, peer_addr, ..
        } => (name, peer_addr),
        MemberChange::Remove(_) | MemberChange::Promote(_) | MemberChange::Demote(_) => {
            (None, None)
        }
    };
    name.map_or(Ok(()), |name| something("name", NAME_BYTES_MAX, name.len()))?;
    addr.map_or(Ok(()), |addr| {
        something("peer address", ADDR_BYTES_MAX, addr.len())
    })
}

/// # Errors
/// [`Error::Refused`] for the bound of a range that is too long for a key.
pub(super) fn check_bounds(from: &[u8], to: Option<&[u8]>) -> Result<(), Error> {
    at_most("key", KEY_BYTES_MAX, from.len())?;
    at_most("key", KEY_BYTES_MAX, to.map_or(0, <[u8]>::len))
}

fn something(what: &str, limit: usize, actual: usize) -> Result<(), Error> {
    if actual == 0 {
        return Err(refused(WireError::Refused {
            reason: format!("a {what} has at least one byte"),
            advice: String::new(),
        }));
    }
    at_most(what, limit, actual)
}

fn at_most(what: &str, limit: usize, actual: usize) -> Result<(), Error> {
    if actual <= limit {
        return Ok(());
    }
    Err(refused(WireError::TooLarge {
        what: what.into(),
        limit: limit as u64,
        actual: actual as u64,
    }))
}

fn refused(error: WireError) -> Error {
    let place = String::new();
    Error::Refused { error, place }
}
