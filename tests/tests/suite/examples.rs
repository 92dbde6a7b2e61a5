//! Every example of the README, the manual pages, the topics and the help is run, in bash, against
//! a cluster. What stands for machines is replaced by those of the test; what is meant for a person
//! at a terminal, or is to say no, is in [`SAYS`].

mod documents;
mod loops;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use raftd_tests::cluster::{Cluster, Slot};
use raftd_tests::proc::{self, Done, Running};
use raftd_tests::{root, skip};
use rustix::process::Signal;
use serde_json::json;

use documents::{Example, blocks, of_help, of_pages, of_texts};

/// Examples that do not end with 0, by a part of them, with the reason.
const SAYS: &[(&str, i32, &str)] = &[
    ("--expect-revision 1234", 1, "the revision is another one"),
    ("revision(old)=1204", 1, "the revision is another one"),
    ("version(a)=5", 1, "the version is another one"),
    ("replace-peer n2 n5 10.0.0.5:7401  ", 2, "asks a person"),
    ("remove-peer n3  ", 2, "asks a person"),
];

/// What an example needs besides the cluster and its data.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Needs {
    Nothing,
    /// Nodes that wait to be added.
    Newcomers,
    /// A fourth member.
    Voter,
    /// A fourth member without a vote.
    Learner,
    /// The data directory of a node that is stopped.
    Stopped,
    /// A cluster that nobody uses afterwards.
    Own,
}

/// By a part of the example; the first that fits.
const NEEDS: &[(&str, Needs)] = &[
    ("remove-peer", Needs::Voter),
    ("demote-peer", Needs::Voter),
    ("promote-peer", Needs::Learner),
    ("--wait", Needs::Newcomers),
    ("--dry-run", Needs::Nothing),
    ("add-peer", Needs::Newcomers),
    ("replace-peer", Needs::Newcomers),
    ("n4:7400", Needs::Voter),
    ("update-peer", Needs::Own),
    ("/var/lib/raftd/main", Needs::Stopped),
];

impl Example {
    fn needs(&self) -> Needs {
        // A dry run in a directory needs the directory.
        if self.text.contains("/var/lib/raftd/main") {
            return Needs::Stopped;
        }
        let found = NEEDS.iter().find(|(part, _)| self.text.contains(part));
        found.map_or(Needs::Nothing, |(_, needs)| *needs)
    }

    fn status(&self) -> i32 {
        let text = format!("{} ", self.text);
        let found = SAYS.iter().find(|(part, ..)| text.contains(part));
        found.map_or(0, |(_, status, _)| *status)
    }
}

/// A cluster, and a folder in which a person works.
struct World {
    cluster: Cluster,
    folder: PathBuf,
}

/// Programs that examples name and that nobody wants to run for real.
const STUBS: &[(&str, &str)] = &[
    ("ssh", "shift; exec sh -c \"$*\""),
    ("systemctl", "exit 0"),
    ("page-me", "exit 0"),
    ("vi", "exit 0"),
    ("nano", "exit 0"),
];

impl World {
    /// As the example needs it, and others that need the same.
    fn new(example: &Example) -> Self {
        let needs = example.needs();
        let mut cluster = Cluster::start(3);
        let folder = cluster.path("person");
        fs::create_dir_all(folder.join("bin")).expect("made");
        fs::create_dir_all(folder.join("site")).expect("made");
        for (name, text) in STUBS {
            write_stub(&folder.join("bin").join(name), text);
        }
        for (name, text) in [
            ("nginx.conf", "server {}\n"),
            ("site/index.html", "<p>hello\n"),
            (
                "move.txn",
                "if absent(moved)\nthen put moved x\nthen del greeting\n",
            ),
            ("more.txt", "and more\n"),
            ("new.toml", "timeout = \"9s\"\n"),
            ("users.tsv", "user/ann\t1\nuser/bob\t2\n"),
            ("counts.jsonl", "{\"op\":\"incr\",\"key\":\"n\",\"by\":1}\n"),
            ("users.csv", "ann,1\nbob,2\n"),
            ("app.tsv", "app/a\t1\napp/b\t2\n"),
        ] {
            fs::write(folder.join(name), text).expect("written");
        }
        match needs {
            Needs::Nothing | Needs::Own => {}
            Needs::Newcomers => {
                for _ in 0..2 {
                    cluster.prepare_newcomer().start();
                }
            }
            Needs::Voter | Needs::Learner => {
                let node = cluster.prepare_newcomer();
                node.start();
                let (name, addr) = (format!("n{}", node.id), node.peer_addr.clone());
                let how = if needs == Needs::Voter {
                    "--wait"
                } else {
                    "--learner"
                };
                let _ = cluster
                    .ctl(&["-t", "60s", "add-peer", &name, &addr, how])
                    .exits(0);
                if needs == Needs::Learner {
                    let node = cluster.nodes.last_mut().expect("four nodes");
                    node.wait_ready();
                    let index = cluster.ctl(&["--json", "put", "mark", "x"]).quietly();
                    let index: serde_json::Value =
                        serde_json::from_str(index.text()).expect("JSON");
                    cluster.wait_applied(index["revision"].as_u64().expect("a number"));
                }
            }
            Needs::Stopped => {
                let _ = cluster.ctl(&["-t", "30s", "snapshot", "--all"]).exits(0);
            }
        }
        let mut world = Self { cluster, folder };
        if needs == Needs::Stopped {
            world.reset(&example.text);
            let _ = world.cluster.node(3).stop(Signal::TERM);
        }
        world
    }

    /// Files and keys as every example finds them.
    fn reset(&self, text: &str) {
        let home = self.folder.join(".config/raftctl");
        forget(&home);
        if text.contains("context ") || text.contains("-c prod") {
            fs::create_dir_all(&home).expect("made");
            let known = format!("endpoints = [\"{}\"]", self.cluster.nodes[0].client_addr);
            let known = match text.contains("context add") {
                true => String::new(),
                false => format!(
                    "context = \"prod\"\n[contexts.prod]\n{known}\n[contexts.stage]\n{known}\n"
                ),
            };
            fs::write(home.join("config.toml"), known).expect("written");
        }
        let _ = self
            .cluster
            .ctl(&["-t", "20s", "transfer-leader", "n1"])
            .exits(0);
        let held = text.contains("del lock").then_some(("lock", "held"));
        let gone = [
            "owner",
            "lock",
            "lock/job",
            "cfg/nginx",
            "conf",
            "backup/ssl",
        ];
        let records = gone.map(|key| json!({"op": "del", "key": key}).to_string());
        let values = [
            ("greeting", "hello"),
            ("quota", "5"),
            ("quota/left", "5"),
            ("cfg/nginx", "level debug\n"),
            ("cfg/log-level", "debug\n"),
            ("conf", "x"),
            ("motd", "hello"),
            ("stock", "9"),
            ("logo", "\u{1}"),
            ("user/ann", "1"),
            ("user/bob", "2"),
            ("app/a", "1"),
            ("tmp/a", "1"),
            ("tmp/b", "2"),
        ];
        let values = values.into_iter().chain(held);
        let values = values.map(|(key, value)| json!({"key": key, "value": value}).to_string());
        let records: Vec<String> = records.into_iter().chain(values).collect();
        let load = ["-t", "20s", "load", "-", "--format", "jsonl"];
        let records = records.join("\n");
        let _ = self.cluster.ctl_with(&load, records.as_bytes()).exits(0);
        for file in [
            "backup.snap",
            "backup.snap.gz",
            "app.tsv.gz",
            "load.ck",
            "bad.tsv",
            "bad.jsonl",
        ] {
            let _ = fs::remove_file(self.folder.join(file));
        }
        // What takes longer to make is made for those who name it.
        if text.contains("backup.snap") {
            let backup = self.folder.join("backup.snap");
            let backup = backup.to_str().expect("text");
            let save = ["-t", "30s", "snapshot", "save", backup];
            let _ = self.cluster.ctl(&save).exits(0);
        }
        for (packed, from) in [("backup.snap.gz", "backup.snap"), ("app.tsv.gz", "app.tsv")] {
            if text.contains(packed) {
                let gzip = format!("gzip -c {from} > {packed}");
                let mut shell = Command::new("sh");
                shell.args(["-c", &gzip]).current_dir(&self.folder);
                let _ = proc::run(shell, b"").quietly();
            }
        }
    }

    /// The example with the machines of this test.
    fn adapted(&self, text: &str) -> String {
        let nodes = &self.cluster.nodes;
        let mut text = format!("{text}\n");
        let mut replace = |from: &str, to: &str| text = text.replace(from, to);
        replace("n1:7400,n2:7400,n3:7400", &self.cluster.endpoints());
        for (from, node) in ["n1:7400", "n2:7400", "n3:7400", "n4:7400"]
            .iter()
            .zip(nodes)
        {
            replace(from, &node.client_addr);
        }
        replace("127.0.0.1:7400", &self.cluster.endpoints());
        for (machine, place) in [("10.0.0.4:7401", 3), ("10.0.0.5:7401", 4)] {
            let addr = nodes
                .get(place)
                .map_or("127.0.0.1:9", |node| &node.peer_addr);
            replace(machine, addr);
        }
        let stopped = nodes[2].data_dir.display().to_string();
        replace("/var/lib/raftd/main", &stopped);
        for (place, name) in [
            ("/var/lib/raftd/new", "r1"),
            ("/srv/new", "r2"),
            ("/tmp/try", "r3"),
        ] {
            let folder = self.folder.join(name);
            let _ = fs::remove_dir_all(&folder);
            replace(place, &folder.display().to_string());
        }
        replace("--expect 12", "--expect 2");
        // A person has more time than a test.
        for seconds in ["--seconds 10", "--seconds 30"] {
            replace(seconds, "");
        }
        for what in ["put", "get", "mixed"] {
            let short = format!("bench {what} --seconds 1 --warm-up 0 --keys 500 ");
            replace(&format!("bench {what} "), &short);
        }
        text
    }

    /// `None`: the shell that it is for is missing.
    fn run(&self, example: &Example) -> Option<Done> {
        let is_for = |shell: &&str| example.text.contains(&format!("completion {shell}"));
        let shell = ["zsh", "fish"].into_iter().find(is_for).unwrap_or("bash");
        if Command::new(shell).args(["-c", "true"]).output().is_err() {
            skip(
                "examples",
                &format!("{shell} is missing: apt-get install {shell}"),
            );
            return None;
        }
        let path = std::env::var("PATH").unwrap_or_default();
        let programs = proc::bin_dir().display();
        let mut command = Command::new(shell);
        if shell == "bash" {
            command.args(["-o", "pipefail"]);
        }
        command
            .args(["-c", &self.adapted(&example.text)])
            .current_dir(&self.folder)
            .env(
                "PATH",
                format!("{}:{programs}:{path}", self.folder.join("bin").display()),
            )
            .env("HOME", &self.folder)
            .env("HOSTNAME", "here")
            .env("TITLE", "a title")
            .env("RAFTCTL_ENDPOINTS", self.cluster.endpoints())
            .env_remove("RAFTCTL_CONFIG")
            .env_remove("XDG_CONFIG_HOME")
            .env_remove("VISUAL")
            // Without a terminal there is none by default.
            .env("EDITOR", "vi");
        Some(proc::run(command, b""))
    }
}

fn write_stub(path: &Path, text: &str) {
    fs::write(path, format!("#!/bin/sh\n{text}\n")).expect("written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("set");
}

fn forget(path: &Path) {
    // There is none after most examples.
    let _ = fs::remove_dir_all(path);
}

/// Runs them all, and tells all that do something else than they should.
fn run_all(examples: &[Example], least: usize) {
    assert!(
        examples.len() >= least,
        "only {} examples were found",
        examples.len()
    );
    let mut wrong = Vec::new();
    // Those that share a cluster come first, for there are at most two at once.
    let (sharing, alone): (Vec<_>, Vec<_>) = examples
        .iter()
        .partition(|example| example.needs() == Needs::Nothing);
    let mut world: Option<World> = None;
    for example in sharing.into_iter().chain(alone) {
        let needs = example.needs();
        if needs != Needs::Nothing {
            // Its slot is free before the next one takes it.
            world = None;
        }
        let world = world.get_or_insert_with(|| World::new(example));
        if needs != Needs::Stopped {
            world.reset(&example.text);
        }
        let Some(done) = world.run(example) else {
            continue;
        };
        if done.code != Some(example.status()) {
            wrong.push(format!("{}: {}\n  {done:?}", example.source, example.text));
        }
    }
    assert!(
        wrong.is_empty(),
        "{} are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

#[test]
fn the_examples_of_the_pages_work() {
    run_all(&of_pages(), 20);
}

#[test]
fn the_examples_of_the_help_work() {
    run_all(&of_help(), 70);
}

#[test]
fn the_examples_of_readme_and_topics_work() {
    run_all(&of_texts(), 25);
}

#[test]
fn the_example_of_settings_is_taken() {
    let folder = tempfile::tempdir_in(proc::scratch_dir()).expect("a folder");
    let blocks = blocks(&root().join("man/raftd.toml.5"));
    assert_eq!(blocks.len(), 1, "{blocks:?}");
    let file = folder.path().join("raftd.toml");
    fs::write(&file, &blocks[0]).expect("written");
    let mut command = proc::command("raftd");
    command.args(["--check-config", "--config"]).arg(&file);
    let _ = proc::run(command, b"").quietly();
}

#[test]
fn the_example_of_the_daemon_makes_a_cluster() {
    let _slot = Slot::take();
    let folder = tempfile::tempdir_in(proc::scratch_dir()).expect("a folder");
    let mut blocks = blocks(&root().join("man/raftd.8"));
    assert_eq!(blocks.len(), 1, "{blocks:?}");
    let mut typed = blocks.remove(0);
    let ports = [7400, 7401, 7410, 7411, 7420, 7421];
    let free = proc::free_ports(ports.len());
    for (port, free) in ports.iter().zip(&free) {
        assert!(typed.contains(&format!(":{port}")), "{port}");
        typed = typed.replace(&format!(":{port}"), &format!(":{free}"));
    }
    // Each line has a terminal of its own; the settings of the shell are for all of them.
    let (shared, lines): (Vec<_>, Vec<_>) =
        typed.lines().partition(|line| !line.starts_with("raftd"));
    let _nodes: Vec<Running> = lines
        .iter()
        .zip(1..)
        .map(|(line, number)| {
            let mut shell = Command::new("/bin/bash");
            shell
                .args(["-c", &format!("{}\nexec {line}", shared.join("\n"))])
                .current_dir(folder.path())
                .env("PATH", proc::bin_dir());
            Running::start(shell, &folder.path().join(format!("{number}.log")))
        })
        .collect();
    let endpoints = format!(
        "127.0.0.1:{},127.0.0.1:{},127.0.0.1:{}",
        free[0], free[2], free[4]
    );
    let wait = ["-t", "60s", "wait-ready", "--leader"];
    let _ = proc::raftctl(&endpoints, &wait, b"").exits(0);
    let status = proc::raftctl(&endpoints, &["status", "--json"], b"").exits(0);
    let status: serde_json::Value = serde_json::from_str(status.text()).expect("JSON");
    assert_eq!(status["voters"], 3, "{status}");
}
