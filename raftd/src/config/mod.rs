//! What the daemon is told: flags, environment, files and defaults, brought together and checked.

pub mod cluster;
pub mod flags;
pub mod layers;
mod nearest;
mod reached;
pub mod setting;
pub mod table;

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use log::LevelFilter;
use wire::types::NodeId;

use crate::fatal::{ExitStatus, Fatal};
use crate::node::Policy;
use crate::storage::Scrubbing;
use flags::Flags;
use table::SETTINGS;

pub use nearest::nearest;

/// The value of every setting, each one checked by itself; `raftd.toml(5)` says what they mean.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "the table documents each of them")]
pub struct Settings {
    pub name: Option<String>,
    pub id: Option<NodeId>,
    pub data_dir: Option<PathBuf>,
    pub listen: String,
    pub peer_listen: String,
    pub advertise: Option<String>,
    pub peer_advertise: Option<String>,
    pub connections_max: usize,
    pub newcomers_max: usize,
    pub hello_timeout: Duration,
    pub frame_timeout: Duration,
    pub stall_timeout: Duration,
    pub output_bytes: usize,
    pub input_bytes: usize,
    pub initial: Option<Vec<(NodeId, String)>>,
    /// Whom a new node asks to be admitted.
    pub join: Option<Vec<String>>,
    pub token: String,
    pub wide_area: bool,
    pub election_timeout: Option<Duration>,
    pub heartbeat: Option<Duration>,
    pub window_bytes: usize,
    pub cache_bytes: usize,
    pub uncommitted_bytes: usize,
    pub segment_bytes: u64,
    pub soft_free_bytes: u64,
    pub snapshots: Policy,
    pub snapshot_rate_bytes: u64,
    /// How to look for rot.
    pub scrubbing: Scrubbing,
    pub log_level: LevelFilter,
}

impl Settings {
    /// What holds if nobody says anything.
    #[must_use]
    pub fn defaults() -> Self {
        let mut settings = Self {
            name: None,
            id: None,
            data_dir: None,
            listen: String::new(),
            peer_listen: String::new(),
            advertise: None,
            peer_advertise: None,
            connections_max: 0,
            newcomers_max: 0,
            hello_timeout: Duration::ZERO,
            frame_timeout: Duration::ZERO,
            stall_timeout: Duration::ZERO,
            output_bytes: 0,
            input_bytes: 0,
            initial: None,
            join: None,
            token: String::new(),
            wide_area: false,
            election_timeout: None,
            heartbeat: None,
            window_bytes: 0,
            cache_bytes: 0,
            uncommitted_bytes: 0,
            segment_bytes: 0,
            soft_free_bytes: 0,
            snapshots: Policy::default(),
            snapshot_rate_bytes: 0,
            scrubbing: Scrubbing::default(),
            log_level: LevelFilter::Off,
        };
        for setting in SETTINGS
            .iter()
            .filter(|setting| !setting.default.is_empty())
        {
            setting
                .set(&mut settings, setting.default)
                .expect("a test reads every default of the table");
        }
        settings
    }

    /// Brings all layers together: flag > `--set` > `RAFTD_*` > `FILE.d/*.toml` > file > default.
    ///
    /// # Errors
    /// Something that was said cannot be; the reason tells where it was said.
    pub fn load(flags: &Flags, env: impl Fn(&str) -> Option<OsString>) -> Result<Self, Fatal> {
        let mut settings = Self::defaults();
        if flags.dev {
            // The lowest layer but the defaults: --listen and its like still count.
            settings.id = Some(NodeId(1));
            settings.peer_listen = "127.0.0.1:0".into();
        }
        let file = flags.config.clone().or_else(|| {
            env("RAFTD_CONFIG")
                .filter(|path| !path.is_empty())
                .map(PathBuf::from)
        });
        if let Some(path) = file {
            layers::apply_files(&mut settings, &path)?;
        }
        layers::apply_env(&mut settings, env)?;
        for assignment in &flags.set {
            layers::apply_set(&mut settings, assignment)?;
        }
        for (setting, text) in &flags.settings {
            let origin = layers::Origin::Flag(setting.flag.unwrap_or_default().to_owned());
            layers::apply(&mut settings, setting, text, &origin)?;
        }
        settings.check(flags.dev)?;
        Ok(settings)
    }

    /// Checks what no setting can know by itself. Which member of the initial cluster this node is
    /// matters to a new data directory only: [`cluster::own_id`] tells.
    fn check(&self, dev: bool) -> Result<(), Fatal> {
        if dev {
            let is_another = self.id != Some(NodeId(1)) || self.peer_advertise.is_some();
            if self.data_dir.is_some() || self.initial.is_some() || is_another {
                return Err(Fatal::new(
                    ExitStatus::Usage,
                    "--dev makes its own data directory and cluster",
                )
                .remedy(
                    "leave out --dev, or --data-dir, --initial-cluster, --id and --peer-advertise",
                ));
            }
        } else if self.data_dir.is_none() {
            return Err(Fatal::new(ExitStatus::Usage, "no data directory is given")
                .remedy("--data-dir DIR; or --dev for a cluster of one node to play with"));
        }
        if self.join.is_some() {
            self.check_join(dev)?;
        }
        self.check_addresses()?;
        if !self.segment_bytes.is_multiple_of(4096) {
            return Err(Fatal::new(
                ExitStatus::Config,
                format!(
                    "wal.segment_bytes is {}, no multiple of 4KiB",
                    self.segment_bytes
                ),
            )
            .at("wal.segment_bytes")
            .remedy("leave it out for 64MiB"));
        }
        let (election_timeout, heartbeat) = (self.election_timeout(), self.heartbeat());
        if heartbeat * 2 > election_timeout {
            return Err(Fatal::new(
                ExitStatus::Config,
                format!(
                    "raft.heartbeat ({}) is more than half of raft.election_timeout ({})",
                    humantime::format_duration(heartbeat),
                    humantime::format_duration(election_timeout)
                ),
            )
            .remedy("leave both out, or choose raft.timing"));
        }
        Ok(())
    }

    /// A node that joins has a name, by which it was added, and nothing else that says who it is.
    fn check_join(&self, dev: bool) -> Result<(), Fatal> {
        if dev || self.initial.is_some() || self.id.is_some() {
            let what = "--join asks a cluster that exists who this node is";
            return Err(Fatal::new(ExitStatus::Usage, what)
                .remedy("leave out --dev, --initial-cluster and --id, or --join"));
        }
        if self.name.is_none() {
            return Err(
                Fatal::new(ExitStatus::Usage, "--join needs the name that was added")
                    .remedy("--name NAME, as in raftctl add-peer NAME HOST:PORT"),
            );
        }
        Ok(())
    }

    /// The lower end of the election timeout; the upper end is twice that.
    #[must_use]
    pub fn election_timeout(&self) -> Duration {
        let preset = if self.wide_area { 1000 } else { 150 };
        self.election_timeout
            .unwrap_or(Duration::from_millis(preset))
    }

    /// The leader's heartbeat.
    #[must_use]
    pub fn heartbeat(&self) -> Duration {
        let preset = if self.wide_area { 250 } else { 40 };
        self.heartbeat.unwrap_or(Duration::from_millis(preset))
    }
}
