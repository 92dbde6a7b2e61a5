//! Rows for people and programs.

use serde_json::json;

use crate::case::Sample;

/// One comparison, medians over the rounds.
#[derive(Clone, Debug, Default)]
pub struct Row {
    /// `CASE/PEER`; for the storage also `CASE/WITHOUT-IT`.
    pub name: String,
    /// This project's operations per second (KiB for memory, milliseconds for idle; for the storage
    /// the name tells the unit).
    pub ours: Option<f64>,
    /// The peer's.
    pub peer: Option<f64>,
    /// The peer is not installed.
    pub peer_absent: bool,
    /// Median of the rounds' ratios.
    pub ratio: Option<f64>,
    /// This project's median latency.
    pub p50_us: Option<f64>,
    /// This project's 99th percentile.
    pub p99_us: Option<f64>,
    /// Processor time of this project's servers and the generator, per operation.
    pub cpu_us_per_op: Option<f64>,
}

/// All comparisons.
#[derive(Clone, Debug, Default)]
pub struct Table {
    /// In order.
    pub rows: Vec<Row>,
}

fn cell(value: Option<f64>, decimals: usize) -> String {
    value.map_or_else(|| "-".into(), |number| format!("{number:.decimals$}"))
}

impl Table {
    /// On standard output.
    pub fn show(&self, json: bool) {
        if json {
            self.print_json();
        } else {
            self.print();
        }
    }

    fn print(&self) {
        println!(
            "{:30} {:>9} {:>9} {:>7} {:>7} {:>7} {:>13}",
            "name", "ours", "peer", "ratio", "p50_us", "p99_us", "cpu_us_per_op"
        );
        for row in &self.rows {
            let peer = if row.peer_absent {
                "absent".into()
            } else {
                cell(row.peer, 0)
            };
            println!(
                "{:30} {:>9} {peer:>9} {:>7} {:>7} {:>7} {:>13}",
                row.name,
                cell(row.ours, 0),
                cell(row.ratio, 2),
                cell(row.p50_us, 0),
                cell(row.p99_us, 0),
                cell(row.cpu_us_per_op, 2),
            );
        }
    }

    /// `null` where there is no figure.
    fn print_json(&self) {
        for row in &self.rows {
            let object = json!({
                "name": row.name,
                "ours": row.ours,
                "peer": row.peer,
                "ratio": row.ratio,
                "p50_us": row.p50_us,
                "p99_us": row.p99_us,
                "cpu_us_per_op": row.cpu_us_per_op,
            });
            println!("{object}");
        }
    }
}

/// What lies behind the rows, on standard error.
#[derive(Debug, Default)]
pub struct Details {
    lines: Vec<String>,
}

impl Details {
    /// Adds the medians of a case.
    pub fn add<'a>(
        &mut self,
        case: &str,
        system: &str,
        samples: impl Iterator<Item = &'a Sample> + Clone,
    ) {
        let of = |f: fn(&Sample) -> f64| median(samples.clone().map(f));
        let Some(ops) = of(|s| s.report.ops_per_s) else {
            return;
        };
        self.lines.push(format!(
            "{case:10} {system:18} {ops:>9.0} {:>7} {:>7} {:>8} {:>8} {:>8} {:>9} {:>8} {:>6}",
            cell(of(|s| s.report.p50_us as f64), 0),
            cell(of(|s| s.report.p99_us as f64), 0),
            cell(of(|s| s.servers_us_per_op), 2),
            cell(of(|s| s.generator_us_per_op), 2),
            cell(of(|s| s.syncs_per_s), 0),
            cell(of(|s| s.bytes_per_sync), 0),
            cell(of(|s| s.rss_kib as f64), 0),
            cell(of(|s| s.steal_percent), 1),
        ));
    }

    /// Prints them all.
    pub fn print(&self) {
        eprintln!(
            "{:10} {:18} {:>9} {:>7} {:>7} {:>8} {:>8} {:>8} {:>9} {:>8} {:>6}",
            "case",
            "system",
            "ops/s",
            "p50 us",
            "p99 us",
            "srv us",
            "gen us",
            "sync/s",
            "B/sync",
            "rss KiB",
            "steal%"
        );
        for line in &self.lines {
            eprintln!("{line}");
        }
    }
}

/// One measurement in one line, while it goes on.
#[must_use]
pub fn line(sample: &Sample) -> String {
    format!(
        "{:>9.0} ops/s  p50 {:>6} us  p99 {:>6} us  cpu {:>7.2}+{:.2} us/op",
        sample.report.ops_per_s,
        sample.report.p50_us,
        sample.report.p99_us,
        sample.servers_us_per_op,
        sample.generator_us_per_op,
    )
}

/// The median; `None` of nothing.
#[must_use]
pub fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut sorted: Vec<f64> = values.collect();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    let upper = sorted.get(middle)?;
    if sorted.len() % 2 == 1 {
        return Some(*upper);
    }
    Some(f64::midpoint(sorted[middle - 1], *upper))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians() {
        assert_eq!(median([].into_iter()), None);
        assert_eq!(median([3.0].into_iter()), Some(3.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
    }
}
