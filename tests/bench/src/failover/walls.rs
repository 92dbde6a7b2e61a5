//! A network of its own for each node, which can be taken away without a word: no reset, no error,
//! only silence. Takes root and `ip`.

use std::io;
use std::process::Command;

/// The bridge's name, and the beginning of all others: with the process id, so that two runs do not
/// meet.
fn name(part: &str) -> String {
    format!("fo{}{part}", std::process::id() % 100_000)
}

/// Network namespaces on one bridge; they end with this value.
#[derive(Debug)]
pub struct Walls {
    nodes: usize,
}

impl Walls {
    /// Builds them.
    ///
    /// # Errors
    /// Not permitted, or `ip` is not there.
    pub fn build(nodes: usize) -> io::Result<Self> {
        let walls = Self { nodes };
        let bridge = name("b");
        ip(&["link", "add", &bridge, "type", "bridge"])?;
        ip(&["addr", "add", "10.213.77.254/24", "dev", &bridge])?;
        ip(&["link", "set", &bridge, "up"])?;
        for node in 0..nodes {
            let (space, outer) = (Self::space(node), Self::outer(node));
            let inner = name(&format!("i{node}"));
            let addr = format!("{}/24", Self::host(node));
            ip(&["netns", "add", &space])?;
            ip(&[
                "link", "add", &outer, "type", "veth", "peer", "name", &inner,
            ])?;
            ip(&["link", "set", &inner, "netns", &space])?;
            ip(&["-n", &space, "addr", "add", &addr, "dev", &inner])?;
            ip(&["-n", &space, "link", "set", &inner, "up"])?;
            ip(&["-n", &space, "link", "set", "lo", "up"])?;
            ip(&["link", "set", &outer, "up"])?;
            walls.heal(node)?;
        }
        Ok(walls)
    }

    /// The address of a node.
    #[must_use]
    pub fn host(node: usize) -> String {
        format!("10.213.77.{}", node + 1)
    }

    /// What a command begins with that is to run in a node's network.
    #[must_use]
    pub fn inside(node: usize) -> Vec<String> {
        let space = Self::space(node);
        ["ip", "netns", "exec", &space].map(str::to_owned).to_vec()
    }

    /// From now on nothing goes to this node or comes from it.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn cut(&self, node: usize) -> io::Result<()> {
        ip(&["link", "set", &Self::outer(node), "nomaster"])
    }

    /// Ends that.
    ///
    /// # Errors
    /// `ip` fails.
    pub fn heal(&self, node: usize) -> io::Result<()> {
        ip(&["link", "set", &Self::outer(node), "master", &name("b")])
    }

    fn space(node: usize) -> String {
        name(&format!("n{node}"))
    }

    fn outer(node: usize) -> String {
        name(&format!("o{node}"))
    }
}

impl Drop for Walls {
    fn drop(&mut self) {
        for node in 0..self.nodes {
            // Half of it may not have been built.
            let _ = ip(&["netns", "del", &Self::space(node)]);
            let _ = ip(&["link", "del", &Self::outer(node)]);
        }
        let _ = ip(&["link", "del", &name("b")]);
    }
}

fn ip(arguments: &[&str]) -> io::Result<()> {
    let output = Command::new("ip").args(arguments).output()?;
    if output.status.success() {
        return Ok(());
    }
    let words = String::from_utf8_lossy(&output.stderr);
    let line = format!("ip {}: {}", arguments.join(" "), words.trim());
    Err(io::Error::other(line))
}
