//! The daemon's life: settings, ports, data directory, node, loop, end.

mod join;
mod progress;
mod scratch;

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind, Write};
use std::net::SocketAddr;
use std::path::Path;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use wire::types::{ClusterId, Epoch, Incarnation, NodeId};
use xxhash_rust::xxh3::xxh3_64;

use self::scratch::Scratch;
use crate::clock::Clock;
use crate::config::flags::{self, Flags, NoFlags};
use crate::config::table::SETTINGS;
use crate::config::{Settings, cluster};
use crate::disk::Meter;
use crate::entropy::random_u64;
use crate::fatal::{self, ExitStatus, Fatal};
use crate::logging;
use crate::net::{self, Driver, Listener, Parts, Port, Reactor};
use crate::node::{self, Node};
use crate::signal::StopSignals;
use crate::storage::{self, Opened};
use crate::store::session::SESSIONS_MAX;
use crate::supervisor::Supervisor;
use crate::wal::entry_bytes_max;
use crate::wal::identity::{IDENTITY_NAME, Identity};

/// Descriptors that are not for clients: the log's segments, peers, listeners, standard streams,
/// and connections that were refused and linger.
const OWN_FILES: u64 = 160;

/// Runs the program to its end.
pub fn main(args: impl IntoIterator<Item = OsString>) -> ! {
    match start(args) {
        Ok(()) => fatal::leave(),
        Err(fatal) => fatal::die(&fatal),
    }
}

fn start(args: impl IntoIterator<Item = OsString>) -> Result<(), Fatal> {
    let flags = match flags::parse(args) {
        Ok(flags) => flags,
        Err(NoFlags::Print(text)) => return print(&text),
        Err(NoFlags::Wrong(fatal)) => return Err(fatal),
    };
    let settings = Settings::load(&flags, |name| std::env::var_os(name))?;
    if flags.check_config {
        // No data directory is read: it might be a new one, for which the list counts.
        let initial = settings.initial.as_deref();
        return initial.map_or(Ok(()), |list| cluster::own_id(&settings, list).map(drop));
    }
    fatal::die_on_panic();
    logging::install(settings.log_level).map_err(|error| {
        Fatal::new(ExitStatus::Bug, format!("starting the log failed: {error}"))
    })?;
    run(&flags, settings)
}

fn print(text: &str) -> Result<(), Fatal> {
    let mut stdout = io::stdout().lock();
    let printed = stdout.write_all(text.as_bytes());
    match printed.and_then(|()| stdout.flush()) {
        Ok(()) => Ok(()),
        // A reader that has seen enough is no error.
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Ok(()),
        Err(error) => {
            let what = format!("writing to standard output failed: {error}");
            Err(Fatal::new(ExitStatus::Io, what))
        }
    }
}

fn run(flags: &Flags, mut settings: Settings) -> Result<(), Fatal> {
    warn_of_unknown_env();
    let mut signals = StopSignals::install()?;
    raise_file_limit(&mut settings);
    let client = Listener::bind(&settings.listen, Port::Client, settings.stall_timeout)?;
    let client_addr = settings.client_addr(client.addr)?;
    let peer = Listener::bind(&settings.peer_listen, Port::Peer, settings.stall_timeout)?;
    // Removed when this function returns, whatever the reason.
    let scratch = match flags.dev {
        true => Some(Scratch::make()?),
        false => None,
    };
    if let Some(scratch) = &scratch {
        settings.data_dir = Some(scratch.path().to_owned());
        settings.initial = Some(vec![(NodeId(1), peer.addr.to_string())]);
    }
    let clock = Clock::start();
    let ready = format!("ready client={} peer={}", client.addr, peer.addr);
    let mut supervisor = Supervisor::from_env();
    let admitted = match join_first(&settings, peer.addr, &ready, &mut supervisor, &mut signals)? {
        Start::Stop => return Ok(()),
        Start::Open(admitted) => admitted,
    };
    let joins = admitted.is_some();
    let opened = match &scratch {
        None => signals.end_at_once_during(|| open(&settings, admitted, &mut supervisor)),
        // It is empty, which takes no time, and is to be removed at the end.
        Some(_) => open(&settings, admitted, &mut supervisor),
    }?;
    let reactor = Reactor::new()?;
    let identity = opened.identity.clone();
    let config = node_config(&settings, &identity, client_addr, opened.wal_bytes())?;
    let (restored, storage) = opened.start(reactor.notifier());
    let node = Node::new(config, restored, clock.now());
    let peers = node.peers();
    let driver = Driver::new(Parts {
        reactor,
        clock,
        node,
        storage,
        listeners: vec![client, peer],
        signals,
        peers,
        limits: net_limits(&settings),
        seed: random_u64()?,
        supervisor,
    })?;
    if !joins {
        log::info!("{ready}");
    }
    match driver.run()?.finish() {
        true => log::info!("stopped"),
        false => log::warn!("stopped before the disk was done"),
    }
    Ok(())
}

/// A slip in a variable's name would go unnoticed. No error: container managers put variables of
/// their own beside ours.
fn warn_of_unknown_env() {
    let known =
        |name: &str| name == "RAFTD_CONFIG" || SETTINGS.iter().any(|setting| setting.env() == name);
    for (name, _) in std::env::vars_os() {
        let name = name.to_string_lossy();
        if name.starts_with("RAFTD_") && !known(&name) {
            log::warn!("environment variable ignored name={name:?}");
        }
    }
}

/// How a start goes on.
enum Start {
    /// A signal came.
    Stop,
    /// With the data directory as it is, or with a new identity of a node that was admitted.
    Open(Option<Identity>),
}

/// A node that is to join waits until it is admitted, if this is its first start. It listens and is
/// ready, as far as it can be.
fn join_first(
    settings: &Settings,
    peer: SocketAddr,
    ready: &str,
    supervisor: &mut Supervisor,
    signals: &mut StopSignals,
) -> Result<Start, Fatal> {
    let (Some(seeds), Some(dir), Some(name)) = (&settings.join, &settings.data_dir, &settings.name)
    else {
        return Ok(Start::Open(None));
    };
    if look_into(dir)? == Found::Identity {
        log::info!("join ignored: the data directory has a cluster");
        return Ok(Start::Open(None));
    }
    let peer_addr = settings.peer_addr(peer)?;
    storage::make_dir(dir)?;
    // Whoever else waits here would draw an incarnation of its own.
    let _lock = storage::lock(dir)?;
    storage::check_restored(dir)?;
    let incarnation = join::incarnation(dir)?;
    log::info!("{ready}");
    supervisor.ready();
    supervisor.waiting(name, &peer_addr);
    let newcomer = join::Newcomer {
        seeds: seeds.clone(),
        name: name.clone(),
        peer_addr,
        incarnation,
    };
    let Some(admitted) = join::await_admission(newcomer, supervisor, signals)? else {
        log::info!("stopped");
        return Ok(Start::Stop);
    };
    log::info!(
        "admitted node={} cluster={}",
        admitted.node,
        admitted.cluster
    );
    Ok(Start::Open(Some(Identity {
        cluster: admitted.cluster,
        node: admitted.node,
        incarnation,
        epoch: admitted.epoch,
        formed: admitted.formed,
        members: admitted.members,
        next_epoch: None,
    })))
}

/// Opens the data directory, or makes it if this is the node's first start.
fn open(
    settings: &Settings,
    admitted: Option<Identity>,
    supervisor: &mut Supervisor,
) -> Result<Opened, Fatal> {
    let data_dir = settings
        .data_dir
        .clone()
        .expect("checked with the settings");
    let found = look_into(&data_dir)?;
    let first = found != Found::Identity;
    let joins = admitted.is_some();
    let create = match &settings.initial {
        _ if joins => admitted,
        Some(members) if first => Some(new_identity(settings, members)?),
        None if found == Found::Nothing => return Err(nothing_to_start_from(&data_dir)),
        _ => None,
    };
    if !first {
        log::info!("recovering path={}", data_dir.display());
    }
    let options = storage::Options {
        data_dir: data_dir.clone(),
        segment_bytes: settings.segment_bytes,
        soft_free_bytes: settings.soft_free_bytes,
        tail_bytes: settings.cache_bytes,
        sessions_max: SESSIONS_MAX,
        snapshot_rate_bytes: settings.snapshot_rate_bytes,
        scrubbing: settings.scrubbing,
        meter: Meter::default(),
        create,
        seed: random_u64()?,
    };
    let recover = || storage::open(&options);
    let opened = progress::told(&data_dir, &options.meter, supervisor, recover)?;
    if joins {
        join::forget_incarnation(&data_dir);
    }
    let identity = &opened.identity;
    log::info!(
        "data directory open path={} cluster={} node={}",
        data_dir.display(),
        identity.cluster,
        identity.node
    );
    log::info!("{}", opened.report);
    if let Some(id) = settings.id
        && id != identity.node
    {
        let what = format!(
            "the data directory belongs to node {}, not to node {id}",
            identity.node
        );
        return Err(Fatal::new(ExitStatus::Config, what)
            .at(data_dir.display())
            .remedy("another --data-dir, or leave out --id"));
    }
    if let Some(members) = &settings.initial
        && !first
    {
        let same = cluster::cluster_id(members, &settings.token) == identity.cluster;
        log::info!("initial cluster ignored: the data directory has one same={same}");
    }
    Ok(opened)
}

/// What a data directory holds at first sight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    /// Nothing, or it is not there.
    Nothing,
    /// Files, but none that says who it is: a first start that did not get to its end, or damage.
    /// Storage knows how to tell.
    Remains,
    /// It says who it is.
    Identity,
}

fn look_into(dir: &Path) -> Result<Found, Fatal> {
    let mut found = Found::Nothing;
    match fs::read_dir(dir) {
        Ok(entries) => {
            for name in entries.flatten().map(|entry| entry.file_name()) {
                if name == IDENTITY_NAME {
                    return Ok(Found::Identity);
                }
                if storage::is_data(&name) {
                    found = Found::Remains;
                }
            }
            Ok(found)
        }
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(found),
        Err(error) => {
            let status = match error.kind() {
                ErrorKind::PermissionDenied => ExitStatus::Permission,
                ErrorKind::NotADirectory => ExitStatus::Config,
                _ => ExitStatus::Io,
            };
            let what = format!("the data directory cannot be read: {error}");
            Err(Fatal::new(status, what)
                .at(dir.display())
                .remedy("a --data-dir that this user may read and write"))
        }
    }
}

fn nothing_to_start_from(dir: &Path) -> Fatal {
    Fatal::new(ExitStatus::Config, "the data directory is empty, and nothing says which cluster to form")
        .at(dir.display())
        .remedy(
            "--id 1 --initial-cluster 1=HOST:PORT for a cluster of this node alone (its peer address), or\n\
             --id N --initial-cluster 1=HOST:PORT,2=HOST:PORT,.. for more, the same list on every member;\n\
             --name NAME --join HOST:PORT for a cluster that this node was added to (raftctl add-peer);\n\
             --dev, without a data directory, for a cluster of one to play with",
        )
}

fn new_identity(settings: &Settings, members: &[(NodeId, String)]) -> Result<Identity, Fatal> {
    let cluster = cluster::cluster_id(members, &settings.token);
    Ok(Identity {
        cluster,
        node: cluster::own_id(settings, members)?,
        incarnation: Incarnation(random_u64()?.max(1)),
        epoch: first_epoch(cluster),
        formed: Vec::new(),
        members: members.to_vec(),
        next_epoch: None,
    })
}

/// The members of a new cluster must agree on its epoch before they can talk: it follows from the
/// cluster id. Later epochs are drawn (rules C7).
fn first_epoch(cluster: ClusterId) -> Epoch {
    Epoch(xxh3_64(&cluster.0.to_be_bytes()).max(1))
}

fn node_config(
    settings: &Settings,
    identity: &Identity,
    client_addr: String,
    wal_bytes: u64,
) -> Result<node::Config, Fatal> {
    let name = settings
        .name
        .clone()
        .unwrap_or_else(|| format!("n{}", identity.node));
    Ok(node::Config {
        id: identity.node,
        name,
        client_addr,
        members: identity.members.clone(),
        cluster: identity.cluster,
        epoch: identity.epoch,
        incarnation: identity.incarnation,
        life: random_u64()?,
        formed: identity.formed.clone(),
        election_timeout_min: settings.election_timeout(),
        election_timeout_max: settings.election_timeout() * 2,
        heartbeat: settings.heartbeat(),
        limits: node::Limits {
            window_bytes: settings.window_bytes,
            cache_bytes: settings.cache_bytes,
            uncommitted_bytes_max: settings.uncommitted_bytes,
            entry_bytes_max: entry_bytes_max(settings.segment_bytes),
            ..node::Limits::default()
        },
        snapshots: settings.snapshots,
        wal_bytes,
        seed: random_u64()?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
    })
}

fn net_limits(settings: &Settings) -> net::Limits {
    net::Limits {
        connections_max: settings.connections_max,
        newcomers_max: settings.newcomers_max,
        hello_timeout: settings.hello_timeout,
        frame_timeout: settings.frame_timeout,
        stall_timeout: settings.stall_timeout,
        output_bytes: settings.output_bytes,
        input_bytes: settings.input_bytes,
        link_output_bytes: 2 * settings.window_bytes + (16 << 20),
    }
}

/// Raises the soft limit of open files to the hard one, and fits the connections into it.
fn raise_file_limit(settings: &mut Settings) {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    let files = match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            log::warn!("limit of open files not raised error=\"{error}\"");
            limit.current
        }
    };
    let Some(files) = files else {
        return;
    };
    let room =
        usize::try_from(files.saturating_sub(OWN_FILES).max(files / 4)).unwrap_or(usize::MAX);
    if room < settings.connections_max {
        log::warn!(
            "fewer client connections connections_max={room} wanted={} open_files={files}",
            settings.connections_max
        );
        settings.connections_max = room.max(1);
    }
}
