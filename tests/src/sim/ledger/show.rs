//! A ledger on paper.

use std::fmt;

use raftd::wal::Cases;

use super::{Ledger, MARKS_DUE, Size};

impl fmt::Display for Size {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            simulated,
            operations,
            faults,
            leaders,
        } = self;
        let seconds = simulated.as_secs_f64();
        write!(
            f,
            "{seconds:.1} s simulated, {operations} operations, {faults} faults, {leaders} leaders"
        )
    }
}

impl fmt::Display for Ledger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let total = |count: fn(&Size) -> u64| self.sizes.iter().map(count).sum::<u64>();
        let simulated = self
            .sizes
            .iter()
            .map(|size| size.simulated.as_secs_f64())
            .sum::<f64>();
        let outside: u64 = self.outside.values().sum();
        writeln!(f, "seeds         {}", self.runs())?;
        writeln!(f, "simulated     {:.1} h", simulated / 3600.0)?;
        writeln!(f, "operations    {}", total(|size| size.operations))?;
        write_counts(
            f,
            self.operations.iter().map(|(name, count)| (*name, *count)),
        )?;
        writeln!(f, "leaders       {}", total(|size| size.leaders))?;
        writeln!(f, "faults        {}", total(|size| size.faults))?;
        write_counts(
            f,
            self.faults
                .iter()
                .map(|(kind, count)| (kind.name(), *count)),
        )?;
        writeln!(f, "network")?;
        let network = self.network.iter();
        write_counts(f, network.map(|(name, count)| (*name, *count)))?;
        writeln!(f, "judged")?;
        write_counts(f, self.judged.iter().map(|(name, count)| (*name, *count)))?;
        writeln!(f, "median run    {}", self.median())?;
        writeln!(
            f,
            "vacuous       {}{}",
            self.vacuous.len(),
            some(&self.vacuous)
        )?;
        writeln!(f, "outside       {outside}")?;
        write_counts(f, self.outside.iter().map(|(name, count)| (*name, *count)))?;
        writeln!(f, "branches")?;
        write_counts(
            f,
            self.marks
                .branches
                .iter()
                .map(|(name, count)| (*name, *count)),
        )?;
        writeln!(f, "errors told")?;
        write_counts(
            f,
            self.marks
                .errors
                .iter()
                .map(|(name, count)| (*name, *count)),
        )?;
        write!(f, "recovery     ")?;
        for case in Cases::all().iter() {
            write!(f, " {case}={}", self.marks.cases.get(&case).unwrap_or(&0))?;
        }
        let missing = self.missing();
        write!(f, "\nnever reached {}", missing.len())?;
        if self.runs() < MARKS_DUE && !missing.is_empty() {
            write!(f, " (due from {MARKS_DUE} seeds on)")?;
        }
        writeln!(f)?;
        missing
            .iter()
            .try_for_each(|name| writeln!(f, "  {name}"))?;
        writeln!(f, "violations    {}", self.violations.len())?;
        for (seed, violation) in &self.violations {
            writeln!(f, "  seed {seed}: {violation}")?;
        }
        Ok(())
    }
}

/// Three to a line.
fn write_counts<'a>(
    f: &mut fmt::Formatter<'_>,
    counts: impl Iterator<Item = (&'a str, u64)>,
) -> fmt::Result {
    let mut on_line = 0;
    for (name, count) in counts {
        if on_line == 3 {
            writeln!(f)?;
            on_line = 0;
        }
        write!(f, "  {name:<30} {count:>9}")?;
        on_line += 1;
    }
    if on_line > 0 {
        writeln!(f)?;
    }
    Ok(())
}

/// The first few seeds.
fn some(seeds: &[u64]) -> String {
    if seeds.is_empty() {
        return String::new();
    }
    let mut seeds = seeds.to_vec();
    seeds.sort_unstable();
    let dots = if seeds.len() > 8 { ", .." } else { "" };
    let first: Vec<String> = seeds.iter().take(8).map(u64::to_string).collect();
    format!(" (seeds {}{dots})", first.join(", "))
}
