//! When what caused a change happened: written to slices and Endpoints, so that the delay until traffic follows can be
//! measured.

use std::collections::HashMap;
use std::sync::Arc;

use coracle_clock::Timestamp;
use k8s_openapi::api::core::v1::{Pod, Service};
use parking_lot::Mutex;

use crate::pods::condition;

pub const ANNOTATION: &str = "endpoints.kubernetes.io/last-change-trigger-time";

/// What was seen of a service last.
#[derive(Default)]
struct Seen {
    service: Option<Timestamp>,
    pods: HashMap<String, Timestamp>,
}

/// Remembers, by service, which triggers have been told of.
#[derive(Default)]
pub struct Triggers {
    seen: Mutex<HashMap<String, Seen>>,
}

/// When the pod became ready or stopped being so.
fn trigger_of(pod: &Pod) -> Option<Timestamp> {
    condition(pod, "Ready")?.last_transition_time.as_ref().map(|t| t.0)
}

impl Triggers {
    /// The earliest trigger that is new since the last call for this service.
    pub fn observe(&self, key: &str, service: &Service, pods: &[Arc<Pod>]) -> Option<Timestamp> {
        let mut all = self.seen.lock();
        let was_known = all.contains_key(key);
        let seen = all.entry(key.to_owned()).or_default();
        let created = service.metadata.creation_timestamp.as_ref().map(|t| t.0);
        let mut first: Option<Timestamp> = None;
        let mut note = |at: Timestamp| first = Some(first.map_or(at, |f| f.min(at)));
        let mut now = HashMap::new();
        for pod in pods {
            let Some(at) = trigger_of(pod) else { continue };
            let name = pod.metadata.name.clone().unwrap_or_default();
            if seen.pods.get(&name).is_none_or(|before| at > *before) {
                note(at);
            }
            now.insert(name, at);
        }
        if let Some(created) = created
            && (!was_known || seen.service != Some(created))
        {
            note(created);
        }
        *seen = Seen {
            service: created,
            pods: now,
        };
        first
    }

    pub fn forget(&self, key: &str) {
        self.seen.lock().remove(key);
    }
}

/// As the annotation spells it.
pub fn text(at: Timestamp) -> String {
    at.to_string()
}
