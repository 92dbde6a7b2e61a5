//! The members' processes: the faults that are done to them, and how they end and come up again.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::time::{Duration, Instant};

use raftd::wal::segment::WAL_DIR;
use rustix::process::Signal;

use super::SEGMENT_BYTES;
use super::ledger::Fault;
use super::log::last_of;
use super::nemesis::{Scene, Stop};
use super::plan::{MemberFault, Plan};
use super::rot::Rot;
use crate::cluster::Node;
use crate::{proc, wait};

/// How long a member may take to recover and listen.
const READY_WITHIN: Duration = Duration::from_secs(20);
/// A member whose log is damaged is whole again by then, though links are cut meanwhile.
const WHOLE_WITHIN: Duration = Duration::from_secs(60);
/// How long a member may take to end by SIGTERM, to be refused, or to find damage.
const ENDS_WITHIN: Duration = Duration::from_secs(20);
/// How long a member whose sync is to fail may take to sync that often.
const SYNCS_WITHIN: Duration = Duration::from_secs(6);
/// How often a member rots at most before it may come up.
const ROTS: u64 = 6;
/// Lines of a member's log that a violation shows.
const LOG_TAIL_LINES: usize = 12;
/// How syncs are traced, into the file that follows. The tracer is a grandchild: the member stays the
/// process that is waited for and killed.
const STRACE: [&str; 6] = [
    "-D",
    "-f",
    "--seccomp-bpf",
    "--decode-pids=comm",
    "-qq",
    "-o",
];

/// How a member is started.
#[derive(Clone, Copy, Debug)]
pub(super) enum Under {
    Nothing,
    /// Every fdatasync of a thread takes so many microseconds longer, but for as many as a start takes,
    /// which syncs each segment, and a few.
    SlowSync {
        micros: u64,
        starting: usize,
    },
    /// This fdatasync of each thread fails, counted from 1.
    FailedSync(u64),
}

/// The members and what is done to them. Between two faults all of them run, undisturbed.
#[derive(Debug)]
pub struct Members<'a> {
    /// In the order of their ids.
    pub nodes: &'a mut [Node],
    /// Times that one was started again.
    pub restarts: u64,
}

impl Members<'_> {
    /// Faults of members, until the end.
    ///
    /// # Errors
    /// A member ended as it must not, or did not as it must.
    pub fn torture(&mut self, scene: &Scene<'_>, mut plan: Plan) -> Result<(), Stop> {
        loop {
            let next = plan.next_member_fault();
            self.rest(scene, next.after)?;
            let needs_strace = matches!(next.fault, Fault::SlowSync | Fault::FailedSync);
            if needs_strace && !scene.strace {
                continue;
            }
            let member = scene.find(next.whom);
            (scene.say)(&format!(
                "{} {} {:?}",
                next.fault.name(),
                member + 1,
                next.lasts
            ));
            if self.strike(scene, &next, member)? {
                scene.tally.count(next.fault);
            }
            scene.halt.check()?;
        }
    }

    /// Does it, and brings the member back. False: it did no harm.
    fn strike(&mut self, scene: &Scene<'_>, next: &MemberFault, i: usize) -> Result<bool, Stop> {
        let lasts = next.lasts;
        match next.fault {
            Fault::Kill => {
                self.kill(i)?;
                self.settle(scene, lasts);
                if let Some(soon) = next.again {
                    self.launch(i, Under::Nothing);
                    self.settle(scene, soon);
                    self.kill(i)?;
                }
                self.start(i)?;
            }
            Fault::KillAll => {
                self.all_live()?;
                self.nodes.iter_mut().for_each(Node::kill);
                self.settle(scene, lasts);
                self.start_all()?;
            }
            Fault::Stop => {
                self.stop(i)?;
                self.settle(scene, lasts);
                self.start(i)?;
            }
            Fault::Freeze => {
                self.all_live()?;
                let frozen = if next.all {
                    0..self.nodes.len()
                } else {
                    i..i + 1
                };
                let pids: Vec<u32> = self.nodes[frozen].iter().map(Node::pid).collect();
                pids.iter().for_each(|&pid| proc::signal(pid, Signal::STOP));
                self.settle(scene, lasts);
                pids.iter().for_each(|&pid| proc::signal(pid, Signal::CONT));
            }
            Fault::SlowSync => {
                self.kill(i)?;
                let micros = 20_000 + next.chance % 500_000;
                let starting = self.segments(i)?;
                self.launch(i, Under::SlowSync { micros, starting });
                self.await_ready(i)?;
                self.settle(scene, lasts);
                let slow = self.injections(i).next().is_some();
                if next.all {
                    self.stop(i)?;
                } else {
                    self.kill(i)?;
                }
                self.start(i)?;
                return Ok(slow);
            }
            Fault::FailedSync => return self.fail_sync(i, next.chance),
            Fault::Rot => self.rot(scene, i, next)?,
            Fault::Wipe => {
                let _room = scene.room.lock().expect("no lane panics");
                self.wipe(i)?;
            }
            other => unreachable!("{} is no fault of a member", other.name()),
        }
        Ok(true)
    }

    /// After an error of its sync a member must end with 74 (rules D3).
    fn fail_sync(&mut self, i: usize, chance: u64) -> Result<bool, Stop> {
        self.kill(i)?;
        self.launch(i, Under::FailedSync(1 + chance % 12));
        let mut ended = self.look_for_end(i, SYNCS_WITHIN);
        // A spare segment that cannot be synced is thrown away, and that is all. Any other sync may have
        // failed at the last moment: the end is under way.
        let counts = |line: String| !line.contains("<background>");
        if ended.is_none() && self.injections(i).any(counts) {
            ended = Some(self.await_end(i, ENDS_WITHIN)?);
        }
        let failed = ended.is_some();
        match ended {
            Some(status) => self.demand(i, status, 74, "a failed sync")?,
            // Until now no sync that counts had failed; it may have since.
            None => self.nodes[i].kill(),
        }
        self.start(i)?;
        Ok(failed)
    }

    /// A member whose file rotted comes up with all it had, because nothing that counts was hit, or
    /// without a part of it and gets that from the others, or refuses with 65 and names the place; then
    /// it gets back what was there, and rots elsewhere. One copy of IDENTITY may rot.
    fn rot(&mut self, scene: &Scene<'_>, i: usize, next: &MemberFault) -> Result<(), Stop> {
        self.kill(i)?;
        let told = |error| Stop::Failed(format!("rot: {error}"));
        let data_dir = self.nodes[i].data_dir.clone();
        let last = last_of(&data_dir, SEGMENT_BYTES)?;
        for strike in 0..ROTS {
            let rot = Rot::strike(&data_dir, next.chance.wrapping_add(strike)).map_err(told)?;
            let place = rot.describe();
            (scene.say)(&place);
            self.launch(i, Under::Nothing);
            let ended = self.ready_or_end(i)?;
            let said = self.nodes[i].log_since_start();
            let Some(status) = ended else {
                let all = said.contains(&format!(" last={last} "));
                if !all && !said.contains(" lost=true ") {
                    let what = format!("came up with less than {last} after rot: {place}");
                    return Err(self.failed(i, &what));
                }
                return self.await_whole(i);
            };
            self.demand(i, status, 65, &place)?;
            let name = rot.file_name();
            let names = name != "IDENTITY" && said.contains(&name) && said.contains("  try: ");
            if !names {
                let what = format!("refuses rot without naming it: {place}");
                return Err(self.failed(i, &what));
            }
            rot.put_back().map_err(told)?;
        }
        self.start(i)
    }

    /// Waits until a member that came up has back what it said it lacked: two that lack something at
    /// once may be more than a cluster of three makes up for.
    fn await_whole(&mut self, i: usize) -> Result<(), Stop> {
        let bound = Instant::now() + WHOLE_WITHIN;
        wait::until("a member is whole again", WHOLE_WITHIN * 2, || {
            let said = self.nodes[i].log_since_start();
            let lacks = |begun: bool, ended: &str| begun && !said.contains(ended);
            let lost = lacks(said.contains(" lost=true "), "the log is whole again");
            let faulty = said.contains(" faulty=") && !said.contains(" faulty=0 ");
            let faulty = lacks(faulty, "damaged entries are whole again");
            if !lost && !faulty {
                return Some(Ok(()));
            }
            let late = Instant::now() > bound;
            late.then(|| Err(self.failed(i, &format!("is not whole within {WHOLE_WITHIN:?}"))))
        })
    }

    /// A member with an empty directory under a known id must be refused, and end with 78.
    fn wipe(&mut self, i: usize) -> Result<(), Stop> {
        self.kill(i)?;
        let dir = self.nodes[i].data_dir.clone();
        let aside = dir.with_extension("aside");
        let told = |error| Stop::Failed(format!("wipe: {error}"));
        fs::rename(&dir, &aside).map_err(told)?;
        self.launch(i, Under::Nothing);
        let status = self.await_end(i, ENDS_WITHIN)?;
        self.demand(i, status, 78, "the loss of its directory")?;
        fs::remove_dir_all(&dir).map_err(told)?;
        fs::rename(&aside, &dir).map_err(told)?;
        self.start(i)
    }

    /// Waits between two faults; all members must live.
    fn rest(&mut self, scene: &Scene<'_>, time: Duration) -> Result<(), Stop> {
        let rested = scene.halt.rest(time);
        self.all_live()?;
        rested
    }

    /// Waits while something is broken: it is put right also if the end comes meanwhile.
    fn settle(&self, scene: &Scene<'_>, time: Duration) {
        // The end is seen after the repair.
        let _ = scene.halt.rest(time);
    }

    /// Demands that every member runs.
    ///
    /// # Errors
    /// One ended by itself.
    pub fn all_live(&mut self) -> Result<(), Stop> {
        for i in 0..self.nodes.len() {
            if let Some(status) = self.nodes[i].ended() {
                let what = format!("ended with {status}, and nobody ended it");
                return Err(self.failed(i, &what));
            }
        }
        Ok(())
    }

    /// Starts all, and waits until they serve.
    ///
    /// # Errors
    /// One does not come up.
    pub fn start_all(&mut self) -> Result<(), Stop> {
        (0..self.nodes.len()).for_each(|i| self.launch(i, Under::Nothing));
        (0..self.nodes.len()).try_for_each(|i| self.await_ready(i))
    }

    /// Starts a member and waits until it serves.
    pub(super) fn start(&mut self, i: usize) -> Result<(), Stop> {
        self.launch(i, Under::Nothing);
        self.await_ready(i)
    }

    pub(super) fn launch(&mut self, i: usize, under: Under) {
        self.restarts += 1;
        let command = command(&self.nodes[i], under);
        self.nodes[i].start_as(command);
    }

    pub(super) fn await_ready(&mut self, i: usize) -> Result<(), Stop> {
        match self.ready_or_end(i)? {
            None => Ok(()),
            Some(status) => {
                Err(self.failed(i, &format!("ended with {status} instead of coming up")))
            }
        }
    }

    /// How a member ended that was just started; `None` if it came up.
    pub(super) fn ready_or_end(&mut self, i: usize) -> Result<Option<ExitStatus>, Stop> {
        let bound = Instant::now() + READY_WITHIN;
        let what = "a member is ready, or ends, or takes too long";
        wait::until(what, READY_WITHIN * 2, || {
            let node = &mut self.nodes[i];
            if node.is_ready() {
                return Some(Ok(None));
            }
            if let Some(status) = node.ended() {
                return Some(Ok(Some(status)));
            }
            let late = Instant::now() > bound;
            late.then(|| Err(self.failed(i, &format!("is not ready within {READY_WITHIN:?}"))))
        })
    }

    /// SIGTERM to a member, which must end in order.
    pub(super) fn stop(&mut self, i: usize) -> Result<(), Stop> {
        self.all_live()?;
        proc::signal(self.nodes[i].pid(), Signal::TERM);
        let status = self.await_end(i, ENDS_WITHIN)?;
        self.demand(i, status, 0, "SIGTERM")
    }

    /// SIGKILL to a member, which must have lived until then.
    pub(super) fn kill(&mut self, i: usize) -> Result<(), Stop> {
        self.all_live()?;
        self.nodes[i].kill();
        Ok(())
    }

    /// Waits for a member's end and forgets its process.
    fn look_for_end(&mut self, i: usize, within: Duration) -> Option<ExitStatus> {
        let bound = Instant::now() + within;
        wait::until("a member ends or not", within * 2, || {
            let ended = self.nodes[i].ended();
            (ended.is_some() || Instant::now() > bound).then_some(ended)
        })
    }

    fn await_end(&mut self, i: usize, within: Duration) -> Result<ExitStatus, Stop> {
        let ended = self.look_for_end(i, within);
        ended.ok_or_else(|| self.failed(i, &format!("does not end within {within:?}")))
    }

    /// Demands an exit code.
    pub(super) fn demand(
        &self,
        i: usize,
        status: ExitStatus,
        code: i32,
        why: &str,
    ) -> Result<(), Stop> {
        if status.code() == Some(code) {
            return Ok(());
        }
        let what = format!("ended with {status} and not with {code} after {why}");
        Err(self.failed(i, &what))
    }

    fn segments(&self, i: usize) -> Result<usize, Stop> {
        let told = |error| Stop::Failed(format!("slow sync: {error}"));
        let names = fs::read_dir(self.nodes[i].data_dir.join(WAL_DIR)).map_err(told)?;
        Ok(names.count())
    }

    /// What strace did to syncs, a line for each, with the thread's name.
    fn injections(&self, i: usize) -> impl Iterator<Item = String> {
        let told = fs::read_to_string(trace(&self.nodes[i])).unwrap_or_default();
        let lines: Vec<String> = told.lines().map(str::to_owned).collect();
        let injected = |line: &String| line.contains("(DELAYED)") || line.contains("(INJECTED)");
        lines.into_iter().filter(injected)
    }

    pub(super) fn failed(&self, i: usize, what: &str) -> Stop {
        let node = &self.nodes[i];
        let said = node.log_since_start();
        let lines: Vec<&str> = said.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n  ");
        Stop::Failed(format!("member {} {what}; it said:\n  {tail}", node.id))
    }
}

/// The command that starts a member so that it goes with this process, however that ends, and is
/// not reached by a terminal's Ctrl-C.
fn command(node: &Node, under: Under) -> Command {
    let own = node.command();
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    let inject = match under {
        Under::Nothing => None,
        Under::SlowSync { micros, starting } => {
            let first = starting + 4;
            Some(format!("fdatasync:delay_enter={micros}:when={first}+"))
        }
        Under::FailedSync(when) => Some(format!("fdatasync:error=EIO:when={when}")),
    };
    if let Some(inject) = inject {
        command.arg("strace").args(STRACE).arg(trace(node));
        command.args(["-e", "signal=none", "-e", "trace=fdatasync"]);
        command.args(["-e", &format!("inject={inject}")]);
    }
    command.arg(own.get_program()).args(own.get_args());
    for (name, value) in own.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    command.process_group(0);
    command
}

/// What strace did to a member in its last life.
fn trace(node: &Node) -> PathBuf {
    node.log.with_extension("strace")
}

/// Whether this machine has strace, and this user may use it so.
#[must_use]
pub fn has_strace(scratch: &Path) -> bool {
    let mut strace = Command::new("strace");
    strace.args(STRACE).arg(scratch.join("strace.probe"));
    strace.args(["-e", "inject=fdatasync:error=EIO", "true"]);
    strace.output().is_ok_and(|done| done.status.success())
}
