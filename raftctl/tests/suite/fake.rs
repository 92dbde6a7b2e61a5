//! A server that speaks the protocol and does what a test tells it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Duration;

use bytes::BytesMut;
use wire::client::{Freshness, Reply, Request, ScanMode, ViewChoice};
use wire::command::{Outcome, SessionId};
use wire::error::Error as WireError;
use wire::frame;
use wire::hello::{Hello, LeaderHint, PeerIdentity, Welcome};
use wire::limits::CLIENT_FRAME_BYTES_MAX;
use wire::types::{ClusterId, EntryId, Epoch, Incarnation, Index, NodeId, Term};

/// What a client asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Asked {
    /// Counts the server's connections, from 0.
    pub(crate) connection: usize,
    pub(crate) frame_id: u64,
    pub(crate) what: What,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Write(Written),
    Get(Freshness, Vec<u8>),
    Scan(Scanned),
    Status,
    Snapshot,
    ReadSnapshot(EntryId, u64),
    /// As it prints itself.
    Members {
        dry_run: bool,
        change: String,
    },
    TransferLeader(Option<NodeId>),
    Leaders,
    WatchLeader,
}

/// A page as it was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Scanned {
    pub(crate) mode: ScanMode,
    pub(crate) from: Vec<u8>,
    pub(crate) to: Option<Vec<u8>>,
    pub(crate) reverse: bool,
    pub(crate) after: Option<Vec<u8>>,
    pub(crate) limit: u32,
    pub(crate) view: ViewChoice,
}

/// A write as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) session: SessionId,
    pub(crate) seq: u64,
    pub(crate) floor: u64,
    pub(crate) deadline_ms: u32,
    pub(crate) body: Vec<u8>,
}

impl Asked {
    pub(crate) fn write(&self) -> &Written {
        match &self.what {
            What::Write(write) => write,
            other => panic!("not a write: {other:?}"),
        }
    }
}

/// What the server does about it.
pub(crate) enum Act {
    Send(BytesMut),
    /// Sends, and a moment later sends the rest and hangs up.
    Leave(BytesMut, BytesMut),
    Nothing,
    Close,
}

impl Asked {
    pub(crate) fn reply(&self, reply: &Reply<'_>) -> Act {
        let mut out = BytesMut::new();
        reply.encode(self.frame_id, &mut out);
        Act::Send(out)
    }

    pub(crate) fn done(&self, index: u64, outcome: Outcome) -> Act {
        self.reply(&Reply::Written {
            term: Term(1),
            index: Index(index),
            outcome,
        })
    }

    pub(crate) fn error(&self, error: WireError) -> Act {
        self.reply(&Reply::Error(error))
    }
}

/// What the server does with a hello.
#[derive(Clone, Debug)]
pub(crate) enum Greeting {
    Welcome,
    Refuse(WireError),
    Silence,
    /// A welcome, after this time.
    Late(Duration),
}

type Script = Box<dyn FnMut(&Asked) -> Act + Send>;

pub(crate) struct Fake {
    pub(crate) addr: String,
    shared: Arc<Shared>,
}

struct Shared {
    script: Mutex<Script>,
    asked: Mutex<Vec<Asked>>,
    hellos: Mutex<Vec<Hello>>,
    greeting: Mutex<(Greeting, Welcome)>,
}

impl Fake {
    /// A server with this id, which runs until the test ends.
    pub(crate) fn start(id: u64, script: impl FnMut(&Asked) -> Act + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let addr = listener.local_addr().unwrap().to_string();
        let shared = Arc::new(Shared {
            script: Mutex::new(Box::new(script)),
            asked: Mutex::default(),
            hellos: Mutex::default(),
            greeting: Mutex::new((Greeting::Welcome, welcome(id, &addr))),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let serving = Arc::clone(&serving);
                thread::spawn(move || serve(number, &mut stream.unwrap(), &serving));
            }
        });
        Self { addr, shared }
    }

    /// Changes how hellos are answered from now on.
    pub(crate) fn greet(&self, change: impl FnOnce(&mut Greeting, &mut Welcome)) {
        let (greeting, welcome) = &mut *self.shared.greeting.lock().unwrap();
        change(greeting, welcome);
    }

    /// Names `other` as the leader, in a term.
    pub(crate) fn name_leader(&self, other: &Self, term: u64) {
        let hint = other.hint();
        self.greet(|_, welcome| {
            welcome.leader = Some(hint);
            welcome.term = Term(term);
        });
    }

    pub(crate) fn hint(&self) -> LeaderHint {
        LeaderHint {
            node: self.shared.greeting.lock().unwrap().1.identity.node,
            client_addr: self.addr.clone(),
        }
    }

    pub(crate) fn asked(&self) -> Vec<Asked> {
        self.shared.asked.lock().unwrap().clone()
    }

    pub(crate) fn hellos(&self) -> Vec<Hello> {
        self.shared.hellos.lock().unwrap().clone()
    }
}

pub(crate) fn welcome(id: u64, addr: &str) -> Welcome {
    Welcome {
        version: 1,
        features: 0,
        cluster: ClusterId(7),
        epoch: Epoch(9),
        identity: PeerIdentity {
            node: NodeId(id),
            incarnation: Incarnation(1),
            life: 1,
            name: format!("n{id}"),
            client_addr: addr.into(),
            virgin: false,
            formed: Vec::new(),
        },
        term: Term(1),
        applied: Index(40),
        leader: None,
    }
}

/// A server takes its time.
pub(crate) fn thinks(time: Duration) {
    let (_sender, nothing) = mpsc::channel::<()>();
    let _ = nothing.recv_timeout(time);
}

/// Ends with the connection, whatever ends that.
fn serve(number: usize, stream: &mut TcpStream, shared: &Shared) -> Option<()> {
    let mut buffer = Vec::new();
    let mut greeted = false;
    loop {
        while let Some(frame) = frame::parse(&buffer, CLIENT_FRAME_BYTES_MAX).ok()? {
            let length = frame.len;
            if greeted {
                let asked = Asked {
                    connection: number,
                    frame_id: frame.request_id,
                    what: What::of(&Request::decode(&frame).ok()?),
                };
                shared.asked.lock().unwrap().push(asked.clone());
                let act = shared.script.lock().unwrap()(&asked);
                match act {
                    Act::Send(bytes) => stream.write_all(&bytes).ok()?,
                    Act::Leave(bytes, rest) => {
                        stream.write_all(&bytes).ok()?;
                        thinks(Duration::from_millis(2));
                        stream.write_all(&rest).ok()?;
                        return None;
                    }
                    Act::Nothing => {}
                    Act::Close => return None,
                }
            } else {
                let hello = Hello::decode(&frame).ok()?;
                shared.hellos.lock().unwrap().push(hello);
                let (greeting, welcome) = shared.greeting.lock().unwrap().clone();
                let mut out = BytesMut::new();
                match greeting {
                    Greeting::Welcome => welcome.encode(&mut out),
                    Greeting::Refuse(error) => error.encode(0, &mut out),
                    Greeting::Silence => {}
                    Greeting::Late(time) => {
                        thinks(time);
                        welcome.encode(&mut out);
                    }
                }
                stream.write_all(&out).ok()?;
                greeted = true;
            }
            buffer.drain(..length);
        }
        let mut chunk = [0; 65536];
        let count = stream.read(&mut chunk).ok()?;
        if count == 0 {
            return None;
        }
        buffer.extend_from_slice(&chunk[..count]);
    }
}

impl What {
    fn of(request: &Request<'_>) -> Self {
        match request {
            Request::Write {
                deadline_ms,
                write,
                body,
            } => Self::Write(Written {
                session: write.session,
                seq: write.seq,
                floor: write.floor,
                deadline_ms: *deadline_ms,
                body: body.to_vec(),
            }),
            Request::Get { freshness, key, .. } => Self::Get(*freshness, key.to_vec()),
            Request::Scan {
                mode,
                range,
                reverse,
                after,
                limit,
                view,
                ..
            } => Self::Scan(Scanned {
                mode: *mode,
                from: range.from.to_vec(),
                to: range.to.map(<[u8]>::to_vec),
                reverse: *reverse,
                after: after.map(<[u8]>::to_vec),
                limit: *limit,
                view: *view,
            }),
            Request::Status => Self::Status,
            Request::Snapshot => Self::Snapshot,
            Request::ReadSnapshot { snapshot, offset } => Self::ReadSnapshot(*snapshot, *offset),
            Request::ChangeMembers { dry_run, change } => Self::Members {
                dry_run: *dry_run,
                change: format!("{change:?}"),
            },
            Request::Join { .. } => panic!("no machine joins a script"),
            Request::TransferLeader { to, .. } => Self::TransferLeader(*to),
            Request::Leaders => Self::Leaders,
            Request::WatchLeader => Self::WatchLeader,
        }
    }
}
