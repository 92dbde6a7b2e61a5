//! What a person sees: the program under a terminal, which `script` (bsdutils) makes.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use bytes::BytesMut;
use raftd::disk::os::OsDisk;
use raftd::snapshot::{Step, Writer, snapshot_name};
use raftd::store;
use wire::client::{NodeRole, Reply};
use wire::entry::{Entry, EntryKind};
use wire::types::{ClusterId, EntryId, Epoch, Index, Term};

use super::fake::{Act, Fake, What};
use super::run::{command, run, store};
use super::script::{Store, status};

/// What is on the screen afterwards, and the exit code.
fn show(at: &str, args: &str) -> (String, Option<i32>) {
    show_on("cols 60", "", at, args)
}

/// The same on a screen of this size, with more in the environment.
fn show_on(size: &str, env: &str, at: &str, args: &str) -> (String, Option<i32>) {
    let program = env!("CARGO_BIN_EXE_raftctl");
    let line = format!("stty {size}; exec env NO_COLOR=1 {env} {program} -e {at} {args}");
    let output = Command::new("script")
        .args(["-qec", &line, "/dev/null"])
        .env("RAFTCTL_CONFIG", "/dev/null")
        .stdin(Stdio::null())
        .output()
        .expect("script of bsdutils");
    let text = String::from_utf8(output.stdout).unwrap();
    (text.replace('\r', ""), output.status.code())
}

#[track_caller]
fn shows(at: &str, args: &str, expected: &str) {
    let (text, code) = show(at, args);
    assert_eq!(text, expected);
    assert_eq!(code, Some(0));
}

#[test]
fn a_value_gets_a_line_end_and_never_a_control_character() {
    let (_server, at) = store();
    shows(&at, "put k v", "put k: revision 1\n");
    shows(&at, "get k", "v\n");
    run(&at, &["put", "k", "v\n"]).silently(0, "");
    shows(&at, "get k", "v\n");
    run(&at, &["put", "k", "1b5b324a00", "--encode", "hex"]).silently(0, "");
    let dump = "00000000  1b 5b 32 4a 00                                    .[2J.\n(5 bytes)\n";
    shows(&at, "get k", dump);
    shows(&at, "get k --encode hex", "1b5b324a00\n");
    run(&at, &["put", "l", "ff09", "--encode", "hex"]).silently(0, "");
    shows(&at, "scan -o tsv", "k\t\\x1b[2J\\0\nl\t\\xff\\t\n");
}

#[test]
fn no_object_has_a_control_character_on_a_screen() {
    let (_server, at) = store();
    run(&at, &["put", "k", "\u{9b}2J\u{7f}"]).silently(0, "");
    for args in ["get k --json", "scan --json", "txn --then 'get k' --json"] {
        let (text, code) = show(&at, args);
        assert_eq!(code, Some(0), "{args}: {text}");
        assert!(text.contains("2J"), "{args}: {text}");
        let odd = |c: char| c.is_control() && c != '\n';
        assert!(!text.contains(odd), "{args}: {text:?}");
    }
}

#[test]
fn nothing_that_a_node_says_is_a_control_character_on_a_screen() {
    let node = Fake::start(1, |asked| {
        let mut told = status(1, NodeRole::Leader, ["", "", ""], [true; 3]);
        told.state = "\u{9b}2J".into();
        told.error = "\x1b[2Jfull".into();
        asked.reply(&Reply::Status(told))
    });
    let (text, code) = show(&node.addr, "status");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.contains("  \\xc2\\x9b2J  "), "{text:?}");
    assert!(text.contains("\nn1: \\x1b[2Jfull\n"), "{text:?}");
}

#[test]
fn changes_are_told() {
    let (_server, at) = store();
    shows(&at, "put k 1", "put k: revision 1\n");
    shows(&at, "incr k", "2\n");
    shows(&at, "cas k --expect 2 x", "cas k: revision 3\n");
    let (text, code) = show(&at, "cas k --expect 2 x");
    assert_eq!(text, "cas k: not as expected; it is at revision 3\n");
    assert_eq!(code, Some(1));
    shows(&at, "del k none", "deleted 1\n");
    shows(&at, "put k 1 --json", "{\"ok\":true,\"revision\":7}\n");
}

#[test]
fn keys_and_values_are_a_table_as_wide_as_the_screen() {
    let (_server, at) = store();
    run(&at, &["put", "a", &"x\n".repeat(100)]).silently(0, "");
    run(&at, &["put", "longer", ""]).silently(0, "");
    let table = "KEY     REVISION  VERSION  BYTES  VALUE\n\
                 a              1        1    200  x\\nx\\nx\\nx\\nx\\nx\\nx\\nx\\...\n\
                 longer         2        1      0\n";
    shows(&at, "scan", table);
    shows(&at, "get a longer", table);
    shows(&at, "scan --keys", "a\nlonger\n");
    shows(&at, "scan none", "");
    // Of what is left out of a table, or asked for in it.
    let bare = "a       1  1  200  x\\nx\\nx\\nx\\nx\\nx\\nx\\nx\\...\nlonger  2  1    0\n";
    shows(&at, "scan --no-header", bare);
    let values = format!("{}\n\n", "x\\n".repeat(100));
    shows(&at, "scan --value", &values);
    shows(
        &at,
        "scan --field bytes,key",
        "BYTES  KEY\n  200  a\n    0  longer\n",
    );
}

#[test]
fn a_value_that_is_cut_ends_in_dots_however_wide_the_screen_is() {
    let (_server, at) = store();
    run(&at, &["put", "k", &"\u{1f600}".repeat(1000)]).silently(0, "");
    // One that does not tell its width is taken for a usual one.
    for (columns, shown) in [(0, 38), (1, 2), (2, 2), (60, 28), (900, 448)] {
        let (text, code) = show_on(&format!("cols {columns}"), "", &at, "scan --value -o table");
        let cut = format!("{}...\n", "\u{1f600}".repeat(shown));
        assert_eq!((text.as_str(), code), (cut.as_str(), Some(0)), "{columns}");
    }
    // What is counted is columns, not bytes; such a character takes two of them, an umlaut one.
    run(&at, &["put", "\u{e4}\u{f6}", &"x".repeat(60)]).silently(0, "");
    let row = format!("\u{e4}\u{f6}  {}...\n", "x".repeat(52));
    shows(&at, "scan --field key,value --no-header \u{e4}", &row);
    // What takes no column is not shown for ever: what is left out is told by dots, too.
    run(&at, &["put", "marks", &"\u{301}".repeat(1000)]).silently(0, "");
    let (text, _) = show_on("cols 60", "", &at, "scan marks --value -o table");
    assert!(text.ends_with("\u{301}...\n"), "{text:?}");
    assert!(text.chars().count() < 1000, "{text:?}");
    // A key that leaves no room for it.
    let long = "l".repeat(70);
    run(&at, &["put", &long, "123456789"]).silently(0, "");
    let row = format!("{long}  12345...\n");
    shows(&at, "scan --field key,value --no-header l", &row);
}

#[test]
fn what_is_usual_and_for_programs_is_not_usual_on_a_screen() {
    let (_server, at) = store();
    run(&at, &["put", "a", "1"]).silently(0, "");
    let (text, code) = show_on("cols 60", "RAFTCTL_FORMAT=nul", &at, "scan");
    assert_eq!(code, Some(0), "{text}");
    assert!(text.starts_with("KEY "), "{text}");
    for args in ["scan -0", "scan -o frame", "dump -o frame"] {
        let (text, code) = show_on("cols 60", "", &at, args);
        assert_eq!(code, Some(2), "{args}: {text}");
    }
}

#[test]
fn the_cluster_is_a_table() {
    let node = Fake::start(1, |asked| {
        let told = status(1, NodeRole::Leader, ["", "", ""], [true, true, false]);
        asked.reply(&Reply::Status(told))
    });
    let (text, code) = show(&node.addr, "status");
    let lines: Vec<_> = text.lines().collect();
    let summary = "leader n1, term 5, quorum ok: 3 voters, tolerates 0 more failures";
    assert_eq!(lines[0], summary, "{text}");
    assert!(
        lines[1].starts_with("NAME  ROLE         STATE    TERM  APPLIED"),
        "{text}"
    );
    assert!(
        lines[2].starts_with("n1    leader       serving     5       99"),
        "{text}"
    );
    assert!(lines[4].starts_with("n3    unreachable"), "{text}");
    shows(&node.addr, "wait-ready", "ready\n");
    assert_eq!(show(&node.addr, "peers -0").1, Some(2));
    let (names, _) = show(&node.addr, "peers --field name,id");
    assert_eq!(names, "NAME  ID\nn1     1\nn2     2\nn3     3\n");
    assert!(
        lines
            .last()
            .unwrap()
            .starts_with("n3: its address is not known"),
        "{text}"
    );
    assert_eq!(code, Some(0));
}

#[test]
fn a_put_without_value_does_not_wait_for_a_person_to_type() {
    let (_server, at) = store();
    let (text, code) = show(&at, "put k");
    assert_eq!(code, Some(2));
    assert!(text.contains("standard input is a terminal"), "{text}");
}

#[test]
fn what_is_longer_than_the_screen_goes_to_a_pager() {
    let (_server, at) = store();
    for n in 0..20 {
        run(&at, &["put", &format!("k{n:02}"), "v"]).silently(0, "");
    }
    let show = |rows: u32, pager: &str, args: &str| {
        let (size, env) = (
            format!("cols 60 rows {rows}"),
            format!("RAFTCTL_PAGER='{pager}'"),
        );
        let (text, code) = show_on(&size, &env, &at, args);
        assert_eq!(code, Some(0));
        text
    };
    let pager = "sed s/^/:/";
    let short = show(30, pager, "scan --keys");
    assert_eq!(short.lines().count(), 20);
    assert!(short.starts_with("k00\n"), "{short}");
    let long = show(10, pager, "scan --keys");
    assert_eq!(
        long.lines().filter(|line| line.starts_with(":k")).count(),
        20
    );
    assert_eq!(show(10, pager, "scan --keys --no-pager"), short);
    assert_eq!(show(10, "cat", "scan --keys"), short);
    assert_eq!(show(10, "", "scan --keys"), short);
    let objects = show(10, pager, "scan --keys --json");
    assert!(objects.starts_with("{\"key\":\"k00\","), "{objects}");
    // The prompt of a shell takes the last line of the screen.
    assert_eq!(show(21, pager, "scan --keys"), short);
    assert!(show(20, pager, "scan --keys").starts_with(":k00\n"));
}

#[test]
fn the_pager_is_the_one_that_was_named_and_starts_nothing_under_sudo() {
    let (_server, at) = store();
    run(&at, &["put", "k", "v"]).silently(0, "");
    let told = "'echo $LESS,$LESSSECURE; cat > /dev/null'";
    let clean = "env -u LESS -u LESSSECURE -u SUDO_UID -u RAFTCTL_PAGER -u PAGER";
    for (env, expected) in [
        (format!("RAFTCTL_PAGER={told} PAGER=/nowhere"), "FRX,\n"),
        (format!("PAGER={told}"), "FRX,\n"),
        (format!("PAGER={told} LESS=-M"), "-M,\n"),
        (format!("PAGER={told} SUDO_UID=0"), "FRX,1\n"),
    ] {
        let (text, code) = show_on("rows 1", &format!("{clean} {env}"), &at, "scan -o tsv");
        assert_eq!((text.as_str(), code), (expected, Some(0)), "{env}");
    }
}

#[test]
fn what_no_pager_shows_is_not_lost_in_silence() {
    let (_server, at) = store();
    for n in 0..20 {
        run(&at, &["put", &format!("k{n:02}"), "v"]).silently(0, "");
    }
    let named = "RAFTCTL_PAGER=/nowhere/pager";
    let (text, code) = show_on("cols 60 rows 10", named, &at, "scan -o tsv");
    assert_eq!(code, Some(125), "{text}");
    assert!(text.contains("the pager cannot be started"), "{text}");
    // Nobody named one, and there is none: nothing but the program itself is found.
    let none = "env -u RAFTCTL_PAGER -u PAGER PATH=/nowhere";
    let (text, code) = show_on("cols 60 rows 10", none, &at, "scan -o tsv");
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(text.lines().count(), 20, "{text}");
}

/// A file with a snapshot of nothing much.
fn snapshot(dir: &Path) -> PathBuf {
    let id = EntryId {
        term: Term(1),
        index: Index(1),
    };
    let mut store = store::Store::new(Epoch(1), 1);
    let noop = Entry::build(&mut BytesMut::new(), id, 0, EntryKind::Noop, &[]);
    store.apply(&noop);
    let disk = OsDisk::new(dir.to_owned()).unwrap();
    let mut writer = Writer::begin(&disk, store.view(), ClusterId(1), &[]).unwrap();
    while !matches!(writer.step(&disk).unwrap(), Step::Published(_)) {}
    dir.join(snapshot_name(id))
}

#[test]
fn nobody_sees_how_far_it_is_who_does_not_want_to() {
    let (_server, at) = store();
    let bench = "--no-progress bench put --seconds 0.2 --warm-up 0 --keys 10 --connections 1";
    let (text, code) = show(&at, bench);
    assert_eq!(code, Some(0), "{text}");
    assert!(!text.contains("measuring"), "{text}");
    let dir = tempfile::tempdir().unwrap();
    let file = snapshot(dir.path()).display().to_string();
    for (option, sees) in [("", true), ("--no-progress", false)] {
        let (text, code) = show(&at, &format!("snapshot verify {option} {file}"));
        assert_eq!(code, Some(0), "{text}");
        assert_eq!(text.contains("B/s"), sees, "{text:?}");
    }
}

#[test]
fn a_signal_of_the_pager_is_not_one_of_the_program() {
    let store = Store {
        page_items: 12,
        ..Store::default()
    };
    let server = store.serve();
    for n in 0..40 {
        run(&server.addr, &["put", &format!("k{n:02}"), "v"]).silently(0, "");
    }
    let signals = "kill -INT $PPID; kill -INT $PPID; kill -QUIT $PPID";
    let env = format!("RAFTCTL_PAGER='{signals}; sed s/^/:/'");
    let (text, code) = show_on("cols 60 rows 10", &env, &server.addr, "scan -o tsv");
    assert_eq!(code, Some(0), "{text}");
    let lines = text.lines().filter(|line| line.starts_with(":k"));
    assert_eq!(lines.count(), 40, "{text}");
}

#[test]
fn a_signal_ends_what_still_waits_when_the_pager_has_gone() {
    let mut store = Store {
        page_items: 12,
        ..Store::default()
    };
    let silent = Fake::start(1, move |asked| match &asked.what {
        What::Scan(page) if page.after.is_some() => Act::Nothing,
        _ => store.act(asked),
    });
    for n in 0..40 {
        run(&silent.addr, &["put", &format!("k{n:02}"), "v"]).silently(0, "");
    }
    // It reads the one page that comes; then Ctrl-C again and again, until the program is gone.
    let pager = "head -n 12; (while kill -INT $PPID; do sleep 0.01; done) 2> /dev/null &";
    let env = format!("RAFTCTL_PAGER='{pager}'");
    let (text, code) = show_on("cols 60 rows 10", &env, &silent.addr, "-t 60s scan -o tsv");
    assert_eq!(code, Some(130), "{text}");
}

#[test]
fn colours_are_for_terminals_that_want_them() {
    let (_server, at) = store();
    run(&at, &["put", "k", "v"]).silently(0, "");
    run(&at, &["put", "l", "w"]).silently(0, "");
    let plain = "KEY  VALUE\nk    v\nl    w\n";
    let coloured = "\x1b[1mKEY  VALUE\x1b[0m\nk    v\nl    w\n";
    let table = ["scan", "-o", "table", "--field", "key,value"];
    let line = table.join(" ");
    for (env, more, expected) in [
        ("NO_COLOR= TERM=xterm", "", coloured),
        ("NO_COLOR= TERM=xterm", "--color never", plain),
        ("NO_COLOR= TERM=dumb", "", plain),
        ("NO_COLOR= env -u TERM", "", plain),
        ("NO_COLOR= TERM=dumb CLICOLOR_FORCE=1", "", coloured),
        ("NO_COLOR= TERM=dumb CLICOLOR_FORCE=0", "", plain),
        ("TERM=xterm CLICOLOR_FORCE=1", "", plain),
        ("TERM=xterm", "--color always", coloured),
        ("RAFTCTL_COLOR=always TERM=xterm", "--color never", plain),
        ("TERM=xterm", "--color always --no-header", "k  v\nl  w\n"),
    ] {
        let (text, _) = show_on("cols 60", env, &at, &format!("{line} {more}"));
        assert_eq!(text, expected, "{env} {more}");
    }
    for (name, expected) in [
        ("TERM", plain),
        ("CLICOLOR_FORCE", coloured),
        ("RAFTCTL_COLOR", coloured),
    ] {
        let mut piped = command(&at, &table);
        piped.env_remove("NO_COLOR").env_remove("CLICOLOR_FORCE");
        let done = piped.env(name, "always").output().unwrap();
        assert_eq!(done.stdout, expected.as_bytes(), "{name}: {done:?}");
    }
    run(&at, &[&table[..], &["--color", "always"]].concat()).silently(0, coloured);
}
