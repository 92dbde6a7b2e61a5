//! The generator against a fake server.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use super::engine::{Engine, Failure, Setup};
use super::fake::{DISK_FULL, Fake};
use super::load::{Load, Material, Mix, Random};
use super::measurement::Measurement;
use super::phase::{Phase, Touched};
use super::session::Session;

fn engine(endpoints: &[String], connections: usize, keys: u32) -> Engine<Session> {
    patient(endpoints, connections, keys, Duration::from_secs(20))
}

fn patient(
    endpoints: &[String],
    connections: usize,
    keys: u32,
    patience: Duration,
) -> Engine<Session> {
    let mut random = Random::new(5);
    let material = Material::new(keys, 100, &mut random);
    let setup = Setup {
        endpoints: endpoints.to_vec(),
        connections,
        in_flight_max: 8,
        patience,
        interrupted: Arc::new(AtomicBool::new(false)),
    };
    let mut seed = 0;
    Engine::new(&setup, material, random, |_| {
        seed += 1;
        Session::new(Random::new(seed))
    })
    .unwrap()
}

fn load(mix: Mix, connections: usize) -> Load {
    Load {
        mix,
        connections,
        in_flight: 8,
        warm_up: Duration::from_millis(20),
        measured: Duration::from_millis(200),
        rate: None,
    }
}

fn run(fake: &Fake, mix: Mix) -> Measurement {
    let mut engine = engine(&[fake.address.to_string()], 3, 500);
    engine.preload(&mut ()).unwrap();
    assert_eq!(fake.state.lock().unwrap().keys.len(), 500);
    let measured = engine.measure(&load(mix, 3), &mut ()).unwrap();
    engine.remove(&mut ()).unwrap();
    assert_eq!(fake.state.lock().unwrap().keys.len(), 0);
    measured
}

#[test]
fn every_write_is_an_entry_and_every_key_is_removed() {
    let fake = Fake::start(None);
    let measured = run(&fake, Mix::Put);
    assert!(measured.ops > 0);
    assert_eq!((measured.errors, measured.leader_changes), (0, 0));
    assert!(measured.last_revision - measured.first_revision + 1 >= measured.ops);
    assert_eq!(measured.latency_us.len(), measured.ops);
    let state = fake.state.lock().unwrap();
    assert_eq!(state.applied, state.index, "nothing was sent twice");
}

#[test]
fn reads_and_writes_mix() {
    let measured = run(&Fake::start(None), Mix::Mixed);
    assert!(measured.ops > 0);
    assert_eq!(measured.errors, 0);
}

#[test]
fn the_leader_is_found_through_a_follower() {
    let leader = Fake::start(None);
    let follower = Fake::start(Some(leader.address));
    let mut engine = engine(&[follower.address.to_string()], 2, 100);
    engine.preload(&mut ()).unwrap();
    assert_eq!(leader.state.lock().unwrap().keys.len(), 100);
}

#[test]
fn writes_lost_with_a_connection_are_sent_again_and_apply_once() {
    let fake = Fake::start(None);
    fake.state.lock().unwrap().close_after = 250;
    run(&fake, Mix::Put);
    let state = fake.state.lock().unwrap();
    assert!(state.index > state.applied, "one at least was sent twice");
}

#[test]
fn a_refused_write_and_those_behind_it_are_sent_again_in_order() {
    let fake = Fake::start(None);
    fake.state.lock().unwrap().refuse_after = 250;
    run(&fake, Mix::Put);
}

#[test]
fn an_open_loop_keeps_its_rate() {
    let fake = Fake::start(None);
    let mut engine = engine(&[fake.address.to_string()], 2, 100);
    let paced = Load {
        rate: Some(1000.0),
        ..load(Mix::Put, 2)
    };
    let measured = engine.measure(&paced, &mut ()).unwrap();
    // Two hundred fit the window, to the one, whenever they are sent and answered.
    assert!(measured.ops.abs_diff(200) <= 1, "{}", measured.ops);
    assert_eq!(measured.errors, 0);
}

#[test]
fn what_was_due_while_the_server_stood_still_is_sent_and_counted() {
    let fake = Fake::start(None);
    let stall = Duration::from_millis(400);
    {
        let mut state = fake.state.lock().unwrap();
        (state.stall_after, state.stall) = (100, stall);
    }
    let mut engine = engine(&[fake.address.to_string()], 2, 100);
    let paced = Load {
        rate: Some(1000.0),
        ..load(Mix::Put, 2)
    };
    let measured = engine.measure(&paced, &mut ()).unwrap();
    assert!(measured.ops.abs_diff(200) <= 1, "{}", measured.ops);
    assert_eq!(measured.errors, 0);
    // The window ends while it stands still: the half that was due then came late, and took longer.
    assert!(measured.elapsed >= stall, "{:?}", measured.elapsed);
    let median_us = measured.latency_us.value_at_quantile(0.6);
    assert!(median_us > 100_000, "{median_us} us");
}

#[test]
fn what_is_due_and_cannot_be_sent_in_time_is_an_error() {
    let paced = Load {
        rate: Some(1000.0),
        ..load(Mix::Put, 2)
    };
    let ms = |ms: u64| ms * 1_000_000;
    let mut phase = Phase::measured(&paced, 0, Duration::from_secs(1));
    let mut random = Random::new(5);
    let material = Material::new(100, 100, &mut random);
    let mut touched = Touched::new(100);
    phase.watch(ms(20), 0, &mut ());
    for sent in 0..150 {
        let next = phase.next(ms(220), &material, &mut touched, &mut random);
        assert_eq!(next.map(|(_, intended)| intended), Some(ms(sent)));
    }
    phase.watch(ms(1219), 0, &mut ());
    assert!(!phase.is_over(), "it makes up for what it is behind");
    phase.watch(ms(1220), 0, &mut ());
    assert!(phase.is_over());
    assert!(
        phase
            .next(ms(1220), &material, &mut touched, &mut random)
            .is_none()
    );
    assert_eq!(phase.into_measurement().unwrap().errors, 70);
}

#[test]
fn a_server_that_greets_and_does_nothing_is_given_up() {
    let fake = Fake::start(None);
    fake.state.lock().unwrap().closes_all = true;
    let patience = Duration::from_millis(300);
    let mut engine = patient(&[fake.address.to_string()], 2, 100, patience);
    match engine.preload(&mut ()) {
        Err(Failure::Stalled { doing, .. }) => assert_eq!(doing, "laying down keys"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_server_that_refuses_everything_is_given_up_with_its_reason() {
    let fake = Fake::start(None);
    fake.state.lock().unwrap().is_full = true;
    let patience = Duration::from_millis(300);
    let mut engine = patient(&[fake.address.to_string()], 2, 100, patience);
    match engine.preload(&mut ()) {
        Err(Failure::Refused(error)) => assert_eq!(error, DISK_FULL),
        other => panic!("{other:?}"),
    }
}

#[test]
fn refused_ports_are_told_each_with_its_cause() {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap();
    let ports = [free(), free()].map(|l| l.local_addr().unwrap().to_string());
    let mut engine = engine(&ports, 1, 100);
    match engine.measure(&load(Mix::Put, 1), &mut ()) {
        Err(Failure::Unreachable(causes)) => {
            assert_eq!(causes.len(), 2);
            assert!(causes.iter().all(|(_, cause)| cause.contains("refused")));
        }
        other => panic!("{other:?}"),
    }
}
