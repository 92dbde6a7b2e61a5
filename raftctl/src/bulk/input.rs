//! The input, read on a thread of its own: bytes, records, blocks.

use std::ffi::OsStr;
use std::fs::{self, File, Metadata};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::mpsc::SyncSender;
use std::time::Duration;

use raftctl::failure::{Exit, Failure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::block::{Block, Builder, Over};
use super::units::Units;
use super::words::Words;
use crate::decoding::{Decoder, Each};
use crate::files::inaccessible;

/// Blocks on their way to whoever sends them.
pub(crate) const BLOCKS: usize = 8;
/// Its name, where it is no file's.
const STDIN: &str = "standard input";
/// Bytes asked of the kernel in one read.
pub(super) const READ_BYTES: usize = 256 * 1024;
/// A block that waits for more is sent when the input was silent for so long.
const SILENCE: Duration = Duration::from_millis(1);

/// What the thread brings.
#[derive(Debug)]
pub(crate) enum Intake {
    /// The next records.
    Block(Box<Block>),
    /// The input cannot be read on.
    Failed(Failure),
    /// A signal told to stop.
    Stopped,
}

/// An open input.
#[derive(Debug)]
pub(crate) struct Input {
    pub(crate) file: File,
    /// For messages.
    pub(crate) name: String,
    /// Bytes of a file; `None` for what has no end that is known.
    pub(crate) bytes: Option<u64>,
}

impl Input {
    /// The file of this name; `-` or none is standard input, which must not be a terminal if nobody
    /// named it.
    pub(crate) fn open(path: Option<&OsStr>, doing: &str) -> Result<Self, Failure> {
        let Some(path) = path.filter(|path| *path != "-") else {
            let stdin = io::stdin();
            if path.is_none() && stdin.is_terminal() {
                let what = format!("{doing} reads records, and standard input is a terminal");
                let how = match doing {
                    "load" => "raftctl load FILE, or raftctl load - to type them".to_owned(),
                    _ => format!("raftctl {doing} --stdin < FILE"),
                };
                return Err(Failure::usage(what).remedy(how));
            }
            let file = stdin.as_fd().try_clone_to_owned().map(File::from);
            let file = file.map_err(|error| unreadable(doing, STDIN, &error))?;
            return Self::of(file, STDIN, doing);
        };
        let name = path.to_string_lossy();
        let file = File::open(path).map_err(|error| unreadable(doing, &name, &error))?;
        Self::of(file, &name, doing)
    }

    fn of(file: File, name: &str, doing: &str) -> Result<Self, Failure> {
        let metadata = file.metadata();
        let metadata = metadata.map_err(|error| unreadable(doing, name, &error))?;
        if metadata.is_dir() {
            let error = io::ErrorKind::IsADirectory.into();
            return Err(unreadable(doing, name, &error));
        }
        Ok(Self {
            file,
            name: name.into(),
            bytes: metadata.is_file().then_some(metadata.len()),
        })
    }

    /// Whether it is the file of this name.
    pub(super) fn is_at(&self, path: &Path) -> bool {
        let place = |of: io::Result<Metadata>| of.map(|of| (of.dev(), of.ino())).ok();
        let there = place(fs::metadata(path));
        self.bytes.is_some() && there.is_some() && there == place(self.file.metadata())
    }

    /// It cannot be read on.
    pub(super) fn unreadable(&self, doing: &str, error: &io::Error) -> Failure {
        unreadable(doing, &self.name, error)
    }
}

fn unreadable(doing: &str, name: &str, error: &io::Error) -> Failure {
    let what = format!("{doing} failed: the input cannot be read: {error}");
    let failure = Failure::new(Exit::Usage, "unreadable", what);
    match name {
        STDIN => failure.at(name),
        path => inaccessible(failure, Path::new(path), error),
    }
}

/// Reads an input to its end.
#[derive(Debug)]
pub(crate) struct Reader {
    pub(crate) input: Input,
    pub(crate) decoder: Decoder,
    pub(crate) builder: Builder,
    /// Has something to read once a signal told to stop.
    pub(crate) stop: UnixStream,
    /// For messages.
    pub(crate) doing: &'static str,
    /// What one record is, for messages.
    pub(crate) unit: &'static str,
}

/// What to do after a wait.
enum Waited {
    Readable,
    Silence,
    Stopped,
}

/// Why the thread ends before the input does.
enum End {
    /// Nobody takes blocks any more.
    Unwanted,
    Failed(Failure),
    Stopped,
}

impl Reader {
    /// Until the end, a failure or a signal; without a receiver, too.
    pub(crate) fn run(mut self, intake: &SyncSender<Intake>) {
        let last = match self.read_all(intake) {
            Ok(()) | Err(End::Unwanted) => return,
            Err(End::Failed(failure)) => Intake::Failed(failure),
            Err(End::Stopped) => Intake::Stopped,
        };
        // If nobody takes it, nobody wants to know.
        let _ = intake.send(last);
    }

    fn read_all(&mut self, intake: &SyncSender<Intake>) -> Result<(), End> {
        let mut units = Units::default();
        let mut ends = false;
        while !ends {
            loop {
                match self.wait() {
                    Waited::Readable => break,
                    Waited::Silence => {
                        self.builder.cut();
                        self.pass_on(intake)?;
                    }
                    Waited::Stopped => return Err(End::Stopped),
                }
            }
            let read = units.fill(&mut self.input.file, READ_BYTES);
            let read =
                read.map_err(|error| End::Failed(self.input.unreadable(self.doing, &error)))?;
            ends = read == 0;
            self.decode(&mut units, ends, intake)?;
        }
        self.builder.finish();
        self.pass_on(intake)?;
        self.check_over()
    }

    /// Waits for input. While records wait for company, not for long.
    fn wait(&self) -> Waited {
        let silence = self.builder.has_rest().then(|| Timespec {
            tv_sec: 0,
            tv_nsec: SILENCE.as_nanos().try_into().unwrap_or(0),
        });
        let mut both = [
            PollFd::new(&self.input.file, PollFlags::IN),
            PollFd::new(&self.stop, PollFlags::IN),
        ];
        loop {
            match poll(&mut both, silence.as_ref()) {
                Ok(0) => return Waited::Silence,
                Err(Errno::INTR) => {}
                Ok(_) if !both[1].revents().is_empty() => return Waited::Stopped,
                // An error shows itself when it is read.
                Ok(_) | Err(_) => return Waited::Readable,
            }
        }
    }

    /// Takes all whole units that are there.
    fn decode(
        &mut self,
        units: &mut Units,
        ends: bool,
        intake: &SyncSender<Intake>,
    ) -> Result<(), End> {
        loop {
            let builder = &mut self.builder;
            let each: &mut Each<'_> = &mut |datum, raw| builder.take(datum, raw);
            let used = self.decoder.decode(units.unread(), ends, each);
            let used = match used {
                Ok(0) => return Ok(()),
                Ok(used) => used,
                Err(broken) => {
                    if !self.builder.is_whole() {
                        // What came before is sound.
                        self.builder.finish();
                        self.pass_on(intake)?;
                    }
                    let (offset, count) = (units.offset(), self.builder.count());
                    let failure = self
                        .words()
                        .broken(&self.decoder, &broken.why, offset, count);
                    return Err(End::Failed(failure.remedy(match self.builder.is_whole() {
                        true => "make the file anew; nothing was written",
                        false => "make the file anew; what came before that place was written",
                    })));
                }
            };
            units.consume(used);
            self.builder.read(used);
            self.pass_on(intake)?;
            if self.builder.over().is_some() {
                self.builder.finish();
                self.pass_on(intake)?;
                return self.check_over();
            }
        }
    }

    fn pass_on(&mut self, intake: &SyncSender<Intake>) -> Result<(), End> {
        while let Some(block) = self.builder.pop() {
            let sent = intake.send(Intake::Block(Box::new(block)));
            sent.map_err(|_| End::Unwanted)?;
        }
        Ok(())
    }

    fn check_over(&self) -> Result<(), End> {
        match self.builder.over() {
            None => Ok(()),
            // Its block says so.
            Some(Over::Refused) => Err(End::Unwanted),
            Some(Over::TooLarge) => Err(End::Failed(self.too_large())),
            Some(Over::OtherInput) => Err(End::Failed(self.other_input())),
        }
    }

    fn too_large(&self) -> Failure {
        let what = format!(
            "{} was refused: all records are more than fits into one step",
            self.doing
        );
        Failure::new(Exit::Refused, "too-large", what)
            .at(self.place(self.builder.count() + 1))
            .remedy("one step has at most 10,000 records, 256 appends and 1.5 MiB: load them without --atomic")
    }

    fn other_input(&self) -> Failure {
        let what = format!(
            "{} failed: the checkpoint is of another input, or of other options",
            self.doing
        );
        Failure::new(Exit::Usage, "other-input", what)
            .at(self.place(self.builder.count()))
            .remedy("give the input that it was made with; or remove it, to begin at the begin")
    }

    fn words(&self) -> Words<'_> {
        Words {
            doing: self.doing,
            input: &self.input.name,
            unit: self.unit,
        }
    }

    fn place(&self, record: u64) -> String {
        format!("{}, {} {record}", self.input.name, self.unit)
    }
}
