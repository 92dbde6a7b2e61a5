//! Rust source as the house rules see it: comments and literals told apart from code. This is a
//! lexer for rustfmt's output, not a parser; where it errs, it errs in a test, loudly.

use std::fs;
use std::ops::Range;
use std::path::Path;
use std::process::Command;

/// A text file of the repository.
#[derive(Clone, Debug)]
pub struct Source {
    /// Relative to the root, with `/`.
    pub path: String,
    /// As it is.
    pub text: String,
    /// Rust only: comments and the inside of literals blanked, line for line.
    pub code: String,
    /// Rust only: `code` with the `#[cfg(test)]` modules blanked too, also one with a file of its
    /// own, `tests.rs`: what ships.
    pub product: String,
}

/// A function with a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// Where `fn` stands, counted from 1.
    pub line: usize,
    /// Lines between its braces that hold code.
    pub code_lines: usize,
}

impl Source {
    /// Reads `text` as the content of `path`.
    #[must_use]
    pub fn new(path: &str, text: &str) -> Self {
        let (code, product) = if path.ends_with(".rs") {
            let code = blank_text(text);
            let product = match path.ends_with("/tests.rs") {
                true => String::new(),
                false => blank_tests(&code),
            };
            (code, product)
        } else {
            (String::new(), String::new())
        };
        Self {
            path: path.to_owned(),
            text: text.to_owned(),
            code,
            product,
        }
    }

    /// Whether it is Rust.
    #[must_use]
    pub fn is_rust(&self) -> bool {
        self.path.ends_with(".rs")
    }

    /// Whether all of it is test code.
    #[must_use]
    pub fn is_test(&self) -> bool {
        self.path.starts_with("tests/") || self.path.contains("/tests/")
    }

    /// Every function of what ships that has a body.
    #[must_use]
    pub fn functions(&self) -> Vec<Function> {
        let code = &self.product;
        words(code, "fn")
            .filter_map(|at| {
                let rest = code[at + 2..].trim_start();
                let name: String = rest.chars().take_while(|&c| is_word(c)).collect();
                let body = body_of(code, at)?;
                (!name.is_empty()).then(|| Function {
                    name,
                    line: line_of(code, at),
                    code_lines: code_lines(&code[body.start + 1..body.end]),
                })
            })
            .collect()
    }

    /// Every path that what ships imports, groups written out: `use a::{b, c::d}` gives `a::b` and
    /// `a::c::d`.
    #[must_use]
    pub fn imports(&self) -> Vec<String> {
        let mut paths = Vec::new();
        for at in words(&self.product, "use") {
            let rest = &self.product[at + 3..];
            if let Some(end) = rest.find(';') {
                let tree: String = rest[..end].split_whitespace().collect::<Vec<_>>().join(" ");
                expand(tree.trim(), "", &mut paths);
            }
        }
        paths
    }

    /// The modules that it declares without giving them here: `mod name;`.
    #[must_use]
    pub fn declared_modules(&self) -> Vec<String> {
        words(&self.code, "mod")
            .filter_map(|at| {
                let rest = self.code[at + 3..].trim_start();
                let name: String = rest.chars().take_while(|&c| is_word(c)).collect();
                rest[name.len()..]
                    .trim_start()
                    .starts_with(';')
                    .then_some(name)
            })
            .collect()
    }
}

/// The text files of the repository: what git tracks, or without git all but the build output.
///
/// # Panics
/// If the tree cannot be read.
#[must_use]
pub fn read_all(root: &Path) -> Vec<Source> {
    let mut paths = tracked(root).unwrap_or_else(|| {
        let mut paths = Vec::new();
        walk(root, "", &mut paths);
        paths
    });
    paths.sort();
    paths
        .iter()
        .filter_map(|path| {
            // A file that git tracks and somebody just removed is not there any more.
            let bytes = fs::read(root.join(path)).ok()?;
            Some(Source::new(path, &String::from_utf8(bytes).ok()?))
        })
        .collect()
}

fn tracked(root: &Path) -> Option<Vec<String>> {
    let output = Command::new("git")
        .args(["ls-files", "-z"])
        .current_dir(root)
        .output()
        .ok()?;
    let list = String::from_utf8(output.stdout).ok()?;
    let paths: Vec<String> = list.split_terminator('\0').map(str::to_owned).collect();
    (output.status.success() && !paths.is_empty()).then_some(paths)
}

fn walk(root: &Path, below: &str, paths: &mut Vec<String>) {
    let entries = fs::read_dir(root.join(below)).expect("a directory of the repository");
    for entry in entries {
        let entry = entry.expect("a directory entry");
        let name = entry.file_name().into_string().expect("a name in UTF-8");
        let path = format!("{below}{name}");
        if entry.file_type().expect("a file type").is_dir() {
            if !matches!(name.as_str(), "target" | ".git") {
                walk(root, &format!("{path}/"), paths);
            }
        } else {
            paths.push(path);
        }
    }
}

/// Lines that hold more than blanks.
#[must_use]
pub fn code_lines(code: &str) -> usize {
    code.lines().filter(|line| !line.trim().is_empty()).count()
}

/// The line of a byte, counted from 1.
#[must_use]
pub fn line_of(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

/// Where `word` stands in `text`, not as a part of a longer word.
pub fn words<'a>(text: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    text.match_indices(word).filter_map(move |(at, _)| {
        let before = text[..at].chars().next_back();
        let after = text[at + word.len()..].chars().next();
        let joined = |c: Option<char>| c.is_some_and(is_word);
        let starts = !word.starts_with(is_word) || !joined(before);
        let ends = !word.ends_with(is_word) || !joined(after);
        (starts && ends).then_some(at)
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// The braces of the item that begins at `at`, if it has any before a `;` of its own.
fn body_of(code: &str, at: usize) -> Option<Range<usize>> {
    let mut nesting = 0_usize;
    for (offset, c) in code[at..].char_indices() {
        match c {
            '(' | '[' => nesting += 1,
            ')' | ']' => nesting = nesting.checked_sub(1)?,
            ';' if nesting == 0 => return None,
            '{' if nesting == 0 => return closing(code, at + offset).map(|end| at + offset..end),
            _ => {}
        }
    }
    None
}

/// The brace that closes the one at `open`.
fn closing(code: &str, open: usize) -> Option<usize> {
    let mut depth = 0_usize;
    for (offset, c) in code[open..].char_indices() {
        match c {
            '{' => depth += 1,
            '}' => {
                depth -= 1;
                if depth == 0 {
                    return Some(open + offset);
                }
            }
            _ => {}
        }
    }
    None
}

fn expand(tree: &str, prefix: &str, paths: &mut Vec<String>) {
    let Some(open) = tree.find('{') else {
        let path = tree.split(" as ").next().unwrap_or(tree).trim();
        let path = path.trim_start_matches("::");
        paths.push(format!("{prefix}{path}"));
        return;
    };
    let prefix = format!("{prefix}{}", tree[..open].trim());
    let inside = &tree[open + 1..tree.rfind('}').unwrap_or(tree.len())];
    let mut depth = 0_usize;
    for part in inside.split(|c| {
        match c {
            '{' => depth += 1,
            '}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        c == ',' && depth == 0
    }) {
        if !part.trim().is_empty() {
            expand(part.trim(), &prefix, paths);
        }
    }
}

fn blank(text: &mut [u8], range: Range<usize>) {
    for byte in &mut text[range] {
        if *byte != b'\n' {
            *byte = b' ';
        }
    }
}

/// Blanks comments and the inside of string and character literals.
fn blank_text(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let end = if rest.starts_with(b"//") {
            let end = at + rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len());
            blank(&mut code, at..end);
            end
        } else if rest.starts_with(b"/*") {
            let end = at + block_comment(rest);
            blank(&mut code, at..end);
            end
        } else if let Some(hashes) = raw_string(text, at) {
            let open = at + 2 + hashes;
            let close = format!("\"{}", "#".repeat(hashes));
            let end = text[open..].find(&close).map_or(bytes.len(), |i| open + i);
            blank(&mut code, open..end);
            end + close.len()
        } else if bytes[at] == b'"' {
            let end = at + 1 + string_inside(&rest[1..]);
            blank(&mut code, at + 1..end);
            end + 1
        } else if bytes[at] == b'\'' {
            let inside = character_inside(&text[at + 1..]);
            blank(&mut code, at + 1..at + 1 + inside);
            at + 1 + inside + usize::from(inside > 0)
        } else {
            at + 1
        };
        at = end.min(bytes.len());
    }
    String::from_utf8(code).expect("whole literals and comments are blanked")
}

/// Bytes of the block comment at the front; they nest.
fn block_comment(bytes: &[u8]) -> usize {
    let (mut depth, mut at) = (0_usize, 0);
    while at < bytes.len() {
        if bytes[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if bytes[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

/// The number of `#` if a raw string begins with the `r` at `at`.
fn raw_string(text: &str, at: usize) -> Option<usize> {
    let before = text.as_bytes()[..at]
        .last()
        .copied()
        .map_or(' ', char::from);
    let rest = text.as_bytes()[at..].strip_prefix(b"r")?;
    // `br"` and `cr"` are raw strings too; any other word that ends in r is none.
    let inside_word = is_word(before) && !matches!(before, 'b' | 'c');
    let hashes = rest.iter().take_while(|&&b| b == b'#').count();
    (!inside_word && rest.get(hashes) == Some(&b'"')).then_some(hashes)
}

/// Bytes before the quote that ends a string.
fn string_inside(bytes: &[u8]) -> usize {
    let mut at = 0;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}

/// Bytes before the quote that ends a character literal; 0 for a lifetime.
fn character_inside(text: &str) -> usize {
    if let Some(rest) = text.strip_prefix('\\') {
        // The escaped character may be the quote itself.
        return rest[1..].find('\'').map_or(0, |i| i + 2);
    }
    let first = text.chars().next().map_or(0, char::len_utf8);
    if text[first..].starts_with('\'') {
        first
    } else {
        0
    }
}

/// Blanks every `#[cfg(test)]` item.
fn blank_tests(code: &str) -> String {
    let mut product = code.as_bytes().to_vec();
    for (at, attribute) in code.match_indices("#[cfg(test)]") {
        let item = at + attribute.len();
        let end = match body_of(code, item) {
            Some(body) => body.end + 1,
            None => code[item..]
                .find(';')
                .map_or(code.len(), |end| item + end + 1),
        };
        blank(&mut product, at..end);
    }
    String::from_utf8(product).expect("whole items are blanked")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_and_literals_are_not_code() {
        let text = "a /* b /* c */ d */ e // f\nlet g = \"h \\\" i\"; 'j' '\\'' <'k> r#\"l\"m\"# n";
        let code = blank_text(text);
        let kept: String = code.split_whitespace().collect();
        assert_eq!(kept, "aeletg=\"\";''''<'k>r#\"\"#n");
        assert_eq!(code.len(), text.len());
    }

    #[test]
    fn test_modules_do_not_ship() {
        let source = Source::new(
            "a.rs",
            "#[cfg(test)]\nuse std::x;\nfn a() {}\n#[cfg(test)]\nmod t {\n fn b() {}\n}\n",
        );
        let names: Vec<String> = source.functions().into_iter().map(|f| f.name).collect();
        assert_eq!(names, ["a"]);
        assert_eq!(source.imports(), Vec::<String>::new());
    }

    #[test]
    fn functions_count_their_code() {
        let text = "trait T { fn none(&self); }\nfn two(a: [u8; 3]) -> u8 {\n  // no\n  let b = 1;\n\n  b\n}\n";
        let functions = Source::new("a.rs", text).functions();
        assert_eq!(
            functions,
            [Function {
                name: "two".to_owned(),
                line: 2,
                code_lines: 2
            }]
        );
    }

    #[test]
    fn import_groups_are_written_out() {
        let source = Source::new(
            "a.rs",
            "pub use std::{fs, io::{self, Read as R}};\nuse b;\n",
        );
        assert_eq!(
            source.imports(),
            ["std::fs", "std::io::self", "std::io::Read", "b"]
        );
    }

    #[test]
    fn declared_modules_are_found() {
        let source = Source::new("a.rs", "pub mod b;\nmod c { }\n// mod d;\nmod e ;");
        assert_eq!(source.declared_modules(), ["b", "e"]);
    }
}
