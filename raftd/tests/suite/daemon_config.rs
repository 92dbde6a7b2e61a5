//! Flags, environment, files: precedence, units, refusals with their place and remedy.

use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use raftd::config::cluster::{cluster_id, own_id};
use raftd::config::flags::{self, NoFlags};
use raftd::config::table::SETTINGS;
use raftd::config::{Settings, layers};
use raftd::fatal::{ExitStatus, Fatal};
use raftd::value;
use wire::types::NodeId;

fn load_with(args: &[&str], env: &[(&str, &str)]) -> Result<Settings, Fatal> {
    let args = std::iter::once("raftd").chain(args.iter().copied());
    let flags = match flags::parse(args.map(OsString::from)) {
        Ok(flags) => flags,
        Err(NoFlags::Wrong(fatal)) => return Err(fatal),
        Err(NoFlags::Print(text)) => panic!("{text}"),
    };
    Settings::load(&flags, |name| {
        let found = env.iter().find(|(key, _)| *key == name);
        found.map(|(_, value)| OsString::from(*value))
    })
}

fn load(args: &[&str]) -> Result<Settings, Fatal> {
    load_with(&[&["--data-dir", "/x"], args].concat(), &[])
}

fn toml(text: &str) -> Result<Settings, Fatal> {
    let mut settings = Settings::defaults();
    layers::apply_toml(&mut settings, Path::new("raftd.toml"), text)?;
    Ok(settings)
}

#[test]
fn every_default_of_the_table_is_readable_and_every_key_has_a_section() {
    let defaults = Settings::defaults();
    assert_eq!(defaults.segment_bytes, 64 << 20);
    assert_eq!(defaults.listen, "127.0.0.1:7400");
    for setting in SETTINGS {
        assert_eq!(setting.key.split('.').count(), 2, "{}", setting.key);
        let same_env = SETTINGS.iter().filter(|other| other.env() == setting.env());
        assert_eq!(same_env.count(), 1, "{}", setting.env());
    }
}

#[test]
fn a_flag_wins_over_env_over_drop_ins_over_the_file_over_the_default() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("n.toml");
    let drop_ins = dir.path().join("n.toml.d");
    fs::create_dir(&drop_ins).unwrap();
    fs::write(
        &file,
        "[net]\nlisten = 'file:1'\nhello_timeout = '1s'\nframe_timeout = '1s'\nstall_timeout = '1s'\n",
    )
    .unwrap();
    fs::write(
        drop_ins.join("10.toml"),
        "[net]\nhello_timeout = '2s'\nlisten = 'ten:1'\n",
    )
    .unwrap();
    fs::write(drop_ins.join("20.toml"), "[net]\nlisten = 'twenty:1'\n").unwrap();
    fs::write(drop_ins.join("30.txt"), "not read").unwrap();
    let path = file.to_str().unwrap();
    let args = ["--config", path, "--data-dir", "/x"];

    let settings = load_with(&args, &[]).unwrap();
    assert_eq!(settings.listen, "twenty:1");
    assert_eq!(settings.hello_timeout, Duration::from_secs(2));
    assert_eq!(settings.frame_timeout, Duration::from_secs(1));
    assert_eq!(settings.peer_listen, "127.0.0.1:7401");

    let env = [("RAFTD_LISTEN", "env:1"), ("RAFTD_NET_FRAME_TIMEOUT", "3s")];
    let settings = load_with(&args, &env).unwrap();
    assert_eq!(settings.listen, "env:1");
    assert_eq!(settings.frame_timeout, Duration::from_secs(3));

    let flags = [
        &args[..],
        &["--listen", "flag:1", "--set", "net.listen=set:1"],
    ]
    .concat();
    assert_eq!(load_with(&flags, &env).unwrap().listen, "flag:1");
    let set = [&args[..], &["--set", "net.listen=set:1"]].concat();
    assert_eq!(load_with(&set, &env).unwrap().listen, "set:1");

    let env = [("RAFTD_CONFIG", path), ("RAFTD_LISTEN", "")];
    let settings = load_with(&["--data-dir", "/x"], &env).unwrap();
    assert_eq!(
        settings.listen, "twenty:1",
        "an empty variable counts as unset"
    );
}

/// What nobody can read is no reason to go on as if nothing had been said.
#[test]
fn a_variable_that_is_no_text_is_refused_and_a_path_need_not_be_text() {
    let odd = OsStr::from_bytes(b"\xff");
    let load_where = |name: &str, value: &OsStr| {
        let args = ["raftd", "--data-dir", "/x"].map(OsString::from);
        let flags = flags::parse(args).unwrap();
        Settings::load(&flags, |asked| (asked == name).then(|| value.to_owned()))
    };
    for setting in SETTINGS {
        let refused = load_where(&setting.env(), odd).unwrap_err();
        assert_eq!(refused.status, ExitStatus::Config, "{}", setting.key);
        assert!(refused.place.contains(&setting.env()), "{refused}");
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join(odd);
    fs::write(&file, "[net]\nlisten = 'file:1'\n").unwrap();
    let settings = load_where("RAFTD_CONFIG", file.as_os_str()).unwrap();
    assert_eq!(settings.listen, "file:1");
}

#[test]
fn an_unknown_key_is_refused_with_its_line_and_a_suggestion() {
    let refused = toml("[wal]\n\n# x\nsegment_byte = 1\n").unwrap_err();
    assert_eq!(refused.status, ExitStatus::Config);
    assert_eq!(refused.place, "raftd.toml line 4");
    assert_eq!(refused.remedy, "did you mean wal.segment_bytes?");
    let refused = toml("[net]\nsegment_bytes = 1\n").unwrap_err();
    assert_eq!(
        refused.remedy, "did you mean wal.segment_bytes?",
        "right key, wrong section"
    );
    let refused = toml("[nonsense]\n").unwrap_err();
    assert_eq!(refused.place, "raftd.toml line 1");
    let refused = load(&["--set", "log.levle=info"]).unwrap_err();
    assert_eq!(refused.remedy, "did you mean log.level?");
    assert_eq!(refused.status, ExitStatus::Config);
    let refused = load(&["--set", "zzz.qqqqqqqqq=1"]).unwrap_err();
    assert_eq!(refused.remedy, "raftd.toml(5) lists the settings");
}

#[test]
fn a_file_that_is_no_toml_is_refused_with_its_line() {
    let refused = toml("[net]\nlisten = \n").unwrap_err();
    assert_eq!(refused.place, "raftd.toml line 2");
    assert_eq!(refused.status, ExitStatus::Config);
    assert!(refused.remedy.contains("raftd.toml(5)"), "{refused}");
    let refused = load(&["--config", "/nowhere/a.toml"]).unwrap_err();
    assert!(refused.remedy.contains("--config"), "{refused}");
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), b"[log]\n# caf\xe9\nlevel = 'info'\n").unwrap();
    let path = file.path().to_str().unwrap();
    let refused = load(&["--config", path]).unwrap_err();
    assert_eq!(refused.place, format!("{path} line 2"), "{refused}");
    assert!(refused.remedy.contains("UTF-8"), "{refused}");
    assert!(
        toml("listen = 'a:1'").is_err(),
        "a key outside of a section"
    );
}

#[test]
fn a_value_of_a_kind_that_no_setting_takes_is_named() {
    for (value, kind) in [
        ("true", "a boolean"),
        ("1.5", "a float"),
        ("1979-05-27", "a datetime"),
        ("{ a = 1 }", "a table"),
        ("[1]", "an array of more than texts"),
        ("0x10", "an integer that is not decimal"),
    ] {
        let refused = toml(&format!("[net]\nlisten = {value}")).unwrap_err();
        let expected = format!("net.listen is {kind}, which fits no setting");
        assert_eq!(refused.what, expected);
        assert_eq!(refused.place, "raftd.toml line 2");
    }
}

#[test]
fn a_number_that_is_too_large_is_said_to_be() {
    assert_eq!(value::number("18446744073709551615"), Ok(u64::MAX));
    let large = Err("2^64 or more".to_owned());
    assert_eq!(value::number("18446744073709551616"), large);
    let large = Err("2^64 bytes or more".to_owned());
    assert_eq!(value::size("18014398509481984KiB"), large);
}

#[test]
fn sizes_and_times_have_units() {
    assert_eq!(value::size("64MiB"), Ok(64 << 20));
    assert_eq!(value::size("1 GB"), Ok(1_000_000_000));
    assert_eq!(value::size("4096"), Ok(4096));
    assert_eq!(value::size("7B"), Ok(7));
    for wrong in [
        "",
        "MiB",
        "-1",
        "1.5MiB",
        "64mib",
        "18446744073709551615KiB",
        "9 parsecs",
    ] {
        assert!(value::size(wrong).is_err(), "{wrong}");
    }
    for bytes in [0, 1, 1000, 1 << 10, 3 << 20, 64 << 20, 1 << 30, u64::MAX] {
        assert_eq!(value::size(&value::size_text(bytes)), Ok(bytes));
    }
    assert_eq!(value::time("150ms"), Ok(Duration::from_millis(150)));
    assert_eq!(value::time("1m 30s"), Ok(Duration::from_secs(90)));
    assert!(value::time("150").is_err(), "a time without unit");
    assert_eq!(
        toml("[wal]\nsegment_bytes = 1_048_576")
            .unwrap()
            .segment_bytes,
        1 << 20
    );
    assert_eq!(
        toml("[wal]\nsegment_bytes = '1MiB'").unwrap().segment_bytes,
        1 << 20
    );
    let refused = toml("[wal]\nsegment_bytes = '1KiB'").unwrap_err();
    assert!(
        refused.what.contains("the least is 256KiB"),
        "{}",
        refused.what
    );
    let refused = load(&["--set", "wal.segment_bytes=300000"]).unwrap_err();
    assert!(
        refused.what.contains("multiple of 4KiB"),
        "{}",
        refused.what
    );
    assert!(
        load(&["--set", "net.hello_timeout=2h"])
            .unwrap_err()
            .what
            .contains("the most is 1m")
    );
}

#[test]
fn addresses_and_names_are_checked() {
    for good in [
        "127.0.0.1:7400",
        "[::1]:7400",
        "db-1.example.org:1",
        "localhost:0",
    ] {
        assert_eq!(value::address(good).as_deref(), Ok(good));
    }
    for wrong in [
        "",
        "host",
        ":7400",
        "host:",
        "host:65536",
        "::1:7400",
        "[::g]:1",
        "a b:1",
        "a:+1",
    ] {
        assert!(value::address(wrong).is_err(), "{wrong}");
    }
    let refused = value::address("http://h:7400").unwrap_err();
    assert!(refused.contains("is not a host"), "{refused}");
    assert!(value::name("n1").is_ok());
    assert!(value::name("db.a_b-c9").is_ok());
    for wrong in ["", "N1", "1n", "n 1", "n/1", &"n".repeat(65)] {
        assert!(value::name(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_initial_cluster_is_canonical_and_its_id_depends_on_list_and_token() {
    let members = value::members("2=b:1, 1=a:1").unwrap();
    assert_eq!(members, value::members("1=a:1,2=b:1").unwrap());
    assert_eq!(
        toml("[cluster]\ninitial = ['1=a:1', '2=b:1']")
            .unwrap()
            .initial,
        Some(members.clone())
    );
    let id = cluster_id(&members, "");
    assert_ne!(id, cluster_id(&members, "token"));
    assert_ne!(id, cluster_id(&members[..1], ""));
    for wrong in [
        "",
        "1",
        "0=a:1",
        "1=a",
        "1=a:1,1=b:1",
        "1=a:1,2=a:1",
        "1=a:1,,2=b:1",
        "x=a:1",
    ] {
        assert!(value::members(wrong).is_err(), "{wrong}");
    }
    let many: Vec<_> = (1..=17).map(|n| format!("{n}=h:{n}")).collect();
    assert!(value::members(&many.join(",")).is_err());
    let port = load(&["--initial-cluster", "1=a:0", "--id", "1"]).unwrap_err();
    assert!(port.what.contains("no fixed port"));
    // The others would dial themselves.
    for wildcard in ["1=0.0.0.0:7401", "1=[::]:7401", "1=a:1,2=0.0.0.0:1"] {
        let refused = load(&["--initial-cluster", wildcard, "--id", "1"]).unwrap_err();
        assert!(refused.what.contains("a wildcard"), "{refused}");
    }
}

/// What a start with an empty data directory would refuse for its settings alone, the check refuses.
#[test]
fn settings_that_no_start_can_go_by_are_refused() {
    let join = ["--join", "a:7400", "--name", "n4"];
    for (args, part) in [
        (&["--listen", "0.0.0.0:7400"][..], "--advertise HOST:7400"),
        (&["--listen", "[::]:7400"], "--advertise HOST:7400"),
        (
            &[&join[..], &["--peer-listen", "0.0.0.0:7401"]].concat(),
            "--peer-advertise HOST:7401",
        ),
        (
            &["--listen", "a:7401", "--peer-listen", "a:7401"],
            "net.peer_listen",
        ),
        (
            &["--listen", "0.0.0.0:7401", "--advertise", "a:7401"],
            "net.peer_listen",
        ),
        (&["--advertise", "a:0"], "net.advertise"),
        (&["--advertise", "0.0.0.0:7400"], "net.advertise"),
        (&["--peer-advertise", "[::]:7401"], "net.peer_advertise"),
        (&["--join", "a:0", "--name", "n4"], "cluster.join"),
        (&["--listen", "10.0.0.256:7400"], "net.listen"),
        (&["--listen", "0:7400"], "net.listen"),
    ] {
        let refused = load(args).unwrap_err();
        assert_eq!(refused.status, ExitStatus::Config, "{args:?}");
        assert!(refused.to_string().contains(part), "{args:?}: {refused}");
    }
    for good in [
        &["--listen", "0.0.0.0:7400", "--advertise", "a:7400"][..],
        &["--peer-listen", "0.0.0.0:7401"],
        &[
            &join[..],
            &["--peer-listen", "[::]:7401", "--peer-advertise", "a:7401"],
        ]
        .concat(),
        &["--listen", "127.0.0.1:0", "--peer-listen", "127.0.0.1:0"],
        &["--listen", "127.0.0.2:7401"],
    ] {
        assert_eq!(load(good).err(), None, "{good:?}");
    }
    let nameless = load_with(&["--data-dir="], &[]).unwrap_err();
    assert_eq!(nameless.status, ExitStatus::Config);
    for wrong in [
        &["--dev", "--id", "2"][..],
        &["--dev", "--peer-advertise", "a:7401"],
    ] {
        let refused = load_with(wrong, &[]).unwrap_err();
        assert_eq!(refused.status, ExitStatus::Usage, "{wrong:?}");
    }
    assert!(load_with(&["--dev", "--id", "1"], &[]).is_ok());
}

#[test]
fn a_node_finds_itself_by_id_by_name_or_by_address() {
    let list = ["--initial-cluster", "1=a:1,2=b:1"];
    let own = |args: &[&str]| {
        let settings = load(&[&list[..], args].concat())?;
        own_id(&settings, settings.initial.as_ref().unwrap())
    };
    assert_eq!(own(&["--id", "2"]), Ok(NodeId(2)));
    assert_eq!(own(&["--name", "n2"]), Ok(NodeId(2)));
    assert_eq!(own(&["--peer-listen", "b:1"]), Ok(NodeId(2)));
    assert_eq!(
        own(&["--peer-advertise", "a:1", "--peer-listen", "b:1"]),
        Ok(NodeId(1))
    );
    assert_eq!(own(&["--name", "db", "--id", "1"]), Ok(NodeId(1)));
    // A name that the initial cluster does not take for one of its own.
    assert_eq!(own(&["--name", "n4", "--id", "1"]), Ok(NodeId(1)));
    for unclear in [
        &[][..],
        &["--id", "3"],
        &["--name", "n3"],
        &["--id", "1", "--name", "n2"],
    ] {
        let refused = own(unclear).unwrap_err();
        assert_eq!(refused.status, ExitStatus::Config);
        assert_eq!(refused.remedy, "say which member this node is: --id N");
    }
    for elsewhere in ["b:1", "c:1"] {
        let refused = own(&["--id", "1", "--peer-advertise", elsewhere]).unwrap_err();
        assert_eq!(refused.status, ExitStatus::Config);
        assert!(refused.remedy.contains("--peer-advertise"), "{refused}");
    }
}

#[test]
fn timings_follow_the_preset_unless_set_and_must_fit_each_other() {
    let settings = load(&[]).unwrap();
    assert_eq!(settings.election_timeout(), Duration::from_millis(150));
    assert_eq!(settings.heartbeat(), Duration::from_millis(40));
    let settings = load(&["--set", "raft.timing=wan", "--set", "raft.heartbeat=100ms"]).unwrap();
    assert_eq!(settings.election_timeout(), Duration::from_millis(1000));
    assert_eq!(settings.heartbeat(), Duration::from_millis(100));
    let refused = load(&["--set", "raft.heartbeat=100ms"]).unwrap_err();
    assert_eq!(refused.status, ExitStatus::Config);
    assert!(
        load(&["--set", "raft.timing=moon"])
            .unwrap_err()
            .what
            .contains("lan, wan")
    );
}

#[test]
fn a_command_line_that_cannot_be_understood_is_a_usage_error() {
    for wrong in [
        &["--frobnicate"][..],
        &["--listen"],
        &["extra"],
        &["--set", "novalue"],
        &["--join", "a:1"],
    ] {
        let refused = load(wrong).unwrap_err();
        assert_eq!(refused.status, ExitStatus::Usage, "{wrong:?}");
        assert!(!refused.remedy.is_empty(), "{wrong:?}");
    }
    assert_eq!(
        load_with(&[], &[]).unwrap_err().status,
        ExitStatus::Usage,
        "no data directory"
    );
    assert_eq!(load(&["--dev"]).unwrap_err().status, ExitStatus::Usage);
    assert!(load_with(&["--dev"], &[]).is_ok());
}
