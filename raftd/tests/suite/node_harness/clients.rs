//! Client connections to the simulated nodes.

use std::collections::BTreeMap;

use bytes::BytesMut;
use raftd::node::io::{ConnectionId, Input};
use wire::client::{Reply, Request};
use wire::frame;
use wire::limits::CLIENT_FRAME_BYTES_MAX;
use wire::types::NodeId;

use super::{Cluster, Connection, ms};

impl Cluster {
    /// A connection to a node that is up.
    pub(crate) fn connect(&mut self, to: NodeId) -> ConnectionId {
        assert!(self.is_up(to), "the node is up");
        self.serial += 1;
        let id = ConnectionId(self.serial);
        let connection = Connection {
            to,
            replies: BTreeMap::new(),
            news: Vec::new(),
            readable: true,
            broken: false,
        };
        self.connections.insert(id, connection);
        id
    }

    /// Sends requests in one turn of the node.
    pub(crate) fn send(&mut self, connection: ConnectionId, requests: &[(u64, Request<'_>)]) {
        let to = self.connections[&connection].to;
        if self.connections[&connection].broken || !self.is_up(to) {
            return;
        }
        let mut bytes = BytesMut::new();
        for (request_id, request) in requests {
            request.encode(*request_id, &mut bytes);
        }
        let mut inputs = Vec::new();
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            let frame = frame::parse(rest, CLIENT_FRAME_BYTES_MAX)
                .unwrap()
                .expect("whole frames");
            inputs.push(Input::Client {
                connection,
                request_id: frame.request_id,
                request: Request::decode(&frame).unwrap(),
            });
            rest = &rest[frame.len..];
        }
        self.turn(to, inputs);
    }

    /// Closes a client's connection.
    pub(crate) fn hang_up(&mut self, connection: ConnectionId) {
        let to = self.connections.remove(&connection).expect("it is open").to;
        if self.is_up(to) {
            self.turn(to, vec![Input::ClientClosed(connection)]);
        }
    }

    /// The client does not read its replies, or goes on.
    pub(crate) fn clog(&mut self, connection: ConnectionId, clogged: bool) {
        let to = self.connections[&connection].to;
        let clogged = Input::ClientClogged {
            connection,
            clogged,
        };
        self.turn(to, vec![clogged]);
    }

    /// What was answered to a request, if it was.
    pub(crate) fn reply(&self, connection: ConnectionId, request_id: u64) -> Option<Reply<'_>> {
        let bytes = self
            .connections
            .get(&connection)?
            .replies
            .get(&request_id)?;
        let frame = frame::parse(bytes, CLIENT_FRAME_BYTES_MAX)
            .unwrap()
            .unwrap();
        Some(Reply::decode(&frame).unwrap())
    }

    /// What the connection was told unasked, oldest first.
    pub(crate) fn news(&self, connection: ConnectionId) -> Vec<Reply<'_>> {
        let news = self.connections[&connection].news.iter();
        let decoded = news.map(|bytes| {
            let frame = frame::parse(bytes, CLIENT_FRAME_BYTES_MAX)
                .unwrap()
                .unwrap();
            Reply::decode(&frame).unwrap()
        });
        decoded.collect()
    }

    /// How many requests of the connection were answered.
    pub(crate) fn answered(&self, connection: ConnectionId) -> usize {
        self.connections[&connection].replies.len()
    }

    /// Whether the connection is open, or has replies left.
    pub(crate) fn is_connected(&self, connection: ConnectionId) -> bool {
        self.connections
            .get(&connection)
            .is_some_and(|connection| !connection.broken)
    }

    /// Whether the node wants the connection read.
    pub(crate) fn is_readable(&self, connection: ConnectionId) -> bool {
        self.connections[&connection].readable
    }

    /// Sends one request, waits for its reply and returns it.
    pub(crate) fn ask(
        &mut self,
        connection: ConnectionId,
        request_id: u64,
        request: Request<'_>,
    ) -> Reply<'_> {
        self.send(connection, &[(request_id, request)]);
        self.await_reply(connection, request_id)
    }

    /// Waits for a reply, at most ten seconds.
    pub(crate) fn await_reply(&mut self, connection: ConnectionId, request_id: u64) -> Reply<'_> {
        self.run_until("a reply", ms(10_000), |cluster| {
            cluster.reply(connection, request_id).is_some()
        });
        self.reply(connection, request_id).unwrap()
    }
}
