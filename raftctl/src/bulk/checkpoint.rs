//! How far a load has come, on disk: so that another process goes on where one ended, whatever ended
//! it, and nothing is lost or done twice.
//!
//! Each write of the load has a name, session and number, under which the cluster applies it once
//! however often it comes (rules C2). The file tells the session, and which records stand under
//! which number, *before* a write is sent. Whoever goes on sends those again that were without a
//! verdict, under their old numbers and with the same records. That they are the same is known from
//! a checksum over all operations that were done before.

use std::collections::VecDeque;
use std::fs::{self, File};
use std::io::{self, Write};
use std::mem;
use std::path::{Path, PathBuf};

use raftctl::client::RequestId;
use raftctl::failure::{Exit, Failure};
use serde::{Deserialize, Serialize};

use crate::files::{check_replaceable, inaccessible, publish};

/// The form of the file.
const FORM: u32 = 1;
/// A file has at most so many bytes: for one write in flight less than 100 are needed.
const BYTES_MAX: u64 = 1024 * 1024;

/// What the file says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct State {
    form: u32,
    /// The name of the next write, or of the first in flight.
    pub(crate) request: String,
    /// Records that are settled: the first so many of the input.
    pub(crate) records: u64,
    /// CRC-32 of their operations.
    pub(crate) crc32: u32,
    /// How many of them were refused.
    pub(crate) rejected: u64,
    /// Bytes of the file of rejects as of then.
    pub(crate) rejects_bytes: u64,
    /// What may have been sent, in order.
    pub(crate) in_flight: VecDeque<Sent>,
}

/// Records whose writes may have been sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sent {
    /// The last of them. The first is behind those before.
    pub(crate) last: u64,
    /// Each is a write of its own. Else all of them are one.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) singly: bool,
}

impl State {
    /// Of a load that has not sent anything, whose first write has this name.
    pub(crate) fn new(request: RequestId) -> Self {
        Self {
            form: FORM,
            request: request.to_string(),
            records: 0,
            crc32: 0,
            rejected: 0,
            rejects_bytes: 0,
            in_flight: VecDeque::new(),
        }
    }

    /// The name of the next write, or of the first in flight.
    pub(crate) fn request(&self) -> Option<RequestId> {
        self.request.parse().ok()
    }

    fn is_sound(&self) -> bool {
        let ends = self.in_flight.iter().map(|sent| sent.last);
        let all: Vec<u64> = [self.records].into_iter().chain(ends).collect();
        self.form == FORM
            && self.request().is_some()
            && self.rejected <= self.records
            && all.is_sorted()
    }

    /// Leaves out what holds no record, which there is in older files: nothing was sent for it.
    fn drop_empty(&mut self) {
        let mut end = self.records;
        self.in_flight
            .retain(|sent| mem::replace(&mut end, sent.last) < sent.last);
    }
}

/// The file.
#[derive(Clone, Debug)]
pub(crate) struct Checkpoint {
    path: PathBuf,
}

impl Checkpoint {
    pub(crate) fn new(path: &Path) -> Self {
        Self { path: path.into() }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the file says, if there is one.
    pub(crate) fn read(&self) -> Result<Option<State>, Failure> {
        check_replaceable(&self.path).map_err(|error| self.unusable(&error))?;
        let bytes = match fs::metadata(&self.path) {
            Ok(found) if found.len() > BYTES_MAX => return Err(self.damaged("it is too long")),
            Ok(_) => fs::read(&self.path).map_err(|error| self.unusable(&error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(self.unusable(&error)),
        };
        let mut state: State =
            serde_json::from_slice(&bytes).map_err(|error| self.damaged(&error.to_string()))?;
        if !state.is_sound() {
            return Err(self.damaged("what it says does not fit together"));
        }
        state.drop_empty();
        Ok(Some(state))
    }

    /// Replaces the file in one step, and for good: what it tells of may be sent then.
    pub(crate) fn write(&self, state: &State) -> Result<(), Failure> {
        let written = self.replace(state);
        written.map_err(|error| self.unusable(&error))
    }

    fn replace(&self, state: &State) -> io::Result<()> {
        let mut text = serde_json::to_vec(state)?;
        text.push(b'\n');
        let mut next = self.path.as_os_str().to_owned();
        next.push(".tmp");
        let next = PathBuf::from(next);
        let mut file = File::create(&next)?;
        file.write_all(&text)?;
        file.sync_data()?;
        publish(&next, &self.path)
    }

    fn unusable(&self, error: &io::Error) -> Failure {
        let what = format!("the checkpoint cannot be kept: {error}");
        inaccessible(
            Failure::new(Exit::Usage, "unusable", what),
            &self.path,
            error,
        )
    }

    fn damaged(&self, why: &str) -> Failure {
        let what = format!("the checkpoint cannot be understood: {why}");
        Failure::new(Exit::Damaged, "damaged", what)
            .at(self.path.display())
            .remedy("name another file; or, if it is an old checkpoint, remove it to begin at the begin")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAME: &str = "000000000000000100000000000000020000000000000003-7";

    #[test]
    fn a_state_is_read_as_it_was_written() {
        let folder = tempfile::tempdir().expect("a folder");
        let checkpoint = Checkpoint::new(&folder.path().join("ck"));
        assert_eq!(checkpoint.read(), Ok(None));
        let mut state = State::new(NAME.parse().expect("a name"));
        checkpoint.write(&state).expect("there is room");
        assert_eq!(checkpoint.read(), Ok(Some(state.clone())));
        state.records = 10;
        state.rejected = 1;
        state.in_flight.push_back(Sent {
            last: 12,
            singly: true,
        });
        checkpoint.write(&state).expect("there is room");
        assert_eq!(checkpoint.read(), Ok(Some(state)));
        let files = fs::read_dir(folder.path()).expect("a folder").count();
        assert_eq!(files, 1, "nothing is left over");
    }

    #[test]
    fn what_was_sent_and_holds_no_record_is_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let checkpoint = Checkpoint::new(&folder.path().join("ck"));
        let mut state = State::new(NAME.parse().expect("a name"));
        state.records = 5;
        for (written, read) in [(&[5][..], &[][..]), (&[6, 6, 8], &[6, 8])] {
            let sent = written.iter().map(|last| Sent {
                last: *last,
                singly: false,
            });
            state.in_flight = sent.collect();
            checkpoint.write(&state).expect("there is room");
            let found = checkpoint.read().expect("it is sound").expect("a state");
            let lasts: Vec<_> = found.in_flight.iter().map(|sent| sent.last).collect();
            assert_eq!(lasts, read);
        }
    }

    #[test]
    fn what_does_not_fit_together_is_refused() {
        let folder = tempfile::tempdir().expect("a folder");
        let checkpoint = Checkpoint::new(&folder.path().join("ck"));
        let good = State::new(NAME.parse().expect("a name"));
        let sent = |last| Sent {
            last,
            singly: false,
        };
        let states = [
            State {
                form: 2,
                ..good.clone()
            },
            State {
                request: "x".into(),
                ..good.clone()
            },
            State {
                rejected: 1,
                ..good.clone()
            },
            State {
                records: 5,
                in_flight: [sent(4)].into(),
                ..good.clone()
            },
            State {
                in_flight: [sent(5), sent(4)].into(),
                ..good.clone()
            },
        ];
        for state in states {
            checkpoint.write(&state).expect("there is room");
            let refused = checkpoint.read().expect_err("it is not sound");
            assert_eq!(refused.exit, Exit::Damaged, "{state:?}");
        }
        for text in ["", "{}", "[1]"] {
            fs::write(&checkpoint.path, text).expect("there is room");
            assert!(checkpoint.read().is_err(), "{text}");
        }
    }
}
