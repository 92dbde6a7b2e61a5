//! The simulator itself: a cluster forms, elects and serves, and a seed decides everything.

use std::process::Command as Program;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use raft::{Instant, RoleName};
use raftd_tests::proc::{self, Running};
use raftd_tests::sim::run;
use raftd_tests::sim::trace::Trace;
use raftd_tests::sim::world::{Did, World};
use rustix::process::Signal;
use wire::client::{Reply, Request};
use wire::command::{Command, SessionId, Write};
use wire::frame;
use wire::hello::{Hello, Welcome};
use wire::limits::CLIENT_FRAME_BYTES_MAX;

const MS: Duration = Duration::from_millis(1);

fn world(members: usize, seed: u64) -> World {
    World::fair(members, seed, Trace::with_lines(false))
}

/// Lets time pass; what clients are told comes back.
fn pass(world: &mut World, time: Duration) -> Vec<Did> {
    let end = world.now() + time;
    let mut told = Vec::new();
    loop {
        match world.step(end) {
            Did::Rest => return told,
            Did::Thought(host) => assert!(world.carry_out(host).is_none()),
            Did::Died(host, death) => panic!("{host} died: {death:?}"),
            did @ (Did::Connected(_) | Did::Received(..) | Did::Disconnected(_)) => told.push(did),
            _ => {}
        }
    }
}

fn leader(world: &World) -> usize {
    let mut leaders = world
        .nodes()
        .filter(|(_, node)| node.raft().role() == RoleName::Leader);
    let (leader, _) = leaders.next().expect("a leader");
    leader
}

fn received(told: Vec<Did>) -> Bytes {
    let mut all = BytesMut::new();
    for did in told {
        if let Did::Received(_, bytes) = did {
            all.extend_from_slice(&bytes);
        }
    }
    all.freeze()
}

/// Lets time pass until a client is answered.
fn answer(world: &mut World) -> Bytes {
    for _ in 0..100 {
        let bytes = received(pass(world, 20 * MS));
        if !bytes.is_empty() {
            return bytes;
        }
    }
    panic!("no answer within two seconds");
}

/// A cluster of this size forms, elects, and takes `writes` increments of one client. The hash of
/// all its effects.
fn serve(members: usize, seed: u64, writes: i64) -> u64 {
    let mut world = world(members, seed);
    pass(&mut world, 1_000 * MS);
    let leader = leader(&world);
    world.connect(7, leader);
    assert!(matches!(
        pass(&mut world, 100 * MS)[..],
        [Did::Connected(7)]
    ));

    let mut out = BytesMut::new();
    let hello = Hello::client();
    hello.encode(&mut out);
    world.send(7, out.split().freeze());
    let bytes = received(pass(&mut world, 100 * MS));
    let frame = frame::parse(&bytes, CLIENT_FRAME_BYTES_MAX)
        .expect("the frame is good")
        .expect("the frame is whole");
    let welcome = Welcome::decode(&frame).expect("a welcome");
    let session = SessionId {
        epoch: welcome.epoch,
        born: welcome.applied,
        nonce: 1,
    };
    for seq in 1..=writes as u64 {
        let command = Command::Increment {
            key: b"n",
            delta: 1,
        };
        let write = Write {
            session,
            seq,
            floor: seq,
            command,
        };
        let request = Request::Write {
            deadline_ms: 0,
            write,
            body: &[],
        };
        request.encode(seq, &mut out);
        world.send(7, out.split().freeze());
        let bytes = answer(&mut world);
        let frame = frame::parse(&bytes, CLIENT_FRAME_BYTES_MAX)
            .expect("the frame is good")
            .expect("the frame is whole");
        assert!(
            matches!(Reply::decode(&frame), Ok(Reply::Written { .. })),
            "{seq}"
        );
    }
    pass(&mut world, 1_000 * MS);
    let state = |node: &raftd::node::Node| node.store().map().len();
    assert!(world.nodes().all(|(_, node)| state(node) == 1));
    assert!(world.now() > Instant(2_000_000_000));
    world.trace().hash()
}

#[test]
fn clusters_of_every_size_form_elect_and_serve() {
    for members in 1..=7 {
        serve(members, members as u64, 20);
    }
}

#[test]
fn a_seed_decides_everything() {
    for seed in [1, 2, 3] {
        assert_eq!(serve(3, seed, 5), serve(3, seed, 5), "seed {seed}");
    }
    assert_ne!(serve(3, 1, 5), serve(3, 2, 5));
}

/// Two runs of a seed do the same, whatever happens in it.
#[test]
fn a_run_replays_bit_for_bit() {
    for seed in [1, 2, 3] {
        let [first, second] =
            [run::Telling::Hash, run::Telling::Lines].map(|telling| run::run(seed, telling));
        assert_eq!(first.violation, None, "seed {seed}");
        assert_eq!(first.hash, second.hash, "seed {seed}");
    }
}

#[test]
fn an_interrupted_simulation_tells_what_it_found() {
    let log = tempfile::NamedTempFile::new().expect("a log");
    let said = || std::fs::read_to_string(log.path()).unwrap_or_default();
    let mut command = Program::new(env!("CARGO_BIN_EXE_sim"));
    command.args(["--seeds", "1000000", "--jobs", "1"]);
    let mut running = Running::start(command, log.path());
    proc::wait_handles(running.pid(), Signal::TERM);
    proc::signal(running.pid(), Signal::TERM);
    assert_eq!(running.wait().code(), Some(130), "{}", said());
    assert!(said().contains(" of 1000000 seeds were run"), "{}", said());
    let said = said();
    let (_, last) = said.trim_end().rsplit_once('\n').expect("lines");
    let (seeds, rest) = last.split_once(" seeds, ").expect(last);
    assert!(seeds.parse::<u64>().is_ok(), "{last}");
    assert!(rest.starts_with("0 violations, 0 vacuous, "), "{last}");
}
