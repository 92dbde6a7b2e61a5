//! Sends blocks, several at a time, and settles them in their order.

use std::collections::{BTreeSet, VecDeque};
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use raftctl::client::{
    Batch, Client, Command, Deadline, Error, IN_FLIGHT_BYTES_MAX, Outcome, RequestId, Txn, Written,
};
use raftctl::failure::Failure;

use super::block::{Block, Refused};
use super::checkpoint::{Checkpoint, Sent, State};
use super::input::Intake;
use super::ledger::Ledger;
use super::progress::Meter;
use super::words::{Words, why_undone};
use crate::cmd::{odd_outcome, shown};
use crate::output::Out;

/// Bytes of blocks in flight at most; one always fits.
const WINDOW_BYTES: usize = IN_FLIGHT_BYTES_MAX - 1024 * 1024;
/// Blocks in flight at most.
const WINDOW_BLOCKS: usize = 512;

/// How the input ended.
#[derive(Debug)]
pub(crate) enum End {
    /// It was read to its end.
    Done,
    /// It cannot be read on.
    Failed(Failure),
    /// A signal told to stop.
    Stopped,
}

/// A block on its way.
#[derive(Debug)]
struct Flight {
    block: Block,
    /// Records that are part of the write.
    live: Vec<u64>,
    /// Its operations that turned out to be impossible and are part of it no more.
    without: BTreeSet<u64>,
    bytes: usize,
}

impl Flight {
    fn new(block: Block, without: &[u64]) -> Self {
        let mut flight = Self {
            bytes: block.bytes(),
            live: block.numbers.clone(),
            without: BTreeSet::new(),
            block,
        };
        for number in without {
            flight.exclude(*number, "it could not be done".into());
        }
        flight
    }

    /// Takes an operation out of the write.
    fn exclude(&mut self, number: u64, why: String) {
        self.live.retain(|live| *live != number);
        self.without.insert(number);
        let refused = &mut self.block.refused;
        let place = refused.partition_point(|other| other.number < number);
        refused.insert(place, Refused { number, why });
    }

    /// Ends before this record.
    fn end_before(&mut self, number: u64, crc_before: u32) {
        let block = &mut self.block;
        let kept = block.numbers.partition_point(|kept| *kept < number);
        block.batch = picked(&block.batch, |place| place < kept);
        block.numbers.truncate(kept);
        block.refused.retain(|refused| refused.number < number);
        block.last = number - 1;
        let mut crc = crc32fast::Hasher::new_with_initial(crc_before);
        crc.update(block.batch.operations().bytes);
        block.crc = crc.finalize();
        self.live.retain(|live| *live < number);
        self.without.retain(|excluded| *excluded < number);
    }

    /// Those of the operations that are part of the write.
    fn submit(&mut self, client: &mut Client, again: bool) -> Result<(), Error> {
        let all = &self.block.batch;
        let rest;
        let batch = if self.without.is_empty() {
            all
        } else {
            let numbers = &self.block.numbers;
            rest = picked(all, |place| !self.without.contains(&numbers[place]));
            &rest
        };
        let command = Command::Txn(Txn::batch(batch.operations()));
        if again {
            client.resubmit(command)?;
        } else {
            client.submit(command)?;
        }
        if !self.block.may_fail {
            self.block.batch = Batch::default();
        }
        Ok(())
    }
}

/// The operations at these places.
fn picked(batch: &Batch, wanted: impl Fn(usize) -> bool) -> Batch {
    let mut picked = Batch::default();
    for (place, operation) in batch.operations().iter().enumerate() {
        if wanted(place) {
            picked.push(operation).expect("it is part of a batch");
        }
    }
    picked
}

/// Sends blocks.
///
/// Invariants:
/// - the client has a write for each flight that has live records, in the same order;
/// - a block with an operation that may be impossible flies alone: nothing that comes behind it is
///   done before it is known what became of it;
/// - the checkpoint, if there is one, tells of every flight before it is sent.
pub(crate) struct Engine<'a> {
    client: Client,
    intake: Receiver<Intake>,
    words: Words<'a>,
    /// Ends all when nothing is settled for so long.
    patience: Duration,
    /// A record that is refused ends all.
    stops: bool,
    checkpoint: Option<Checkpoint>,
    /// The name of the oldest flight's write, or of the next; `None`: the session has none yet.
    next: Option<RequestId>,
    /// Flights of another process, to be sent again.
    again: VecDeque<Sent>,
    pub(crate) ledger: Ledger,
    meter: &'a Meter,
    flights: VecDeque<Flight>,
    /// Came in, and waits for room.
    waiting: Option<Block>,
    end: Option<End>,
}

impl<'a> Engine<'a> {
    pub(crate) fn new(
        client: Client,
        intake: Receiver<Intake>,
        words: Words<'a>,
        patience: Duration,
        meter: &'a Meter,
    ) -> Self {
        Self {
            client,
            intake,
            words,
            patience,
            stops: true,
            checkpoint: None,
            next: None,
            again: VecDeque::new(),
            ledger: Ledger::default(),
            meter,
            flights: VecDeque::new(),
            waiting: None,
            end: None,
        }
    }

    /// Goes on behind records that cannot be written.
    pub(crate) fn skipping(&mut self) {
        self.stops = false;
    }

    /// Writes down how far it has come, and begins where `state` says.
    pub(crate) fn remember(&mut self, checkpoint: Checkpoint, state: Option<&State>) {
        self.checkpoint = Some(checkpoint);
        let Some(state) = state else { return };
        self.next = state.request();
        self.again.clone_from(&state.in_flight);
        if let Some(next) = self.next {
            self.client.continue_session(next);
        }
    }

    /// Sends all that comes in. When it returns, everything that was sent is settled.
    ///
    /// # Errors
    /// If a write has no verdict, or a record that is refused ends it.
    pub(crate) fn run(&mut self, out: &mut Out) -> Result<End, Failure> {
        loop {
            let fresh = self.take_in();
            if !fresh.is_empty() {
                self.send(fresh)?;
            }
            if !self.flights.is_empty() {
                self.settle_one(out)?;
            } else if self.waiting.is_none()
                && let Some(end) = self.end.take()
            {
                self.save()?;
                return Ok(end);
            }
        }
    }

    /// Does a single block in a write of this name, or of any.
    ///
    /// # Errors
    /// As of [`Engine::run`].
    pub(crate) fn run_whole(
        &mut self,
        request: Option<RequestId>,
        out: &mut Out,
    ) -> Result<End, Failure> {
        let Some(block) = self.next_block(true) else {
            return Ok(self.end.take().unwrap_or(End::Done));
        };
        if let Some(refused) = &block.stop {
            return Err(self.words.refused(refused, None));
        }
        let command = Command::Txn(Txn::batch(block.batch.operations()));
        let deadline = Deadline::after(self.patience);
        let written = match request {
            Some(request) => self.client.resume(request, command, deadline),
            None => self.client.write(command, deadline),
        };
        let written = written.map_err(|error| Failure::of(self.words.doing, &error))?;
        if let Outcome::Undone { operation, why, .. } = written.outcome {
            let number = block.numbers[operation as usize];
            let why = format!("{}: {}", shown(block.key(number)), why_undone(why));
            return Err(self.words.refused(&Refused { number, why }, None));
        }
        self.ledger
            .settle(&block, &block.numbers, Some(&written), out)?;
        self.meter.add(block.last, block.input_bytes);
        Ok(End::Done)
    }

    /// The next blocks for which there is room; waits for one if there is nothing else to do.
    fn take_in(&mut self) -> Vec<Block> {
        let mut fresh: Vec<Block> = Vec::new();
        let mut bytes: usize = self.flights.iter().map(|flight| flight.bytes).sum();
        // Room is filled in larger parts: a checkpoint is written for all of them at once.
        if bytes > WINDOW_BYTES / 2 {
            return fresh;
        }
        loop {
            let idle = self.flights.is_empty() && fresh.is_empty();
            if self.waiting.is_none() {
                self.waiting = self.next_block(idle);
            }
            let Some(block) = &self.waiting else { break };
            let last = fresh
                .last()
                .or(self.flights.back().map(|flight| &flight.block));
            let alone = block.may_fail || last.is_some_and(|last| last.may_fail);
            let is_full = bytes + block.bytes() > WINDOW_BYTES
                || self.flights.len() + fresh.len() == WINDOW_BLOCKS;
            if !idle && (alone || is_full) {
                break;
            }
            bytes += block.bytes();
            fresh.extend(self.waiting.take());
        }
        fresh
    }

    fn next_block(&mut self, wait: bool) -> Option<Block> {
        if self.end.is_some() {
            return None;
        }
        let next = if wait {
            self.intake.recv().map_err(|_| TryRecvError::Disconnected)
        } else {
            self.intake.try_recv()
        };
        match next {
            Ok(Intake::Block(block)) => return Some(*block),
            Ok(Intake::Failed(failure)) => self.end = Some(End::Failed(failure)),
            Ok(Intake::Stopped) => self.end = Some(End::Stopped),
            Err(TryRecvError::Disconnected) => self.end = Some(End::Done),
            Err(TryRecvError::Empty) => {}
        }
        None
    }

    fn send(&mut self, fresh: Vec<Block>) -> Result<(), Failure> {
        let begin = self.flights.len();
        let again = self.again.len().min(fresh.len());
        for block in fresh {
            let sent = self.again.pop_front();
            let without = sent.as_ref().map_or(&[][..], |sent| &sent.without);
            self.flights.push_back(Flight::new(block, without));
        }
        if self.checkpoint.is_some() && self.next.is_none() {
            let opened = self.client.open_session(Deadline::after(self.patience));
            self.next = Some(opened.map_err(|error| self.words.failed(&error))?);
        }
        self.save()?;
        for (place, flight) in self.flights.iter_mut().enumerate().skip(begin) {
            if !flight.live.is_empty() {
                flight
                    .submit(&mut self.client, place < begin + again)
                    .map_err(|error| self.words.failed(&error))?;
            }
        }
        Ok(())
    }

    /// Waits for the verdict of the oldest flight.
    fn settle_one(&mut self, out: &mut Out) -> Result<(), Failure> {
        let flight = self.flights.front().expect("something is in flight");
        if flight.live.is_empty() {
            return self.land(None, out);
        }
        let result = self.client.wait(Deadline::after(self.patience));
        let written = match result.expect("the client has its write") {
            Ok(written) => written,
            Err(error) => return Err(self.give_up(error)),
        };
        if let Some(next) = &mut self.next {
            next.seq += 1;
        }
        match written.outcome {
            Outcome::Undone { operation, why, .. } => {
                self.send_without(operation as usize, why_undone(why), out)
            }
            Outcome::Txn { .. } | Outcome::Applied => self.land(Some(&written), out),
            _ => Err(odd_outcome(self.words.doing, &written)),
        }
    }

    /// The oldest flight is settled.
    fn land(&mut self, written: Option<&Written>, out: &mut Out) -> Result<(), Failure> {
        let Flight { block, live, .. } = self.flights.pop_front().expect("something is in flight");
        self.ledger.settle(&block, &live, written, out)?;
        self.meter.add(block.last - block.after, block.input_bytes);
        let Some(refused) = block.stop else {
            return Ok(());
        };
        self.save()?;
        let checkpoint = self.checkpoint.as_ref().map(Checkpoint::path);
        Err(self.words.refused(&refused, Some(checkpoint)))
    }

    /// An operation of the only flight is impossible, so nothing of it was done: sends it again
    /// without that one, or only what comes before it.
    fn send_without(&mut self, operation: usize, why: &str, out: &mut Out) -> Result<(), Failure> {
        assert_eq!(self.flights.len(), 1, "what may fail flies alone");
        let flight = self.flights.front_mut().expect("there is one");
        let number = flight.live[operation];
        let why = format!("{}: {why}", shown(flight.block.key(number)));
        if self.stops {
            flight.end_before(number, self.ledger.crc);
            flight.block.stop = Some(Refused { number, why });
        } else {
            flight.exclude(number, why);
        }
        self.save()?;
        let flight = self.flights.front_mut().expect("there is one");
        if flight.live.is_empty() {
            return self.land(None, out);
        }
        let sent = flight.submit(&mut self.client, false);
        sent.map_err(|error| self.words.failed(&error))
    }

    /// A write has no verdict, or a bad one: nothing more is done.
    fn give_up(&mut self, error: Error) -> Failure {
        let mut first = self.flights.front().expect("something is in flight");
        let mut error = error;
        for flight in self.flights.iter().skip(1) {
            if flight.live.is_empty() {
                continue;
            }
            let result = self.client.wait(Deadline::after(self.patience));
            let is_unknown = matches!(error, Error::Unknown { .. });
            if let Some(Err(later @ Error::Unknown { .. })) = result
                && !is_unknown
            {
                (error, first) = (later, flight);
            }
        }
        let last = self.flights.back().map_or(0, |flight| flight.block.last);
        let checkpoint = self.checkpoint.as_ref().map(Checkpoint::path);
        let records = (first.block.after + 1, last);
        self.words.given_up(&error, records, checkpoint)
    }

    fn save(&mut self) -> Result<(), Failure> {
        let (Some(checkpoint), Some(next)) = (&self.checkpoint, self.next) else {
            return Ok(());
        };
        let mut state = State::new(next);
        if let Some(rejects) = &mut self.ledger.rejects {
            rejects.sync()?;
            state.rejects_bytes = rejects.bytes;
        }
        state.records = self.ledger.records;
        state.crc32 = self.ledger.crc;
        state.rejected = self.ledger.rejected;
        let sent = self.flights.iter().map(|flight| Sent {
            last: flight.block.last,
            without: flight.without.iter().copied().collect(),
        });
        // Those that were not even read again are still in flight.
        state.in_flight = sent.chain(self.again.iter().cloned()).collect();
        checkpoint.write(&state)
    }
}
