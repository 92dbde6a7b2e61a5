//! SIGTERM, SIGINT and SIGHUP as readable bytes on a socket that the loop polls.

use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::{flag, low_level};

use crate::fatal::{ExitStatus, Fatal};

/// The reading end of the pipe that the signal handlers write to.
#[derive(Debug)]
pub struct StopSignals {
    socket: mio::net::UnixStream,
    /// Nobody looks at the socket: a signal ends the process.
    unheard: Arc<AtomicBool>,
}

impl StopSignals {
    /// Takes over SIGTERM and SIGINT of the process, and SIGHUP unless it is ignored.
    ///
    /// # Errors
    /// No descriptor is left, or the kernel refuses the handler.
    pub fn install() -> Result<Self, Fatal> {
        Self::try_install().map_err(|error| {
            Fatal::new(
                ExitStatus::Bug,
                format!("installing signal handlers failed: {error}"),
            )
        })
    }

    fn try_install() -> std::io::Result<Self> {
        let (reader, writer) = UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        let unheard = Arc::new(AtomicBool::new(false));
        let hangup = (!is_hangup_ignored()).then_some(SIGHUP);
        for signal in [SIGTERM, SIGINT].into_iter().chain(hangup) {
            flag::register_conditional_shutdown(signal, 0, Arc::clone(&unheard))?;
            low_level::pipe::register(signal, writer.try_clone()?)?;
        }
        Ok(Self {
            socket: mio::net::UnixStream::from_std(reader),
            unheard,
        })
    }

    /// Does what may take long and leaves, wherever it is cut off, nothing to be ended in order: a
    /// signal ends the process at once, with status 0.
    pub fn end_at_once_during<T>(&self, work: impl FnOnce() -> T) -> T {
        self.unheard.store(true, Ordering::Relaxed);
        let done = work();
        self.unheard.store(false, Ordering::Relaxed);
        done
    }

    /// What to register with the poll.
    pub fn source(&mut self) -> &mut mio::net::UnixStream {
        &mut self.socket
    }

    /// How many signals came since the last call.
    pub fn take(&mut self) -> usize {
        let mut count = 0;
        let mut bytes = [0_u8; 16];
        loop {
            match self.socket.read(&mut bytes) {
                Ok(0) => return count,
                Ok(read) => count += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // Drained; any other error would show no signal either.
                Err(_) => return count,
            }
        }
    }
}

/// Whether the process is to outlive its terminal, as nohup(1) has it.
fn is_hangup_ignored() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    // Where nobody can tell, the signal keeps the effect that it has.
    ignored.is_none_or(|mask| mask & (1 << (SIGHUP - 1)) != 0)
}
