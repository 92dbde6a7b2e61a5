//! From a line that clap has read to the verb that carries it out.

use raftctl::failure::{Exit, Failure};

use crate::cli::{self, Cli, Verb};
use crate::cmd::{
    append, bench, cas, completion, config, context, count, del, dump, edit, get, help, incr,
    is_healthy, is_leader, is_safe_to_stop, leaders, load, members, peers, put, recover, scan,
    snapshot, status, transfer_leader, txn, version, wait_ready, wal,
};
use crate::config::Config;
use crate::config::setting::{COLOR, FORMAT};
use crate::format::{self, Ability};
use crate::items;
use crate::output::Out;
use crate::session::Session;
use crate::signals::Signals;

/// What the verb can print: anything else is refused before it does anything.
fn ability(verb: &Verb) -> Ability {
    match verb {
        Verb::Get(_) | Verb::Scan(_) => items::ABILITY,
        Verb::Dump(_) | Verb::Load(_) => format::BULK,
        Verb::Put(args) if args.stdin => format::BULK,
        Verb::Del(args) if args.stdin => format::BULK,
        Verb::Config(args) => config::ability(args),
        Verb::Context(args) => context::ability(args),
        Verb::Status => status::ABILITY,
        Verb::Peers => peers::ABILITY,
        Verb::Leaders => leaders::ABILITY,
        Verb::Snapshot(args) => snapshot::ability(args),
        Verb::Wal(args) => wal::ability(args),
        _ => format::LINES,
    }
}

/// Carries out the verb.
pub(crate) fn run(cli: Cli, signals: &Signals) -> Result<Exit, Failure> {
    let (mut style, mut flags) = (cli.style, cli.flags);
    let ability = ability(&cli.verb);
    style.check(ability)?;
    flags.take(style.said());
    flags.makes_own = matches!(&cli.verb, Verb::Context(args) if args.adds());
    flags.minds_contexts = matches!(&cli.verb, Verb::Context(_));
    let config = if matches!(
        cli.verb,
        Verb::Help(_) | Verb::Completion(_) | Verb::Complete(_) | Verb::Version
    ) {
        // They go on when a configuration is broken.
        Config::built_in()
    } else {
        Config::resolve(&flags, &|name| std::env::var_os(name))?
    };
    style.set_usual(config.text(&FORMAT), config.text(&COLOR), ability);
    let session = &mut Session::new(config, Out::new(style)?, signals);
    let exit = match cli.verb {
        Verb::Put(args) => put::run(&args, session),
        Verb::Get(args) => get::run(&args, session),
        Verb::Del(args) => del::run(&args, session),
        Verb::Cas(args) => cas::run(&args, session),
        Verb::Incr(args) => incr::run(&args, session),
        Verb::Append(args) => append::run(&args, session),
        Verb::Txn(args) => txn::run(&args, session),
        Verb::Scan(args) => scan::run(&args, session),
        Verb::Count(args) => count::run(&args, session),
        Verb::Load(args) => load::run(&args, session),
        Verb::Dump(args) => dump::run(&args, session),
        Verb::Snapshot(args) => snapshot::run(&args, session),
        Verb::Status => status::run(session),
        Verb::Peers => peers::run(session),
        Verb::Leaders => leaders::run(session),
        Verb::AddPeer(args) => members::add(&args, session),
        Verb::RemovePeer(args) => members::remove(&args, session),
        Verb::PromotePeer(args) => members::promote(&args, session),
        Verb::DemotePeer(args) => members::demote(&args, session),
        Verb::ReplacePeer(args) => members::replace(&args, session),
        Verb::UpdatePeer(args) => members::update(&args, session),
        Verb::IsLeader => is_leader::run(session),
        Verb::IsSafeToStop => is_safe_to_stop::run(session),
        Verb::IsHealthy(args) => is_healthy::run(&args, session),
        Verb::WaitReady(args) => wait_ready::run(&args, session),
        Verb::TransferLeader(args) => transfer_leader::run(&args, session),
        Verb::Recover(args) => recover::run(&args, session),
        Verb::Wal(args) => wal::run(&args, session),
        Verb::Bench(args) => bench::run(&args, session),
        Verb::Edit(args) => edit::run(&args, session),
        Verb::Help(args) => help::run(&args, &mut cli::tree(), session),
        Verb::Completion(args) => completion::run(&args, session),
        Verb::Complete(question) => Ok(completion::answer(question, &cli::tree())),
        Verb::Context(args) => context::run(&args, &flags, session),
        Verb::Config(args) => config::run(&args, session),
        Verb::Version => version::run(session),
    };
    // What was found before an error is data too.
    let flushed = session.out.finish();
    match exit {
        // Nobody reads what goes to a pager that could not be started.
        Err(failure) if failure.exit == Exit::Pipe => flushed.and(Err(failure)),
        exit => exit.and_then(|exit| flushed.map(|()| exit)),
    }
}
