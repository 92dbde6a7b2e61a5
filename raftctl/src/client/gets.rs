//! Gets in flight: many keys for one round trip. Does no I/O.

use std::collections::VecDeque;

use bytes::BytesMut;
use wire::client::{Freshness, Reply, Request};

use super::call::{Reading, Stop, Whom};
use super::error::Error;
use super::read::Entry;
use super::route::{Advice, Deadline};
use super::{Client, limits};

/// Gets in flight at most. Their answers may be of a MiB each, and come while nobody waits for them.
pub const GETS_IN_FLIGHT_MAX: usize = 64;

/// Where a get stands.
#[derive(Debug)]
enum State {
    /// To be sent, or to be sent again.
    Queued,
    /// Sent under this frame id on the current connection; no answer yet.
    Sent {
        frame_id: u64,
    },
    Settled(Result<Option<Entry>, Error>),
}

#[derive(Debug)]
struct Get {
    key: Vec<u8>,
    freshness: Freshness,
    state: State,
}

/// Gets whose results were not taken, oldest first.
///
/// Invariant: at most [`GETS_IN_FLIGHT_MAX`].
#[derive(Debug, Default)]
pub(super) struct Gets {
    gets: VecDeque<Get>,
}

impl Gets {
    fn whom(&self) -> Whom {
        let anywhere = |get: &Get| get.freshness.is_served_anywhere();
        if self.gets.iter().all(anywhere) {
            Whom::Anyone
        } else {
            Whom::Leader
        }
    }

    fn take_settled(&mut self) -> Option<Result<Option<Entry>, Error>> {
        let oldest = self.gets.pop_front()?;
        match oldest.state {
            State::Settled(result) => Some(result),
            State::Queued | State::Sent { .. } => {
                self.gets.push_front(oldest);
                None
            }
        }
    }

    /// Those that were refused just now were refused here.
    fn refused_at(&mut self, here: &str) {
        for get in &mut self.gets {
            if let State::Settled(Err(Error::Refused { place, .. })) = &mut get.state
                && place.is_empty()
            {
                here.clone_into(place);
            }
        }
    }

    /// All that are not settled end like this.
    fn abandon(&mut self, error: &Error) {
        for get in &mut self.gets {
            if !matches!(get.state, State::Settled(_)) {
                get.state = State::Settled(Err(error.clone()));
            }
        }
    }
}

impl Reading for Gets {
    fn is_sending(&self) -> bool {
        self.gets
            .iter()
            .any(|get| matches!(get.state, State::Queued))
    }

    fn is_awaiting(&self) -> bool {
        let awaited = |get: &Get| matches!(get.state, State::Sent { .. });
        self.gets.iter().any(awaited)
    }

    fn encode(&mut self, out: &mut BytesMut, next_frame_id: &mut u64, deadline_ms: u32) {
        for get in &mut self.gets {
            if matches!(get.state, State::Queued) {
                let frame_id = *next_frame_id;
                *next_frame_id += 1;
                let request = Request::Get {
                    deadline_ms,
                    freshness: get.freshness,
                    key: &get.key,
                };
                request.encode(frame_id, out);
                get.state = State::Sent { frame_id };
            }
        }
    }

    fn take_reply(&mut self, frame_id: u64, reply: &Reply<'_>) -> Option<Advice> {
        let sent =
            |get: &&mut Get| matches!(get.state, State::Sent { frame_id: id } if id == frame_id);
        let get = self.gets.iter_mut().find(sent)?;
        let (result, advice) = match reply {
            Reply::Value { item, .. } => (Ok(Some(Entry::of(item))), Advice::Done),
            Reply::Missing { .. } => (Ok(None), Advice::Done),
            Reply::Error(error) => match Advice::of(error) {
                Advice::Refused => {
                    let (error, place) = (error.clone(), String::new());
                    (Err(Error::Refused { error, place }), Advice::Refused)
                }
                advice => {
                    get.state = State::Queued;
                    return Some(advice);
                }
            },
            _ => return Some(Advice::Protocol("a get was answered by something else")),
        };
        get.state = State::Settled(result);
        Some(advice)
    }

    fn connection_lost(&mut self) {
        for get in &mut self.gets {
            if matches!(get.state, State::Sent { .. }) {
                get.state = State::Queued;
            }
        }
    }
}

impl Client {
    /// Queues a read of one key behind those in flight; nothing is sent before
    /// [`Client::wait_get`]. See [`Client::get`].
    ///
    /// # Errors
    /// [`Error::Full`] if [`GETS_IN_FLIGHT_MAX`] are in flight, [`Error::Refused`] for a key that no
    /// server takes.
    pub fn submit_get(&mut self, key: &[u8], freshness: impl Into<Freshness>) -> Result<(), Error> {
        limits::check_key(key)?;
        let in_flight = self.gets.gets.len();
        if in_flight >= GETS_IN_FLIGHT_MAX {
            return Err(Error::Full { in_flight });
        }
        self.gets.gets.push_back(Get {
            key: key.to_vec(),
            freshness: freshness.into(),
            state: State::Queued,
        });
        Ok(())
    }

    /// Gets in flight, also those that are answered and were not taken.
    #[must_use]
    pub fn gets_in_flight(&self) -> usize {
        self.gets.gets.len()
    }

    /// Sends what is queued and waits for the result of the oldest get in flight; `None` if there is
    /// none. At the deadline all gets in flight end, which this and the following calls tell of each.
    pub fn wait_get(&mut self, deadline: Deadline) -> Option<Result<Option<Entry>, Error>> {
        if let Some(result) = self.gets.take_settled() {
            return Some(result);
        }
        let mut gets = std::mem::take(&mut self.gets);
        let result = self.settle_oldest(&mut gets, deadline);
        self.gets = gets;
        result
    }

    fn settle_oldest(
        &mut self,
        gets: &mut Gets,
        deadline: Deadline,
    ) -> Option<Result<Option<Entry>, Error>> {
        let mut call = self.begin(gets.whom(), deadline);
        while !gets.gets.is_empty() {
            if let Some(result) = gets.take_settled() {
                return Some(result);
            }
            let stopped = self.turn(&mut call, Some(gets));
            gets.refused_at(&self.session.place);
            let Err(stop) = stopped else { continue };
            let place = self.session.place.clone();
            gets.abandon(&match stop {
                Stop::Unreachable(causes) => Error::Unreachable { causes },
                Stop::Why(why) => Error::NotApplied { why, place },
            });
        }
        None
    }
}
