//! Standard output: data only, exact bytes in a pipe.

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::os::fd::AsFd;

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use raftctl::failure::{Exit, Failure};
use serde::Serialize;

/// Bytes gathered before they are written.
const BUFFER_BYTES: usize = 64 * 1024;
/// Columns of a terminal that does not tell.
const COLUMNS_DEFAULT: usize = 80;

/// Standard output. Everything that is written is there after [`Out::flush`], or an error is.
pub(crate) struct Out {
    writer: BufWriter<File>,
    terminal: bool,
    json: bool,
}

impl Out {
    pub(crate) fn new(json: bool) -> Result<Self, Failure> {
        let stdout = io::stdout();
        // The standard library's own buffer writes at every line end.
        let file = File::from(
            stdout
                .as_fd()
                .try_clone_to_owned()
                .map_err(|error| failure(&error))?,
        );
        Ok(Self {
            writer: BufWriter::with_capacity(BUFFER_BYTES, file),
            terminal: stdout.is_terminal(),
            json,
        })
    }

    pub(crate) fn json(&self) -> bool {
        self.json
    }

    /// Whether a person reads: a terminal, and no JSON was asked for.
    pub(crate) fn for_person(&self) -> bool {
        self.terminal && !self.json
    }

    /// Columns of the terminal.
    pub(crate) fn columns(&self) -> usize {
        match rustix::termios::tcgetwinsize(self.writer.get_ref()) {
            Ok(size) if size.ws_col > 0 => usize::from(size.ws_col),
            _ => COLUMNS_DEFAULT,
        }
    }

    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.writer
            .write_all(bytes)
            .map_err(|error| failure(&error))
    }

    pub(crate) fn line(&mut self, text: &str) -> Result<(), Failure> {
        writeln!(self.writer, "{text}").map_err(|error| failure(&error))
    }

    /// One object on one line.
    pub(crate) fn object(&mut self, object: &impl Serialize) -> Result<(), Failure> {
        let written = serde_json::to_writer(&mut self.writer, object);
        written.map_err(|error| failure(&error.into()))?;
        self.bytes(b"\n")
    }

    /// States a change, to a person only.
    pub(crate) fn note(&mut self, text: &str) -> Result<(), Failure> {
        if self.for_person() {
            self.line(text)?;
        }
        Ok(())
    }

    /// Rows of text: an aligned table for a person, else lines of fields with TABs between.
    pub(crate) fn rows(&mut self, header: &[&str], rows: Vec<Vec<String>>) -> Result<(), Failure> {
        if !self.for_person() {
            return rows.iter().try_for_each(|row| self.line(&row.join("\t")));
        }
        if rows.is_empty() {
            return Ok(());
        }
        self.line(&table(header, &[], rows))
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failure> {
        self.writer.flush().map_err(|error| failure(&error))
    }
}

/// An aligned table without lines and, if `header` is empty, without a header; the columns in `right` are numbers.
pub(crate) fn table(header: &[&str], right: &[usize], rows: Vec<Vec<String>>) -> String {
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
