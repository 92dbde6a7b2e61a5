//! `raftctl edit`: a value in an editor, saved only if nobody changed it meanwhile.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::Command as Process;

use raftctl::client::{Command, Consistency, Deadline, Entry, Expect, Outcome, Written};
use raftctl::failure::{Exit, Failure};
use serde_json::json;
use wire::limits::VALUE_BYTES_MAX;

use crate::encoding::Codec;
use crate::encoding::Encoding;
use crate::encoding::screen::shown;
use crate::encoding::shell::{can_be_typed, quoted};
use crate::input::{self, ENCODED_BYTES_MAX};
use crate::session::{Session, odd_outcome};

/// What is started if neither VISUAL nor EDITOR names an editor.
const EDITOR_DEFAULT: &str = "vi";
/// Bytes of the name of a draft's file.
const NAME_BYTES_MAX: usize = 64;

/// Change a value in your editor; it is saved if nobody changed it meanwhile.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl edit cfg/nginx
  EDITOR=nano raftctl edit cfg/nginx
  EDITOR='sed -i s/debug/info/' raftctl edit cfg/log-level")]
pub(crate) struct Args {
    /// A key that is not there is made.
    #[arg(allow_negative_numbers = true)]
    key: OsString,
    #[command(flatten)]
    codec: Codec,
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let key = input::full_key(&args.key, args.codec.key.key_encode)?;
    let what = format!("edit {}", shown(&key));
    let before = session
        .client()
        .get(&key, Consistency::Linearizable, session.deadline())
        .map_err(|error| Failure::of(&what, &error))?;
    let edit = Edit {
        what,
        key,
        before,
        encoding: args.codec.encode,
    };
    let draft = Draft::new(&edit).map_err(|error| {
        Failure::new(Exit::Bug, "draft", format!("{} failed: {error}", edit.what))
            .at(env::temp_dir().display())
            .remedy("TMPDIR names another folder for drafts")
    })?;
    edit.run(draft, session)
}

/// One change of a value.
struct Edit {
    what: String,
    key: Vec<u8>,
    before: Option<Entry>,
    encoding: Option<Encoding>,
}

impl Edit {
    /// The text that the editor gets.
    fn text(&self) -> Vec<u8> {
        let value = self.before.as_ref().map_or(&[][..], |entry| &entry.value);
        match self.encoding {
            Some(encoding) => (encoding.encode(value) + "\n").into_bytes(),
            None => value.to_vec(),
        }
    }

    fn run(&self, draft: Draft, session: &mut Session<'_>) -> Result<Exit, Failure> {
        let left = session.signals.leave();
        let what = format!("{} was ended by SIGTERM", self.what);
        let terminated = Failure::new(Exit::Interrupted, "terminated", what);
        let terminated = draft.told(terminated.remedy(self.again(&draft, None)));
        // Without them SIGTERM ends the process as before.
        let last_words = session.signals.last_words(format!("{terminated}\n"));
        let ended = draft.edit();
        drop((left, last_words));
        let text = draft.read();
        let is_same = text.as_ref().is_ok_and(|text| *text == self.text());
        if let Err(why) = ended {
            let failure = why.to_failure(&self.what);
            return Err(if is_same {
                failure
            } else {
                draft.keep(failure)
            });
        }
        let new = match text.and_then(|text| self.value(text)) {
            Ok(new) => new,
            Err(failure) => return Err(draft.keep(failure)),
        };
        let old = self.before.as_ref().map(|entry| &entry.value);
        if is_same || old == Some(&new) {
            return self.tell(None, session);
        }
        if self.encoding.is_none() {
            // What is sent is what the line of `again` would send.
            draft.write(&new);
        }
        let command = Command::CompareAndSwap {
            key: &self.key,
            expect: match &self.before {
                Some(entry) => Expect::Revision(entry.revision),
                None => Expect::Absent,
            },
            value: &new,
        };
        session.signals.hold();
        // The time that the editor took does not count.
        let written = session
            .client()
            .write(command, Deadline::after(session.timeout));
        match written {
            Ok(written) => match self.verdict(&written, &draft) {
                Ok(()) => self.tell(Some(&written), session),
                Err(failure) => Err(draft.keep(failure)),
            },
            Err(error) => {
                let mut failure = Failure::of(&self.what, &error);
                failure.remedy = self.again(&draft, failure.request.as_deref());
                Err(draft.keep(failure))
            }
        }
    }

    /// The value that the text stands for.
    fn value(&self, mut text: Vec<u8>) -> Result<Vec<u8>, Failure> {
        if self.encoding.is_some() {
            return input::decode("value", &text, self.encoding);
        }
        let had_line_end = self
            .before
            .as_ref()
            .is_some_and(|entry| entry.value.ends_with(b"\n"));
        let was_empty = self
            .before
            .as_ref()
            .is_none_or(|entry| entry.value.is_empty());
        // Editors end the last line; a value that did not have that end does not get it.
        if !had_line_end && !was_empty && text.ends_with(b"\n") {
            text.pop();
        }
        Ok(text)
    }

    fn verdict(&self, written: &Written, draft: &Draft) -> Result<(), Failure> {
        let now = match written.outcome {
            Outcome::Swapped => return Ok(()),
            Outcome::NotSwapped(Some(revision)) => format!("is at revision {revision}"),
            Outcome::NotSwapped(None) => "is gone".to_owned(),
            _ => return Err(odd_outcome(&self.what, written)),
        };
        let what = format!("{} was not saved: somebody changed it, it {now}", self.what);
        let show = format!(
            "raftctl get {} | diff - {}",
            self.key_words(),
            draft.shown()
        );
        Err(Failure::new(Exit::No, "conflict", what).remedy(show))
    }

    fn tell(&self, written: Option<&Written>, session: &mut Session<'_>) -> Result<Exit, Failure> {
        let before = self.before.as_ref().map(|entry| entry.revision.0);
        let revision = written.map_or(before, |written| Some(written.revision.0));
        if session.out.json() {
            let object = json!({"changed": written.is_some(), "revision": revision});
            session.out.object(&object)?;
        }
        session.out.note(&match written {
            Some(written) => format!("{}: revision {}", self.what, written.revision),
            None => format!("{}: nothing was changed", self.what),
        })?;
        Ok(Exit::Done)
    }

    /// The line that does what the edit did not.
    fn again(&self, draft: &Draft, request: Option<&str>) -> String {
        let expect = match &self.before {
            Some(entry) => format!("--expect-revision {}", entry.revision),
            None => "--expect-absent".into(),
        };
        let mut line = format!("raftctl cas {} {expect}", self.key_words());
        if let Some(encoding) = self.encoding {
            line += &format!(" --encode {}", encoding.name());
        }
        if let Some(request) = request {
            line += &format!(" --request-id {request}");
        }
        line + &format!(" - < {}", draft.shown())
    }

    /// The key as words of a command line.
    fn key_words(&self) -> String {
        let key = OsStr::from_bytes(&self.key);
        match can_be_typed(key) && !self.key.starts_with(b"-") {
            true => quoted(key),
            false => format!("--key-encode hex {}", Encoding::Hex.encode(&self.key)),
        }
    }
}

/// Why an editor is no help.
enum Ended {
    NotStarted(String),
    Failed(String),
}

impl Ended {
    fn to_failure(&self, what: &str) -> Failure {
        match self {
            Self::NotStarted(why) => {
                Failure::new(Exit::Usage, "editor", format!("{what} failed: {why}"))
                    .remedy("VISUAL or EDITOR names an editor that is installed")
            }
            Self::Failed(why) => {
                Failure::new(Exit::No, "editor", format!("{what} saved nothing: {why}"))
            }
        }
    }
}

/// A file in a folder of its own, which nobody else may read. Both are removed at the end, unless
/// the text is still needed.
struct Draft {
    folder: PathBuf,
    file: PathBuf,
    is_kept: bool,
}

impl Draft {
    fn new(edit: &Edit) -> io::Result<Self> {
        let mut random = [0; 8];
        rustix::rand::getrandom(&mut random, rustix::rand::GetRandomFlags::empty())?;
        let name = format!("raftctl-edit-{}", Encoding::Hex.encode(&random));
        let folder = env::temp_dir().join(name);
        DirBuilder::new().mode(0o700).create(&folder)?;
        let file = folder.join(file_name(&edit.key));
        let draft = Self {
            folder,
            file,
            is_kept: false,
        };
        let mut options = OpenOptions::new();
        options.write(true).create_new(true).mode(0o600);
        options.open(&draft.file)?.write_all(&edit.text())?;
        Ok(draft)
    }

    fn shown(&self) -> String {
        quoted(self.file.as_os_str())
    }

    /// Starts the editor, as a shell does: it may have arguments.
    fn edit(&self) -> Result<(), Ended> {
        let named = |name| {
            env::var(name)
                .ok()
                .filter(|editor| !editor.trim().is_empty())
        };
        let editor = named("VISUAL").or_else(|| named("EDITOR"));
        let is_seen = io::stdin().is_terminal() && io::stdout().is_terminal();
        let Some(editor) = editor.as_deref().or(is_seen.then_some(EDITOR_DEFAULT)) else {
            let why = "nobody sits at a terminal, and no editor was named";
            return Err(Ended::NotStarted(why.into()));
        };
        let status = Process::new("sh")
            .arg("-c")
            .arg(format!("{editor} \"$@\""))
            .arg(editor)
            .arg(&self.file)
            .status()
            .map_err(|error| Ended::NotStarted(format!("sh: {error}")))?;
        // What a shell says of a command that it cannot start.
        match status.code() {
            Some(0) => Ok(()),
            Some(126 | 127) => Err(Ended::NotStarted(format!("{editor} cannot be started"))),
            _ => Err(Ended::Failed(format!("{editor} ended with {status}"))),
        }
    }

    /// Replaces the text.
    fn write(&self, text: &[u8]) {
        // If this fails the text of the editor is still there, which differs in a line end.
        let _ = fs::write(&self.file, text);
    }

    fn read(&self) -> Result<Vec<u8>, Failure> {
        let limit = ENCODED_BYTES_MAX;
        let mut text = Vec::new();
        let read = File::open(&self.file)
            .and_then(|file| file.take(limit as u64 + 1).read_to_end(&mut text));
        read.map_err(|error| {
            let what = format!("the text cannot be read any more: {error}");
            Failure::new(Exit::No, "editor", what)
        })?;
        if text.len() > limit {
            let what = format!("a value has at most {VALUE_BYTES_MAX} bytes");
            return Err(Failure::new(Exit::Refused, "too-large", what));
        }
        Ok(text)
    }

    /// Leaves the text where it is, and says so. The editor may have removed it.
    fn keep(mut self, failure: Failure) -> Failure {
        self.is_kept = self.file.exists();
        match self.is_kept {
            true => self.told(failure),
            false => failure,
        }
    }

    /// The failure, with the place of the text.
    fn told(&self, failure: Failure) -> Failure {
        let place = match failure.place.as_str() {
            "" => String::new(),
            place => format!("{place}; "),
        };
        let place = format!("{place}your text is in {}", self.file.display());
        failure.at(place)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        if !self.is_kept {
            // An editor may have left files of its own beside it; what stays does no harm.
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

/// A name that tells an editor what language the text is in.
fn file_name(key: &[u8]) -> String {
    let last = key.rsplit(|byte| *byte == b'/').next().unwrap_or_default();
    let fits = |byte: &&u8| byte.is_ascii_alphanumeric() || b"._-".contains(byte);
    let name: Vec<u8> = last
        .iter()
        .filter(fits)
        .take(NAME_BYTES_MAX)
        .copied()
        .collect();
    let name = String::from_utf8(name).unwrap_or_default();
    let name = name.trim_start_matches(['.', '-']);
    if name.is_empty() || Path::new(name).file_name().is_none() {
        return "value".into();
    }
    name.into()
}
