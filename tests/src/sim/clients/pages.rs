//! Ranges at one revision: the pages behind the first one of a view.

use raft::Instant;
use wire::client::{Reply, ViewChoice};

use super::client::Client;
use super::line::Asked;
use super::{Common, Desk};
use crate::history::ViewPage;

/// A page that was asked for, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Paged {
    page: ViewPage,
    invoked: Instant,
}

/// How the scan of an operation is to be asked for: each second one has its state kept. Not if all is
/// calm: a member has few views, and a client that leaves one behind has the others wait for it.
pub(super) fn choice(number: u64, common: &Common) -> ViewChoice {
    match number.is_multiple_of(2) && !common.is_calm() {
        true => ViewChoice::Keep,
        false => ViewChoice::Now,
    }
}

impl Client {
    /// What follows a reply to an operation: the second page of a view, if it has one.
    pub(super) fn second_page(&self, number: u64, reply: &Reply<'_>) -> Option<ViewPage> {
        ViewPage::second(&self.pending.get(&number)?.operation, reply)
    }

    /// Asks for a page on the connection that its view belongs to.
    pub(super) fn ask_page(&mut self, connection: u64, page: &ViewPage, desk: &mut Desk<'_>) {
        if let Some(line) = self.line_mut(connection) {
            let paged = Paged {
                page: page.clone(),
                invoked: desk.now,
            };
            line.ask(&page.to_wire(0), Asked::Page(paged), desk);
        }
    }

    /// A page of a view came, or an error.
    pub(super) fn page_came(
        &mut self,
        connection: u64,
        paged: &Paged,
        reply: &Reply<'_>,
        desk: &mut Desk<'_>,
    ) {
        let times = (paged.invoked.0, desk.now.0);
        let counts = &mut desk.common.counts;
        match paged.page.judge(reply, self.number, times) {
            Ok(None) => counts.views_lost += 1,
            Ok(Some((record, following))) => {
                counts.pages += 1;
                desk.common.record(record);
                if let Some(page) = &following {
                    self.ask_page(connection, page, desk);
                }
            }
            Err(why) => desk.common.report(|| why),
        }
    }
}
