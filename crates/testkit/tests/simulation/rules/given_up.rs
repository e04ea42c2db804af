//! What controllers have given up that served, until there is something in its place that serves.

use std::collections::{BTreeMap, BTreeSet};

/// Places (nodes, ordinals) by their owner's uid.
#[derive(Default)]
pub struct GivenUp(BTreeMap<String, BTreeSet<String>>);

impl GivenUp {
    /// Something serves there now, or did until now.
    pub fn serves(&mut self, owner: &str, place: &str) {
        if let Some(places) = self.0.get_mut(owner) {
            places.remove(place);
        }
    }

    /// What served there is given up. How many places are so now, of those that still count.
    pub fn give(&mut self, owner: &str, place: &str, counts: impl Fn(&str) -> bool) -> usize {
        let places = self.0.entry(owner.to_owned()).or_default();
        places.insert(place.to_owned());
        places.retain(|place| counts(place));
        places.len()
    }
}
