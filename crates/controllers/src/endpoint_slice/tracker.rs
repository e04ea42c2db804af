//! Which slices a controller has written and not yet seen in its cache. While there are any, a plan would be made from
//! the past: an endpoint would be placed twice.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_clock::{Clock, Instant};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use parking_lot::Mutex;

use crate::written::revision;

/// So long at most is a write waited for.
pub const PATIENCE: Duration = Duration::from_secs(30);

enum Awaited {
    /// This revision, or a later one.
    Revision(u64),
    Deletion,
}

/// What is awaited of each slice, by its uid, and since when.
type Slices = HashMap<String, (Awaited, Instant)>;

/// By owner's key and slice's uid.
pub struct Tracker {
    awaited: Mutex<HashMap<String, Slices>>,
    clock: Clock,
}

impl Tracker {
    pub fn new(clock: Clock) -> Self {
        Self {
            awaited: Mutex::default(),
            clock,
        }
    }

    pub fn wrote(&self, key: &str, slice: &EndpointSlice) {
        self.wait(key, slice, Awaited::Revision(revision(&slice.metadata)));
    }

    pub fn deleted(&self, key: &str, slice: &EndpointSlice) {
        self.wait(key, slice, Awaited::Deletion);
    }

    fn wait(&self, key: &str, slice: &EndpointSlice, what: Awaited) {
        let uid = slice.metadata.uid.clone().unwrap_or_default();
        let mut awaited = self.awaited.lock();
        let of_key = awaited.entry(key.to_owned()).or_default();
        of_key.insert(uid, (what, self.clock.instant()));
    }

    /// A slice's deletion has been seen, whoever asked for it.
    pub fn is_gone(&self, key: &str, uid: &str) {
        let mut awaited = self.awaited.lock();
        if let Some(of_key) = awaited.get_mut(key) {
            of_key.remove(uid);
            if of_key.is_empty() {
                awaited.remove(key);
            }
        }
    }

    /// Whether these slices, of the cache, are older than what was written. What has been seen is forgotten.
    pub fn is_stale(&self, key: &str, slices: &[Arc<EndpointSlice>]) -> bool {
        let now = self.clock.instant();
        let mut awaited = self.awaited.lock();
        let Some(of_key) = awaited.get_mut(key) else {
            return false;
        };
        of_key.retain(|uid, (what, since)| {
            let slice = slices.iter().find(|s| s.metadata.uid.as_ref() == Some(uid));
            let seen = match (what, slice) {
                (Awaited::Revision(wanted), Some(slice)) => revision(&slice.metadata) >= *wanted,
                (Awaited::Revision(_), None) => false,
                (Awaited::Deletion, slice) => slice.is_none_or(|s| s.metadata.deletion_timestamp.is_some()),
            };
            !seen && now.saturating_duration_since(*since) < PATIENCE
        });
        let stale = !of_key.is_empty();
        if !stale {
            awaited.remove(key);
        }
        stale
    }

    pub fn forget(&self, key: &str) {
        self.awaited.lock().remove(key);
    }
}
