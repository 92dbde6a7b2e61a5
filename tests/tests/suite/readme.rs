//! The README's promises, tried as they are written.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use raftd_tests::cluster::Slot;
use raftd_tests::{proc, root};
use rustix::process::{Pid, Signal, kill_process_group};

/// The first shell block below a heading.
fn block(heading: &str) -> String {
    let text = fs::read_to_string(root().join("README.md")).expect("the README");
    let section = text
        .split(&format!("\n## {heading}\n"))
        .nth(1)
        .expect("the heading");
    let block = section
        .split("```sh\n")
        .nth(1)
        .and_then(|rest| rest.split("```").next());
    block.expect("a shell block").to_owned()
}

#[test]
fn the_quick_start_works_as_typed() {
    let _slot = Slot::take();
    let scratch = tempfile::tempdir_in(proc::scratch_dir()).expect("a folder");
    let mut typed = block("Quick start");
    // What is built, ports and folders are the test's own; everything else is as it stands.
    for (from, to) in [
        ("cargo build --release", ":".to_owned()),
        ("$PWD/target/release", proc::bin_dir().display().to_string()),
        (
            "target/try",
            scratch.path().join("try").display().to_string(),
        ),
    ] {
        assert!(typed.contains(from), "{from}");
        typed = typed.replace(from, &to);
    }
    for (port, free) in [7401, 7402, 7403, 7411, 7412, 7413]
        .iter()
        .zip(proc::free_ports(6))
    {
        assert!(typed.contains(&format!(":{port}")), "{port}");
        typed = typed.replace(&format!(":{port}"), &format!(":{free}"));
    }
    let log = scratch.path().join("log");
    let file = fs::File::create(&log).expect("a file");
    let mut shell = Command::new("bash")
        .args(["-eu", "-o", "pipefail", "-c", &typed])
        .current_dir(root())
        .stdin(Stdio::null())
        .stdout(file.try_clone().expect("a second handle"))
        .stderr(file)
        .process_group(0)
        .spawn()
        .expect("bash");
    let group = i32::try_from(shell.id())
        .ok()
        .and_then(Pid::from_raw)
        .expect("a process id");
    let status = shell.wait().expect("a child of ours");
    // A script that failed half-way leaves its nodes behind.
    let _ = kill_process_group(group, Signal::KILL);
    let said = fs::read_to_string(&log).expect("what it said");
    assert!(status.success(), "{status}:\n{said}");
    for words in [
        "hello, world\n",
        "\n1\n",
        "greeting\tgood morning\n",
        "visits\t1\n",
        "still here",
    ] {
        assert!(said.contains(words), "`{words}` is missing:\n{said}");
    }
}

#[test]
fn the_code_map_is_true() {
    let text = fs::read_to_string(root().join("README.md")).expect("the README");
    let map = text.split("\n## Code map\n").nth(1).expect("the code map");
    let folders = map
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split(" | ").next());
    let mut looked_at = 0;
    for cell in folders {
        let mut base = String::new();
        for name in cell
            .split(['`', ',', ' '])
            .filter(|name| name.ends_with('/'))
        {
            // `raftd/src/node/`, `store/` means two neighbours.
            let path = if root().join(name).is_dir() {
                name.to_owned()
            } else {
                format!("{base}{name}")
            };
            assert!(root().join(&path).is_dir(), "{name} in `{cell}`");
            base = path[..path.trim_end_matches('/').rfind('/').map_or(0, |at| at + 1)].to_owned();
            looked_at += 1;
        }
    }
    assert!(looked_at >= 8, "{looked_at}");
}
