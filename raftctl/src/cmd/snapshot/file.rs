//! Snapshot files on this machine: verified, looked into, made into a new cluster. No node is asked.

use std::fs::{self, File};
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use indicatif::ProgressBar;
use raftctl::failure::{Exit, Failure};
use raftd::disk::Meter;
use raftd::fatal::{ExitStatus, Fatal};
use raftd::snapshot::format::FORMAT;
use raftd::snapshot::{self, Found, Verified, Verifier};
use raftd::storage;
use raftd::value::told_address;
use serde_json::json;
use wire::membership::{MemberRecord, Suffrage};
use wire::types::NodeId;

use crate::bar::{bar, metered};
use crate::encoding::shell::quoted;
use crate::files::inaccessible;
use crate::session::Session;

/// The size of segments that the daemon makes if it is not told otherwise.
const SEGMENT_BYTES: u64 = 64 << 20;

/// Which file.
#[derive(Debug, clap::Args)]
pub(super) struct Source {
    /// A snapshot's file; - is standard input.
    file: PathBuf,
}

/// Make a new cluster of one node from a snapshot, under a new cluster id and epoch. Members and
/// clients of the old cluster are refused by it.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl snapshot restore backup.snap --data-dir /var/lib/raftd/new
  raftctl snapshot restore backup.snap --data-dir /srv/new --peer-addr 10.0.0.1:7401")]
pub(super) struct Restore {
    /// A snapshot's file.
    file: PathBuf,
    /// The data directory to make; it is not there yet, or empty.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// The address where members that are added later find it. Default: 127.0.0.1:7401.
    #[arg(long, value_name = "HOST:PORT", value_parser = told_address)]
    peer_addr: Option<String>,
}

/// Says whether the file is whole and sound; all of it is read.
pub(super) fn verify(source: &Source, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let verified = read(source, "snapshot verify", session)?;
    if session.out.json() {
        session.out.object(&json!({"ok": true}))?;
    }
    let header = &verified.header;
    let (id, keys) = (header.head.applied, header.head.keys);
    session
        .out
        .note(&format!("sound: {keys} keys as of {id}"))?;
    Ok(Exit::Done)
}

/// Tells what is in the file; all of it is read.
pub(super) fn inspect(source: &Source, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let verified = read(source, "snapshot inspect", session)?;
    let (info, header) = (verified.info(), &verified.header);
    let members = header.membership().members;
    let listed: Vec<_> = members
        .iter()
        .map(|member| {
            json!({
                "id": member.id.0,
                "name": member.name,
                "peer_addr": member.peer_addr,
                "kind": member.suffrage.to_string(),
            })
        })
        .collect();
    let told = json!({
        "format": FORMAT,
        "cluster_id": header.cluster.to_string(),
        "epoch": format!("{:016x}", header.head.epoch.0),
        "index": info.id.index.0,
        "term": info.id.term.0,
        "entries": header.head.keys,
        "sessions": header.head.sessions,
        "members": listed,
        "bytes": info.bytes,
        "digest": format!("{:032x}", info.digest),
    });
    let out = &mut session.out;
    if out.json() {
        out.object(&told)?;
        return Ok(Exit::Done);
    }
    let shown = |value: &serde_json::Value| match value {
        serde_json::Value::String(text) => text.clone(),
        serde_json::Value::Array(_) => {
            let members: Vec<_> = members.iter().map(shown_member).collect();
            members.join(",")
        }
        other => other.to_string(),
    };
    let fields = told.as_object().expect("it is an object").iter();
    let rows: Vec<_> = fields
        .map(|(name, value)| vec![name.clone(), shown(value)])
        .collect();
    if out.for_person() {
        out.table(&[], &[], rows)?;
    } else {
        out.rows(&["field", "value"], &rows)?;
    }
    Ok(Exit::Done)
}

/// `4=HOST:PORT`, and what it is if that is no plain voter.
fn shown_member(member: &MemberRecord) -> String {
    let shown = format!("{}={}", member.id, member.peer_addr);
    match member.suffrage {
        Suffrage::Voter => shown,
        other => format!("{shown}({other})"),
    }
}

/// Makes a data directory, and prints the command that starts a node from it.
pub(super) fn restore(args: &Restore, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let peer_addr = args.peer_addr.as_deref();
    let file_bytes = fs::metadata(&args.file).map_or(0, |file| file.len());
    let bar = bar(storage::RESTORE_PASSES * file_bytes, session.out.style());
    let meter = Meter::default();
    let restored = metered(&bar, &meter, || {
        storage::restore(&args.file, &args.data_dir, peer_addr, SEGMENT_BYTES, &meter)
    });
    let restored = restored.map_err(|fatal| refused("snapshot restore", &fatal))?;
    let identity = &restored.identity;
    let mut command = start_line(identity.node, &args.data_dir);
    if let Some(addr) = &args.peer_addr {
        command.push_str(&format!(" --peer-listen {addr}"));
    }
    let out = &mut session.out;
    if out.json() {
        out.object(&json!({
            "cluster_id": identity.cluster.to_string(),
            "epoch": format!("{:016x}", identity.epoch.0),
            "index": restored.snapshot.index.0,
            "entries": restored.keys,
            "command": command,
        }))?;
    } else {
        out.line(&command)?;
    }
    Ok(Exit::Done)
}

/// What starts a node that has its data directory.
pub(in crate::cmd) fn start_line(node: NodeId, data_dir: &Path) -> String {
    let dir = quoted(data_dir.as_os_str());
    format!("raftd --id {node} --data-dir {dir}")
}

/// Reads all of it, with a bar on a terminal.
fn read(source: &Source, doing: &str, session: &Session<'_>) -> Result<Verified, Failure> {
    let path = source.file.as_path();
    let is_stdin = path == Path::new("-");
    if is_stdin && io::stdin().is_terminal() {
        return Err(
            Failure::usage(format!("{doing} reads a snapshot, not a terminal"))
                .remedy(format!("raftctl {doing} FILE")),
        );
    }
    let unreadable = |cause: io::Error| {
        let what = format!("{doing} failed: {cause}");
        let failure = Failure::new(Exit::Usage, "unreadable", what);
        match is_stdin {
            true => failure.at("standard input"),
            false => inaccessible(failure, path, &cause),
        }
    };
    let opened = match is_stdin {
        true => io::stdin().as_fd().try_clone_to_owned().map(File::from),
        false => File::open(path),
    };
    let mut input = opened.map_err(unreadable)?;
    let metadata = input.metadata().map_err(unreadable)?;
    if metadata.is_dir() {
        return Err(unreadable(io::ErrorKind::IsADirectory.into()));
    }
    let bar = bar(metadata.len(), session.out.style());
    let verified = walk(&mut input, &path.to_string_lossy(), &bar).map_err(|error| {
        Failure::new(Exit::Damaged, "damaged", format!("{doing} failed: {error}")).remedy(
            "use another copy: members that are sound write the same file at the same index",
        )
    });
    bar.finish_and_clear();
    verified
}

fn walk(input: &mut impl Read, name: &str, bar: &ProgressBar) -> Result<Verified, snapshot::Error> {
    let mut verifier = Verifier::open(input, name)?;
    loop {
        bar.set_position(verifier.offset());
        if let Found::End(verified) = verifier.step(input)? {
            return Ok(verified);
        }
    }
}

/// What the daemon's own code says of a directory or a file.
pub(in crate::cmd) fn refused(doing: &str, fatal: &Fatal) -> Failure {
    let exit = match fatal.status {
        ExitStatus::Damaged => Exit::Damaged,
        ExitStatus::Usage | ExitStatus::Io | ExitStatus::Permission => Exit::Usage,
        _ => Exit::Refused,
    };
    let name = match exit {
        Exit::Damaged => "damaged",
        Exit::Usage => "unusable",
        _ => "refused",
    };
    Failure::new(exit, name, format!("{doing} failed: {}", fatal.what))
        .at(&fatal.place)
        .remedy(&fatal.remedy)
}
