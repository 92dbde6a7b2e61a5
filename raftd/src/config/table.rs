//! The one table of settings. It serves the command line, `RAFTD_*`, `--set`, the file and the
//! man page `raftd.toml(5)`, which is tested against it.

use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;

use super::setting::{Kind, Setting};
use crate::value;

const KIB: u64 = 1 << 10;
const MIB: u64 = 1 << 20;
const GIB: u64 = 1 << 30;

const fn millis(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

/// The setting with this key.
#[must_use]
pub fn find(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

/// Every setting, by section.
pub const SETTINGS: &[Setting] = &[
    Setting {
        key: "node.name",
        flag: Some("name"),
        default: "",
        placeholder: "NAME",
        doc: "The node's name: a lower-case letter, then such letters, digits, '.', '_' and '-'. \
              Default: n and the id. A name like n3 also tells the id.",
        kind: Kind::Text {
            set: |s, text| value::name(text).map(|name| s.name = Some(name)),
        },
    },
    Setting {
        key: "node.id",
        flag: Some("id"),
        default: "",
        placeholder: "N",
        doc: "Which member of the initial cluster this node is. \
              Not needed if the name or the peer address tells it, or the data directory has it.",
        kind: Kind::Text {
            set: |s, text| value::node_id(text).map(|id| s.id = Some(id)),
        },
    },
    Setting {
        key: "node.data_dir",
        flag: Some("data-dir"),
        default: "",
        placeholder: "DIR",
        doc: "Where the node keeps its data. Made with mode 0700 if it is not there.",
        kind: Kind::Text {
            set: |s, text| {
                s.data_dir = Some(PathBuf::from(text));
                match text {
                    "" => Err("no directory is called that".into()),
                    _ => Ok(()),
                }
            },
        },
    },
    Setting {
        key: "net.listen",
        flag: Some("listen"),
        default: "127.0.0.1:7400",
        placeholder: "HOST:PORT",
        doc: "Where clients are served. Port 0 takes a free one; the event `ready' tells which.",
        kind: Kind::Text {
            set: |s, text| value::address(text).map(|addr| s.listen = addr),
        },
    },
    Setting {
        key: "net.peer_listen",
        flag: Some("peer-listen"),
        default: "127.0.0.1:7401",
        placeholder: "HOST:PORT",
        doc: "Where the other members are served.",
        kind: Kind::Text {
            set: |s, text| value::address(text).map(|addr| s.peer_listen = addr),
        },
    },
    Setting {
        key: "net.advertise",
        flag: Some("advertise"),
        default: "",
        placeholder: "HOST:PORT",
        doc: "The address that clients are told to use. \
              Default: net.listen; needed if that is a wildcard like 0.0.0.0.",
        kind: Kind::Text {
            set: |s, text| value::told_address(text).map(|addr| s.advertise = Some(addr)),
        },
    },
    Setting {
        key: "net.peer_advertise",
        flag: Some("peer-advertise"),
        default: "",
        placeholder: "HOST:PORT",
        doc: "The address that the other members use, as the initial cluster lists it, or as this node \
              was added. Default: net.peer_listen; a node that joins needs it if that is a wildcard.",
        kind: Kind::Text {
            set: |s, text| value::told_address(text).map(|addr| s.peer_advertise = Some(addr)),
        },
    },
    Setting {
        key: "net.connections_max",
        flag: None,
        default: "16384",
        placeholder: "N",
        doc: "Client connections that may be open at a time. \
              Less if the limit of open files is lower. Peers have room of their own.",
        kind: Kind::Number {
            min: 1,
            max: 1_000_000,
            set: |s, n| s.connections_max = n as usize,
        },
    },
    Setting {
        key: "net.newcomers_max",
        flag: None,
        default: "1024",
        placeholder: "N",
        doc: "Connections that may be open without having said hello. \
              At this number the oldest of them makes room for the next.",
        kind: Kind::Number {
            min: 1,
            max: 65_536,
            set: |s, n| s.newcomers_max = n as usize,
        },
    },
    Setting {
        key: "net.hello_timeout",
        flag: None,
        default: "3s",
        placeholder: "TIME",
        doc: "How long a new connection may take to say hello, and a dialled peer to answer.",
        kind: Kind::Time {
            min: millis(100),
            max: millis(60_000),
            set: |s, time| s.hello_timeout = time,
        },
    },
    Setting {
        key: "net.frame_timeout",
        flag: None,
        default: "10s",
        placeholder: "TIME",
        doc: "How long a client's frame may take to come in whole, \
              and how long nothing may come of one that a member has begun. An idle connection is never closed.",
        kind: Kind::Time {
            min: millis(100),
            max: millis(600_000),
            set: |s, time| s.frame_timeout = time,
        },
    },
    Setting {
        key: "net.stall_timeout",
        flag: None,
        default: "10s",
        placeholder: "TIME",
        doc: "How long a connection may take none of the bytes that wait for it.",
        kind: Kind::Time {
            min: millis(100),
            max: millis(600_000),
            set: |s, time| s.stall_timeout = time,
        },
    },
    Setting {
        key: "net.output_bytes",
        flag: None,
        default: "256MiB",
        placeholder: "SIZE",
        doc: "Replies that may wait for slow readers, over all client connections. \
              A connection that has 1 MiB waiting is neither read nor answered.",
        kind: Kind::Size {
            min: 8 * MIB,
            max: 64 * GIB,
            set: |s, bytes| s.output_bytes = bytes as usize,
        },
    },
    Setting {
        key: "net.input_bytes",
        flag: None,
        default: "64MiB",
        placeholder: "SIZE",
        doc: "Unfinished frames that may be held, over all client connections.",
        kind: Kind::Size {
            min: 8 * MIB,
            max: 64 * GIB,
            set: |s, bytes| s.input_bytes = bytes as usize,
        },
    },
    Setting {
        key: "cluster.initial",
        flag: Some("initial-cluster"),
        default: "",
        placeholder: "1=HOST:PORT,..",
        doc: "The members of a new cluster with their peer addresses; the same on every one of \
              them. It counts for an empty data directory only and is ignored later.",
        kind: Kind::Text {
            set: |s, text| value::members(text).map(|members| s.initial = Some(members)),
        },
    },
    Setting {
        key: "cluster.join",
        flag: Some("join"),
        default: "",
        placeholder: "HOST:PORT,..",
        doc: "Client addresses of members of a cluster that this node was added to, under its name, \
              by raftctl add-peer: it waits until they admit it. It counts for an empty data \
              directory only and is ignored later.",
        kind: Kind::Text {
            set: |s, text| value::addresses(text).map(|seeds| s.join = Some(seeds)),
        },
    },
    Setting {
        key: "cluster.token",
        flag: Some("cluster-token"),
        default: "",
        placeholder: "TEXT",
        doc: "Part of the cluster's identity: tells apart clusters with the same list. \
              The same on every member.",
        kind: Kind::Text {
            set: |s, text| {
                s.token = text.to_owned();
                Ok(())
            },
        },
    },
    Setting {
        key: "raft.timing",
        flag: None,
        default: "lan",
        placeholder: "PRESET",
        doc: "A preset of the next two: lan is 150ms and 40ms; wan, for long lines and busy \
              machines, is 1s and 250ms.",
        kind: Kind::Choice {
            of: &["lan", "wan"],
            set: |s, word| s.wide_area = word == "wan",
        },
    },
    Setting {
        key: "raft.election_timeout",
        flag: None,
        default: "",
        placeholder: "TIME",
        doc: "A follower that hears no leader for this long, or up to twice this long, at random, \
              starts an election. Default: by raft.timing. The same on every member.",
        kind: Kind::Time {
            min: millis(10),
            max: millis(60_000),
            set: |s, time| s.election_timeout = Some(time),
        },
    },
    Setting {
        key: "raft.heartbeat",
        flag: None,
        default: "",
        placeholder: "TIME",
        doc: "How often an idle leader shows that it lives. At most half of \
              raft.election_timeout. Default: by raft.timing.",
        kind: Kind::Time {
            min: millis(1),
            max: millis(30_000),
            set: |s, time| s.heartbeat = Some(time),
        },
    },
    Setting {
        key: "raft.window_bytes",
        flag: None,
        default: "4MiB",
        placeholder: "SIZE",
        doc: "Entries that may be on their way to a follower.",
        kind: Kind::Size {
            min: 2 * MIB,
            max: 64 * MIB,
            set: |s, bytes| s.window_bytes = bytes as usize,
        },
    },
    Setting {
        key: "raft.cache_bytes",
        flag: None,
        default: "4MiB",
        placeholder: "SIZE",
        doc: "Entries kept in memory for followers that lag a little.",
        kind: Kind::Size {
            min: 64 * KIB,
            max: GIB,
            set: |s, bytes| s.cache_bytes = bytes as usize,
        },
    },
    Setting {
        key: "raft.uncommitted_bytes",
        flag: None,
        default: "64MiB",
        placeholder: "SIZE",
        doc: "Entries that a leader takes before they are committed and on its own disk. \
              At this size it stops reading from clients that write.",
        kind: Kind::Size {
            min: 2 * MIB,
            max: GIB,
            set: |s, bytes| s.uncommitted_bytes = bytes as usize,
        },
    },
    Setting {
        key: "wal.segment_bytes",
        flag: None,
        default: "64MiB",
        placeholder: "SIZE",
        doc: "Size of the files of the write-ahead log, a multiple of 4 KiB. Below 2 MiB it limits the \
              size of a write: the same on every member. Three to eight more are kept ready than are \
              in use, where the disk has the room: half a GiB by default.",
        kind: Kind::Size {
            min: 256 * KIB,
            max: GIB,
            set: |s, bytes| s.segment_bytes = bytes,
        },
    },
    Setting {
        key: "wal.soft_free_bytes",
        flag: None,
        default: "256MiB",
        placeholder: "SIZE",
        doc: "With less room than this on the disk, or than the next snapshot and two segments take, \
              the disk is low. While the disks of fewer than a quorum are not low, only deletes are \
              taken, and snapshots make the log shorter sooner.",
        kind: Kind::Size {
            min: 0,
            max: 1024 * GIB,
            set: |s, bytes| s.soft_free_bytes = bytes,
        },
    },
    Setting {
        key: "snapshot.log_bytes",
        flag: None,
        default: "64MiB",
        placeholder: "SIZE",
        doc: "A snapshot is taken after so much was written to the log since the last one, or \
              snapshot.log_factor times the size of that one, if this is more.",
        kind: Kind::Size {
            min: 64 * KIB,
            max: 1024 * GIB,
            set: |s, bytes| s.snapshots.log_bytes = bytes,
        },
    },
    Setting {
        key: "snapshot.log_factor",
        flag: None,
        default: "4",
        placeholder: "N",
        doc: "See snapshot.log_bytes. More means fewer snapshots, and a log that is longer to replay.",
        kind: Kind::Number {
            min: 0,
            max: 1_000,
            set: |s, n| s.snapshots.log_factor = n,
        },
    },
    Setting {
        key: "snapshot.entries",
        flag: None,
        default: "0",
        placeholder: "N",
        doc: "A snapshot is also taken after so many entries; 0 is never.",
        kind: Kind::Number {
            min: 0,
            max: 1_000_000_000_000,
            set: |s, n| s.snapshots.entries = n,
        },
    },
    Setting {
        key: "snapshot.growth_percent",
        flag: None,
        default: "0",
        placeholder: "N",
        doc: "A snapshot is also taken when keys and values have grown by so many percent; 0 is never.",
        kind: Kind::Number {
            min: 0,
            max: 1_000_000,
            set: |s, n| s.snapshots.growth_percent = n,
        },
    },
    Setting {
        key: "snapshot.interval",
        flag: None,
        default: "0s",
        placeholder: "TIME",
        doc: "A snapshot is also taken after so much time, if anything was written; 0s is never.",
        kind: Kind::Time {
            min: millis(0),
            max: millis(1_000 * 86_400 * 365),
            set: |s, time| s.snapshots.interval = time,
        },
    },
    Setting {
        key: "snapshot.gap",
        flag: None,
        default: "10s",
        placeholder: "TIME",
        doc: "No snapshot is taken sooner than this after the last one, whatever the reason, but one \
              that is asked for.",
        kind: Kind::Time {
            min: millis(0),
            max: millis(1_000 * 86_400),
            set: |s, time| s.snapshots.gap = time,
        },
    },
    Setting {
        key: "snapshot.keep_bytes",
        flag: None,
        default: "64MiB",
        placeholder: "SIZE",
        doc: "Log that is kept before a snapshot, in whole segments, for followers that lag a little: \
              they catch up by entries, and need no snapshot.",
        kind: Kind::Size {
            min: 0,
            max: 1024 * GIB,
            set: |s, bytes| s.snapshots.keep_bytes = bytes,
        },
    },
    Setting {
        key: "snapshot.rate_bytes",
        flag: None,
        default: "64MiB",
        placeholder: "SIZE",
        doc: "How much of a snapshot is written, and then read again, in a second; \
              0 is no limit, and takes two processors.",
        kind: Kind::Size {
            min: 0,
            max: 1024 * GIB,
            set: |s, bytes| s.snapshot_rate_bytes = bytes,
        },
    },
    Setting {
        key: "scrub.interval",
        flag: None,
        default: "24h",
        placeholder: "TIME",
        doc: "How often log and snapshots are read again, from the device, to find rot before it is \
              needed; also the time before the first look. What is damaged is had from other members.",
        kind: Kind::Time {
            min: millis(1_000),
            max: millis(1_000 * 86_400 * 365),
            set: |s, time| s.scrubbing.interval = time,
        },
    },
    Setting {
        key: "scrub.rate_bytes",
        flag: None,
        default: "8MiB",
        placeholder: "SIZE",
        doc: "How much of them is read in a second, while nothing else is to be done in the background; \
              0 is nothing, ever.",
        kind: Kind::Size {
            min: 0,
            max: 1024 * GIB,
            set: |s, bytes| s.scrubbing.rate_bytes = bytes,
        },
    },
    Setting {
        key: "log.level",
        flag: None,
        default: "info",
        placeholder: "LEVEL",
        doc: "How much is logged to stderr.",
        kind: Kind::Choice {
            of: &["off", "error", "warn", "info", "debug", "trace"],
            set: |s, word| s.log_level = word.parse().unwrap_or(LevelFilter::Info),
        },
    },
];
