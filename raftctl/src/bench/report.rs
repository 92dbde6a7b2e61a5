//! The result as people and programs read it.

use comfy_table::presets::NOTHING;
use comfy_table::{CellAlignment, Table};
use serde::Serialize;

use super::load::{Load, Material, Mix};
use super::measurement::Measurement;

/// One measurement. As JSON, one object with exactly these fields.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Report {
    /// Operations done within the window.
    pub ops: u64,
    /// The window's length.
    pub seconds: f64,
    /// Their quotient.
    pub ops_per_s: f64,
    /// Median latency.
    pub p50_us: u64,
    /// 90th percentile of the latency.
    pub p90_us: u64,
    /// 99th percentile of the latency.
    pub p99_us: u64,
    /// 99.9th percentile of the latency.
    pub p999_us: u64,
    /// The worst latency.
    pub max_us: u64,
    /// Refusals, and operations lost with their connection; each was sent again.
    pub errors: u64,
    /// Connections.
    pub connections: usize,
    /// Operations in flight on each.
    pub in_flight: usize,
    /// Bytes of each value.
    pub value_bytes: usize,
    /// Keys drawn from.
    pub keys: u32,
    /// For writes, the lowest index among the counted entries; for reads, the lowest index that
    /// one was answered at. 0 if nothing was counted.
    pub first_revision: u64,
    /// The highest.
    pub last_revision: u64,
    /// Times that a new leader was heard of.
    pub leader_changes: u64,
}

impl Report {
    /// Sums up a measurement.
    #[must_use]
    pub fn new(load: &Load, material: &Material, measured: &Measurement) -> Self {
        let seconds = measured.elapsed.as_secs_f64();
        let latency = &measured.latency_us;
        #[expect(
            clippy::cast_precision_loss,
            reason = "operations of one run fit 53 bits"
        )]
        let rate = measured.ops as f64 / seconds.max(1e-9);
        Self {
            ops: measured.ops,
            seconds: (seconds * 1000.0).round() / 1000.0,
            ops_per_s: (rate * 10.0).round() / 10.0,
            p50_us: latency.value_at_quantile(0.5),
            p90_us: latency.value_at_quantile(0.9),
            p99_us: latency.value_at_quantile(0.99),
            p999_us: latency.value_at_quantile(0.999),
            max_us: latency.max(),
            errors: measured.errors,
            connections: load.connections,
            in_flight: load.in_flight,
            value_bytes: material.value_bytes(),
            keys: material.keys(),
            first_revision: measured.first_revision,
            last_revision: measured.last_revision,
            leader_changes: measured.leader_changes,
        }
    }

    /// For a terminal.
    #[must_use]
    pub fn table(&self, mix: Mix) -> String {
        let name = match mix {
            Mix::Put => "put",
            Mix::Get => "get",
            Mix::Mixed => "mixed",
        };
        let mut table = Table::new();
        table.load_style(NOTHING);
        table.set_header([
            "", "OPS/S", "P50 US", "P90 US", "P99 US", "P99.9 US", "MAX US", "OPS", "ERRORS",
        ]);
        table.add_row([
            name.to_owned(),
            format!("{:.0}", self.ops_per_s),
            self.p50_us.to_string(),
            self.p90_us.to_string(),
            self.p99_us.to_string(),
            self.p999_us.to_string(),
            self.max_us.to_string(),
            self.ops.to_string(),
            self.errors.to_string(),
        ]);
        for column in table.column_iter_mut().skip(1) {
            column.set_cell_alignment(CellAlignment::Right);
        }
        let mut text = table.trim_fmt();
        if self.leader_changes != 0 {
            text.push_str(&format!(
                "\nthe leader changed {} times meanwhile",
                self.leader_changes
            ));
        }
        text
    }

    /// For a pipe: a name, a tab and a number per line.
    #[must_use]
    pub fn tsv(&self) -> String {
        self.to_json()
            .trim_matches(['{', '}'])
            .split(',')
            .filter_map(|field| field.split_once(':'))
            .map(|(name, number)| format!("{}\t{number}\n", name.trim_matches('"')))
            .collect()
    }

    /// For a program: one object on one line.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("plain numbers are JSON")
    }
}
