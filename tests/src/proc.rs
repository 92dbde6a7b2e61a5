//! Real processes: `raftd` and `raftctl` as they are built, nodes that are killed and restarted.

use std::env;
use std::ffi::OsStr;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{LazyLock, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::{root, wait};

/// Long enough for whatever should take a second or two, on a machine that is busy.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A command that runs longer hangs.
pub const HANGS_AFTER: Duration = Duration::from_secs(180);

/// Where the programs of this build are. `TESTS_BIN_DIR` names a folder that holds them; without
/// it they are built, once per test process, in the profile of the caller.
///
/// # Panics
/// If they cannot be built.
pub fn bin_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        if let Some(dir) = env::var_os("TESTS_BIN_DIR") {
            return PathBuf::from(dir);
        }
        let dir = profile_dir();
        let profile = match dir.file_name().and_then(OsStr::to_str) {
            None | Some("debug") => "dev",
            Some(profile) => profile,
        };
        let mut cargo = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        cargo.args(["build", "--quiet", "--bins", "--profile", profile]);
        cargo.args(["--package", "raftd", "--package", "raftctl"]);
        let status = cargo.current_dir(root()).status().expect("cargo runs");
        assert!(status.success(), "raftd and raftctl do not build");
        dir
    })
}

/// Where Cargo puts programs of the caller's profile: a test's own binary lies in
/// `target/PROFILE/deps`, a program in `target/PROFILE`.
fn profile_dir() -> PathBuf {
    let own = env::current_exe().expect("a path to this program");
    let dir = own.parent().expect("a program lies in a folder");
    let deps = dir.parent().filter(|_| dir.ends_with("deps"));
    deps.unwrap_or(dir).to_path_buf()
}

/// Cargo's target directory.
fn target_dir() -> PathBuf {
    let profile = profile_dir();
    profile.parent().expect("target/PROFILE").to_path_buf()
}

/// A folder on disk for what tests write.
///
/// # Panics
/// If it cannot be made.
#[must_use]
pub fn scratch_dir() -> PathBuf {
    let dir = target_dir().join("tmp");
    fs::create_dir_all(&dir).expect("a scratch folder");
    dir
}

/// A command of this build, without the caller's settings for it.
#[must_use]
pub fn command(program: &str) -> Command {
    let mut command = Command::new(bin_dir().join(program));
    for (name, _) in env::vars_os() {
        let name = name.to_string_lossy().into_owned();
        if name.starts_with("RAFTD_") || name.starts_with("RAFTCTL_") {
            command.env_remove(name);
        }
    }
    // Whoever runs the tests may have a configuration.
    command.env("RAFTCTL_CONFIG", "/dev/null");
    command
}

/// What a program did.
#[derive(Clone, Debug)]
pub struct Done {
    /// Its exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Exactly what it wrote to stdout.
    pub stdout: Vec<u8>,
    /// What it wrote to stderr.
    pub stderr: String,
    /// How long it ran.
    pub took: Duration,
}

impl Done {
    /// Its stdout as text.
    ///
    /// # Panics
    /// If it is not UTF-8.
    #[must_use]
    pub fn text(&self) -> &str {
        str::from_utf8(&self.stdout).expect("text")
    }

    /// Demands an exit code.
    ///
    /// # Panics
    /// If it was another one.
    #[must_use]
    #[track_caller]
    pub fn exits(self, code: i32) -> Self {
        // What it said comes last: whoever reads the end of a long run's output needs that first.
        assert!(
            self.code == Some(code),
            "exit code {:?} instead of {code} after {:?}\nstdout:\n{}\nstderr:\n{}",
            self.code,
            self.took,
            String::from_utf8_lossy(&self.stdout),
            self.stderr
        );
        self
    }

    /// Demands success, and silence on stderr.
    ///
    /// # Panics
    /// If there was an error or a word.
    #[must_use]
    #[track_caller]
    pub fn quietly(self) -> Self {
        let done = self.exits(0);
        assert_eq!(done.stderr, "", "silence on stderr");
        done
    }
}

/// Runs a command to its end, with `stdin` as its input.
///
/// # Panics
/// If it cannot be run or does not end within [`HANGS_AFTER`].
#[must_use]
pub fn run(mut command: Command, stdin: &[u8]) -> Done {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let began = Instant::now();
    let mut child = command
        .spawn()
        .unwrap_or_else(|e| panic!("{command:?}: {e}"));
    let mut input = child.stdin.take().expect("piped");
    let pid = child.id();
    let (running, ended) = mpsc::channel::<()>();
    thread::scope(|scope| {
        // A program may end without reading its input: that is its business.
        scope.spawn(move || drop(input.write_all(stdin)));
        scope.spawn(move || {
            if ended.recv_timeout(HANGS_AFTER) == Err(RecvTimeoutError::Timeout) {
                signal(pid, Signal::KILL);
            }
        });
        let output = child.wait_with_output().expect("its output");
        drop(running);
        let took = began.elapsed();
        let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            took < HANGS_AFTER,
            "{command:?} hangs; so far it said: {stderr}"
        );
        Done {
            code: output.status.code(),
            stdout: output.stdout,
            stderr,
            took,
        }
    })
}

/// Runs `raftctl` against `endpoints`.
#[must_use]
pub fn raftctl<S: AsRef<OsStr>>(endpoints: &str, args: &[S], stdin: &[u8]) -> Done {
    run(raftctl_command(endpoints, args), stdin)
}

/// The command that runs `raftctl` against `endpoints`.
#[must_use]
pub fn raftctl_command<S: AsRef<OsStr>>(endpoints: &str, args: &[S]) -> Command {
    let mut command = command("raftctl");
    command.env("RAFTCTL_ENDPOINTS", endpoints).args(args);
    command
}

/// Sends a signal.
///
/// # Panics
/// If there is no such process.
pub fn signal(pid: u32, signal: Signal) {
    let pid = i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process id");
    kill_process(pid, signal).expect("a running process");
}

/// Waits until a process does not leave a signal to the system.
///
/// # Panics
/// If it does for longer than [`PATIENCE`].
pub fn wait_handles(pid: u32, signal: Signal) {
    let status = format!("/proc/{pid}/status");
    wait::until_true("it handles the signal", PATIENCE, || {
        let status = fs::read_to_string(&status).unwrap_or_default();
        let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:"));
        let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
        mask.is_some_and(|mask| mask & (1 << (signal.as_raw() - 1)) != 0)
    });
}

/// A running process that does not outlive its owner.
#[derive(Debug)]
pub struct Running(Child);

impl Running {
    /// Starts it, without input, its stdout and stderr appended to `log`.
    ///
    /// # Panics
    /// If it cannot be started.
    #[must_use]
    pub fn start(mut command: Command, log: &Path) -> Self {
        let log: File = OpenOptions::new()
            .create(true)
            .append(true)
            .open(log)
            .expect("a log");
        command
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a second handle"))
            .stderr(log);
        Self(
            command
                .spawn()
                .unwrap_or_else(|e| panic!("{command:?}: {e}")),
        )
    }

    /// Takes over a child whose pipes the caller has.
    #[must_use]
    pub fn adopt(child: Child) -> Self {
        Self(child)
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.0.id()
    }

    /// Its exit status if it has ended.
    ///
    /// # Panics
    /// If the kernel does not know it.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.0.try_wait().expect("a child of ours")
    }

    /// Waits for its end.
    ///
    /// # Panics
    /// If it goes on for longer than [`PATIENCE`].
    pub fn wait(&mut self) -> ExitStatus {
        wait::until("the process ends", PATIENCE, || self.ended())
    }

    /// SIGKILL, and waits until it is gone.
    ///
    /// # Panics
    /// If it cannot be killed.
    pub fn kill(&mut self) {
        self.0.kill().expect("a child of ours");
        self.0.wait().expect("a child of ours");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Ports that nothing listens on, for this process alone: a node that is down for a while finds its
/// own free again. They come round after hundreds of others.
///
/// # Panics
/// If there are not enough.
#[must_use]
pub fn free_ports(count: usize) -> Vec<u16> {
    static OWN: LazyLock<PortBlock> = LazyLock::new(PortBlock::take);
    OWN.free(count)
}

/// Ports below the range from which the kernel takes those of outgoing connections. Tests of
/// several processes go on at once, each with nodes that are down now and then: whoever listens at
/// the port before the block has the block.
struct PortBlock {
    lock: TcpListener,
    /// Given out so far.
    given: AtomicUsize,
}

impl PortBlock {
    const PORTS: u16 = 999;

    fn take() -> Self {
        let lock = (10_000..30_000)
            .step_by(usize::from(Self::PORTS) + 1)
            .find_map(|port| TcpListener::bind(("127.0.0.1", port)).ok())
            .expect("fewer than 20 processes that test");
        Self {
            lock,
            given: AtomicUsize::new(0),
        }
    }

    fn free(&self, count: usize) -> Vec<u16> {
        let lock = self.lock.local_addr().expect("it is bound").port();
        let of_block: Vec<u16> = (lock + 1..=lock + Self::PORTS).collect();
        let ports: Vec<u16> = (0..of_block.len())
            .map(|_| of_block[self.given.fetch_add(1, Ordering::Relaxed) % of_block.len()])
            .filter(|&port| TcpListener::bind(("127.0.0.1", port)).is_ok())
            .take(count)
            .collect();
        assert_eq!(ports.len(), count, "free ports behind {lock}");
        ports
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_port_is_given_twice_while_it_may_be_in_use() {
        let (one, other) = (PortBlock::take(), PortBlock::take());
        let draws = [&one, &other, &one, &other].map(|block| block.free(300));
        let drawn = draws.concat();
        let distinct: BTreeSet<u16> = drawn.iter().copied().collect();
        assert_eq!(distinct.len(), drawn.len());
    }
}
