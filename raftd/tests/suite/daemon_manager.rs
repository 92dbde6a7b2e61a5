//! What the daemon tells its service manager, whether or not that reads.

use std::io::ErrorKind;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;

use crate::daemon_peers::joining;
use crate::daemon_process::{Daemon, PATIENCE, exited, raftd};

/// Nothing that the daemon says.
const OTHER: &str = "other\n";

struct Manager {
    socket: UnixDatagram,
    addr: SocketAddr,
}

impl Manager {
    fn listen(addr: SocketAddr) -> Self {
        let socket = UnixDatagram::bind_addr(&addr).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        Self { socket, addr }
    }

    /// In a folder, as NOTIFY_SOCKET of that command.
    fn of(command: &mut Command, dir: &Path) -> Self {
        let path = dir.join("notify");
        command.env("NOTIFY_SOCKET", &path);
        Self::listen(SocketAddr::from_pathname(&path).unwrap())
    }

    /// Leaves no room for anything else.
    fn fill(&self) {
        let socket = UnixDatagram::unbound().unwrap();
        socket.set_nonblocking(true).unwrap();
        let send = |_| socket.send_to_addr(OTHER.as_bytes(), &self.addr).err();
        let full = (0..100_000).find_map(send).unwrap();
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
    }

    /// What it is told next.
    fn told(&self) -> String {
        let mut bytes = [0; 1024];
        loop {
            let told = match self.socket.recv(&mut bytes) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                received => &bytes[..received.unwrap()],
            };
            if told != OTHER.as_bytes() {
                return String::from_utf8(told.to_vec()).unwrap();
            }
        }
    }
}

fn alone() -> Command {
    raftd(&["--dev", "--listen", "127.0.0.1:0"])
}

#[test]
fn it_is_told_ready_status_and_stopping() {
    let (dir, mut command) = (tempfile::tempdir().unwrap(), alone());
    let manager = Manager::of(&mut command, dir.path());
    let mut daemon = Daemon::start(command);
    assert_eq!(manager.told(), "READY=1\n");
    let status = manager.told();
    assert!(status.starts_with("STATUS="), "{status}");
    assert!(status.contains("applied"), "{status}");
    daemon.signal(Signal::TERM);
    while manager.told() != "STOPPING=1\n" {}
    assert!(exited(daemon.wait(), 0));
}

#[test]
fn one_without_a_name_is_none() {
    let mut command = alone();
    command.env("NOTIFY_SOCKET", "");
    let mut daemon = Daemon::start(command);
    daemon.serves();
    daemon.signal(Signal::TERM);
    let told: Vec<String> = daemon.lines.iter().collect();
    assert!(told.iter().all(|line| !line.contains(" WARN ")), "{told:?}");
    assert!(exited(daemon.wait(), 0));
}

#[test]
fn one_that_does_not_read_holds_nothing_up() {
    let name = format!("raftd-test-{}", std::process::id());
    let manager = Manager::listen(SocketAddr::from_abstract_name(&name).unwrap());
    manager.fill();
    let mut command = alone();
    command.env("NOTIFY_SOCKET", format!("@{name}"));
    let mut daemon = Daemon::start(command);
    daemon.wait_line("service manager not told that this node is ready");
    daemon.serves();
    assert!(manager.told().starts_with("READY=1\nSTATUS="));
    manager.fill();
    daemon.signal(Signal::TERM);
    assert!(exited(daemon.wait(), 0));
}

/// It would be killed for being late.
#[test]
fn a_node_that_waits_to_be_admitted_is_ready_for_one_that_reads_late() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = joining(&dir.path().join("data"), "127.0.0.1:1");
    command.args(["--peer-listen", "127.0.0.1:0"]);
    let manager = Manager::of(&mut command, dir.path());
    manager.fill();
    let daemon = Daemon::start(command);
    daemon.wait_line("service manager not told that this node is ready");
    assert_eq!(manager.told(), "READY=1\n");
}

#[test]
fn it_is_told_what_a_node_waits_for() {
    let dir = tempfile::tempdir().unwrap();
    let mut command = joining(&dir.path().join("data"), "127.0.0.1:1");
    command.args(["--peer-listen", "127.0.0.1:0", "--peer-advertise", "h:1"]);
    let manager = Manager::of(&mut command, dir.path());
    let _daemon = Daemon::start(command);
    assert_eq!(manager.told(), "READY=1\n");
    assert_eq!(
        manager.told(),
        "STATUS=waiting to be admitted: raftctl add-peer n2 h:1\n"
    );
}
