//! What the service manager is told (sd_notify(3)). Without one, nothing.

use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use raft::Instant;
use wire::client::{NodeRole, Status};

/// How often the status line may change.
const STATUS_EVERY: Duration = Duration::from_secs(1);
/// How much longer a recovery that gets on may take.
const RECOVERY_EXTENSION: Duration = Duration::from_secs(90);

/// A line to the service manager. No watchdog: a stalled disk must not get the node killed.
///
/// Nobody waits for a manager that does not read: what its socket has no room for is lost. READY is
/// not: it is the first thing said, so there is room, and if there is none it is said again with the
/// status, until it is taken.
#[derive(Debug)]
pub struct Supervisor {
    manager: Option<(UnixDatagram, SocketAddr)>,
    /// READY was said, and not taken.
    owes_ready: bool,
    /// The status may have changed since it was told.
    owes_status: bool,
    next_status: Instant,
    last: String,
}

impl Supervisor {
    /// The one that started this process, if it wants to be told.
    #[must_use]
    pub fn from_env() -> Self {
        let name = std::env::var_os("NOTIFY_SOCKET").unwrap_or_default();
        Self::at(&name)
    }

    /// The one that listens there, if there is a name.
    pub(crate) fn at(name: &OsStr) -> Self {
        let warn = |error: &io::Error| {
            log::warn!("service manager not told anything socket={name:?} error=\"{error}\"");
        };
        let manager = match name.is_empty() {
            true => None,
            false => open(name).inspect_err(warn).ok(),
        };
        Self {
            manager,
            owes_ready: false,
            owes_status: false,
            next_status: Instant::default(),
            last: String::new(),
        }
    }

    /// Tells how far the recovery has come, which gets more time for it.
    pub fn recovering(&mut self, done_bytes: u64, bytes_max: u64) {
        let (done, most) = (done_bytes >> 20, bytes_max >> 20);
        let extension = RECOVERY_EXTENSION.as_micros();
        self.tell(&format!(
            "EXTEND_TIMEOUT_USEC={extension}\nSTATUS=recovering, {done} of at most {most} MiB\n"
        ));
    }

    /// Tells that the node has recovered and listens. It never waits for a quorum: nodes that are
    /// started one after the other would wait for each other.
    pub fn ready(&mut self) {
        let sent = self.send("READY=1\n");
        self.owes_ready = sent.is_err();
        if let Err(error) = sent {
            log::warn!("service manager not told that this node is ready error=\"{error}\"");
        }
    }

    /// Says READY again if it was not taken, for as long as there is no status to say it with.
    pub fn ready_again(&mut self) {
        self.owes_ready = self.owes_ready && self.send("READY=1\n").is_err();
    }

    /// Tells that the node waits until somebody adds it to a cluster; to nobody who has not taken
    /// READY, which is the first thing said.
    pub fn waiting(&mut self, name: &str, peer_addr: &str) {
        if self.owes_ready {
            return;
        }
        self.tell(&format!(
            "STATUS=waiting to be admitted: raftctl add-peer {name} {peer_addr}\n"
        ));
    }

    /// Tells that the node is on its way out.
    pub fn stopping(&mut self) {
        self.owes_ready = false;
        self.tell("STOPPING=1\n");
    }

    /// Tells, at most once a second, how the node is in one line: see [`describe`].
    pub fn report(&mut self, now: Instant, line: impl FnOnce() -> String) {
        if self.manager.is_none() {
            return;
        }
        self.owes_status = now < self.next_status;
        if self.owes_status {
            return;
        }
        self.next_status = now + STATUS_EVERY;
        let line = line();
        if line == self.last && !self.owes_ready {
            return;
        }
        let ready = if self.owes_ready { "READY=1\n" } else { "" };
        match self.send(&format!("{ready}STATUS={line}\n")) {
            Ok(()) => (self.owes_ready, self.last) = (false, line),
            Err(error) => log::debug!("service manager not reached error=\"{error}\""),
        }
    }

    /// When [`Supervisor::report`] is worth a call, whatever else there is to do.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        (self.owes_ready || self.owes_status).then_some(self.next_status)
    }

    fn tell(&self, what: &str) {
        if let Err(error) = self.send(what) {
            log::debug!("service manager not reached error=\"{error}\"");
        }
    }

    fn send(&self, what: &str) -> io::Result<()> {
        let Some((socket, manager)) = &self.manager else {
            return Ok(());
        };
        socket.send_to_addr(what.as_bytes(), manager).map(drop)
    }
}

/// A socket that never waits, and where the manager listens: a path, or behind an `@` a name that is
/// in no file system.
fn open(name: &OsStr) -> io::Result<(UnixDatagram, SocketAddr)> {
    let manager = match name.as_bytes().strip_prefix(b"@") {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(name)?,
    };
    let socket = UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    Ok((socket, manager))
}

/// How a node is, in one line.
#[must_use]
pub fn describe(status: &Status) -> String {
    let role = match (status.role, status.leader) {
        (NodeRole::Leader, _) => "leader".to_owned(),
        (_, Some(leader)) => format!("follower of node {leader}"),
        (NodeRole::Candidate, None) => "candidate".to_owned(),
        (NodeRole::Follower, None) => "follower, no leader".to_owned(),
    };
    let lag = status.commit.0.saturating_sub(status.applied.0);
    let (state, term, applied) = (&status.state, status.term, status.applied);
    format!("{state}, {role}, term {term}, applied {applied} (lag {lag})")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Nothing else may happen that could remind the node of it.
    #[test]
    fn what_was_last_is_told_soon() {
        let dir = tempfile::tempdir().expect("it is made");
        let name = dir.path().join("notify");
        let manager = UnixDatagram::bind(&name).expect("it is bound");
        manager.set_nonblocking(true).expect("it can be set");
        let heard = || {
            let mut bytes = [0; 1024];
            let count = manager.recv(&mut bytes).ok()?;
            String::from_utf8(bytes[..count].to_vec()).ok()
        };
        let mut supervisor = Supervisor::at(name.as_os_str());
        let mut report = |at, line: &str| {
            supervisor.report(at, || line.to_owned());
            supervisor.deadline()
        };
        let begun = Instant(1_000_000_000);
        assert_eq!(report(begun, "applied 1"), None);
        assert_eq!(heard().as_deref(), Some("STATUS=applied 1\n"));
        let (soon, later) = (begun + STATUS_EVERY / 2, begun + STATUS_EVERY);
        assert_eq!(report(soon, "applied 2"), Some(later));
        assert_eq!(heard(), None);
        assert_eq!(report(later, "applied 2"), None);
        assert_eq!(heard().as_deref(), Some("STATUS=applied 2\n"));
    }
}
