//! A link to a second member, which tells when somebody else leads (rules B5).
//!
//! When a leader, or the way to it, hangs, its connection stays open and says nothing. Another
//! member notices within an election timeout, and tells at once. The link is made when an answer
//! is late for the first time: nobody is replaced for a silence shorter than that.

use std::io;
use std::time::Instant;

use bytes::BytesMut;
use wire::client::{Reply, Request};
use wire::hello::{LeaderHint, Welcome};
use wire::types::{NodeId, Term};

use super::connection::{Connection, Filled, await_either};

/// The link.
#[derive(Debug)]
pub(super) struct Watch {
    connection: Connection,
    /// It has said something since it was last asked.
    has_answered: bool,
    /// The newest leader that it told.
    news: Option<(Term, LeaderHint)>,
}

impl Watch {
    /// Has the member at the other end watch. `None`: it is gone.
    pub(super) fn begin(connection: Connection) -> Option<Self> {
        let mut watch = Self {
            connection,
            has_answered: true,
            news: None,
        };
        watch.ask().then_some(watch)
    }

    /// Asks who leads. False if the link is of no use: it is broken, or the last question was not
    /// answered.
    pub(super) fn ask(&mut self) -> bool {
        if !std::mem::take(&mut self.has_answered) {
            return false;
        }
        let mut out = BytesMut::new();
        Request::WatchLeader.encode(self.connection.next_frame_id, &mut out);
        self.connection.next_frame_id += 1;
        // Few bytes leave at once, unless nobody reads at the other end.
        self.connection.send(out, Vec::new()).is_ok() && !self.connection.is_sending()
    }

    /// Who is at the other end.
    pub(super) fn node(&self) -> NodeId {
        self.connection.welcome.identity.node
    }

    /// The leader that was told, if that is news to the node that said this hello.
    pub(super) fn leader_unknown_to(&self, welcome: &Welcome) -> Option<&LeaderHint> {
        let (told, leader) = self.news.as_ref()?;
        is_news_to(welcome, *told).then_some(leader)
    }

    /// Takes in what is there. False if the link is of no more use.
    fn take_news(&mut self) -> bool {
        if !matches!(self.connection.exchange(), Ok(Filled::Bytes)) {
            return false;
        }
        loop {
            let Ok(frame) = self.connection.frame() else {
                return false;
            };
            let Some(frame) = frame else { return true };
            let length = frame.len;
            match Reply::decode(&frame) {
                Ok(Reply::Moved { term, leader }) => {
                    self.has_answered = true;
                    let known = self.news.as_ref().map_or(Term(0), |(term, _)| *term);
                    if let Some(leader) = leader.filter(|_| term >= known) {
                        self.news = Some((term, leader));
                    }
                }
                _ => return false,
            }
            self.connection.consume(length);
        }
    }
}

/// Whether the leader of a term is news to the node that said this hello. One that does not hear its
/// leader stays in the term, for nobody would vote for it (PreVote).
pub(super) fn is_news_to(welcome: &Welcome, term: Term) -> bool {
    term > welcome.term || (term == welcome.term && welcome.leader.is_none())
}

/// Reads what is there on a connection, and sends what waits for that, waiting until `until` at most,
/// or until there is news.
pub(super) fn fill(
    connection: &mut Connection,
    watch: &mut Option<Watch>,
    until: Instant,
) -> io::Result<Filled> {
    let other = watch.as_ref().map(|watch| &watch.connection);
    let (answer, news) = await_either(connection, other, until)?;
    if news && !watch.as_mut().is_none_or(Watch::take_news) {
        *watch = None;
    }
    match answer {
        true => connection.exchange(),
        false => Ok(Filled::Nothing),
    }
}
