//! A txn as one JSON object.

use std::fmt;
use std::marker::PhantomData;

use raftctl::client::Relation;
use raftctl::failure::Failure;
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

use super::parse::{self, Part};
use super::plan::{Expected, Plan, Step, Target, Test};
use crate::cmd::bounds;
use crate::encoding::Codec;
use crate::encoding::Encoding;

/// The object.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Told {
    #[serde(default, rename = "if")]
    compares: Vec<Element<TestFields>>,
    #[serde(default)]
    then: Vec<Element<StepFields>>,
    #[serde(default, rename = "else")]
    or_else: Vec<Element<StepFields>>,
}

/// An element of a list.
#[derive(Debug)]
enum Element<F> {
    Words(String),
    Fields(Box<F>),
}

/// Not derived as an enum without tags: that would not tell what is wrong with an object.
impl<'de, F: Deserialize<'de>> Deserialize<'de> for Element<F> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(ElementVisitor(PhantomData))
    }
}

struct ElementVisitor<F>(PhantomData<F>);

impl<'de, F: Deserialize<'de>> Visitor<'de> for ElementVisitor<F> {
    type Value = Element<F>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("words or an object")
    }

    fn visit_str<E>(self, words: &str) -> Result<Element<F>, E> {
        Ok(Element::Words(words.to_owned()))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Element<F>, A::Error> {
        let fields = F::deserialize(MapAccessDeserializer::new(map))?;
        Ok(Element::Fields(Box::new(fields)))
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TestFields {
    key: Option<String>,
    key_b64: Option<String>,
    /// What is compared: `value`, `version`, ...
    target: String,
    /// The relation; `=` if there is none.
    #[serde(default)]
    relation: Option<String>,
    /// A number, or a value that is text.
    #[serde(default)]
    value: Option<serde_json::Value>,
    value_b64: Option<String>,
}

/// The fields of all operations: which one knows which is said where they are read.
#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct StepFields {
    op: String,
    key: Option<String>,
    key_b64: Option<String>,
    value: Option<String>,
    value_b64: Option<String>,
    prefix: Option<String>,
    prefix_b64: Option<String>,
    from: Option<String>,
    from_b64: Option<String>,
    to: Option<String>,
    to_b64: Option<String>,
    expect: Option<serde_json::Value>,
    expect_b64: Option<String>,
    expect_absent: Option<bool>,
    expect_revision: Option<u64>,
    by: Option<i64>,
}

/// Reads the object.
pub(super) fn read(text: &[u8], codec: Codec) -> Result<Plan, Failure> {
    let told: Told = serde_json::from_slice(text).map_err(|error| {
        Failure::usage(format!("the JSON cannot be understood: {error}"))
            .remedy(r#"{"if":["version(a)=5"],"then":[{"op":"put","key":"a","value":"1"}]}"#)
    })?;
    let mut plan = Plan::default();
    for (number, told) in (1..).zip(told.compares) {
        let place = format!("if, element {number}");
        match told {
            Element::Words(text) => {
                parse::add(&mut plan, Part::If, text.as_bytes(), codec, &place)?;
            }
            Element::Fields(fields) => {
                let test = fields.test().map_err(|why| Failure::usage(why).at(place))?;
                plan.compares.push(test);
            }
        }
    }
    for (part, branch) in [(Part::Then, told.then), (Part::Else, told.or_else)] {
        for (number, told) in (1..).zip(branch) {
            let place = format!("{}, element {number}", part.name());
            match told {
                Element::Words(text) => {
                    parse::add(&mut plan, part, text.as_bytes(), codec, &place)?;
                }
                Element::Fields(fields) => {
                    let step = fields.step().map_err(|why| Failure::usage(why).at(place))?;
                    let steps = match part {
                        Part::Then => &mut plan.then,
                        Part::If | Part::Else => &mut plan.or_else,
                    };
                    steps.push(step);
                }
            }
        }
    }
    Ok(plan)
}

/// A datum, as text or in base64.
fn datum(
    name: &str,
    text: Option<String>,
    base64: Option<String>,
) -> Result<Option<Vec<u8>>, String> {
    match (text, base64) {
        (Some(_), Some(_)) => Err(format!("{name} and {name}_b64 are both there")),
        (Some(text), None) => Ok(Some(text.into_bytes())),
        (None, Some(text)) => {
            let bytes = Encoding::Base64.decode(text.as_bytes());
            bytes.map(Some).map_err(|why| format!("{name}_b64: {why}"))
        }
        (None, None) => Ok(None),
    }
}

fn there<T>(name: &str, datum: Option<T>) -> Result<T, String> {
    datum.ok_or_else(|| format!("{name} is missing"))
}

fn key(text: Option<String>, base64: Option<String>) -> Result<Vec<u8>, String> {
    let key = there("key", datum("key", text, base64)?)?;
    if key.is_empty() {
        return Err("a key has at least one byte".to_owned());
    }
    Ok(key)
}

impl TestFields {
    fn test(self) -> Result<Test, String> {
        let key = key(self.key, self.key_b64)?;
        let compares = self.value.is_some() || self.value_b64.is_some() || self.relation.is_some();
        if matches!(self.target.as_str(), "exists" | "absent") {
            if compares {
                return Err("nothing is compared with that".to_owned());
            }
            let target = match self.target.as_str() {
                "exists" => Target::Exists,
                _ => Target::Absent,
            };
            return Ok(Test { key, target });
        }
        let relation = match self.relation.as_deref() {
            None | Some("=") => Relation::Equal,
            Some("!=") => Relation::NotEqual,
            Some("<") => Relation::Less,
            Some(">") => Relation::Greater,
            Some(_) => return Err("a relation is one of = != < >".to_owned()),
        };
        if self.target == "value" {
            let text = match self.value {
                Some(serde_json::Value::String(text)) => Some(text),
                Some(_) => return Err("a value is text".to_owned()),
                None => None,
            };
            let value = there("value", datum("value", text, self.value_b64)?)?;
            let target = Target::Value(relation, value);
            return Ok(Test { key, target });
        }
        let number = self.value.as_ref().and_then(serde_json::Value::as_u64);
        let number = there("a number as value", number)?;
        let target = match self.target.as_str() {
            "revision" => Target::Revision(relation, number),
            "create_revision" => Target::CreateRevision(relation, number),
            "version" => Target::Version(relation, number),
            _ => {
                let known = "one of value, revision, create_revision, version, exists, absent";
                return Err(format!("a target is {known}"));
            }
        };
        Ok(Test { key, target })
    }
}

impl StepFields {
    fn step(mut self) -> Result<Step, String> {
        let step = match std::mem::take(&mut self.op).as_str() {
            "put" => Step::Put(self.key()?, self.value()?),
            "get" => Step::Get(self.key()?),
            "del" => self.delete()?,
            "cas" => Step::Swap(self.key()?, self.expected()?, self.value()?),
            "incr" => Step::Increment(self.key()?, self.by.take().unwrap_or(1)),
            "append" => Step::Append(self.key()?, self.value()?),
            _ => return Err("op is one of put, get, del, cas, incr, append".to_owned()),
        };
        if self.is_left() {
            return Err(format!("{} does not know all of these fields", step.name()));
        }
        Ok(step)
    }

    fn key(&mut self) -> Result<Vec<u8>, String> {
        key(self.key.take(), self.key_b64.take())
    }

    fn value(&mut self) -> Result<Vec<u8>, String> {
        let value = datum("value", self.value.take(), self.value_b64.take())?;
        there("value", value)
    }

    fn delete(&mut self) -> Result<Step, String> {
        if self.key.is_some() || self.key_b64.is_some() {
            return Ok(Step::Delete(self.key()?));
        }
        let prefix = datum("prefix", self.prefix.take(), self.prefix_b64.take())?;
        let from = datum("from", self.from.take(), self.from_b64.take())?;
        let to = datum("to", self.to.take(), self.to_b64.take())?;
        if prefix.is_none() && from.is_none() && to.is_none() {
            return Err("key, prefix, from or to is missing".to_owned());
        }
        let range = bounds::range(prefix, from, to).map_err(|failure| failure.what)?;
        let expect = match self.expect.take() {
            Some(expect) => Some(there("a number as expect", expect.as_u64())?),
            None => None,
        };
        Ok(Step::DeleteRange {
            from: range.from,
            to: range.to,
            expect,
        })
    }

    fn expected(&mut self) -> Result<Expected, String> {
        let text = match self.expect.take() {
            Some(serde_json::Value::String(text)) => Some(text),
            Some(_) => return Err("expect is text".to_owned()),
            None => None,
        };
        let value = datum("expect", text, self.expect_b64.take())?.map(Expected::Value);
        let absent = self.expect_absent.take().unwrap_or(false);
        let absent = absent.then_some(Expected::Absent);
        let revision = self.expect_revision.take().map(Expected::Revision);
        let mut given = [value, absent, revision].into_iter().flatten();
        match (given.next(), given.next()) {
            (Some(expected), None) => Ok(expected),
            _ => Err("one of expect, expect_absent, expect_revision is needed".to_owned()),
        }
    }

    /// Whether a field was given that nobody took.
    fn is_left(&self) -> bool {
        let texts = [
            &self.key,
            &self.key_b64,
            &self.value,
            &self.value_b64,
            &self.prefix,
            &self.prefix_b64,
            &self.from,
            &self.from_b64,
            &self.to,
            &self.to_b64,
            &self.expect_b64,
        ];
        texts.into_iter().any(Option::is_some)
            || self.expect.is_some()
            || self.expect_absent.is_some()
            || self.expect_revision.is_some()
            || self.by.is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::KeyCodec;

    fn told(text: &str) -> Result<Plan, Failure> {
        let key = KeyCodec { key_encode: None };
        let codec = Codec { encode: None, key };
        read(text.as_bytes(), codec)
    }

    #[test]
    fn words_and_fields_say_the_same() {
        let words = told(
            r#"{"if":["version(a)=5","value(b)!=x","exists(c)"],
                "then":["put a 1","del b","del --prefix p --expect 2","cas c --expect 1 2"],
                "else":["get a","incr n","incr n -2","append a x"]}"#,
        );
        let fields = told(
            r#"{"if":[{"key":"a","target":"version","value":5},
                      {"key_b64":"Yg==","target":"value","relation":"!=","value":"x"},
                      {"key":"c","target":"exists"}],
                "then":[{"op":"put","key":"a","value":"1"},{"op":"del","key":"b"},
                        {"op":"del","prefix":"p","expect":2},
                        {"op":"cas","key":"c","expect":"1","value_b64":"Mg=="}],
                "else":[{"op":"get","key":"a"},{"op":"incr","key":"n"},
                        {"op":"incr","key":"n","by":-2},{"op":"append","key":"a","value":"x"}]}"#,
        );
        assert_eq!(words, fields);
        assert_eq!(words.map(|plan| plan.or_else.len()), Ok(4));
        assert_eq!(told("{}"), Ok(Plan::default()));
    }

    #[test]
    fn every_field_says_what_its_word_says() {
        for (part, word, fields) in [
            (
                "if",
                "revision(a)<5",
                r#"{"key":"a","target":"revision","relation":"<","value":5}"#,
            ),
            (
                "if",
                "create_revision(a)>5",
                r#"{"key":"a","target":"create_revision","relation":">","value":5}"#,
            ),
            (
                "if",
                "version(a)=5",
                r#"{"key":"a","target":"version","relation":"=","value":5}"#,
            ),
            ("if", "absent(a)", r#"{"key":"a","target":"absent"}"#),
            (
                "then",
                "cas a --expect-revision 7 b",
                r#"{"op":"cas","key":"a","expect_revision":7,"value":"b"}"#,
            ),
            (
                "then",
                "cas a --expect-absent b",
                r#"{"op":"cas","key":"a","expect_absent":true,"value":"b"}"#,
            ),
            ("then", "del a", r#"{"op":"del","key_b64":"YQ=="}"#),
            (
                "then",
                "del --from b --to c",
                r#"{"op":"del","from":"b","to":"c"}"#,
            ),
        ] {
            let said = told(&format!(r#"{{"{part}":["{word}"]}}"#)).expect(word);
            let fields = told(&format!(r#"{{"{part}":[{fields}]}}"#)).expect(word);
            assert_eq!(said, fields);
        }
    }

    #[test]
    fn what_cannot_be_meant_is_refused() {
        for text in [
            "",
            r#"{"iff":[]}"#,
            r#"{"if":[{"key":"a","target":"version"}]}"#,
            r#"{"if":[{"key":"a","target":"version","value":-1}]}"#,
            r#"{"if":[{"key":"a","target":"value","value":1}]}"#,
            r#"{"if":[{"key":"a","target":"exists","value":1}]}"#,
            r#"{"if":[{"key":"a","key_b64":"YQ==","target":"exists"}]}"#,
            r#"{"then":[{"op":"put","key":"a"}]}"#,
            r#"{"then":[{"op":"put","key":"","value":""}]}"#,
            r#"{"then":[{"op":"put","key":"a","value":"b","by":1}]}"#,
            r#"{"then":[{"op":"get","key":"a","value":"b"}]}"#,
            r#"{"then":[{"op":"del"}]}"#,
            r#"{"then":[{"op":"del","key":"a","prefix":"b"}]}"#,
            r#"{"then":[{"op":"cas","key":"a","value":"b"}]}"#,
            r#"{"then":[{"op":"cas","key":"a","value":"b","expect":"c","expect_absent":true}]}"#,
            r#"{"then":[{"op":"cas","key":"a","value":"b","expect":1,"expect_absent":true}]}"#,
            r#"{"then":[{"op":"del","prefix":"a","expect":"1"}]}"#,
            r#"{"then":[{"op":"del","key":"a","expect":1}]}"#,
            r#"{"then":[{"op":"put","key":"a","value":"b","expect_absent":true}]}"#,
            r#"{"then":[{"op":"put","key":"a","value":"b","expect_revision":1}]}"#,
            r#"{"then":[{"op":"fetch","key":"a"}]}"#,
            r#"{"then":["get"]}"#,
        ] {
            assert!(told(text).is_err(), "{text}");
        }
    }
}
