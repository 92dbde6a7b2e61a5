//! Loading a large snapshot on all processors.

use std::collections::VecDeque;
use std::num::NonZero;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Condvar, Mutex, MutexGuard};
use std::thread;

use crate::disk::Disk;
use crate::snapshot::{
    Content, Error, Expected, FileReader, Loaded, Loader, ReadAhead, Stored, load, snapshot_name,
};

/// A smaller file is loaded before threads would be of use.
const THREADED_BYTES_MIN: u64 = 4 * 1024 * 1024;
/// Threads that unpack, besides the one that reads and fills the store: that one is as fast as so
/// many.
const UNPACKERS_MAX: usize = 4;
/// Chunks between reading and filling: memory for them is bounded.
const CHUNKS_MAX: usize = 32;

/// The same as [`load`], faster: this thread reads the file and fills the store, in order; what lies
/// between is done by whoever has time, this thread too. What comes out does not depend on who does
/// what.
///
/// # Errors
/// Those of [`load`].
pub fn load_snapshot<D: Disk>(
    disk: &D,
    expected: &Expected,
    sessions_max: usize,
) -> Result<Loaded, Error> {
    let name = snapshot_name(expected.id);
    let mut file = disk.open(&name)?;
    let bytes = disk.bytes(&file)?;
    let processors = thread::available_parallelism().map_or(1, NonZero::get);
    let unpackers = (processors - 1).min(UNPACKERS_MAX);
    if bytes < THREADED_BYTES_MIN || unpackers == 0 {
        return load(disk, expected, sessions_max);
    }
    disk.bypass_cache(&mut file);
    let mut ahead = ReadAhead::new();
    let mut source = FileReader::new(disk, &file, &mut ahead, 0, bytes);
    let mut loader = Loader::open(&mut source, &name, expected)?;
    let packed = &Packed::default();
    thread::scope(|scope| {
        let (results, unpacked) = channel();
        for _ in 0..unpackers {
            let results = results.clone();
            scope.spawn(move || packed.unpack_all(&results));
        }
        Line::new(packed, unpacked).run(&mut loader, &mut source)
    })?;
    loader.finish(sessions_max)
}

/// A chunk that was unpacked, or why it cannot be, with its place among the chunks.
type Unpacked = (usize, Result<Content, Error>);

/// Chunks that nobody has begun to unpack.
#[derive(Default)]
struct Packed {
    queue: Mutex<Queue>,
    changed: Condvar,
}

#[derive(Default)]
struct Queue {
    chunks: VecDeque<(usize, Stored)>,
    /// No chunk comes any more.
    over: bool,
}

impl Packed {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().expect("nobody panics while holding it")
    }

    fn push(&self, number: usize, chunk: Stored) {
        self.lock().chunks.push_back((number, chunk));
        self.changed.notify_one();
    }

    /// Unpacks one chunk, if there is one.
    fn unpack_one(&self) -> Option<Unpacked> {
        let (number, chunk) = self.lock().chunks.pop_front()?;
        Some((number, chunk.unpack()))
    }

    /// Unpacks chunks until no more come. A panic here ends the process, like any in the daemon.
    fn unpack_all(&self, results: &Sender<Unpacked>) {
        loop {
            let mut queue = self.lock();
            while queue.chunks.is_empty() && !queue.over {
                let changed = self.changed.wait(queue);
                queue = changed.expect("nobody panics while holding it");
            }
            if queue.over {
                return;
            }
            drop(queue);
            // Nobody takes it: another chunk was damaged.
            if let Some(unpacked) = self.unpack_one()
                && results.send(unpacked).is_err()
            {
                return;
            }
        }
    }
}

/// The thread that reads and fills.
///
/// Invariant: `waiting` are the chunks that were read and not taken, in their order, at most
/// [`CHUNKS_MAX`]; the first is number `taken`. Those that are not there yet are in the queue, or an
/// unpacker is at them.
struct Line<'a> {
    packed: &'a Packed,
    unpacked: Receiver<Unpacked>,
    waiting: VecDeque<Option<Result<Content, Error>>>,
    taken: usize,
}

/// However it ends, the unpackers end.
impl Drop for Line<'_> {
    fn drop(&mut self) {
        self.packed.lock().over = true;
        self.packed.changed.notify_all();
    }
}

impl<'a> Line<'a> {
    fn new(packed: &'a Packed, unpacked: Receiver<Unpacked>) -> Self {
        Self {
            packed,
            unpacked,
            waiting: VecDeque::with_capacity(CHUNKS_MAX),
            taken: 0,
        }
    }

    fn run<D: Disk>(
        mut self,
        loader: &mut Loader,
        source: &mut FileReader<'_, D>,
    ) -> Result<(), Error> {
        while let Some(chunk) = loader.next(source)? {
            if self.waiting.len() == CHUNKS_MAX {
                self.take(loader)?;
            }
            self.packed.push(self.taken + self.waiting.len(), chunk);
            self.waiting.push_back(None);
        }
        while !self.waiting.is_empty() {
            self.take(loader)?;
        }
        Ok(())
    }

    /// Takes the first chunk into the store; while it is not there, unpacks what nobody has begun.
    fn take(&mut self, loader: &mut Loader) -> Result<(), Error> {
        loop {
            if let Some(content) = self.waiting.front_mut().and_then(Option::take) {
                self.waiting.pop_front();
                self.taken += 1;
                return loader.take(content?);
            }
            let (number, result) = match self.unpacked.try_recv() {
                Ok(unpacked) => unpacked,
                Err(_) => match self.packed.unpack_one() {
                    Some(unpacked) => unpacked,
                    None => self.unpacked.recv().expect("every chunk comes back"),
                },
            };
            self.waiting[number - self.taken] = Some(result);
        }
    }
}
