//! A plan on a few lines, for whoever looks into a seed.

use std::fmt;
use std::ops::Range;
use std::time::Duration;

use super::{Machine, Plan, Workload};
use crate::sim::net::Weather;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            seed,
            members,
            changes,
            run,
            election_timeout,
            heartbeat,
            same_seeds,
            limits,
            snapshots,
            storage,
            machines,
            links,
            workload,
            faults,
        } = self;
        writeln!(
            f,
            "seed={seed} members={members} changes={changes:?} run={run:?} election_timeout={election_timeout:?} \
             heartbeat={heartbeat:?} same_seeds={same_seeds}"
        )?;
        writeln!(
            f,
            "limits window={} cache={} uncommitted={} entry={} parked={} turn={} sessions={}",
            limits.window_bytes,
            limits.cache_bytes,
            limits.uncommitted_bytes_max,
            limits.entry_bytes_max,
            limits.parked_max,
            limits.turn_entries_max,
            limits.sessions_max
        )?;
        writeln!(
            f,
            "snapshots log={} factor={} entries={} interval={:?} growth={}% gap={:?} piece={}",
            snapshots.log_bytes,
            snapshots.log_factor,
            snapshots.entries,
            snapshots.interval,
            snapshots.growth_percent,
            snapshots.gap,
            snapshots.piece_bytes
        )?;
        writeln!(
            f,
            "storage segment={} soft={} tail={} disk={} scrubs={}",
            storage.segment_bytes,
            storage.soft_free_bytes,
            storage.tail_bytes,
            storage.disk_bytes,
            storage.scrubs
        )?;
        write!(f, "machines")?;
        machines
            .iter()
            .try_for_each(|machine| write_machine(f, machine))?;
        write!(f, "\nlinks")?;
        write_links(f, links)?;
        writeln!(f)?;
        write_workload(f, workload)?;
        write!(
            f,
            "faults every={:?} lasts={:?} quiet=",
            faults.every, faults.lasts
        )?;
        write_windows(f, &faults.quiet)?;
        let outside = faults.outside.map_or("-", |outside| outside.name());
        write!(f, " outside={outside} kinds=")?;
        for (n, kind) in faults.kinds.iter().enumerate() {
            write!(f, "{}{}", if n > 0 { "," } else { "" }, kind.name())?;
        }
        Ok(())
    }
}

fn write_machine(f: &mut fmt::Formatter<'_>, machine: &Machine) -> fmt::Result {
    let Machine {
        turn,
        disk,
        disk_max,
        clock_rate,
        wall_ahead_ms,
        keep_bytes,
        disk_bytes,
    } = machine;
    write!(
        f,
        " [turn={turn:?} disk={disk:?}..{disk_max:?} bytes={disk_bytes} rate={clock_rate} \
         wall={wall_ahead_ms}ms keep={keep_bytes}]"
    )
}

/// The sort of link that most are, and the others by their ends.
fn write_links(f: &mut fmt::Formatter<'_>, links: &[Vec<Weather>]) -> fmt::Result {
    let fair = links.iter().flatten().find(|weather| weather.is_fair());
    if let Some(weather) = fair {
        write!(f, " fair={:?}..{:?}", weather.delay, weather.delay_max)?;
    }
    for (from, row) in links.iter().enumerate() {
        for (to, weather) in row.iter().enumerate() {
            if from == to || weather.is_fair() && Some(weather) == fair {
                continue;
            }
            write!(f, " {from}>{to}={:?}", weather.delay)?;
            let troubles = [
                ("loss", weather.loss),
                ("dup", weather.duplication),
                ("reorder", weather.reordering),
                ("tear", weather.tearing),
                ("corrupt", weather.corruption),
                ("reset", weather.resets),
            ];
            for (name, rate) in troubles.into_iter().filter(|(_, rate)| *rate > 0) {
                write!(f, ",{name}={rate}")?;
            }
        }
    }
    Ok(())
}

fn write_workload(f: &mut fmt::Formatter<'_>, workload: &Workload) -> fmt::Result {
    let Workload {
        clients,
        in_flight,
        pause,
        mix,
        keys,
        value_bytes,
        large_value_bytes,
        large_values,
        session_writes,
        deadline,
        patience,
        abandoned,
        wrong,
        stale_reads,
        anywhere_reads,
        after_reads,
        bounds_hold,
        quiet,
    } = workload;
    write!(
        f,
        "workload clients={clients} in_flight={in_flight} pause={pause:?} put={} delete={} cas={} \
         increment={} get={} scan={} compound={} keys={keys} value={value_bytes} \
         large={large_values}*{large_value_bytes} session={session_writes} deadline={deadline:?} \
         patience={patience:?} abandoned={abandoned} wrong={wrong} stale={stale_reads} \
         anywhere={anywhere_reads} after={after_reads} bounds={bounds_hold} quiet=",
        mix.put, mix.delete, mix.cas, mix.increment, mix.get, mix.scan, mix.compound
    )?;
    write_windows(f, quiet)?;
    writeln!(f)
}

fn write_windows(f: &mut fmt::Formatter<'_>, windows: &[Range<Duration>]) -> fmt::Result {
    if windows.is_empty() {
        return write!(f, "-");
    }
    for (n, window) in windows.iter().enumerate() {
        let comma = if n > 0 { "," } else { "" };
        write!(
            f,
            "{comma}{:?}+{:?}",
            window.start,
            window.end - window.start
        )?;
    }
    Ok(())
}
