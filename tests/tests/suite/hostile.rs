//! Clients that are broken, stuck or malicious must not keep the cluster from serving others.

use std::fs;
use std::io::{self, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use bytes::BytesMut;
use raftd_tests::cluster::Cluster;
use raftd_tests::proc::PATIENCE;
use raftd_tests::{skip, wait};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use wire::client::{Consistency, Request};
use wire::hello::Hello;

/// A put by a new `raftctl` must get through within this time, whatever the others do.
const SERVED_WITHIN: Duration = Duration::from_secs(1);

#[track_caller]
fn serves(cluster: &Cluster) {
    let done = cluster.ctl(&["put", "k", "v"]).quietly();
    assert!(done.took < SERVED_WITHIN, "took {:?}", done.took);
}

/// The cluster is as it was: every node runs, and nobody had to be elected.
#[track_caller]
fn is_unmoved(cluster: &Cluster, before: &serde_json::Value) {
    let after = cluster.status().expect("a status");
    assert_eq!(after["term"], before["term"], "an election");
    assert_eq!(after["leader"], before["leader"]);
    let members = after["members"].as_array().expect("members");
    assert!(
        members.iter().all(|member| member["reachable"] == true),
        "{after}"
    );
}

/// Numbers that look random and are the same in every run.
fn noise(seed: u64) -> impl Iterator<Item = u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    std::iter::from_fn(move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        Some(state.to_be_bytes()[0])
    })
}

fn hello() -> Vec<u8> {
    let hello = Hello::client();
    let mut out = BytesMut::new();
    hello.encode(&mut out);
    out.to_vec()
}

fn connect(addr: &str) -> TcpStream {
    let stream = TcpStream::connect(addr).unwrap_or_else(|e| panic!("{addr}: {e}"));
    stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
    stream.set_write_timeout(Some(PATIENCE)).expect("a timeout");
    stream
}

/// A connection whose hello was accepted.
fn greeted(addr: &str) -> TcpStream {
    let mut stream = connect(addr);
    stream.write_all(&hello()).expect("the hello leaves");
    let mut header = [0; wire::frame::HEADER_BYTES];
    stream.read_exact(&mut header).expect("the welcome");
    let mut rest = vec![0; wire::frame::wanted(&header) - header.len()];
    stream.read_exact(&mut rest).expect("the welcome");
    stream
}

/// Reads until the other end closes; anything but silence for [`PATIENCE`] will do.
fn wait_closed(mut stream: TcpStream) {
    match io::copy(&mut stream, &mut io::sink()) {
        Ok(_) => {}
        Err(e) => assert_ne!(e.kind(), ErrorKind::WouldBlock, "it was not closed"),
    }
}

#[test]
fn noise_and_half_frames_are_shut_out() {
    let cluster = Cluster::prepare(
        3,
        &[
            "--set",
            "net.hello_timeout=500ms",
            "--set",
            "net.frame_timeout=1s",
        ],
    );
    let mut cluster = cluster;
    cluster.start_all();
    cluster.wait_leader();
    serves(&cluster);
    let before = cluster.status().expect("a status");
    let addrs: Vec<String> = cluster
        .nodes
        .iter()
        .flat_map(|node| [node.client_addr.clone(), node.peer_addr.clone()])
        .collect();
    let mut open = Vec::new();
    for (addr, seed) in addrs.iter().cycle().zip(0..60_u64) {
        // Pure noise; noise behind a good length; noise behind a good hello; half a hello.
        let bytes: Vec<u8> = noise(seed).take(64 * 1024).collect();
        let start: Vec<u8> = match seed % 4 {
            0 => Vec::new(),
            1 => 1000_u32.to_be_bytes().to_vec(),
            2 => hello(),
            _ => hello()[..hello().len() / 2].to_vec(),
        };
        let mut stream = connect(addr);
        stream.write_all(&start).expect("the first bytes leave");
        if seed % 4 != 3 {
            // It may be shut out before everything is written.
            let _ = stream.write_all(&bytes);
        }
        open.push(stream);
    }
    // A good hello, and then half a request that never ends.
    for node in &cluster.nodes {
        let mut out = BytesMut::new();
        Request::Status.encode(1, &mut out);
        let mut stream = greeted(&node.client_addr);
        stream
            .write_all(&out[..out.len() / 2])
            .expect("half a request");
        open.push(stream);
    }
    // A hello that never comes.
    open.extend(addrs.iter().map(|addr| connect(addr)));
    serves(&cluster);
    open.into_iter().for_each(wait_closed);
    serves(&cluster);
    is_unmoved(&cluster, &before);
}

#[test]
fn ten_thousand_idle_connections_are_no_burden() {
    const IDLE: usize = 10_000;
    let most = getrlimit(Resource::Nofile).maximum;
    if most.is_some_and(|most| most < IDLE as u64 + 500) {
        let reason = format!("the hard limit of open files is {}", most.unwrap_or(0));
        skip(
            "hostile::ten_thousand_idle_connections_are_no_burden",
            &reason,
        );
        return;
    }
    let limit = Rlimit {
        current: most,
        maximum: most,
    };
    setrlimit(Resource::Nofile, limit).expect("up to the hard limit");

    let cluster = Cluster::start(3);
    let leader = cluster.wait_leader();
    let before = cluster.status().expect("a status");
    let addr = &cluster
        .nodes
        .iter()
        .find(|node| node.id == leader)
        .expect("it")
        .client_addr;
    let mut idle = Vec::new();
    // Half of them said hello and may stay; of the others the oldest make room.
    while idle.len() < IDLE {
        idle.push(greeted(addr));
        idle.push(connect(addr));
    }
    serves(&cluster);
    is_unmoved(&cluster, &before);
    drop(idle);
    serves(&cluster);
}

#[test]
fn a_client_that_never_reads_is_left_alone() {
    let cluster = Cluster::start(3);
    let leader = cluster.wait_leader();
    let before = cluster.status().expect("a status");
    let node = cluster
        .nodes
        .iter()
        .find(|node| node.id == leader)
        .expect("it");
    let _ = cluster
        .ctl_with(&["put", "big", "-"], &vec![b'x'; 500_000])
        .quietly();

    let mut out = BytesMut::new();
    let get = Request::Get {
        deadline_ms: 0,
        freshness: Consistency::Linearizable.into(),
        key: b"big",
    };
    for id in 1..=2_000 {
        get.encode(id, &mut out);
    }
    // A gigabyte of answers is asked for on each of four connections, and none is read.
    let mut deaf: Vec<TcpStream> = (0..4).map(|_| greeted(&node.client_addr)).collect();
    for stream in &mut deaf {
        stream.set_nonblocking(true).expect("nonblocking");
        // The server may stop reading long before: that is back-pressure.
        let _ = stream.write(&out);
    }
    for _ in 0..10 {
        serves(&cluster);
    }
    let resident = resident_mib(node.pid());
    assert!(resident < 200, "{resident} MiB are resident");
    is_unmoved(&cluster, &before);
    drop(deaf);
    wait::until_true("it serves on", PATIENCE, || {
        cluster.ctl(&["get", "k"]).code == Some(0)
    });
}

fn resident_mib(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a running process");
    let line = status
        .lines()
        .find(|line| line.starts_with("RssAnon:"))
        .expect("RssAnon");
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|n| n.parse().ok())
        .expect("a number");
    kib / 1024
}
