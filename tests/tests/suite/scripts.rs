//! The scripts, run as a user would.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use raftd_tests::cluster::Slot;
use raftd_tests::proc::{self, PATIENCE, Running};
use raftd_tests::{root, wait};
use rustix::process::Signal;
use tempfile::TempDir;

fn scratch() -> TempDir {
    tempfile::tempdir_in(proc::scratch_dir()).expect("a folder")
}

fn script(name: &str, args: &[&str]) -> Command {
    let mut command = Command::new(root().join("scripts").join(name));
    command.args(args).current_dir("/");
    command
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Every file below a folder, relative to it, with its mode.
fn files(below: &Path, prefix: &str, found: &mut BTreeSet<String>) {
    for entry in fs::read_dir(below)
        .expect("a folder")
        .map(|entry| entry.expect("an entry"))
    {
        let name = format!("{prefix}/{}", entry.file_name().display());
        if entry.path().is_dir() {
            files(&entry.path(), &name, found);
        } else {
            let mode = entry.metadata().expect("metadata").permissions().mode() & 0o777;
            found.insert(format!("{mode:o} {name}"));
        }
    }
}

#[test]
fn the_unit_starts_the_program_wherever_it_is() {
    let scratch = scratch();
    let dest = scratch.path().join("root");
    let prefix = "/opt/a b&c 1%";
    let from = path(proc::bin_dir());
    let options = ["--destdir", path(&dest), "--prefix", prefix, "--from", from];
    let done = proc::run(script("install", &options), b"").quietly();
    // A shell takes what is told to be done next.
    let example = r"install -D -m 644 /opt/a\ b\&c\ 1%/share/doc/raftd/raftd.toml.example ";
    assert!(done.text().contains(example), "{}", done.text());
    let unit = dest
        .join(&prefix[1..])
        .join("lib/systemd/system/raftd@.service");
    let unit = fs::read_to_string(unit).expect("the unit");
    // What systemd reads: quotes around blanks, and %% for a %.
    let line = "\nExecStart=\"/opt/a b&c 1%%/bin/raftd\" --config /etc/raftd/%i.toml ";
    assert!(unit.contains(line), "{unit}");
}

#[test]
fn install_and_uninstall_are_inverse() {
    let scratch = scratch();
    let dest = scratch.path().join("root");
    let options = [
        "--destdir",
        path(&dest),
        "--prefix",
        "/opt/raftd",
        "--from",
        path(proc::bin_dir()),
    ];
    let _ = proc::run(script("install", &options), b"").quietly();
    let mut installed = BTreeSet::new();
    files(&dest, "", &mut installed);
    for file in [
        "755 /opt/raftd/bin/raftd",
        "755 /opt/raftd/bin/raftctl",
        "644 /opt/raftd/share/man/man8/raftd.8",
        "644 /opt/raftd/share/man/man1/raftctl.1",
        "644 /opt/raftd/share/man/man1/raftctl-data.1",
        "644 /opt/raftd/share/man/man1/raftctl-bulk.1",
        "644 /opt/raftd/share/man/man1/raftctl-cluster.1",
        "644 /opt/raftd/share/man/man1/raftctl-snapshot.1",
        "644 /opt/raftd/share/man/man1/raftctl-config.1",
        "644 /opt/raftd/share/man/man5/raftctl.toml.5",
        "644 /opt/raftd/share/man/man5/raftd.toml.5",
        "644 /opt/raftd/share/man/man7/raftd-wire.7",
        "644 /opt/raftd/share/man/man5/raftd-wal.5",
        "644 /opt/raftd/share/man/man5/raftd-snap.5",
        "644 /opt/raftd/share/bash-completion/completions/raftctl",
        "644 /opt/raftd/share/fish/vendor_completions.d/raftctl.fish",
        "644 /opt/raftd/share/zsh/site-functions/_raftctl",
        "644 /opt/raftd/lib/systemd/system/raftd@.service",
        "644 /opt/raftd/lib/sysusers.d/raftd.conf",
        "644 /opt/raftd/share/doc/raftd/raftd.toml.example",
    ] {
        assert!(
            installed.contains(file),
            "{file} is not among {installed:#?}"
        );
    }
    let unit = fs::read_to_string(dest.join("opt/raftd/lib/systemd/system/raftd@.service"));
    assert!(
        unit.expect("the unit")
            .contains("ExecStart=\"/opt/raftd/bin/raftd\" "),
        "its own program"
    );
    let version = Command::new(dest.join("opt/raftd/bin/raftctl"))
        .arg("version")
        .status();
    assert!(version.expect("it runs").success());

    let kept = dest.join("opt/raftd/share/doc/raftd/notes");
    fs::write(&kept, "mine").expect("written");
    let remove = [&options[..], &["--uninstall"]].concat();
    let _ = proc::run(script("install", &remove), b"").quietly();
    let mut left = BTreeSet::new();
    files(&dest, "", &mut left);
    assert_eq!(left.len(), 1, "only what it did not install: {left:?}");
    let _ = proc::run(script("install", &["--bogus"]), b"").exits(2);
    let _ = proc::run(script("check", &["--bogus"]), b"").exits(2);
}

#[test]
fn preflight_names_what_is_missing() {
    // A machine with coreutils and nothing else.
    let scratch = scratch();
    for tool in [
        "bash", "cat", "cut", "df", "dirname", "env", "head", "sort", "tail",
    ] {
        let found = ["/usr/bin", "/bin"]
            .iter()
            .map(|dir| Path::new(dir).join(tool))
            .find(|p| p.exists());
        symlink(found.expect("coreutils"), scratch.path().join(tool)).expect("linked");
    }
    for name in ["demo", "test", "check"] {
        let mut command = script(name, &[]);
        command
            .env("PATH", scratch.path())
            .env("HOME", scratch.path())
            .env_remove("CARGO_HOME");
        let done = proc::run(command, b"").exits(1);
        for words in [
            "missing: cargo",
            "sh.rustup.rs",
            "missing: a C compiler",
            "apt-get install gcc",
        ] {
            assert!(
                done.stderr.contains(words),
                "{name}: `{words}` is not in:\n{}",
                done.stderr
            );
        }
    }
}

#[test]
fn the_demo_shows_what_it_promises() {
    let _slot = Slot::take();
    // On a terminal, where programs say more.
    let demo = root().join("scripts/demo");
    let line = format!("{} --from {}", path(&demo), path(proc::bin_dir()));
    let mut command = Command::new("script");
    command
        .args(["--quiet", "--return", "--command", &line, "/dev/null"])
        .current_dir("/");
    let done = proc::run(command, b"").exits(0);
    let lines: Vec<&str> = done.text().lines().collect();
    assert!(
        lines.len() <= 20,
        "a line for each step and the table: {lines:#?}"
    );
    assert!(
        lines.iter().any(|line| line.contains("NAME")),
        "the table: {lines:#?}"
    );
    let last = lines.last().copied().unwrap_or_default();
    let numbers: Vec<u64> = last
        .split(|c: char| !c.is_ascii_digit())
        .filter_map(|word| word.parse().ok())
        .collect();
    let [acked, present, gap_ms] = numbers[..] else {
        panic!("not three numbers: {last}")
    };
    assert_eq!(
        last,
        format!("ok: {acked} acked, {present} present, gap {gap_ms} ms")
    );
    assert!(acked >= 2000 && acked == present, "{last}");
}

#[test]
fn an_interrupted_demo_cleans_up() {
    let _slot = Slot::take();
    let scratch = scratch();
    let mut command = script("demo", &["--from", path(proc::bin_dir())]);
    command.env("CARGO_TARGET_DIR", scratch.path());
    let log = scratch.path().join("log");
    let mut demo = Running::start(command, &log);
    wait::until_true("streams write", PATIENCE, || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains("acknowledged so far"))
    });
    // Who is in a hurry presses it again.
    let status = wait::until("it ends", PATIENCE, || {
        proc::signal(demo.pid(), Signal::INT);
        demo.ended()
    });
    assert_eq!(status.code(), Some(130));
    let left: Vec<_> = fs::read_dir(scratch.path())
        .expect("the folder")
        .flatten()
        .collect();
    assert_eq!(left.len(), 1, "only the log: {left:?}");
}

/// What `scripts/test` makes of a cargo that says this and ends with that status: its last line.
fn tally(args: &[&str], says: &str, skips: &str, status: i32) -> (String, Option<i32>) {
    let scratch = scratch();
    let cargo = scratch.path().join("cargo");
    let stub = format!(
        "#!/bin/bash\n[[ $1 == test ]] || {{ echo cargo 9.9.9; exit; }}\n\
         printf '{skips}' >>\"$TESTS_SKIPPED\"\nprintf '{says}'\nexit {status}\n"
    );
    fs::write(&cargo, stub).expect("written");
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).expect("executable");
    let path = std::env::var("PATH").expect("a PATH");
    let mut command = script("test", args);
    command.env("PATH", format!("{}:{path}", scratch.path().display()));
    let done = proc::run(command, b"");
    (
        done.text().lines().last().unwrap_or_default().to_owned(),
        done.code,
    )
}

#[test]
fn skips_and_failures_are_counted() {
    let ok = "test result: ok. 3 passed; 0 failed; 0 ignored\\n";
    let off = "test a ... ignored, slow\\ntest result: ok. 3 passed; 0 failed; 1 ignored\\n";
    let bad = "test result: FAILED. 2 passed; 1 failed; 0 ignored\\n";
    let skip = "some::test\\tno disk\\n";
    let line = |text: &str, code| (text.to_owned(), Some(code));
    let twice = format!("{ok}{bad}");
    assert_eq!(
        tally(&[], ok, "", 0),
        line("3 passed, 0 failed, 0 skipped", 0)
    );
    assert_eq!(
        tally(&[], &twice, "", 101),
        line("5 passed, 1 failed, 0 skipped", 1)
    );
    // One that skips returned like one that passed; one that is switched off did not run.
    assert_eq!(
        tally(&[], ok, skip, 0),
        line("2 passed, 0 failed, 1 skipped", 0)
    );
    assert_eq!(
        tally(&[], off, "", 0),
        line("3 passed, 0 failed, 1 skipped", 0)
    );
    // Under --strict both must be listed.
    assert_eq!(
        tally(&["--strict"], ok, skip, 0),
        line("2 passed, 1 failed, 0 skipped", 1)
    );
    assert_eq!(
        tally(&["--strict"], off, "", 0),
        line("3 passed, 1 failed, 0 skipped", 1)
    );
    // Cargo does not know an argument: nothing was counted.
    assert_eq!(
        tally(&["--nope"], "error: unexpected\\n", "", 1),
        line("error: unexpected", 2)
    );
    // A binary that died has no summary.
    assert_eq!(
        tally(&[], ok, "", 101),
        line("3 passed, 1 failed, 0 skipped", 1)
    );
}
