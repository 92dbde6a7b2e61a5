//! Helpers of the whole-system tests: the house rules' view of the source, the simulator, and real
//! processes.

pub mod cluster;
pub mod fixture;
pub mod fuzz;
pub mod history;
pub mod proc;
pub mod sim;
pub mod source;
pub mod torture;
pub mod wait;

use std::env;
use std::fs::OpenOptions;
use std::io::Write;
use std::path::PathBuf;

/// The root of the repository.
#[must_use]
pub fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("the crate lies below the root")
        .to_path_buf()
}

/// Says that the test `name` (its path inside the binary) cannot run here and why; the test then
/// returns. `scripts/test` reports and counts it; without that script the line is on stderr.
///
/// # Panics
/// If the file named by `scripts/test` cannot be written: a silent skip would look like a pass.
#[expect(clippy::print_stderr, reason = "a skip must be seen")]
pub fn skip(name: &str, reason: &str) {
    eprintln!("SKIP {name}: {reason}");
    if let Some(path) = env::var_os("TESTS_SKIPPED") {
        OpenOptions::new()
            .append(true)
            .open(path)
            .and_then(|mut file| file.write_all(format!("{name}\t{reason}\n").as_bytes()))
            .expect("the file of scripts/test takes the line");
    }
}
