//! A fleet under a seeded schedule of faults; then the faults stop, and the invariants are read
//! off the database and GitHub.
//!
//! Two coordinators as real processes over one PostgreSQL and a Redis, behind one address; agents as
//! real processes that open pull requests, and more of them that only speak like such; a GitHub
//! that plays along. `PATCHFLEET_SEED` runs a schedule again,
//! `PATCHFLEET_CHAOS_SECONDS` says how long the faults last: a few seconds with the other tests,
//! minutes with `make chaos`. With `PATCHFLEET_CHAOS_HOURLY` GitHub takes no more requests than that in
//! an hour, which is over in a quarter of a minute.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod agents;
mod daemons;
mod faults;
mod verdict;
mod world;

use std::time::Duration;

use rand::SeedableRng as _;
use rand::rngs::StdRng;

use faults::Fault;
use world::World;

fn number(name: &str, default: u64) -> u64 {
    let set = std::env::var(name).ok();
    set.map_or(default, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_breaks_every_issue_ends_once_and_nothing_acknowledged_is_lost() {
    let seed = number("PATCHFLEET_SEED", 11);
    let lasting = Duration::from_secs(number("PATCHFLEET_CHAOS_SECONDS", 6));
    let mut random = StdRng::seed_from_u64(seed);
    let hourly = number("PATCHFLEET_CHAOS_HOURLY", 0);
    let mut world = World::start(seed, hourly).await;
    let mut injected = std::collections::BTreeMap::new();
    let until = tokio::time::Instant::now() + lasting;
    while tokio::time::Instant::now() < until {
        world.trigger(&mut random);
        let fault = Fault::any(&mut random);
        *injected.entry(fault.word()).or_insert(0) += 1;
        world.inject(fault, &mut random).await;
    }
    world.calm().await;
    let ends = verdict::pronounce(&world).await;
    let deferred = world.deferred();
    assert!(
        hourly == 0 || deferred > 0,
        "the hour's requests never ran out: take fewer"
    );
    let report = serde_json::json!({
        "seed": seed, "seconds": lasting.as_secs(), "faults": injected,
        "tasks": world.issues.len(), "ends": ends, "deferred": deferred,
        "requests": world.github.request_count("*", "/repos/"),
        "pull_requests": world.github.pulls(world::REPOSITORY).unwrap().len(), "violations": 0,
    });
    println!("{report}");
}
