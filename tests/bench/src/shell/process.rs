//! A process from its start to its end.

use std::fs::File;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use super::Outcome;
use crate::kernel;

/// Between two looks at the memory of a process; what is told is the most that it ever had.
const LOOK: Duration = Duration::from_millis(20);

/// What a process that ended well took.
#[derive(Clone, Copy, Debug)]
pub struct Ended {
    pub took: Duration,
    /// The most that it held of memory at a time, files that it maps included.
    pub memory_kib: f64,
}

/// Runs it to its end, with standard input from a file or empty, and with standard output through a
/// pipe: into a file, or to nobody who keeps it.
pub fn run(mut command: Command, input: Option<&Path>, output: Option<&Path>) -> Outcome<Ended> {
    command.stdin(match input {
        Some(path) => Stdio::from(File::open(path)?),
        None => Stdio::null(),
    });
    let began = Instant::now();
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    let mut pipe = child.stdout.take().ok_or("there is no pipe")?;
    let (pid, ended) = (child.id(), AtomicBool::new(false));
    let (copied, took, memory_kib) = thread::scope(|scope| {
        let memory = scope.spawn(|| most_memory_kib(pid, &ended));
        let copied = match output {
            Some(path) => File::create(path).and_then(|mut file| io::copy(&mut pipe, &mut file)),
            None => io::copy(&mut pipe, &mut io::sink()),
        };
        // The end of its output is its end but for the exit itself; then its memory is gone.
        let took = began.elapsed();
        ended.store(true, Ordering::Relaxed);
        (copied, took, memory.join().unwrap_or(0))
    });
    copied?;
    let status = child.wait()?;
    if !status.success() {
        return Err(format!("{command:?} ended with {status}").into());
    }
    Ok(Ended {
        took,
        memory_kib: memory_kib as f64,
    })
}

fn most_memory_kib(pid: u32, ended: &AtomicBool) -> u64 {
    let mut most = 0;
    while !ended.load(Ordering::Relaxed) {
        most = kernel::peak_memory_kib(pid).max(most);
        thread::sleep(LOOK);
    }
    most
}
