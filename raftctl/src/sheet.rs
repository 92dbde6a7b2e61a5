//! Keys and values as a table on a terminal.

use raftctl::client::Item;
use raftctl::failure::Failure;

use crate::cmd::Codec;
use crate::encoding::{Encoding, screen};
use crate::output::{Out, table};

const HEADER: [&str; 5] = ["KEY", "REVISION", "VERSION", "BYTES", "VALUE"];
/// Blanks between two columns.
const GAP: usize = 2;
/// Columns for values where nothing is left for them.
const VALUE_COLUMNS_MIN: usize = 8;

/// Rows that are printed together: columns are aligned within them.
pub(crate) struct Sheet {
    keys_only: bool,
    codec: Codec,
    columns: usize,
    rows: Vec<Vec<String>>,
}

impl Sheet {
    pub(crate) fn new(keys_only: bool, codec: Codec, out: &Out) -> Self {
        Self {
            keys_only,
            codec,
            columns: out.columns(),
            rows: Vec::new(),
        }
    }

    pub(crate) fn add(&mut self, item: &Item<'_>) {
        let show = |bytes: &[u8], encoding: Option<Encoding>| match encoding {
            Some(encoding) => encoding.encode(bytes),
            None => screen::line(bytes),
        };
        let mut row = vec![show(item.key, self.codec.key.key_encode)];
        if !self.keys_only {
            row.push(item.revision.to_string());
            row.push(item.version.to_string());
            row.push(item.value.len().to_string());
            // More than fits is not worth the work; a character has up to four bytes.
            let value = &item.value[..item.value.len().min(self.columns * 4)];
            row.push(show(value, self.codec.encode));
        }
        self.rows.push(row);
    }

    /// The rows with values cut to what the line leaves for them, under a header if `first`.
    pub(crate) fn print(mut self, first: bool, out: &mut Out) -> Result<(), Failure> {
        if self.keys_only {
            return self.rows.iter().try_for_each(|row| out.line(&row[0]));
        }
        if self.rows.is_empty() {
            return Ok(());
        }
        let width = |column: usize| {
            let fields = self.rows.iter().map(|row| row[column].chars().count());
            fields.max().unwrap_or(0).max(HEADER[column].len()) + GAP
        };
        let others: usize = (0..HEADER.len() - 1).map(width).sum();
        let value_columns = self.columns.saturating_sub(others).max(VALUE_COLUMNS_MIN);
        for row in &mut self.rows {
            let value = row.pop().unwrap_or_default();
            row.push(screen::cut(value, value_columns));
        }
        let header: &[&str] = if first { &HEADER } else { &[] };
        out.line(&table(header, &[1, 2, 3], self.rows))
    }
}
