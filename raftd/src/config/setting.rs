//! What a setting is: its names, its type and bounds, and where its value goes.

use std::time::Duration;

use super::Settings;
use crate::value;

/// One thing that can be set.
#[derive(Debug)]
pub struct Setting {
    /// `section.key`.
    pub key: &'static str,
    /// Its flag, without `--`, if it has one of its own; `--set` reaches all.
    pub flag: Option<&'static str>,
    /// What holds if nobody sets it, written as a user would; empty: nothing does.
    pub default: &'static str,
    /// What stands for the value in help texts.
    pub placeholder: &'static str,
    /// What it does. Sentences; the first one is the flag's help.
    pub doc: &'static str,
    /// Its type and bounds, and where the value goes.
    pub kind: Kind,
}

/// The type of a setting's value.
#[derive(Debug)]
pub enum Kind {
    /// Text with a form of its own.
    Text {
        /// Checks and stores.
        set: fn(&mut Settings, &str) -> Result<(), String>,
    },
    /// A number.
    Number {
        /// The lowest.
        min: u64,
        /// The highest.
        max: u64,
        /// Stores.
        set: fn(&mut Settings, u64),
    },
    /// A size in bytes.
    Size {
        /// The lowest.
        min: u64,
        /// The highest.
        max: u64,
        /// Stores.
        set: fn(&mut Settings, u64),
    },
    /// A time.
    Time {
        /// The lowest.
        min: Duration,
        /// The highest.
        max: Duration,
        /// Stores.
        set: fn(&mut Settings, Duration),
    },
    /// One of a few words.
    Choice {
        /// The words.
        of: &'static [&'static str],
        /// Stores.
        set: fn(&mut Settings, &str),
    },
}

impl Setting {
    /// Its environment variable: after the flag if it has one, else after the key.
    #[must_use]
    pub fn env(&self) -> String {
        let name = self.flag.unwrap_or(self.key);
        format!(
            "RAFTD_{}",
            name.replace(['-', '.'], "_").to_ascii_uppercase()
        )
    }

    /// Checks a value and stores it.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn set(&self, settings: &mut Settings, text: &str) -> Result<(), String> {
        match &self.kind {
            Kind::Text { set } => return set(settings, text),
            Kind::Number { min, max, set } => {
                set(
                    settings,
                    within(value::number(text)?, *min, *max, |n| n.to_string())?,
                );
            }
            Kind::Size { min, max, set } => {
                set(
                    settings,
                    within(value::size(text)?, *min, *max, value::size_text)?,
                );
            }
            Kind::Time { min, max, set } => {
                let show = |time| humantime::format_duration(time).to_string();
                set(settings, within(value::time(text)?, *min, *max, show)?);
            }
            Kind::Choice { of, set } => {
                if !of.contains(&text) {
                    return Err(format!("not one of {}", of.join(", ")));
                }
                set(settings, text);
            }
        }
        Ok(())
    }

    /// Its type and bounds in words.
    #[must_use]
    pub fn type_text(&self) -> String {
        match &self.kind {
            Kind::Text { .. } => format!("text, {}", self.placeholder),
            Kind::Number { min, max, .. } => format!("number, {min} to {max}"),
            Kind::Size { min, max, .. } => format!(
                "size, {} to {}",
                value::size_text(*min),
                value::size_text(*max)
            ),
            Kind::Time { min, max, .. } => format!(
                "time, {} to {}",
                humantime::format_duration(*min),
                humantime::format_duration(*max)
            ),
            Kind::Choice { of, .. } => format!("one of {}", of.join(", ")),
        }
    }
}

fn within<T: PartialOrd + Copy>(
    given: T,
    min: T,
    max: T,
    show: impl Fn(T) -> String,
) -> Result<T, String> {
    if given < min {
        return Err(format!("the least is {}", show(min)));
    }
    if given > max {
        return Err(format!("the most is {}", show(max)));
    }
    Ok(given)
}
