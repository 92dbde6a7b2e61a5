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
