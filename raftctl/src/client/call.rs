//! The turns of a call: reach a node, send, receive, and follow what the answer advises.

use std::time::{Duration, Instant};

use bytes::BytesMut;
use wire::client::{Reply, Request};
use wire::command::SessionId;
use wire::error::{Class, Error as WireError};
use wire::hello::{LeaderHint, Welcome};

use super::Client;
use super::connection::{Connection, Filled, LOOK, describe};
use super::error::{Cause, Error, Why};
use super::route::{Advice, Deadline, Router};
use super::watch::{self, Watch};

/// Bytes of queued writes handed to the kernel at once; one write always fits.
const SEND_BYTES_MAX: usize = 256 * 1024;
/// After this long without an answer another member is asked who leads (rules B5). Doubles
/// while the silence lasts, up to [`SILENCE_MAX`].
const SILENCE: Duration = Duration::from_millis(100);
const SILENCE_MAX: Duration = Duration::from_millis(1600);
/// Time for that question.
const ASK_TIMEOUT: Duration = Duration::from_millis(250);

/// What to do before anything more is sent.
#[derive(Debug)]
pub(super) enum Next {
    /// Go to the leader that a server named.
    To(LeaderHint),
    /// Go to any other node.
    Away,
    /// Wait at least this many milliseconds.
    Stay(u64),
}

/// Who may answer a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Whom {
    Leader,
    Anyone,
    /// The node that the client is connected to, on this very connection.
    Here,
}

/// Why a call cannot go on.
pub(super) enum Stop {
    /// No endpoint completed the hello during the call.
    Unreachable(Vec<Cause>),
    Why(Why),
}

/// What the hello of a node says of a request that is to be sent to it.
pub(super) enum Meeting {
    /// It may be asked.
    Ask,
    /// It need not be asked: it is settled.
    Settled,
    /// It is not whom to ask; maybe another is, or it is a moment later.
    Wrong,
}

/// Reads under way: they are sent behind the queued writes, and again wherever the call goes on.
pub(super) trait Reading {
    /// Whether the node that said hello is asked.
    fn meet(&mut self, _: &Welcome) -> Meeting {
        Meeting::Ask
    }
    /// Whether one is to be sent.
    fn is_sending(&self) -> bool;
    /// Whether an answer is awaited on the current connection.
    fn is_awaiting(&self) -> bool;
    /// Appends what is to be sent.
    fn encode(&mut self, out: &mut BytesMut, next_frame_id: &mut u64, deadline_ms: u32);
    /// Takes in a reply; `None` if it is to none of them.
    fn take_reply(&mut self, frame_id: u64, reply: &Reply<'_>) -> Option<Advice>;
    /// What was awaited on the connection does not come.
    fn connection_lost(&mut self);
}

/// One read under way.
pub(super) struct Read<'a> {
    /// Makes the request, given what is left of the deadline in milliseconds.
    pub(super) request: &'a dyn Fn(u32) -> Request<'a>,
    /// Told who would be asked, before it is.
    pub(super) meet: Option<&'a mut dyn FnMut(&Welcome) -> Meeting>,
    /// Takes the reply; false if it is none to such a request.
    pub(super) take: &'a mut dyn FnMut(&Reply<'_>) -> bool,
    /// The frame that is awaited on the current connection.
    pub(super) frame_id: Option<u64>,
    /// It left earlier and got no verdict: it may have had its effect.
    pub(super) exposed: bool,
    pub(super) result: Option<Result<(), WireError>>,
}

/// What one call has seen so far.
pub(super) struct Call {
    deadline: Deadline,
    whom: Whom,
    /// A hello was completed.
    met_someone: bool,
    /// Redirects followed and connections lost since something last worked: the first costs no
    /// back-off.
    detours: u32,
    silence: Duration,
    /// When it will have been silent for so long.
    quiet_until: Option<Instant>,
    /// The last thing that stood in the way.
    last: Option<Why>,
}

impl Call {
    fn new(deadline: Deadline, whom: Whom, met_someone: bool) -> Self {
        Self {
            deadline,
            whom,
            met_someone,
            detours: 0,
            silence: SILENCE,
            quiet_until: None,
            last: None,
        }
    }

    /// A write that is out of order is so because of what became of one before it: that tells more.
    fn stands_in_the_way(&mut self, error: &WireError) {
        if self.last.is_none() || !matches!(error, WireError::OutOfOrder { .. }) {
            self.last = Some(Why::Server(error.clone()));
        }
    }

    /// The call ends: for the last known obstacle, which tells more than the passing of time.
    fn expired(&self) -> Stop {
        Stop::Why(self.last.clone().unwrap_or(Why::Deadline))
    }
}

impl Client {
    pub(super) fn begin(&mut self, whom: Whom, deadline: Deadline) -> Call {
        self.router.reset_back_off();
        Call::new(deadline, whom, self.connection.is_some())
    }

    /// One step towards the verdict of the writes in flight and of `read`. Once the call cannot go
    /// on, nothing of it leaves any more.
    pub(super) fn turn(
        &mut self,
        call: &mut Call,
        read: Option<&mut dyn Reading>,
    ) -> Result<(), Stop> {
        let turned = self.step(call, read);
        if turned.is_err() && self.connection.as_ref().is_some_and(Connection::is_sending) {
            self.hang_up();
        }
        turned
    }

    fn step(&mut self, call: &mut Call, mut read: Option<&mut dyn Reading>) -> Result<(), Stop> {
        if self.router.is_cancelled() {
            return Err(Stop::Why(Why::Cancelled));
        }
        if call.deadline.is_over() {
            return Err(call.expired());
        }
        let asked = read.as_ref().is_some_and(|read| read.is_awaiting());
        let awaiting = asked || self.session.is_awaiting();
        if !awaiting {
            match self.next.take() {
                Some(next) => self.follow(call, next),
                None => self.reach(call)?,
            }
            if self.connection.is_none() {
                return Ok(());
            }
        }
        if self.next.is_none() {
            let met = match (&mut read, &self.connection) {
                (Some(read), Some(connection)) if read.is_sending() => {
                    read.meet(&connection.welcome)
                }
                _ => Meeting::Ask,
            };
            match met {
                Meeting::Ask => self.send(call, reborrow(&mut read))?,
                Meeting::Settled => return Ok(()),
                Meeting::Wrong => {
                    self.lose(call, Why::Server(WireError::NoLeader), read);
                    return Ok(());
                }
            }
        }
        self.receive(call, read)
    }

    /// Makes a connection, and draws the name of a session that begins there.
    pub(super) fn arrive(&mut self, call: &mut Call) -> Result<SessionId, Error> {
        loop {
            let stopped = if self.router.is_cancelled() {
                Err(Stop::Why(Why::Cancelled))
            } else if call.deadline.is_over() {
                Err(call.expired())
            } else {
                self.reach(call)
            };
            match (stopped, &self.connection) {
                (Ok(()), Some(connection)) => {
                    return Ok(name_of_session(&connection.welcome, &mut self.router));
                }
                (Ok(()), None) => {}
                (Err(Stop::Unreachable(causes)), _) => return Err(Error::Unreachable { causes }),
                (Err(Stop::Why(why)), _) => {
                    let place = self.session.place.clone();
                    return Err(Error::NotApplied { why, place });
                }
            }
        }
    }

    /// Makes a connection if there is none. One that ended while nothing was asked of it is none:
    /// what is sent on it would get no verdict.
    fn reach(&mut self, call: &mut Call) -> Result<(), Stop> {
        if self.connection.as_mut().is_some_and(Connection::is_open) {
            return Ok(());
        }
        self.connection = None;
        if call.whom == Whom::Here {
            // What was asked of it went with the connection.
            return Err(Stop::Why(Why::Server(WireError::ViewGone)));
        }
        match self.router.dial_any(None, call.deadline) {
            Ok(connection) => {
                call.met_someone = true;
                self.settle_on(call, connection);
                Ok(())
            }
            Err(_) if self.router.is_cancelled() => Err(Stop::Why(Why::Cancelled)),
            Err(causes) if !call.met_someone => Err(Stop::Unreachable(causes)),
            Err(causes) => {
                let texts: Vec<_> = causes.iter().map(ToString::to_string).collect();
                call.last.get_or_insert(Why::Connection(texts.join("; ")));
                self.router.back_off(0, call.deadline);
                Ok(())
            }
        }
    }

    /// Takes the connection, or a better one: to the leader that its server named.
    fn settle_on(&mut self, call: &Call, connection: Connection) {
        let welcome = &connection.welcome;
        let better = match &welcome.leader {
            Some(hint)
                if call.whom == Whom::Leader
                    && hint.node != welcome.identity.node
                    && !hint.client_addr.is_empty() =>
            {
                self.router.dial_hint(hint, call.deadline).ok()
            }
            _ => None,
        };
        let connection = better.unwrap_or(connection);
        // A node that hangs does not tell that it does.
        self.watch
            .take_if(|watch| watch.node() == connection.welcome.identity.node);
        self.session.place.clone_from(&connection.endpoint);
        self.connection = Some(connection);
    }

    /// Connects to the leader that somebody named.
    fn go_to(&mut self, call: &mut Call, leader: &LeaderHint) {
        match self.router.dial_hint(leader, call.deadline) {
            Ok(connection) => self.settle_on(call, connection),
            Err(cause) => call.last = Some(Why::Connection(cause.to_string())),
        }
    }

    /// Does what the last answer advised. A node that is no better than before keeps its place.
    fn follow(&mut self, call: &mut Call, next: Next) {
        match next {
            Next::To(hint) if !hint.client_addr.is_empty() => {
                call.detours += 1;
                if call.detours > 1 {
                    self.router.back_off(0, call.deadline);
                }
                self.go_to(call, &hint);
            }
            Next::To(_) => self.router.back_off(0, call.deadline),
            Next::Away => {
                self.router.back_off(0, call.deadline);
                let here = self.connection.as_ref().map(|c| c.endpoint.clone());
                if let Ok(connection) = self.router.dial_any(here.as_deref(), call.deadline) {
                    self.settle_on(call, connection);
                }
            }
            Next::Stay(least_ms) => self.router.back_off(least_ms, call.deadline),
        }
    }

    /// Sends the queued writes, then the reads.
    fn send(&mut self, call: &mut Call, mut read: Option<&mut dyn Reading>) -> Result<(), Stop> {
        let writing = self.session.is_sending() && !self.session.is_draining();
        let reading = read.as_ref().is_some_and(|read| read.is_sending());
        let connection = self.connection.as_mut().expect("reach made a connection");
        if (!writing && !reading) || connection.is_sending() {
            return Ok(());
        }
        if call.deadline.is_nearly_over() {
            // What is sent now would probably get no verdict in time.
            return Err(call.expired());
        }
        let born = name_of_session(&connection.welcome, &mut self.router);
        if writing {
            self.session.name_writes(|| born);
        }
        let deadline_ms = call.deadline.for_server_ms();
        let mut sent = Ok(());
        while writing && sent.is_ok() && !connection.is_sending() && self.session.is_sending() {
            let mut out = BytesMut::new();
            let next_id = &mut connection.next_frame_id;
            let starts = self
                .session
                .encode(&mut out, next_id, deadline_ms, SEND_BYTES_MAX);
            sent = connection.send(out, starts);
        }
        if let Some(read) = read.as_mut().filter(|_| reading)
            && sent.is_ok()
            && !connection.is_sending()
        {
            let mut out = BytesMut::new();
            read.encode(&mut out, &mut connection.next_frame_id, deadline_ms);
            sent = connection.send(out, Vec::new());
        }
        if let Err(error) = sent {
            self.lose(call, Why::Connection(describe(&error)), read);
        }
        Ok(())
    }

    /// Waits for answers and takes them in.
    fn receive(&mut self, call: &mut Call, mut read: Option<&mut dyn Reading>) -> Result<(), Stop> {
        let Some(connection) = &mut self.connection else {
            return Ok(());
        };
        let now = Instant::now();
        let quiet_until = *call.quiet_until.get_or_insert(now + call.silence);
        let until = quiet_until.min(call.deadline.end()).min(now + LOOK);
        match watch::fill(connection, &mut self.watch, until) {
            Ok(Filled::Bytes) => {}
            Ok(Filled::Left) => {
                call.quiet_until = None;
                return Ok(());
            }
            Ok(Filled::Nothing) => {
                if let Some(leader) = self.another_leader(call) {
                    self.lose(call, Why::Deadline, read);
                    self.next = Some(Next::To(leader));
                    return Ok(());
                }
                if Instant::now() >= quiet_until && !call.deadline.is_over() {
                    call.silence = (call.silence * 2).min(SILENCE_MAX);
                    call.quiet_until = None;
                    self.ask_another(call, read);
                }
                return Ok(());
            }
            Err(error) => {
                self.lose(call, Why::Connection(describe(&error)), read);
                return Ok(());
            }
        }
        call.silence = SILENCE;
        call.quiet_until = None;
        loop {
            match self.take_frame(call, reborrow(&mut read)) {
                Ok(true) => {}
                Ok(false) => return Ok(()),
                Err(why) => {
                    self.lose(call, why, read);
                    return Ok(());
                }
            }
        }
    }

    /// Takes in one complete frame; false if there is none.
    fn take_frame(&mut self, call: &mut Call, read: Option<&mut dyn Reading>) -> Result<bool, Why> {
        let Some(connection) = &mut self.connection else {
            return Ok(false);
        };
        let protocol = |error: WireError| Why::Connection(format!("bad frame: {error}"));
        let Some(frame) = connection.frame().map_err(protocol)? else {
            return Ok(false);
        };
        let (length, frame_id) = (frame.len, frame.request_id);
        let reply = Reply::decode(&frame).map_err(protocol)?;
        let mut advice = None;
        if frame_id == 0 {
            if let Reply::Error(error) = reply {
                return Err(Why::Server(error));
            }
        } else {
            advice = read.and_then(|read| read.take_reply(frame_id, &reply));
            advice = advice.or_else(|| self.session.take_reply(frame_id, &reply));
        }
        if let (Reply::Error(error), Some(_)) = (&reply, &advice) {
            call.stands_in_the_way(error);
        }
        connection.consume(length);
        match advice {
            None | Some(Advice::Refused) => {}
            Some(Advice::Done) => {
                call.detours = 0;
                self.router.reset_back_off();
            }
            Some(Advice::Redirect(hint)) => self.next = Some(Next::To(hint)),
            Some(Advice::Elsewhere) => self.next = Some(Next::Away),
            Some(Advice::Later(least_ms)) => {
                self.next.get_or_insert(Next::Stay(least_ms));
            }
            Some(Advice::Protocol(text)) => return Err(Why::Connection(text.into())),
        }
        Ok(true)
    }

    /// The connection is of no more use: what was sent on it has no verdict. Where its server said to
    /// go is where it goes on.
    fn lose(&mut self, call: &mut Call, why: Why, read: Option<&mut dyn Reading>) {
        self.hang_up();
        if let Some(read) = read {
            read.connection_lost();
        }
        call.quiet_until = None;
        call.last = Some(why);
        call.detours += 1;
        if call.detours > 1 {
            self.router.back_off(0, call.deadline);
        }
    }

    /// Ends the connection: of the writes that were sent on it, those that left may be applied.
    fn hang_up(&mut self) {
        if let Some(connection) = self.connection.take() {
            self.session.unsend(&connection.never_left());
        }
        self.session.connection_lost();
    }

    /// Another member than the one that is asked leads by now, as is told on the second link.
    fn another_leader(&self, call: &Call) -> Option<LeaderHint> {
        let (here, watch) = (self.connection.as_ref()?, self.watch.as_ref()?);
        let leader = watch.leader_unknown_to(&here.welcome)?;
        let is_other = leader.node != here.welcome.identity.node && !leader.client_addr.is_empty();
        (call.whom == Whom::Leader && is_other).then(|| leader.clone())
    }

    /// Nobody answers: asks another member who leads, goes there if it is someone else, and else
    /// keeps the link, to be told when it is (rules B5).
    fn ask_another(&mut self, call: &mut Call, read: Option<&mut dyn Reading>) {
        let Some(here) = &self.connection else { return };
        if call.whom == Whom::Here {
            return;
        }
        if self.next.is_some() {
            // It was already known to be the wrong place.
            self.lose(call, Why::Deadline, read);
            return;
        }
        if call.whom == Whom::Leader && !self.router.has_others(&here.endpoint) {
            return;
        }
        if call.whom == Whom::Leader && self.watch.as_mut().is_some_and(Watch::ask) {
            return;
        }
        self.watch = None;
        let (endpoint, welcome) = (here.endpoint.clone(), here.welcome.clone());
        // The answer that is awaited may come meanwhile: there must be time left to read it.
        let limit = Deadline::after((call.deadline.left() / 2).min(ASK_TIMEOUT));
        let Ok(other) = self.router.dial_any(Some(&endpoint), limit) else {
            return;
        };
        let moved = match &other.welcome.leader {
            Some(leader) => {
                leader.node != welcome.identity.node
                    && watch::is_news_to(&welcome, other.welcome.term)
            }
            None => false,
        };
        if moved || call.whom == Whom::Anyone {
            self.lose(call, Why::Deadline, read);
            self.settle_on(call, other);
        } else {
            self.watch = Watch::begin(other);
        }
    }
}

/// A session that begins now, with the node that said hello (rules C2).
fn name_of_session(welcome: &Welcome, router: &mut Router) -> SessionId {
    SessionId {
        epoch: welcome.epoch,
        born: welcome.applied,
        nonce: router.draw(),
    }
}

impl Reading for Read<'_> {
    fn meet(&mut self, welcome: &Welcome) -> Meeting {
        let meeting = match &mut self.meet {
            Some(meet) => meet(welcome),
            None => Meeting::Ask,
        };
        if let Meeting::Settled = meeting {
            self.result = Some(Ok(()));
        }
        meeting
    }

    fn is_sending(&self) -> bool {
        self.frame_id.is_none()
    }

    fn is_awaiting(&self) -> bool {
        self.frame_id.is_some()
    }

    fn encode(&mut self, out: &mut BytesMut, next_frame_id: &mut u64, deadline_ms: u32) {
        (self.request)(deadline_ms).encode(*next_frame_id, out);
        self.frame_id = Some(*next_frame_id);
        *next_frame_id += 1;
    }

    fn take_reply(&mut self, frame_id: u64, reply: &Reply<'_>) -> Option<Advice> {
        self.frame_id.take_if(|asked| *asked == frame_id)?;
        if let Reply::Error(error) = reply {
            self.exposed |= error.class() == Class::Unknown;
            let advice = Advice::of(error);
            if advice == Advice::Refused {
                self.result = Some(Err(error.clone()));
            }
            return Some(advice);
        }
        if !(self.take)(reply) {
            self.exposed = true;
            return Some(Advice::Protocol("the answer does not fit the request"));
        }
        self.result = Some(Ok(()));
        Some(Advice::Done)
    }

    fn connection_lost(&mut self) {
        self.exposed |= self.frame_id.take().is_some();
    }
}

/// The same reads, for a part of the turn.
fn reborrow<'a>(read: &'a mut Option<&mut dyn Reading>) -> Option<&'a mut dyn Reading> {
    match read {
        Some(read) => Some(&mut **read),
        None => None,
    }
}
