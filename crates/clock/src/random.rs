//! Chance, injected as the time is: the system's, or a sequence that a seed decides, so that a run can be had again.

use std::sync::Arc;

use parking_lot::Mutex;
use rand::rngs::StdRng;
use rand::{Rng, RngCore, SeedableRng};

/// Where a component takes chance from. Cheap to clone; clones of a seeded one draw from one sequence. Not for keys: what
/// must not be guessed is never drawn from here.
#[derive(Clone, Debug, Default)]
pub struct Random {
    /// `None` is the system's.
    seeded: Option<Arc<Mutex<StdRng>>>,
}

impl Random {
    /// The system's randomness.
    pub fn system() -> Self {
        Self::default()
    }

    /// Always the same sequence for the same seed.
    pub fn seeded(seed: u64) -> Self {
        Self {
            seeded: Some(Arc::new(Mutex::new(StdRng::seed_from_u64(seed)))),
        }
    }

    /// Sixteen bytes: what a uid is made of.
    pub fn bytes(&self) -> [u8; 16] {
        self.draw(|random| random.random())
    }

    /// A number from `first` to `last`, both included; `first` if there is none.
    pub fn between(&self, first: u32, last: u32) -> u32 {
        if first >= last {
            return first;
        }
        self.draw(|random| random.random_range(first..=last))
    }

    /// A number from 0 (included) to 1 (excluded).
    pub fn fraction(&self) -> f64 {
        self.draw(|random| random.random())
    }

    fn draw<T>(&self, draw: impl FnOnce(&mut dyn RngCore) -> T) -> T {
        match &self.seeded {
            Some(seeded) => draw(&mut *seeded.lock()),
            None => draw(&mut rand::rng()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_decides_the_whole_sequence_and_clones_share_it() {
        let sequence = |random: Random| {
            let clone = random.clone();
            (random.bytes(), clone.bytes(), random.between(1, 1000), clone.fraction())
        };
        assert_eq!(sequence(Random::seeded(7)), sequence(Random::seeded(7)));
        assert_ne!(sequence(Random::seeded(7)), sequence(Random::seeded(8)));
        let random = Random::seeded(7);
        assert_ne!(random.bytes(), random.clone().bytes());
        assert_ne!(Random::system().bytes(), Random::system().bytes());
        assert_eq!(random.between(5, 5), 5);
    }
}
