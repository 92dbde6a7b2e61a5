//! Compares and operations from words.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt;

use clap::Parser;
use raftctl::client::Relation;
use raftctl::failure::Failure;

use super::plan::{Expected, Plan, Step, Target, Test};
use super::words;
use crate::cmd::bounds::Bounds;
use crate::cmd::cas;
use crate::encoding::Codec;
use crate::encoding::Encoding;
use crate::input;

/// An operation, as its words say it.
#[derive(Debug, Parser)]
#[command(name = "operation", no_binary_name = true)]
#[command(disable_help_flag = true, disable_help_subcommand = true)]
enum Said {
    Put {
        #[arg(allow_negative_numbers = true)]
        key: OsString,
        #[arg(allow_negative_numbers = true)]
        value: OsString,
    },
    Get {
        #[arg(allow_negative_numbers = true)]
        key: OsString,
    },
    Del {
        #[arg(allow_negative_numbers = true)]
        #[arg(required_unless_present_any = ["prefix", "from", "to"])]
        #[arg(conflicts_with_all = ["prefix", "from", "to", "expect"])]
        key: Option<OsString>,
        #[command(flatten)]
        bounds: Bounds,
    },
    Cas {
        #[arg(allow_negative_numbers = true)]
        key: OsString,
        #[command(flatten)]
        expected: cas::Expected,
        #[arg(allow_negative_numbers = true)]
        new: OsString,
    },
    Incr {
        #[arg(allow_negative_numbers = true)]
        key: OsString,
        #[arg(default_value_t = 1, allow_negative_numbers = true)]
        by: i64,
    },
    Append {
        #[arg(allow_negative_numbers = true)]
        key: OsString,
        #[arg(allow_negative_numbers = true)]
        value: OsString,
    },
}

/// Where a line belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Part {
    If,
    Then,
    Else,
}

impl Part {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::If => "if",
            Self::Then => "then",
            Self::Else => "else",
        }
    }
}

/// Adds what `text` says to a part of the plan. `place` names it in errors.
pub(super) fn add(
    plan: &mut Plan,
    part: Part,
    text: &[u8],
    codec: Codec,
    place: &str,
) -> Result<(), Failure> {
    let failed = |why: String| {
        let what = format!("{} {}: {why}", part.name(), String::from_utf8_lossy(text));
        let example = match part {
            Part::If => "version(key)=5, value(key)!=\"some text\", exists(key), absent(key)",
            Part::Then | Part::Else => {
                "put key value, put -- -key -value, get key, del key, incr key 2, append key x"
            }
        };
        Failure::usage(what).at(place).remedy(example)
    };
    match part {
        Part::If => plan.compares.push(test(text, codec).map_err(failed)?),
        Part::Then => plan.then.push(step(text, codec).map_err(failed)?),
        Part::Else => plan.or_else.push(step(text, codec).map_err(failed)?),
    }
    Ok(())
}

/// Adds lines, each with its part in front; empty ones and those that begin with `#` say nothing.
pub(super) fn add_lines(plan: &mut Plan, text: &[u8], codec: Codec) -> Result<(), Failure> {
    for (number, line) in (1..).zip(text.split(|byte| *byte == b'\n')) {
        let line = line.trim_ascii();
        if line.is_empty() || line.starts_with(b"#") {
            continue;
        }
        let end = line.iter().position(u8::is_ascii_whitespace);
        let (word, rest) = line.split_at(end.unwrap_or(line.len()));
        let parts = [Part::If, Part::Then, Part::Else];
        let part = parts.iter().find(|part| part.name().as_bytes() == word);
        let place = format!("line {number}");
        let Some(part) = part else {
            let what = "a line begins with if, then or else";
            return Err(Failure::usage(what).at(place).remedy("then put key value"));
        };
        add(plan, *part, rest.trim_ascii_start(), codec, &place)?;
    }
    Ok(())
}

/// `NAME(KEY)`, and a relation with what is given, except for `exists` and `absent`.
fn test(text: &[u8], codec: Codec) -> Result<Test, String> {
    let mut rest = text.trim_ascii();
    let name = words::take(&mut rest, |byte| byte == b'(')?;
    rest = rest
        .strip_prefix(b"(")
        .ok_or("a key in parentheses is missing")?;
    let key = words::take(&mut rest, |byte| byte == b')')?;
    rest = rest
        .strip_prefix(b")")
        .ok_or("the parenthesis is not closed")?;
    let key = full(decode(key, codec.key.key_encode)?)?;
    let target = target(&name, rest, codec)?;
    Ok(Test { key, target })
}

/// What is compared, and the rest of the test, behind its key.
fn target(name: &[u8], rest: &[u8], codec: Codec) -> Result<Target, String> {
    let alone = |target| match rest.trim_ascii() {
        b"" => Ok(target),
        _ => Err("nothing is compared with that".to_owned()),
    };
    let numbered: fn(Relation, u64) -> Target = match name {
        b"exists" => return alone(Target::Exists),
        b"absent" => return alone(Target::Absent),
        b"value" => {
            let (relation, given) = related(rest)?;
            return Ok(Target::Value(relation, decode(given, codec.encode)?));
        }
        b"revision" => Target::Revision,
        b"create_revision" => Target::CreateRevision,
        b"version" => Target::Version,
        _ => {
            let known = "one of value, revision, create_revision, version, exists, absent";
            return Err(format!("what is compared is {known}"));
        }
    };
    let (relation, given) = related(rest)?;
    let digits = str::from_utf8(&given)
        .ok()
        .filter(|text| !text.starts_with('+'));
    let number = digits.and_then(|text| text.parse().ok());
    let number = number.ok_or("it is compared with a number")?;
    Ok(numbered(relation, number))
}

/// A relation, and what with.
fn related(text: &[u8]) -> Result<(Relation, Vec<u8>), String> {
    let text = text.trim_ascii_start();
    let known: [(&[u8], Relation); 5] = [
        (b"!=", Relation::NotEqual),
        (b"==", Relation::Equal),
        (b"=", Relation::Equal),
        (b"<", Relation::Less),
        (b">", Relation::Greater),
    ];
    let found = known
        .iter()
        .find_map(|(sign, relation)| Some((text.strip_prefix(*sign)?, *relation)));
    let (rest, relation) = found.ok_or("a relation is one of = != < >")?;
    match words::split(rest)?.as_slice() {
        [given] => Ok((relation, given.clone())),
        [] => Err("what to compare with is missing".to_owned()),
        _ => Err("what to compare with needs quotes, as it has blanks".to_owned()),
    }
}

fn step(text: &[u8], codec: Codec) -> Result<Step, String> {
    let words = words::split(text)?;
    if words.is_empty() {
        return Err("an operation is missing".to_owned());
    }
    let said = Said::try_parse_from(words.into_iter().map(OsString::from_vec));
    let said = said.map_err(|error| first_line(&error))?;
    let key = |text: &OsString| {
        let key = input::key(text, codec.key.key_encode).map_err(|failure| failure.what)?;
        full(key)
    };
    let value = |text: &OsString| {
        if text == "-" {
            return Err("a value of a txn is not read from standard input".to_owned());
        }
        input::value(text, codec.encode).map_err(|failure| failure.what)
    };
    Ok(match &said {
        Said::Put { key: k, value: v } => Step::Put(key(k)?, value(v)?),
        Said::Get { key: k } => Step::Get(key(k)?),
        Said::Del { key: Some(k), .. } => Step::Delete(key(k)?),
        Said::Del { key: None, bounds } => {
            let range = bounds.range(codec.key.key_encode);
            let range = range.map_err(|failure| failure.what)?;
            let range = range.ok_or("which keys?")?;
            Step::DeleteRange {
                from: range.from,
                to: range.to,
                expect: bounds.expect,
            }
        }
        Said::Cas {
            key: k,
            expected,
            new,
        } => {
            let expected = match (&expected.expect, expected.expect_revision) {
                (Some(text), _) => Expected::Value(value(text)?),
                (None, Some(revision)) => Expected::Revision(revision),
                (None, None) => Expected::Absent,
            };
            Step::Swap(key(k)?, expected, value(new)?)
        }
        Said::Incr { key: k, by } => Step::Increment(key(k)?, *by),
        Said::Append { key: k, value: v } => Step::Append(key(k)?, value(v)?),
    })
}

/// What clap has to say, in one line.
fn first_line(error: &clap::Error) -> String {
    let text = error.render().to_string();
    let text = text.split("\n\n").next().unwrap_or_default();
    let text = text.strip_prefix("error: ").unwrap_or(text);
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn decode(bytes: Vec<u8>, encoding: Option<Encoding>) -> Result<Vec<u8>, String> {
    match encoding {
        Some(encoding) => encoding.decode(&bytes),
        None => Ok(bytes),
    }
}

fn full(key: Vec<u8>) -> Result<Vec<u8>, String> {
    if key.is_empty() {
        return Err("a key has at least one byte".to_owned());
    }
    Ok(key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::KeyCodec;

    const PLAIN: Codec = Codec {
        encode: None,
        key: KeyCodec { key_encode: None },
    };

    fn read(lines: &str) -> Result<Plan, Failure> {
        let mut plan = Plan::default();
        add_lines(&mut plan, lines.as_bytes(), PLAIN).map(|()| plan)
    }

    #[test]
    fn lines_say_what_to_compare_and_what_to_do() {
        let lines = "# a comment\n\n if value(a) = \"x y\"\nif version('b c')!=5\nif exists(d)\n\
                     then put a 'a value'\nthen del --prefix p --expect 3\nthen incr n -2\n\
                     then cas a --expect-revision 7 z\nelse get a\n else append a -1\n";
        let test = |key: &[u8], target| Test {
            key: key.to_vec(),
            target,
        };
        let plan = Plan {
            compares: vec![
                test(b"a", Target::Value(Relation::Equal, b"x y".to_vec())),
                test(b"b c", Target::Version(Relation::NotEqual, 5)),
                test(b"d", Target::Exists),
            ],
            then: vec![
                Step::Put(b"a".to_vec(), b"a value".to_vec()),
                Step::DeleteRange {
                    from: b"p".to_vec(),
                    to: Some(b"q".to_vec()),
                    expect: Some(3),
                },
                Step::Increment(b"n".to_vec(), -2),
                Step::Swap(b"a".to_vec(), Expected::Revision(7), b"z".to_vec()),
            ],
            or_else: vec![
                Step::Get(b"a".to_vec()),
                Step::Append(b"a".to_vec(), b"-1".to_vec()),
            ],
        };
        assert_eq!(read(lines), Ok(plan));
    }

    #[test]
    fn every_relation_and_target_is_known() {
        for (text, target) in [
            ("revision(k)<1", Target::Revision(Relation::Less, 1)),
            (
                "create_revision(k) > 2",
                Target::CreateRevision(Relation::Greater, 2),
            ),
            ("version(k)==3", Target::Version(Relation::Equal, 3)),
            (
                "value(k)!=''",
                Target::Value(Relation::NotEqual, Vec::new()),
            ),
            ("absent(k)", Target::Absent),
        ] {
            let key = b"k".to_vec();
            assert_eq!(test(text.as_bytes(), PLAIN), Ok(Test { key, target }));
        }
    }

    #[test]
    fn what_is_compared_is_looked_at_before_what_with() {
        for line in ["if size(a)", "if size(a)=1", "if exist(a)"] {
            let failure = read(line).expect_err(line);
            assert!(failure.what.contains("one of value,"), "{failure}");
        }
    }

    #[test]
    fn what_cannot_be_meant_names_its_line_and_shows_how_it_is_said() {
        for line in [
            "get a",
            "if",
            "if version",
            "if version(a",
            "if version(a)",
            "if version(a)=",
            "if version(a)~1",
            "if version(a)=+1",
            "if version(a)=x",
            "if value(a)=x y",
            "if exists(a)=1",
            "if size(a)=1",
            "if version()=1",
            "then",
            "then put a",
            "then put a b c",
            "then put '' b",
            "then put a -",
            "then put a -x",
            "then fetch a",
            "then del",
            "then del a --prefix b",
            "then cas a b",
            "then cas a --expect 1 --expect-absent b",
            "then incr a x",
            "then help",
        ] {
            let failure = read(&format!("\n{line}\n")).expect_err(line);
            assert_eq!(failure.place, "line 2", "{line}: {failure}");
            assert!(!failure.remedy.is_empty(), "{line}");
            assert!(
                !failure.what.contains("as its words say it"),
                "{line}: {failure}"
            );
            assert!(!failure.to_string().contains('\r'), "{line}");
        }
    }
}
