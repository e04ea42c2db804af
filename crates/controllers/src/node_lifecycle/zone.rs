//! How fast the nodes of a zone may be emptied: the more of them fail together, the likelier it is not the nodes that
//! fail.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use coracle_clock::Instant;
use k8s_openapi::api::core::v1::Node;

/// Nodes a second, in a zone that is well.
const RATE: f64 = 0.1;
/// And in a large one of which much is not.
const SECONDARY_RATE: f64 = 0.01;
const UNHEALTHY: f64 = 0.55;
/// A zone of at most so many nodes is not emptied at all when much of it is not well.
const LARGE: usize = 50;
const EXCLUDED: &str = "node.kubernetes.io/exclude-disruption";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Normal,
    PartialDisruption,
    FullDisruption,
}

/// What is known of a node for this.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Member {
    zone: String,
    ready: bool,
}

#[derive(Debug, Default)]
struct Zone {
    ready: usize,
    not_ready: usize,
    /// Not before this may the next node be emptied.
    next: Option<Instant>,
}

impl Zone {
    fn state(&self) -> State {
        let all = self.ready + self.not_ready;
        if self.ready == 0 && self.not_ready > 0 {
            State::FullDisruption
        } else if self.not_ready > 2 && self.not_ready as f64 / all as f64 >= UNHEALTHY {
            State::PartialDisruption
        } else {
            State::Normal
        }
    }

    fn rate(&self) -> f64 {
        match self.state() {
            State::Normal | State::FullDisruption => RATE,
            State::PartialDisruption if self.ready + self.not_ready > LARGE => SECONDARY_RATE,
            State::PartialDisruption => 0.0,
        }
    }
}

/// Whether a node may be emptied now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Permit {
    Granted,
    After(Duration),
    /// Not until something changes in the zone.
    Never,
}

/// What the news of a node means for others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct News {
    /// Rates have changed: nodes that wait are to be looked at again.
    pub look_again: bool,
    /// No node was well, and now one is: those that were thought silent deserve another chance.
    pub over: bool,
}

#[derive(Debug, Default)]
pub struct Zones {
    members: HashMap<String, Member>,
    zones: BTreeMap<String, Zone>,
    all_disrupted: bool,
}

/// Region and zone of a node.
pub fn zone_of(node: &Node) -> String {
    let label = |key: &str| {
        let labels = node.metadata.labels.as_ref();
        labels.and_then(|l| l.get(key)).map_or("", String::as_str)
    };
    format!(
        "{}/{}",
        label("topology.kubernetes.io/region"),
        label("topology.kubernetes.io/zone")
    )
}

impl Zones {
    /// Takes note of a node's readiness.
    pub fn observe(&mut self, node: &Node, ready: bool) -> News {
        let name = node.metadata.name.clone().unwrap_or_default();
        if node.metadata.labels.as_ref().is_some_and(|l| l.contains_key(EXCLUDED)) {
            return self.remove(&name);
        }
        let member = Member {
            zone: zone_of(node),
            ready,
        };
        if self.members.get(&name) == Some(&member) {
            return News::default();
        }
        let before = self.states();
        self.take_out(&name);
        self.count(&member, 1);
        self.members.insert(name, member);
        self.news(&before)
    }

    /// How many nodes of a zone are ready, and how many are not.
    pub fn sizes(&self, zone: &str) -> (usize, usize) {
        self.zones.get(zone).map_or((0, 0), |z| (z.ready, z.not_ready))
    }

    /// The zone that a node was last known to be in.
    pub fn of(&self, node: &str) -> Option<String> {
        self.members.get(node).map(|m| m.zone.clone())
    }

    pub fn remove(&mut self, node: &str) -> News {
        let before = self.states();
        self.take_out(node);
        self.news(&before)
    }

    fn take_out(&mut self, node: &str) {
        if let Some(member) = self.members.remove(node) {
            self.count(&member, -1);
        }
    }

    fn count(&mut self, member: &Member, by: isize) {
        let zone = self.zones.entry(member.zone.clone()).or_default();
        let number = if member.ready {
            &mut zone.ready
        } else {
            &mut zone.not_ready
        };
        *number = number.saturating_add_signed(by);
        if zone.ready + zone.not_ready == 0 {
            self.zones.remove(&member.zone);
        }
    }

    fn states(&self) -> Vec<(String, State)> {
        self.zones
            .iter()
            .map(|(name, zone)| (name.clone(), zone.state()))
            .collect()
    }

    fn news(&mut self, before: &[(String, State)]) -> News {
        let now = self.states();
        let was = self.all_disrupted;
        self.all_disrupted = !now.is_empty() && now.iter().all(|(_, s)| *s == State::FullDisruption);
        News {
            look_again: now != before || was != self.all_disrupted,
            over: was && !self.all_disrupted,
        }
    }

    /// Nobody is well anywhere: more likely it is us who cannot see. Nothing is emptied then.
    pub fn all_disrupted(&self) -> bool {
        self.all_disrupted
    }

    /// Asks to empty a node of the zone.
    pub fn permit(&mut self, zone: &str, now: Instant) -> Permit {
        let Some(zone) = self.zones.get_mut(zone) else {
            return Permit::Granted;
        };
        let rate = zone.rate();
        if self.all_disrupted || rate <= 0.0 {
            return Permit::Never;
        }
        match zone.next {
            Some(next) if next > now => Permit::After(next.saturating_duration_since(now)),
            _ => {
                zone.next = Some(now + Duration::from_secs_f64(1.0 / rate));
                Permit::Granted
            }
        }
    }

    /// What was granted could not be used.
    pub fn give_back(&mut self, zone: &str) {
        if let Some(zone) = self.zones.get_mut(zone) {
            zone.next = None;
        }
    }
}
