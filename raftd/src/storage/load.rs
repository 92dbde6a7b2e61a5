//! Loading a large snapshot on all processors.

use std::num::NonZero;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::{self, Scope};

use crate::disk::Disk;
use crate::snapshot::{
    Content, Error, Expected, FileReader, Loaded, Loader, Stored, load, snapshot_name,
};

/// A smaller file is loaded before threads would be of use.
const THREADED_BYTES_MIN: u64 = 4 * 1024 * 1024;
/// This thread reads and puts together as fast as so many unpack.
const UNPACKERS_MAX: usize = 3;
/// Chunks that are on their way through an unpacker: memory for them is bounded.
const QUEUE_CHUNKS: usize = 4;

/// The same as [`load`], faster: this thread reads the file and fills the store, in order, while
/// others check and unpack what lies between. What comes out does not depend on how many they are.
///
/// # Errors
/// Those of [`load`].
pub fn load_snapshot<D: Disk>(
    disk: &D,
    expected: &Expected,
    sessions_max: usize,
) -> Result<Loaded, Error> {
    let name = snapshot_name(expected.id);
    let file = disk.open(&name)?;
    let bytes = disk.bytes(&file)?;
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let unpackers = (processors - 1).min(UNPACKERS_MAX);
    if bytes < THREADED_BYTES_MIN || unpackers == 0 {
        return load(disk, expected, sessions_max);
    }
    let mut source = FileReader::new(disk, &file, 0, bytes);
    let mut loader = Loader::open(&mut source, &name, expected)?;
    thread::scope(|scope| {
        let unpackers = (0..unpackers).map(|_| Unpacker::spawn(scope)).collect();
        Pipeline::new(unpackers).run(&mut loader, &mut source)
    })?;
    loader.finish(sessions_max)
}

/// A thread that unpacks what it is sent, in order, until nobody sends any more.
struct Unpacker {
    stored: SyncSender<Stored>,
    contents: Receiver<Result<Content, Error>>,
}

impl Unpacker {
    fn spawn<'scope>(scope: &'scope Scope<'scope, '_>) -> Self {
        let (stored, waiting) = sync_channel::<Stored>(QUEUE_CHUNKS);
        let (done, contents) = sync_channel(QUEUE_CHUNKS);
        scope.spawn(move || {
            for stored in waiting {
                // Nobody takes it: another chunk was damaged.
                if done.send(stored.unpack()).is_err() {
                    return;
                }
            }
        });
        Self { stored, contents }
    }
}

/// Chunks go to the unpackers in turn, and are taken back in the same order.
///
/// Invariant: at most [`QUEUE_CHUNKS`] are with each unpacker, so that neither side ever waits for
/// room in a channel.
struct Pipeline {
    unpackers: Vec<Unpacker>,
    sent: usize,
    taken: usize,
}

impl Pipeline {
    fn new(unpackers: Vec<Unpacker>) -> Self {
        Self {
            unpackers,
            sent: 0,
            taken: 0,
        }
    }

    fn run<D: Disk>(
        mut self,
        loader: &mut Loader,
        source: &mut FileReader<'_, D>,
    ) -> Result<(), Error> {
        while let Some(stored) = loader.next(source)? {
            if self.sent - self.taken == self.unpackers.len() * QUEUE_CHUNKS {
                self.take(loader)?;
            }
            let unpacker = &self.unpackers[self.sent % self.unpackers.len()];
            let sent = unpacker.stored.send(stored);
            sent.expect("it lives as long as chunks may come");
            self.sent += 1;
        }
        while self.taken < self.sent {
            self.take(loader)?;
        }
        Ok(())
    }

    fn take(&mut self, loader: &mut Loader) -> Result<(), Error> {
        let unpacker = &self.unpackers[self.taken % self.unpackers.len()];
        let content = unpacker.contents.recv();
        loader.take(content.expect("every chunk comes back")?)?;
        self.taken += 1;
        Ok(())
    }
}
