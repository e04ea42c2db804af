//! Runs a fuzz target over its seeds, and over inputs near them, without a fuzzer: what the crates' ordinary tests do.
//! Included by each crate that has targets. The same inputs at every run; `CORACLE_FUZZ_ROUNDS` sets how many variants
//! of each seed there are, `CORACLE_FUZZ_TARGET` names the only target.

use std::path::{Path, PathBuf};

use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{Rng, SeedableRng};

const ROUNDS: usize = 20;

/// Names the input when the target does not stand it.
struct Running<'a>(&'a str, &'a Path, &'a [u8]);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let Self(target, seed, input) = self;
            eprintln!(
                "target {target}, near {}: {:?}",
                seed.display(),
                String::from_utf8_lossy(input)
            );
        }
    }
}

pub(super) fn replay(name: &str, target: impl Fn(&[u8])) {
    if std::env::var("CORACLE_FUZZ_TARGET").is_ok_and(|only| only != name) {
        return;
    }
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../fuzz/seeds")
        .join(name);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    assert!(!paths.is_empty(), "{name} has no seeds");
    let seeds: Vec<Vec<u8>> = paths.iter().map(|path| std::fs::read(path).unwrap()).collect();
    let rounds = std::env::var("CORACLE_FUZZ_ROUNDS").map_or(ROUNDS, |text| text.parse().unwrap());
    let mut rng = StdRng::seed_from_u64(1);
    for (path, seed) in paths.iter().zip(&seeds) {
        let _running = Running(name, path, seed);
        target(seed);
        for _ in 0..rounds {
            let near = vary(seed, &seeds, &mut rng);
            let _running = Running(name, path, &near);
            target(&near);
        }
    }
}

/// Some input near a seed.
fn vary(seed: &[u8], seeds: &[Vec<u8>], rng: &mut StdRng) -> Vec<u8> {
    const BYTES: &[u8] = b"\0\n\"',.:;-+*/\\()[]{}0129eEaAzZ\x7f\x80\xff";
    let mut input = seed.to_vec();
    for _ in 0..rng.random_range(1..4) {
        let at = rng.random_range(0..=input.len());
        let end = rng.random_range(at..=input.len().min(at + 8));
        match rng.random_range(0..6) {
            0 => drop(input.drain(at..end)),
            1 => input.insert(at, *BYTES.choose(rng).unwrap_or(&0)),
            2 if at < input.len() => input[at] = *BYTES.choose(rng).unwrap_or(&0),
            3 if at < input.len() => input[at] ^= 1 << rng.random_range(0..8),
            4 => {
                let part = input[at..end].to_vec();
                let to = rng.random_range(0..=input.len());
                input.splice(to..to, part);
            }
            _ => {
                // A piece of another seed.
                let other = seeds.choose(rng).map_or(seed, Vec::as_slice);
                let from = rng.random_range(0..=other.len());
                let until = rng.random_range(from..=other.len().min(from + 64));
                input.splice(at..end, other[from..until].iter().copied());
            }
        }
    }
    input
}
