//! The daemon.

fn main() {
    raftd::daemon::main(std::env::args_os())
}
