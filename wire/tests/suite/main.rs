//! The protocol from outside.

use bytes::BytesMut;
use wire::client::{Reply, Request};
use wire::command::{Command, SessionId, Write};
use wire::frame;

#[test]
fn a_write_goes_through_a_frame() {
    let write = Write {
        session: SessionId {
            epoch: wire::types::Epoch(7),
            born: wire::types::Index(3),
            nonce: 9,
        },
        seq: 2,
        floor: 1,
        command: Command::Put {
            key: b"k",
            value: b"v",
        },
    };
    let mut out = BytesMut::new();
    Request::Write {
        deadline_ms: 5,
        write,
        body: &[],
    }
    .encode(1, &mut out);
    let f = frame::parse(&out, 1 << 20).unwrap().unwrap();
    let Request::Write {
        write: got, body, ..
    } = Request::decode(&f).unwrap()
    else {
        panic!()
    };
    assert_eq!(got, write);
    let mut b = BytesMut::new();
    write.encode_body(&mut b);
    assert_eq!(&b[..], body);
    let mut out = BytesMut::new();
    Reply::Error(wire::error::Error::NoLeader).encode(1, &mut out);
    let f = frame::parse(&out, 1 << 20).unwrap().unwrap();
    assert_eq!(
        Reply::decode(&f).unwrap(),
        Reply::Error(wire::error::Error::NoLeader)
    );
}
