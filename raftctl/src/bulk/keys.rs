//! Keys from standard input, read ahead on a thread of its own.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, SyncSender, TryRecvError, sync_channel};
use std::thread;

use raftctl::client::{Command, Error, check};
use raftctl::failure::{Exit, Failure};

use super::block::Refused;
use super::input::{Input, READ_BYTES};
use super::units::Units;
use super::words::Words;
use crate::decoding::{Datum, Decoder, Shape};
use crate::encoding::Encodings;
use crate::format::Format;

/// Portions of keys on their way.
const PORTIONS: usize = 4;

/// Keys that were read together.
type Portion = Vec<Result<Vec<u8>, Failure>>;

/// Keys in the order of the input.
#[derive(Debug)]
pub(crate) struct Keys {
    intake: Receiver<Portion>,
    ready: VecDeque<Result<Vec<u8>, Failure>>,
}

/// What comes next.
#[derive(Debug)]
pub(crate) enum Next {
    Key(Vec<u8>),
    /// None so far.
    Later,
    End,
}

impl Keys {
    /// Begins to read. Of a format that is not for bulk work, lines are meant.
    pub(crate) fn open(
        doing: &'static str,
        format: Option<Format>,
        encodings: Encodings,
    ) -> Result<Self, Failure> {
        let input = Input::open(None, doing)?;
        let format = match format {
            Some(format @ (Format::Jsonl | Format::Nul | Format::Frame)) => format,
            _ => Format::Tsv,
        };
        let decoder = Decoder::new(format, Shape::Keys, encodings);
        let (sender, intake) = sync_channel(PORTIONS);
        let unit = Words::unit_of(format);
        let spawned = thread::Builder::new()
            .name("input".into())
            .spawn(move || read(input, decoder, doing, unit, &sender));
        spawned.map_err(|error| {
            let what = format!("{doing} failed: {error}");
            Failure::new(Exit::Bug, "thread", what)
        })?;
        Ok(Self {
            intake,
            ready: VecDeque::new(),
        })
    }

    /// The next key. `waits`: until there is one.
    pub(crate) fn next(&mut self, waits: bool) -> Result<Next, Failure> {
        while self.ready.is_empty() {
            let portion = if waits {
                self.intake.recv().map_err(|_| TryRecvError::Disconnected)
            } else {
                self.intake.try_recv()
            };
            match portion {
                Ok(portion) => self.ready.extend(portion),
                Err(TryRecvError::Empty) => return Ok(Next::Later),
                Err(TryRecvError::Disconnected) => return Ok(Next::End),
            }
        }
        let next = self.ready.pop_front().expect("there is one");
        next.map(Next::Key)
    }
}

/// Until the end, or what cannot be understood.
fn read(
    mut input: Input,
    mut decoder: Decoder,
    doing: &'static str,
    unit: &'static str,
    sender: &SyncSender<Portion>,
) {
    let words = Words {
        doing,
        input: &input.name.clone(),
        unit,
    };
    let mut units = Units::default();
    let mut number = 0;
    let mut ends = false;
    while !ends {
        let mut portion = Portion::new();
        match units.fill(&mut input.file, READ_BYTES) {
            Ok(read) => ends = read == 0,
            Err(error) => {
                portion.push(Err(input.unreadable(doing, &error)));
                ends = true;
            }
        }
        loop {
            let decoded = decoder.decode(units.unread(), ends, &mut |datum, _| {
                number += 1;
                portion.push(key(datum).map_err(|why| words.bad_key(&Refused { number, why })));
            });
            match decoded {
                Ok(0) => break,
                Ok(used) => units.consume(used),
                Err(broken) => {
                    let failure = words.broken(&decoder, &broken.why, units.offset(), number);
                    portion.push(Err(failure.remedy("make the file anew")));
                    ends = true;
                    break;
                }
            }
        }
        let failed = portion.iter().any(Result::is_err);
        if (!portion.is_empty() && sender.send(portion).is_err()) || failed {
            return;
        }
    }
}

fn key(datum: Result<Datum<'_>, String>) -> Result<Vec<u8>, String> {
    let Datum::Key(key) = datum? else {
        return Err("it is no key".into());
    };
    match check(Command::Delete { key }) {
        Ok(()) => Ok(key.to_vec()),
        Err(Error::Refused { error, .. }) => Err(error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}
