use std::collections::BTreeMap;
use std::fs;

use clap::Parser;
use raftctl::failure::Exit;

use super::*;
use crate::cli::Cli;

/// A home with a file of the user.
struct Home {
    folder: tempfile::TempDir,
    env: BTreeMap<&'static str, OsString>,
}

impl Home {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("raftctl/config.toml");
        fs::create_dir_all(file.parent().expect("a folder")).expect("made");
        fs::write(&file, text).expect("written");
        let env = BTreeMap::from([("XDG_CONFIG_HOME", folder.path().into())]);
        Self { folder, env }
    }

    fn with(mut self, name: &'static str, value: &str) -> Self {
        self.env.insert(name, value.into());
        self
    }

    fn resolve(&self, words: &[&str]) -> Result<Config, Failure> {
        let line = [&["raftctl"], words, &["peers"]].concat();
        let cli = Cli::try_parse_from(line).expect("a good line");
        let system = self.folder.path().join("system.toml");
        Config::resolve_over(&system, &cli.flags, &|name| self.env.get(name).cloned())
    }

    #[track_caller]
    fn endpoints(&self, words: &[&str]) -> String {
        self.resolve(words)
            .expect("a good configuration")
            .endpoints()
            .join(",")
    }
}

const TWO: &str = "endpoints = [\"top:1\"]\n[contexts.a]\nendpoints = [\"a:1\", \"a:2\"]\n\
                   [contexts.b]\ntimeout = \"1m\"\n";

#[test]
fn the_nearer_layer_counts() {
    let home = Home::new("");
    assert_eq!(home.endpoints(&[]), "127.0.0.1:7400", "built in");
    let home = Home::new(TWO);
    assert_eq!(
        home.endpoints(&[]),
        "top:1",
        "the file before what is built in"
    );
    let home = Home::new(TWO).with("RAFTCTL_CONTEXT", "a");
    assert_eq!(home.endpoints(&[]), "a:1,a:2", "a context before the file");
    let home = home.with("RAFTCTL_ENDPOINTS", "env:1");
    assert_eq!(
        home.endpoints(&[]),
        "env:1",
        "the environment before a context"
    );
    assert_eq!(home.endpoints(&["-c", "a"]), "a:1,a:2", "but not before -c");
    assert_eq!(
        home.endpoints(&["-c", "a", "-e", "f:1,g:2"]),
        "f:1,g:2",
        "a flag before all"
    );
    assert_eq!(
        home.endpoints(&["-c", "b"]),
        "env:1",
        "a context says nothing of the others"
    );
    let home = Home::new(TWO).with("RAFTCTL_ENDPOINTS", "");
    assert_eq!(home.endpoints(&[]), "top:1", "empty is unset");
    assert_eq!(home.endpoints(&["--no-config"]), "127.0.0.1:7400");
    let chosen = Home::new(&format!("context = \"a\"\n{TWO}"));
    assert_eq!(chosen.endpoints(&[]), "a:1,a:2");
    assert_eq!(chosen.endpoints(&["-c", "b"]), "top:1");
}

#[test]
fn the_own_file_goes_before_that_of_the_machine() {
    let home = Home::new("[contexts.a]\nendpoints = [\"own:1\"]\n");
    let system = "context = \"b\"\ntimeout = \"3s\"\n[contexts.a]\ntimeout = \"4s\"\n\
                  [contexts.b]\nendpoints = [\"b:1\"]\n";
    fs::write(home.folder.path().join("system.toml"), system).expect("written");
    assert_eq!(
        home.endpoints(&[]),
        "b:1",
        "what only the machine's says counts"
    );
    assert_eq!(home.endpoints(&["-c", "a"]), "own:1");
    let config = home.resolve(&["-c", "a"]).expect("good");
    assert_eq!(
        config.timeout(),
        Duration::from_secs(3),
        "contexts are not mixed"
    );
}

#[test]
fn every_layer_is_told() {
    let home = Home::new(TWO).with("RAFTCTL_ENDPOINTS", "env:1");
    let config = home.resolve(&["-c", "a", "-e", "f:1"]).expect("good");
    let told: Vec<_> = config
        .layers(&ENDPOINTS)
        .iter()
        .map(|(origin, _)| origin.clone())
        .collect();
    let path = home.folder.path().join("raftctl/config.toml");
    let wanted = [
        Origin::Flag("endpoints"),
        Origin::Context("a".into(), path.clone(), 3),
        Origin::Env("RAFTCTL_ENDPOINTS"),
        Origin::File(path, 1),
        Origin::BuiltIn,
    ];
    assert_eq!(told, wanted);
}

#[test]
fn another_file_takes_the_place_of_the_own_one() {
    let home = Home::new(TWO);
    let other = home.folder.path().join("other");
    fs::write(&other, "endpoints = [\"other:1\"]").expect("written");
    let other = other.to_str().expect("text");
    assert_eq!(home.endpoints(&["--config", other]), "other:1");
    let home = home.with("RAFTCTL_CONFIG", other);
    assert_eq!(home.endpoints(&[]), "other:1");
    let missing = home
        .resolve(&["--config", "/nonexistent/x"])
        .expect_err("it must be there");
    assert_eq!(missing.exit, Exit::Usage);
}

#[track_caller]
fn refused(text: &str, what: &str, place: &str, remedy: &str) {
    let failure = Home::new(text).resolve(&[]).expect_err("it is wrong");
    assert_eq!((failure.exit, failure.name), (Exit::Usage, "config"));
    assert_eq!(failure.what, what);
    assert!(failure.place.ends_with(place), "{}", failure.place);
    assert_eq!(failure.remedy, remedy);
}

#[test]
fn what_is_wrong_in_a_file_is_told_with_its_line() {
    let unknown = "there is no setting endpoint";
    refused(
        "\nendpoint = []",
        unknown,
        "config.toml line 2",
        "did you mean endpoints?",
    );
    let unknown = "there is no setting tiemout";
    refused(
        "[contexts.a]\ntiemout = 1",
        unknown,
        "line 2",
        "did you mean timeout?",
    );
    let unknown = "there is no setting sound";
    refused(
        "[sound]\n",
        unknown,
        "line 1",
        "raftctl.toml(5) lists the settings",
    );
    refused(
        "timeout = 5",
        "timeout cannot be '5': a time is a number from 1ms on with its unit, \
        such as 500ms, 5s or 2m",
        "line 1",
        "timeout takes a time such as 500ms, 5s or 2m",
    );
    refused(
        "color = [1]",
        "color is an array of more than texts",
        "line 1",
        "color takes one of auto, always, never",
    );
    refused(
        "color = 'x'",
        "color cannot be 'x': it is none of the three",
        "line 1",
        "color takes one of auto, always, never",
    );
    refused(
        "context = \"c\"\n[contexts.cc]\n",
        "there is no context c",
        "line 1",
        "did you mean cc?",
    );
    refused(
        "context = \"c\"",
        "there is no context c",
        "line 1",
        "raftctl -e HOST:PORT,.. context add c",
    );
    let nested = "a context cannot choose a context";
    refused(
        "[contexts.a]\ncontext = \"b\"",
        nested,
        "line 2",
        "context = stands at the top of the file",
    );
    let failure = Home::new("a = \n").resolve(&[]).expect_err("no TOML");
    assert!(failure.what.starts_with("no TOML: "), "{failure}");
    let failure = Home::new("")
        .with("RAFTCTL_TIMEOUT", "soon")
        .resolve(&[])
        .expect_err("no time");
    assert_eq!(failure.place, "environment RAFTCTL_TIMEOUT");
}

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../man/raftctl.toml.5");
const BEGIN: &str = ".\\\" begin of the settings, made from raftctl/src/config/setting.rs\n";
const END: &str = ".\\\" end of the settings\n";

/// `RAFTCTL_BLESS=1 cargo test -p raftctl` writes the part that is made from the table.
#[test]
fn the_page_of_the_file_lists_exactly_the_settings() {
    let page = fs::read_to_string(PAGE).expect("the page");
    let (head, rest) = page.split_once(BEGIN).expect("the begin mark");
    let (part, tail) = rest.split_once(END).expect("the end mark");
    let roff = |text: &str| text.replace('-', "\\-").replace('\'', "\\(aq");
    let block = |setting: &Setting| {
        let default = if setting.default.is_empty() {
            "none"
        } else {
            setting.default
        };
        format!(
            ".TP\n.B {}\n{}\n.br\nTakes {}. Default: {}. Flag: \\fB\\-\\-{}\\fR. Environment: \\fB{}\\fR.\n",
            setting.key,
            roff(setting.doc),
            roff(setting.form),
            roff(default),
            roff(setting.flag),
            setting.env
        )
    };
    let wanted: String = SETTINGS.iter().map(block).collect();
    if std::env::var_os("RAFTCTL_BLESS").is_some() {
        fs::write(PAGE, format!("{head}{BEGIN}{wanted}{END}{tail}")).expect("written");
    } else {
        assert_eq!(part, wanted, "run RAFTCTL_BLESS=1 cargo test -p raftctl");
    }
}

#[test]
fn the_example_of_the_page_is_good() {
    let page = fs::read_to_string(PAGE).expect("the page");
    let example = page
        .split(".SH EXAMPLES\n.nf\n")
        .nth(1)
        .expect("an example");
    let example = example.split(".fi").next().unwrap_or_default();
    let config = Home::new(example)
        .resolve(&[])
        .expect("a good configuration");
    assert_eq!(config.context(), Some("prod"));
    assert_eq!(config.endpoints().len(), 3);
    assert_eq!(config.timeout(), Duration::from_secs(10));
}

#[test]
fn every_default_is_good() {
    for setting in SETTINGS
        .iter()
        .filter(|setting| !setting.default.is_empty())
    {
        setting.check(setting.default).expect("a good default");
    }
}
