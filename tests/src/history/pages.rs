//! The pages behind the first one of a view: all must show the state that the first one showed,
//! whatever was written and whoever leads by then.

use wire::client::{Consistency, Freshness, Reply, Request, ViewChoice};
use wire::types::Index;

use super::{Answer, Operation, Query, Record};

/// Pages that are read of a view; a longer one is left behind, for the member to end.
const PAGES_MAX: u32 = 4;

/// A page that is to be asked for on the connection that its view belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewPage {
    query: Query,
    view: u64,
    /// What the first page was as of.
    index: Index,
    number: u32,
}

impl ViewPage {
    /// What follows the first page of a view: `reply` to `operation`, if there is a view, and more.
    #[must_use]
    pub fn second(operation: &Operation, reply: &Reply<'_>) -> Option<Self> {
        match operation {
            Operation::Read { query, .. } => Self::behind(query, 2, reply),
            Operation::Write { .. } => None,
        }
    }

    fn behind(query: &Query, number: u32, reply: &Reply<'_>) -> Option<Self> {
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
        (number <= PAGES_MAX).then_some(Self {
            query,
            view: *view,
            index: *index,
            number,
        })
    }

    /// What asks for it.
    #[must_use]
    pub fn to_wire(&self, deadline_ms: u32) -> Request<'_> {
        let freshness = Freshness::from(Consistency::Stale);
        let view = ViewChoice::Of(self.view);
        self.query.to_wire(deadline_ms, freshness, view)
    }

    /// What was seen, and what follows: `None` for an error, since a view may be gone at any time. To
    /// the checkers it is a look at an old state, which the index names.
    ///
    /// # Errors
    /// It is no page of that view.
    pub fn judge(
        &self,
        reply: &Reply<'_>,
        client: u64,
        (invoked_ns, ended_ns): (u64, u64),
    ) -> Result<Option<(Record, Option<Self>)>, String> {
        if matches!(reply, Reply::Error(_)) {
            return Ok(None);
        }
        let asked = self.index;
        let Some(answer @ Answer::Scanned { index, .. }) = Answer::from_reply(reply) else {
            return Err(format!("client {client}: a page was answered by {reply:?}"));
        };
        if index != asked {
            return Err(format!(
                "client {client}: a page of a view as of {asked} is as of {index}"
            ));
        }
        let record = Record {
            client,
            invoked_ns,
            ended_ns: Some(ended_ns),
            passage: None,
            operation: Operation::Read {
                consistency: Consistency::Stale,
                after: Index::default(),
                query: self.query.clone(),
            },
            answer,
        };
        let following = Self::behind(&self.query, self.number + 1, reply);
        Ok(Some((record, following)))
    }
}
