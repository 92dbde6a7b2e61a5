//! The pages behind the first one of a view: all must show the state that the first one showed,
//! whatever was written and whoever leads by then.

use raft::Instant;
use wire::client::{Consistency, Freshness, Reply, ViewChoice};
use wire::types::Index;

use super::Desk;
use super::client::Client;
use super::line::Asked;
use crate::history::{Answer, Operation, Query, Record};

/// Pages that are read of a view; a longer one is left behind, for the member to end.
const PAGES_MAX: u32 = 4;

/// A page that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Paged {
    query: Query,
    view: u64,
    /// What the first page was as of.
    index: Index,
    number: u32,
    invoked: Instant,
}

/// How the scan of an operation is to be asked for: each third has its state kept.
pub(super) fn choice(number: u64) -> ViewChoice {
    match number % 3 {
        0 => ViewChoice::Keep,
        _ => ViewChoice::Now,
    }
}

impl Client {
    /// What follows a reply to an operation: the second page of a view, if it has one.
    pub(super) fn second_page(
        &self,
        number: u64,
        reply: &Reply<'_>,
        now: Instant,
    ) -> Option<Paged> {
        let Operation::Read { query, .. } = &self.pending.get(&number)?.operation else {
            return None;
        };
        next(query, 2, reply, now)
    }

    /// Asks for a page on the connection that its view belongs to.
    pub(super) fn ask_page(&mut self, connection: u64, page: Paged, desk: &mut Desk<'_>) {
        let Some(line) = self.line_mut(connection) else {
            return;
        };
        let freshness = Freshness::from(Consistency::Stale);
        let query = page.query.clone();
        let request = query.to_wire(0, freshness, ViewChoice::Of(page.view));
        line.ask(&request, Asked::Page(page), desk);
    }

    /// A page of a view came, or an error: the view may be gone at any time.
    pub(super) fn page_came(
        &mut self,
        connection: u64,
        page: &Paged,
        reply: &Reply<'_>,
        desk: &mut Desk<'_>,
    ) {
        if matches!(reply, Reply::Error(_)) {
            return;
        }
        let (number, asked) = (self.number, page.index);
        let Some(answer @ Answer::Scanned { index, .. }) = Answer::from_reply(reply) else {
            let text = format!("client {number}: a page was answered by {reply:?}");
            return desk.common.report(|| text);
        };
        if index != asked {
            let text = format!("client {number}: a page of a view as of {asked} is as of {index}");
            return desk.common.report(|| text);
        }
        // To the checkers it is a look at an old state, which the index names.
        desk.common.record(Record {
            client: number,
            invoked_ns: page.invoked.0,
            ended_ns: Some(desk.now.0),
            passage: None,
            operation: Operation::Read {
                consistency: Consistency::Stale,
                after: Index::default(),
                query: page.query.clone(),
            },
            answer,
        });
        if let Some(following) = next(&page.query, page.number + 1, reply, desk.now) {
            self.ask_page(connection, following, desk);
        }
    }
}

/// The page behind the one in `reply`, if there is one of the same view.
fn next(query: &Query, number: u32, reply: &Reply<'_>, now: Instant) -> Option<Paged> {
    let Reply::Page {
        index,
        more_after: Some(last),
        view: Some(view),
        ..
    } = reply
    else {
        return None;
    };
    let mut query = query.clone();
    if let Query::Scan(scan) = &mut query {
        scan.after = Some(last.to_vec());
    }
    (number <= PAGES_MAX).then_some(Paged {
        query,
        view: *view,
        index: *index,
        number,
        invoked: now,
    })
}
