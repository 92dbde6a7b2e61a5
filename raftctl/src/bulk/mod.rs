//! Bulk work: records from a file or a pipe, in and done once each, in their order.
//!
//! A thread reads the input and cuts it into blocks; each block is one write of the session, a txn
//! without conditions. Several are in flight, and a reader that is ahead of them waits. A write that
//! has to be sent again, for a leader or a connection was lost, is the same write and is applied
//! once; what outlives the process is in a checkpoint ([`checkpoint`]).

mod block;
mod checkpoint;
mod engine;
mod flags;
mod input;
mod keys;
mod ledger;
mod progress;
mod rewrite;
mod told;
mod units;
mod words;

use std::collections::VecDeque;
use std::ffi::OsStr;
use std::io;
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;

use raftctl::client::{Client, Options, RequestId};
use raftctl::failure::{Exit, Failure};

use self::block::{Builder, Plan};
use self::checkpoint::{Checkpoint, State};
use self::engine::Engine;
pub(crate) use self::flags::Flags;
use self::input::{BLOCKS, Input, Intake, Reader};
pub(crate) use self::keys::{Keys, Next};
use self::ledger::{Ledger, Rejects};
use self::progress::{Progress, Show};
pub(crate) use self::rewrite::{OfKey, Rewrite};
use self::told::Told;
use self::words::Words;
use crate::decoding::{Decoder, Shape};
use crate::encoding::Encodings;
use crate::format::Format;
use crate::session::Session;

/// What is to be done.
#[derive(Debug)]
pub(crate) struct Job<'a> {
    /// The verb, for messages.
    pub(crate) doing: &'static str,
    /// `-` or nothing is standard input.
    pub(crate) file: Option<&'a OsStr>,
    pub(crate) shape: Shape,
    pub(crate) encodings: Encodings,
    pub(crate) rewrite: Rewrite,
    pub(crate) flags: &'a Flags,
    /// All in one step, under this name if it was tried before.
    pub(crate) whole: Option<Option<RequestId>>,
}

/// Does the job.
pub(crate) fn run(job: Job<'_>, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let format = session.out.style().format().unwrap_or(Format::Tsv);
    let flags = job.flags;
    let skips = flags.skips()?;
    if format == Format::Frame && job.encodings != Encodings::default() {
        let what = "the format frame is exact bytes: it knows no encoding";
        return Err(Failure::usage(what));
    }
    if flags.echo {
        session.out.check_binary(format)?;
    }
    let input = Input::open(job.file, job.doing)?;
    flags.check_apart(&input)?;
    let checkpoint = flags.checkpoint.as_deref().map(Checkpoint::new);
    let state = checkpoint.as_ref().map(Checkpoint::read);
    let state = state.transpose()?.flatten();
    let ledger = Ledger::open(flags, state.as_ref())?;
    let name = input.name.clone();
    let words = Words {
        doing: job.doing,
        input: &name,
        unit: Words::unit_of(format),
    };
    let show = flags.show(session.out.style());
    let progress = Progress::start(job.doing, show, input.bytes);
    let whole = job.whole;
    let intake = read(job, input, format, state.as_ref(), words, session)?;
    // A signal stops the input, not the writes that are on their way.
    let client = Client::new(Options::new(session.endpoints.clone()));
    let mut engine = Engine::new(client, intake, words, session.timeout, &progress.counts);
    engine.ledger = ledger;
    if skips {
        engine.skipping();
    }
    if let Some(checkpoint) = &checkpoint {
        engine.remember(checkpoint.clone(), state.as_ref());
    }
    let ended = match whole {
        Some(request) => engine.run_whole(request, &mut session.out),
        None => engine.run(&mut session.out),
    };
    let has_sent = engine.has_sent;
    let mut ledger = engine.ledger;
    let synced = ledger.rejects.as_mut().map_or(Ok(()), Rejects::sync);
    let told = Told {
        words,
        verbose: flags.verbose,
        json: show == Show::Json,
    };
    told.say(&ledger, progress);
    let end = ended.and_then(|end| synced.map(|()| end));
    let exit = end.and_then(|end| told.exit(end, &ledger, checkpoint.as_ref()));
    exit.map_err(|failure| match has_sent {
        true => words.too_late(failure, ledger.records),
        false => failure,
    })
}

/// Has a thread read the input, from where `state` says.
fn read(
    job: Job<'_>,
    input: Input,
    format: Format,
    state: Option<&State>,
    words: Words<'_>,
    session: &Session<'_>,
) -> Result<Receiver<Intake>, Failure> {
    let end = if format == Format::Nul { 0 } else { b'\n' };
    let plan = Plan {
        rewrite: job.rewrite,
        whole: job.whole.is_some(),
        stops: !job.flags.skips()?,
        raw_end: job.flags.keeps_raw().then_some(end),
    };
    let mut builder = Builder::new(plan);
    if let Some(state) = state {
        let ends: VecDeque<_> = state.in_flight.iter().map(|sent| sent.last).collect();
        builder = builder.behind(state.records, state.crc32, ends);
    }
    let failed = |error: io::Error| {
        let what = format!("{} failed: {error}", job.doing);
        Failure::new(Exit::Bug, "thread", what)
    };
    let (stop, wake) = UnixStream::pair().map_err(failed)?;
    session.signals.wake(&wake).map_err(failed)?;
    session.signals.hold();
    let reader = Reader {
        decoder: Decoder::new(format, job.shape, job.encodings),
        builder,
        stop,
        doing: job.doing,
        unit: words.unit,
        input,
    };
    let (sender, intake) = sync_channel(BLOCKS);
    let thread = thread::Builder::new().name("input".into());
    let spawned = thread.spawn(move || reader.run(&sender));
    spawned.map(|_| intake).map_err(failed)
}
