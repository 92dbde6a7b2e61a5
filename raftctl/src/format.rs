//! The formats of data: one list for every verb, checked before anything is sent.

use clap::ValueEnum;
use raftctl::failure::Failure;

use self::Format::{Csv, Env, Frame, Jsonl, Nul, Table, Tsv};

/// How data is written, and how the bulk verbs read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// Aligned columns: the default on a terminal
    Table,
    /// Lines of escaped fields with TABs between: the default in a pipe
    Tsv,
    /// One JSON object per line: the same as --json
    Jsonl,
    /// Exact bytes, each field with a NUL behind it: the same as -0
    Nul,
    /// Binary blocks of keys and values, with checksums
    Frame,
    /// Comma-separated values under a header
    Csv,
    /// NAME='VALUE', for eval in a shell
    Env,
}

impl Format {
    /// As it is said on the command line.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Table => "table",
            Tsv => "tsv",
            Jsonl => "jsonl",
            Nul => "nul",
            Frame => "frame",
            Csv => "csv",
            Env => "env",
        }
    }

    /// Whether fields can be chosen in it.
    fn has_fields(self) -> bool {
        !matches!(self, Jsonl | Frame | Env)
    }

    /// Whether it can hold keys without values.
    pub(crate) fn has_lone_keys(self) -> bool {
        !matches!(self, Frame | Env)
    }

    /// Whether its bytes are for programs alone.
    pub(crate) fn is_binary(self) -> bool {
        matches!(self, Nul | Frame)
    }
}

/// How standard output is written: the same options for every verb.
#[derive(Clone, Debug, Default, clap::Args)]
pub(crate) struct Style {
    /// How data is written; what load reads.
    #[arg(short = 'o', long, global = true, value_enum, value_name = "FORMAT")]
    #[arg(conflicts_with_all = ["json", "null"], help_heading = OUTPUT)]
    format: Option<Format>,
    /// Print one JSON object per line, and errors as JSON too.
    #[arg(long, global = true, help_heading = OUTPUT)]
    json: bool,
    /// End each field with a NUL byte.
    #[arg(short = '0', long, global = true, conflicts_with = "json", help_heading = OUTPUT)]
    null: bool,
    /// Print these fields, in this order.
    #[arg(
        long = "field",
        global = true,
        value_name = "NAME,..",
        value_delimiter = ','
    )]
    #[arg(help_heading = OUTPUT)]
    pub(crate) fields: Vec<String>,
    /// Print values alone: no keys, no header, no columns.
    #[arg(long = "value", global = true, help_heading = OUTPUT)]
    pub(crate) bare: bool,
    /// Print a header, also in a pipe.
    #[arg(long, global = true, conflicts_with = "no_header", help_heading = OUTPUT)]
    header: bool,
    /// Print no header.
    #[arg(long, global = true, help_heading = OUTPUT)]
    no_header: bool,
    /// Colour on a terminal: auto if nothing is said.
    #[arg(long, global = true, value_enum, value_name = "WHEN", help_heading = OUTPUT)]
    color: Option<Color>,
    /// Never show long output with a pager.
    #[arg(long, global = true, help_heading = OUTPUT)]
    pub(crate) no_pager: bool,
    /// Never show how far long work has come.
    #[arg(long, global = true, help_heading = OUTPUT)]
    pub(crate) no_progress: bool,
    /// What the configuration says instead of what is usual; it is never refused.
    #[arg(skip)]
    usual: Usual,
}

/// What is usual for a person or a machine.
#[derive(Clone, Copy, Debug, Default)]
struct Usual {
    format: Option<Format>,
    color: Color,
}

/// Over the options of [`Style`] in a help.
const OUTPUT: &str = "Output";

/// When to write colours.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Color {
    /// On a terminal, as NO_COLOR and CLICOLOR_FORCE allow
    #[default]
    Auto,
    /// Also in a pipe
    Always,
    /// Never
    Never,
}

impl Style {
    /// What was asked for by name.
    pub(crate) fn format(&self) -> Option<Format> {
        match (self.json, self.null) {
            (true, _) => Some(Jsonl),
            (_, true) => Some(Nul),
            _ => self.format,
        }
    }

    /// What is usual where nothing else was asked for, if fields can be chosen in it that were.
    pub(crate) fn usual_format(&self) -> Option<Format> {
        let fits = |format: &Format| format.has_fields() || !self.has_chosen();
        self.usual.format.filter(fits)
    }

    /// Whether some fields were chosen.
    fn has_chosen(&self) -> bool {
        !self.fields.is_empty() || self.bare
    }

    /// When to write colours.
    pub(crate) fn color(&self) -> Color {
        self.color.unwrap_or(self.usual.color)
    }

    /// What was asked for by flags, as settings have it.
    pub(crate) fn said(&self) -> [(&'static str, Option<String>); 2] {
        let color = self.color.and_then(|color| color.to_possible_value());
        [
            (
                "format",
                self.format().map(|format| format.name().to_owned()),
            ),
            ("color", color.map(|color| color.get_name().to_owned())),
        ]
    }

    /// Takes what the configuration says, as far as a verb can do it. Verbs that know no table move
    /// data for programs: what they read and write is said on their own line.
    pub(crate) fn set_usual(&mut self, format: &str, color: &str, ability: Ability) {
        let format = Format::from_str(format, true).ok();
        let for_people = ability.formats.contains(&Table);
        self.usual.format = format.filter(|it| for_people && ability.formats.contains(it));
        self.usual.color = Color::from_str(color, true).unwrap_or_default();
    }

    /// Whether a header was asked for, or asked away.
    pub(crate) fn header(&self) -> Option<bool> {
        (self.header || self.no_header).then_some(self.header)
    }

    /// Refuses what a verb that knows these formats and fields cannot do.
    pub(crate) fn check(&self, ability: Ability) -> Result<(), Failure> {
        let known = ability.formats;
        if let Some(format) = self.format()
            && !known.contains(&format)
        {
            let names: Vec<_> = known.iter().map(|format| format.name()).collect();
            let what = format!("this verb does not know the format {}", format.name());
            return Err(Failure::usage(what).remedy(format!("one of {}", names.join(", "))));
        }
        let chosen = self.has_chosen();
        if chosen && ability.fields.is_empty() {
            let what = "--field and --value are for verbs that print several fields";
            return Err(Failure::usage(what));
        }
        if let Some(format) = self.format()
            && chosen
            && !format.has_fields()
        {
            let what = format!("the fields of {} cannot be chosen", format.name());
            return Err(Failure::usage(what).remedy("--format tsv, csv, nul or table"));
        }
        self.chosen(ability.fields).map(|_| ())
    }

    /// Which of a verb's fields are printed, in which order.
    pub(crate) fn chosen(&self, known: &[&str]) -> Result<Vec<usize>, Failure> {
        if self.fields.is_empty() {
            return Ok((0..known.len()).collect());
        }
        let place = |name: &String| {
            known.iter().position(|known| known == name).ok_or_else(|| {
                let what = format!("there is no field {name}");
                Failure::usage(what).remedy(format!("one of {}", known.join(", ")))
            })
        };
        self.fields.iter().map(place).collect()
    }
}

/// What a verb can print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ability {
    pub(crate) formats: &'static [Format],
    /// The names of what `--field` chooses from; none where there is nothing to choose.
    pub(crate) fields: &'static [&'static str],
}

/// Of verbs that print one datum or one line.
pub(crate) const LINES: Ability = Ability {
    formats: &[Table, Tsv, Jsonl],
    fields: &[],
};

/// Of verbs that move whole ranges in and out: what one writes the other reads.
pub(crate) const BULK: Ability = Ability {
    formats: &[Tsv, Jsonl, Nul, Frame],
    fields: &[],
};

/// Of verbs that print rows of text.
pub(crate) const fn rows(fields: &'static [&'static str]) -> Ability {
    Ability {
        formats: &[Table, Tsv, Jsonl, Nul, Csv],
        fields,
    }
}
