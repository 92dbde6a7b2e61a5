//! What the daemon is told: flags, variables, a file.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

use raftd::config::flags::{self, NoFlags};
use raftd::config::table::SETTINGS;
use raftd::config::{Settings, layers};
use raftd::fatal::{ExitStatus, Fatal};

/// A line of the command line or of the environment, at most so many.
const LINES_MAX: usize = 64;

/// The first byte chooses what the rest is: a file of settings, a command line with an argument
/// per line, variables with one `NAME=VALUE` per line, or the argument of `--set`.
///
/// Whatever it is, it is taken, or refused in a few lines that name the setting and where it was
/// said; and what is taken once is taken again.
pub fn config(bytes: &[u8]) {
    let Some((choice, rest)) = bytes.split_first() else {
        return;
    };
    let text = String::from_utf8_lossy(rest);
    match choice % 4 {
        0 => file(&text),
        1 => command_line(rest),
        2 => environment(&text),
        _ => set(&text),
    }
}

fn file(text: &str) {
    let apply = || {
        let mut settings = Settings::defaults();
        layers::apply_toml(&mut settings, Path::new("raftd.toml"), text).map(|()| settings)
    };
    match apply() {
        Ok(settings) => {
            check_bounds(&settings);
            let again = apply().expect("it was taken before");
            assert_eq!(format!("{settings:?}"), format!("{again:?}"));
        }
        Err(fatal) => {
            check_refusal(&fatal);
            assert_eq!(fatal.status, ExitStatus::Config);
            let line = fatal.place.strip_prefix("raftd.toml line ");
            let line: usize = line.and_then(|line| line.parse().ok()).expect("a line");
            let lines = 1 + text.bytes().filter(|byte| *byte == b'\n').count();
            assert!((1..=lines).contains(&line), "line {line} of {lines}");
            let named = fatal.what.starts_with("no TOML: ")
                || fatal.what.starts_with("there is no setting ")
                || SETTINGS.iter().any(|s| fatal.what.starts_with(s.key));
            assert!(named, "names no setting: {fatal}");
        }
    }
}

fn command_line(bytes: &[u8]) {
    let lines = bytes.split(|byte| *byte == b'\n').take(LINES_MAX);
    let args = lines.map(|line| OsString::from_vec(line.to_vec()));
    match flags::parse(std::iter::once("raftd".into()).chain(args)) {
        // It would read a file of this machine.
        Ok(flags) if flags.config.is_some() => {}
        Ok(flags) => match Settings::load(&flags, |_| None) {
            Ok(settings) => check_bounds(&settings),
            Err(fatal) => check_refusal(&fatal),
        },
        Err(NoFlags::Print(text)) => assert!(!text.is_empty()),
        Err(NoFlags::Wrong(fatal)) => {
            check_refusal(&fatal);
            assert_eq!(fatal.status, ExitStatus::Usage);
        }
    }
}

fn environment(text: &str) {
    let mut settings = Settings::defaults();
    let lookup = |name: &str| {
        let mut lines = text
            .lines()
            .take(LINES_MAX)
            .filter_map(|line| line.split_once('='));
        lines
            .find(|(key, _)| *key == name)
            .map(|(_, value)| OsString::from(value))
    };
    match layers::apply_env(&mut settings, lookup) {
        Ok(()) => check_bounds(&settings),
        Err(fatal) => {
            check_refusal(&fatal);
            let named = SETTINGS
                .iter()
                .any(|s| fatal.what.starts_with(s.key) && fatal.place.ends_with(&s.env()));
            assert!(named, "names no setting: {fatal}");
        }
    }
}

fn set(text: &str) {
    let mut settings = Settings::defaults();
    match layers::apply_set(&mut settings, text) {
        Ok(()) => check_bounds(&settings),
        Err(fatal) => {
            check_refusal(&fatal);
            assert!(text.contains('=') == (fatal.status == ExitStatus::Config));
        }
    }
}

/// What, where and what to try, a line each, whatever was said, and nothing that a terminal obeys.
fn check_refusal(fatal: &Fatal) {
    let text = fatal.to_string();
    assert!(!fatal.what.is_empty());
    let lines = 1 + usize::from(!fatal.place.is_empty()) + usize::from(!fatal.remedy.is_empty());
    assert_eq!(text.lines().count(), lines, "too many lines: {text:?}");
    let control = |c: char| c.is_control() && c != '\n';
    assert!(!text.contains(control), "not for a terminal: {text:?}");
}

/// What the daemon counts on without asking again.
fn check_bounds(settings: &Settings) {
    assert!((2..=64).contains(&(settings.window_bytes >> 20)));
    assert!(settings.segment_bytes >= 256 << 10 && settings.segment_bytes <= 1 << 30);
    assert!(settings.uncommitted_bytes >= 2 << 20);
    assert!(!settings.heartbeat().is_zero() && !settings.election_timeout().is_zero());
    assert!(settings.initial.as_ref().is_none_or(|members| {
        members.is_sorted_by(|a, b| a.0 < b.0) && !members.is_empty() && members[0].0.0 > 0
    }));
}
