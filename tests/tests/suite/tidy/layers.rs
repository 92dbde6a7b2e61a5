//! Who may know whom.

use raftd_tests::source::{Source, words};

use super::{House, demand, must_catch};

/// What code below a folder must not name, and why.
struct Layer {
    below: &'static str,
    except: &'static [&'static str],
    bans: &'static [&'static str],
    why: &'static str,
}

const LAYERS: &[Layer] = &[
    Layer {
        below: "raftd/src/node/",
        except: &[],
        bans: &[
            "crate::net",
            "crate::storage",
            "crate::wal",
            "crate::disk",
            "crate::clock",
        ],
        why: "the node is driven; it drives nothing",
    },
    Layer {
        below: "raftd/src/store/",
        except: &[],
        bans: &[
            "crate::net",
            "crate::storage",
            "crate::wal",
            "crate::disk",
            "crate::node",
            "raft::",
        ],
        why: "the store knows commands and nothing else",
    },
    Layer {
        below: "raftd/src/wal/",
        except: &[],
        bans: &[
            "crate::net",
            "crate::node",
            "crate::store::",
            "crate::disk::os",
            "memmap2",
            "rustix",
        ],
        why: "the log plans disk work and never touches the OS",
    },
    Layer {
        below: "raftd/src/snapshot/",
        except: &[],
        bans: &[
            "crate::net",
            "crate::node",
            "crate::storage",
            "crate::wal",
            "crate::disk::os",
            "raft::",
            "memmap2",
            "rustix",
        ],
        why: "snapshots are a state and a disk; they know no log",
    },
    Layer {
        below: "raftd/src/net/",
        except: &[],
        bans: &["crate::wal", "crate::disk", "crate::store"],
        why: "the loop moves bytes and values; it knows no format and no state",
    },
    Layer {
        below: "raftd/src/",
        except: &["raftd/src/daemon/"],
        bans: &["crate::daemon"],
        why: "the daemon puts the parts together; none of them knows it",
    },
    Layer {
        below: "raftd/src/",
        except: &["raftd/src/clock.rs"],
        bans: &["time::Instant", "Instant::now", "SystemTime"],
        why: "only clock.rs reads time",
    },
    Layer {
        below: "raftd/",
        except: &["raftd/src/fatal.rs", "raftd/tests/"],
        bans: &["process::exit", "process::abort"],
        why: "only fatal.rs ends the process",
    },
    Layer {
        below: "raftctl/",
        except: &["raftctl/src/main.rs", "raftctl/tests/"],
        bans: &["process::exit", "process::abort"],
        why: "the exit code is decided in one place",
    },
    Layer {
        below: "raftctl/src/",
        except: &[
            "raftctl/src/main.rs",
            "raftctl/src/dispatch.rs",
            "raftctl/src/usage.rs",
            "raftctl/src/cli.rs",
        ],
        bans: &["crate::dispatch", "crate::usage", "crate::cli"],
        why: "a verb knows nothing of the line that called it",
    },
    Layer {
        below: "raftctl/src/",
        except: &[
            "raftctl/src/main.rs",
            "raftctl/src/dispatch.rs",
            "raftctl/src/cli.rs",
            "raftctl/src/cmd/",
        ],
        bans: &["crate::cmd"],
        why: "verbs are made of what is below them",
    },
    Layer {
        below: "",
        except: &["raftd/src/disk/os.rs"],
        bans: &["unsafe"],
        why: "only disk/os.rs is unsafe",
    },
];

/// What no deterministic code may name.
const DETERMINISTIC: &[&str] = &[
    "raftd/src/node/",
    "raftd/src/snapshot/",
    "raftd/src/store/",
    "raftd/src/wal/",
];
const OUTER_WORLD: &[&str] = &[
    "mio",
    "std::thread",
    "std::fs",
    "std::net",
    "std::env",
    "std::process",
    "std::time::SystemTime",
];
/// Folders whose iteration order must be the same on every node.
const ORDERED: &[&str] = &["raftd/src/node/", "raftd/src/snapshot/", "raftd/src/store/"];
const UNORDERED: &[&str] = &["HashMap", "HashSet", "foldhash"];

/// The no_std crates, and the only roots that they may import from.
const PURE: &[(&str, &[&str])] = &[
    (
        "wire/src/",
        &["alloc", "core", "byteorder", "bytes", "crc32fast"],
    ),
    ("raftd/raft/src/", &["alloc", "core", "bytes", "wire"]),
];

#[test]
fn layers_import_only_what_is_below() {
    demand(layers);
    must_catch(
        layers,
        &[
            &[("raftd/src/node/mod.rs", "use std::{fs, io};")],
            &[("raftd/src/node/mod.rs", "fn f() { std::thread::spawn(g); }")],
            &[("raftd/src/node/mod.rs", "use crate::net::Loop;")],
            &[("raftd/src/store/mod.rs", "use std::collections::HashMap;")],
            &[("raftd/src/wal/mod.rs", "use std::net::TcpStream;")],
            &[("raftd/src/snapshot/mod.rs", "use crate::wal::Damage;")],
            &[("raftd/src/snapshot/load.rs", "use std::thread;")],
            &[("raftd/src/net/mod.rs", "let t = Instant::now();")],
            &[("raftd/src/net/mod.rs", "use crate::daemon::start;")],
            &[("raftd/src/main.rs", "fn main() { std::process::exit(1) }")],
            &[("raftctl/src/client.rs", "fn f() { std::process::exit(1) }")],
            &[("raftctl/src/cmd/get.rs", "use crate::cli::Cli;")],
            &[("raftctl/src/bulk/mod.rs", "use crate::cmd::put;")],
            &[("raftd/src/disk/mod.rs", "fn f() { unsafe { g() } }")],
            &[("raftd/raft/src/log.rs", "use std::vec::Vec;")],
            &[("raftd/raft/src/log.rs", "use raftd::store::Store;")],
            &[("wire/src/frame.rs", "use mio::Token;")],
        ],
    );
}

fn layers(house: &House) -> Vec<String> {
    let mut found = Vec::new();
    for file in house.rust() {
        let imports = file.imports();
        let mut refuse = |bans: &[&str], why: &str| {
            for ban in bans {
                let imported = imports.iter().any(|path| words(path, ban).next().is_some());
                if imported || words(&file.product, ban).next().is_some() {
                    found.push(format!("{}: names `{ban}`: {why}", file.path));
                }
            }
        };
        for layer in LAYERS {
            let excepted = layer.except.iter().any(|path| file.path.starts_with(path));
            if file.path.starts_with(layer.below) && !excepted {
                refuse(layer.bans, layer.why);
            }
        }
        if DETERMINISTIC
            .iter()
            .any(|folder| file.path.starts_with(folder))
        {
            refuse(
                OUTER_WORLD,
                "deterministic code gets time, bytes and chance as arguments",
            );
        }
        if ORDERED.iter().any(|folder| file.path.starts_with(folder)) {
            refuse(
                UNORDERED,
                "the order of iteration must be the same everywhere",
            );
        }
        if PURE.iter().any(|(folder, _)| file.path.starts_with(folder)) {
            refuse(&["std"], "no_std");
        }
        found.extend(strangers(file, &imports));
    }
    found
}

/// What a file of a no_std crate imports from elsewhere than it may.
fn strangers(file: &Source, imports: &[String]) -> Vec<String> {
    let Some((_, roots)) = PURE
        .iter()
        .find(|(folder, _)| file.path.starts_with(folder))
    else {
        return Vec::new();
    };
    let stranger = |path: &&String| {
        let first = path.split("::").next().unwrap_or(path);
        let own = matches!(first, "crate" | "self" | "super")
            || first.starts_with(|c: char| c.is_ascii_uppercase());
        !own && !roots.contains(&first)
    };
    imports
        .iter()
        .filter(stranger)
        .map(|path| format!("{}: imports `{path}`, may import {roots:?}", file.path))
        .collect()
}
