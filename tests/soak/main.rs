//! Weeks of a fleet's life in minutes: leases, heartbeats, retention and sweeps are scaled down until
//! they expire and meet each other, and nothing may grow or wear out meanwhile.
//!
//! A coordinator and two agents as real processes over PostgreSQL and Redis, a GitHub that plays
//! along. One agent and the coordinator live through all of it; the other is ended and started
//! again. Issues become merged pull requests, are called off, closed, and refused; between them the
//! fleet is idle for more heartbeats than any counter of messages should bear.
//!
//! `PATCHFLEET_SOAK_SECONDS` says how long: a few rounds with the other tests, half an hour with
//! `make soak`. Growth is judged only where there was time to grow.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod measure;
mod world;

use std::time::Duration;

use measure::{Measurements, Sample};
use tokio::time::Instant;
use world::{Ending, World};

/// How long the fleet is left alone: 600 heartbeats, when it has the machine for itself.
const IDLE: Duration = Duration::from_secs(30);
/// Rounds between two such idle times, and between two ends of the second agent.
const IDLE_EVERY: usize = 25;
const RESTART_EVERY: usize = 10;
/// Rounds of the short run; each way to end is among them.
const SHORT: usize = Ending::ALL.len();

fn lasting() -> Duration {
    let set = std::env::var("PATCHFLEET_SOAK_SECONDS").ok();
    Duration::from_secs(set.map_or(0, |text| text.parse().unwrap()))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weeks_of_work_leave_the_fleet_as_it_was_on_the_first_day() {
    let mut world = World::start(!lasting().is_zero()).await;
    let mut measured = Measurements::default();
    let until = Instant::now() + lasting();
    let mut round = 0;
    while round < SHORT || Instant::now() < until {
        if round % IDLE_EVERY == 0 && !lasting().is_zero() {
            tokio::time::sleep(IDLE).await;
        }
        if round % RESTART_EVERY == RESTART_EVERY - 1 {
            world.restart_second_agent().await;
        }
        let took = world.round(Ending::ALL[round % SHORT]).await;
        let sample = Sample::of(&world).await;
        println!("{}", sample.line(round, took));
        measured.push(sample, took);
        round += 1;
    }
    world.nothing_is_left().await;
    world.every_issue_was_worked_on_once();
    println!("{}", measured.judge(lasting()));
}
