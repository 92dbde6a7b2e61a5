//! What the service manager is told (sd_notify(3)). Without one, nothing.

use std::time::Duration;

use raft::Instant;
use sd_notify::NotifyState;
use wire::client::{NodeRole, Status};

/// How often the status line may change.
const STATUS_EVERY: Duration = Duration::from_secs(1);

/// A line to the service manager. No watchdog: a stalled disk must not get the node killed.
#[derive(Debug)]
pub struct Supervisor {
    listening: bool,
    next_status: Instant,
    last: String,
}

impl Supervisor {
    /// The one that started this process, if it wants to be told.
    #[must_use]
    pub fn from_env() -> Self {
        Self {
            listening: std::env::var_os("NOTIFY_SOCKET").is_some(),
            next_status: Instant::default(),
            last: String::new(),
        }
    }

    /// Tells that the node has recovered and listens. It never waits for a quorum: nodes that are
    /// started one after the other would wait for each other.
    pub fn ready(&self) {
        self.send(&[NotifyState::Ready]);
    }

    /// Tells that the node is on its way out.
    pub fn stopping(&self) {
        self.send(&[NotifyState::Stopping]);
    }

    /// Tells, at most once a second, how the node is.
    pub fn report(&mut self, now: Instant, status: impl FnOnce() -> Status) {
        if !self.listening || now < self.next_status {
            return;
        }
        self.next_status = now + STATUS_EVERY;
        let line = describe(&status());
        if line != self.last {
            self.send(&[NotifyState::Status(&line)]);
            self.last = line;
        }
    }

    fn send(&self, states: &[NotifyState<'_>]) {
        if !self.listening {
            return;
        }
        if let Err(error) = sd_notify::notify(states) {
            log::debug!("service manager not reached error=\"{error}\"");
        }
    }
}

fn describe(status: &Status) -> String {
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
