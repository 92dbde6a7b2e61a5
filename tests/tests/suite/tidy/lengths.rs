//! Files and functions that fit on a few screens.

use std::collections::BTreeMap;

use raftd_tests::source::code_lines;

use super::{House, demand, must_catch};

/// Lines of code in a file. Code is what is left without comments, blank lines, the text of string
/// literals and `#[cfg(test)]` modules. Test files are free: scenarios and tables of samples read best
/// in one piece.
const FILE_LINES_MAX: usize = 500;
/// Lines of code between the braces of a function, counted likewise.
const FUNCTION_LINES_MAX: usize = 70;

#[test]
fn files_and_functions_are_short() {
    demand(lengths);
    let long_file = "x();\n".repeat(FILE_LINES_MAX + 1);
    let long_function = format!("fn f() {{\n{}}}\n", "x();\n".repeat(FUNCTION_LINES_MAX + 1));
    must_catch(
        lengths,
        &[&[("a.rs", &long_file)], &[("a.rs", &long_function)]],
    );

    let long = [("a.rs", long_function.as_str())];
    let exact = format!("fn a.rs f {}", FUNCTION_LINES_MAX + 1);
    let too_high = format!("fn a.rs f {}", FUNCTION_LINES_MAX + 2);
    assert_eq!(lengths(&House::sample(&long, &exact)), Vec::<String>::new());
    assert!(
        !lengths(&House::sample(&long, &too_high)).is_empty(),
        "it may only shrink"
    );
    assert!(
        !lengths(&House::sample(&[], &exact)).is_empty(),
        "not needed any more"
    );
}

fn lengths(house: &House) -> Vec<String> {
    let mut allowed: BTreeMap<String, usize> = BTreeMap::new();
    for line in house.allowed.lines().filter(|line| !line.starts_with('#')) {
        let (what, lines) = line.rsplit_once(' ').unwrap_or((line, ""));
        allowed.insert(what.to_owned(), lines.trim().parse().unwrap_or(0));
    }
    let mut found = Vec::new();
    let mut judge = |what: String, place: String, lines: usize, max: usize| {
        let limit = allowed.remove(&what);
        if lines > limit.unwrap_or(max) {
            found.push(format!("{place}: {lines} lines of code, {max} are enough"));
        } else if limit.is_some_and(|limit| limit > lines) {
            found.push(format!("tests/tidy-allow.txt: lower `{what}` to {lines}"));
        }
    };
    for file in house.rust().filter(|file| !file.is_test()) {
        let lines = code_lines(&file.product);
        if lines > FILE_LINES_MAX {
            judge(
                format!("file {}", file.path),
                file.path.clone(),
                lines,
                FILE_LINES_MAX,
            );
        }
        for function in file.functions() {
            if function.code_lines > FUNCTION_LINES_MAX {
                judge(
                    format!("fn {} {}", file.path, function.name),
                    format!("{}:{}: fn {}", file.path, function.line, function.name),
                    function.code_lines,
                    FUNCTION_LINES_MAX,
                );
            }
        }
    }
    let unneeded = allowed
        .keys()
        .map(|what| format!("tests/tidy-allow.txt: `{what}` is not needed"));
    found.extend(unneeded);
    found
}
