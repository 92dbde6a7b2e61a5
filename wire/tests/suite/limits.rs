//! Every limit from both sides: what is exactly at it passes, what is one over is refused, by
//! name, before anything is made for it.

mod client;
mod command;
mod peer;

use std::fmt::Debug;

use wire::error::Error;
use wire::frame::Kind;
use wire::limits::*;

use crate::any::decode_payload;

/// A payload written by hand, field by field, free of what encoders insist on.
#[derive(Clone, Default)]
struct Payload(Vec<u8>);

impl Payload {
    fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    fn u8(self, number: u8) -> Self {
        self.raw(&[number])
    }

    fn u16(self, number: u16) -> Self {
        self.raw(&number.to_be_bytes())
    }

    fn u32(self, number: u32) -> Self {
        self.raw(&number.to_be_bytes())
    }

    fn u64(self, number: u64) -> Self {
        self.raw(&number.to_be_bytes())
    }

    fn bytes(self, bytes: &[u8]) -> Self {
        self.u32(u32::try_from(bytes.len()).expect("short"))
            .raw(bytes)
    }

    fn text(self, length: usize) -> Self {
        self.u16(u16::try_from(length).expect("short"))
            .raw(&vec![b'a'; length])
    }

    fn decode(&self, kind: Kind) -> Result<(), Error> {
        decode_payload(kind, &self.0)
    }
}

#[track_caller]
fn too_large<T: Debug>(result: Result<T, Error>, what: &str, limit: usize, actual: usize) {
    let expected = Error::TooLarge {
        what: what.into(),
        limit: limit as u64,
        actual: actual as u64,
    };
    assert_eq!(result.expect_err("refused"), expected);
}

#[track_caller]
fn malformed<T: Debug>(result: Result<T, Error>, reason: &str) {
    let expected = Error::Malformed {
        reason: reason.into(),
    };
    assert_eq!(result.expect_err("refused"), expected);
}

#[test]
fn lengths_are_judged_before_the_bytes_are_there() {
    let get = |length: u32| {
        Payload::default()
            .u32(0)
            .u8(1)
            .u32(length)
            .decode(Kind::Get)
    };
    too_large(get(u32::MAX), "key", KEY_BYTES_MAX, u32::MAX as usize);
    too_large(get(4097), "key", KEY_BYTES_MAX, 4097);
    malformed(get(4096), "the message is cut short");

    let session = || Payload::default().u32(0).raw(&[0; 24]).u64(1).u64(1);
    let put = |length: u32| session().u8(1).bytes(b"k").u32(length).decode(Kind::Write);
    too_large(put(u32::MAX), "value", VALUE_BYTES_MAX, u32::MAX as usize);
    malformed(put(1), "the message is cut short");

    let reason = |length: u16| {
        Payload::default()
            .u16(15)
            .u8(3)
            .u16(length)
            .decode(Kind::Error)
    };
    too_large(reason(1025), "text", TEXT_BYTES_MAX, 1025);
    malformed(reason(1024), "the message is cut short");
}
