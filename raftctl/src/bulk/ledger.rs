//! What became of records: counts, the file of rejects, the echo of what is done.

use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use raftctl::client::{OperationResult, Outcome, Written};
use raftctl::failure::{Exit, Failure};

use super::block::{Block, Refused};
use super::checkpoint::State;
use super::flags::Flags;
use crate::files::inaccessible;
use crate::output::Out;

/// What is known of the records that are settled.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    /// All of them, also those that another process settled.
    pub(crate) records: u64,
    /// Those of them that were refused.
    pub(crate) rejected: u64,
    /// Of those that this process settled, the ones that were written.
    pub(crate) written: u64,
    /// The ones that were left alone, since their key is there.
    pub(crate) kept: u64,
    /// Keys that were removed by them.
    pub(crate) deleted: u64,
    /// The last write's.
    pub(crate) revision: u64,
    /// CRC-32 of all operations.
    pub(crate) crc: u32,
    /// The first that this process refused.
    pub(crate) first_rejected: Option<Refused>,
    pub(crate) rejects: Option<Rejects>,
    pub(crate) echoes: bool,
}

/// The file of rejects.
#[derive(Debug)]
pub(crate) struct Rejects {
    file: BufWriter<File>,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
}

impl Rejects {
    /// Begins the file anew behind its first `bytes`, if somebody has not taken them away.
    pub(crate) fn open(path: &Path, bytes: u64) -> Result<Self, Failure> {
        Self::opened(path, bytes).map_err(|error| unwritable(path, &error))
    }

    fn opened(path: &Path, mut bytes: u64) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        options.create(true).truncate(false).write(true);
        let mut file = options.open(path)?;
        let found = file.metadata()?;
        if found.is_file() {
            bytes = bytes.min(found.len());
            file.set_len(bytes)?;
            file.seek(SeekFrom::Start(bytes))?;
        }
        Ok(Self {
            file: BufWriter::new(file),
            path: path.into(),
            bytes,
        })
    }

    fn write(&mut self, record: &[u8]) -> Result<(), Failure> {
        self.bytes += record.len() as u64;
        let written = self.file.write_all(record);
        written.map_err(|error| unwritable(&self.path, &error))
    }

    /// Puts on disk what was written, so that a checkpoint may speak of it.
    pub(crate) fn sync(&mut self) -> Result<(), Failure> {
        let flushed = self.file.flush();
        let synced = flushed.and_then(|()| match self.file.get_ref().sync_data() {
            // A pipe or a device has no disk.
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            other => other,
        });
        synced.map_err(|error| unwritable(&self.path, &error))
    }
}

fn unwritable(path: &Path, error: &io::Error) -> Failure {
    let what = format!("the file of rejects cannot be written: {error}");
    inaccessible(Failure::new(Exit::Usage, "unwritable", what), path, error)
}

impl Ledger {
    /// Begins where `state` says that another process was.
    pub(crate) fn open(flags: &Flags, state: Option<&State>) -> Result<Self, Failure> {
        let mut ledger = Self {
            echoes: flags.echo,
            ..Self::default()
        };
        let mut rejects_bytes = 0;
        if let Some(state) = state {
            ledger.records = state.records;
            ledger.rejected = state.rejected;
            ledger.crc = state.crc32;
            rejects_bytes = state.rejects_bytes;
        }
        if let Some(path) = &flags.rejects {
            ledger.rejects = Some(Rejects::open(path, rejects_bytes)?);
        }
        Ok(ledger)
    }

    /// The records of a block are settled: `tally` says what its operations did.
    pub(crate) fn settle(
        &mut self,
        block: &Block,
        tally: &Tally,
        out: &mut Out,
    ) -> Result<(), Failure> {
        self.records = block.last;
        self.crc = block.crc;
        self.rejected += block.refused.len() as u64;
        self.written += tally.written.len() as u64;
        self.kept += tally.kept;
        self.deleted += tally.deleted;
        self.revision = self.revision.max(tally.revision);
        if self.first_rejected.is_none() {
            self.first_rejected = block.refused.first().cloned();
        }
        if let Some(rejects) = &mut self.rejects {
            for refused in &block.refused {
                rejects.write(block.raw(refused.number))?;
            }
        }
        if self.echoes {
            for number in &tally.written {
                out.text(block.raw(*number))?;
            }
            // Whoever reads may remove its own copy now.
            out.flush()?;
        }
        Ok(())
    }
}

/// What the operations of a block did.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Records that are done.
    written: Vec<u64>,
    /// How many others were left alone, since their key is there.
    kept: u64,
    /// Keys that were removed.
    deleted: u64,
    revision: u64,
}

impl Tally {
    /// What the write of a block did.
    pub(crate) fn of(block: &Block, written: &Written) -> Self {
        let mut tally = Self::default();
        let numbers = &block.numbers;
        let Outcome::Txn {
            results: Some(results),
            ..
        } = &written.outcome
        else {
            // The first answer was lost, and what it said in full is not kept.
            tally.revision = written.revision.0;
            if block.is_conditional {
                // Who removes its own copy of what is echoed must not remove one that was left out.
                tally.kept = numbers.len() as u64;
            } else {
                tally.written.extend_from_slice(numbers);
            }
            return tally;
        };
        for (number, result) in numbers.iter().zip(results.iter()) {
            if let OperationResult::Did(outcome) = result {
                tally.add(*number, &outcome, written.revision.0);
            }
        }
        tally
    }

    /// What the operation of this record did.
    pub(crate) fn add(&mut self, number: u64, outcome: &Outcome, revision: u64) {
        self.revision = revision;
        match outcome {
            Outcome::NotSwapped(_) => {
                self.kept += 1;
                return;
            }
            Outcome::Deleted(count) => self.deleted += count,
            _ => {}
        }
        self.written.push(number);
    }
}

#[cfg(test)]
mod tests {
    use bytes::BytesMut;
    use raftctl::client::Results;
    use wire::types::{Index, Term};

    use super::*;

    fn written(results: Option<&[Outcome]>) -> Written {
        let results = results.map(|outcomes| {
            let mut bytes = BytesMut::new();
            for outcome in outcomes {
                OperationResult::Did(outcome.clone()).encode(&mut bytes);
            }
            Results::new(&bytes)
        });
        Written {
            term: Term(1),
            revision: Index(9),
            outcome: Outcome::Txn {
                held: true,
                results,
            },
        }
    }

    #[test]
    fn each_operation_counts_as_what_it_did() {
        let mut block = Block::default();
        block.numbers.extend([3, 5, 6, 8]);
        let kept = Outcome::NotSwapped(None);
        let did = [
            Outcome::Put,
            kept,
            Outcome::Deleted(1),
            Outcome::Appended(7),
        ];
        let tally = Tally::of(&block, &written(Some(&did)));
        assert_eq!(tally.written, [3, 6, 8]);
        assert_eq!((tally.kept, tally.deleted, tally.revision), (1, 1, 9));
        // The answer to a retry does not say which.
        assert_eq!(Tally::of(&block, &written(None)).written, block.numbers);
        block.is_conditional = true;
        let tally = Tally::of(&block, &written(None));
        assert!(tally.written.is_empty(), "nobody knows which of them");
        assert_eq!(tally.kept, 4);
    }
}
