//! Scenario scripts: one file per scenario, named by behaviour, with the whole trace as the
//! expectation. `UPDATE_GOLDENFILES=1 cargo test -p raft scripts` rewrites them: read the diff.
//!
//! Real Raft cores had bugs of 72 classes; which class is shown where is in the table, by the
//! number that the project's research gave it. Not here: those that need a disk, leases, a store or
//! a real process.
//!
//! | row | class | script or test |
//! |---|---|---|
//! | 1 | vote answered before durable | `vote_waits_for_its_write`, `candidate_waits_for_its_own_vote` |
//! | 1 | term answered before durable | `term_waits_for_its_write` |
//! | 2 | term and vote stored by two writes | `vote_waits_for_its_write` (one write) |
//! | 3 | log recency compared per component | `vote_refused_to_an_older_log`, `paper::*::s3_6_1_*` |
//! | 4 | candidate advertises an unwritten tail | `candidate_with_unwritten_tail` |
//! | 6 | stale leader id blocks votes | `votes_after_the_leader_fell_silent` |
//! | 8 | PreVote never carries the higher term | `pre_vote_refusal_teaches_the_term` |
//! | 9 | stale or repeated vote answers counted | `votes_count_once_and_for_their_term` |
//! | 10 | PreVote rejects the sitting leader | `leader_resumes_after_a_pause` |
//! | 11 | bridge node keeps an old leader alive | `bridge_node`, `leader_that_hears_nobody`, `gray::*` |
//! | 12 | rejoining node inflates the term | `rejoining_node_keeps_the_term` |
//! | 13 | votes or acks of non-members | `strangers_count_for_nothing` |
//! | 14 | timer phases correlate | unit tests of `jitter`, `timing::*` |
//! | 15 | prior-term entry committed by count | `figure_8` |
//! | 16 | leader counts its unsynced entry | `leader_counts_itself_when_durable`, `alone` |
//! | 17 | follower acknowledges before its sync | `follower_acknowledges_when_durable` |
//! | 18 | wrong majority | unit tests of `quorum`, `even_cluster` |
//! | 20 | commit advanced past the verified prefix | `commit_stops_at_what_is_verified` |
//! | 21 | stale or repeated ack moves match | `match_never_falls`, `earlier_reign_says_nothing` |
//! | 22 | heartbeat carries an index the follower lacks | `heartbeat_finds_a_lost_append` |
//! | 23 | stale completion marks overwritten bytes | `stale_completion_after_truncation` |
//! | 24 | append after truncation compares term 0 | `append_behind_the_base_after_a_truncation` |
//! | 25 | purged prev taken for a conflict | `append_before_the_base_is_no_conflict` |
//! | 26 | delete-then-append not atomic | `conflicting_suffix_is_replaced_at_once` |
//! | 27 | conflict back-off live-lock | `long_conflict_takes_a_round_per_term` |
//! | 28 | non-contiguous entries packed | `absurd_messages_cost_the_link`, `follower_behind_the_cache` |
//! | 32 | paged apply regresses commit | `old_append_changes_nothing` |
//! | 34 | read before the first commit of the term | `read_at_the_start_of_a_term` |
//! | 35 | read context reused | `reads_share_the_next_round` |
//! | 35 | answer taken for that to another question | `follower_reads` |
//! | 36 | read racing a leader change | `reads_die_with_the_reign` |
//! | 37 | barrier ignores failed answers | `conflict_answers_a_round` |
//! | 40 | serves before replay is done | `read_at_the_start_of_a_term` |
//! | 38 | a leader that is heard blocks its own transfer | `transfer_flag_is_obeyed` |
//! | 42 | change before the term's first commit | `paper::membership::s4_1_no_change_*`, `s4_1_schedule_*` |
//! | 43 | membership not rolled back | `s4_1_a_membership_is_gone_*` |
//! | 44 | half of a joint one lost at a restart | `paper::joint::s4_3_a_restart_*`, `s4_3_*_snapshot_*` |
//! | 45 | joint for ever, or left twice | `s4_3_the_set_of_before_ends_once_whoever_leads` |
//! | 46 | learner refuses to vote | `s4_2_1_a_learner_votes` |
//! | 47 | learner elected, or handed over to | `s4_2_1_a_learner_does_not_lead` |
//! | 50 | leader that removed itself lingers | `s4_2_2_a_leader_that_is_removed_*` |
//! | 51 | reads wait for a quorum that is no more | `s4_3_waiting_reads_are_looked_at_again` |
//! | 53 | transfer to who lacks entries, proposals meanwhile | `leadership_is_handed_over`, `paper::transfer::*` |
//! | 54 | older snapshot overwrites newer state | `older_snapshot_changes_nothing` |
//! | 55 | conflicting log survives under a snapshot | `conflicting_log_is_gone_under_a_snapshot` |
//! | 55 | a discarded log's write marks it durable | `acknowledgement_waits_for_the_snapshot` |
//! | 56 | gap between log and snapshot after a restart | `restart_behind_a_base` |
//! | 57 | snapshot loop or dead end | `snapshot_transfer_goes_on`, `compaction_passes_a_follower` |
//! | 68 | damage of a minority spreads | `lost_follower_is_healed`, `leader_finds_a_loss`, \
//! `faulty_entries_are_mended`, `state_is_rebuilt`, `paper::damage::*` |
//! | 69 | unbounded memory by a slow follower | `window_limits_what_is_in_flight`, `window_spans_a_probe`, `flood_is_not_taken` |
//! | 70 | slow sync starves heartbeats | `slow_disk_does_not_stop_heartbeats` |
//! | 72 | panic on an odd message | `absurd_messages_cost_the_link`, fuzz target `step` |
//!
//! Every (role, message) pair is in `pair_follower`, `pair_pre_candidate`, `pair_candidate`,
//! `pair_leader`.

use std::path::Path;
use std::time::Duration;

use goldenscript::{Command, Context, Runner};
use raft::{HardState, Input};
use wire::peer::DiskReport;
use wire::types::{EntryId, Index, NodeId, Term};

use crate::cluster::{Cluster, Options, log};
use crate::disk::Log;
use crate::words::{Args, Fallible, message, parse_id};

/// The commands of a script. Nodes are named by number.
struct Script {
    cluster: Cluster,
}

impl Script {
    fn new() -> Self {
        Self {
            cluster: Cluster::new(Options::default()),
        }
    }

    /// `cluster N [window=B] [cache=B] [unformed]`
    fn cluster(&mut self, args: &Args) -> Fallible<()> {
        let default = Options::default();
        let bytes = |name, default: usize| -> Fallible<usize> {
            Ok(usize::try_from(args.named(name, default as u64)?)?)
        };
        self.cluster = Cluster::new(Options {
            nodes: args.number(0)?,
            window_bytes: bytes("window", default.window_bytes)?,
            cache_bytes: bytes("cache", default.cache_bytes)?,
            formed: !args.has("unformed"),
            ..default
        });
        Ok(())
    }

    /// `disk NODE [log=1/1/2] [base=I@T] [snapshot=I@T] [term=T] [vote=N] [commit=I]`: restarts the
    /// node on this disk. The log is what it was before it was compacted up to the base, and the
    /// snapshot is that of the base if none is named.
    fn disk(&mut self, args: &Args) -> Fallible<()> {
        let id = args.node(0)?;
        self.cluster.crash(id, 0);
        let mut log: Log = log(&args.terms("log")?).into();
        let base = args.id("base")?;
        log.compact(base.index);
        assert_eq!(log.base(), base, "the base is in the log");
        let newest = log.last().term.0;
        // What is below a base was committed by nobody here.
        self.cluster.oracle.blind |= base != EntryId::default();
        let vote = args.named("vote", 0)?;
        let node = self.cluster.node(id);
        node.disk.log = log;
        node.disk.snapshot = match args.get("snapshot") {
            Some(word) => parse_id(word)?,
            None => base,
        };
        node.disk.commit = Index(args.named("commit", 0)?);
        node.disk.hard_state = HardState {
            term: Term(args.named("term", newest)?),
            vote: (vote > 0).then_some(NodeId(vote)),
            lost: false,
        };
        self.cluster.start(id);
        Ok(())
    }

    /// `deliver [FROM TO] [last]`: all that is queued now, or the oldest (newest) on a link.
    /// `drop` loses and `dup` copies in the same way.
    fn packets(&mut self, command: &str, args: &Args) -> Fallible<()> {
        if args.positional.is_empty() {
            let count = self.cluster.packets.len();
            for _ in 0..count {
                match command {
                    "drop" => drop(self.cluster.packets.remove(0)),
                    _ => self.cluster.deliver(0, false),
                }
            }
            return Ok(());
        }
        let (from, to) = (args.node(0)?, args.node(1)?);
        let mut places = (0..self.cluster.packets.len()).filter(|place| {
            let packet = &self.cluster.packets[*place];
            packet.from == from && packet.to == to
        });
        let place = if args.has("last") {
            places.next_back()
        } else {
            places.next()
        };
        let place = place.ok_or("nothing is on that link")?;
        match command {
            "drop" => drop(self.cluster.packets.remove(place)),
            "dup" => {
                let copy = self.cluster.packets[place].clone();
                self.cluster.packets.push(copy);
            }
            _ => self.cluster.deliver(place, false),
        }
        Ok(())
    }

    fn run_command(&mut self, command: &Command, args: &Args) -> Fallible<()> {
        let cluster = &mut self.cluster;
        match command.name.as_str() {
            "cluster" => self.cluster(args)?,
            "disk" => self.disk(args)?,
            "deliver" | "drop" | "dup" => self.packets(&command.name, args)?,
            // Nothing is undecided any more; no time passes.
            "burst" => cluster.burst(args.node(0)?),
            "settle" => cluster.settle(),
            // A node's own deadline comes.
            "timeout" => {
                for id in args.nodes(cluster)? {
                    cluster.timeout(id);
                }
            }
            // Time passes; who is named is told.
            "advance" => {
                cluster.advance(Duration::from_millis(args.number(0)?));
                for place in 1..args.positional.len() {
                    cluster.turn(args.node(place)?, vec![Input::Tick]);
                }
            }
            // All is well for a while.
            "run" => cluster.run(Duration::from_millis(args.number(0)?)),
            "elect" => cluster.elect(args.node(0)?),
            // Writes complete: all, or some.
            "sync" => {
                let count = args
                    .positional
                    .get(1)
                    .map_or(Ok(usize::MAX), |n| n.parse())?;
                cluster.sync(args.node(0)?, count);
            }
            "loaded" => cluster.load(args.node(0)?, args.has("fail")),
            // In one turn: what is written after the node's number.
            "propose" => {
                let bodies: Vec<&[u8]> = args.positional[1..]
                    .iter()
                    .map(|body| body.as_bytes())
                    .collect();
                match cluster.propose(args.node(0)?, &bodies) {
                    Some(ids) => cluster.say(&format!("appended {}", crate::text::ids(&ids))),
                    None if cluster.raft(args.node(0)?).is_transferring() => cluster.say("not now"),
                    None => cluster.say("not the leader"),
                }
            }
            "read" => match cluster.read(args.node(0)?) {
                Some(t) if t.index == Index(0) => cluster.say("read waits for the leader"),
                Some(t) => cluster.say(&format!("read waits for round {} at {}", t.round, t.index)),
                None => cluster.say("no leader is known"),
            },
            "propose-snapshot" => {
                let raft = cluster.node(args.node(0)?).raft.as_mut();
                match raft.ok_or("it is down")?.propose_snapshot(1000) {
                    Ok(id) => cluster.say(&format!("appended {id}")),
                    Err(_) => cluster.say("not the leader"),
                }
                cluster.turn(args.node(0)?, Vec::new());
            }
            // A snapshot of what the node has applied and its disk has.
            "publish" => {
                let snapshot = cluster.publish(args.node(0)?);
                cluster.say(&format!("n{} publishes {snapshot}", args.node(0)?));
            }
            // `compact NODE INDEX [memory]`: on disk, too, or not yet.
            "compact" => {
                let upto = Index(args.number(1)?);
                cluster.compact(args.node(0)?, upto, !args.has("memory"));
                cluster.turn(args.node(0)?, Vec::new());
            }
            // The next pieces to who needs them; after a loss, the same ones.
            "transfer" => {
                if args.has("again") {
                    cluster.give_up_waiting(args.node(0)?);
                }
                cluster.transfer(args.node(0)?);
            }
            // `install NODE INDEX@TERM`: all of it was received.
            "install" => {
                let snapshot = parse_id(args.positional.get(1).ok_or("no snapshot")?)?;
                cluster.install(args.node(0)?, snapshot);
                cluster.turn(args.node(0)?, Vec::new());
            }
            "needs-snapshot" => {
                let raft = cluster.raft(args.node(0)?);
                let ids: Vec<String> = raft.needs_snapshot().map(|id| format!("n{id}")).collect();
                let line = ids.join(" ");
                cluster.say(if ids.is_empty() { "nobody" } else { &line });
            }
            "lose" | "rot" | "mend" | "rebuild" | "digest" => damage(command, args, cluster)?,
            // `hand-over NODE TO`
            "hand-over" => {
                if let Err(reason) = cluster.hand_over(args.node(0)?, args.node(1)?) {
                    cluster.say(&format!("{reason:?}"));
                }
            }
            "crash" => {
                let kept = args.named("keep", 0)?;
                cluster.crash(args.node(0)?, usize::try_from(kept)?);
            }
            "start" => cluster.start(args.node(0)?),
            "closed" => cluster.turn(args.node(0)?, vec![Input::LeaderLinkClosed]),
            "formed" => {
                for id in args.nodes(cluster)? {
                    cluster.node(id).formed = true;
                    cluster.turn(id, vec![Input::Formed]);
                }
            }
            "stalled" => {
                let on = !args.has("no");
                let raft = cluster
                    .node(args.node(0)?)
                    .raft
                    .as_mut()
                    .ok_or("it is down")?;
                raft.set_disk(DiskReport::default(), on);
            }
            // Both ways between the first node and each of the others.
            "cut" => {
                let one = args.node(0)?;
                for place in 1..args.positional.len() {
                    cluster.cut.insert((one, args.node(place)?));
                    cluster.cut.insert((args.node(place)?, one));
                }
            }
            "cut-one-way" => {
                cluster.cut.insert((args.node(0)?, args.node(1)?));
            }
            "heal" => cluster.cut.clear(),
            "say" => {
                let (from, to) = (args.node(0)?, args.node(1)?);
                let message = message(args)?;
                cluster.oracle.blind = true;
                cluster.turn(to, vec![Input::Receive { from, message }]);
            }
            "status" => {
                let status = cluster.status();
                cluster.say(status.trim_end());
            }
            "match" => {
                for peer in cluster.ids() {
                    if let Some(index) = cluster.raft(args.node(0)?).match_index(peer) {
                        cluster.say(&format!("n{peer} matches up to {index}"));
                    }
                }
            }
            "log" => {
                let node = &cluster.nodes[&args.node(0)?];
                let mut ids: Vec<String> = node.log.iter().map(|e| e.id().to_string()).collect();
                if node.log.base() != EntryId::default() {
                    ids.insert(0, format!("behind {}:", node.log.base()));
                }
                let line = ids.join(" ");
                cluster.say(&line);
            }
            "quorum-ok" => {
                let ok = cluster.raft(args.node(0)?).quorum_ok(cluster.now);
                cluster.say(if ok { "yes" } else { "no" });
            }
            other => return Err(format!("no command is called {other}").into()),
        }
        Ok(())
    }
}

fn damage(command: &Command, args: &Args, cluster: &mut Cluster) -> Fallible<()> {
    let id = args.node(0)?;
    match command.name.as_str() {
        // Its log is lost, but for the snapshot; it starts.
        "lose" => {
            cluster.lose(id);
            cluster.start(id);
        }
        // `rot NODE INDEX..`: these are faulty, too.
        "rot" => {
            let places = 1..args.positional.len();
            let indexes: Fallible<Vec<_>> = places.map(|n| Ok(Index(args.number(n)?))).collect();
            cluster.rot(id, &indexes?);
        }
        "mend" => cluster.mend(id),
        "rebuild" => cluster.rebuild(id),
        _ => cluster.set_digest(id, args.digest()?.ok_or("no digest")?),
    }
    Ok(())
}

impl Runner for Script {
    type Command = Command;

    fn run(&mut self, command: &Command, _context: &Context) -> Fallible<String> {
        let args = Args::new(command);
        self.run_command(command, &args)?;
        Ok(self.cluster.take_trace())
    }
}

#[test]
fn scripts() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/suite/scripts");
    let mut files: Vec<_> = std::fs::read_dir(folder)
        .expect("the folder of scripts")
        .map(|file| file.expect("a script").path())
        .collect();
    files.sort();
    assert!(files.len() >= 40, "scripts are missing");
    let mut failed = Vec::new();
    for file in files {
        let name = file
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let run = || goldenscript::run(&mut Script::new(), &file);
        match std::panic::catch_unwind(run) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => failed.push(format!("{name}: {error}")),
            Err(_) => failed.push(name),
        }
    }
    assert!(failed.is_empty(), "failed: {failed:#?}");
}
