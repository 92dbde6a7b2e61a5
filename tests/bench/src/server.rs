//! The systems under measurement: how each is started, and where it listens.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::failover::Walls;

/// Who is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum System {
    /// This project, three nodes.
    Raftd,
    /// etcd, three nodes.
    Etcd,
    /// Redis, one node that syncs its append-only file before each answer.
    Redis,
}

impl System {
    /// As rows name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Raftd => "raftd",
            Self::Etcd => "etcd",
            Self::Redis => "redis-unreplicated",
        }
    }

    /// The program, found in `PATH` or built.
    #[must_use]
    pub fn program(self, raftd: &Path) -> Option<PathBuf> {
        match self {
            Self::Raftd => Some(raftd.to_path_buf()).filter(|raftd| raftd.is_file()),
            Self::Etcd => find("etcd"),
            Self::Redis => find("redis-server"),
        }
    }

    /// The program's version in its own words.
    #[must_use]
    pub fn version(self, raftd: &Path) -> String {
        let Some(program) = self.program(raftd) else {
            return "absent".into();
        };
        let output = Command::new(program).arg("--version").output();
        let text = output.map(|o| String::from_utf8_lossy(&o.stdout).into_owned());
        let line = text.unwrap_or_default();
        line.lines().next().unwrap_or("?").to_owned()
    }

    fn nodes(self) -> usize {
        match self {
            Self::Raftd | Self::Etcd => 3,
            Self::Redis => 1,
        }
    }
}

/// A program, found in `PATH`.
pub fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Debian puts servers where an ordinary user's PATH does not look.
    let more = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let mut places = std::env::split_paths(&path).chain(more);
    places.find_map(|place| Some(place.join(name)).filter(|program| program.is_file()))
}

/// Where nodes run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    /// All in this network.
    Loopback,
    /// Each in its own: those of [`Walls`].
    Walls,
}

impl Net {
    fn host(self, node: usize) -> String {
        match self {
            Self::Loopback => "127.0.0.1".to_owned(),
            Self::Walls => Walls::host(node),
        }
    }

    fn inside(self, node: usize) -> Vec<String> {
        match self {
            Self::Loopback => Vec::new(),
            Self::Walls => Walls::inside(node),
        }
    }
}

/// What a process is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGSTOP.
    Stop,
    /// SIGCONT.
    Continue,
}

/// A node, running or not; it ends with this value.
#[derive(Debug)]
struct Node {
    /// What the command line begins with.
    inside: Vec<String>,
    program: PathBuf,
    arguments: Vec<String>,
    directory: PathBuf,
    log: PathBuf,
    child: Option<Child>,
}

impl Node {
    fn start(&mut self) -> io::Result<()> {
        let log = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.log)?;
        // Should this process be killed, its servers go too.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .args(&self.inside)
            .arg(&self.program)
            .args(&self.arguments)
            .current_dir(&self.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()?;
        self.child = Some(child);
        Ok(())
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            // It may have ended by itself.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A running cluster; it ends with this value.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    /// `HOST:PORT` for clients, one per node; the leader's first where that is not told.
    pub endpoints: Vec<String>,
    /// The same, in the order of the nodes.
    pub addrs: Vec<String>,
}

impl Cluster {
    /// Starts `system` on fresh data under `directory` and waits until it serves.
    ///
    /// # Errors
    /// It does not start, or does not serve within 30 seconds; the logs are in `directory`.
    pub fn start(system: System, program: &Path, directory: &Path) -> io::Result<Self> {
        Self::start_of(system, program, directory, system.nodes(), &[])
    }

    /// Like [`Cluster::start`], with so many nodes and with more arguments for each.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn start_of(
        system: System,
        program: &Path,
        directory: &Path,
        count: usize,
        more: &[&str],
    ) -> io::Result<Self> {
        Self::start_in(Net::Loopback, system, program, directory, count, more)
    }

    /// Like [`Cluster::start_of`], in some network.
    ///
    /// # Errors
    /// As [`Cluster::start`].
    pub fn start_in(
        net: Net,
        system: System,
        program: &Path,
        directory: &Path,
        count: usize,
        more: &[&str],
    ) -> io::Result<Self> {
        fs::create_dir_all(directory)?;
        let ports = free_ports(2 * count)?;
        let (clients, peers) = ports.split_at(count);
        let at = |(node, port): (usize, &u16)| format!("{}:{port}", net.host(node));
        let clients_at: Vec<String> = clients.iter().enumerate().map(at).collect();
        let peers_at: Vec<String> = peers.iter().enumerate().map(at).collect();
        let node = |node| {
            let mut arguments = match system {
                System::Raftd => raftd(node, &clients_at, &peers_at, directory),
                System::Etcd => etcd(node, &clients_at, &peers_at, directory),
                System::Redis => redis(clients[node], directory),
            };
            arguments.extend(more.iter().map(|&argument| argument.to_owned()));
            Node {
                inside: net.inside(node),
                program: program.to_path_buf(),
                arguments,
                directory: directory.to_path_buf(),
                log: directory.join(format!("{node}.log")),
                child: None,
            }
        };
        let mut cluster = Self {
            nodes: (0..count).map(node).collect(),
            endpoints: clients_at.clone(),
            addrs: clients_at.clone(),
        };
        cluster.nodes.iter_mut().try_for_each(Node::start)?;
        cluster.wait(system)?;
        Ok(cluster)
    }

    /// The processes.
    #[must_use]
    pub fn pids(&self) -> Vec<u32> {
        let running = self.nodes.iter().filter_map(|node| node.child.as_ref());
        running.map(Child::id).collect()
    }

    /// Kills a node, counted from 0 in the order of starting.
    pub fn kill(&mut self, node: usize) {
        self.nodes[node].kill();
    }

    /// Tells a node to end, and waits until it has.
    ///
    /// # Errors
    /// It cannot be told.
    pub fn end(&mut self, node: usize) -> io::Result<()> {
        self.signal(node, Signal::Terminate)?;
        if let Some(mut child) = self.nodes[node].child.take() {
            child.wait()?;
        }
        Ok(())
    }

    /// Sends a signal to a node.
    ///
    /// # Errors
    /// It does not run, or `kill` fails.
    pub fn signal(&self, node: usize, signal: Signal) -> io::Result<()> {
        let child = self.nodes[node].child.as_ref();
        let pid = child.ok_or(io::ErrorKind::NotFound)?.id();
        let name = match signal {
            Signal::Terminate => "-TERM",
            Signal::Stop => "-STOP",
            Signal::Continue => "-CONT",
        };
        let status = Command::new("kill")
            .args([name, &pid.to_string()])
            .status()?;
        if status.success() {
            Ok(())
        } else {
            Err(io::Error::other("kill failed"))
        }
    }

    /// Starts a node that was killed, on the data that it left, and does not wait.
    ///
    /// # Errors
    /// It cannot be started.
    pub fn restart(&mut self, node: usize) -> io::Result<()> {
        self.nodes[node].start()
    }

    /// Starts every node that was killed.
    ///
    /// # Errors
    /// One cannot be started.
    pub fn restart_all(&mut self) -> io::Result<()> {
        let mut killed = self.nodes.iter_mut().filter(|node| node.child.is_none());
        killed.try_for_each(Node::start)
    }

    fn wait(&mut self, system: System) -> io::Result<()> {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.serves(system) {
            for child in self.nodes.iter_mut().filter_map(|node| node.child.as_mut()) {
                if let Some(status) = child.try_wait()? {
                    return Err(io::Error::other(format!("a node ended: {status}")));
                }
            }
            if Instant::now() > deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    /// Whether clients are served; moves etcd's leader to the front, for its clients are not told
    /// where it is, and what others receive they pass on at a cost.
    fn serves(&mut self, system: System) -> bool {
        match system {
            // raftd's hello tells the leader: the generator finds it.
            System::Raftd | System::Redis => {
                self.endpoints.iter().all(|e| TcpStream::connect(e).is_ok())
            }
            System::Etcd => {
                let Some(leader) = self.endpoints.iter().position(|e| leads(e)) else {
                    return false;
                };
                self.endpoints.swap(0, leader);
                self.endpoints.iter().all(|endpoint| follows(endpoint))
            }
        }
    }
}

/// Whether a node of etcd leads.
#[must_use]
pub fn leads(endpoint: &str) -> bool {
    metrics(endpoint).is_ok_and(|m| m.contains("\netcd_server_is_leader 1\n"))
}

/// Whether a node of etcd knows a leader.
#[must_use]
pub fn follows(endpoint: &str) -> bool {
    metrics(endpoint).is_ok_and(|m| m.contains("\netcd_server_has_leader 1\n"))
}

/// Ports that were free a moment ago.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let bind = |_| TcpListener::bind(("127.0.0.1", 0));
    let listeners: Vec<_> = (0..count).map(bind).collect::<io::Result<_>>()?;
    let port = |listener: &TcpListener| Ok(listener.local_addr()?.port());
    listeners.iter().map(port).collect()
}

fn raftd(node: usize, clients: &[String], peers: &[String], directory: &Path) -> Vec<String> {
    let members: Vec<_> = (1..)
        .zip(peers)
        .map(|(id, addr)| format!("{id}={addr}"))
        .collect();
    [
        ("--id", (node + 1).to_string()),
        ("--data-dir", path(&directory.join(format!("n{node}")))),
        ("--listen", clients[node].clone()),
        ("--peer-listen", peers[node].clone()),
        ("--initial-cluster", members.join(",")),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect()
}

fn etcd(node: usize, clients: &[String], peers: &[String], directory: &Path) -> Vec<String> {
    let members: Vec<_> = (0..)
        .zip(peers)
        .map(|(i, addr)| format!("n{i}=http://{addr}"))
        .collect();
    let client = format!("http://{}", clients[node]);
    let peer = format!("http://{}", peers[node]);
    [
        ("--name", format!("n{node}")),
        ("--data-dir", path(&directory.join(format!("n{node}")))),
        ("--listen-client-urls", client.clone()),
        ("--advertise-client-urls", client),
        ("--listen-peer-urls", peer.clone()),
        ("--initial-advertise-peer-urls", peer),
        ("--initial-cluster", members.join(",")),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect()
}

fn redis(port: u16, directory: &Path) -> Vec<String> {
    let pairs = [
        ("--port", port.to_string()),
        ("--dir", path(directory)),
        ("--appendonly", "yes".into()),
        ("--appendfsync", "always".into()),
        ("--save", String::new()),
    ];
    pairs
        .into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
}

fn path(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// What a node of etcd tells at `/metrics`.
fn metrics(endpoint: &str) -> io::Result<String> {
    let addr = endpoint.parse().map_err(io::Error::other)?;
    let mut stream = TcpStream::connect_timeout(&addr, Duration::from_secs(2))?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {endpoint}\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
