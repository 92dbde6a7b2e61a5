//! Where examples stand: pages, help, topics, README.

use std::fs;
use std::path::Path;

use raftd_tests::{proc, root};

/// Lines that belong together.
#[derive(Debug)]
pub(super) struct Example {
    pub(super) source: String,
    pub(super) text: String,
}

impl Example {
    fn new(source: &str, text: &str) -> Self {
        Self {
            source: source.into(),
            text: text.trim_end().into(),
        }
    }
}

/// The examples of a page, as they read.
pub(super) fn blocks(page: &Path) -> Vec<String> {
    let page = fs::read_to_string(page).expect("the page");
    let text = page.split(".SH EXAMPLES\n").nth(1).expect("examples");
    let text = text.split("\n.SH ").next().unwrap_or_default();
    let blocks = text.split(".nf\n").skip(1);
    let block = |text: &str| {
        let text = text.split(".fi").next().unwrap_or_default();
        let text = text.replace("\\-", "-").replace("\\(aq", "'");
        text.replace("\\e", "\\")
    };
    blocks.map(block).collect()
}

/// The blocks of the pages.
pub(super) fn of_pages() -> Vec<Example> {
    let mut examples = Vec::new();
    for file in fs::read_dir(root().join("man")).expect("the pages") {
        let path = file.expect("a file").path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .expect("text")
            .to_owned();
        if name.starts_with("raftctl") && name != "raftctl.toml.5" {
            let blocks = blocks(&path).into_iter();
            examples.extend(blocks.map(|block| Example::new(&name, &block)));
        }
    }
    examples.sort_by(|a, b| (&a.source, &a.text).cmp(&(&b.source, &b.text)));
    examples
}

/// The candidates behind these words: how the verbs are found.
fn complete(words: &[&str]) -> Vec<String> {
    let mut command = proc::command("raftctl");
    command
        .args(["__complete", "--", "raftctl", "-e", "127.0.0.1:1"])
        .args(words)
        .arg("");
    let done = proc::run(command, b"").quietly();
    let words = done.text().lines().skip(1);
    words
        .filter_map(|line| Some(line.split('\t').next()?.to_owned()))
        .collect()
}

/// The lines under `Examples:` in the help of every verb, and of those below it.
pub(super) fn of_help() -> Vec<Example> {
    let verbs = complete(&[]);
    let mut paths = vec![Vec::new()];
    for verb in &verbs {
        paths.push(vec![verb.clone()]);
        if verb != "help" {
            paths.extend(
                complete(&[verb])
                    .into_iter()
                    .map(|below| vec![verb.clone(), below]),
            );
        }
    }
    let mut examples = Vec::new();
    for path in paths {
        let mut help = proc::command("raftctl");
        help.arg("help").args(&path);
        let help = proc::run(help, b"");
        if help.code != Some(0) {
            // A word that is no verb.
            continue;
        }
        let block = help.text().split("Examples:\n").nth(1).unwrap_or_default();
        let lines = block.lines().take_while(|line| line.starts_with("  "));
        let source = format!("raftctl {} -h", path.join(" "));
        let lines: Vec<_> = lines
            .map(|line| Example::new(&source, line.trim().split("   ").next().unwrap_or_default()))
            .collect();
        assert!(!lines.is_empty(), "{source} has no example");
        examples.extend(lines);
    }
    examples
}

/// Lines of the README, and blocks of the topics.
pub(super) fn of_texts() -> Vec<Example> {
    let readme = fs::read_to_string(root().join("README.md")).expect("the README");
    let mut examples = Vec::new();
    for heading in ["In a shell", "Looking after it"] {
        let section = readme
            .split(&format!("\n## {heading}\n"))
            .nth(1)
            .expect("the heading");
        let block = section.split("```sh\n").nth(1).expect("a block");
        let block = block.split("```").next().unwrap_or_default();
        let lines = block.lines().filter(|line| line.contains("raftctl "));
        examples.extend(lines.map(|line| Example::new("README.md", line)));
    }
    for topic in ["exit-codes", "formats", "consistency", "env", "recipes"] {
        let mut help = proc::command("raftctl");
        help.args(["help", topic]);
        let text = proc::run(help, b"").quietly().text().to_owned();
        let mut block = String::new();
        let is_code = |line: &str| line.starts_with("    ") && !line.starts_with("     ");
        for line in text.lines().chain([""]) {
            let goes_on = !block.is_empty() && line.starts_with("    ");
            if goes_on || (is_code(line) && line.contains("raftctl ")) {
                block.push_str(line);
                block.push('\n');
            } else if !block.is_empty() {
                examples.push(Example::new(topic, &block));
                block.clear();
            }
        }
    }
    examples
}
