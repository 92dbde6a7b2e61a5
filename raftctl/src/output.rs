//! Standard output: data only, exact bytes in a pipe.

use std::env;
use std::fs::File;
use std::io::{self, IsTerminal, Write};
use std::os::fd::AsFd;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use raftctl::failure::{Exit, Failure};
use raftctl::json;
use serde::Serialize;

use crate::encoding::{csv, nul, screen, tsv};
use crate::format::{Color, Format, Style};
use crate::pager::Sink;
use crate::signals::Signals;

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 64 * 1024;
/// Columns of a terminal that does not tell.
const COLUMNS_DEFAULT: usize = 80;

/// Standard output. Everything that is written is there after [`Out::finish`], or an error is.
pub(crate) struct Out {
    sink: Sink,
    terminal: bool,
    style: Style,
}

impl Out {
    pub(crate) fn new(style: Style) -> Result<Self, Failure> {
        let stdout = io::stdout();
        // The standard library's own buffer writes at every line end.
        let file = File::from(
            stdout
                .as_fd()
                .try_clone_to_owned()
                .map_err(|error| failure(&error))?,
        );
        Ok(Self {
            sink: Sink::new(file, BUFFER_BYTES),
            terminal: stdout.is_terminal(),
            style,
        })
    }

    /// How it was asked to be written.
    pub(crate) fn style(&self) -> &Style {
        &self.style
    }

    /// The format: as asked for, else as set, else a table on a terminal and TSV in a pipe.
    pub(crate) fn format(&self) -> Format {
        self.format_where(|_| true)
    }

    /// The same, where not every format would do. What was not asked for by name is never refused.
    pub(crate) fn format_where(&self, does: impl Fn(Format) -> bool) -> Format {
        let usual = match self.terminal && !self.style.bare {
            true => Format::Table,
            false => Format::Tsv,
        };
        let set = self.style.usual_format();
        let set = set.filter(|set| does(*set) && !(self.terminal && set.is_binary()));
        self.style.format().or(set).unwrap_or(usual)
    }

    pub(crate) fn json(&self) -> bool {
        self.format() == Format::Jsonl
    }

    /// Whether a person reads: a table is shown, of all that a person wants to know.
    pub(crate) fn for_person(&self) -> bool {
        self.format() == Format::Table && self.style.fields.is_empty()
    }

    /// Whether it is a terminal, which gets no control characters.
    pub(crate) fn is_terminal(&self) -> bool {
        self.terminal
    }

    /// Refuses to send bytes to a terminal that are for programs alone.
    pub(crate) fn check_binary(&self, format: Format) -> Result<(), Failure> {
        if self.terminal && format.is_binary() {
            let what = format!(
                "standard output is a terminal, and {} is for programs",
                format.name()
            );
            return Err(Failure::usage(what).remedy("a pipe or a file; or another --format"));
        }
        Ok(())
    }

    /// Columns of the terminal.
    pub(crate) fn columns(&self) -> usize {
        match rustix::termios::tcgetwinsize(self.sink.file()) {
            Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
            _ => COLUMNS_DEFAULT,
        }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.sink.write_all(bytes).map_err(|error| failure(&error))
    }

    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        self.text(format!("{text}\n").as_bytes())
    }

    /// One object on one line.
    pub(crate) fn object(&mut self, object: &impl Serialize) -> Result<(), Failure> {
        let mut text = Vec::new();
        json::line(object, &mut text);
        self.text(&text)
    }

    /// States a change, to a person only.
    pub(crate) fn note(&mut self, text: &str) -> Result<(), Failure> {
        if self.terminal && !self.json() {
            self.line(text)?;
        }
        Ok(())
    }

    /// An aligned table; its header stands out where colours may be.
    pub(crate) fn table(
        &mut self,
        header: &[&str],
        right: &[usize],
        rows: Vec<Vec<String>>,
    ) -> Result<(), Failure> {
        let header = match self.style.header() {
            Some(false) => &[],
            _ => header,
        };
        if header.is_empty() && rows.is_empty() {
            return Ok(());
        }
        let text = table(header, right, rows);
        match text.split_once('\n') {
            Some((first, rest)) if !header.is_empty() && self.has_color() => {
                self.bytes(format!("\x1b[1m{first}\x1b[0m\n").as_bytes())?;
                self.line(rest)
            }
            _ => self.line(&text),
        }
    }

    /// Rows of text with these names, as asked for: all fields or some, as a table, TSV, CSV or with
    /// NUL bytes; nothing as JSON, for which there is [`Out::object`].
    pub(crate) fn rows(&mut self, names: &[&str], rows: &[Vec<String>]) -> Result<(), Failure> {
        let format = self.format();
        if format == Format::Jsonl || (format == Format::Table && rows.is_empty()) {
            return Ok(());
        }
        self.check_binary(format)?;
        let chosen = self.style.chosen(names)?;
        let names: Vec<_> = chosen.iter().map(|at| names[*at]).collect();
        let rows = rows
            .iter()
            .map(|row| chosen.iter().map(|at| row[*at].clone()));
        let rows: Vec<Vec<String>> = rows.map(Iterator::collect).collect();
        if format == Format::Table {
            let upper: Vec<_> = names.iter().map(|name| name.to_uppercase()).collect();
            let header: Vec<_> = upper.iter().map(String::as_str).collect();
            return self.table(&header, &numeric(&rows, names.len()), rows);
        }
        let mut buffer = Vec::new();
        if self.has_header(format) {
            line(&names, format, &mut buffer)?;
        }
        for row in &rows {
            let fields: Vec<_> = row.iter().map(String::as_str).collect();
            line(&fields, format, &mut buffer)?;
        }
        self.text(&buffer)
    }

    /// Bytes of lines: on a terminal without control characters.
    pub(crate) fn text(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        if !self.terminal || screen::is_printable(bytes) {
            return self.bytes(bytes);
        }
        let lines = bytes.split_inclusive(|byte| *byte == b'\n');
        for line in lines.map(|line| line.strip_suffix(b"\n").unwrap_or(line)) {
            self.bytes(screen::visible(line).as_bytes())?;
            self.bytes(b"\n")?;
        }
        Ok(())
    }

    /// Whether a header comes before lines of this format.
    pub(crate) fn has_header(&self, format: Format) -> bool {
        let usual = format == Format::Csv && !self.style.bare;
        self.style.header().unwrap_or(usual)
    }

    /// Whether colours may be written: the flag, then NO_COLOR, CLICOLOR_FORCE and the terminal.
    fn has_color(&self) -> bool {
        let set = |name| env::var_os(name).filter(|value| !value.is_empty());
        match self.style.color() {
            Color::Always => true,
            Color::Never => false,
            Color::Auto if set("NO_COLOR").is_some() => false,
            Color::Auto if set("CLICOLOR_FORCE").is_some_and(|value| value != "0") => true,
            Color::Auto => self.terminal && env::var_os("TERM").is_some_and(|term| term != "dumb"),
        }
    }

    /// The output of this verb may be long: a person reads it screen by screen.
    pub(crate) fn page(&mut self, signals: &Signals) {
        let rows = match rustix::termios::tcgetwinsize(self.sink.file()) {
            Ok(size) => usize::from(size.ws_row),
            Err(_) => 0,
        };
        if self.terminal && !self.style.no_pager && rows > 0 && !self.json() {
            self.sink.page(rows, signals.clone());
        }
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.sink.flush().map_err(|error| failure(&error))
    }

    /// Writes out what is left, and waits for a person who still reads it.
    pub(crate) fn finish(&mut self) -> Result<(), Failure> {
        self.sink.finish().map_err(|error| failure(&error))
    }
}

/// Appends fields as one line.
fn line(fields: &[&str], format: Format, out: &mut Vec<u8>) -> Result<(), Failure> {
    match format {
        Format::Csv => csv::line(fields.iter().map(|field| field.as_bytes()), out),
        Format::Nul => {
            for field in fields {
                nul::field(field.as_bytes(), None, out)?;
            }
        }
        _ => tsv::line(fields.iter().map(|field| field.as_bytes()), out),
    }
    Ok(())
}

/// The columns of numbers only.
fn numeric(rows: &[Vec<String>], columns: usize) -> Vec<usize> {
    let number = |text: &String| text == "-" || text.bytes().all(|byte| byte.is_ascii_digit());
    let all = |column: &usize| rows.iter().all(|row| number(&row[*column]));
    (0..columns).filter(all).collect()
}

/// An aligned table without lines and, if `header` is empty, without a header; the columns in `right`
/// are numbers.
fn table(header: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_style(NOTHING).add_rows(rows);
    if !header.is_empty() {
        table.set_header(header);
    }
    for (number, column) in table.column_iter_mut().enumerate() {
        let left = if number == 0 { 0 } else { 1 };
        column.set_padding((left, 1));
        if right.contains(&number) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    let lines: Vec<_> = table
        .lines()
        .map(|line| line.trim_end().to_owned())
        .collect();
    lines.join("\n")
}

/// A reader that left is no failure to talk about.
pub(crate) fn failure(error: &io::Error) -> Failure {
    if error.kind() == io::ErrorKind::BrokenPipe {
        return Failure::new(Exit::Pipe, "pipe", "nobody reads standard output");
    }
    Failure::new(
        Exit::Bug,
        "output",
        format!("writing to standard output failed: {error}"),
    )
}
