//! How the daemon starts, refuses to, and ends.

use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use rustix::process::{Pid, Signal, kill_process};

use crate::daemon_process::{Answer, Caller, Daemon, PATIENCE, exited, get, raftd, run};

#[test]
fn help_and_version_go_to_stdout() {
    for (flag, part) in [
        ("--help", "--initial-cluster"),
        ("--version", env!("CARGO_PKG_VERSION")),
    ] {
        let done = raftd(&[flag]).output().unwrap();
        assert!(exited(done.status, 0));
        assert!(String::from_utf8(done.stdout).unwrap().contains(part));
        assert_eq!(done.stderr, b"");
    }
}

#[test]
fn help_that_cannot_be_written_is_no_success() {
    for flag in ["--help", "--version"] {
        let full = fs::File::options().write(true).open("/dev/full").unwrap();
        let done = raftd(&[flag]).stdout(full).output().unwrap();
        let stderr = String::from_utf8(done.stderr).unwrap();
        assert!(exited(done.status, 74), "{}: {stderr}", done.status);
        assert!(stderr.contains("standard output"), "{stderr}");
        // A reader that has seen enough is no error.
        let (gone, writer) = std::io::pipe().unwrap();
        drop(gone);
        let done = raftd(&[flag]).stdout(writer).output().unwrap();
        assert!(exited(done.status, 0), "{}", done.status);
        assert_eq!(done.stderr, b"");
    }
}

#[test]
fn check_config_touches_nothing_and_tells_by_its_status() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    assert_eq!(
        run(&["--check-config", "--data-dir", data]),
        (Some(0), String::new())
    );
    assert!(!dir.path().join("data").exists());
    let (code, stderr) = run(&["--check-config", "--data-dir", data, "--set", "wal.nope=1"]);
    assert_eq!(code, Some(78));
    assert!(
        stderr.starts_with("raftd: there is no setting wal.nope\n  where: --set wal.nope\n  try: ")
    );
}

/// A start that is refused is told the ways to go on, and leaves nothing.
#[test]
fn a_directory_without_data_is_empty_also_as_the_root_of_a_file_system() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir_all(data.join("lost+found")).unwrap();
    let ports = ["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"];
    let (code, stderr) = run(&[&["--data-dir", data.to_str().unwrap()], &ports[..]].concat());
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("--join HOST:PORT"), "{stderr}");
    assert_eq!(fs::read_dir(&data).unwrap().count(), 1);
}

#[test]
fn every_refusal_has_its_status_place_and_remedy() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let free = ["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"];
    let one = ["--id", "1", "--initial-cluster", "1=127.0.0.1:1"];
    for (args, code, parts) in [
        (&[][..], 64, &["--data-dir", "--dev"][..]),
        (&["--frobnicate"], 64, &["--frobnicate"]),
        (
            &["--data-dir", data, "--listen", &taken],
            69,
            &["in use", &taken],
        ),
        (
            &["--data-dir", data, "--listen", "0.0.0.0:0"],
            78,
            &["wildcard", "--advertise"],
        ),
        (
            &["--data-dir", data, "--listen", "203.0.113.1:0"],
            78,
            &["203.0.113.1:0"],
        ),
        (
            &[&["--data-dir", data], &free[..]].concat(),
            78,
            &[
                "\n  try: --id 1 --initial-cluster 1=",
                "\n       --name NAME --join ",
                "\n       --dev,",
            ],
        ),
        (
            &[&["--data-dir", "/dev/null/x"], &free[..], &one].concat(),
            78,
            &["/dev/null/x", "--data-dir"],
        ),
        (
            &["--data-dir", data, "--config", "/nowhere.toml"],
            78,
            &["/nowhere.toml"],
        ),
    ] {
        let (status, stderr) = run(args);
        assert_eq!(status, Some(code), "{args:?}: {stderr}");
        assert!(
            stderr.starts_with("raftd: ") || stderr.contains("\nraftd: "),
            "{stderr}"
        );
        for part in parts {
            assert!(stderr.contains(part), "{part:?} is not in {stderr:?}");
        }
        assert!(
            !dir.path().join("data").exists(),
            "{args:?} left something behind"
        );
    }
}

/// A process that would be the second one in its directory ends before it is ready.
pub(crate) fn finds_the_directory_in_use(args: &[&str]) {
    let mut second = raftd(args).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = BufReader::new(second.stderr.take().unwrap()).lines();
    if told.any(|line| line.unwrap().contains("ready")) {
        second.kill().unwrap();
    }
    let status = second.wait().unwrap();
    assert!(exited(status, 69), "{status}");
}

#[test]
fn a_data_directory_serves_one_process_and_one_node() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data = data.to_str().unwrap();
    let ports = ["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"];
    let small = ["--set", "wal.segment_bytes=1MiB"];
    let one = ["--id", "1", "--initial-cluster", "1=127.0.0.1:1"];
    let base = [&["--data-dir", data], &ports[..], &small].concat();
    let mut daemon = Daemon::start(raftd(&[&base[..], &one].concat()));
    let (code, stderr) = run(&base);
    assert_eq!(code, Some(69), "{stderr}");
    assert!(stderr.contains(data), "{stderr}");
    // Whoever takes LOCK for a leftover unlocks nothing.
    fs::remove_file(Path::new(data).join("LOCK")).unwrap();
    finds_the_directory_in_use(&base);
    let mut caller = Caller::connect(&daemon.client);
    let welcome = caller.greet();
    caller.put(&welcome, 1, b"k", b"value");
    assert_eq!(caller.reply(), (1, Answer::Written));
    daemon.signal(Signal::TERM);
    assert!(exited(daemon.wait(), 0));

    let (code, stderr) = run(&[&base[..], &["--id", "2"]].concat());
    assert_eq!(code, Some(78), "{stderr}");
    assert!(stderr.contains("belongs to node 1"), "{stderr}");

    // Its directory says who it is; another list is ignored with a line.
    let other = [
        "--initial-cluster",
        "1=127.0.0.1:1,2=127.0.0.1:2",
        "--name",
        "n1",
    ];
    let daemon = Daemon::start(raftd(&[&base[..], &other].concat()));
    let mut caller = daemon.client();
    caller.ask(1, &get(b"k"));
    assert_eq!(caller.reply(), (1, Answer::Value(5)));
}

/// There is nothing to be ended in order, and nobody who would listen.
#[test]
fn a_recovery_is_ended_by_a_signal_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let ports = ["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"];
    let base = [&["--data-dir", data], &ports[..]].concat();
    let one = ["--id", "1", "--initial-cluster", "1=127.0.0.1:1"];
    let mut first = Daemon::start(raftd(&[&base[..], &one].concat()));
    let mut caller = Caller::connect(&first.client);
    let welcome = caller.greet();
    for n in 1..=30 {
        caller.put(&welcome, n, b"k", &vec![7; 1_000_000]);
        assert_eq!(caller.reply(), (n, Answer::Written));
    }
    first.signal(Signal::TERM);
    assert!(exited(first.wait(), 0));
    let cut_off = (0..10).any(|_| {
        let mut again = raftd(&base).stderr(Stdio::piped()).spawn().unwrap();
        let mut told = BufReader::new(again.stderr.take().unwrap()).lines();
        told.find(|line| line.as_ref().unwrap().contains("recovering path="));
        kill_process(Pid::from_child(&again), Signal::TERM).unwrap();
        let rest: Vec<String> = told.map(Result::unwrap).collect();
        assert!(exited(again.wait().unwrap(), 0));
        rest.is_empty()
    });
    assert!(cut_off, "it recovered in less time than a signal takes");
}

/// Who takes one failed open for damage says that the member is to be left stopped.
#[test]
fn a_start_short_of_descriptors_takes_nothing_for_damage() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().to_str().unwrap();
    let ports = ["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"];
    let base = [&["--data-dir", data], &ports[..]].concat();
    let one = ["--id", "1", "--initial-cluster", "1=127.0.0.1:1"];
    let small = ["--set", "wal.segment_bytes=256KiB"];
    let mut first = Daemon::start(raftd(&[&base[..], &one, &small].concat()));
    first.signal(Signal::TERM);
    assert!(exited(first.wait(), 0));
    for files in 8..64 {
        let mut command = Command::new("sh");
        let limited = format!("ulimit -n {files} && exec \"$@\"");
        command.args(["-c", &limited, "sh", env!("CARGO_BIN_EXE_raftd")]);
        command.args(&base).args(small).stderr(Stdio::piped());
        let mut short = command.spawn().unwrap();
        let told = BufReader::new(short.stderr.take().unwrap()).lines();
        let mut lines = Vec::new();
        for line in told.map_while(Result::ok) {
            lines.push(line);
            if lines.last().is_some_and(|line| line.contains("ready")) {
                short.kill().unwrap();
                short.wait().unwrap();
                return;
            }
        }
        let status = short.wait().unwrap();
        assert_ne!(status.code(), Some(65), "{files}: {lines:?}");
    }
    panic!("it never starts");
}

#[test]
fn an_error_of_the_disk_says_which_file_and_where_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    fs::create_dir(&data).unwrap();
    fs::write(data.join("wal"), b"no directory").unwrap();
    let data = data.to_str().unwrap();
    let ports = ["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"];
    let one = ["--id", "1", "--initial-cluster", "1=127.0.0.1:1"];
    let (code, stderr) = run(&[&["--data-dir", data], &ports[..], &one].concat());
    assert_eq!(code, Some(74), "{stderr}");
    let place = format!(
        "raftd: cannot list wal: Not a directory (os error 20)\n  where: {data}/wal\n  try: "
    );
    assert!(stderr.starts_with(&place), "{stderr}");
}

/// It is no fault of the disk, as which it would be looked for.
#[test]
fn a_log_that_finds_no_room_in_memory_is_told_as_that() {
    let dir = tempfile::tempdir().unwrap();
    for kib in (30_000..300_000).step_by(5_000) {
        let data = dir.path().join(kib.to_string());
        let mut command = Command::new("sh");
        let limited = format!("ulimit -v {kib} && exec timeout 5 \"$@\"");
        command.args(["-c", &limited, "sh", env!("CARGO_BIN_EXE_raftd")]);
        command.args(["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"]);
        command.args(["--id", "1", "--initial-cluster", "1=127.0.0.1:1"]);
        let done = command.arg("--data-dir").arg(&data).output().unwrap();
        let told = String::from_utf8_lossy(&done.stderr);
        if told.contains("cannot map wal/") {
            assert_eq!(done.status.code(), Some(74), "{told}");
            assert!(told.contains("vm.max_map_count"), "{told}");
            return;
        }
    }
    panic!("it always finds room");
}

#[test]
fn a_first_start_that_was_cut_short_is_begun_anew() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("wal")).unwrap();
    fs::write(dir.path().join("IDENTITY.tmp"), b"half").unwrap();
    let args = [
        "--listen",
        "127.0.0.1:0",
        "--peer-listen",
        "127.0.0.1:0",
        "--id",
        "1",
    ];
    let mut command = raftd(&args);
    command
        .arg("--data-dir")
        .arg(dir.path())
        .args(["--set", "wal.segment_bytes=1MiB"]);
    command.args(["--initial-cluster", "1=127.0.0.1:1"]);
    Daemon::start(command).serves();
}

/// A daemon that is started by another program.
fn dev_under(starter: &[&str]) -> Command {
    let mut command = Command::new(starter[0]);
    command.args(&starter[1..]).arg(env!("CARGO_BIN_EXE_raftd"));
    command.args(["--dev", "--listen", "127.0.0.1:0"]);
    command.stdin(Stdio::null());
    command
}

#[test]
fn dev_leaves_nothing_behind_and_each_signal_ends_it() {
    for signal in [Signal::TERM, Signal::INT, Signal::HUP] {
        let tmp = tempfile::tempdir().unwrap();
        // Whoever runs the tests may have SIGHUP ignored.
        let mut command = dev_under(&["env", "--default-signal=HUP"]);
        command.env("TMPDIR", tmp.path());
        let mut daemon = Daemon::start(command);
        assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 1);
        daemon.serves();
        daemon.signal(signal);
        assert!(exited(daemon.wait(), 0));
        assert_eq!(fs::read_dir(tmp.path()).unwrap().count(), 0);
    }
}

#[test]
fn a_hangup_that_is_ignored_stays_ignored() {
    let mut daemon = Daemon::start(dev_under(&["nohup"]));
    daemon.signal(Signal::HUP);
    daemon.serves();
    daemon.signal(Signal::TERM);
    assert!(exited(daemon.wait(), 0));
}

#[test]
fn a_stopped_reader_of_the_log_does_not_keep_it_from_serving_or_ending() {
    let mut command = raftd(&[
        "--dev",
        "--listen",
        "127.0.0.1:0",
        "--set",
        "log.level=trace",
    ]);
    command.stderr(Stdio::piped());
    // The reader reads up to `ready`, then stops for good.
    let log = tempfile::tempdir().unwrap();
    let fifo = log.path().join("fifo");
    assert!(
        Command::new("mkfifo")
            .arg(&fifo)
            .status()
            .unwrap()
            .success()
    );
    let hold = fs::OpenOptions::new()
        .read(true)
        .write(true)
        .open(&fifo)
        .unwrap();
    command.stderr(hold.try_clone().unwrap());
    let mut child = command.spawn().unwrap();
    let mut reader = BufReader::new(hold);
    let mut line = String::new();
    while !line.contains("ready client=") {
        line.clear();
        reader.read_line(&mut line).unwrap();
    }
    let addr = line
        .split("client=")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .to_owned();
    // Far more lines than the pipe and the queue hold.
    for _ in 0..5_000 {
        let mut caller = Caller::connect(&addr);
        caller.say(&[0; 20]);
    }
    let mut caller = Caller::connect(&addr);
    caller.greet();
    caller.ask(1, &get(b"k"));
    assert_eq!(caller.reply(), (1, Answer::Missing));
    kill_process(Pid::from_child(&child), Signal::TERM).unwrap();
    let began = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait().unwrap() {
            break status;
        }
        assert!(began.elapsed() < PATIENCE, "it does not end");
        std::thread::yield_now();
    };
    assert!(exited(status, 0), "{status}");
}

#[test]
fn under_journald_lines_have_a_priority_and_no_time() {
    let log = tempfile::NamedTempFile::new().unwrap();
    let meta = log.as_file().metadata().unwrap();
    for (args, code) in [(&["--data-dir", "/dev/null/x"][..], 78), (&["--nope"], 64)] {
        log.as_file().set_len(0).unwrap();
        let status = raftd(args)
            .args(["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"])
            .env("JOURNAL_STREAM", format!("{}:{}", meta.dev(), meta.ino()))
            .env("RAFTD_LISTN", "a typing error")
            .stderr(log.reopen().unwrap())
            .status()
            .unwrap();
        assert!(exited(status, code), "{status}");
        let text = fs::read_to_string(log.path()).unwrap();
        assert!(
            text.lines().any(|line| line.starts_with("<3>raftd: ")),
            "{text}"
        );
        assert!(
            text.lines().any(|line| line.starts_with("<3>  try: ")),
            "{text}"
        );
        let warned = "<4>environment variable ignored name=\"RAFTD_LISTN\"";
        assert_eq!(
            text.lines().any(|line| line == warned),
            code == 78,
            "{text}"
        );
    }
}

/// What [`a_panic_of_any_thread_ends_the_process`] runs in a process of its own.
#[test]
fn panics_if_told_to() {
    if std::env::var_os("RAFTD_TEST_PANIC").is_some() {
        raftd::fatal::die_on_panic();
        let _ = std::thread::spawn(|| panic!("on purpose")).join();
        unreachable!("the process went on");
    }
}

#[test]
fn a_panic_of_any_thread_ends_the_process() {
    let done = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "daemon_life::panics_if_told_to", "--nocapture"])
        .env("RAFTD_TEST_PANIC", "1")
        .output()
        .unwrap();
    assert!(exited(done.status, 70), "{}", done.status);
    let stderr = String::from_utf8(done.stderr).unwrap();
    assert!(stderr.contains("raftd: this is a bug of raftd"), "{stderr}");
    assert!(stderr.contains("on purpose"), "{stderr}");
}

#[test]
fn an_idle_node_sleeps() {
    let daemon = Daemon::dev(&[]);
    let mut idle = daemon.client();
    idle.ask(1, &get(b"k"));
    assert_eq!(idle.reply(), (1, Answer::Missing));
    let before = daemon.cpu();
    idle.stream
        .set_read_timeout(Some(std::time::Duration::from_secs(2)))
        .unwrap();
    assert!(
        idle.stream.peek(&mut [0]).is_err(),
        "nothing comes for two seconds"
    );
    let used = daemon.cpu() - before;
    // 90 ms in 30 s are asked of a release build; this one is slower, and shares the machine.
    assert!(used.as_millis() < 60, "{used:?} of CPU in 2 s");
}
