//! One seed, from its plan to its verdict.

mod growth;
mod harm;
mod progress;
mod turns;

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use raft::Instant;
use wire::types::Term;

use self::growth::OPERATOR;
pub use self::progress::PATIENCE;
use super::clients::{ClientAction, Clients, Counts};
use super::conduct::Conduct;
use super::faults::{Fault, Moment, Nemesis, View};
use super::guard;
use super::invariants::Invariants;
use super::ledger::{self, Watch};
use super::member::{EPOCH, Member, Pace, Settings, Timeouts};
use super::net::{Host, Socket, Weather};
use super::operator::Operator;
use super::plan::{Outside, Plan};
use super::random::Random;
use super::trace::Trace;
use super::verdict;
use super::world::{Did, Nature, World};

/// Whoever has the beginning of a frame waits for the rest so long.
const FRAME_TIMEOUT: Duration = Duration::from_secs(10);
/// Kernels give up what could not be sent for so long.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);

/// How much a run tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// The hash of its trace.
    Hash,
    /// The last lines of its trace, too.
    Lines,
    /// All lines, printed as they come.
    Everything,
}

/// A rule that was broken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// When.
    pub at: Instant,
    /// What is wrong.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let micros = self.at.0 / 1_000;
        let (seconds, micros) = (micros / 1_000_000, micros % 1_000_000);
        write!(f, "violation at {seconds}.{micros:06}: {}", self.what)
    }
}

/// What came of a seed.
#[derive(Debug)]
pub struct Report {
    /// The seed.
    pub seed: u64,
    /// What it decided.
    pub plan: Plan,
    /// The hash over everything that every node did.
    pub hash: u64,
    /// What went wrong, if anything did.
    pub violation: Option<Violation>,
    /// The last lines of the trace.
    pub lines: Vec<String>,
    /// What it amounts to.
    pub entry: ledger::Run,
}

/// Runs a seed.
#[must_use]
pub fn run(seed: u64, telling: Telling) -> Report {
    let plan = Plan::draw(seed);
    let trace = match telling {
        Telling::Hash => Trace::default(),
        Telling::Lines => Trace::with_lines(false),
        Telling::Everything => Trace::with_lines(true),
    };
    let mut run = Run::new(&plan, trace);
    let violation = match guard::catch(|| run.go()) {
        Ok(Ok(())) => None,
        Ok(Err(what)) => Some(what),
        Err(panic) => Some(format!("panic: {panic}")),
    };
    let at = run.world.now();
    let violation = violation.map(|what| Violation { at, what });
    let counts = run.clients.counts();
    run.watch.marks.clients(counts);
    if let Some(operator) = &run.operator {
        run.watch.marks.operator(&operator.ends);
    }
    let entry = ledger::Run {
        seed,
        outside: plan.faults.outside,
        simulated: at.since(Instant::default()),
        operations: operations(counts),
        leaders: run.watch.leaders(),
        faults: run.nemesis.counts,
        network: run.world.net().counts.by_name().into_iter().collect(),
        judged: run.judged,
        marks: run.watch.marks,
        violation: violation.as_ref().map(ToString::to_string),
    };
    let trace = run.world.into_trace();
    Report {
        seed,
        hash: trace.hash(),
        violation,
        lines: trace.into_lines(),
        entry,
        plan,
    }
}

struct Run {
    plan: Plan,
    world: World,
    conduct: Conduct,
    invariants: Invariants,
    nemesis: Nemesis,
    clients: Clients,
    operator: Option<Operator>,
    random: Random,
    watch: Watch,
    /// What the history's checkers looked at, once they did.
    judged: BTreeMap<&'static str, u64>,
    /// For use by turns.
    actions: Vec<ClientAction>,
    faults: Vec<Fault>,
    moments: Vec<Moment>,
    /// The term that a member leads, if it does.
    leads: Vec<Option<Term>>,
    /// The segment in which a living member's log goes on.
    newest_segments: Vec<Option<u64>>,
    up: Vec<bool>,
    /// The life in which a member was last damaged, or which came before its wrong state; while it
    /// is not seen to be whole again.
    harmed_in: Vec<Option<u64>>,
    /// It ends here: what follows need not be right.
    over: bool,
    /// Clients' connections, and to whom they lead.
    dialled: BTreeMap<u64, Host>,
}

impl Run {
    fn new(plan: &Plan, trace: Trace) -> Self {
        let mut random = Random::new(plan.seed ^ 0x0000_0077_6f72_6c64);
        let world = World::new(settings(plan), &nature(plan), &mut random, trace);
        let clients = Clients::new(plan.workload.clone(), plan.members, random.fork());
        let own_random = random.fork();
        let operator = plan
            .changes
            .map(|changes| Operator::new(changes, plan.members, random.fork()));
        let spares = plan.hosts() - plan.members;
        let mut run = Self {
            world,
            conduct: Conduct::new(plan.members, spares),
            invariants: Invariants::new(plan.members, spares, EPOCH, plan.limits),
            nemesis: Nemesis::new(plan),
            clients,
            operator,
            random: own_random,
            watch: Watch::default(),
            judged: BTreeMap::new(),
            actions: Vec::new(),
            faults: Vec::new(),
            moments: Vec::new(),
            leads: vec![None; plan.hosts()],
            newest_segments: vec![None; plan.hosts()],
            up: vec![false; plan.hosts()],
            harmed_in: vec![None; plan.hosts()],
            over: false,
            dialled: BTreeMap::new(),
            plan: plan.clone(),
        };
        run.set_up();
        run
    }

    fn set_up(&mut self) {
        let links = self.plan.links.iter().enumerate();
        for (from, to, weather) in links.flat_map(|(from, row)| {
            let row = row.iter().enumerate();
            row.map(move |(to, weather)| (from, to, *weather))
        }) {
            self.world
                .disturb(|net, _, _| net.set_weather(from, to, weather));
        }
        for (host, machine) in self.plan.machines.iter().enumerate() {
            let member = self.world.member_mut(host);
            member.set_clock(|clock| clock.set_wall(machine.wall_ahead_ms));
        }
    }

    fn go(&mut self) -> Result<(), String> {
        self.pass(Instant::default() + self.plan.run)?;
        if self.over {
            return self.judge();
        }
        let healed = self.heal()?;
        if self.must_go_on(&healed) {
            self.demand_progress(&healed)?;
        } else {
            self.pass(self.world.now() + self.timeouts(PATIENCE))?;
        }
        self.judge()
    }

    /// Judges what is left at the end.
    fn judge(&mut self) -> Result<(), String> {
        let finished = self.clients.finish();
        // What a majority forgot, its clients may be told in any words.
        if !self.disks_are_honest() {
            return Ok(());
        }
        if let Some(breach) = self.clients.breach() {
            return Err(breach.to_owned());
        }
        let disks: Vec<_> = self.world.members().iter().map(Member::disk).collect();
        let sessions_max = self.plan.limits.sessions_max;
        let judged = verdict::judge(&mut self.invariants, &disks, &finished, sessions_max)?;
        self.judged = judged.by_name().into_iter().collect();
        Ok(())
    }

    /// Lets time pass, with all that is due in it.
    fn pass(&mut self, end: Instant) -> Result<(), String> {
        while !self.over {
            let operator = self.operator.as_ref().and_then(Operator::next_at);
            let due = [self.nemesis.next_at(), self.clients.deadline(), operator];
            let due = due.into_iter().flatten().min();
            let until = due.map_or(end, |due| due.min(end));
            let did = self.world.step(until);
            match did {
                Did::Rest => {
                    if due.is_none_or(|due| due > end) {
                        return Ok(());
                    }
                    self.be_on_time()?;
                }
                Did::Something => {}
                Did::Wrote(host) => self.wrote(host)?,
                Did::Thought(host) => self.thought(host)?,
                Did::Started(host, found) => {
                    self.up[host] = true;
                    if let Some(node) = self.world.members()[host].node() {
                        self.watch.started(host, node, &found);
                    }
                    self.check_start(host)?;
                }
                Did::Died(host, death) => self.died(host, &death)?,
                Did::Connected(name) | Did::Disconnected(name) | Did::Received(name, _)
                    if name >= OPERATOR =>
                {
                    self.tell_operator(name, did)?;
                }
                Did::Connected(name) => {
                    let now = self.world.now();
                    self.clients.connected(now, name, &mut self.actions);
                    self.act();
                }
                Did::Received(name, bytes) => self.hears(name, bytes),
                Did::Disconnected(name) => {
                    self.dialled.remove(&name);
                    let now = self.world.now();
                    self.clients.closed(now, name, &mut self.actions);
                    self.act();
                }
                Did::ToldStranger(bytes) => self.watch.heard(&bytes),
            }
        }
        Ok(())
    }

    /// A client is answered. What a member says whose state is wrong, before anybody can know, is
    /// heard by no client: the connection breaks instead.
    fn hears(&mut self, connection: u64, bytes: Bytes) {
        let server = self.dialled.get(&connection);
        if let Some(host) = server.filter(|host| self.invariants.is_spoiled(**host)) {
            return self.hang_up(*host);
        }
        let now = self.world.now();
        self.clients
            .received(now, connection, bytes, &mut self.actions);
        self.act();
    }

    /// The connections of all clients to a member break, with all that is under way.
    fn hang_up(&mut self, host: Host) {
        let dialled = self.dialled.iter().filter(|(_, to)| **to == host);
        let broken: Vec<u64> = dialled.map(|(connection, _)| *connection).collect();
        let now = self.world.now();
        for connection in broken {
            self.dialled.remove(&connection);
            self.world.disconnect(connection);
            self.clients.closed(now, connection, &mut self.actions);
        }
        self.act();
    }

    fn check_start(&mut self, host: Host) -> Result<(), String> {
        let member = &self.world.members()[host];
        match member.node().filter(|_| self.disks_are_honest()) {
            Some(node) => self.invariants.started(host, node, member.disk()),
            None => Ok(()),
        }
    }

    /// What a member's disk holds is looked at before more happens to it.
    fn wrote(&mut self, host: Host) -> Result<(), String> {
        if !self.disks_are_honest() {
            return Ok(());
        }
        let disk = self.world.members()[host].disk();
        self.invariants.after_work(host, disk)
    }

    /// Does what clients and nemesis have planned for now.
    fn be_on_time(&mut self) -> Result<(), String> {
        let now = self.world.now();
        if self.clients.deadline().is_some_and(|at| at <= now) {
            self.clients.tick(now, &mut self.actions);
            self.act();
        }
        if self.nemesis.next_at().is_some_and(|at| at <= now) {
            self.harm()?;
        }
        self.operate()
    }

    /// Carries out what clients want.
    fn act(&mut self) {
        for action in self.actions.drain(..) {
            match action {
                ClientAction::Connect { connection, to } => {
                    self.dialled.insert(connection, to);
                    self.world.connect(connection, to);
                }
                ClientAction::Send { connection, bytes } => {
                    if let Some(Socket { host, name }) = self.world.server_of(connection) {
                        self.conduct.asked(self.world.now(), host, name, &bytes);
                    }
                    self.world.send(connection, bytes);
                }
                ClientAction::Close { connection } => {
                    self.dialled.remove(&connection);
                    self.world.disconnect(connection);
                }
            }
        }
    }

    /// So many election timeouts, upper ends.
    fn timeouts(&self, count: u32) -> Duration {
        self.plan.election_timeout * 2 * count
    }

    /// Whether what was synced stays, but for damage that can be noticed.
    fn disks_are_honest(&self) -> bool {
        matches!(self.plan.faults.outside, None | Some(Outside::EveryCopyBad))
    }

    /// Who leads in the highest term, if anybody does.
    fn leader(&self) -> Option<Host> {
        let leads = self.leads.iter().enumerate();
        let leads = leads.filter_map(|(host, term)| Some(((*term)?, host)));
        leads.max().map(|(_, host)| host)
    }

    /// Shows the nemesis what the world looks like.
    fn show<T>(&mut self, tell: impl FnOnce(&mut Nemesis, &View<'_>) -> T) -> T {
        let view = View {
            now: self.world.now(),
            leader: self.leader(),
            up: &self.up,
        };
        tell(&mut self.nemesis, &view)
    }
}

/// Operations by how they ended.
fn operations(counts: &Counts) -> BTreeMap<&'static str, u64> {
    let ends = [
        ("ok", counts.ok),
        ("not applied", counts.not_applied),
        ("unknown", counts.unknown),
    ];
    ends.into_iter().collect()
}

fn settings(plan: &Plan) -> Settings {
    Settings {
        members: plan.members,
        spares: plan.hosts() - plan.members,
        election_timeout: plan.election_timeout,
        heartbeat: plan.heartbeat,
        limits: plan.limits,
        snapshots: plan.snapshots,
        keep_bytes: plan
            .machines
            .iter()
            .map(|machine| machine.keep_bytes)
            .collect(),
        segment_bytes: plan.storage.segment_bytes,
        tail_bytes: plan.storage.tail_bytes,
        soft_free_bytes: plan.storage.soft_free_bytes,
        scrubs: plan.storage.scrubs,
        timeouts: Timeouts {
            hello: Duration::from_secs(3),
            frame: FRAME_TIMEOUT,
        },
        same_seed: plan.same_seeds.then_some(plan.seed),
    }
}

fn nature(plan: &Plan) -> Nature {
    let pace = |machine: &super::plan::Machine| Pace {
        turn: machine.turn,
        disk: machine.disk,
        disk_max: machine.disk_max,
    };
    Nature {
        paces: plan.machines.iter().map(pace).collect(),
        clock_rates: plan
            .machines
            .iter()
            .map(|machine| machine.clock_rate)
            .collect(),
        weather: Weather::fair(plan.links[0][0].delay, plan.links[0][0].delay_max),
        disk_bytes: plan
            .machines
            .iter()
            .map(|machine| machine.disk_bytes)
            .collect(),
        stall_timeout: STALL_TIMEOUT,
    }
}
