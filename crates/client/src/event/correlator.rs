//! Which events are written, and as what: repeats of one event become its count, many alike become one, and a source
//! that floods an object is cut off. The rules and numbers are client-go's. Does no I/O.

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::time::Duration;

use coracle_clock::{Clock, Timestamp};
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::rate::TokenBucket;

/// Entries of each kind that are remembered; past this the least recently used half is forgotten.
const REMEMBERED: usize = 4096;
/// So many different messages within the period are alike enough to be one event.
const ALIKE: usize = 10;
const PERIOD: Duration = Duration::from_secs(600);
/// Events that a source may write at once about one object, and then per second.
const BURST: u32 = 25;
const PER_SECOND: f64 = 1.0 / 300.0;

pub enum Verdict {
    /// With a count above one it has been written before, under the same name.
    Write(Box<Event>),
    Drop,
}

/// Who says what about whom, but for the message.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Kind {
    source: Subject,
    kind: Option<String>,
    reason: Option<String>,
}

/// Who speaks about whom.
#[derive(Clone, PartialEq, Eq, Hash)]
struct Subject(Vec<Option<String>>);

/// `None` as the message: what many alike are combined into.
type Exact = (Kind, Option<String>);

struct Alike {
    messages: HashSet<String>,
    last: Timestamp,
}

struct Written {
    name: Option<String>,
    count: i32,
    first: Option<Time>,
}

pub struct Correlator {
    clock: Clock,
    alike: Recent<Kind, Alike>,
    written: Recent<Exact, Written>,
    allowed: Recent<Subject, TokenBucket>,
}

impl Correlator {
    pub fn new(clock: Clock) -> Self {
        Self {
            clock,
            alike: Recent::default(),
            written: Recent::default(),
            allowed: Recent::default(),
        }
    }

    pub fn correlate(&mut self, mut event: Event) -> Verdict {
        let kind = kind(&event);
        let message = event.message.clone().unwrap_or_default();
        let combined = self.is_one_of_many(&kind, &message);
        if combined {
            event.message = Some(format!("(combined from similar events): {message}"));
        }
        let exact = (kind, (!combined).then_some(message));
        let clock = self.clock;
        let bucket = self
            .allowed
            .entry(exact.0.source.clone(), || TokenBucket::new(clock, PER_SECOND, BURST));
        let allowed = bucket.try_take();
        let written = self.written.entry(exact, || Written {
            name: event.metadata.name.clone(),
            count: 0,
            first: event.first_timestamp.clone(),
        });
        // Counted also when it is not written, so that the next one that is tells the truth.
        written.count = written.count.saturating_add(1);
        if !allowed {
            return Verdict::Drop;
        }
        event.count = Some(written.count);
        event.first_timestamp.clone_from(&written.first);
        event.metadata.name.clone_from(&written.name);
        Verdict::Write(Box::new(event))
    }

    /// The event could not be written: the next like it is a first one again.
    pub fn forget(&mut self, event: &Event) {
        let kind = kind(event);
        self.written.remove(&(kind.clone(), event.message.clone()));
        self.written.remove(&(kind, None));
    }

    fn is_one_of_many(&mut self, kind: &Kind, message: &str) -> bool {
        let now = self.clock.now();
        let alike = self.alike.entry(kind.clone(), || Alike {
            messages: HashSet::new(),
            last: now,
        });
        if now.duration_since(alike.last) > PERIOD.try_into().unwrap_or_default() {
            alike.messages.clear();
        }
        alike.last = now;
        if alike.messages.contains(message) {
            return alike.messages.len() >= ALIKE;
        }
        if alike.messages.len() < ALIKE {
            alike.messages.insert(message.to_owned());
        }
        alike.messages.len() >= ALIKE
    }
}

fn kind(event: &Event) -> Kind {
    let about = &event.involved_object;
    let source = event.source.clone().unwrap_or_default();
    Kind {
        source: Subject(vec![
            source.component,
            source.host,
            about.api_version.clone(),
            about.kind.clone(),
            about.namespace.clone(),
            about.name.clone(),
            about.uid.clone(),
            about.field_path.clone(),
        ]),
        kind: event.type_.clone(),
        reason: event.reason.clone(),
    }
}

/// A map that forgets what has not been used for long.
struct Recent<K, V> {
    entries: HashMap<K, (u64, V)>,
    uses: u64,
}

impl<K, V> Default for Recent<K, V> {
    fn default() -> Self {
        Self {
            entries: HashMap::new(),
            uses: 0,
        }
    }
}

impl<K: Eq + Hash, V> Recent<K, V> {
    fn entry(&mut self, key: K, new: impl FnOnce() -> V) -> &mut V {
        self.uses += 1;
        if self.entries.len() >= REMEMBERED && !self.entries.contains_key(&key) {
            let mut ages: Vec<u64> = self.entries.values().map(|(used, _)| *used).collect();
            let (_, middle, _) = ages.select_nth_unstable(REMEMBERED / 2);
            let middle = *middle;
            self.entries.retain(|_, (used, _)| *used > middle);
        }
        let (used, value) = self.entries.entry(key).or_insert_with(|| (0, new()));
        *used = self.uses;
        value
    }

    fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use k8s_openapi::api::core::v1::{EventSource, ObjectReference};

    fn event(object: &str, message: &str) -> Event {
        Event {
            involved_object: ObjectReference {
                name: Some(object.into()),
                ..ObjectReference::default()
            },
            source: Some(EventSource::default()),
            message: Some(message.into()),
            metadata: k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta {
                name: Some(format!("{object}.{message}")),
                ..Default::default()
            },
            ..Event::default()
        }
    }

    fn written(verdict: Verdict) -> Option<Event> {
        match verdict {
            Verdict::Write(event) => Some(*event),
            Verdict::Drop => None,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_repeat_keeps_its_name_and_counts() {
        let mut correlator = Correlator::new(Clock::system());
        let first = written(correlator.correlate(event("a", "m"))).unwrap();
        let second = written(correlator.correlate(event("a", "m"))).unwrap();
        assert_eq!((first.count, second.count), (Some(1), Some(2)));
        assert_eq!(first.metadata.name, second.metadata.name);
        let other = written(correlator.correlate(event("b", "m"))).unwrap();
        assert_eq!(other.count, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn many_alike_become_one_until_it_has_been_quiet() {
        let start = "2026-01-01T00:00:00Z".parse().unwrap();
        let clock = Clock::starting_at(start);
        let mut correlator = Correlator::new(clock);
        let mut combined = 0;
        for n in 0..15 {
            let event = written(correlator.correlate(event("a", &n.to_string()))).unwrap();
            combined += i32::from(event.message.unwrap().starts_with("(combined from similar events)"));
        }
        assert_eq!(combined, 6);
        clock.sleep(Duration::from_secs(601)).await;
        let event = written(correlator.correlate(event("a", "later"))).unwrap();
        assert_eq!(event.message.as_deref(), Some("later"));
    }

    #[tokio::test(start_paused = true)]
    async fn a_flood_about_one_object_is_cut_and_others_are_not() {
        let clock = Clock::system();
        let mut correlator = Correlator::new(clock);
        let passed = (0..100)
            .filter(|_| written(correlator.correlate(event("a", "m"))).is_some())
            .count();
        assert_eq!(passed, 25);
        assert!(written(correlator.correlate(event("b", "m"))).is_some());
        clock.sleep(Duration::from_secs(300)).await;
        let next = written(correlator.correlate(event("a", "m"))).unwrap();
        assert_eq!(next.count, Some(101));
    }

    #[test]
    fn memory_is_bounded() {
        let mut recent = Recent::<usize, ()>::default();
        for n in 0..3 * REMEMBERED {
            recent.entry(n, || ());
        }
        assert!(recent.entries.len() <= REMEMBERED);
        assert!(recent.entries.contains_key(&(3 * REMEMBERED - 1)));
    }
}
