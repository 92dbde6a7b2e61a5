//! Runs the program.

use std::io::Write;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::fake::Fake;
use super::script::Store;

/// A deadline (`-t`) that a test waits for. A machine that is busy with ten other things has said
/// hello by then.
pub(crate) const SOON: &str = "2s";

/// Does it again until it takes less than `bound`, five times at most, and tells what the last one
/// gave: a bound is on the program, not on a machine that is busy with other tests.
#[track_caller]
pub(crate) fn within<T>(bound: Duration, mut what: impl FnMut() -> T) -> T {
    let mut took = Vec::new();
    for _ in 0..5 {
        let begun = Instant::now();
        let done = what();
        took.push(begun.elapsed());
        if took.last() < Some(&bound) {
            return done;
        }
    }
    panic!("none within {bound:?}: {took:?}");
}

/// What one run left behind.
#[derive(Debug)]
pub(crate) struct Done {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: Vec<u8>,
    pub(crate) stderr: String,
}

impl From<Output> for Done {
    fn from(output: Output) -> Self {
        Self {
            code: output.status.code(),
            stdout: output.stdout,
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }
}

impl Done {
    /// Output and exit code; nothing was said on standard error.
    #[track_caller]
    pub(crate) fn silently(self, code: i32, stdout: impl AsRef<[u8]>) {
        assert_eq!(self.stderr, "");
        let stdout = stdout.as_ref();
        assert_eq!(
            self.stdout,
            stdout,
            "{}",
            String::from_utf8_lossy(&self.stdout)
        );
        assert_eq!(self.code, Some(code));
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.stdout).unwrap()
    }
}

pub(crate) fn command(endpoints: &str, args: &[&str]) -> Command {
    let mut command = bare();
    command.args(["-e", endpoints]).args(args);
    command
}

/// The program without anything that the caller has set for it.
pub(crate) fn bare() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_raftctl"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("RAFTCTL_") {
            command.env_remove(name);
        }
    }
    command.env("RAFTCTL_CONFIG", "/dev/null");
    command
}

pub(crate) fn run_with(endpoints: &str, args: &[&str], stdin: &[u8]) -> Done {
    let mut child = command(endpoints, args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A verb that does not read its input closes it.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    child.wait_with_output().unwrap().into()
}

pub(crate) fn run(endpoints: &str, args: &[&str]) -> Done {
    run_with(endpoints, args, b"")
}

/// A server with a store.
pub(crate) fn store() -> (Fake, String) {
    let server = Store::default().serve();
    let addr = server.addr.clone();
    (server, addr)
}
