//! `raftctl add-peer`, `remove-peer`, `promote-peer`, `demote-peer`, `replace-peer`, `update-peer`:
//! who is a member, and who votes.

use std::thread;
use std::time::{Duration, Instant};

use clap::builder::NonEmptyStringValueParser;
use raftctl::client::Deadline;
use raftctl::failure::{Exit, Failure};
use raftd::value::{name, told_address};
use serde_json::json;
use wire::client::{MemberChange, MembersChanged};
use wire::membership::{MemberRecord, Membership, Suffrage};
use wire::types::NodeId;

use super::consent::Consent;
use super::status::voters as voters_in_words;
use crate::cluster::{Row, survey};
use crate::session::Session;

/// A learner that is no voter after so long is removed again.
const PROMOTE_WITHIN: Duration = Duration::from_secs(600);
/// Nobody waits longer for a vote: a year.
const WAIT_MAX: Duration = Duration::from_secs(365 * 86_400);
/// Where clients are served by default.
const CLIENT_PORT: i32 = 7400;
/// Between two looks at a learner.
const PAUSE: Duration = Duration::from_millis(50);

/// Add a node: it learns the log, and becomes a voter by itself once it has it. Prints the line
/// that starts it.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl add-peer n4 10.0.0.4:7401             prints how to start n4
  raftctl add-peer n4 10.0.0.4:7401 --wait      and waits until it votes
  raftctl add-peer n4 10.0.0.4:7401 --dry-run   what it would mean")]
pub(crate) struct Add {
    /// Its name: a lower-case letter, then such letters, digits, '.', '_' and '-'.
    #[arg(value_parser = name)]
    name: String,
    /// The address where its peers will find it.
    #[arg(value_name = "HOST:PORT", value_parser = told_address)]
    addr: String,
    /// It never becomes a voter by itself.
    #[arg(long, conflicts_with = "wait")]
    learner: bool,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    plan: Plan,
}

/// Remove a member. It ends by itself; its id is never used again.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl remove-peer n4 --dry-run      voters and failures survived, before and after
  raftctl remove-peer n4 --yes          without a question, for scripts
  raftctl remove-peer n4 --yes --json | jq .failures_tolerated")]
pub(crate) struct Remove {
    #[command(flatten)]
    member: Whom,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    plan: Plan,
}

/// Make a voter of a learner that has caught up.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl promote-peer n4
  raftctl promote-peer n4 --dry-run
  raftctl promote-peer n4 && raftctl peers")]
pub(crate) struct Promote {
    #[command(flatten)]
    member: Whom,
    #[command(flatten)]
    plan: Plan,
}

/// Make a learner of a voter: it goes on receiving, and does not count.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl demote-peer n4 --yes
  raftctl demote-peer n4 --dry-run
  raftctl demote-peer n4 --yes --json | jq .voters")]
pub(crate) struct Demote {
    #[command(flatten)]
    member: Whom,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    plan: Plan,
}

/// Replace a member, for instance one whose disk is gone: the new node learns the log, and in the
/// moment in which it becomes a voter the old one is removed.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl replace-peer n3 n4 10.0.0.4:7401 --dry-run      voters before, during and after
  raftctl replace-peer n3 n4 10.0.0.4:7401 --yes          prints how to start n4
  raftctl replace-peer n3 n4 10.0.0.4:7401 --yes --wait   and waits until n3 is gone")]
pub(crate) struct Replace {
    /// The name or the id of the member that goes.
    #[arg(value_parser = named())]
    old: String,
    /// The name of the new one.
    #[arg(value_parser = name)]
    new: String,
    /// The address where the peers of the new one will find it.
    #[arg(value_name = "HOST:PORT", value_parser = told_address)]
    addr: String,
    #[command(flatten)]
    wait: Wait,
    #[command(flatten)]
    consent: Consent,
    #[command(flatten)]
    plan: Plan,
}

/// Tell another name or address of a member.
#[derive(Debug, clap::Args)]
#[command(before_help = "Examples:
  raftctl update-peer n3 --peer-addr 10.0.0.9:7401
  raftctl update-peer n3 --name db3
  raftctl update-peer n3 --name db3 --dry-run")]
#[group(id = "what", required = true, multiple = true, args = ["new_name", "peer_addr"])]
pub(crate) struct Update {
    #[command(flatten)]
    member: Whom,
    /// Its new name.
    #[arg(long = "name", value_name = "NAME", value_parser = name)]
    new_name: Option<String>,
    /// The new address of its peers' links.
    #[arg(long, value_name = "HOST:PORT", value_parser = told_address)]
    peer_addr: Option<String>,
    #[command(flatten)]
    plan: Plan,
}

/// A member that is there.
#[derive(Debug, clap::Args)]
struct Whom {
    /// Its name or its id.
    #[arg(value_parser = named())]
    name: String,
}

/// How a member is named. Members that were never heard have no name yet, and nobody who names
/// nothing, such as a script whose variable is empty, means one of them.
pub(super) fn named() -> NonEmptyStringValueParser {
    NonEmptyStringValueParser::new()
}

/// Whether a new member's vote is waited for.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Wait {
    /// Return when the new member is a voter: exit 0; or was removed again, because it did not come
    /// up in time (10m if none is given): exit 1.
    #[arg(long, value_name = "TIME", num_args = 0..=1, require_equals = true)]
    #[arg(default_missing_value = "10m", value_parser = vote_time)]
    wait: Option<Duration>,
}

/// Reads how long a vote is waited for; more than [`WAIT_MAX`] is that.
fn vote_time(text: &str) -> Result<Duration, humantime::DurationError> {
    humantime::parse_duration(text).map(|time| time.min(WAIT_MAX))
}

/// Whether it is done.
#[derive(Clone, Copy, Debug, clap::Args)]
struct Plan {
    /// Change nothing: show the voters, and how many failures they survive, before, during and
    /// after.
    #[arg(long)]
    dry_run: bool,
}

pub(crate) fn add(args: &Add, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let doing = format!("add-peer {}", args.name);
    let change = MemberChange::Add {
        name: &args.name,
        peer_addr: &args.addr,
        promote_within_ms: (!args.learner).then(|| args.wait.promote_within_ms()),
        replaces: None,
    };
    admit(&doing, change, args.wait, args.plan, session)
}

pub(crate) fn replace(args: &Replace, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let doing = format!("replace-peer {}", args.old);
    let old = find(&doing, &args.old, session)?;
    let dry_run = args.plan.dry_run;
    args.consent.get(&doing, &old.title, dry_run, session)?;
    let change = MemberChange::Add {
        name: &args.new,
        peer_addr: &args.addr,
        promote_within_ms: Some(args.wait.promote_within_ms()),
        replaces: Some(old.id),
    };
    admit(&doing, change, args.wait, args.plan, session)
}

pub(crate) fn remove(args: &Remove, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let errand = args.member.errand("remove-peer", args.plan, session)?;
    errand.agreed(args.consent, session)?;
    errand.run(MemberChange::Remove(errand.member.id), "removed", session)
}

pub(crate) fn promote(args: &Promote, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let errand = args.member.errand("promote-peer", args.plan, session)?;
    errand.run(MemberChange::Promote(errand.member.id), "votes", session)
}

pub(crate) fn demote(args: &Demote, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let errand = args.member.errand("demote-peer", args.plan, session)?;
    errand.agreed(args.consent, session)?;
    let change = MemberChange::Demote(errand.member.id);
    errand.run(change, "is a learner", session)
}

pub(crate) fn update(args: &Update, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let errand = args.member.errand("update-peer", args.plan, session)?;
    let change = MemberChange::Update {
        id: errand.member.id,
        name: args.new_name.as_deref(),
        peer_addr: args.peer_addr.as_deref(),
    };
    errand.run(change, "updated", session)
}

/// What is to be done to a member that is there.
struct Errand {
    doing: String,
    member: Named,
    plan: Plan,
}

impl Whom {
    /// Finds the member for this verb.
    fn errand(&self, verb: &str, plan: Plan, session: &Session<'_>) -> Result<Errand, Failure> {
        let doing = format!("{verb} {}", self.name);
        let member = find(&doing, &self.name, session)?;
        Ok(Errand {
            doing,
            member,
            plan,
        })
    }
}

impl Errand {
    /// Asks first, where something ends.
    fn agreed(&self, consent: Consent, session: &mut Session<'_>) -> Result<(), Failure> {
        consent.get(&self.doing, &self.member.title, self.plan.dry_run, session)
    }

    /// Does it; `done` says so, behind the member's name.
    fn run(
        &self,
        change: MemberChange<'_>,
        done: &str,
        session: &mut Session<'_>,
    ) -> Result<Exit, Failure> {
        let changed = ask(&self.doing, change, self.plan, session)?;
        let what = format!("{} {done}", self.member.title);
        tell(&what, &changed, self.plan, session)
    }
}

impl Wait {
    /// How long a learner has to become a voter.
    fn promote_within_ms(self) -> u64 {
        let within = self.wait.unwrap_or(PROMOTE_WITHIN);
        u64::try_from(within.as_millis()).unwrap_or(u64::MAX)
    }
}

/// A member as the command line named it.
pub(super) struct Named {
    pub(super) id: NodeId,
    title: String,
}

/// Whose name or id this is. An id need not be a member's any more: then there is nothing to do.
pub(super) fn find(doing: &str, name: &str, session: &Session<'_>) -> Result<Named, Failure> {
    let id = name.parse().ok().filter(|id| *id > 0).map(NodeId);
    let rows = rows(doing, session)?;
    let mut meant = rows
        .into_iter()
        .filter(|row| row.name == name || Some(NodeId(row.id)) == id);
    if let Some(row) = meant.next() {
        if let Some(other) = meant.next() {
            return Err(two_of_that_name(doing, name, [&row, &other]));
        }
        return Ok(Named {
            id: NodeId(row.id),
            title: row.title(),
        });
    }
    match id {
        Some(id) => Ok(Named {
            id,
            title: format!("#{id}"),
        }),
        None => Err(no_such_member(doing, name)),
    }
}

/// Members tell their names themselves, so two may tell the same: the wrong one must not be removed.
fn two_of_that_name(doing: &str, name: &str, [one, other]: [&Row; 2]) -> Failure {
    let what = format!(
        "{doing} failed: members {} and {} are both called {name}",
        one.id, other.id
    );
    Failure::new(Exit::Refused, "ambiguous-member", what)
        .remedy("name the member by its id; raftctl peers tells it")
}

pub(super) fn no_such_member(doing: &str, name: &str) -> Failure {
    let what = format!("{doing} failed: no member is called {name}");
    Failure::new(Exit::Refused, "no-such-member", what).remedy("raftctl peers lists the members")
}

fn rows(doing: &str, session: &Session<'_>) -> Result<Vec<Row>, Failure> {
    let cluster = survey(&mut session.client(), session.deadline());
    Ok(cluster.map_err(|error| Failure::of(doing, &error))?.members)
}

/// Has the leader do it, or tell what it would do.
fn ask(
    doing: &str,
    change: MemberChange<'_>,
    plan: Plan,
    session: &Session<'_>,
) -> Result<MembersChanged, Failure> {
    let mut client = session.client();
    let changed = client.change_members(change, plan.dry_run, session.deadline());
    changed.map_err(|error| Failure::of(doing, &error))
}

/// Tells what a change did, or would do.
fn tell(
    what: &str,
    changed: &MembersChanged,
    plan: Plan,
    session: &mut Session<'_>,
) -> Result<Exit, Failure> {
    if plan.dry_run {
        return show(changed, session);
    }
    let (voters, survived) = strength(&changed.after, Suffrage::votes_after);
    if session.out.json() {
        session.out.object(&json!({
            "id": changed.id.0,
            "index": changed.index.0,
            "voters": voters,
            "failures_tolerated": survived,
        }))?;
    }
    session.out.note(&format!(
        "{what}: {} now, and {survived} of them may fail",
        voters_in_words(voters as u64)
    ))?;
    Ok(Exit::Done)
}

/// Adds a node, prints the line that starts it, and waits for its vote if asked to.
fn admit(
    doing: &str,
    change: MemberChange<'_>,
    wait: Wait,
    plan: Plan,
    session: &mut Session<'_>,
) -> Result<Exit, Failure> {
    if plan.dry_run {
        let changed = ask(doing, change, plan, session)?;
        return show(&changed, session);
    }
    // What the line needs is asked first: once the node is added, nothing fails any more.
    let others = rows(doing, session)?;
    let changed = ask(doing, change, plan, session)?;
    let Some(member) = changed.after.get(changed.id) else {
        return Err(Failure::new(
            Exit::Bug,
            "odd-outcome",
            format!("{doing} was done, but node {} is no member", changed.id),
        ));
    };
    if changed.after.members.len() == 1 {
        let what = format!("{doing} failed: this is the only member that there is");
        return Err(Failure::new(Exit::Refused, "refused", what)
            .remedy("a node that is to join it has a name and an address of its own"));
    }
    let command = command(member, &others);
    if session.out.json() {
        session.out.object(&json!({
            "id": member.id.0,
            "name": member.name,
            "command": command,
        }))?;
    } else {
        session.out.line(&command)?;
    }
    session.out.flush()?;
    match wait.wait {
        Some(_) if member.suffrage == Suffrage::Learner && member.wish.is_none() => {
            let what = format!("{doing}: {} does not become a voter by itself", member.name);
            let advice = format!("raftctl promote-peer {}", member.name);
            Err(Failure::new(Exit::Refused, "refused", what).remedy(advice))
        }
        Some(time) => await_vote(doing, member, time, session),
        None => Ok(Exit::Done),
    }
}

/// How to start it: its two ports are as far from each other as those of the leader.
fn command(member: &MemberRecord, rows: &[Row]) -> String {
    let told = rows.iter().filter(|row| row.id != member.id.0);
    let join: Vec<&str> = told
        .map(|row| row.client_addr.as_str())
        .filter(|addr| !addr.is_empty())
        .collect();
    let port_of = |addr: &str| -> Option<i32> { addr.rsplit_once(':')?.1.parse().ok() };
    let leader = rows.iter().find(|row| row.role == Some("leader"));
    let distance =
        leader.and_then(|row| Some(port_of(&row.client_addr)? - port_of(&row.peer_addr)?));
    let client_port = port_of(&member.peer_addr).unwrap_or(7401) + distance.unwrap_or(-1);
    let client_port = if (1..=65_535).contains(&client_port) {
        client_port
    } else {
        CLIENT_PORT
    };
    let addr = member.peer_addr.rsplit_once(':');
    let host = addr.map_or("127.0.0.1", |(host, _)| host);
    format!(
        "raftd --join {} --name {name} --data-dir /var/lib/raftd/{name} --listen {host}:{client_port} \
         --peer-listen {}",
        join.join(","),
        member.peer_addr,
        name = member.name,
    )
}

/// Waits until it is a voter for good, or no member any more: while the voters change, a new leader
/// may still take its vote back, and whom it replaces is a member yet.
fn await_vote(
    doing: &str,
    member: &MemberRecord,
    time: Duration,
    session: &Session<'_>,
) -> Result<Exit, Failure> {
    let end = Instant::now() + time + session.timeout;
    loop {
        let deadline = Deadline::after(session.timeout);
        if let Ok(cluster) = survey(&mut session.client(), deadline) {
            let row = cluster.members.iter().find(|row| row.id == member.id.0);
            match row {
                Some(row) if row.suffrage == Suffrage::Voter => return Ok(Exit::Done),
                // Only a leader knows that it is gone for good.
                None if cluster.members.iter().any(|row| row.role == Some("leader")) => {
                    return Err(Failure::new(
                        Exit::No,
                        "rolled-back",
                        format!(
                            "{doing} was undone: {} did not come up in time",
                            member.name
                        ),
                    )
                    .remedy("start it with the line that was printed, then run the same again"));
                }
                Some(_) | None => {}
            }
        }
        if Instant::now() > end {
            return Err(Failure::new(
                Exit::Unknown,
                "deadline",
                format!("{doing}: {} is neither a voter nor removed", member.name),
            )
            .remedy("raftctl status shows what the cluster lacks"));
        }
        thread::sleep(PAUSE);
    }
}

/// Voters, and how many of them may fail.
fn strength(members: &Membership, votes: fn(Suffrage) -> bool) -> (usize, usize) {
    let voters = members
        .members
        .iter()
        .filter(|member| votes(member.suffrage))
        .count();
    (voters, voters.saturating_sub(voters / 2 + 1))
}

/// The members before, during and after a change. What a learner was admitted for is a part of it.
fn steps(changed: &MembersChanged) -> Vec<(&'static str, Membership)> {
    let (before, after) = (&changed.before, &changed.after);
    let mut stages = vec![before.clone(), after.clone()];
    if after.get(changed.id).is_some_and(|new| new.wish.is_some()) {
        stages.push(after.promoted(changed.id));
    }
    let mut steps = vec![("before", before.clone())];
    for pair in stages.windows(2) {
        if !pair[0].is_joint() {
            let joint = pair[0].toward(&pair[1]);
            steps.extend(joint.is_joint().then_some(("during", joint)));
        }
        steps.push(("during", pair[1].clone()));
    }
    if let Some((step, _)) = steps.last_mut() {
        *step = "after";
    }
    steps
}

/// The steps of a change: `step TAB voters TAB failures survived TAB members`.
fn show(changed: &MembersChanged, session: &mut Session<'_>) -> Result<Exit, Failure> {
    let out = &mut session.out;
    let mut rows = Vec::new();
    for (step, members) in steps(changed) {
        let (voters, survived) = strength(&members, Suffrage::votes_after);
        let weaker = strength(&members, Suffrage::votes_before).1.min(survived);
        let names: Vec<String> = members.members.iter().map(ToString::to_string).collect();
        if out.json() {
            out.object(&json!({
                "step": step,
                "voters": voters,
                "failures_tolerated": weaker,
                "members": names,
            }))?;
        }
        rows.push(vec![
            step.to_owned(),
            voters.to_string(),
            weaker.to_string(),
            names.join(" "),
        ]);
    }
    if out.for_person() {
        let header = ["STEP", "VOTERS", "SURVIVES", "MEMBERS"];
        out.table(&header, &[1, 2], rows)?;
    } else if !out.json() {
        let names = ["step", "voters", "failures_tolerated", "members"];
        out.rows(&names, &rows)?;
    }
    Ok(Exit::Done)
}
