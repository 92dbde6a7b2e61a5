//! Views that clients walk over, page by page, while the state goes on.

use std::collections::BTreeMap;

use raft::Instant;
use wire::client::{Items, Reply, ViewChoice};
use wire::error::Error;
use wire::types::Index;

use super::Node;
use super::client::Caller;
use super::config::Limits;
use super::freeing::Freeing;
use super::io::{ConnectionId, Effects};
use super::reads::Scan;
use crate::store::map::Map;

/// What a client should wait that finds as many views as may be.
const RETRY_AFTER_MS: u32 = 1_000;

/// A view of the keys: taken in constant time, it costs the memory of what changes while it lives.
#[derive(Debug)]
struct View {
    map: Map,
    index: Index,
    made: Instant,
    used: Instant,
}

/// All views, each of one connection.
///
/// Invariants:
/// - at most [`Limits::views_max`]; none is older than [`Limits::view_age_max`], or unused for longer
///   than [`Limits::view_idle_max`], but for the turn in which that is noticed;
/// - an id is given once in a node's life;
/// - a view shows the state as of one index that was applied when it was made, and every page of it
///   the same one;
/// - whatever drops a view has it freed piece by piece: it may be large (rules A7).
#[derive(Debug, Default)]
pub(super) struct Views {
    views: BTreeMap<(ConnectionId, u64), View>,
    last_id: u64,
}

impl Views {
    /// Keeps a view of the state as of `index` for the connection. `None`: there are as many as may
    /// be.
    pub(super) fn make(
        &mut self,
        connection: ConnectionId,
        (map, index): (&Map, Index),
        now: Instant,
        limits: &Limits,
    ) -> Option<u64> {
        if self.views.len() >= limits.views_max {
            return None;
        }
        self.last_id += 1;
        let view = View {
            map: map.clone(),
            index,
            made: now,
            used: now,
        };
        self.views.insert((connection, self.last_id), view);
        Some(self.last_id)
    }

    /// The keys of a view, and the index that it is as of; `None` if it is not there, or no more.
    pub(super) fn look(
        &mut self,
        connection: ConnectionId,
        id: u64,
        now: Instant,
    ) -> Option<(&Map, Index)> {
        let view = self.views.get_mut(&(connection, id))?;
        view.used = now;
        Some((&view.map, view.index))
    }

    /// Nobody asks for a page of it any more.
    pub(super) fn end(&mut self, connection: ConnectionId, id: u64, freeing: &mut Freeing) {
        if let Some(view) = self.views.remove(&(connection, id)) {
            freeing.add(view.map);
        }
    }

    /// The connection is gone, and its views with it.
    pub(super) fn close(&mut self, connection: ConnectionId, freeing: &mut Freeing) {
        self.drop_where(|(owner, _), _| *owner == connection, freeing);
    }

    /// The state is not to be believed any more, nor what was seen of it.
    pub(super) fn clear(&mut self, freeing: &mut Freeing) {
        self.drop_where(|_, _| true, freeing);
    }

    /// Drops the views that are past their time.
    pub(super) fn expire(&mut self, now: Instant, limits: &Limits, freeing: &mut Freeing) {
        self.drop_where(|_, view| view.ends_at(limits) <= now, freeing);
    }

    /// When the next view is past its time.
    pub(super) fn deadline(&self, limits: &Limits) -> Option<Instant> {
        self.views.values().map(|view| view.ends_at(limits)).min()
    }

    fn drop_where(
        &mut self,
        is_over: impl Fn(&(ConnectionId, u64), &View) -> bool,
        freeing: &mut Freeing,
    ) {
        let over = self.views.iter().filter(|(name, view)| is_over(name, view));
        let over: Vec<_> = over.map(|(name, _)| *name).collect();
        for (connection, id) in over {
            self.end(connection, id, freeing);
        }
    }
}

impl View {
    fn ends_at(&self, limits: &Limits) -> Instant {
        (self.made + limits.view_age_max).min(self.used + limits.view_idle_max)
    }
}

impl Node {
    /// Serves a page, of the state as of now or of a view. Says how many keys it walked over.
    pub(super) fn serve_page(
        &mut self,
        caller: Caller,
        scan: Scan,
        keys: &[u8],
        effects: &mut Effects,
    ) -> u64 {
        let (now, limits) = (self.now.monotonic, &self.config.limits);
        let (connection, choice) = (caller.connection, scan.view);
        let current = (self.store.map(), self.store.applied().index);
        let (map, index) = match choice {
            ViewChoice::Now | ViewChoice::Keep => current,
            ViewChoice::Of(id) => match self.views.look(connection, id, now) {
                Some(view) => view,
                None => {
                    self.refuse(caller, Error::ViewGone, effects);
                    return 0;
                }
            },
        };
        self.page_bytes.clear();
        let page = map.page(scan.page(keys), &mut self.page_bytes);
        let (count, more_after) = (page.count, page.more_after.map(<[u8]>::to_vec));
        let view = match (choice, &more_after) {
            (ViewChoice::Now, _) | (ViewChoice::Keep, None) => None,
            (ViewChoice::Of(id), Some(_)) => Some(id),
            (ViewChoice::Of(id), None) => {
                self.views.end(connection, id, &mut self.freeing);
                None
            }
            (ViewChoice::Keep, Some(_)) => {
                let made = self.views.make(connection, current, now, limits);
                if made.is_none() {
                    let error = Error::Overloaded {
                        retry_after_ms: RETRY_AFTER_MS,
                    };
                    self.refuse(caller, error, effects);
                    return count;
                }
                made
            }
        };
        let reply = Reply::Page {
            index,
            count,
            more_after: more_after.as_deref(),
            view,
            items: Items {
                bytes: &self.page_bytes,
            },
        };
        self.clients.answer(caller, &reply, effects);
        count
    }
}
