//! The protocol of `raftd` for the generator: each connection has a session of its own, and its
//! writes are numbered in the order of sending (rules C2).

use bytes::BytesMut;
use wire::client::{Consistency, Reply, Request};
use wire::command::{Command, SessionId, Write};
use wire::error::Error;
use wire::frame::{self, Frame, Kind};
use wire::hello::{Hello, LeaderHint, Welcome};
use wire::limits::CLIENT_FRAME_BYTES_MAX;

use super::load::{Action, Material, Operation, Random};
use super::protocol::{Answer, Leader, Protocol, Token};
use crate::client::Advice;

/// A server drops a request that it could not take up for this long.
const DEADLINE_MS: u32 = 10_000;

/// A write's place in the session.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    seq: u64,
    /// As it was first sent: the body of a retry must be the same (rules C5).
    floor: u64,
}

/// One connection's session.
///
/// Invariants: `floor <= next_seq`; every seq from `floor` up to `next_seq` is in `places` under
/// the token that waits for it.
#[derive(Debug)]
pub struct Session {
    random: Random,
    id: Option<SessionId>,
    next_seq: u64,
    floor: u64,
    /// By token.
    places: Vec<Place>,
    term: u64,
    welcomed: bool,
    consistency: Consistency,
    refusal: Option<Error>,
}

impl Session {
    /// A session whose nonce comes from `random`.
    #[must_use]
    pub fn new(random: Random) -> Self {
        Self {
            random,
            id: None,
            next_seq: 1,
            floor: 1,
            places: Vec::new(),
            term: 0,
            welcomed: false,
            consistency: Consistency::Linearizable,
            refusal: None,
        }
    }

    /// Its reads are like this.
    #[must_use]
    pub fn reading(mut self, consistency: Consistency) -> Self {
        self.consistency = consistency;
        self
    }

    /// The write's place: the one that it had if it was sent before in this session.
    fn place(&mut self, token: Token, again: bool) -> Place {
        let token = token as usize;
        if token >= self.places.len() {
            self.places.resize(token + 1, Place::default());
        }
        if !again || self.places[token].seq == 0 {
            self.places[token] = Place {
                seq: self.next_seq,
                floor: self.floor,
            };
            self.next_seq += 1;
        }
        self.places[token]
    }

    /// The session cannot go on: the next connection begins another.
    fn renew(&mut self) {
        self.id = None;
        self.next_seq = 1;
        self.floor = 1;
        self.places.clear();
    }

    fn welcome(&mut self, frame: &Frame<'_>, answers: &mut Vec<Answer>) -> Result<(), String> {
        let welcome = match frame.kind {
            Kind::Welcome => Welcome::decode(frame).map_err(|error| error.to_string())?,
            Kind::Error => {
                let refusal = Error::decode(frame).map_err(|error| error.to_string())?;
                return Err(refusal.to_string());
            }
            _ => return Err("the hello was not answered by a welcome".into()),
        };
        if self.id.is_some_and(|id| id.epoch != welcome.epoch) {
            self.renew();
        }
        if self.id.is_none() {
            self.id = Some(SessionId {
                epoch: welcome.epoch,
                born: welcome.applied,
                nonce: self.random.bits(),
            });
        }
        self.welcomed = true;
        self.term = self.term.max(welcome.term.0);
        let other = welcome.leader.filter(|l| l.node != welcome.identity.node);
        answers.push(leader(Some(welcome.term.0), other));
        answers.push(Answer::Ready);
        Ok(())
    }

    fn refused(
        &mut self,
        token: Token,
        error: Error,
        answers: &mut Vec<Answer>,
    ) -> Result<(), String> {
        let text = match error {
            Error::SessionExpired | Error::Stale | Error::IdReused | Error::BornInFuture => {
                self.renew();
                Err(error.to_string())
            }
            Error::NotLeader { leader: hint } => {
                answers.push(leader(None, Some(hint)));
                Ok(())
            }
            error => {
                if Advice::of(&error) == Advice::Refused {
                    self.refusal = Some(error);
                }
                Ok(())
            }
        };
        answers.push(Answer::Refused { token });
        text
    }
}

fn leader(term: Option<u64>, other: Option<LeaderHint>) -> Answer {
    let elsewhere = other
        .map(|l| l.client_addr)
        .filter(|address| !address.is_empty());
    Answer::Leader(Box::new(Leader { term, elsewhere }))
}

impl Protocol for Session {
    fn open(&mut self, out: &mut BytesMut) {
        self.welcomed = false;
        self.refusal = None;
        let hello = Hello::client();
        hello.encode(out);
    }

    fn send(
        &mut self,
        token: Token,
        operation: Operation,
        again: bool,
        material: &Material,
        out: &mut BytesMut,
    ) {
        let key = material.key(operation.key);
        let command = match operation.action {
            Action::Get => {
                let request = Request::Get {
                    deadline_ms: DEADLINE_MS,
                    freshness: self.consistency.into(),
                    key: &key,
                };
                request.encode(request_id(token), out);
                return;
            }
            Action::Put => Command::Put {
                key: &key,
                value: material.value(operation.value),
            },
            Action::Delete => Command::Delete { key: &key },
        };
        let place = self.place(token, again);
        let write = Write {
            session: self.id.expect("a ready connection has a session"),
            seq: place.seq,
            floor: place.floor,
            command,
        };
        let request = Request::Write {
            deadline_ms: DEADLINE_MS,
            write,
            body: &[],
        };
        request.encode(request_id(token), out);
    }

    fn receive(
        &mut self,
        input: &[u8],
        answers: &mut Vec<Answer>,
        _out: &mut BytesMut,
    ) -> Result<usize, String> {
        let mut used = 0;
        loop {
            let frame = match frame::parse(&input[used..], CLIENT_FRAME_BYTES_MAX) {
                Ok(Some(frame)) => frame,
                Ok(None) => return Ok(used),
                Err(error) => return Err(error.to_string()),
            };
            used += frame.len;
            if !self.welcomed {
                self.welcome(&frame, answers)?;
                continue;
            }
            let reply = Reply::decode(&frame).map_err(|error| error.to_string())?;
            let token = token(frame.request_id);
            match reply {
                Reply::Written { term, index, .. } => {
                    if term.0 > self.term {
                        self.term = term.0;
                        answers.push(leader(Some(term.0), None));
                    }
                    if let Some(place) = self.places.get(token as usize) {
                        // Writes of one session are answered in order (rules C5).
                        self.floor = self.floor.max(place.seq + 1);
                    }
                    self.refusal = None;
                    answers.push(Answer::Done {
                        token,
                        revision: index.0,
                    });
                }
                Reply::Value { index, .. } => answers.push(Answer::Done {
                    token,
                    revision: index.0,
                }),
                Reply::Error(error) if frame.request_id == 0 => return Err(error.to_string()),
                Reply::Error(error) => self.refused(token, error, answers)?,
                Reply::Missing { .. } => answers.push(Answer::Refused { token }),
                Reply::Page { .. }
                | Reply::Status(_)
                | Reply::SnapshotPiece { .. }
                | Reply::MembersChanged(_)
                | Reply::Admitted(_)
                | Reply::LeaderTransferred { .. }
                | Reply::LeaderChanges(_)
                | Reply::Moved { .. } => {
                    return Err("an answer to something else".into());
                }
            }
        }
    }

    fn refusal(&self) -> Option<&Error> {
        self.refusal.as_ref()
    }
}

/// Request ids begin at 1: 0 is for what nobody asked.
fn request_id(token: Token) -> u64 {
    u64::from(token) + 1
}

/// The token behind a request id; one that nothing waits for if there is none.
fn token(request_id: u64) -> Token {
    Token::try_from(request_id.wrapping_sub(1)).unwrap_or(Token::MAX)
}
