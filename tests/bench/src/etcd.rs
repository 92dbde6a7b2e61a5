//! etcd's v3 API: gRPC over HTTP/2, as far as Put and a linearizable Range of one key need it.
//!
//! Frames are made and taken apart by hand, so that the generator costs etcd as little as it can.
//! Response headers are skipped unread: a unary call that failed ends without a message, so the
//! presence of the message tells success. Request headers are sent in full once per connection
//! and by their index in the dynamic table (RFC 7541, 2.3.2) from then on.

use std::collections::VecDeque;

use bytes::{BufMut, BytesMut};
use raftctl::bench::load::{Action, Material, Operation};
use raftctl::bench::protocol::{Answer, Leader, Protocol, Token};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const FRAME_HEADER_BYTES: usize = 9;
const GRPC_PREFIX_BYTES: usize = 5;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;

const END_STREAM: u8 = 1;
const ACK: u8 = 1;
const END_HEADERS: u8 = 4;

const WINDOW_BYTES_MAX: u32 = 0x7fff_ffff;
const WINDOW_BYTES_INITIAL: u32 = 65_535;
const REPLENISH_BYTES: u32 = 1 << 30;

/// One unary call.
#[derive(Clone, Copy, Debug)]
struct Call {
    token: Token,
    action: Action,
    /// The revision, once the message has come and is good.
    good: Option<u64>,
    over: bool,
}

/// One connection.
///
/// Invariants: `calls[i]` is the stream `first_stream + 2 i`; no DATA goes beyond the windows that
/// the server grants for the connection (a request is smaller than any stream's initial window).
#[derive(Debug)]
pub struct Etcd {
    authority: String,
    calls: VecDeque<Call>,
    first_stream: u32,
    ready: bool,
    /// Bytes of DATA that the server lets us send.
    window: i64,
    /// Whole requests that wait for the window, and the DATA bytes of each.
    held: VecDeque<(BytesMut, usize)>,
    /// DATA bytes received since the last WINDOW_UPDATE.
    received: u32,
    table: HeaderTable,
    term: u64,
}

/// What the server's dynamic header table holds, by order of insertion.
#[derive(Debug, Default)]
struct HeaderTable {
    inserted: u8,
    common: Option<u8>,
    put: Option<u8>,
    range: Option<u8>,
    delete: Option<u8>,
}

impl HeaderTable {
    /// The header block of a call: indexed where the server has seen it before.
    fn encode(&mut self, action: Action, authority: &str, out: &mut BytesMut) {
        // :method POST and :scheme http stand in the static table.
        out.put_slice(&[0x83, 0x86]);
        let (place, path) = match action {
            Action::Put => (&mut self.put, "/etcdserverpb.KV/Put"),
            Action::Get => (&mut self.range, "/etcdserverpb.KV/Range"),
            Action::Delete => (&mut self.delete, "/etcdserverpb.KV/DeleteRange"),
        };
        match *place {
            Some(at) => out.put_u8(0x80 | (62 + self.inserted - 1 - at)),
            None => {
                *place = Some(self.inserted);
                self.inserted += 1;
                literal(Name::Static(4), path, out);
            }
        }
        if let Some(first) = self.common {
            for at in first..first + 3 {
                out.put_u8(0x80 | (62 + self.inserted - 1 - at));
            }
        } else {
            self.common = Some(self.inserted);
            self.inserted += 3;
            literal(Name::Static(1), authority, out);
            literal(Name::Static(31), "application/grpc", out);
            literal(Name::Text("te"), "trailers", out);
        }
    }
}

enum Name {
    Static(u8),
    Text(&'static str),
}

/// A literal header with incremental indexing (RFC 7541, 6.2.1).
fn literal(name: Name, value: &str, out: &mut BytesMut) {
    match name {
        Name::Static(index) => out.put_u8(0x40 | index),
        Name::Text(text) => {
            out.put_u8(0x40);
            put_string(text, out);
        }
    }
    put_string(value, out);
}

fn put_string(text: &str, out: &mut BytesMut) {
    let length = u8::try_from(text.len()).expect("header strings are short");
    assert!(length < 127, "a longer string needs a longer prefix");
    out.put_u8(length);
    out.put_slice(text.as_bytes());
}

fn put_frame_header(length: usize, kind: u8, flags: u8, stream: u32, out: &mut BytesMut) {
    out.put_uint(length as u64, 3);
    out.put_u8(kind);
    out.put_u8(flags);
    out.put_u32(stream);
}

fn put_varint(mut number: usize, out: &mut BytesMut) {
    while number >= 0x80 {
        out.put_u8((number & 0x7f) as u8 | 0x80);
        number >>= 7;
    }
    out.put_u8(number as u8);
}

fn varint_bytes(number: usize) -> usize {
    (usize::BITS - (number | 1).leading_zeros()).div_ceil(7) as usize
}

/// The varint at the front and its length.
fn varint(input: &[u8]) -> Option<(u64, usize)> {
    let mut number = 0;
    for (i, byte) in input.iter().take(10).enumerate() {
        number |= u64::from(byte & 0x7f) << (7 * i);
        if byte & 0x80 == 0 {
            return Some((number, i + 1));
        }
    }
    None
}

impl Etcd {
    /// For a server at this address.
    #[must_use]
    pub fn new(authority: &str) -> Self {
        Self {
            authority: authority.to_owned(),
            calls: VecDeque::new(),
            first_stream: 1,
            ready: false,
            window: 0,
            held: VecDeque::new(),
            received: 0,
            table: HeaderTable::default(),
            term: 0,
        }
    }

    fn encode(
        &mut self,
        stream: u32,
        operation: Operation,
        material: &Material,
        out: &mut BytesMut,
    ) -> usize {
        let start = out.len();
        put_frame_header(0, HEADERS, END_HEADERS, stream, out);
        self.table.encode(operation.action, &self.authority, out);
        let block = out.len() - start - FRAME_HEADER_BYTES;
        out[start + 2] = u8::try_from(block).expect("header blocks are short");

        let key = material.key(operation.key);
        let mut message = 1 + varint_bytes(key.len()) + key.len();
        let value = match operation.action {
            Action::Put => material.value(operation.value),
            Action::Get | Action::Delete => &[],
        };
        if !value.is_empty() {
            message += 1 + varint_bytes(value.len()) + value.len();
        }
        let data = GRPC_PREFIX_BYTES + message;
        out.reserve(FRAME_HEADER_BYTES + data);
        put_frame_header(data, DATA, END_STREAM, stream, out);
        out.put_u8(0);
        out.put_u32(u32::try_from(message).expect("values are limited"));
        out.put_u8(0x0a);
        put_varint(key.len(), out);
        out.put_slice(&key);
        if !value.is_empty() {
            out.put_u8(0x12);
            put_varint(value.len(), out);
            out.put_slice(value);
        }
        data
    }

    fn call(&mut self, stream: u32) -> Option<&mut Call> {
        let i = stream.checked_sub(self.first_stream)? / 2;
        self.calls.get_mut(i as usize)
    }

    /// Takes one frame.
    fn frame(
        &mut self,
        kind: u8,
        flags: u8,
        stream: u32,
        payload: &[u8],
        answers: &mut Vec<Answer>,
        out: &mut BytesMut,
    ) -> Result<(), String> {
        match kind {
            DATA => {
                self.received += u32::try_from(payload.len()).expect("frames are short");
                // Only a message's first frame is read: its header stands there.
                let first = |call: &&mut Call| call.good.is_none();
                if let Some(call) = self.call(stream).filter(first) {
                    let message = Message::parse(payload);
                    if call.action != Action::Get || message.has_items {
                        call.good = message.revision;
                    }
                    if let Some(term) = message.term.filter(|term| *term > self.term) {
                        self.term = term;
                        let leader = Leader {
                            term: Some(term),
                            elsewhere: None,
                        };
                        answers.push(Answer::Leader(Box::new(leader)));
                    }
                }
                if self.received > REPLENISH_BYTES {
                    put_frame_header(4, WINDOW_UPDATE, 0, 0, out);
                    out.put_u32(self.received);
                    self.received = 0;
                }
            }
            SETTINGS if flags & ACK == 0 => {
                put_frame_header(0, SETTINGS, ACK, 0, out);
                if !self.ready {
                    self.ready = true;
                    answers.push(Answer::Ready);
                }
            }
            PING if flags & ACK == 0 => {
                put_frame_header(payload.len(), PING, ACK, 0, out);
                out.put_slice(payload);
            }
            WINDOW_UPDATE if stream == 0 => {
                let bytes: [u8; 4] = payload.try_into().map_err(|_| "a bad WINDOW_UPDATE")?;
                self.window += i64::from(u32::from_be_bytes(bytes));
                while let Some((_, data)) = self.held.front() {
                    if self.window < *data as i64 {
                        break;
                    }
                    let (request, data) = self.held.pop_front().expect("it was just seen");
                    self.window -= data as i64;
                    out.put_slice(&request);
                }
            }
            GOAWAY => return Err("the server sent GOAWAY".into()),
            _ => {}
        }
        let ends = matches!(kind, DATA | HEADERS) && flags & END_STREAM != 0;
        if (ends || kind == RST_STREAM)
            && let Some(call) = self.call(stream)
            && !call.over
        {
            call.over = true;
            let token = call.token;
            answers.push(match call.good {
                Some(revision) => Answer::Done { token, revision },
                None => Answer::Refused { token },
            });
            while self.calls.front().is_some_and(|call| call.over) {
                self.calls.pop_front();
                self.first_stream += 2;
            }
        }
        Ok(())
    }
}

/// What matters of a PutResponse, RangeResponse or DeleteRangeResponse. Their first field is a
/// ResponseHeader { cluster_id, member_id, revision, raft_term }; a RangeResponse that found
/// nothing has no field 2.
#[derive(Debug, Default, PartialEq, Eq)]
struct Message {
    revision: Option<u64>,
    term: Option<u64>,
    has_items: bool,
}

impl Message {
    fn parse(data: &[u8]) -> Self {
        Self::try_parse(data).unwrap_or_default()
    }

    fn try_parse(data: &[u8]) -> Option<Self> {
        let message = data.get(GRPC_PREFIX_BYTES..)?;
        let (&tag, rest) = message.split_first()?;
        let (length, skip) = varint(rest)?;
        let end = skip + usize::try_from(length).ok()?;
        if tag != 0x0a || end > rest.len() {
            return None;
        }
        let mut header = &rest[skip..end];
        let mut found = Self {
            has_items: rest.get(end) == Some(&0x12),
            ..Self::default()
        };
        while let Some((&tag, rest)) = header.split_first() {
            let (number, skip) = varint(rest)?;
            match tag {
                0x18 => found.revision = Some(number),
                0x20 => found.term = Some(number),
                _ => {}
            }
            header = &rest[skip..];
        }
        Some(found)
    }
}

impl Protocol for Etcd {
    fn open(&mut self, out: &mut BytesMut) {
        *self = Self {
            window: i64::from(WINDOW_BYTES_INITIAL),
            term: self.term,
            ..Self::new(&self.authority)
        };
        out.put_slice(PREFACE);
        // SETTINGS_INITIAL_WINDOW_SIZE: what each stream may send us.
        put_frame_header(6, SETTINGS, 0, 0, out);
        out.put_u16(4);
        out.put_u32(WINDOW_BYTES_MAX);
        put_frame_header(4, WINDOW_UPDATE, 0, 0, out);
        out.put_u32(WINDOW_BYTES_MAX - WINDOW_BYTES_INITIAL);
    }

    fn send(
        &mut self,
        token: Token,
        operation: Operation,
        _again: bool,
        material: &Material,
        out: &mut BytesMut,
    ) {
        let calls = u32::try_from(self.calls.len()).expect("the in-flight limit is small");
        let stream = self.first_stream + 2 * calls;
        self.calls.push_back(Call {
            token,
            action: operation.action,
            good: None,
            over: false,
        });
        let start = out.len();
        let data = self.encode(stream, operation, material, out);
        if self.window < data as i64 || !self.held.is_empty() {
            // HEADERS wait too: the header table's order is the order of sending.
            self.held.push_back((out.split_off(start), data));
        } else {
            self.window -= data as i64;
        }
    }

    fn receive(
        &mut self,
        input: &[u8],
        answers: &mut Vec<Answer>,
        out: &mut BytesMut,
    ) -> Result<usize, String> {
        let mut used = 0;
        loop {
            let rest = &input[used..];
            let Some((header, body)) = rest.split_at_checked(FRAME_HEADER_BYTES) else {
                return Ok(used);
            };
            let length = u32::from_be_bytes([0, header[0], header[1], header[2]]) as usize;
            let Some(payload) = body.get(..length) else {
                return Ok(used);
            };
            let stream =
                u32::from_be_bytes([header[5], header[6], header[7], header[8]]) & 0x7fff_ffff;
            self.frame(header[3], header[4], stream, payload, answers, out)?;
            used += FRAME_HEADER_BYTES + length;
        }
    }
}

#[cfg(test)]
mod tests {
    use raftctl::bench::load::Random;

    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8], out: &mut BytesMut) {
        put_frame_header(payload.len(), kind, flags, stream, out);
        out.put_slice(payload);
    }

    #[test]
    fn a_put_is_answered_by_its_message_and_the_end_of_its_stream() {
        let mut random = Random::new(1);
        let material = Material::new(10, 256, &mut random);
        let mut etcd = Etcd::new("127.0.0.1:2379");
        let mut out = BytesMut::new();
        etcd.open(&mut out);
        assert!(out.starts_with(PREFACE));
        for token in [7, 3] {
            let operation = material.operation(Action::Put, token, &mut random);
            etcd.send(token, operation, false, &material, &mut out);
        }

        let mut input = BytesMut::new();
        frame(SETTINGS, 0, 0, &[], &mut input);
        let message = [0, 0, 0, 0, 8, 0x0a, 6, 0x08, 1, 0x18, 42, 0x20, 2];
        frame(HEADERS, END_HEADERS, 1, &[0x88], &mut input);
        frame(DATA, 0, 1, &message, &mut input);
        frame(HEADERS, END_HEADERS | END_STREAM, 3, &[0x88], &mut input);
        frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0x88], &mut input);
        let whole = input.len();
        input.put_slice(&[0, 0]);

        let mut answers = Vec::new();
        let used = etcd.receive(&input, &mut answers, &mut out).unwrap();
        assert_eq!(used, whole);
        let term = Leader {
            term: Some(2),
            elsewhere: None,
        };
        assert_eq!(
            answers,
            [
                Answer::Ready,
                Answer::Leader(Box::new(term)),
                Answer::Refused { token: 3 },
                Answer::Done {
                    token: 7,
                    revision: 42
                },
            ]
        );
        assert!(etcd.calls.is_empty());
        assert_eq!(etcd.first_stream, 5);
    }

    #[test]
    fn requests_wait_for_the_window_in_order() {
        let mut random = Random::new(1);
        let material = Material::new(10, 40_000, &mut random);
        let mut etcd = Etcd::new("a:1");
        let mut out = BytesMut::new();
        etcd.open(&mut out);
        let opening = out.len();
        let operation = material.operation(Action::Put, 1, &mut random);
        etcd.send(0, operation, false, &material, &mut out);
        let sent = out.len();
        assert!(sent > opening + 40_000);
        etcd.send(1, operation, false, &material, &mut out);
        assert_eq!(out.len(), sent, "the second does not fit the window");

        let mut input = BytesMut::new();
        frame(WINDOW_UPDATE, 0, 0, &40_000_u32.to_be_bytes(), &mut input);
        etcd.receive(&input, &mut Vec::new(), &mut out).unwrap();
        assert!(out.len() > sent + 40_000);
        assert!(etcd.held.is_empty());
    }

    #[test]
    fn later_calls_use_the_header_table() {
        let mut table = HeaderTable::default();
        let mut out = BytesMut::new();
        table.encode(Action::Put, "127.0.0.1:1", &mut out);
        assert!(out.len() > 60);
        out.clear();
        table.encode(Action::Put, "127.0.0.1:1", &mut out);
        assert_eq!(
            &out[..],
            [0x83, 0x86, 0x80 | 65, 0x80 | 64, 0x80 | 63, 0x80 | 62]
        );
        out.clear();
        table.encode(Action::Get, "127.0.0.1:1", &mut out);
        out.clear();
        table.encode(Action::Put, "127.0.0.1:1", &mut out);
        assert_eq!(
            &out[..],
            [0x83, 0x86, 0x80 | 66, 0x80 | 65, 0x80 | 64, 0x80 | 63]
        );
    }

    #[test]
    fn a_get_that_finds_nothing_is_no_success() {
        let header = [0x0a, 2, 0x18, 9];
        let mut message = vec![0, 0, 0, 0, 4];
        message.extend_from_slice(&header);
        assert!(!Message::parse(&message).has_items);
        message.extend_from_slice(&[0x12, 0]);
        assert!(Message::parse(&message).has_items);
        assert_eq!(Message::parse(&message).revision, Some(9));
        for cut in 0..message.len() {
            let _ = Message::parse(&message[..cut]);
        }
    }
}
