//! The manual pages and the example say what the program does, no more and no less.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use raftd::config::flags;
use raftd::config::setting::Setting;
use raftd::config::table::SETTINGS;
use raftd::config::{Settings, layers};

const BEGIN: &str = ".\\\" begin of the settings, made from raftd/src/config/table.rs\n";
const END: &str = ".\\\" end of the settings\n";

fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name)
}

fn read(name: &str) -> String {
    fs::read_to_string(file(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn roff(text: &str) -> String {
    text.replace('\\', "\\e")
        .replace('-', "\\-")
        .replace('\'', "\\(aq")
}

fn section(setting: &Setting) -> &str {
    setting.key.split('.').next().unwrap_or_default()
}

fn block(setting: &Setting) -> String {
    let key = setting.key.split('.').nth(1).unwrap_or_default();
    let default = match setting.default {
        "" => "none",
        default => default,
    };
    let flag = match setting.flag {
        Some(flag) => format!("Flag: \\fB\\-\\-{}\\fR. ", roff(flag)),
        None => String::new(),
    };
    format!(
        ".TP\n.B {key}\n{}\n.br\nType: {}. Default: {}. {flag}Environment: \\fB{}\\fR.\n",
        roff(setting.doc),
        roff(&setting.type_text()),
        roff(default),
        setting.env()
    )
}

fn all_blocks() -> String {
    let mut text = String::new();
    let mut last = "";
    for setting in SETTINGS {
        if section(setting) != last {
            last = section(setting);
            text.push_str(&format!(".SS [{last}]\n"));
        }
        text.push_str(&block(setting));
    }
    text
}

/// `RAFTD_BLESS=1 cargo test -p raftd` writes the part that is made from the table.
#[test]
fn the_page_of_the_file_lists_exactly_the_settings() {
    let name = "man/raftd.toml.5";
    let page = read(name);
    let (head, rest) = page.split_once(BEGIN).expect("the page has the begin mark");
    let (part, tail) = rest.split_once(END).expect("the page has the end mark");
    let wanted = all_blocks();
    if std::env::var_os("RAFTD_BLESS").is_some() {
        fs::write(file(name), format!("{head}{BEGIN}{wanted}{END}{tail}")).unwrap();
    } else {
        assert_eq!(part, wanted, "run RAFTD_BLESS=1 cargo test -p raftd");
    }
}

#[test]
fn the_page_of_the_daemon_lists_exactly_the_flags() {
    let page = read("man/raftd.8");
    let options = page
        .split(".SH ")
        .find(|section| section.starts_with("OPTIONS\n"));
    let options = options.expect("the page has a section OPTIONS");
    let described: BTreeSet<String> = options
        .lines()
        .filter_map(|line| {
            line.strip_prefix(".BR \\-\\-")
                .or(line.strip_prefix(".B \\-\\-"))
        })
        .map(|line| {
            let end = line.find([' ', '=', ',']).unwrap_or(line.len());
            line[..end].replace("\\-", "-")
        })
        .collect();
    let mut command = flags::command();
    command.build();
    let known: BTreeSet<String> = command
        .get_arguments()
        .filter_map(|argument| argument.get_long().map(str::to_owned))
        .collect();
    assert_eq!(described, known);
}

#[test]
fn the_page_of_the_daemon_lists_the_exit_statuses() {
    let page = read("man/raftd.8");
    for status in ["0", "64", "65", "69", "70", "74", "77", "78"] {
        assert!(
            page.contains(&format!(".TP\n.B {status}\n")),
            "status {status}"
        );
    }
}

#[test]
fn the_example_is_a_good_configuration_also_with_every_line_uncommented() {
    let name = "scripts/raftd.toml.example";
    let text = read(name);
    let mut settings = Settings::defaults();
    layers::apply_toml(&mut settings, Path::new(name), &text).unwrap();
    let whole: String = text
        .lines()
        .map(|line| match line.strip_prefix('#') {
            // A commented setting has no space behind the sign, prose has.
            Some(setting) if !setting.starts_with(' ') => format!("{setting}\n"),
            _ => format!("{line}\n"),
        })
        .collect();
    layers::apply_toml(&mut settings, Path::new(name), &whole).unwrap();
    for setting in SETTINGS {
        let key = setting.key.split('.').nth(1).unwrap_or_default();
        assert!(
            whole.contains(&format!("\n{key} = ")),
            "{} is not shown",
            setting.key
        );
        let shown = whole.contains(&format!("{key} = \"{}\"\n", setting.default))
            || whole.contains(&format!("{key} = {}\n", setting.default));
        assert!(
            setting.default.is_empty() || shown,
            "{}: its default is shown",
            setting.key
        );
    }
}
