//! The gates, between a caller and a member that are played here.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use wire::hello::{Hello, PeerIdentity, Role, VERSION_MAX, VERSION_MIN};
use wire::types::{Incarnation, NodeId};

use super::{Affliction, Path, Proxies, Trouble};
use crate::proc::PATIENCE;
use crate::torture::ledger::{Fault, Tally};

const FORTH: Path = Path { from: 0, to: 1 };

/// A connection from member 0 to member 1, both ends.
struct Line {
    proxies: Proxies,
    tally: Arc<Tally>,
    caller: TcpStream,
    callee: TcpStream,
}

impl Line {
    fn open() -> Self {
        let tally = Arc::new(Tally::default());
        let proxies = Proxies::open(2, 1, Arc::clone(&tally)).expect("gates");
        let members: Vec<_> = (0..2)
            .map(|_| TcpListener::bind("127.0.0.1:0").expect("a port"))
            .collect();
        let addrs = members
            .iter()
            .map(|member| member.local_addr().expect("an address"));
        proxies.lead_to(addrs.collect());
        let mut caller = TcpStream::connect(&proxies.addrs()[1]).expect("the gate of member 1");
        let hello = hello();
        let (first, rest) = hello.split_at(hello.len() / 2);
        // The gate waits for all of it before it knows who calls.
        caller.write_all(first).expect("half a hello");
        caller.write_all(rest).expect("the other half");
        let (mut callee, _) = members[1].accept().expect("the gate dials");
        for end in [&caller, &callee] {
            end.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        }
        assert_eq!(take(&mut callee, hello.len()), hello, "passed on as it was");
        Self {
            proxies,
            tally,
            caller,
            callee,
        }
    }

    fn afflict(&self, fault: Fault, trouble: Trouble, lasts: Duration) {
        self.proxies.afflict(Affliction {
            fault,
            paths: vec![FORTH],
            trouble,
            lasts,
        });
    }

    /// How long bytes take from the caller to the callee.
    fn pass(&mut self, bytes: &[u8]) -> Duration {
        let began = Instant::now();
        self.caller.write_all(bytes).expect("sent");
        assert_eq!(take(&mut self.callee, bytes.len()), bytes);
        began.elapsed()
    }
}

fn hello() -> Vec<u8> {
    let identity = PeerIdentity {
        node: NodeId(1),
        incarnation: Incarnation(1),
        life: 1,
        name: "n1".to_owned(),
        client_addr: String::new(),
        virgin: true,
        formed: Vec::new(),
    };
    let hello = Hello {
        version_min: VERSION_MIN,
        version_max: VERSION_MAX,
        features: 0,
        cluster: None,
        epoch: None,
        group: 0,
        role: Role::Peer {
            identity,
            to: NodeId(2),
        },
    };
    let mut out = BytesMut::new();
    hello.encode(&mut out);
    out.to_vec()
}

fn take(stream: &mut TcpStream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).expect("bytes in time");
    bytes
}

#[test]
fn bytes_pass_in_both_directions_and_so_does_the_end() {
    let mut line = Line::open();
    let _ = line.pass(&[7; 300_000]);
    line.callee.write_all(b"back").expect("sent");
    assert_eq!(take(&mut line.caller, 4), b"back");
    drop(line.caller);
    let mut rest = Vec::new();
    line.callee.read_to_end(&mut rest).expect("an end in order");
    assert_eq!(rest, b"");
}

#[test]
fn troubles_hold_up_one_direction_and_are_counted_when_they_do() {
    let mut line = Line::open();
    let _ = line.pass(b"before");
    let lasts = Duration::from_millis(300);
    line.afflict(Fault::Stall, Trouble::Stall, lasts);
    line.callee.write_all(b"back").expect("sent");
    assert_eq!(take(&mut line.caller, 4), b"back");
    assert_eq!(line.tally.of(Fault::Stall), 0, "nobody was harmed yet");
    assert!(line.pass(b"late") > lasts / 2);
    assert_eq!(line.tally.of(Fault::Stall), 1);

    let by = Duration::from_millis(50);
    line.afflict(Fault::Delay, Trouble::Delay(by), PATIENCE);
    assert!(line.pass(b"late") >= by);
    line.proxies.heal();
    line.afflict(Fault::Throttle, Trouble::Throttle(10_000), PATIENCE);
    assert!(line.pass(&[1; 2_000]) > Duration::from_millis(100));
    assert_eq!(line.tally.of(Fault::Throttle), 1);
}

#[test]
fn what_a_cut_swallows_is_never_skipped_over() {
    let mut line = Line::open();
    line.afflict(Fault::Cut, Trouble::Cut, Duration::from_millis(100));
    line.callee
        .write_all(b"back")
        .expect("the other direction works");
    assert_eq!(take(&mut line.caller, 4), b"back");
    line.caller.write_all(b"lost").expect("sent");
    let mut rest = Vec::new();
    let ended = line.callee.read_to_end(&mut rest);
    assert!(ended.is_err(), "reset, not closed");
    assert_eq!(rest, b"");
    assert_eq!(line.tally.of(Fault::Cut), 1);
}

#[test]
fn corruption_flips_bits_and_resets_reach_both_ends() {
    let mut line = Line::open();
    line.afflict(Fault::Corrupt, Trouble::Corrupt, PATIENCE);
    let sent = [0; 64];
    let flipped = (0..1000).find_map(|_| {
        line.caller.write_all(&sent).expect("sent");
        let bytes = take(&mut line.callee, sent.len());
        (bytes != sent).then_some(bytes)
    });
    let ones: u32 = flipped
        .expect("one of four")
        .iter()
        .map(|byte| byte.count_ones())
        .sum();
    assert_eq!(ones, 1);
    assert_eq!(line.tally.of(Fault::Corrupt), 1);
    line.proxies.reset(FORTH.back());
    let mut rest = Vec::new();
    assert!(line.caller.read_to_end(&mut rest).is_err());
    assert!(line.callee.read_to_end(&mut rest).is_err());
    assert_eq!(line.tally.of(Fault::Reset), 1);
}
