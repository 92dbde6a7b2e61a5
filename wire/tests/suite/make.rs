//! Short ways to the values that many tests need.

use bytes::BytesMut;
use wire::client::{Item, Items, Request};
use wire::command::{
    Batch, Command, Compare, Compares, Operation, OperationResult, Operations, Results, SessionId,
    Write,
};
use wire::entry::{Entry, EntryKind};
use wire::types::{EntryId, Epoch, Index, Term};

/// Lives as long as the test run, so that samples can be values without owners.
pub(crate) fn forever(bytes: impl Into<Vec<u8>>) -> &'static [u8] {
    bytes.into().leak()
}

pub(crate) fn id(term: u64, index: u64) -> EntryId {
    EntryId {
        term: Term(term),
        index: Index(index),
    }
}

pub(crate) fn entry(id: EntryId, kind: EntryKind, body: &[u8]) -> Entry {
    Entry::build(&mut BytesMut::new(), id, 1_700_000_000_123, kind, body)
}

pub(crate) fn write(command: Command<'static>) -> Write<'static> {
    Write {
        session: SessionId {
            epoch: Epoch(0xe0e1_e2e3_e4e5_e6e7),
            born: Index(40),
            nonce: 0xa0a1_a2a3_a4a5_a6a7,
        },
        seq: 9,
        floor: 7,
        command,
    }
}

pub(crate) fn body(write: &Write<'_>) -> BytesMut {
    let mut out = BytesMut::new();
    write.encode_body(&mut out);
    out
}

pub(crate) fn write_request(deadline_ms: u32, write: Write<'static>) -> Request<'static> {
    Request::Write {
        deadline_ms,
        write,
        body: forever(body(&write)),
    }
}

pub(crate) fn items(items: &[Item<'_>]) -> Items<'static> {
    let mut out = BytesMut::new();
    for item in items {
        item.encode(&mut out);
    }
    Items {
        bytes: forever(out),
    }
}

pub(crate) fn compares(compares: &[Compare<'_>]) -> Compares<'static> {
    Compares {
        bytes: forever(Compare::encode_all(compares)),
    }
}

pub(crate) fn operations(operations: &[Operation<'_>]) -> Operations<'static> {
    let mut batch = Batch::default();
    for operation in operations {
        batch.push(*operation).expect("they fit");
    }
    Operations {
        bytes: forever(batch.operations().bytes),
    }
}

pub(crate) fn results(results: &[OperationResult<'_>]) -> Results {
    let mut out = BytesMut::new();
    for result in results {
        result.encode(&mut out);
    }
    Results::new(&out)
}

pub(crate) fn zeros(length: usize) -> &'static [u8] {
    forever(vec![0; length])
}
