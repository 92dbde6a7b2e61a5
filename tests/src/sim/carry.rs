//! Carries out what a [`super::faults::Nemesis`] wants.

use raftd::disk::sim::{self, Operation, SimDisk};

use super::faults::{Fault, When};
use super::member::{CLUSTER, Crash, Death, EPOCH};
use super::net::Host;
use super::plan::Plan;
use super::random::Random;
use super::world::World;

/// Changes the world. Says whose life that ended, and how.
pub fn carry_out(
    world: &mut World,
    plan: &Plan,
    fault: &Fault,
    random: &mut Random,
) -> Option<(Host, Death)> {
    let now = world.now();
    world.note(|| format!("fault: {fault:?}"));
    match *fault {
        Fault::Cut(from, to) => world.disturb(|net, _, _| net.cut(from, to)),
        Fault::Mend(from, to) => world.disturb(|net, now, events| net.mend(now, from, to, events)),
        Fault::Clog(from, to, lasts) => {
            world.disturb(|net, now, events| net.clog(from, to, now + lasts, events));
        }
        Fault::Reset(a, b) => {
            world.disturb(|net, now, events| net.reset_between(now, a, b, events));
        }
        Fault::Weather(from, to, weather) => {
            world.disturb(|net, _, _| net.set_weather(from, to, weather));
        }
        Fault::Pace(host, usual, most) => {
            let pace = &mut world.member_mut(host).pace;
            (pace.disk, pace.disk_max) = (usual, most);
        }
        Fault::Hang(host, lasts) => world.member_mut(host).hang_disk(now + lasts),
        Fault::HangKeeper(host, lasts) => world.member_mut(host).hang_keeper(now + lasts),
        Fault::FailDisk(host, operation, fault) => {
            world.member_mut(host).fail_next(operation, fault);
        }
        Fault::FailDiskAt(host, after, fault) => {
            let disk = world.members()[host].disk();
            disk.fail_at(disk.operations() + after, fault);
        }
        Fault::Room(host, room) => set_room(world, plan, host, room),
        Fault::Damage(host, damage) => {
            let done = damage.inflict(world.members()[host].disk(), random);
            world.note(|| format!("{} is damaged: {done:?}", host + 1));
        }
        Fault::Wipe(host) => {
            let disk = SimDisk::new(random.bits(), plan.storage.disk_bytes);
            world.member_mut(host).replace_disk(disk);
        }
        Fault::Spoil(host) => world.member_mut(host).spoil(),
        Fault::Lie(host, lies) => world.members()[host].disk().set_lying(lies),
        Fault::Crash(host, crash, when) => return crash_when(world, host, crash, when),
        Fault::CrashInRecovery(host, after, crash) => {
            world.member_mut(host).crash_in_recovery(after, crash);
        }
        Fault::Start(host) => world.start_later(host, std::time::Duration::ZERO),
        Fault::Stop(host) => world.member_mut(host).stop(now),
        Fault::Pause(host, lasts) => world.member_mut(host).pause(now + lasts),
        Fault::ClockRate(host, rate) => {
            world
                .member_mut(host)
                .set_clock(|clock| clock.set_rate(now, rate));
        }
        Fault::ClockLeap(host, by) => {
            world
                .member_mut(host)
                .set_clock(|clock| clock.jump(now, by));
        }
        Fault::WallClock(host, ahead_ms) => {
            world
                .member_mut(host)
                .set_clock(|clock| clock.set_wall(ahead_ms));
        }
        Fault::Stranger(host, stranger) => {
            world.call_as_stranger(host, stranger.port, stranger.bytes(CLUSTER, EPOCH));
        }
    }
    None
}

/// Leaves so much of a disk free, or all that it ever had.
fn set_room(world: &mut World, plan: &Plan, host: Host, room: Option<u64>) {
    let disk = world.members()[host].disk();
    disk.set_capacity(match room {
        Some(room) => disk.used_bytes() + room,
        None => plan.machines[host].disk_bytes,
    });
}

fn crash_when(world: &mut World, host: Host, crash: Crash, when: When) -> Option<(Host, Death)> {
    let member = world.member_mut(host);
    match when {
        When::Now => {
            let died = world.crash(host, crash);
            return died.then_some((host, Death::Crashed(crash)));
        }
        When::Operation(after) => member.crash_at_operation(after, crash),
        When::Sync => member.fail_next(Operation::Sync, fault_of(crash)),
        When::Effects(effects) => member.crash_after_effects(effects, crash),
        When::Report => member.crash_at_report(crash),
    }
    None
}

fn fault_of(crash: Crash) -> sim::Fault {
    match crash {
        Crash::Kill => sim::Fault::Kill,
        Crash::PowerLoss => sim::Fault::PowerLoss,
    }
}
