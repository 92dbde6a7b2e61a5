//! How far long work on a disk has come, for whoever waits.

use std::io::{self, Read};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

/// Bytes that were read and written. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Meter(Arc<AtomicU64>);

impl Meter {
    /// So many more.
    pub fn add(&self, bytes: usize) {
        self.0.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// All so far.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    /// Counts what is read from there.
    pub fn reader<R: Read>(&self, from: R) -> impl Read {
        Counted { meter: self, from }
    }

    /// Does the work. Meanwhile a thread tells every so often how many bytes there are; without room
    /// for a thread nothing is told.
    pub fn watch<T>(
        &self,
        every: Duration,
        mut tell: impl FnMut(u64) + Send,
        work: impl FnOnce() -> T,
    ) -> T {
        let (working, over) = channel::<()>();
        let look = move || {
            while over.recv_timeout(every) == Err(RecvTimeoutError::Timeout) {
                tell(self.bytes());
            }
        };
        let teller = thread::Builder::new().name("progress".to_owned());
        thread::scope(|scope| {
            let _ = teller.spawn_scoped(scope, look);
            let done = work();
            drop(working);
            done
        })
    }
}

struct Counted<'m, R> {
    meter: &'m Meter,
    from: R,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.from.read(buffer)?;
        self.meter.add(count);
        Ok(count)
    }
}
