//! `raftctl edit`, with editors that need nobody to type.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use wire::client::{Item, Reply};
use wire::command::Outcome;
use wire::error::Error as WireError;
use wire::types::Index;

use super::fake::{Act, Asked, Fake, What};
use super::run::{Done, SOON, command, run, run_with, store};
use super::script::always;

/// An editor in which somebody types Ctrl-C twice, and Ctrl-\, before it does this.
fn interrupted(editor: &str) -> String {
    let signals = "kill -INT $PPID; kill -INT $PPID; kill -QUIT $PPID";
    format!("{signals}; {editor}")
}

/// Where drafts lie; at the end they are removed, also those of a test that fails.
struct Desk(tempfile::TempDir);

impl Desk {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn is_clear(&self) -> bool {
        fs::read_dir(self.0.path()).unwrap().next().is_none()
    }

    fn editing(&self, at: &str, editor: &str, args: &[&str]) -> Command {
        let mut command = command(at, &[&["edit"], args].concat());
        command
            .env("TMPDIR", self.0.path())
            .env_remove("VISUAL")
            .env("EDITOR", editor)
            .stdin(Stdio::null());
        command
    }

    fn edit(&self, at: &str, editor: &str, args: &[&str]) -> Done {
        self.editing(at, editor, args).output().unwrap().into()
    }
}

fn is_write(asked: &Asked) -> bool {
    matches!(asked.what, What::Write(_))
}

/// The text in the file that the failure names; it is removed.
#[track_caller]
fn kept(done: &Done) -> String {
    let path = done
        .stderr
        .split("your text is in ")
        .nth(1)
        .expect("a place for the text");
    let path = path.lines().next().unwrap();
    let text = fs::read_to_string(path).unwrap();
    fs::remove_dir_all(std::path::Path::new(path).parent().unwrap()).unwrap();
    text
}

#[test]
fn what_the_editor_leaves_is_saved() {
    let desk = Desk::new();
    let (server, at) = store();
    run(&at, &["put", "cfg/log.toml", "level = debug\n"]).silently(0, "");
    desk.edit(&at, "sed -i s/debug/info/", &["cfg/log.toml"])
        .silently(0, "");
    run(&at, &["get", "cfg/log.toml"]).silently(0, "level = info\n");
    let before = server.asked().len();
    desk.edit(&at, "true", &["cfg/log.toml"]).silently(0, "");
    assert_eq!(server.asked().len(), before + 1, "nothing was written");
    let told = desk.edit(&at, "true", &["cfg/log.toml", "--json"]).json();
    assert_eq!(told, json!({"changed": false, "revision": 2}));
    desk.edit(&at, "printf new >", &["absent"]).silently(0, "");
    run(&at, &["get", "absent"]).silently(0, "new");
    let told = desk.edit(&at, "printf x >", &["absent", "--json"]).json();
    assert_eq!(told, json!({"changed": true, "revision": 4}));
    assert!(desk.is_clear());
}

#[test]
fn the_line_end_of_an_editor_is_not_saved_where_there_was_none() {
    let desk = Desk::new();
    let (_server, at) = store();
    run(&at, &["put", "k", "a"]).silently(0, "");
    let told = desk.edit(&at, "printf 'a\\n' >", &["k", "--json"]).json();
    assert_eq!(told, json!({"changed": false, "revision": 1}));
    desk.edit(&at, "printf 'b\\n' >", &["k"]).silently(0, "");
    run(&at, &["get", "k"]).silently(0, "b");
    run(&at, &["put", "k", "a\n"]).silently(0, "");
    desk.edit(&at, "printf 'b\\n' >", &["k"]).silently(0, "");
    run(&at, &["get", "k"]).silently(0, "b\n");
    run_with(&at, &["put", "k", "-"], b"\0\xff").silently(0, "");
    desk.edit(&at, "sed -i s/00/61/", &["k", "--encode", "hex"])
        .silently(0, "");
    run(&at, &["get", "k"]).silently(0, b"a\xff");
}

#[test]
fn a_change_meanwhile_keeps_the_text() {
    let desk = Desk::new();
    let (_server, at) = store();
    run(&at, &["put", "k", "one"]).silently(0, "");
    let program = env!("CARGO_BIN_EXE_raftctl");
    let editor = format!("{program} -e {at} put k two; printf three >");
    let done = desk.edit(&at, &editor, &["k"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(
        done.stderr
            .contains("somebody changed it, it is at revision 2"),
        "{done:?}"
    );
    assert!(done.stderr.lines().count() <= 4, "{done:?}");
    assert_eq!(kept(&done), "three");
    run(&at, &["get", "k"]).silently(0, "two");
    for (before, meanwhile, now) in [
        ("put k two", "del k", "it is gone"),
        ("del k", "put k two", "it is at revision "),
    ] {
        run(&at, &before.split(' ').collect::<Vec<_>>()).silently(0, "");
        let editor = format!("{program} -e {at} {meanwhile}; printf three >");
        let done = desk.edit(&at, &editor, &["k"]);
        assert_eq!(done.code, Some(1), "{done:?}");
        assert!(done.stderr.contains(now), "{done:?}");
        assert_eq!(kept(&done), "three");
    }
}

#[test]
fn nobody_else_may_read_a_draft() {
    let desk = Desk::new();
    let (_server, at) = store();
    let editor = "look() { stat -c %a \"$1\" \"${1%/*}\" > \"$TMPDIR/modes\"; }; look";
    desk.edit(&at, editor, &["secret"]).silently(0, "");
    let modes = fs::read_to_string(desk.0.path().join("modes")).unwrap();
    assert_eq!(modes, "600\n700\n");
}

#[test]
fn visual_goes_before_editor_and_a_text_that_is_no_value_is_kept() {
    let desk = Desk::new();
    let (_server, at) = store();
    let mut both = desk.editing(&at, "printf 00 >", &["k", "--encode", "hex"]);
    let done = both.env("VISUAL", "printf zz >").output().unwrap().into();
    assert_eq!(kept(&done), "zz");
    assert_eq!(done.code, Some(2), "{done:?}");
}

#[test]
fn an_editor_that_fails_saves_nothing() {
    let desk = Desk::new();
    let (server, at) = store();
    run(&at, &["put", "k", "one"]).silently(0, "");
    let done = desk.edit(&at, "false", &["k"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    let done = desk.edit(&at, "printf two > \"$1\"; false", &["k"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert_eq!(kept(&done), "two");
    let done = desk.edit(&at, "no-such-editor", &["k"]);
    assert_eq!(done.code, Some(2), "{done:?}");
    assert!(
        done.stderr.contains("  try: VISUAL or EDITOR names"),
        "{done:?}"
    );
    let nobody = desk.edit(&at, "", &["k"]);
    assert_eq!(nobody.code, Some(2), "{nobody:?}");
    assert!(nobody.stderr.contains("no editor was named"), "{nobody:?}");
    let writes = server
        .asked()
        .iter()
        .filter(|asked| is_write(asked))
        .count();
    assert_eq!(writes, 1, "only the put");
    assert!(desk.is_clear(), "there is no text that somebody changed");
}

#[test]
fn a_text_that_the_editor_removed_is_nowhere() {
    let desk = Desk::new();
    let (_server, at) = store();
    let done = desk.edit(&at, "rm", &["k"]);
    assert_eq!(done.code, Some(1), "{done:?}");
    assert!(!done.stderr.contains("your text is in"), "{done:?}");
    assert!(desk.is_clear(), "no folder is left");
}

#[test]
fn a_text_that_cannot_be_saved_is_kept_with_the_line_that_saves_it() {
    let desk = Desk::new();
    let lost = Fake::start(1, |asked| {
        if is_write(asked) {
            return asked.error(WireError::NoLeader);
        }
        asked.reply(&Reply::Missing { index: Index(1) })
    });
    let done = desk.edit(&lost.addr, "printf x >", &["-t", SOON, "a b"]);
    assert_eq!(done.code, Some(4), "{done:?}");
    assert!(
        done.stderr
            .contains("  try: raftctl cas 'a b' --expect-absent - < /"),
        "{done:?}"
    );
    assert_eq!(kept(&done), "x");
    let nobody = Fake::start(1, always(WireError::NoLeader));
    assert_eq!(
        desk.edit(&nobody.addr, "true", &["-t", SOON, "k"]).code,
        Some(4)
    );
}

/// The line asks for the same write, whatever the editor did to the end of the text.
#[test]
fn the_line_for_an_unknown_outcome_tells_it() {
    let cases = [
        ("printf 'b\\n' >", &["k"][..]),
        ("sed -i s/61/62/", &["k", "--encode", "hex"]),
        ("printf 'b\\n' >", &["2d6b", "--key-encode", "hex"]),
    ];
    thread::scope(|scope| {
        for (editor, args) in cases {
            scope.spawn(move || {
                let desk = Desk::new();
                let mut is_lost = true;
                let server = Fake::start(1, move |asked| match &asked.what {
                    What::Write(_) if std::mem::take(&mut is_lost) => Act::Nothing,
                    What::Write(_) => asked.done(42, Outcome::Swapped),
                    _ => asked.reply(&Reply::Value {
                        index: Index(41),
                        item: Item {
                            key: b"k",
                            value: b"a",
                            revision: Index(7),
                            create_revision: Index(7),
                            version: 1,
                        },
                    }),
                });
                let args = [&["-t", SOON][..], args].concat();
                let done = desk.edit(&server.addr, editor, &args);
                assert_eq!(done.code, Some(5), "{done:?}");
                let line = done.stderr.split("  try: ").nth(1).unwrap();
                let line = line.lines().next().unwrap();
                let line = line.strip_prefix("raftctl ").unwrap();
                let line = format!(
                    "{} -e {} {line}",
                    env!("CARGO_BIN_EXE_raftctl"),
                    server.addr
                );
                let again = Command::new("sh").args(["-c", &line]).output().unwrap();
                Done::from(again).silently(0, "");
                kept(&done);
                let asked = server.asked();
                let writes = asked.iter().filter(|asked| is_write(asked));
                let names: Vec<_> = writes
                    .map(Asked::write)
                    .map(|write| (write.session, write.seq, &write.body))
                    .collect();
                assert_eq!(names.len(), 2);
                assert_eq!(names[0], names[1], "{line}");
            });
        }
    });
}

#[test]
fn a_signal_of_the_editor_is_not_one_of_the_program() {
    let desk = Desk::new();
    let (_server, at) = store();
    desk.edit(&at, &interrupted("printf two >"), &["k"])
        .silently(0, "");
    run(&at, &["get", "k"]).silently(0, "two");
    // It may end the editor.
    let done = desk.edit(&at, "kill -INT $$; true", &["k"]);
    assert_eq!(done.code, Some(1), "{done:?}");
}

#[test]
fn whoever_ends_the_program_while_the_editor_runs_is_told_where_the_text_is() {
    let desk = Desk::new();
    let (_server, at) = store();
    run(&at, &["put", "k", "old"]).silently(0, "");
    // It outlives the program, and keeps nobody from reading what that said to the end.
    let editor = "printf half > \"$1\"; kill -TERM $PPID; exec >&- 2>&-; \
                  while kill -0 $PPID; do sleep 0.01; done; true";
    let output = desk.editing(&at, editor, &["k"]).output().unwrap();
    assert_eq!(output.status.signal(), Some(Signal::TERM.as_raw()));
    let done = Done::from(output);
    let again = "\n  try: raftctl cas k --expect-revision 1 - < ";
    assert!(done.stderr.contains(again), "{}", done.stderr);
    assert_eq!(kept(&done), "half");
    run(&at, &["get", "k"]).silently(0, "old");
}

#[test]
fn a_signal_behind_the_editor_tells_where_the_text_is() {
    let desk = Desk::new();
    let silent = Fake::start(1, |asked| match asked.what {
        What::Get(..) => asked.reply(&Reply::Missing { index: Index(1) }),
        _ => Act::Nothing,
    });
    for signal in [Signal::INT, Signal::TERM] {
        let before = silent.asked().len();
        let child = desk
            .editing(
                &silent.addr,
                &interrupted("printf two >"),
                &["-t", "60s", "k"],
            )
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let patience = Instant::now();
        while !silent.asked().iter().skip(before).any(is_write) {
            assert!(patience.elapsed() < Duration::from_secs(20));
            thread::yield_now();
        }
        kill_process(Pid::from_child(&child), signal).unwrap();
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.signal(), Some(signal.as_raw()));
        let done = Done::from(output);
        assert!(done.stderr.contains("  request: "), "{done:?}");
        assert_eq!(kept(&done), "two");
    }
}
