//! One direction of one connection: bytes on their way.

use std::collections::VecDeque;
use std::io::{self, ErrorKind, Write};
use std::net::Shutdown;
use std::time::{Duration, Instant};

use mio::net::TcpStream;

/// Bytes that may be on their way; beyond, the source is not read.
const QUEUED_BYTES_MAX: usize = 1024 * 1024;
/// What a throttled flow passes at a time.
const SIP_BYTES: usize = 256;

/// How the source ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum End {
    Closed,
    Reset,
}

/// What became of bytes that were taken.
#[derive(Debug, Default)]
pub(super) struct Passed {
    /// They were lost.
    pub(super) lost: bool,
    /// Troubles that harmed them.
    pub(super) bitten: Vec<u64>,
}

/// Bytes that were read and not yet written, oldest first, each piece with the time from which it
/// may be written.
///
/// Invariants: times ascend; at most [`QUEUED_BYTES_MAX`] and one read are queued; nothing is
/// read after the end.
#[derive(Debug, Default)]
pub(super) struct Flow {
    queue: VecDeque<(Instant, Vec<u8>)>,
    /// Bytes of the first piece that were written.
    written: usize,
    queued_bytes: usize,
    /// The last thing to be passed on.
    end: Option<End>,
    /// It was passed on.
    ended: bool,
    /// When the next sip of a throttled flow may pass.
    next_sip: Option<Instant>,
    /// The caller's first bytes, until it is known whose they are.
    pub(super) greeting: Vec<u8>,
    /// The source may have bytes.
    pub(super) readable: bool,
    /// The sink may take bytes.
    pub(super) writable: bool,
}

impl Flow {
    /// Whether the source is to be read.
    pub(super) fn wants(&self) -> bool {
        self.readable && self.end.is_none() && self.queued_bytes < QUEUED_BYTES_MAX
    }

    /// The source has ended.
    pub(super) fn end(&mut self, end: End) {
        self.end = Some(end);
        self.readable = false;
    }

    /// Bytes that may be written from `due` on.
    pub(super) fn push(&mut self, bytes: Vec<u8>, due: Instant) {
        let after = self.queue.back().map_or(due, |(last, _)| due.max(*last));
        self.queued_bytes += bytes.len();
        self.queue.push_back((after, bytes));
    }

    /// Writes what is due, at most `rate` bytes per second. True if the rate held bytes back.
    pub(super) fn deliver(
        &mut self,
        sink: &mut TcpStream,
        rate: Option<u64>,
        now: Instant,
    ) -> io::Result<bool> {
        if rate.is_none() {
            self.next_sip = None;
        }
        while let Some((due, piece)) = self.queue.front() {
            if *due > now || !self.writable {
                return Ok(false);
            }
            if self.next_sip.is_some_and(|at| at > now) {
                return Ok(true);
            }
            let rest = &piece[self.written..];
            let sip = if rate.is_some() {
                rest.len().min(SIP_BYTES)
            } else {
                rest.len()
            };
            match sink.write(&rest[..sip]) {
                Ok(count) => {
                    self.written += count;
                    self.queued_bytes -= count;
                    let micros = rate.map(|rate| count as u64 * 1_000_000 / rate.max(1));
                    self.next_sip = micros.map(|micros| now + Duration::from_micros(micros));
                    if self.written == piece.len() {
                        self.queue.pop_front();
                        self.written = 0;
                    }
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if is_not_yet(&error) => self.writable = false,
                Err(error) => return Err(error),
            }
        }
        if self.end == Some(End::Closed) && !self.ended {
            // Whoever is gone already needs no word.
            let _ = sink.shutdown(Shutdown::Write);
        }
        self.ended = self.end.is_some();
        Ok(false)
    }

    /// Whether everything was passed on, its end too.
    pub(super) fn is_over(&self) -> bool {
        self.ended
    }

    /// Whether the source's reset was reached.
    pub(super) fn was_reset(&self) -> bool {
        self.ended && self.end == Some(End::Reset)
    }

    /// When the next byte may be written, if one waits for time and not for the sink.
    pub(super) fn due(&self) -> Option<Instant> {
        let (due, _) = self.queue.front().filter(|_| self.writable)?;
        Some(self.next_sip.map_or(*due, |sip| sip.max(*due)))
    }
}

/// Whether a stream only has nothing to give or no room to take, or is not connected yet.
pub(super) fn is_not_yet(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        ErrorKind::WouldBlock | ErrorKind::NotConnected
    )
}
