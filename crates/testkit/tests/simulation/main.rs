//! The whole cluster from a seed: the API server's strategies on the memory engine, every controller, the scheduler and fake
//! nodes on one thread and in virtual time, while users change their minds, nodes die, answers are lost, watches stall and
//! components crash between any two writes.
//!
//! After every commit the [rules](rules) say whether something happened that must never happen. When the faults stop, all has
//! to come to rest in the declared state within a bounded time, and then stay quiet.
//!
//! Everything that chance decides is drawn from the seed (`coracle_clock::Random` in the server, the seeds of scheduler and
//! fake nodes, [`chaos`] for the faults, [`user`] for what is wanted), so that a seed is a whole story, to be told again:
//!
//! ```sh
//! CORACLE_SIM_SEED=4711 cargo test -p coracle-testkit --test simulation            # one seed, with its last writes if it fails
//! CORACLE_SIM_SEED=4711 CORACLE_SIM_TRACE=1 cargo test ... -- --nocapture          # and all that was written and done
//! CORACLE_SIM_SEEDS=10000 CORACLE_SIM_FIRST=1 cargo test --release ...             # many seeds, from the first on
//! CORACLE_SIM_SECONDS=600 CORACLE_SIM_SEEDS=10000 cargo test ...                   # as many of them as there is time for
//! ```
//!
//! Start reading at [`story`], then [`world`].
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod chaos;
mod gate;
mod history;
mod json;
mod model;
mod rest;
mod rules;
mod story;
mod user;
mod world;

use std::sync::atomic::{AtomicU64, Ordering};

use coracle_clock::Clock;
use story::{Ending, tell};

/// How many seeds `cargo test` tries unless it is told otherwise: half a minute's worth, not optimised, on two cores.
const SEEDS: u64 = 30;

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn whatever_fails_nothing_forbidden_happens_and_in_the_end_all_is_as_declared() {
    let only = number("CORACLE_SIM_SEED");
    let first = only.or_else(|| number("CORACLE_SIM_FIRST")).unwrap_or(1);
    let count = only.map_or_else(|| number("CORACLE_SIM_SEEDS").unwrap_or(SEEDS), |_| 1);
    let clock = Clock::system();
    let (started, limit) = (clock.instant(), number("CORACLE_SIM_SECONDS").unwrap_or(u64::MAX));
    let next = AtomicU64::new(first);
    let threads = std::thread::available_parallelism()
        .map_or(1, |n| n.get())
        .min(usize::try_from(count).unwrap_or(1));
    let run = || {
        let (mut tried, mut commits, mut bad) = (0, 0, Vec::new());
        loop {
            if started.elapsed().as_secs() >= limit {
                return (tried, commits, bad);
            }
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + count {
                return (tried, commits, bad);
            }
            tried += 1;
            let Ok(ending) = std::panic::catch_unwind(|| tell(seed, only.is_some())) else {
                bad.push(seed);
                continue;
            };
            commits += ending.commits;
            if !ending.faults.is_empty() {
                eprintln!("{}", told(seed, &ending, only.is_some()));
                bad.push(seed);
            }
        }
    };
    let ends: Vec<(u64, u64, Vec<u64>)> = std::thread::scope(|scope| {
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        running.into_iter().map(|r| r.join().unwrap()).collect()
    });
    let commits: u64 = ends.iter().map(|(_, commits, _)| commits).sum();
    let tried: u64 = ends.iter().map(|(tried, _, _)| tried).sum();
    let mut bad: Vec<u64> = ends.into_iter().flat_map(|(_, _, bad)| bad).collect();
    bad.sort_unstable();
    let took = started.elapsed().as_secs();
    println!(
        "{tried} seeds from {first} on, {commits} commits, {} bad, {took} s",
        bad.len()
    );
    assert!(
        bad.is_empty(),
        "seeds {bad:?} went wrong; replay one by CORACLE_SIM_SEED={}",
        bad[0]
    );
}

#[test]
fn a_seed_tells_the_same_story_twice() {
    let first = number("CORACLE_SIM_SEED").unwrap_or(1);
    for seed in first..first + 2 {
        let (one, two) = (tell(seed, true), tell(seed, true));
        let parts = one.lines.iter().zip(&two.lines).position(|(a, b)| a != b);
        if let Some(at) = parts {
            let from = at.saturating_sub(5);
            let show = |e: &Ending| e.lines[from..(at + 3).min(e.lines.len())].join("\n");
            panic!("seed {seed} went two ways:\n{}\n\nand:\n{}", show(&one), show(&two));
        }
        assert_eq!((one.hash, one.commits), (two.hash, two.commits), "seed {seed}");
    }
}

/// What is said of a seed that went wrong.
fn told(seed: u64, ending: &Ending, whole: bool) -> String {
    let mut text = format!("seed {seed}: {}\n  {}", ending.profile, ending.faults.join("\n  "));
    if whole {
        let from = ending.lines.len().saturating_sub(200);
        text.push_str(&format!("\n{}", ending.lines[from..].join("\n")));
    }
    text
}
