//! A process's connections: what `raftd::net` does with sockets, done with simulated ones. The
//! rules are the driver's: phases, handshakes, deadlines, who is told what when one ends.
//!
//! Left out: the counts and budgets of the driver that only matter with thousands of connections.

use std::mem;

use bytes::BytesMut;
use raftd::net::Port;
use raftd::net::dial::Due;
use raftd::node::io::{ConnectionId, Input, Knowledge, LinkId};
use wire::client::Request;
use wire::error::Error;
use wire::frame::{self, Frame, Kind};
use wire::hello::{Hello, Role, Welcome};
use wire::peer::Message;
use wire::types::NodeId;

use super::table::{Notice, Open, Phase};
use super::vote::Claim;
use super::{Process, Surroundings, host_at};
use crate::sim::net::Socket;

impl Process {
    /// Looks at everything that came, peers first.
    pub(super) fn take_in(&mut self, around: &mut Surroundings<'_>) {
        for port in 0..2 {
            let mut ready = mem::take(&mut self.table.ready[port]);
            for name in ready.drain(..) {
                self.serve(name, around);
            }
            // What became ready meanwhile waits for the next turn.
            ready.append(&mut self.table.ready[port]);
            self.table.ready[port] = ready;
        }
    }

    fn serve(&mut self, name: u64, around: &mut Surroundings<'_>) {
        let Some(open) = self.table.get(name) else {
            return;
        };
        open.queued = false;
        if let Phase::Connecting(peer) = open.phase {
            match open.ended {
                Some(_) => self.close(name, false, "refused", around),
                None if open.answered => self.greet(name, peer),
                None => {}
            }
            return;
        }
        if !open.may_read() {
            // Nobody would read the end of a connection that is held back.
            if open.ended.is_some() {
                self.close(name, true, "closed by the other end", around);
            }
            return;
        }
        let ended = open.ended;
        let incoming = mem::take(&mut open.incoming);
        let mut input = mem::take(&mut open.input);
        let (mut used, mut came) = (0, 0);
        if incoming.is_empty() && !input.is_empty() {
            used = self.parse(name, &input, around);
            input.drain(..used);
        }
        for bytes in incoming {
            came += bytes.len();
            input.extend_from_slice(&bytes);
            let taken = self.parse(name, &input, around);
            input.drain(..taken);
            used += taken;
        }
        self.hold(name, input, used, came);
        if let Some(by_peer) = ended
            && self.table.get(name).is_some_and(|open| open.may_read())
        {
            self.close(name, by_peer, "closed by the other end", around);
        }
    }

    /// Keeps the beginning of a frame, or, after a pause, frames.
    fn hold(&mut self, name: u64, rest: Vec<u8>, used: usize, came: usize) {
        let now = self.now.monotonic;
        let Some(open) = self.table.open.get_mut(&name) else {
            return;
        };
        let whole = rest.len() >= frame::HEADER_BYTES && rest.len() >= frame::wanted(&rest);
        let is_link = matches!(open.phase, Phase::Link { .. });
        if is_link && let Err(error) = Message::check_beginning(&rest) {
            return self.refuse(name, &error, 0);
        }
        let progress = used > 0 || (is_link && came > 0);
        let before = open.frame_since;
        open.frame_since = match rest.is_empty() || whole {
            true => None,
            false if progress => Some(now),
            false => before.or(Some(now)),
        };
        if open.frame_since != before {
            self.table.deadline = None;
        }
        open.input = rest;
    }

    /// Takes whole frames off the front of `bytes` and says how many bytes they were.
    fn parse(&mut self, name: u64, bytes: &[u8], around: &mut Surroundings<'_>) -> usize {
        let mut at = 0;
        while let Some(open) = self.table.get(name) {
            let phase = open.phase;
            if phase == Phase::Leaving {
                return bytes.len();
            }
            if !open.may_read() {
                break;
            }
            match frame::parse(&bytes[at..], open.frame_bytes_max()) {
                Ok(Some(frame)) => {
                    at += frame.len;
                    self.take_frame(name, phase, &frame, around);
                }
                Ok(None) => break,
                Err(error) => {
                    self.refuse(name, &error, frame::request_id(&bytes[at..]));
                    at = bytes.len();
                }
            }
        }
        at
    }

    fn take_frame(
        &mut self,
        name: u64,
        phase: Phase,
        frame: &Frame<'_>,
        around: &mut Surroundings<'_>,
    ) {
        match phase {
            Phase::Client => self.take_request(name, frame),
            Phase::Link { peer, .. } => self.take_message(name, peer, frame, around),
            Phase::Newcomer(port) => self.take_hello(name, port, frame, around),
            Phase::Greeting { peer, asked } => self.take_welcome(name, peer, asked, frame, around),
            Phase::Connecting(_) | Phase::Leaving => {}
        }
    }

    fn take_request(&mut self, name: u64, frame: &Frame<'_>) {
        let request_id = frame.request_id;
        let request = match Request::decode(frame) {
            Ok(request) => request,
            Err(error @ Error::Malformed { .. }) => return self.refuse(name, &error, request_id),
            Err(error) => return self.table.append(name, |out| error.encode(request_id, out)),
        };
        let input = Input::Client {
            connection: ConnectionId(name),
            request_id,
            request,
        };
        self.node.step(self.now, input, &mut self.effects);
        self.apply_pauses();
    }

    fn take_message(
        &mut self,
        name: u64,
        peer: NodeId,
        frame: &Frame<'_>,
        around: &mut Surroundings<'_>,
    ) {
        if frame.kind == Kind::Error {
            return self.refused_by(name, peer, frame, around);
        }
        match Message::decode(frame) {
            Ok(message) => {
                let link = LinkId(name);
                // What comes on a link that the node has closed meanwhile is not heard.
                let mut closed = self.effects.close_links.iter();
                let is_heard = !closed.any(|(closed, _)| *closed == link);
                let claim = Claim::of(&self.node, peer, &message).filter(|_| is_heard);
                let input = Input::Peer { link, message };
                self.node.step(self.now, input, &mut self.effects);
                let refused = claim.and_then(|claim| claim.refused(&self.node));
                self.refused_vote = self.refused_vote.take().or(refused);
            }
            Err(error) => self.refuse(name, &error, 0),
        }
    }

    /// The first frame of an accepted connection.
    fn take_hello(
        &mut self,
        name: u64,
        port: Port,
        frame: &Frame<'_>,
        around: &mut Surroundings<'_>,
    ) {
        let verdict = Hello::decode(frame).and_then(|hello| {
            let wrong_port = matches!(hello.role, Role::Client) != (port == Port::Client);
            if wrong_port {
                let reason = "this port is for others".into();
                return Err(Error::WrongNode { reason });
            }
            let welcome = self.node.check_hello(&hello)?;
            Ok((hello, welcome))
        });
        let (hello, welcome) = match verdict {
            Ok(accepted) => accepted,
            Err(error) => return self.refuse(name, &error, frame.request_id),
        };
        self.table.append(name, |out| welcome.encode(out));
        match hello.role {
            Role::Client => self.table.set_phase(name, Phase::Client),
            Role::Peer { identity, .. } => {
                let (peer, link) = (identity.node, LinkId(name));
                if let Some(attempt) = self.dialler.heard(peer, self.now.monotonic)
                    && let Some(open) = self.table.remove(attempt)
                {
                    around.close(open.connection, open.end);
                }
                let dialled = false;
                self.table.set_phase(name, Phase::Link { peer, dialled });
                let input = Input::LinkAccepted { link, peer };
                self.node.step(self.now, input, &mut self.effects);
            }
        }
    }

    /// The first frame of a dialled connection.
    fn take_welcome(
        &mut self,
        name: u64,
        peer: NodeId,
        asked: Knowledge,
        frame: &Frame<'_>,
        around: &mut Surroundings<'_>,
    ) {
        if frame.kind == Kind::Error {
            return self.refused_by(name, peer, frame, around);
        }
        let verdict = Welcome::decode(frame);
        let verdict = verdict.and_then(|w| self.node.check_welcome(peer, asked, &w));
        if let Err(error) = verdict {
            return self.refuse(name, &error, 0);
        }
        self.dialler.succeeded(peer);
        let dialled = true;
        self.table.set_phase(name, Phase::Link { peer, dialled });
        let link = LinkId(name);
        let input = Input::LinkDialled { link, peer };
        self.node.step(self.now, input, &mut self.effects);
    }

    fn refused_by(
        &mut self,
        name: u64,
        peer: NodeId,
        frame: &Frame<'_>,
        around: &mut Surroundings<'_>,
    ) {
        match Error::decode(frame) {
            Ok(Error::Removed) => {
                let input = Input::RemovedBy(peer);
                self.node.step(self.now, input, &mut self.effects);
            }
            Ok(error) => self.dialler.refused(peer, &error),
            Err(_) => {}
        }
        self.close(name, false, "refused", around);
    }

    /// Tells the other end why, and ends the connection once that is written.
    pub(super) fn refuse(&mut self, name: u64, error: &Error, request_id: u64) {
        let Some(open) = self.table.get(name) else {
            return;
        };
        let phase = open.phase;
        if phase == Phase::Leaving {
            return;
        }
        self.table.append(name, |out| error.encode(request_id, out));
        self.table.set_phase(name, Phase::Leaving);
        self.depart(name, phase, false, "refused by this node");
    }

    /// Ends a connection.
    pub(super) fn close(
        &mut self,
        name: u64,
        by_peer: bool,
        why: &str,
        around: &mut Surroundings<'_>,
    ) {
        if let Some(open) = self.table.remove(name) {
            around.close(open.connection, open.end);
            self.depart(name, open.phase, by_peer, why);
        }
    }

    /// Closes a link that this node dialled, to dial again at once.
    pub(super) fn renew(&mut self, link: LinkId, around: &mut Surroundings<'_>) {
        let phase = self.table.get(link.0).map(|open| open.phase);
        if let Some(Phase::Link {
            peer,
            dialled: true,
        }) = phase
        {
            if let Some(open) = self.table.remove(link.0) {
                around.close(open.connection, open.end);
            }
            self.dialler.renew(peer, self.now.monotonic);
        }
    }

    /// These are the other members now: what was dialled to others is closed.
    pub(super) fn peers_changed(
        &mut self,
        peers: Vec<(NodeId, String)>,
        around: &mut Surroundings<'_>,
    ) {
        let gone = self.dialler.set_peers(peers);
        for name in self.table.dialled_to(&gone) {
            self.close(name, false, "no member any more, or elsewhere", around);
        }
    }

    fn depart(&mut self, name: u64, phase: Phase, by_peer: bool, why: &str) {
        let notice = match phase {
            Phase::Client => Some(Notice::ClientClosed(ConnectionId(name))),
            Phase::Link { .. } => Some(Notice::LinkClosed(LinkId(name), by_peer)),
            _ => None,
        };
        self.table.notices.extend(notice);
        if let Some(peer) = phase.dialled() {
            self.dialler.failed(peer, self.now.monotonic, why);
        }
    }

    /// Closes whoever let a deadline pass.
    pub(super) fn close_overdue(&mut self, around: &mut Surroundings<'_>) {
        let now = self.now.monotonic;
        while self
            .table
            .deadline()
            .is_some_and(|deadline| deadline <= now)
        {
            let timeouts = self.table.timeouts;
            let late = |open: &Open| open.deadline(&timeouts).is_some_and(|at| at <= now);
            let name = self.table.open.iter().find(|(_, open)| late(open));
            let Some(name) = name.map(|(name, _)| *name) else {
                break;
            };
            self.close(name, false, "too slow", around);
        }
    }

    /// Dials whom it is time to dial.
    pub(super) fn dial(&mut self, around: &mut Surroundings<'_>) {
        let now = self.now.monotonic;
        while let Some(due) = self.dialler.next_due(now) {
            let Due::Dial(peer, addr) = due else {
                unreachable!("members have addresses, not names: {due:?}");
            };
            let name = self.table.serial + 1;
            let host = self.host;
            let to = host_at(addr).expect("the address of a machine");
            let socket = Socket { host, name };
            let connection = around
                .net
                .dial(around.now, socket, to, Port::Peer, around.events);
            let phase = Phase::Connecting(peer);
            assert_eq!(
                self.table.insert(connection, 0, phase, now),
                name,
                "one by one"
            );
            self.dialler.dialled(peer, name);
        }
    }

    /// A call was taken: say hello.
    fn greet(&mut self, name: u64, peer: NodeId) {
        let (hello, asked) = self.node.hello_to(peer);
        self.table.set_phase(name, Phase::Greeting { peer, asked });
        self.table.append(name, |out| hello.encode(out));
    }

    /// Tells the node what happened to connections.
    pub(super) fn tell_notices(&mut self) {
        let mut notices = mem::take(&mut self.table.notices);
        for notice in notices.drain(..) {
            let input = match notice {
                Notice::ClientClosed(connection) => Input::ClientClosed(connection),
                Notice::ClientClogged(connection, clogged) => Input::ClientClogged {
                    connection,
                    clogged,
                },
                Notice::LinkClosed(link, by_peer) => Input::LinkClosed { link, by_peer },
            };
            self.node.step(self.now, input, &mut self.effects);
        }
        notices.append(&mut self.table.notices);
        self.table.notices = notices;
        self.apply_pauses();
    }

    /// Stops and resumes reading as the node says (rules A7).
    pub(super) fn apply_pauses(&mut self) {
        for index in 0..self.effects.readable.len() {
            let (connection, readable) = self.effects.readable[index];
            if let Some(open) = self.table.get(connection.0) {
                open.paused = !readable;
                self.table.enqueue(connection.0);
            }
        }
        self.effects.readable.clear();
    }

    /// Messages and replies go behind what the handshakes have left in the outputs.
    pub(super) fn append_messages(&mut self, around: &mut Surroundings<'_>) {
        let mut peers = mem::take(&mut self.effects.peers);
        for (link, message) in peers.drain(..) {
            let from = self.host + 1;
            let to = self.table.peer(link.0);
            let say = || format!("{from} to {to}: {}", words(&message));
            around.trace.detail(around.now, say);
            self.table.append(link.0, |out| message.encode(out));
        }
        self.effects.peers = peers;
    }

    /// See [`Process::append_messages`].
    pub(super) fn append_replies(&mut self) {
        for (connection, range) in self.effects.replies.drain(..) {
            let bytes = &self.effects.reply_bytes[range];
            let append = |out: &mut BytesMut| out.extend_from_slice(bytes);
            self.table.append(connection.0, append);
        }
        self.effects.reply_bytes.clear();
    }

    /// The next connection with something to write.
    pub(super) fn next_dirty(&mut self, at: usize) -> Option<u64> {
        self.table.dirty.get(at).copied()
    }

    /// All is written.
    pub(super) fn forget_dirty(&mut self) {
        self.table.dirty.clear();
    }

    /// Writes what waits for one connection, all at once.
    pub(super) fn write(&mut self, name: u64, around: &mut Surroundings<'_>) {
        let Some(open) = self.table.get(name) else {
            return;
        };
        open.dirty = false;
        let bytes = open.output.split().freeze();
        around.trace.number(name);
        around.trace.bytes(&bytes);
        let (connection, end, phase) = (open.connection, open.end, open.phase);
        around.send(connection, end, bytes);
        match phase {
            Phase::Leaving => {
                self.table.remove(name);
                around.close(connection, end);
            }
            Phase::Client => {
                let unread = around.net.unread_bytes(connection, end);
                self.table.judge_flow(name, unread);
            }
            _ => {}
        }
    }
}

/// A message on one line, without the bytes of its entries.
fn words(message: &Message) -> String {
    match message {
        Message::Append(append) => {
            let bytes: usize = append.entries.iter().map(|entry| entry.bytes().len()).sum();
            let (term, prev, commit) = (append.term, append.prev, append.commit);
            let (round, count) = (append.round, append.entries.len());
            format!(
                "Append term={term} prev={prev} commit={commit} round={round} entries={count} bytes={bytes}"
            )
        }
        other => format!("{other:?}"),
    }
}
