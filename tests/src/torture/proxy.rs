//! What stands between the members: every byte that one sends another passes here, in user space
//! and without privileges, and comes to grief here.
//!
//! A member is listed under the address of its *gate*, and dials the others at theirs. The first
//! frame of a connection is its caller's `Hello`, so a gate knows whose it is. A *path* is what one
//! member sends another, over whichever of their connections: troubles are troubles of paths, so
//! that a network can fail in one direction.
//!
//! TCP does not lose bytes silently, so neither do paths: what a cut path loses leaves a *hole* in
//! its connections, and those are reset when the cut ends.

mod carrier;
mod flow;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::sync::mpsc::{self, Sender};
use std::sync::{Arc, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mio::net::TcpListener;
use mio::{Interest, Poll, Token, Waker};

use self::carrier::Carrier;
use super::ledger::{Fault, Tally};
use crate::sim::random::Random;

/// The token of the waker; gates have those below it, connections those above.
const WAKER: Token = Token(63);

/// Between which members, from 0 on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path {
    /// Who sends.
    pub from: usize,
    /// Who is meant to receive.
    pub to: usize,
}

impl Path {
    /// The other direction.
    #[must_use]
    pub fn back(self) -> Self {
        Self {
            from: self.to,
            to: self.from,
        }
    }
}

/// What becomes of the bytes of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// They come this much later.
    Delay(Duration),
    /// They wait until it is over.
    Stall,
    /// They are lost.
    Cut,
    /// So many pass per second.
    Throttle(u64),
    /// Now and then a bit of them is flipped.
    Corrupt,
}

/// One fault of the network.
#[derive(Clone, Debug)]
pub struct Affliction {
    /// As what it counts when it bites.
    pub fault: Fault,
    /// Where.
    pub paths: Vec<Path>,
    /// What.
    pub trouble: Trouble,
    /// For how long.
    pub lasts: Duration,
}

enum Order {
    Afflict(Affliction),
    /// Reset what is open between the two.
    Reset(Path),
    Heal,
    Finish,
}

/// The gates of a cluster, and the thread behind them. Dropping it closes everything.
#[derive(Debug)]
pub struct Proxies {
    addrs: Vec<String>,
    orders: Sender<Order>,
    waker: Arc<Waker>,
    members: Arc<OnceLock<Vec<SocketAddr>>>,
    thread: Option<JoinHandle<()>>,
}

impl Proxies {
    /// Opens a gate for each of `count` members. They let nobody in before [`Proxies::lead_to`].
    ///
    /// # Errors
    /// What the system refused.
    pub fn open(count: usize, seed: u64, tally: Arc<Tally>) -> io::Result<Self> {
        assert!(count < WAKER.0, "{count} gates");
        let poll = Poll::new()?;
        let waker = Arc::new(Waker::new(poll.registry(), WAKER)?);
        let mut gates = Vec::new();
        for token in 0..count {
            let mut gate = TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
            let registry = poll.registry();
            registry.register(&mut gate, Token(token), Interest::READABLE)?;
            gates.push(gate);
        }
        let addrs = gates
            .iter()
            .map(|gate| gate.local_addr().map(|addr| addr.to_string()));
        let addrs = addrs.collect::<io::Result<_>>()?;
        let (orders, inbox) = mpsc::channel();
        let members = Arc::new(OnceLock::new());
        let random = Random::new(seed);
        let carrier = Carrier::new(poll, gates, Arc::clone(&members), inbox, tally, random);
        let thread = thread::Builder::new()
            .name("proxies".into())
            .spawn(move || carrier.run())?;
        Ok(Self {
            addrs,
            orders,
            waker,
            members,
            thread: Some(thread),
        })
    }

    /// The address of each member's gate, as the initial cluster lists it.
    #[must_use]
    pub fn addrs(&self) -> &[String] {
        &self.addrs
    }

    /// Where the members really listen.
    ///
    /// # Panics
    /// If it was told before.
    pub fn lead_to(&self, members: Vec<SocketAddr>) {
        assert_eq!(members.len(), self.addrs.len(), "a member behind each gate");
        self.members.set(members).expect("gates lead to one place");
    }

    /// Lets a fault begin; it ends by itself.
    pub fn afflict(&self, affliction: Affliction) {
        self.order(Order::Afflict(affliction));
    }

    /// Resets what is open between two members.
    pub fn reset(&self, between: Path) {
        self.order(Order::Reset(between));
    }

    /// Ends every trouble.
    pub fn heal(&self) {
        self.order(Order::Heal);
    }

    fn order(&self, order: Order) {
        // The thread ends before this value only by a panic, which the join tells.
        let _ = self.orders.send(order);
        let _ = self.waker.wake();
    }
}

impl Drop for Proxies {
    fn drop(&mut self) {
        self.order(Order::Finish);
        if let Some(thread) = self.thread.take() {
            // Its panic was told where it happened.
            let _ = thread.join();
        }
    }
}
