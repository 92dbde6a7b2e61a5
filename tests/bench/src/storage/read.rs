//! The first linearizable read that a server serves.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use raftctl::bench::load::{Action, Material, Random};
use raftctl::bench::protocol::{Answer, Protocol};

use super::{Outcome, PATIENCE};

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(1);
/// For one answer: a server that is just starting may let a request wait.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// Tries until a read of the last key is answered.
pub fn until_served<P: Protocol>(
    endpoint: &str,
    material: &Material,
    mut make: impl FnMut() -> P,
) -> Outcome<()> {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        if attempt(endpoint, material, make()).is_some() {
            return Ok(());
        }
        thread::sleep(PAUSE);
    }
    Err("no read was served".into())
}

/// One connection, one read.
fn attempt<P: Protocol>(endpoint: &str, material: &Material, mut protocol: P) -> Option<()> {
    let mut stream = TcpStream::connect(endpoint).ok()?;
    stream.set_nodelay(true).ok()?;
    stream.set_read_timeout(Some(ANSWERS_WITHIN)).ok()?;
    let (mut input, mut out, mut answers) = (BytesMut::new(), BytesMut::new(), Vec::new());
    let mut buffer = [0; 4096];
    protocol.open(&mut out);
    loop {
        stream.write_all(&out).ok()?;
        out.clear();
        let count = stream.read(&mut buffer).ok().filter(|count| *count > 0)?;
        input.extend_from_slice(&buffer[..count]);
        let used = protocol.receive(&input, &mut answers, &mut out).ok()?;
        let _ = input.split_to(used);
        for answer in answers.drain(..) {
            match answer {
                Answer::Ready => {
                    let key = material.keys() - 1;
                    let get = material.operation(Action::Get, key, &mut Random::new(1));
                    protocol.send(0, get, false, material, &mut out);
                }
                Answer::Done { .. } => return Some(()),
                Answer::Refused { .. } => return None,
                Answer::Leader(_) => {}
            }
        }
    }
}
