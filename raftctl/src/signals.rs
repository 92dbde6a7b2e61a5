//! SIGINT and SIGTERM end the process the usual way, except while a write is under way: then the
//! person is first told how to learn its outcome. What a person types in an editor or a pager that
//! this program has started, Ctrl-C and Ctrl-\, is theirs alone.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use signal_hook::consts::{SIGINT, SIGQUIT, SIGTERM};

/// What the handlers share with the program.
#[derive(Clone, Debug)]
pub(crate) struct Signals {
    /// Raised by a signal: whatever waits gives up.
    pub(crate) cancel: Arc<AtomicBool>,
    /// While set, a signal has its default effect.
    deadly: Arc<AtomicBool>,
    received: Arc<AtomicUsize>,
}

impl Signals {
    /// Signals have their default effect until [`Signals::hold`].
    pub(crate) fn new() -> Self {
        Self {
            cancel: Arc::default(),
            deadly: Arc::new(AtomicBool::new(true)),
            received: Arc::default(),
        }
    }

    /// While the result is there, SIGINT and SIGQUIT do nothing: a terminal sends them to this
    /// program and to a child in the foreground, which they are for. To be called before the child
    /// is started, and not after [`Signals::hold`].
    pub(crate) fn leave(&self) -> Left {
        let quits = Arc::new(AtomicBool::new(false));
        self.deadly.store(false, Ordering::Relaxed);
        for (signal, deadly) in [(SIGINT, &self.deadly), (SIGQUIT, &quits)] {
            // A handler, since the child would inherit a signal that is ignored. Where it cannot be
            // installed, the signal ends the process as before.
            let _ = signal_hook::flag::register_conditional_default(signal, Arc::clone(deadly));
        }
        Left([Arc::clone(&self.deadly), quits])
    }

    /// While the result is there, SIGTERM has `words` said before it ends the process. To be called
    /// after [`Signals::leave`].
    pub(crate) fn last_words(&self, words: String) -> io::Result<LastWords> {
        let (mut woken, wake) = UnixStream::pair()?;
        let said = thread::Builder::new().name("last words".into());
        said.spawn(move || {
            if woken.read(&mut [0]).is_ok_and(|bytes| bytes > 0) {
                // Nobody is left to tell that standard error is gone.
                let _ = io::stderr().write_all(words.as_bytes());
                let _ = signal_hook::low_level::emulate_default_handler(SIGTERM);
            }
        })?;
        signal_hook::flag::register_conditional_default(SIGTERM, Arc::clone(&self.deadly))?;
        signal_hook::low_level::pipe::register(SIGTERM, wake.try_clone()?)?;
        Ok(LastWords(wake))
    }

    /// From now on, the first signal raises `cancel`; the second ends the process.
    pub(crate) fn hold(&self) {
        for signal in [SIGINT, SIGTERM] {
            let number = usize::try_from(signal).unwrap_or(0);
            let deadly = Arc::clone(&self.deadly);
            // Where a handler cannot be installed, the signal ends the process as before.
            let _ = signal_hook::flag::register_conditional_default(signal, Arc::clone(&deadly))
                .and_then(|_| {
                    signal_hook::flag::register_usize(signal, Arc::clone(&self.received), number)
                })
                .and_then(|_| signal_hook::flag::register(signal, Arc::clone(&self.cancel)))
                .and_then(|_| signal_hook::flag::register(signal, deadly));
        }
        self.deadly.store(false, Ordering::Relaxed);
    }

    /// From now on, a signal also makes the other end of `wake` readable.
    pub(crate) fn wake(&self, wake: &UnixStream) -> io::Result<()> {
        for signal in [SIGINT, SIGTERM] {
            signal_hook::low_level::pipe::register(signal, wake.try_clone()?)?;
        }
        Ok(())
    }

    /// The exit status that [`Signals::deliver`] gives the process, as a shell tells it.
    pub(crate) fn status(&self) -> Option<u8> {
        let signal = u8::try_from(self.received.load(Ordering::Relaxed)).ok()?;
        (signal != 0).then_some(128 + signal)
    }

    /// Ends the process by the signal that was held back, if there was one.
    pub(crate) fn deliver(&self) {
        if let Ok(signal) = i32::try_from(self.received.load(Ordering::Relaxed))
            && signal != 0
        {
            // If it does not end the process, the exit code still tells that something is wrong.
            let _ = signal_hook::low_level::emulate_default_handler(signal);
        }
    }
}

/// Signals are left to a child until this is dropped; then they have their default effect again.
#[derive(Debug)]
pub(crate) struct Left([Arc<AtomicBool>; 2]);

impl Drop for Left {
    fn drop(&mut self) {
        self.0
            .iter()
            .for_each(|deadly| deadly.store(true, Ordering::Relaxed));
    }
}

/// What is said when SIGTERM comes before this is dropped.
#[derive(Debug)]
pub(crate) struct LastWords(UnixStream);

impl Drop for LastWords {
    fn drop(&mut self) {
        // Its other end reads nothing then, and goes.
        let _ = self.0.shutdown(Shutdown::Both);
    }
}
