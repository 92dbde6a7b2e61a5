//! The command line, as clap reads it. `man raftctl` is its reference.

use clap::{Command, CommandFactory, Parser, Subcommand};
use raftctl::bench;

use crate::cmd::{
    append, cas, completion, config, context, count, del, dump, edit, get, help, incr, is_healthy,
    load, members, put, recover, scan, snapshot, transfer_leader, txn, wait_ready, wal,
};
use crate::config::Flags;
use crate::format::Style;

const EXAMPLES: &str = "\
Examples:
  raftctl put greeting hello          write a key
  raftctl get greeting                its exact bytes; exit 1 if there is none
  raftctl -e n1:7400,n2:7400 status   the cluster, member by member";

/// Reads, writes and looks after a raftd cluster.
#[derive(Debug, Parser)]
#[command(name = "raftctl", version, disable_help_subcommand = true, before_help = EXAMPLES, max_term_width = 100)]
#[command(
    after_help = "Exit status: 0 done or yes, 1 no, 2 usage, 3 nobody answered, 4 not applied, \
    5 outcome unknown, 6 refused; `man raftctl` has all."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) flags: Flags,
    #[command(flatten)]
    pub(crate) style: Style,
    #[command(subcommand)]
    pub(crate) verb: Verb,
}

/// The verbs and options, each with all that clap knows of it.
pub(crate) fn tree() -> Command {
    let mut tree = Cli::command();
    tree.build();
    tree
}

#[derive(Debug, Subcommand)]
pub(crate) enum Verb {
    Put(put::Args),
    Get(get::Args),
    #[command(visible_alias = "rm")]
    Del(del::Args),
    Cas(cas::Args),
    Incr(incr::Args),
    Append(append::Args),
    Txn(txn::Args),
    #[command(visible_alias = "ls")]
    Scan(scan::Args),
    Count(count::Args),
    Dump(dump::Args),
    Load(load::Args),
    Edit(edit::Args),
    Snapshot(snapshot::Args),
    /// Show the cluster and every member, dead ones too.
    #[command(before_help = "Examples:
  raftctl status
  raftctl status --json | jq .leader
  raftctl status --json | jq -e '.quorum_ok and .failures_tolerated > 0' || page-me")]
    Status,
    /// List the members, one per line.
    #[command(visible_alias = "list-peers")]
    #[command(before_help = "Examples:
  raftctl peers
  raftctl peers | cut -f5
  for p in $(raftctl peers --value --field name); do echo \"$p\"; done")]
    Peers,
    AddPeer(members::Add),
    RemovePeer(members::Remove),
    PromotePeer(members::Promote),
    DemotePeer(members::Demote),
    ReplacePeer(members::Replace),
    UpdatePeer(members::Update),
    /// Ask whether the node named with -e leads: exit 0 or 1.
    #[command(before_help = "Examples:
  raftctl -e n1:7400 is-leader && echo yes
  raftctl -e n1:7400 is-leader --json | jq .leader
  raftctl -e n1:7400 is-leader && raftctl transfer-leader")]
    IsLeader,
    IsHealthy(is_healthy::Args),
    /// Ask whether the others would go on without the node named with -e: exit 0 or 1.
    #[command(before_help = "Examples:
  raftctl -e n1:7400 is-safe-to-stop && ssh n1 systemctl restart raftd@main
  raftctl -e n1:7400 is-safe-to-stop --json | jq .safe
  until raftctl -e n1:7400 is-safe-to-stop; do sleep 1; done")]
    IsSafeToStop,
    WaitReady(wait_ready::Args),
    TransferLeader(transfer_leader::Args),
    /// List who has led, oldest first, and why somebody else came after.
    #[command(before_help = "Examples:
  raftctl leaders
  raftctl leaders | cut -f5 | sort | uniq -c
  raftctl leaders --json | jq -s 'map(.without_ms) | max'")]
    Leaders,
    Recover(recover::Args),
    Wal(wal::Args),
    /// Measure how fast the cluster answers.
    #[command(before_help = "Examples:
  raftctl bench put --connections 64
  raftctl bench get --connections 64 --rate 10000
  raftctl bench mixed --connections 16 --in-flight 64 --seconds 30 --json")]
    Bench(bench::Args),
    Context(context::Args),
    Config(config::Args),
    Completion(completion::Args),
    #[command(name = "__complete", hide = true)]
    Complete(completion::Question),
    Help(help::Args),
    /// Print the version of this program.
    #[command(before_help = "Examples:
  raftctl version
  raftctl version --json
  raftctl version --json | jq .protocol_max")]
    Version,
}

#[cfg(test)]
mod tests;
