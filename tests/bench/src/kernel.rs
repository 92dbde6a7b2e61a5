//! What the kernel counts: processor time, memory, syncs and bytes of the disk.

use std::fs;
use std::io::{self, Write};
use std::os::linux::fs::MetadataExt;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// `/proc/PID/stat` counts in hundredths of a second, on every Linux of today (USER_HZ).
const TICK_US: u64 = 10_000;
const SECTOR_BYTES: u64 = 512;

/// User and system time of a process and its threads, in microseconds; 0 if it is gone.
#[must_use]
pub fn cpu_us(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The second field is the name in parentheses, which may hold blanks.
    let after_name = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let fields: Vec<&str> = after_name.split(' ').collect();
    let number = |at: usize| fields.get(at).and_then(|f| f.parse::<u64>().ok());
    (number(11).unwrap_or(0) + number(12).unwrap_or(0)) * TICK_US
}

/// Resident anonymous memory in KiB; 0 if the process is gone.
#[must_use]
pub fn rss_anon_kib(pid: u32) -> u64 {
    status_kib(pid, "RssAnon:")
}

/// The most memory that it ever had resident, mapped files included, in KiB; 0 if it is gone.
#[must_use]
pub fn peak_memory_kib(pid: u32) -> u64 {
    status_kib(pid, "VmHWM:")
}

fn status_kib(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|l| l.strip_prefix(name));
    let number = line.and_then(|l| l.trim().split(' ').next()?.parse().ok());
    number.unwrap_or(0)
}

/// Share of the processors' time that the hypervisor took, from two readings.
#[must_use]
pub fn steal_ticks() -> (u64, u64) {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let first = stat.lines().next().unwrap_or_default();
    let ticks: Vec<u64> = first.split(' ').filter_map(|f| f.parse().ok()).collect();
    let all = ticks.iter().take(8).sum();
    (ticks.get(7).copied().unwrap_or(0), all)
}

/// What a processor does that has nothing to do. In a virtual machine it may poll for a while before it
/// leaves to the hypervisor, which makes short waits several times shorter.
#[must_use]
pub fn idle_policy() -> String {
    let read = |path: &str| fs::read_to_string(path).map(|text| text.trim().to_owned());
    let governor = read("/sys/devices/system/cpu/cpuidle/current_governor");
    let governor = governor.unwrap_or_else(|_| "?".into());
    match read("/sys/module/haltpoll/parameters/guest_halt_poll_ns") {
        Ok(ns) if governor == "haltpoll" => format!("haltpoll, guest_halt_poll_ns {ns}"),
        _ => governor,
    }
}

/// The block device under a directory, as the kernel counts it for all processes together.
#[derive(Clone, Debug)]
pub struct Device {
    stat: PathBuf,
}

/// One reading.
#[derive(Clone, Copy, Debug, Default)]
pub struct DeviceCounts {
    /// Flush requests that the device completed. Syncs that overlap may share one, so this is at
    /// most the number of syncs.
    pub flushes: u64,
    /// Bytes written to the device.
    pub bytes: u64,
}

impl Device {
    /// The device that holds `path`; `None` where there is none to be read (tmpfs, overlay).
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let device = fs::metadata(path).ok()?.st_dev();
        let major = ((device >> 8) & 0xfff) | ((device >> 32) & !0xfff);
        let minor = (device & 0xff) | ((device >> 12) & !0xff);
        let link = fs::canonicalize(format!("/sys/dev/block/{major}:{minor}")).ok()?;
        // Flushes are counted for whole disks only.
        let whole = if link.join("partition").exists() {
            link.parent()?.to_path_buf()
        } else {
            link
        };
        Some(Self {
            stat: whole.join("stat"),
        })
    }

    /// Reads the counters.
    #[must_use]
    pub fn counts(&self) -> DeviceCounts {
        let stat = fs::read_to_string(&self.stat).unwrap_or_default();
        let fields: Vec<u64> = stat
            .split_whitespace()
            .filter_map(|f| f.parse().ok())
            .collect();
        DeviceCounts {
            flushes: fields.get(15).copied().unwrap_or(0),
            bytes: fields.get(6).copied().unwrap_or(0) * SECTOR_BYTES,
        }
    }
}

/// Appends of 256 bytes to a file filled beforehand, each synced: the median in microseconds.
///
/// # Errors
/// The file cannot be made, written or synced.
pub fn fdatasync_us(directory: &Path, time: Duration) -> io::Result<u64> {
    const FILE_BYTES: u64 = 8 * 1024 * 1024;
    const PIECE_BYTES: usize = 16 * 1024;
    let path = directory.join("probe");
    let mut file = fs::File::create(&path)?;
    for _ in 0..FILE_BYTES / PIECE_BYTES as u64 {
        file.write_all(&[0; PIECE_BYTES])?;
    }
    file.sync_all()?;
    let mut times = Vec::new();
    let start = Instant::now();
    let mut offset = 0;
    while start.elapsed() < time {
        let before = Instant::now();
        file.write_all_at(&[1; 256], offset)?;
        file.sync_data()?;
        times.push(before.elapsed());
        offset = (offset + 512) % FILE_BYTES;
    }
    fs::remove_file(&path)?;
    times.sort_unstable();
    Ok(u64::try_from(times[times.len() / 2].as_micros()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_used_memory_and_the_disk_has_written() {
        let pid = std::process::id();
        let start = Instant::now();
        while cpu_us(pid) == 0 {
            assert!(start.elapsed() < Duration::from_secs(10));
        }
        assert!(rss_anon_kib(pid) > 0);
        assert_eq!(cpu_us(u32::MAX), 0);
        let (steal, all) = steal_ticks();
        assert!(steal < all);
    }
}
