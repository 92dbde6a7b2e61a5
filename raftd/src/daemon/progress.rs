//! Telling how far a recovery has come: it reads the newest snapshot and the log, which takes as long
//! as they are large.

use std::path::Path;
use std::time::Duration;

use crate::disk::Meter;
use crate::snapshot::SNAPSHOT_DIR;
use crate::storage;
use crate::supervisor::Supervisor;
use crate::wal::segment::WAL_DIR;

/// Between two looks at how much was read.
const LOOK: Duration = Duration::from_secs(1);
/// So many looks apart the log tells it.
const LOOKS_A_LINE: u32 = 10;

/// Recovers a data directory, and meanwhile tells the service manager and the log how far it is. Of a
/// disk that hangs the manager hears nothing: it may end such a start.
pub(super) fn told<T>(
    data_dir: &Path,
    meter: &Meter,
    supervisor: &mut Supervisor,
    recover: impl FnOnce() -> T,
) -> T {
    let bytes_max = storage::bytes_in(data_dir, &[WAL_DIR, SNAPSHOT_DIR]);
    let mut looks = 0;
    let mut told_bytes = 0;
    let tell = |bytes| {
        looks += 1;
        if looks % LOOKS_A_LINE == 0 {
            log::info!("still recovering done_bytes={bytes} bytes_max={bytes_max}");
        }
        if bytes > told_bytes {
            told_bytes = bytes;
            supervisor.recovering(bytes, bytes_max);
        }
    };
    meter.watch(LOOK, tell, recover)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::net::UnixDatagram;

    use super::*;

    #[test]
    fn a_recovery_that_reads_gets_more_time() {
        let data = tempfile::tempdir().expect("it is made");
        for (dir, bytes) in [(WAL_DIR, 1 << 20), (SNAPSHOT_DIR, 2 << 20)] {
            fs::create_dir(data.path().join(dir)).expect("it is made");
            fs::write(data.path().join(dir).join("file"), vec![0; bytes]).expect("it is written");
        }
        let name = data.path().join("notify");
        let manager = UnixDatagram::bind(&name).expect("it is bound");
        let patience = Some(Duration::from_secs(60));
        manager.set_read_timeout(patience).expect("it is set");
        let mut supervisor = Supervisor::at(name.as_os_str());
        let meter = Meter::default();
        let heard = told(data.path(), &meter, &mut supervisor, || {
            meter.add(1 << 20);
            let mut bytes = [0; 1024];
            let count = manager.recv(&mut bytes).expect("it is told");
            String::from_utf8_lossy(&bytes[..count]).into_owned()
        });
        let expected = "EXTEND_TIMEOUT_USEC=90000000\nSTATUS=recovering, 1 of at most 3 MiB\n";
        assert_eq!(heard, expected);
    }
}
