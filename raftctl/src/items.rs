//! Keys and values on standard output, in every format.

use raftctl::client::Item;
use raftctl::failure::Failure;

use crate::encoding::Codec;
use crate::encoding::json::{Datum, Object, Revisions};
use crate::encoding::{Encoding, Encodings, Record, csv, env, frame, nul, screen, tsv};
use crate::format::{Ability, Format};
use crate::output::Out;

/// Of verbs that print keys with values.
pub(crate) const ABILITY: Ability = Ability {
    formats: &[
        Format::Table,
        Format::Tsv,
        Format::Jsonl,
        Format::Nul,
        Format::Frame,
        Format::Csv,
        Format::Env,
    ],
    fields: &[
        "key",
        "value",
        "revision",
        "create_revision",
        "version",
        "bytes",
    ],
};

/// The same fields, in the same order.
const FIELDS: [Field; 6] = [
    Field::Key,
    Field::Value,
    Field::Revision,
    Field::CreateRevision,
    Field::Version,
    Field::Bytes,
];
/// What a table shows if nothing was asked for.
const TABLE: [Field; 5] = [
    Field::Key,
    Field::Revision,
    Field::Version,
    Field::Bytes,
    Field::Value,
];

/// Blanks between two columns.
const GAP: usize = 2;
/// Columns for values where nothing is left for them.
const VALUE_COLUMNS_MIN: usize = 8;
/// Rows that are aligned together, at most.
const TABLE_ROWS_MAX: usize = 1000;

/// What can be printed of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Field {
    Key,
    Value,
    Revision,
    CreateRevision,
    Version,
    Bytes,
}

/// The item as JSON.
pub(crate) fn object<'a>(item: &Item<'a>, keys_only: bool, encodings: Encodings) -> Object<'a> {
    let key = Datum::new(item.key, encodings.key);
    let value = (!keys_only).then(|| Datum::new(item.value, encodings.value));
    let revisions = Revisions {
        revision: item.revision.0,
        create_revision: item.create_revision.0,
        version: item.version,
    };
    Object::new(key, value, Some(revisions))
}

/// Prints items one by one; call [`Printer::finish`] at the end.
///
/// Invariant: `rows` are of a table only, and at most [`TABLE_ROWS_MAX`].
pub(crate) struct Printer {
    format: Format,
    keys_only: bool,
    fields: Vec<Field>,
    encodings: Encodings,
    /// Bytes of each key that the name of a variable leaves out.
    stem_bytes: usize,
    columns: usize,
    /// A header is still to come.
    header: bool,
    rows: Vec<Vec<String>>,
    frame: frame::Encoder,
    buffer: Vec<u8>,
}

impl Printer {
    /// A printer of the format that was asked for. The first `stem_bytes` of the keys are the same, and
    /// of no interest to a shell. Refuses what cannot be, before anything is sent.
    pub(crate) fn new(
        keys_only: bool,
        stem_bytes: usize,
        codec: Codec,
        out: &Out,
    ) -> Result<Self, Failure> {
        let format = out.format_where(|format| !keys_only || format.has_lone_keys());
        out.check_binary(format)?;
        if keys_only && !format.has_lone_keys() {
            let what = format!("{} holds keys with values, not keys alone", format.name());
            return Err(Failure::usage(what).remedy("--format nul"));
        }
        let fields = fields(keys_only, format, out)?;
        if keys_only && fields.contains(&Field::Value) {
            let what = "values are asked for and left out at the same time";
            return Err(Failure::usage(what).remedy("no --keys"));
        }
        let header = match format {
            // One column needs no name.
            Format::Table => out.style().header().unwrap_or(fields.len() > 1),
            format => out.has_header(format),
        };
        Ok(Self {
            format,
            keys_only,
            fields,
            encodings: codec.encodings(),
            stem_bytes,
            columns: out.columns(),
            header,
            rows: Vec::new(),
            frame: frame::Encoder::default(),
            buffer: Vec::new(),
        })
    }

    pub(crate) fn print(&mut self, item: &Item<'_>, out: &mut Out) -> Result<(), Failure> {
        self.buffer.clear();
        let record = Record {
            key: item.key,
            value: item.value,
        };
        match self.format {
            Format::Table => {
                let row = self.fields.iter().map(|field| self.cell(*field, item));
                self.rows.push(row.collect());
                if self.rows.len() == TABLE_ROWS_MAX {
                    self.print_rows(out)?;
                }
                return Ok(());
            }
            Format::Jsonl => object(item, self.keys_only, self.encodings).encode(&mut self.buffer),
            Format::Frame => self.frame.encode(record, &mut self.buffer),
            Format::Env => {
                let key = item.key.get(self.stem_bytes..).unwrap_or_default();
                let record = Record { key, ..record };
                env::encode(record, self.encodings.value, &mut self.buffer)?;
            }
            Format::Tsv | Format::Nul | Format::Csv => {
                self.print_header()?;
                self.print_line(item)?;
            }
        }
        out.text(&self.buffer)
    }

    /// Prints what was gathered, so that columns begin anew, or the end.
    pub(crate) fn finish(mut self, out: &mut Out) -> Result<(), Failure> {
        self.buffer.clear();
        match self.format {
            Format::Table => return self.print_rows(out),
            Format::Frame => self.frame.finish(&mut self.buffer),
            Format::Tsv | Format::Csv | Format::Nul => self.print_header()?,
            Format::Jsonl | Format::Env => {}
        }
        out.text(&self.buffer)
    }

    fn print_header(&mut self) -> Result<(), Failure> {
        if !std::mem::take(&mut self.header) {
            return Ok(());
        }
        let names = self.fields.iter().map(|field| field.name().as_bytes());
        match self.format {
            Format::Csv => csv::line(names, &mut self.buffer),
            Format::Nul => {
                for name in names {
                    nul::field(name, None, &mut self.buffer)?;
                }
            }
            _ => tsv::line(names, &mut self.buffer),
        }
        Ok(())
    }

    /// The chosen fields as one line, or each with a NUL byte behind it.
    fn print_line(&mut self, item: &Item<'_>) -> Result<(), Failure> {
        let out = &mut self.buffer;
        for (number, field) in self.fields.iter().enumerate() {
            let encoding = field.encoding(self.encodings);
            let number_text;
            let bytes = match field {
                Field::Key => item.key,
                Field::Value => item.value,
                field => {
                    number_text = field.number(item).to_string();
                    number_text.as_bytes()
                }
            };
            match (self.format, encoding) {
                (Format::Nul, _) => {
                    nul::field(bytes, encoding, out)?;
                    continue;
                }
                (Format::Csv, _) if number > 0 => out.push(b','),
                _ if number > 0 => out.push(b'\t'),
                _ => {}
            }
            match (self.format, encoding) {
                (Format::Csv, None) => csv::field(bytes, out),
                (_, encoding) => tsv::field(bytes, encoding, out),
            }
        }
        if self.format != Format::Nul {
            out.push(b'\n');
        }
        Ok(())
    }

    fn cell(&self, field: Field, item: &Item<'_>) -> String {
        let show = |bytes: &[u8], encoding: Option<Encoding>| match encoding {
            Some(encoding) => encoding.encode(bytes),
            None => screen::line(bytes),
        };
        match field {
            Field::Key => show(item.key, self.encodings.key),
            Field::Value => {
                // More than is cut off at least is not worth the work; a character has up to four bytes.
                let bytes = (self.columns.max(VALUE_COLUMNS_MIN) + 1) * 4;
                let shown = &item.value[..item.value.len().min(bytes)];
                let dots = if shown.len() < item.value.len() {
                    screen::DOTS
                } else {
                    ""
                };
                show(shown, self.encodings.value) + dots
            }
            field => field.number(item).to_string(),
        }
    }

    /// Prints what was gathered of an output that breaks off: it has no end.
    pub(crate) fn break_off(mut self, out: &mut Out) -> Result<(), Failure> {
        self.buffer.clear();
        self.frame.close(&mut self.buffer);
        out.text(&self.buffer)?;
        self.print_rows(out)
    }

    /// Prints the rows that were gathered: with values cut to what the line leaves for them, and under a
    /// header if they are the first.
    fn print_rows(&mut self, out: &mut Out) -> Result<(), Failure> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let mut rows = std::mem::take(&mut self.rows);
        let header: Vec<_> = self.fields.iter().map(|field| field.title()).collect();
        if let Some(at) = self.fields.iter().position(|field| *field == Field::Value) {
            let width = |column: usize| {
                let fields = rows.iter().map(|row| screen::columns(&row[column]));
                fields.max().unwrap_or(0).max(header[column].len()) + GAP
            };
            let others = (0..header.len()).filter(|column| *column != at);
            let others: usize = others.map(width).sum();
            let value_columns = self.columns.saturating_sub(others).max(VALUE_COLUMNS_MIN);
            for row in &mut rows {
                row[at] = screen::cut(std::mem::take(&mut row[at]), value_columns);
            }
        }
        if header.len() == 1 && !self.header {
            return rows.iter().try_for_each(|row| out.line(&row[0]));
        }
        let right = |at: &usize| !matches!(self.fields[*at], Field::Key | Field::Value);
        let right: Vec<_> = (0..header.len()).filter(right).collect();
        let first = std::mem::take(&mut self.header);
        out.table(if first { &header } else { &[] }, &right, rows)
    }
}

/// What is printed of each item.
fn fields(keys_only: bool, format: Format, out: &Out) -> Result<Vec<Field>, Failure> {
    let style = out.style();
    if !style.fields.is_empty() {
        let chosen = style.chosen(ABILITY.fields)?;
        return Ok(chosen.into_iter().map(|at| FIELDS[at]).collect());
    }
    let usual: &[Field] = match (keys_only, format) {
        _ if style.bare => &[Field::Value],
        (true, _) => &[Field::Key],
        (_, Format::Table) => &TABLE,
        _ => &[Field::Key, Field::Value],
    };
    Ok(usual.to_vec())
}

impl Field {
    fn name(self) -> &'static str {
        let at = FIELDS.iter().position(|field| *field == self);
        ABILITY.fields[at.expect("all fields are listed")]
    }

    /// Over its column.
    fn title(self) -> &'static str {
        match self {
            Self::Key => "KEY",
            Self::Value => "VALUE",
            Self::Revision => "REVISION",
            Self::CreateRevision => "CREATED",
            Self::Version => "VERSION",
            Self::Bytes => "BYTES",
        }
    }

    /// Of a field that is one.
    fn number(self, item: &Item<'_>) -> u64 {
        match self {
            Self::Revision => item.revision.0,
            Self::CreateRevision => item.create_revision.0,
            Self::Version => item.version,
            Self::Bytes | Self::Key | Self::Value => item.value.len() as u64,
        }
    }

    fn encoding(self, encodings: Encodings) -> Option<Encoding> {
        match self {
            Self::Key => encodings.key,
            Self::Value => encodings.value,
            _ => None,
        }
    }
}
