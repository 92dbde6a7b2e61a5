//! The floor under every request: a TCP echo, served by one thread.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::thread;

use bytes::{BufMut, BytesMut};
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token as PollToken};
use raftctl::bench::load::{Material, Operation};
use raftctl::bench::protocol::{Answer, Protocol, Token};

/// Bytes of every message, about those of a put of 256 bytes.
const MESSAGE_BYTES: usize = 300;

/// One connection.
#[derive(Debug, Default)]
pub struct Echo {
    waiting: VecDeque<Token>,
    greeted: bool,
}

impl Protocol for Echo {
    fn open(&mut self, out: &mut BytesMut) {
        *self = Self::default();
        out.put_bytes(0, MESSAGE_BYTES);
    }

    fn send(
        &mut self,
        token: Token,
        _operation: Operation,
        _again: bool,
        _material: &Material,
        out: &mut BytesMut,
    ) {
        self.waiting.push_back(token);
        out.put_bytes(0, MESSAGE_BYTES);
    }

    fn receive(
        &mut self,
        input: &[u8],
        answers: &mut Vec<Answer>,
        _out: &mut BytesMut,
    ) -> Result<usize, String> {
        let messages = input.len() / MESSAGE_BYTES;
        for _ in 0..messages {
            if !self.greeted {
                self.greeted = true;
                answers.push(Answer::Ready);
                continue;
            }
            let token = self.waiting.pop_front().ok_or("an echo of nothing")?;
            answers.push(Answer::Done { token, revision: 0 });
        }
        Ok(messages * MESSAGE_BYTES)
    }
}

/// Starts the server; it lives as long as the process.
///
/// # Errors
/// The listener cannot be made.
pub fn serve() -> io::Result<SocketAddr> {
    let mut listener = TcpListener::bind(([127, 0, 0, 1], 0).into())?;
    let address = listener.local_addr()?;
    let poll = Poll::new()?;
    poll.registry()
        .register(&mut listener, PollToken(usize::MAX), Interest::READABLE)?;
    thread::spawn(move || {
        if let Err(error) = run(poll, &listener) {
            eprintln!("echo: {error}");
        }
    });
    Ok(address)
}

fn run(mut poll: Poll, listener: &TcpListener) -> io::Result<()> {
    let mut events = Events::with_capacity(256);
    let mut streams: Vec<Option<TcpStream>> = Vec::new();
    let mut buffer = vec![0; 64 * 1024];
    loop {
        match poll.poll(&mut events, None) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            other => other?,
        }
        for event in &events {
            let PollToken(i) = event.token();
            if i == usize::MAX {
                while let Ok((mut stream, _)) = listener.accept() {
                    stream.set_nodelay(true)?;
                    let token = PollToken(streams.len());
                    poll.registry()
                        .register(&mut stream, token, Interest::READABLE)?;
                    streams.push(Some(stream));
                }
            } else if let Some(stream) = &mut streams[i]
                && !echo(stream, &mut buffer)
            {
                streams[i] = None;
            }
        }
    }
}

/// Echoes what is there; `false` once the connection is over.
fn echo(stream: &mut TcpStream, buffer: &mut [u8]) -> bool {
    loop {
        match stream.read(buffer) {
            Ok(0) => return false,
            Ok(read) => {
                if stream.write_all(&buffer[..read]).is_err() {
                    return false;
                }
                if read < buffer.len() {
                    return true;
                }
            }
            Err(error) => return error.kind() == io::ErrorKind::WouldBlock,
        }
    }
}
