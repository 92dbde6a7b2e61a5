//! What is said at the end.

use std::io::{self, IsTerminal};

use raftctl::failure::{Exit, Failure};
use serde_json::json;

use super::checkpoint::Checkpoint;
use super::engine::End;
use super::ledger::Ledger;
use super::progress::{Progress, say, summary};
use super::words::Words;

/// What is said at the end.
pub(super) struct Told<'a> {
    pub(super) words: Words<'a>,
    pub(super) verbose: bool,
    pub(super) json: bool,
}

impl Told<'_> {
    /// What was done.
    pub(super) fn say(&self, ledger: &Ledger, progress: Progress) {
        let elapsed = progress.elapsed();
        let (records, bytes) = progress.counts.now();
        // The bar goes first.
        drop(progress);
        if self.json {
            let told = json!({ "done": {
                "records": ledger.records,
                "written": ledger.written,
                "kept": ledger.kept,
                "deleted": ledger.deleted,
                "rejected": ledger.rejected,
                "revision": ledger.revision,
                "bytes": bytes,
                "seconds": (elapsed.as_secs_f64() * 1000.0).round() / 1000.0,
            }});
            say(&told.to_string());
        } else if self.verbose || io::stderr().is_terminal() {
            let mut line = summary(self.words.doing, records, bytes, elapsed);
            let counts = [
                (ledger.deleted, "removed"),
                (ledger.kept, "left alone"),
                (ledger.rejected, "rejected"),
            ];
            for (count, what) in counts {
                if count > 0 {
                    line.push_str(&format!("; {count} {what}"));
                }
            }
            say(&line);
        }
    }

    /// What that means.
    pub(super) fn exit(
        &self,
        end: End,
        ledger: &Ledger,
        checkpoint: Option<&Checkpoint>,
    ) -> Result<Exit, Failure> {
        let Words { doing, input, unit } = self.words;
        match end {
            End::Failed(failure) => Err(failure),
            End::Stopped => {
                let records = ledger.records;
                let what = format!("{doing} was stopped behind {unit} {records}");
                let remedy = match checkpoint {
                    Some(checkpoint) => format!(
                        "run the same command again: {} knows where to go on",
                        checkpoint.path().display()
                    ),
                    None => format!(
                        "go on from {unit} {}; with --checkpoint FILE it does so by itself",
                        records + 1
                    ),
                };
                let place = format!("{input}; all records up to there are written");
                Err(Failure::new(Exit::Interrupted, "stopped", what)
                    .at(place)
                    .remedy(remedy))
            }
            End::Done if ledger.rejected > 0 => Err(self.rejected(ledger)),
            End::Done => Ok(Exit::Done),
        }
    }

    fn rejected(&self, ledger: &Ledger) -> Failure {
        let Words { doing, input, unit } = self.words;
        let what = format!(
            "{doing} left out {} of {} records",
            ledger.rejected, ledger.records
        );
        let failure = Failure::new(Exit::Rejects, "rejects", what);
        let failure = match &ledger.first_rejected {
            Some(first) => {
                let (number, why) = (first.number, &first.why);
                failure.at(format!("{input}, first at {unit} {number}: {why}"))
            }
            None => failure.at(input),
        };
        match &ledger.rejects {
            Some(rejects) => failure.remedy(format!(
                "mend what is in {}, and give that to the same command",
                rejects.path.display()
            )),
            None => failure.remedy("--rejects FILE keeps them, so that they can be mended"),
        }
    }
}
