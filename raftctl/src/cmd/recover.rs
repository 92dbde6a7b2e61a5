//! `raftctl recover apply`: quorum is lost for good, and one member's data directory goes on as a
//! cluster of one. No node is asked.

use std::io::{self, Write};
use std::path::PathBuf;

use clap::Subcommand;
use raftctl::failure::{Exit, Failure};
use raftd::disk::Meter;
use raftd::snapshot::SNAPSHOT_DIR;
use raftd::storage::{self, Holds};
use raftd::wal::segment::WAL_DIR;
use serde_json::json;
use wire::membership::MemberRecord;
use wire::types::Epoch;

use super::consent::Consent;
use super::snapshot::file::{refused, start_line};
use crate::bar::{bar, metered};
use crate::session::Session;

/// When a quorum is lost for good: make one member a new cluster.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl recover apply --data-dir /var/lib/raftd/main --dry-run   what it holds, and what is lost
  raftctl recover apply --data-dir /var/lib/raftd/main --yes       without a question, for scripts
  raftctl recover apply --data-dir /var/lib/raftd/main --yes --json | jq -r .command")]
pub(crate) struct Args {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Apply(Apply),
}

/// Make the data directory of a stopped member a cluster of one, under a new epoch. The members and
/// clients of before are refused by it; what they wrote later is missing.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl recover apply --data-dir /var/lib/raftd/main --dry-run   what it holds, and what is lost
  raftctl recover apply --data-dir /var/lib/raftd/main --yes       without a question, for scripts")]
struct Apply {
    /// The member's data directory.
    #[arg(long, value_name = "DIR")]
    data_dir: PathBuf,
    /// Only tell what it would do.
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    consent: Consent,
}

pub(crate) fn run(args: &Args, session: &mut Session<'_>) -> Result<Exit, Failure> {
    match &args.verb {
        Verb::Apply(args) => apply(args, session),
    }
}

fn apply(args: &Apply, session: &mut Session<'_>) -> Result<Exit, Failure> {
    const DOING: &str = "recover apply";
    let failed = |fatal| refused(DOING, &fatal);
    let meter = Meter::default();
    let style = session.out.style();
    let most = bar(
        storage::bytes_in(&args.data_dir, &[WAL_DIR, SNAPSHOT_DIR]),
        style,
    );
    let found = metered(&most, &meter, || storage::look(&args.data_dir, &meter)).map_err(failed)?;
    let holds = found.recovery.holds();
    let mut command = start_line(holds.node, &args.data_dir);
    // It is known to be there, and new members look for it there.
    if let Some(member) = holds.membership.get(holds.node) {
        command.push_str(&format!(" --peer-listen {}", member.peer_addr));
    }
    // Nobody but the reader of this is told anything before the question.
    let _ = io::stderr().write_all(statement(&holds).as_bytes());
    let mut epoch = holds.epoch;
    if !is_done(&holds) {
        args.consent.get(
            DOING,
            &title(holds.membership.get(holds.node), &holds),
            args.dry_run,
            session,
        )?;
        if !args.dry_run {
            let bar = bar(0, session.out.style());
            epoch = metered(&bar, &meter, || found.apply())
                .map_err(failed)?
                .epoch;
        }
    }
    show(&holds, epoch, &command, args.dry_run, session)?;
    Ok(Exit::Done)
}

/// Whether it is a cluster of one already: there is nobody to forget.
fn is_done(holds: &Holds) -> bool {
    forgotten(holds).next().is_none() && holds.membership.get(holds.node).is_some()
}

/// The members of before.
fn forgotten(holds: &Holds) -> impl Iterator<Item = &MemberRecord> {
    let members = holds.membership.members.iter();
    members.filter(|member| member.id != holds.node)
}

fn title(member: Option<&MemberRecord>, holds: &Holds) -> String {
    let (id, name) = member.map_or((holds.node, ""), |member| (member.id, &member.name));
    match name {
        "" => format!("n{id}"),
        name => name.to_owned(),
    }
}

/// What whoever decides must know.
fn statement(holds: &Holds) -> String {
    let name = title(holds.membership.get(holds.node), holds);
    let last = holds.last;
    let held = format!(
        "{name} holds {} keys as of entry {} of term {}; up to {} they are known to be committed\n",
        holds.keys, last.index, last.term, holds.committed
    );
    if is_done(holds) {
        return format!("{held}it is a cluster of one: there is nothing to do\n");
    }
    let others: Vec<_> = forgotten(holds)
        .map(|member| format!("{} ({})", title(Some(member), holds), member.peer_addr))
        .collect();
    let stands = match holds.membership.suffrage(holds.node) {
        Some(suffrage) if suffrage.votes_after() => "",
        Some(_) => "it has no vote: a voter may hold more\n",
        None => "it was removed from its cluster: a member holds more\n",
    };
    format!(
        "{held}{stands}it becomes a cluster of its own, without {}: they are refused from then on, and so are \
         clients of before\n\
         what others acknowledged behind entry {} is missing then, and nobody can say how much\n\
         this cannot be undone: copy the directory first\n",
        others.join(", "),
        last.index
    )
}

fn show(
    holds: &Holds,
    epoch: Epoch,
    command: &str,
    dry_run: bool,
    session: &mut Session<'_>,
) -> Result<(), Failure> {
    let out = &mut session.out;
    if !out.json() {
        return match dry_run {
            true => Ok(()),
            false => out.line(command),
        };
    }
    let forgotten: Vec<_> = forgotten(holds)
        .map(
            |member| json!({"id": member.id.0, "name": member.name, "peer_addr": member.peer_addr}),
        )
        .collect();
    out.object(&json!({
        "id": holds.node.0,
        "index": holds.last.index.0,
        "term": holds.last.term.0,
        "commit_index": holds.committed.0,
        "entries": holds.keys,
        "forgotten": forgotten,
        "epoch": format!("{:016x}", epoch.0),
        "command": command,
    }))
}
