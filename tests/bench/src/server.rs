//! The systems under measurement: how each is started, and where it listens.

use std::fs::{self, OpenOptions};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

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

fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    // Debian puts servers where an ordinary user's PATH does not look.
    let more = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    let mut places = std::env::split_paths(&path).chain(more);
    places.find_map(|place| Some(place.join(name)).filter(|program| program.is_file()))
}

/// A node, running or not; it ends with this value.
#[derive(Debug)]
struct Node {
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
        fs::create_dir_all(directory)?;
        let ports = free_ports(2 * count)?;
        let (clients, peers) = ports.split_at(count);
        let at = |port: &u16| format!("127.0.0.1:{port}");
        let node = |node| {
            let mut arguments = match system {
                System::Raftd => raftd(node, clients, peers, directory),
                System::Etcd => etcd(node, clients, peers, directory),
                System::Redis => redis(clients[node], directory),
            };
            arguments.extend(more.iter().map(|&argument| argument.to_owned()));
            Node {
                program: program.to_path_buf(),
                arguments,
                directory: directory.to_path_buf(),
                log: directory.join(format!("{node}.log")),
                child: None,
            }
        };
        let mut cluster = Self {
            nodes: (0..count).map(node).collect(),
            endpoints: clients.iter().map(at).collect(),
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
                let leads = |endpoint: &String| {
                    metrics(endpoint).is_ok_and(|m| m.contains("\netcd_server_is_leader 1\n"))
                };
                let Some(leader) = self.endpoints.iter().position(leads) else {
                    return false;
                };
                self.endpoints.swap(0, leader);
                self.endpoints.iter().all(|endpoint| {
                    metrics(endpoint).is_ok_and(|m| m.contains("\netcd_server_has_leader 1\n"))
                })
            }
        }
    }
}

/// Ports that were free a moment ago.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let bind = |_| TcpListener::bind(("127.0.0.1", 0));
    let listeners: Vec<_> = (0..count).map(bind).collect::<io::Result<_>>()?;
    let port = |listener: &TcpListener| Ok(listener.local_addr()?.port());
    listeners.iter().map(port).collect()
}

fn raftd(node: usize, clients: &[u16], peers: &[u16], directory: &Path) -> Vec<String> {
    let members: Vec<_> = (1..)
        .zip(peers)
        .map(|(id, port)| format!("{id}=127.0.0.1:{port}"))
        .collect();
    [
        ("--id", (node + 1).to_string()),
        ("--data-dir", path(&directory.join(format!("n{node}")))),
        ("--listen", format!("127.0.0.1:{}", clients[node])),
        ("--peer-listen", format!("127.0.0.1:{}", peers[node])),
        ("--initial-cluster", members.join(",")),
    ]
    .into_iter()
    .flat_map(|(flag, value)| [flag.to_owned(), value])
    .collect()
}

fn etcd(node: usize, clients: &[u16], peers: &[u16], directory: &Path) -> Vec<String> {
    let members: Vec<_> = (0..)
        .zip(peers)
        .map(|(i, port)| format!("n{i}=http://127.0.0.1:{port}"))
        .collect();
    let client = format!("http://127.0.0.1:{}", clients[node]);
    let peer = format!("http://127.0.0.1:{}", peers[node]);
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
    let mut stream = TcpStream::connect(endpoint)?;
    stream.set_read_timeout(Some(Duration::from_secs(2)))?;
    write!(stream, "GET /metrics HTTP/1.0\r\nHost: {endpoint}\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
