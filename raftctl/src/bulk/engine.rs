//! Sends blocks, several at a time, and settles them in their order.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use raftctl::client::{
    Batch, Client, Command, Deadline, Error, IN_FLIGHT_BYTES_MAX, Operation, Outcome, RequestId,
    Txn, Undone, Written,
};
use raftctl::failure::Failure;
use wire::error::Error as WireError;

use super::block::{Block, Refused};
use super::checkpoint::{Checkpoint, Sent, State};
use super::input::Intake;
use super::ledger::{Ledger, Tally};
use super::progress::Counts;
use super::words::Words;
use crate::output::Out;
use crate::session::odd_outcome;
use crate::undone;

/// Bytes of blocks in flight at most; one always fits.
const WINDOW_BYTES: usize = IN_FLIGHT_BYTES_MAX - 1024 * 1024;
/// Blocks in flight at most.
const WINDOW_BLOCKS: usize = 512;
/// Records that go singly at a time.
const PIECE_RECORDS: u64 = 256;

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
///
/// Invariant: the client has one write for all its operations, or one for each if it goes `singly`;
/// `open` counts those without a verdict.
#[derive(Debug)]
struct Flight {
    block: Block,
    singly: bool,
    open: usize,
    bytes: usize,
    /// What those did that went singly.
    tally: Tally,
}

impl Flight {
    fn new(block: Block, singly: bool) -> Self {
        let operations = block.numbers.len();
        Self {
            open: if singly {
                operations
            } else {
                operations.min(1)
            },
            bytes: block.bytes(),
            block,
            singly,
            tally: Tally::default(),
        }
    }

    /// Hands its writes to the client; `again`: they may have been sent before.
    fn submit(&mut self, client: &mut Client, again: bool) -> Result<(), Error> {
        let mut submit = |command: Command<'_>| match again {
            true => client.resubmit(command),
            false => client.submit(command),
        };
        let operations = self.block.batch.operations();
        if self.singly {
            for operation in operations.iter() {
                if let Operation::Change(command) = operation {
                    submit(command)?;
                }
            }
        } else if self.open > 0 {
            submit(Command::Txn(Txn::batch(operations)))?;
        }
        Ok(())
    }

    /// The oldest of its writes is settled.
    fn take_single(&mut self, written: &Written) {
        let number = self.block.numbers[self.block.numbers.len() - self.open];
        self.open -= 1;
        match undone::of(&written.outcome) {
            None => self.tally.add(number, &written.outcome, written.revision.0),
            Some(why) => {
                let why = self.block.refusal(number, &undone::text(why));
                self.block.leave_out(Refused { number, why });
            }
        }
    }

    /// Ends before this record; `crc` is that of the operations before the block.
    fn end_before(&mut self, number: u64, crc: u32) {
        let block = &mut self.block;
        let kept = block.numbers.partition_point(|kept| *kept < number);
        let mut batch = Batch::default();
        for operation in block.batch.operations().iter().take(kept) {
            batch.push(operation).expect("it is part of a batch");
        }
        block.batch = batch;
        block.numbers.truncate(kept);
        block.refused.retain(|refused| refused.number < number);
        block.last = number - 1;
        let mut crc = crc32fast::Hasher::new_with_initial(crc);
        crc.update(block.batch.operations().bytes);
        block.crc = crc.finalize();
        self.open = kept.min(1);
    }
}

/// Sends blocks.
///
/// Invariants:
/// - the client has the open writes of all flights, in the same order, and no others;
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
    /// A write was handed to the client.
    pub(crate) has_sent: bool,
    counts: &'a Counts,
    flights: VecDeque<Flight>,
    /// Came in, and wait for room; those that are to go singly come first.
    waiting: VecDeque<(Block, bool)>,
    end: Option<End>,
}

impl<'a> Engine<'a> {
    pub(crate) fn new(
        client: Client,
        intake: Receiver<Intake>,
        words: Words<'a>,
        patience: Duration,
        counts: &'a Counts,
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
            has_sent: false,
            counts,
            flights: VecDeque::new(),
            waiting: VecDeque::new(),
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
            } else if self.waiting.is_empty()
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
        self.has_sent = true;
        let command = Command::Txn(Txn::batch(block.batch.operations()));
        let deadline = Deadline::after(self.patience);
        let written = match request {
            Some(request) => self.client.resume(request, command, deadline),
            None => self.client.write(command, deadline),
        };
        let written = written.map_err(|error| Failure::of(self.words.doing, &error))?;
        if let Outcome::Undone { operation, why, .. } = written.outcome {
            let number = block.number_of(operation);
            let number = number.ok_or_else(|| odd_outcome(self.words.doing, &written))?;
            let why = block.refusal(number, &undone::text(why));
            return Err(self.words.refused(&Refused { number, why }, None));
        }
        let tally = Tally::of(&block, &written);
        // Whoever has read an echo is told of it, if it asks.
        self.counts.add(block.last, block.input_bytes);
        self.ledger.settle(&block, &tally, out)?;
        Ok(End::Done)
    }

    /// The next blocks for which there is room; waits for one if there is nothing else to do.
    fn take_in(&mut self) -> Vec<Flight> {
        let mut fresh: Vec<Flight> = Vec::new();
        let mut bytes: usize = self.flights.iter().map(|flight| flight.bytes).sum();
        // Room is filled in larger parts: a checkpoint is written for all of them at once.
        if bytes > WINDOW_BYTES / 2 {
            return fresh;
        }
        loop {
            let idle = self.flights.is_empty() && fresh.is_empty();
            if self.waiting.is_empty() {
                let next = self.next_block(idle);
                self.waiting.extend(next.map(|block| (block, false)));
            }
            let Some((block, _)) = self.waiting.front() else {
                break;
            };
            let last = fresh.last().or(self.flights.back());
            let alone = block.may_fail || last.is_some_and(|last| last.block.may_fail);
            let is_full = bytes + block.bytes() > WINDOW_BYTES
                || self.flights.len() + fresh.len() == WINDOW_BLOCKS;
            if !idle && (alone || is_full) {
                break;
            }
            bytes += block.bytes();
            let next = self.waiting.pop_front();
            fresh.extend(next.map(|(block, singly)| Flight::new(block, singly)));
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

    fn send(&mut self, fresh: Vec<Flight>) -> Result<(), Failure> {
        let begin = self.flights.len();
        let again = self.again.len().min(fresh.len());
        for mut flight in fresh {
            if let Some(sent) = self.again.pop_front() {
                flight = Flight::new(flight.block, sent.singly);
            }
            self.flights.push_back(flight);
        }
        if self.checkpoint.is_some() && self.next.is_none() {
            let opened = self.client.open_session(Deadline::after(self.patience));
            self.next = Some(opened.map_err(|error| self.words.failed(&error))?);
        }
        self.save()?;
        self.has_sent = true;
        for (place, flight) in self.flights.iter_mut().enumerate().skip(begin) {
            flight
                .submit(&mut self.client, place < begin + again)
                .map_err(|error| self.words.failed(&error))?;
        }
        Ok(())
    }

    /// Waits for the next verdict about the oldest flight.
    fn settle_one(&mut self, out: &mut Out) -> Result<(), Failure> {
        let is_alone = self.flights.len() == 1;
        let flight = self.flights.front_mut().expect("something is in flight");
        if flight.open == 0 {
            return self.land(out);
        }
        let result = self.client.wait(Deadline::after(self.patience));
        let written = match result.expect("the client has its write") {
            Ok(written) => written,
            Err(error) => return self.take_failure(error, out),
        };
        if let Some(next) = &mut self.next {
            next.seq += 1;
        }
        if flight.singly {
            flight.take_single(&written);
            return Ok(());
        }
        flight.open = 0;
        match &written.outcome {
            // What may fail flies alone.
            Outcome::Undone { operation, why, .. } if is_alone => {
                let number = flight.block.number_of(*operation);
                let number = number.ok_or_else(|| odd_outcome(self.words.doing, &written))?;
                self.send_otherwise(number, *why, out)
            }
            Outcome::Txn { .. } | Outcome::Applied => {
                flight.tally = Tally::of(&flight.block, &written);
                self.land(out)
            }
            _ => Err(odd_outcome(self.words.doing, &written)),
        }
    }

    /// The oldest flight is settled.
    fn land(&mut self, out: &mut Out) -> Result<(), Failure> {
        let flight = self.flights.pop_front().expect("something is in flight");
        let Flight { block, tally, .. } = flight;
        // Whoever has read an echo is told of it, if it asks.
        self.counts.add(block.last - block.after, block.input_bytes);
        self.ledger.settle(&block, &tally, out)?;
        let Some(refused) = block.stop else {
            return Ok(());
        };
        self.save()?;
        let checkpoint = self.checkpoint.as_ref().map(Checkpoint::path);
        Err(self.words.refused(&refused, Some(checkpoint)))
    }

    /// A record of the only flight is impossible, so nothing of it was done: sends what comes
    /// before it; or, in pieces, each operation by itself, for where there is one there are more.
    fn send_otherwise(&mut self, number: u64, why: Undone, out: &mut Out) -> Result<(), Failure> {
        let flight = self.flights.pop_front().expect("there is one");
        if !self.stops {
            let pieces = flight.block.split(PIECE_RECORDS, self.ledger.crc);
            for piece in pieces.into_iter().rev() {
                self.waiting.push_front((piece, true));
            }
            return Ok(());
        }
        let why = flight.block.refusal(number, &undone::text(why));
        self.stop_at(flight, Refused { number, why }, out)
    }

    /// Ends all at a record of this flight, the only one: sends what comes before it.
    fn stop_at(
        &mut self,
        mut flight: Flight,
        refused: Refused,
        out: &mut Out,
    ) -> Result<(), Failure> {
        flight.end_before(refused.number, self.ledger.crc);
        flight.block.stop = Some(refused);
        if flight.open > 0 {
            return self.send(vec![flight]);
        }
        // Nothing is to be sent, so that a checkpoint has nothing to tell.
        self.flights.push_front(flight);
        self.land(out)
    }

    /// The oldest write has no verdict, or a bad one: nothing behind it is done either.
    fn take_failure(&mut self, mut error: Error, out: &mut Out) -> Result<(), Failure> {
        while let Some(result) = self.client.wait(Deadline::after(self.patience)) {
            if let Err(later @ Error::Unknown { .. }) = result
                && !matches!(error, Error::Unknown { .. })
            {
                error = later;
            }
        }
        // What goes singly was part of a block that was not too large.
        if let Error::Refused { error: why, .. } = &error
            && matches!(why, WireError::TooLarge { .. })
            && self.flights.front().is_some_and(|front| !front.singly)
        {
            return self.take_too_large(why, out);
        }
        let first = self.flights.front().map_or(0, |flight| flight.block.after);
        let last = self.flights.back().map_or(0, |flight| flight.block.last);
        let checkpoint = self.checkpoint.as_ref().map(Checkpoint::path);
        Err(self.words.given_up(&error, (first + 1, last), checkpoint))
    }

    /// The cluster takes no write as large as that of the oldest flight, and none was done from there
    /// on: what is behind it waits again, and so do its records, each by itself. If it has only one,
    /// that cannot be written.
    fn take_too_large(&mut self, error: &WireError, out: &mut Out) -> Result<(), Failure> {
        if let Some(next) = self.next {
            // The name of what was refused is that of what comes next.
            self.client.continue_session(next);
        }
        for flight in self.flights.drain(1..).rev() {
            self.waiting.push_front((flight.block, flight.singly));
        }
        let mut flight = self.flights.pop_front().expect("something is in flight");
        let [number] = flight.block.numbers[..] else {
            let pieces = flight.block.split(1, self.ledger.crc);
            for piece in pieces.into_iter().rev() {
                self.waiting.push_front((piece, false));
            }
            return Ok(());
        };
        let why = flight.block.refusal(number, &error.to_string());
        let refused = Refused { number, why };
        if self.stops {
            return self.stop_at(flight, refused, out);
        }
        flight.block.leave_out(refused);
        self.flights.push_front(flight);
        self.land(out)
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
            singly: flight.singly,
        });
        // Those that were not even read again are still in flight.
        state.in_flight = sent.chain(self.again.iter().cloned()).collect();
        checkpoint.write(&state)
    }
}

#[cfg(test)]
mod tests;
