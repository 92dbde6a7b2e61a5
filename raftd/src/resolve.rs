//! Names resolved off the loop: `getaddrinfo` may take as long as it likes.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use wire::limits::MEMBERS_MAX;

/// The answer to [`Resolver::ask`].
#[derive(Debug)]
pub struct Resolved {
    /// What was asked for.
    pub name: String,
    /// Its addresses in the system's order of preference, or why there are none.
    pub addresses: Result<Vec<SocketAddr>, String>,
}

/// A thread that turns `HOST:PORT` into addresses.
///
/// Invariants:
/// - At most [`MEMBERS_MAX`] questions and as many answers wait: a question that finds no room is
///   refused and asked again after the dialler's back-off.
/// - The loop never waits for it. A lookup that hangs delays later ones, which the dialler's own
///   deadline counts as failures.
/// - It ends when the resolver is dropped, after the lookup that it may be in.
#[derive(Debug)]
pub struct Resolver {
    questions: SyncSender<String>,
    answers: Receiver<Resolved>,
}

impl Resolver {
    /// Starts the thread, which calls `notify` after each answer.
    ///
    /// # Errors
    /// The system has no room for a thread.
    pub fn start(notify: impl Fn() + Send + 'static) -> io::Result<Self> {
        let (questions, asked) = sync_channel::<String>(MEMBERS_MAX);
        let (answer, answers) = sync_channel(MEMBERS_MAX);
        thread::Builder::new()
            .name("resolver".into())
            .spawn(move || {
                for name in asked {
                    let addresses = resolve(&name);
                    if answer.send(Resolved { name, addresses }).is_err() {
                        return;
                    }
                    notify();
                }
            })?;
        Ok(Self { questions, answers })
    }

    /// Asks for the addresses of a name. False if too many questions wait already.
    #[must_use]
    pub fn ask(&self, name: String) -> bool {
        self.questions.try_send(name).is_ok()
    }

    /// The next answer, if there is one.
    #[must_use]
    pub fn next(&self) -> Option<Resolved> {
        self.answers.try_recv().ok()
    }
}

fn resolve(name: &str) -> Result<Vec<SocketAddr>, String> {
    let addresses: Vec<_> = name
        .to_socket_addrs()
        .map_err(|error| error.to_string())?
        .collect();
    if addresses.is_empty() {
        return Err("the name has no address".into());
    }
    Ok(addresses)
}
