//! Changes of the user's file: whole lines of it, so that comments and everything else stay as
//! they are. What cannot be changed like that is refused.

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use raftctl::failure::{Exit, Failure};

use super::file::{CONTEXTS, File, Layer, read_text};
use super::setting::{CONTEXT, ENDPOINTS, Setting, failure};
use crate::files::{check_replaceable, folder, publish};

/// A change of what the file says.
#[derive(Clone, Debug)]
pub(crate) enum Change<'a> {
    /// Chooses a context.
    Use(&'a str),
    /// Appends a context of these settings.
    Add(&'a str, Vec<(&'static Setting, String)>),
    /// Removes a context; it is not chosen any more.
    Remove(&'a str),
}

/// Changes the file, or makes it. Whoever reads it meanwhile sees it before or after.
pub(crate) fn change(path: &Path, change: &Change<'_>) -> Result<(), Failure> {
    let text = match read_text(path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(unwritable(path, &error)),
    };
    let after = changed(path, &text, change)?;
    replace(path, &after).map_err(|error| unwritable(path, &error))
}

fn unwritable(path: &Path, error: &std::io::Error) -> Failure {
    failure(format!("the configuration cannot be changed: {error}"))
        .at(path.display())
        .remedy("--config FILE names another one")
}

/// The text after the change.
fn changed(path: &Path, text: &str, change: &Change<'_>) -> Result<String, Failure> {
    let before = File::parse(path, Layer::User, text)?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    match change {
        Change::Use(name) => choose(&before, &mut lines, Some(name)),
        Change::Add(name, settings) => {
            if lines.last().is_some_and(|line| !line.trim().is_empty()) {
                lines.push(String::new());
            }
            lines.push(format!("[{CONTEXTS}.{name}]"));
            lines.extend(
                settings
                    .iter()
                    .map(|(setting, text)| assignment(setting, text)),
            );
        }
        Change::Remove(name) => {
            if let Some(context) = before.contexts.get(*name) {
                remove(&mut lines, context.line - 1);
            }
            if before
                .top
                .get(&CONTEXT)
                .is_some_and(|said| said.text == *name)
            {
                choose(&before, &mut lines, None);
            }
        }
    }
    lines.push(String::new());
    let after = lines.join("\n");
    if is_done(path, &before, &after, change) {
        return Ok(after);
    }
    let what = "the configuration is not written in a way that this could change";
    Err(Failure::new(Exit::Refused, "config", what)
        .at(path.display())
        .remedy("change it by hand; raftctl.toml(5) tells how"))
}

/// Whether the text says what the file said before, but for the change.
fn is_done(path: &Path, before: &File, after: &str, change: &Change<'_>) -> bool {
    let Ok(after) = File::parse(path, Layer::User, after) else {
        return false;
    };
    let mut top = before.top.meaning();
    let contexts = before.contexts.iter();
    let mut contexts: Vec<_> = contexts
        .map(|(name, context)| (name.as_str(), context.meaning()))
        .collect();
    match change {
        Change::Use(name) => {
            top.insert(CONTEXT.key, name);
        }
        Change::Add(name, settings) => {
            let settings = settings
                .iter()
                .map(|(setting, text)| (setting.key, text.as_str()));
            contexts.push((name, settings.collect()));
            contexts.sort();
        }
        Change::Remove(name) => {
            contexts.retain(|(other, _)| other != name);
            top.retain(|key, text| *key != CONTEXT.key || text != name);
        }
    }
    let now = after.contexts.iter();
    let now: Vec<_> = now
        .map(|(name, context)| (name.as_str(), context.meaning()))
        .collect();
    after.top.meaning() == top && now == contexts
}

/// Names the context at the top of the file, before its first setting, or removes that line.
fn choose(before: &File, lines: &mut Vec<String>, name: Option<&str>) {
    let line = name.map(|name| assignment(&CONTEXT, name));
    match (before.top.get(&CONTEXT), line) {
        (Some(said), Some(line)) => lines[said.line - 1] = line,
        (Some(said), None) => {
            lines.remove(said.line - 1);
        }
        (None, Some(line)) => {
            let is_prose = |line: &String| line.trim().is_empty() || line.trim().starts_with('#');
            let at = lines.iter().take_while(|line| is_prose(line)).count();
            lines.insert(at, line);
        }
        (None, None) => {}
    }
}

/// Removes a table from its header to the next one, without the comment over that.
fn remove(lines: &mut Vec<String>, header: usize) {
    let is_header = |line: &String| line.trim_start().starts_with('[');
    let next = lines.iter().skip(header + 1).position(is_header);
    let mut end = next.map_or(lines.len(), |at| header + 1 + at);
    while next.is_some() && end > header + 1 && lines[end - 1].trim_start().starts_with('#') {
        end -= 1;
    }
    let begin = header.min(end);
    lines.drain(begin..end);
    while lines.last().is_some_and(|line| line.trim().is_empty()) {
        lines.pop();
    }
}

fn assignment(setting: &Setting, text: &str) -> String {
    // What a setting takes has neither quotes nor backslashes in it; if it has, the check finds it.
    if setting.key == ENDPOINTS.key {
        let parts: Vec<_> = text.split(',').map(|part| format!("\"{part}\"")).collect();
        return format!("{} = [{}]", setting.key, parts.join(", "));
    }
    format!("{} = \"{text}\"", setting.key)
}

/// Puts a new file in the place of the old one, also if a symbolic link leads to that.
fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let real = match fs::canonicalize(path) {
        Ok(real) => real,
        Err(error) if error.kind() == ErrorKind::NotFound => path.to_owned(),
        Err(error) => return Err(error),
    };
    check_replaceable(&real)?;
    let folder = folder(&real);
    fs::create_dir_all(folder)?;
    let mut name = real.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", std::process::id()));
    let temporary = folder.join(name);
    let written = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o644)
        .open(&temporary)
        .and_then(|mut file| {
            if let Ok(old) = fs::metadata(&real) {
                file.set_permissions(old.permissions())?;
            }
            file.write_all(text.as_bytes())?;
            file.sync_all()
        })
        .and_then(|()| publish(&temporary, &real));
    if written.is_err() {
        // The error of before is the one to tell.
        let _ = fs::remove_file(&temporary);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# mine\ntimeout = \"9s\" # long\n\n[contexts.a]\nendpoints = [\"a:1\"]\n\n\
                        # the second\n[contexts.b]\nendpoints = [\"b:1\",\n  \"b:2\"]\n";

    fn after(text: &str, change: &Change<'_>) -> String {
        changed(Path::new("x"), text, change).expect("it can be changed")
    }

    #[test]
    fn changes_leave_everything_else_as_it_is() {
        let chosen = after(TEXT, &Change::Use("b"));
        assert_eq!(
            chosen,
            TEXT.replace("# mine\n", "# mine\ncontext = \"b\"\n")
        );
        let other = after(&chosen, &Change::Use("a"));
        assert_eq!(other, chosen.replace("context = \"b\"", "context = \"a\""));
        let without = after(&other, &Change::Remove("a"));
        assert_eq!(
            without,
            TEXT.replace("[contexts.a]\nendpoints = [\"a:1\"]\n\n", "")
        );
        let first = after(TEXT, &Change::Remove("b"));
        assert_eq!(
            first,
            TEXT[..TEXT.find("[contexts.b]").unwrap_or(0)]
                .trim_end()
                .to_owned()
                + "\n"
        );
        let settings = vec![(&ENDPOINTS, "c:1,d:2".to_owned())];
        assert_eq!(
            after(TEXT, &Change::Add("c", settings.clone())),
            format!("{TEXT}\n[contexts.c]\nendpoints = [\"c:1\", \"d:2\"]\n")
        );
        assert_eq!(
            after("", &Change::Add("c", settings)),
            "[contexts.c]\nendpoints = [\"c:1\", \"d:2\"]\n"
        );
        assert_eq!(after("", &Change::Use("c")), "context = \"c\"\n");
    }

    #[test]
    fn only_a_file_is_replaced() {
        let folder = tempfile::tempdir().expect("a folder");
        let socket = folder.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
        assert!(replace(&socket, "x").is_err());
        let (link, file) = (folder.path().join("link"), folder.path().join("file"));
        fs::write(&file, "before").expect("written");
        std::os::unix::fs::symlink(&file, &link).expect("linked");
        replace(&link, "after").expect("replaced");
        assert!(link.is_symlink());
        assert_eq!(fs::read_to_string(&file).expect("read"), "after");
    }

    #[test]
    fn what_cannot_be_changed_line_by_line_is_left_alone() {
        let inline = "contexts = { a = { timeout = \"1s\" }, b = { timeout = \"2s\" } }\n";
        let refused = changed(Path::new("x"), inline, &Change::Remove("a"));
        assert_eq!(refused.map_err(|failure| failure.exit), Err(Exit::Refused));
        let nothing = "[contexts]\na.timeout = \"1s\"\nb.timeout = \"2s\"\n";
        assert!(changed(Path::new("x"), nothing, &Change::Remove("a")).is_err());
    }
}
