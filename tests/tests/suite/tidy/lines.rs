//! The shape of lines.

use super::{House, demand, must_catch};

/// Characters in a line of Rust or of a script, comments included.
const LINE_CHARS_MAX: usize = 120;

#[test]
fn lines_fit() {
    demand(lines);
    let long = "x".repeat(LINE_CHARS_MAX + 1);
    must_catch(
        lines,
        &[
            &[("a.rs", &long)],
            &[("a.rs", "let a = 1; \n")],
            &[("scripts/a", "\techo\n")],
            &[("a.rs", "fn f() {}")],
        ],
    );
}

fn lines(house: &House) -> Vec<String> {
    let mut found = Vec::new();
    for file in &house.files {
        if !file.is_rust() && !file.path.starts_with("scripts/") && !file.path.starts_with(".ci/") {
            continue;
        }
        for (number, line) in file.text.lines().enumerate() {
            // The row of a table in a comment cannot be broken.
            let is_row = line.trim_start().starts_with("//") && line.ends_with('|');
            let wrong = if !is_row && line.chars().count() > LINE_CHARS_MAX {
                "too long"
            } else if line.contains('\t') {
                "a tab"
            } else if line.ends_with(' ') {
                "blanks at the end"
            } else {
                continue;
            };
            found.push(format!("{}:{}: {wrong}", file.path, number + 1));
        }
        if !file.text.is_empty() && !file.text.ends_with('\n') {
            found.push(format!("{}: no newline at the end", file.path));
        }
    }
    found
}

#[test]
fn pages_are_shown_to_the_end_of_each_line() {
    demand(comments_in_pages);
    must_catch(
        comments_in_pages,
        &[
            &[("man/a.1", "{\"done\\\":true}\n")],
            &[("man/a.1", "a \\\" b\n")],
        ],
    );
}

/// What begins a comment of the typesetting behind a word: the rest of the line is never seen.
fn comments_in_pages(house: &House) -> Vec<String> {
    let mut found = Vec::new();
    for page in house
        .files
        .iter()
        .filter(|file| file.path.starts_with("man/"))
    {
        for (number, line) in page.text.lines().enumerate() {
            if !line.starts_with(".\\\"") && line.contains("\\\"") {
                found.push(format!(
                    "{}:{}: the rest of the line is a comment",
                    page.path,
                    number + 1
                ));
            }
        }
    }
    found
}
