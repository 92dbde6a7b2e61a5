//! TAB in real shells, against a real cluster.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use raftd_tests::cluster::Cluster;
use raftd_tests::proc::{self, PATIENCE};
use raftd_tests::{root, skip, wait};

/// What the shells print when they wait for a line.
const PROMPT: &str = "READY>";

/// A shell on a terminal.
struct Shell {
    child: Child,
    keys: ChildStdin,
    screen: Arc<Mutex<Vec<u8>>>,
    seen: usize,
}

impl Shell {
    /// Starts it; `setup` are lines typed before the prompt is the one of the tests.
    fn start(command: &str, cluster: &Cluster, setup: &[String]) -> Self {
        let mut script = Command::new("script");
        script
            .args(["-qec", command, "/dev/null"])
            .env("PATH", path())
            .env("TERM", "dumb")
            .env("HOME", cluster.path("."))
            .env("RAFTCTL_CONFIG", "/dev/null")
            .env("RAFTCTL_ENDPOINTS", cluster.endpoints())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        let mut child = script.spawn().expect("script of bsdutils");
        let keys = child.stdin.take().expect("piped");
        let mut output = child.stdout.take().expect("piped");
        let screen = Arc::new(Mutex::new(Vec::new()));
        let shown = Arc::clone(&screen);
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = output.read(&mut bytes) {
                shown.lock().expect("the screen").extend(&bytes[..count]);
            }
        });
        let mut shell = Self {
            child,
            keys,
            screen,
            seen: 0,
        };
        shell.until(PROMPT);
        for line in setup {
            shell.keys(&format!("{line}\n"));
            shell.until(PROMPT);
        }
        shell
    }

    fn keys(&mut self, keys: &str) {
        self.keys.write_all(keys.as_bytes()).expect("typed");
    }

    /// Waits for a text that was not seen yet; what came before it is returned.
    fn until(&mut self, text: &str) -> String {
        let seen = self.seen;
        let (before, end) = wait::until(&format!("`{text}` on the screen"), PATIENCE, || {
            let screen = self.screen.lock().expect("the screen");
            let new = String::from_utf8_lossy(&screen[seen..]).into_owned();
            let at = new.find(text)?;
            Some((new[..at].to_owned(), at + text.len()))
        });
        self.seen += end;
        before
    }

    /// Types a line with TABs in it; what is printed until the next prompt.
    fn line(&mut self, keys: &str) -> String {
        self.keys(keys);
        self.keys("\n");
        self.until(PROMPT)
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn path() -> String {
    let inherited = std::env::var("PATH").unwrap_or_default();
    format!("{}:{inherited}", proc::bin_dir().display())
}

/// A cluster with keys to complete.
fn cluster() -> Cluster {
    let cluster = Cluster::start(1);
    for key in [
        "app/db/url",
        "app/db/user",
        "app/name",
        "user:7",
        "odd key$",
        "xyz",
        "it's $HOME",
        "--dash",
    ] {
        let _ = cluster
            .ctl(&["put", "--", key, &format!("value of {key}")])
            .quietly();
    }
    cluster
}

fn has(shell: &str, test: &str) -> bool {
    let found = Command::new(shell).args(["-c", "true"]).output();
    let there = found.is_ok_and(|output| output.status.success());
    if !there {
        skip(
            test,
            &format!("{shell} is missing: apt-get install {shell}"),
        );
    }
    there
}

/// TAB after a piece of a key, of a directory, and of a key with a colon gives values.
fn tabs(shell: &mut Shell) {
    for (keys, shown) in [
        ("raftctl get xy\t", "value of xyz"),
        ("raftctl get app/na\t", "value of app/name"),
        ("raftctl get ap\tna\t", "value of app/name"),
        ("raftctl get app/d\tur\t", "value of app/db/url"),
        ("raftctl get user:\t", "value of user:7"),
        ("raftctl get us\t7", "value of user:7"),
        ("raftctl get od\t", "value of odd key$"),
        ("raftctl transfer-leader n\t --json", "\"leader\":1"),
        ("raftctl --js\t coun\t xyz", "{\"count\":1}"),
    ] {
        // On a busy machine the cluster may be asked for longer than who types is kept waiting.
        let mut text = shell.line(keys);
        for _ in 0..3 {
            if !text.contains(shown) {
                text = shell.line(keys);
            }
        }
        assert!(text.contains(shown), "{keys:?} showed {text:?}");
    }
}

#[test]
fn tab_in_bash() {
    let cluster = cluster();
    let stub = root().join("scripts/completions/raftctl.bash");
    let setup = [format!("source {}", stub.display())];
    let command = format!("env PS1='{PROMPT}' bash --norc --noprofile -i");
    let mut shell = Shell::start(&command, &cluster, &setup);
    tabs(&mut shell);
    // Files where a file belongs, and the quotes of whoever opened them.
    let text = shell.line("raftctl snapshot verify /etc/hostna\t");
    assert!(text.contains("/etc/hostname"), "{text:?}");
    for line in [
        "raftctl get it\t",
        "raftctl get 'it\t",
        "raftctl get \"it\t",
    ] {
        let text = shell.line(line);
        assert!(text.contains("value of it's $HOME"), "{line}: {text:?}");
    }
    let text = shell.line("raftctl get 'od\t");
    assert!(text.contains("value of odd key$"), "{text:?}");
}

#[test]
fn tab_in_zsh() {
    if !has("zsh", "tab_in_zsh") {
        return;
    }
    let cluster = cluster();
    let stubs = root().join("scripts/completions");
    let setup = [
        "unsetopt prompt_cr prompt_sp zle_bracketed_paste 2>/dev/null".to_owned(),
        format!(
            "fpath=({} $fpath); autoload -U compinit; compinit -D -u",
            stubs.display()
        ),
    ];
    let command = format!("env PS1='{PROMPT}' zsh -f -i");
    let mut shell = Shell::start(&command, &cluster, &setup);
    tabs(&mut shell);
}

#[test]
fn tab_in_fish() {
    if !has("fish", "tab_in_fish") {
        return;
    }
    let cluster = cluster();
    let stub = root().join("scripts/completions/raftctl.fish");
    for (line, wanted) in [
        ("raftctl get app/", "app/db/\napp/name\n"),
        ("raftctl get app/db/", "app/db/url\napp/db/user\n"),
        ("raftctl get us", "user:\n"),
        ("raftctl transfer-leader ", "n1"),
        ("raftctl tran", "transfer-leader"),
    ] {
        let mut fish = Command::new("fish");
        fish.args(["--no-config", "-c"])
            .arg(format!("source {}; complete -C '{line}'", stub.display()))
            .env("PATH", path())
            .env("HOME", cluster.path("."))
            .env("RAFTCTL_CONFIG", "/dev/null")
            .env("RAFTCTL_ENDPOINTS", cluster.endpoints());
        let done = proc::run(fish, b"").exits(0);
        assert!(done.text().starts_with(wanted), "{line}: {done:?}");
    }
}

#[test]
fn a_key_that_looks_like_an_option_stands_behind_two_dashes() {
    let cluster = cluster();
    let ask = |words: &[&str]| {
        let words = [&["__complete", "--", "raftctl", "get"], words].concat();
        cluster.ctl(&words).quietly().text().contains("--dash")
    };
    assert!(!ask(&[""]));
    assert!(ask(&["--", ""]));
}

#[test]
fn a_cluster_that_is_gone_is_silence() {
    let mut cluster = cluster();
    cluster.kill_all();
    let ask = ["__complete", "--", "raftctl", "get", "a"];
    let done = cluster.ctl(&ask).quietly();
    assert_eq!(done.text(), "words\n");
}
