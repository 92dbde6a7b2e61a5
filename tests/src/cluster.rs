//! Clusters of real nodes on loopback, with data on disk.

use std::fs::{self, File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::thread;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::process::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::proc::{self, Done, PATIENCE, Running};
use crate::wait;

/// What every node of a test gets besides its addresses: small segments, and timings that a busy
/// machine keeps.
pub const SETTINGS: [&str; 2] = ["wal.segment_bytes=1MiB", "raft.timing=wan"];
/// Lines of each log that a failed test shows; the whole files are kept.
const LOG_TAIL_LINES: usize = 20;

/// One node, running or not.
#[derive(Debug)]
pub struct Node {
    /// From 1 on.
    pub id: u64,
    /// Where clients reach it.
    pub client_addr: String,
    /// Where its peers reach it.
    pub peer_addr: String,
    /// Its data directory.
    pub data_dir: PathBuf,
    /// Everything that it ever wrote to stderr.
    pub log: PathBuf,
    /// The arguments that say who it is.
    identity: Vec<String>,
    extra: Vec<String>,
    process: Option<Running>,
    /// Bytes of the log when it was last started.
    log_start: u64,
}

impl Node {
    /// The command that starts it.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = proc::command("raftd");
        command
            .args(&self.identity)
            .arg("--data-dir")
            .arg(&self.data_dir)
            .args([
                "--listen",
                &self.client_addr,
                "--peer-listen",
                &self.peer_addr,
            ]);
        for setting in SETTINGS {
            command.args(["--set", setting]);
        }
        command.args(&self.extra);
        command
    }

    /// Starts it, and does not wait.
    ///
    /// # Panics
    /// If it runs already, or cannot be started.
    pub fn start(&mut self) {
        self.start_as(self.command());
    }

    /// Starts it by another command than its own: one around it.
    ///
    /// # Panics
    /// As [`Node::start`].
    pub fn start_as(&mut self, command: Command) {
        assert!(self.process.is_none(), "node {} runs already", self.id);
        self.log_start = fs::metadata(&self.log).map_or(0, |metadata| metadata.len());
        self.process = Some(Running::start(command, &self.log));
    }

    /// Waits until it says `ready`.
    ///
    /// # Panics
    /// If it ends before, or does not say it.
    pub fn wait_ready(&mut self) {
        let what = format!("node {} is ready", self.id);
        wait::until_true(&what, PATIENCE, || {
            if let Some(status) = self.process.as_mut().and_then(Running::ended) {
                panic!(
                    "node {} ended with {status}:\n{}",
                    self.id,
                    self.log_since_start()
                );
            }
            self.is_ready()
        });
    }

    /// Whether it said `ready` since it was last started.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.log_since_start().lines().any(is_ready)
    }

    /// How it ended, if it did so by itself since it was last started; told once.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.process.as_mut()?.ended()?;
        self.process = None;
        Some(status)
    }

    /// What it wrote to stderr since it was last started.
    #[must_use]
    pub fn log_since_start(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let start = usize::try_from(self.log_start).map_or(text.len(), |at| at.min(text.len()));
        String::from_utf8_lossy(&text[start..]).into_owned()
    }

    /// Whether it was started and not stopped since.
    #[must_use]
    pub fn runs(&self) -> bool {
        self.process.is_some()
    }

    /// Its process id.
    ///
    /// # Panics
    /// If it does not run.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.process.as_ref().expect("it runs").pid()
    }

    /// SIGKILL: nothing is flushed, nothing is said.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&mut self) {
        self.process.take().expect("it runs").kill();
    }

    /// A signal and how the node ends by it.
    ///
    /// # Panics
    /// If it does not run, or goes on.
    pub fn stop(&mut self, signal: Signal) -> ExitStatus {
        let mut process = self.process.take().expect("it runs");
        proc::signal(process.pid(), signal);
        process.wait()
    }

    /// How it ends by itself.
    ///
    /// # Panics
    /// If it was not started, or goes on.
    pub fn wait_end(&mut self) -> ExitStatus {
        self.process.take().expect("it was started").wait()
    }
}

/// Whether a line of the log is the `ready` event.
fn is_ready(line: &str) -> bool {
    line.contains("ready client=")
}

/// Nodes of one cluster and their folder. Dropping it stops them and removes the folder; after a
/// failure the folder stays and the ends of the logs are shown.
#[derive(Debug)]
pub struct Cluster {
    /// In the order of their ids.
    pub nodes: Vec<Node>,
    folder: Option<TempDir>,
    _slot: Slot,
}

impl Cluster {
    /// Nodes that are not started yet; each gets the `extra` arguments.
    ///
    /// # Panics
    /// If the machine cannot hold them.
    #[must_use]
    pub fn prepare(count: usize, extra: &[&str]) -> Self {
        Self::prepare_behind(None, count, extra)
    }

    /// Like [`Cluster::prepare`], for nodes that reach each other at the addresses in `listed` and
    /// not where they listen: whoever calls this stands between.
    ///
    /// # Panics
    /// If the machine cannot hold them.
    #[must_use]
    pub fn prepare_behind(listed: Option<&[String]>, count: usize, extra: &[&str]) -> Self {
        let slot = Slot::take();
        let folder = tempfile::Builder::new()
            .prefix("cluster-")
            .tempdir_in(proc::scratch_dir())
            .expect("a folder for the cluster");
        let addrs: Vec<String> = proc::free_ports(2 * count)
            .into_iter()
            .map(|port| format!("127.0.0.1:{port}"))
            .collect();
        let (clients, peers) = addrs.split_at(count);
        let members: Vec<String> = listed
            .unwrap_or(peers)
            .iter()
            .enumerate()
            .map(|(i, addr)| format!("{}={addr}", i + 1))
            .collect();
        let nodes = clients
            .iter()
            .zip(peers)
            .zip(1..)
            .map(|((client_addr, peer_addr), id)| Node {
                id,
                client_addr: client_addr.clone(),
                peer_addr: peer_addr.clone(),
                data_dir: folder.path().join(format!("n{id}")),
                log: folder.path().join(format!("n{id}.log")),
                identity: vec![
                    "--id".to_owned(),
                    id.to_string(),
                    "--initial-cluster".to_owned(),
                    members.join(","),
                ],
                extra: extra.iter().map(|&arg| arg.to_owned()).collect(),
                process: None,
                log_start: 0,
            });
        Self {
            nodes: nodes.collect(),
            folder: Some(folder),
            _slot: slot,
        }
    }

    /// Nodes that serve: all ready, and a leader elected.
    ///
    /// # Panics
    /// If they do not get there.
    #[must_use]
    pub fn start(count: usize) -> Self {
        let mut cluster = Self::prepare(count, &[]);
        cluster.start_all();
        cluster.wait_leader();
        cluster
    }

    /// One more node, not started, that asks those that are there to be admitted as `n<ID>`: the next
    /// id that the log gives.
    ///
    /// # Panics
    /// If the machine has no port.
    pub fn prepare_newcomer(&mut self) -> &mut Node {
        let id = self.nodes.iter().map(|node| node.id).max().unwrap_or(0) + 1;
        let mut addrs = proc::free_ports(2)
            .into_iter()
            .map(|port| format!("127.0.0.1:{port}"));
        let mut addr = || addrs.next().expect("two ports were asked for");
        let node = Node {
            id,
            client_addr: addr(),
            peer_addr: addr(),
            data_dir: self.path(&format!("n{id}")),
            log: self.path(&format!("n{id}.log")),
            identity: vec![
                "--name".to_owned(),
                format!("n{id}"),
                "--join".to_owned(),
                self.endpoints(),
            ],
            extra: Vec::new(),
            process: None,
            log_start: 0,
        };
        self.nodes.push(node);
        self.nodes.last_mut().expect("just pushed")
    }

    /// Starts every node that does not run, and waits until all are ready.
    ///
    /// # Panics
    /// If one does not get ready.
    pub fn start_all(&mut self) {
        let mut started: Vec<&mut Node> =
            self.nodes.iter_mut().filter(|node| !node.runs()).collect();
        started.iter_mut().for_each(|node| node.start());
        started.iter_mut().for_each(|node| node.wait_ready());
    }

    /// A file of the cluster's folder.
    ///
    /// # Panics
    /// Never: the folder is there as long as the cluster is.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder
            .as_ref()
            .map(TempDir::path)
            .expect("kept until the drop")
            .join(name)
    }

    /// Kills every node that runs.
    pub fn kill_all(&mut self) {
        for node in &mut self.nodes {
            node.process = None;
        }
    }

    /// Kills every node and leaves the folder where it is.
    ///
    /// # Panics
    /// Never: the folder is there as long as the cluster is.
    #[must_use]
    pub fn keep(mut self) -> PathBuf {
        self.kill_all();
        self.folder.take().expect("kept until the drop").keep()
    }

    /// The client addresses of all nodes, as `-e` takes them.
    #[must_use]
    pub fn endpoints(&self) -> String {
        let addrs: Vec<&str> = self
            .nodes
            .iter()
            .map(|node| node.client_addr.as_str())
            .collect();
        addrs.join(",")
    }

    /// Runs `raftctl` against all nodes.
    #[must_use]
    pub fn ctl(&self, args: &[&str]) -> Done {
        self.ctl_with(args, b"")
    }

    /// Runs `raftctl` against all nodes with an input.
    #[must_use]
    pub fn ctl_with(&self, args: &[&str], stdin: &[u8]) -> Done {
        proc::raftctl(&self.endpoints(), args, stdin)
    }

    /// The command that runs `raftctl` against all nodes.
    #[must_use]
    pub fn ctl_command(&self, args: &[&str]) -> Command {
        proc::raftctl_command(&self.endpoints(), args)
    }

    /// What `raftctl status --json` says now; `None` if no node answered.
    ///
    /// # Panics
    /// If it says something else than JSON.
    #[must_use]
    pub fn status(&self) -> Option<Value> {
        let done = self.ctl(&["-t", "1s", "--json", "status"]);
        (done.code == Some(0)).then(|| serde_json::from_slice(&done.stdout).expect("JSON"))
    }

    /// The id of a leader that a quorum follows.
    ///
    /// # Panics
    /// If none is elected within [`PATIENCE`].
    pub fn wait_leader(&self) -> u64 {
        wait::until("a leader with a quorum", PATIENCE, || {
            let status = self.status()?;
            status["quorum_ok"].as_bool()?.then_some(())?;
            status["leader"].as_u64()
        })
    }

    /// Waits until every running node has applied what `index` has.
    ///
    /// # Panics
    /// If one does not get there.
    pub fn wait_applied(&self, index: u64) {
        wait::until_true(&format!("all have applied {index}"), PATIENCE, || {
            self.status().is_some_and(|status| {
                let members = status["members"].as_array().cloned().unwrap_or_default();
                !members.is_empty()
                    && members
                        .iter()
                        .all(|member| member["applied_index"].as_u64().is_some_and(|i| i >= index))
            })
        });
    }

    /// The node with this id.
    ///
    /// # Panics
    /// If there is none.
    pub fn node(&mut self, id: u64) -> &mut Node {
        self.nodes
            .iter_mut()
            .find(|node| node.id == id)
            .expect("a node of this cluster")
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.kill_all();
        if thread::panicking() {
            show_logs(&self.nodes);
            if let Some(folder) = self.folder.take() {
                say(&format!(
                    "everything is kept in {}",
                    folder.keep().display()
                ));
            }
        }
    }
}

#[expect(clippy::print_stderr, reason = "a failed test explains itself")]
fn say(text: &str) {
    eprintln!("{text}");
}

fn show_logs(nodes: &[Node]) {
    for node in nodes {
        let text = fs::read_to_string(&node.log).unwrap_or_default();
        let lines: Vec<&str> = text.lines().collect();
        let tail = lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n  ");
        say(&format!("end of the log of node {}:\n  {tail}", node.id));
    }
}

/// The right to run a cluster: at most two run at once, over all test processes. These are locks
/// that the kernel gives back however their holder ends.
#[derive(Debug)]
pub struct Slot(#[expect(dead_code, reason = "held, not used")] File);

impl Slot {
    /// Waits for one.
    ///
    /// # Panics
    /// If none gets free.
    #[must_use]
    pub fn take() -> Self {
        let scratch = proc::scratch_dir();
        wait::until("one of two clusters ends", Duration::from_secs(600), || {
            (0..2).find_map(|slot| try_lock(&scratch.join(format!("cluster-slot-{slot}"))))
        })
    }
}

fn try_lock(path: &Path) -> Option<Slot> {
    let file = OpenOptions::new()
        .create(true)
        .truncate(false)
        .write(true)
        .open(path)
        .expect("a lock file");
    flock(&file, FlockOperation::NonBlockingLockExclusive)
        .is_ok()
        .then_some(Slot(file))
}
