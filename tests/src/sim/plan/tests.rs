//! What is drawn fits together, and every choice is drawn by some seed.

use std::collections::BTreeSet;

use super::*;

fn plans(count: u64) -> impl Iterator<Item = Plan> {
    (0..count).map(Plan::draw)
}

#[test]
fn the_seed_decides_everything() {
    for seed in 0..50 {
        assert_eq!(Plan::draw(seed).to_string(), Plan::draw(seed).to_string());
    }
    let shown: BTreeSet<String> = plans(50).map(|plan| plan.to_string()).collect();
    assert_eq!(shown.len(), 50);
}

/// See `faults/atlas.rs`: of what is held by two of three voters one copy may be damaged.
#[test]
fn who_is_damaged_where_members_change_has_two_others_to_heal_it() {
    let mut met = [0, 0];
    for plan in plans(1_000) {
        let Some(changes) = plan.changes else {
            continue;
        };
        let damages = plan.faults.kinds.iter().filter(|kind| kind.damages());
        let damages: Vec<_> = damages.collect();
        met[usize::from(changes.harm)] += 1;
        if changes.harm {
            let Wishes { remove, demote, .. } = changes.wishes;
            assert_eq!((remove, demote), (0, 0), "{plan}");
            assert!(plan.members >= 3, "{plan}");
            assert!(!damages.contains(&&Kind::Wipe), "{plan}");
        } else {
            assert_eq!(damages, [&Kind::Wipe; 0], "{plan}");
        }
    }
    assert!(met.iter().all(|count| *count > 50), "{met:?}");
}

#[test]
fn settings_are_ones_that_the_daemon_would_take() {
    for plan in plans(2_000) {
        assert!(plan.heartbeat * 2 <= plan.election_timeout, "{plan}");
        assert!(plan.election_timeout >= Duration::from_millis(10), "{plan}");
        assert!(
            plan.limits.uncommitted_bytes_max >= plan.limits.entry_bytes_max,
            "{plan}"
        );
        assert!(plan.storage.segment_bytes.is_multiple_of(4096), "{plan}");
        assert!(plan.run > Duration::from_secs(60), "{plan}");
        assert_eq!(plan.machines.len(), plan.hosts());
        assert_eq!(plan.links.len(), plan.hosts() + 1);
        assert!(plan.links.iter().all(|row| row.len() == plan.hosts() + 1));
        let workload = &plan.workload;
        assert!(
            workload.value_bytes + 4096 < plan.limits.entry_bytes_max,
            "{plan}"
        );
        assert!(
            workload.large_value_bytes + 4096 <= plan.limits.entry_bytes_max,
            "{plan}"
        );
        for machine in &plan.machines {
            assert!(machine.disk <= machine.disk_max, "{plan}");
            assert!(machine.disk_max <= Duration::from_secs(10), "{plan}");
        }
        for weather in plan.links.iter().flatten() {
            assert!(weather.delay <= weather.delay_max, "{plan}");
            assert!(weather.delay * 4 <= plan.election_timeout, "{plan}");
        }
        assert!(
            plan.faults
                .kinds
                .iter()
                .all(|kind| kind.needs() <= plan.members || plan.faults.outside.is_some()),
            "{plan}"
        );
    }
}

#[test]
fn every_choice_is_drawn_and_none_always() {
    let plans: Vec<Plan> = plans(1_000).collect();
    let some_not_all = |what: &str, there: &dyn Fn(&Plan) -> bool| {
        let count = plans.iter().filter(|plan| there(plan)).count();
        assert!((5..996).contains(&count), "{what}: {count} of 1000");
    };
    for members in 1..=7 {
        some_not_all("members", &|plan| plan.members == members);
    }
    for kind in Kind::ALL {
        some_not_all(kind.name(), &|plan| plan.faults.kinds.contains(&kind));
    }
    some_not_all("outside", &|plan| plan.faults.outside.is_some());
    some_not_all("same seeds", &|plan| plan.same_seeds);
    some_not_all("tiny cache", &|plan| plan.limits.cache_bytes < 64 << 10);
    some_not_all("tiny table", &|plan| plan.limits.sessions_max < 100);
    some_not_all("segments beyond reach", &|plan| {
        plan.storage.segment_bytes > 2 << 20
    });
    some_not_all("a small disk", &|plan| {
        let whole = plan.storage.disk_bytes;
        plan.machines
            .iter()
            .any(|machine| machine.disk_bytes < whole)
    });
    let fair = |plan: &Plan| plan.links.iter().flatten().all(Weather::is_fair);
    some_not_all("fair links", &fair);
    some_not_all("wrong requests", &|plan| plan.workload.wrong > 0);
    some_not_all("large values", &|plan| plan.workload.large_values > 0);
}
