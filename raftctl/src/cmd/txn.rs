//! `raftctl txn`: several operations as one, if the keys are as expected.

mod object;
mod parse;
mod plan;
mod row;
mod words;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, BufRead, IsTerminal, Read, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use raftctl::client::{Command, Compares, Outcome, Txn, Undone, Written};
use raftctl::failure::{Exit, Failure};
use serde_json::json;
use wire::limits::{ENTRY_KEYS_MAX, TXN_APPENDS_MAX};

use self::parse::Part;
use self::plan::{Plan, Step};
use self::row::Row;
use crate::encoding::Codec;
use crate::encoding::{screen, tsv};
use crate::files::inaccessible;
use crate::session::{Resumed, Session, not_kept, odd_outcome};
use crate::undone;

/// Bytes of a file of words or JSON: more than any txn may have, however it is written.
const TEXT_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Do several operations as one, if all compares hold: exit 0; else do others: exit 1.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl txn --if 'version(a)=5' --then 'put a 1' --then 'del b' --else 'get a'
  raftctl txn --if 'absent(lock)' --then 'put lock me' --then 'incr locks'
  raftctl txn move.txn")]
pub(crate) struct Args {
    /// The same line by line, with if, then or else in front, or as one JSON object; `-` is
    /// standard input.
    #[arg(conflicts_with_all = ["compares", "then", "or_else"])]
    file: Option<OsString>,
    /// What must be: value(KEY)=V, revision, create_revision or version(KEY)=N, exists(KEY),
    /// absent(KEY); the relations are = != < >.
    #[arg(long = "if", value_name = "COMPARE")]
    compares: Vec<OsString>,
    /// What to do then: put K V, get K, del K, cas K .., incr K [N], append K V.
    #[arg(long, value_name = "OPERATION")]
    then: Vec<OsString>,
    /// What to do otherwise.
    #[arg(long = "else", value_name = "OPERATION")]
    or_else: Vec<OsString>,
    #[command(flatten)]
    codec: Codec,
    #[command(flatten)]
    resumed: Resumed,
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let Some(plan) = plan(args)? else {
        return Ok(Exit::Usage);
    };
    if plan.len() > ENTRY_KEYS_MAX || plan.appends() > TXN_APPENDS_MAX {
        return Err(too_large());
    }
    let compares = plan.encode_compares();
    let then = Plan::encode(&plan.then).map_err(|_| too_large())?;
    let or_else = Plan::encode(&plan.or_else).map_err(|_| too_large())?;
    let txn = Txn {
        compares: Compares { bytes: &compares },
        then: then.operations(),
        or_else: or_else.operations(),
    };
    let written = session.write("txn", args.resumed, Command::Txn(txn))?;
    match &written.outcome {
        Outcome::Txn { held, .. } => {
            let steps = if *held { &plan.then } else { &plan.or_else };
            tell(&written, *held, steps, args.codec, session)?;
            Ok(if *held { Exit::Done } else { Exit::No })
        }
        Outcome::Undone {
            held,
            operation,
            why,
        } => {
            let (part, steps) = match held {
                true => (Part::Then, &plan.then),
                false => (Part::Else, &plan.or_else),
            };
            let at = *operation as usize;
            let step = steps.get(at).ok_or_else(|| odd_outcome("txn", &written))?;
            Err(refused(part, at, step, *why))
        }
        _ => Err(odd_outcome("txn", &written)),
    }
}

fn too_large() -> Failure {
    let what = format!(
        "a txn has at most {ENTRY_KEYS_MAX} compares and operations, {TXN_APPENDS_MAX} of them \
         appends, in 1.5 MiB"
    );
    Failure::new(Exit::Refused, "too-large", what).remedy("make several of it")
}

/// What is to be done; `None` if whoever was asked says no.
fn plan(args: &Args) -> Result<Option<Plan>, Failure> {
    let codec = args.codec;
    let mut plan = Plan::default();
    let told = [
        (Part::If, &args.compares),
        (Part::Then, &args.then),
        (Part::Else, &args.or_else),
    ];
    if told.iter().any(|(_, texts)| !texts.is_empty()) {
        for (part, texts) in told {
            for text in texts {
                parse::add(&mut plan, part, text.as_bytes(), codec, "")?;
            }
        }
        return Ok(Some(plan));
    }
    let text = match args.file.as_deref() {
        Some(path) if path != "-" => {
            let name = path.display().to_string();
            let file = File::open(path).map_err(|error| {
                inaccessible(unreadable(&error, "the txn"), Path::new(path), &error)
            })?;
            whole(file, &name)?
        }
        None if io::stdin().is_terminal() => return ask(codec),
        _ => whole(io::stdin().lock(), "standard input")?,
    };
    if text.trim_ascii_start().starts_with(b"{") {
        plan = object::read(&text, codec)?;
    } else {
        parse::add_lines(&mut plan, &text, codec)?;
    }
    if plan == Plan::default() {
        return Err(nothing_to_do());
    }
    Ok(Some(plan))
}

/// Who was to say it has failed, or forgot to.
fn nothing_to_do() -> Failure {
    Failure::usage("nothing is to be done")
        .remedy("raftctl txn --if .. --then .., or lines of them in a file or a pipe")
}

fn whole(source: impl Read, name: &str) -> Result<Vec<u8>, Failure> {
    let mut text = Vec::new();
    let read = source.take(TEXT_BYTES_MAX + 1).read_to_end(&mut text);
    read.map_err(|error| unreadable(&error, name))?;
    if text.len() as u64 > TEXT_BYTES_MAX {
        let what = format!("{name} is longer than any txn");
        return Err(Failure::new(Exit::Refused, "too-large", what).remedy("make several of it"));
    }
    Ok(text)
}

fn unreadable(error: &io::Error, name: &str) -> Failure {
    Failure::usage(format!("{name} cannot be read: {error}"))
}

/// Asks a person for lines, shows what they come to, and asks whether it is meant.
fn ask(codec: Codec) -> Result<Option<Plan>, Failure> {
    let (stdin, mut stderr) = (io::stdin(), io::stderr());
    if !stderr.is_terminal() {
        let what = "no txn was given, and standard input is a terminal";
        return Err(Failure::usage(what).remedy("raftctl txn --if .. --then .., or a file"));
    }
    let mut say = |text: &str| {
        let said = stderr.write_all(text.as_bytes());
        said.and_then(|()| stderr.flush())
            .map_err(|error| unreadable(&error, "the terminal"))
    };
    say("if COMPARE, then OPERATION, else OPERATION; an empty line ends it\n")?;
    let mut text = String::new();
    let mut plan = Plan::default();
    loop {
        say("> ")?;
        let mut line = Vec::new();
        let read = stdin.lock().read_until(b'\n', &mut line);
        read.map_err(|error| unreadable(&error, "the terminal"))?;
        if line.trim_ascii().is_empty() {
            break;
        }
        match parse::add_lines(&mut plan, &line, codec) {
            Ok(()) => text += &(screen::visible(line.trim_ascii()) + "\n"),
            Err(failure) => say(&format!("{}\n", failure.at("this line")))?,
        }
    }
    if text.is_empty() {
        return Err(nothing_to_do());
    }
    say(&format!(
        "{text}compares {}, then {}, else {}: type yes to go on: ",
        plan.compares.len(),
        plan.then.len(),
        plan.or_else.len()
    ))?;
    let mut answer = String::new();
    let read = stdin.lock().read_line(&mut answer);
    read.map_err(|error| unreadable(&error, "the terminal"))?;
    if answer.trim() == "yes" {
        return Ok(Some(plan));
    }
    say("nothing was done\n")?;
    Ok(None)
}

/// Why nothing was done.
fn refused(part: Part, at: usize, step: &Step, why: Undone) -> Failure {
    let what = format!("txn was refused: {}: {}", step.name(), undone::text(why));
    let key = screen::shown(step.key());
    Failure::new(Exit::Refused, undone::name(why), what)
        .at(format!("{}, operation {}: {key}", part.name(), at + 1))
        .remedy("nothing changed, not by the other operations either")
}

/// Prints what each operation did.
fn tell(
    written: &Written,
    held: bool,
    steps: &[Step],
    codec: Codec,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let Outcome::Txn { results, .. } = &written.outcome else {
        return Err(odd_outcome("txn", written));
    };
    let mut rows = Vec::new();
    if let Some(results) = results {
        let told: Vec<_> = results.iter().collect();
        if told.len() != steps.len() {
            return Err(odd_outcome("txn", written));
        }
        for (step, result) in steps.iter().zip(told) {
            rows.push(Row::new(step, result).ok_or_else(|| odd_outcome("txn", written))?);
        }
    } else {
        // There is nowhere to tell of a failure to tell.
        let _ = writeln!(io::stderr(), "{}", not_kept("txn", written));
    }
    let out = &mut session.out;
    if out.json() {
        let rows: Vec<_> = rows.iter().map(|row| row.object(codec)).collect();
        let told = results.as_ref().map(|_| rows);
        return out.object(&json!({
            "ok": held,
            "revision": written.revision.0,
            "results": told,
        }));
    }
    if out.for_person() {
        let branch = if held { "then" } else { "else" };
        out.line(&format!("{branch}: revision {}", written.revision))?;
        if rows.is_empty() {
            return Ok(());
        }
        let cells = rows.iter().map(|row| {
            let cells = row.fields(codec).map(|field| screen::line(&field));
            cells
                .map(|cell| screen::cut(cell, out.columns() / 2))
                .into()
        });
        let cells = cells.collect();
        return out.table(&["OPERATION", "KEY", "RESULT", "VALUE"], &[], cells);
    }
    let mut lines = Vec::new();
    for row in &rows {
        let fields = row.fields(codec);
        tsv::line(fields.iter().map(Vec::as_slice), &mut lines);
    }
    out.text(&lines)
}
