//! Which node to ask next, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use wire::error::{Class, Error as WireError};
use wire::hello::LeaderHint;
use wire::types::{ClusterId, Epoch};

use super::connection::Connection;
use super::error::Cause;

/// The first try of an endpoint when others are left; those that were only slow get more time
/// once all were tried.
const FIRST_TRY: Duration = Duration::from_millis(250);
/// Endpoints remembered besides the given ones.
const LEARNED_MAX: usize = 16;
/// Back-off begins with this (rules B5) and doubles up to [`BACKOFF_MAX_MS`].
const BACKOFF_MIN_MS: u64 = 4;
const BACKOFF_MAX_MS: u64 = 200;
/// A sleep looks at the cancel flag this often.
const SLEEP_SLICE: Duration = Duration::from_millis(10);

/// What to do after an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Advice {
    /// It worked.
    Done,
    /// Ask this node instead.
    Redirect(LeaderHint),
    /// Ask any other node.
    Elsewhere,
    /// Ask again, not before this many milliseconds.
    Later(u64),
    /// It cannot work.
    Refused,
    /// The server broke the protocol: drop the connection.
    Protocol(&'static str),
}

impl Advice {
    pub(crate) fn of(error: &WireError) -> Self {
        match error {
            WireError::NotLeader { leader } => Self::Redirect(leader.clone()),
            WireError::Lagging(lag) => match &lag.better {
                Some(better) => Self::Redirect(better.clone()),
                None => Self::Elsewhere,
            },
            WireError::NoLeader
            | WireError::TooManyConnections { .. }
            | WireError::ShuttingDown
            | WireError::StateInDoubt => Self::Elsewhere,
            WireError::Overloaded { retry_after_ms } => Self::Later(u64::from(*retry_after_ms)),
            WireError::DeadlineExpired
            | WireError::OutcomeUnknown
            | WireError::SessionExpired
            | WireError::OutOfOrder { .. } => Self::Later(0),
            WireError::Unknown {
                class: Class::NotApplied | Class::Unknown,
                ..
            } => Self::Later(0),
            _ => Self::Refused,
        }
    }
}

/// How long a call may take in total: until then it looks for the cluster, follows the leader and
/// tries again. In the last eighth of it, 0.3 s at most, nothing new is sent, for no verdict would come
/// in time; what is on its way is awaited to the end.
#[derive(Clone, Copy, Debug)]
pub struct Deadline {
    end: Instant,
    total: Duration,
}

impl Deadline {
    /// From now on; a year at most.
    #[must_use]
    pub fn after(total: Duration) -> Self {
        let total = total.min(Duration::from_secs(365 * 86_400));
        Self {
            end: Instant::now() + total,
            total,
        }
    }

    /// What is left; zero if it passed.
    #[must_use]
    pub fn left(&self) -> Duration {
        self.end.saturating_duration_since(Instant::now())
    }

    /// When it ends.
    #[must_use]
    pub fn end(&self) -> Instant {
        self.end
    }

    /// Whether it passed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.left().is_zero()
    }

    /// What is left for the server, in milliseconds: a bit less, so that its verdict arrives
    /// before the caller hangs up and has to call the outcome unknown.
    pub(crate) fn for_server_ms(&self) -> u32 {
        let left = self.left();
        let margin = (left / 10).clamp(Duration::from_millis(2), Duration::from_millis(250));
        let server = left.saturating_sub(margin).as_millis();
        u32::try_from(server).unwrap_or(u32::MAX).max(1)
    }

    /// Whether too little is left for another attempt to bring a verdict.
    pub(crate) fn is_nearly_over(&self) -> bool {
        self.left() <= (self.total / 8).min(Duration::from_millis(300))
    }
}

/// The endpoints, and a source of chance.
#[derive(Debug)]
pub(crate) struct Router {
    endpoints: Vec<String>,
    /// Leaders that servers named.
    learned: Vec<String>,
    /// Where the next round begins.
    cursor: usize,
    connect_timeout: Duration,
    /// The cluster and history that the first server told: a call never moves to another.
    pub(crate) cluster: Option<ClusterId>,
    pub(crate) epoch: Option<Epoch>,
    random: u64,
    backoff_ms: u64,
    cancel: Option<Arc<AtomicBool>>,
}

impl Router {
    pub(super) fn endpoints(&self) -> &[String] {
        &self.endpoints
    }

    pub(crate) fn new(
        endpoints: Vec<String>,
        connect_timeout: Duration,
        cancel: Option<Arc<AtomicBool>>,
    ) -> Self {
        let mut router = Self {
            endpoints,
            learned: Vec::new(),
            cursor: 0,
            connect_timeout,
            cluster: None,
            epoch: None,
            random: seed(),
            backoff_ms: BACKOFF_MIN_MS,
            cancel,
        };
        if router.endpoints.len() > 1 {
            router.cursor = usize::try_from(router.draw() >> 33).unwrap_or(0);
        }
        router
    }

    /// A random number (splitmix64 over a seed from the kernel).
    pub(crate) fn draw(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.random;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        let raised = |flag: &Arc<AtomicBool>| flag.load(Ordering::Relaxed);
        self.cancel.as_ref().is_some_and(raised)
    }

    /// Whether there is a node besides `endpoint`.
    pub(crate) fn has_others(&self, endpoint: &str) -> bool {
        self.known().any(|known| known != endpoint)
    }

    fn known(&self) -> impl Iterator<Item = &String> {
        self.endpoints.iter().chain(&self.learned)
    }

    /// Dials one node. The first that answers settles which cluster is meant.
    pub(crate) fn dial(&mut self, endpoint: &str, timeout: Duration) -> Result<Connection, Cause> {
        let connection = Connection::dial(
            endpoint,
            self.cluster,
            self.epoch,
            self.connect_timeout,
            timeout,
            &|| self.is_cancelled(),
        )?;
        self.cluster = Some(connection.welcome.cluster);
        self.epoch = Some(connection.welcome.epoch);
        Ok(connection)
    }

    /// Dials the leader that a server named.
    pub(crate) fn dial_hint(
        &mut self,
        hint: &LeaderHint,
        deadline: Deadline,
    ) -> Result<Connection, Cause> {
        let connection = self.dial(&hint.client_addr, deadline.left().min(FIRST_TRY))?;
        if !self.known().any(|known| *known == hint.client_addr) {
            if self.learned.len() == LEARNED_MAX {
                self.learned.remove(0);
            }
            self.learned.push(hint.client_addr.clone());
        }
        Ok(connection)
    }

    /// Dials every known node but `except` once, and those that were only slow once more.
    pub(crate) fn dial_any(
        &mut self,
        except: Option<&str>,
        deadline: Deadline,
    ) -> Result<Connection, Vec<Cause>> {
        let count = self.endpoints.len() + self.learned.len();
        let begin = self.cursor % count.max(1);
        self.cursor = self.cursor.wrapping_add(1);
        let all: Vec<_> = self.known().cloned().collect();
        let around = all[begin..].iter().chain(&all[..begin]);
        let mut todo: Vec<_> = around.filter(|e| Some(e.as_str()) != except).collect();
        let mut causes: Vec<Cause> = Vec::new();
        for last_round in [todo.len() <= 1, true] {
            let slow = std::mem::take(&mut todo);
            let rest = slow.len();
            for (done, endpoint) in slow.into_iter().enumerate() {
                let share = deadline.left() / u32::try_from(rest - done).unwrap_or(u32::MAX);
                let limit = if last_round { share } else { FIRST_TRY };
                match self.dial(endpoint, share.min(limit)) {
                    Ok(connection) => return Ok(connection),
                    Err(_) if self.is_cancelled() => return Err(causes),
                    Err(cause) => {
                        if cause.timed_out && !last_round {
                            todo.push(endpoint);
                        }
                        causes.retain(|known| known.endpoint != cause.endpoint);
                        causes.push(cause);
                    }
                }
            }
        }
        Err(causes)
    }

    /// Waits a bit, longer each time, at least `least_ms`, at most until the deadline.
    pub(crate) fn back_off(&mut self, least_ms: u64, deadline: Deadline) {
        let jitter = self.draw() % (self.backoff_ms / 2 + 1);
        let sleep_ms = (self.backoff_ms - jitter).max(least_ms);
        self.backoff_ms = (self.backoff_ms * 2).min(BACKOFF_MAX_MS);
        let end = (Instant::now() + Duration::from_millis(sleep_ms)).min(deadline.end());
        while !self.is_cancelled() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            thread::sleep(left.min(SLEEP_SLICE));
        }
    }

    /// Something worked: the next back-off is short again.
    pub(crate) fn reset_back_off(&mut self) {
        self.backoff_ms = BACKOFF_MIN_MS;
    }
}

/// From the kernel; from the clock and the address space where it gives none.
fn seed() -> u64 {
    let mut bytes = [0; 8];
    let flags = rustix::rand::GetRandomFlags::empty();
    match rustix::rand::getrandom(&mut bytes, flags) {
        Ok(8) => u64::from_ne_bytes(bytes),
        _ => std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), Instant::now()),
    }
}
