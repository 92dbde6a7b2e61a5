//! Configuration and contexts, as a person uses them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};

use super::client::closed_port;
use super::run::{Done, bare, store};

/// A home without a configuration yet.
struct Home(tempfile::TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn file(&self) -> PathBuf {
        self.0.path().join(".config/raftctl/config.toml")
    }

    fn run_in(&self, env: &[(&str, &str)], args: &[&str]) -> Done {
        bare()
            .env_remove("RAFTCTL_CONFIG")
            .env_remove("XDG_CONFIG_HOME")
            .env("HOME", self.0.path())
            .envs(env.iter().copied())
            .args(args)
            .stdin(Stdio::null())
            .output()
            .unwrap()
            .into()
    }

    fn run(&self, args: &[&str]) -> Done {
        self.run_in(&[], args)
    }
}

#[test]
fn a_context_is_added_chosen_shown_and_removed() {
    let (_one, first) = store();
    let (_two, second) = store();
    let home = Home::new();
    home.run(&["context", "ls"]).silently(0, "");
    home.run(&["context", "show"]).silently(1, "");
    home.run(&["-e", &first, "context", "add", "a"])
        .silently(0, "");
    home.run(&["-e", &second, "-t", "9s", "context", "add", "b"])
        .silently(0, "");
    home.run(&["context", "use", "a"]).silently(0, "");
    home.run(&["put", "k", "in a"]).silently(0, "");
    home.run(&["-c", "b", "put", "k", "in b"]).silently(0, "");
    home.run(&["get", "k"]).silently(0, "in a");
    let env = [("RAFTCTL_CONTEXT", "b")];
    home.run_in(&env, &["get", "k"]).silently(0, "in b");
    // What was typed goes before the environment.
    let env = [("RAFTCTL_ENDPOINTS", first.as_str())];
    home.run_in(&env, &["get", "k", "-c", "b"])
        .silently(0, "in b");
    home.run(&["context", "show", "b"])
        .silently(0, format!("endpoints\t{second}\ntimeout\t9s\n"));
    let path = home.file().display().to_string();
    home.run(&["context", "ls"]).silently(
        0,
        format!("a\ttrue\t{first}\t{path}\nb\tfalse\t{second}\t{path}\n"),
    );
    let listed = home.run(&["context", "ls", "--json"]);
    let lines: Vec<Value> = String::from_utf8(listed.stdout)
        .unwrap()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(lines[1]["endpoints"], json!([second]));
    assert_eq!(lines[1]["current"], json!(false));
    let again = home.run(&["-e", &first, "context", "add", "a"]);
    assert_eq!(again.code, Some(6), "{again:?}");
    home.run(&["context", "rm", "a"]).silently(0, "");
    assert_eq!(
        home.run(&["-t", "1s", "config", "show"]).code,
        Some(0),
        "none is chosen"
    );
    let text = fs::read_to_string(home.file()).unwrap();
    assert_eq!(
        text,
        format!("[contexts.b]\nendpoints = [\"{second}\"]\ntimeout = \"9s\"\n")
    );
    let gone = home.run(&["-c", "a", "get", "k"]);
    assert_eq!((gone.code, gone.stdout.as_slice()), (Some(2), &b""[..]));
    assert!(gone.stderr.contains("there is no context a"), "{gone:?}");
    assert!(
        home.run(&["context", "add", "c"])
            .stderr
            .contains("a context needs endpoints")
    );
}

#[test]
fn a_context_that_is_not_there_is_not_chosen_and_the_file_stays_as_private_as_it_is() {
    let home = Home::new();
    home.run(&["-e", "h:1", "context", "add", "a"])
        .silently(0, "");
    fs::set_permissions(home.file(), fs::Permissions::from_mode(0o600)).unwrap();
    home.run(&["context", "use", "a"]).silently(0, "");
    let mode = fs::metadata(home.file()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(home.run(&["context", "use", "b"]).code, Some(2));
    home.run(&["context", "show"])
        .silently(0, "endpoints\th:1\n");
    let told = home.run(&["context", "ls", "--json"]).json();
    let file = home.file().display().to_string();
    let expected = json!({"name": "a", "current": true, "endpoints": ["h:1"], "file": file});
    assert_eq!(told, expected);
}

/// What is advised against a context that is not there can be done while it is not.
#[test]
fn contexts_are_looked_after_while_the_chosen_one_is_missing() {
    let home = Home::new();
    let by_env = [("RAFTCTL_CONTEXT", "gone")];
    let none = home.run_in(&by_env, &["get", "k"]);
    assert_eq!(none.code, Some(2), "{none:?}");
    let advice = "  try: raftctl -e HOST:PORT,.. context add gone\n";
    assert!(none.stderr.ends_with(advice), "{none:?}");
    home.run_in(&by_env, &["-e", "h:1", "context", "add", "a"])
        .silently(0, "");
    let others = home.run_in(&by_env, &["get", "k"]);
    assert!(others.stderr.ends_with("  try: raftctl context ls\n"));
    let path = home.file().display().to_string();
    let listed = format!("a\tfalse\th:1\t{path}\n");
    home.run_in(&by_env, &["context", "ls"])
        .silently(0, &listed);
    let shown = home.run_in(&by_env, &["context", "show"]);
    assert_eq!(shown.code, Some(2), "{shown:?}");
    assert!(shown.stderr.contains("there is no context gone"));
    let text = fs::read_to_string(home.file()).unwrap();
    fs::write(home.file(), format!("context = \"gone\"\n{text}")).unwrap();
    assert_eq!(home.run(&["config", "show"]).code, Some(2));
    home.run(&["context", "ls"]).silently(0, &listed);
    home.run(&["context", "use", "a"]).silently(0, "");
    home.run(&["context", "show"])
        .silently(0, "endpoints\th:1\n");
    // What was typed on the line is not passed over.
    let typed = home.run(&["-c", "gone", "context", "ls"]);
    assert_eq!(typed.code, Some(2), "{typed:?}");
}

/// A file that was named need be there for all but who makes it.
#[test]
fn the_first_context_makes_the_file_that_was_named() {
    let home = Home::new();
    let named = home.file().with_file_name("named.toml");
    let path = named.to_str().unwrap();
    let env = [("RAFTCTL_CONFIG", path)];
    assert_eq!(home.run_in(&env, &["context", "use", "a"]).code, Some(2));
    home.run_in(&env, &["-e", "h:1", "context", "add", "a"])
        .silently(0, "");
    home.run(&["--config", path, "context", "use", "a"])
        .silently(0, "");
    fs::remove_file(&named).unwrap();
    home.run(&["--config", path, "-e", "h:2", "context", "add", "b"])
        .silently(0, "");
    home.run_in(&env, &["context", "show", "b"])
        .silently(0, "endpoints\th:2\n");
    assert!(!home.file().exists(), "it is not the one that was named");
}

#[test]
fn what_counts_is_explained() {
    let home = Home::new();
    let env = [("RAFTCTL_TIMEOUT", "7s")];
    home.run_in(&env, &["-t", "3s", "config", "explain", "timeout"])
        .silently(0, "3s\tcounts\t--timeout\n7s\thidden\tenvironment RAFTCTL_TIMEOUT\n5s\thidden\tbuilt in\n");
    home.run_in(&env, &["config", "show", "--origin"]).silently(
        0,
        "endpoints\t127.0.0.1:7400\tbuilt in\ntimeout\t7s\tenvironment RAFTCTL_TIMEOUT\n\
         context\t\tbuilt in\nformat\t\tbuilt in\ncolor\tauto\tbuilt in\n",
    );
    let told = home
        .run_in(&env, &["config", "explain", "timeout", "--json"])
        .json();
    let wanted = json!({"key": "timeout", "value": "7s", "origin": "environment RAFTCTL_TIMEOUT",
        "hidden": [{"value": "5s", "origin": "built in"}]});
    assert_eq!(told, wanted);
    let typo = home.run(&["config", "explain", "timeuot"]);
    assert_eq!(typo.code, Some(2));
    assert!(typo.stderr.contains("did you mean timeout?"), "{typo:?}");
}

#[test]
fn a_broken_file_stops_every_verb_that_needs_it_and_says_where() {
    let home = Home::new();
    fs::create_dir_all(home.file().parent().unwrap()).unwrap();
    fs::write(home.file(), "timeout = \"1s\"\nendpoint = [\"a:1\"]\n").unwrap();
    for args in [&["get", "k"][..], &["config", "check"], &["context", "ls"]] {
        let done = home.run(args);
        assert_eq!(done.code, Some(2), "{done:?}");
        let place = format!("  where: {} line 2\n", home.file().display());
        assert!(done.stderr.contains(&place), "{done:?}");
        assert!(
            done.stderr.ends_with("  try: did you mean endpoints?\n"),
            "{done:?}"
        );
    }
    for args in [
        &["version"][..],
        &["help", "get"],
        &["--no-config", "config", "check"],
    ] {
        assert_eq!(home.run(args).code, Some(0), "{args:?}");
    }
    let nobody = ["--no-config", "-e", &closed_port(), "get", "k"];
    assert_eq!(home.run(&nobody).code, Some(3));
    let good = home.0.path().join("good.toml");
    fs::write(&good, "timeout = \"1s\"\n").unwrap();
    let good = good.to_str().unwrap();
    home.run(&["--no-config", "config", "check", good])
        .silently(0, "");
    let own = home.file().display().to_string();
    assert_eq!(
        home.run(&["--no-config", "config", "check", &own]).code,
        Some(2)
    );
    let none = home.run(&["--config", "/nonexistent/x", "config", "show"]);
    assert_eq!(none.code, Some(2));
}

#[test]
fn a_format_can_be_usual() {
    let (_server, at) = store();
    let home = Home::new();
    let env = [
        ("RAFTCTL_FORMAT", "jsonl"),
        ("RAFTCTL_ENDPOINTS", at.as_str()),
    ];
    home.run_in(&env, &["put", "k", "v"])
        .silently(0, "{\"ok\":true,\"revision\":1}\n");
    home.run_in(&env, &["count"]).silently(0, "{\"count\":1}\n");
    home.run_in(&env, &["count", "--format", "tsv"])
        .silently(0, "1\n");
    // Exact bytes, and data for programs, are what their own line says.
    home.run_in(&env, &["get", "k"]).silently(0, "v");
    home.run_in(&env, &["dump"]).silently(0, "k\tv\n");
    // Nor is what was chosen passed over.
    home.run_in(&env, &["scan", "--field", "value"])
        .silently(0, "v\n");
    let env = [
        ("RAFTCTL_FORMAT", "csv"),
        ("RAFTCTL_ENDPOINTS", at.as_str()),
    ];
    home.run_in(&env, &["ls"]).silently(0, "key\nk\n");
    let as_env = [("RAFTCTL_FORMAT", "env"), env[1]];
    home.run_in(&as_env, &["scan"]).silently(0, "k='v'\n");
    home.run_in(&as_env, &["ls"]).silently(0, "k\n");
    let as_nul = [("RAFTCTL_FORMAT", "nul"), env[1]];
    home.run_in(&as_nul, &["scan"]).silently(0, "k\0v\0");
    home.run_in(&env, &["count"]).silently(0, "1\n");
    let env = [("RAFTCTL_FORMAT", "frame")];
    assert_eq!(home.run_in(&env, &["config", "check"]).code, Some(2));
    let told = home.run(&["--json", "config", "explain", "format"]).json();
    assert_eq!(told["origin"], "--format");
}
