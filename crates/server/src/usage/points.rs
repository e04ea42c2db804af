//! Two readings of a node's counters, and what was used between them. Pure.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use coracle_clock::Timestamp;

/// Readings closer to each other than this say little.
const LEAST: Duration = Duration::from_secs(1);
/// Two readings are to be at least so far apart once there are enough of them.
const WANTED: Duration = Duration::from_secs(10);
/// An older reading tells of another time.
const MOST: Duration = Duration::from_secs(120);

/// One counter and one gauge at one time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Point {
    pub(super) at: Timestamp,
    pub(super) cpu_seconds: f64,
    pub(super) memory_bytes: u64,
}

/// A container's point, and when it began, with its CPU at 0.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct ContainerPoint {
    pub(super) point: Point,
    pub(super) started_at: Timestamp,
}

/// Namespace, pod and container.
pub(super) type ContainerName = (String, String, String);

/// All of a node at one time.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Reading {
    pub(super) node: Point,
    pub(super) containers: HashMap<ContainerName, ContainerPoint>,
}

/// What was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Usage {
    pub(super) at: Timestamp,
    pub(super) window: Duration,
    pub(super) cpu_nanocores: u64,
    pub(super) memory_bytes: u64,
}

/// The latest reading and the one that it is compared with.
#[derive(Clone, Debug, Default)]
pub(super) struct Points {
    before: Option<Arc<Reading>>,
    last: Option<Arc<Reading>>,
}

fn apart(before: Timestamp, after: Timestamp) -> Duration {
    Duration::try_from(after.duration_since(before)).unwrap_or_default()
}

impl Points {
    pub(super) fn add(&mut self, reading: Reading) {
        let gap = |older: &Arc<Reading>| apart(older.node.at, reading.node.at);
        if let Some(last) = self.last.take()
            && (self.before.is_none() || gap(&last) >= WANTED)
        {
            self.before = Some(last);
        }
        // A node that began anew counts from nothing.
        self.before = self
            .before
            .take()
            .filter(|b| gap(b) <= MOST && b.node.cpu_seconds <= reading.node.cpu_seconds);
        self.last = Some(Arc::new(reading));
    }

    /// Whether there are two readings to compare.
    pub(super) fn is_complete(&self) -> bool {
        self.node().is_some()
    }

    pub(super) fn node(&self) -> Option<Usage> {
        between(self.before.as_ref()?.node, self.last.as_ref()?.node)
    }

    pub(super) fn container(&self, namespace: &str, pod: &str, name: &str) -> Option<Usage> {
        let key = (namespace.to_owned(), pod.to_owned(), name.to_owned());
        let last = self.last.as_ref()?.containers.get(&key)?;
        let known = self.before.as_ref().and_then(|b| b.containers.get(&key));
        let same = known.filter(|k| k.started_at == last.started_at && k.point.cpu_seconds <= last.point.cpu_seconds);
        // One that began since then is compared with its beginning.
        let before = same.map_or(
            Point {
                at: last.started_at,
                cpu_seconds: 0.0,
                memory_bytes: 0,
            },
            |k| k.point,
        );
        between(before, last.point)
    }
}

fn between(before: Point, after: Point) -> Option<Usage> {
    let window = apart(before.at, after.at);
    // The clock that the readings were a second apart by is not the node's.
    if window < LEAST.mul_f64(0.9) {
        return None;
    }
    let nanocores = (after.cpu_seconds - before.cpu_seconds).max(0.0) / window.as_secs_f64() * 1e9;
    Some(Usage {
        at: after.at,
        window,
        cpu_nanocores: nanocores as u64,
        memory_bytes: after.memory_bytes,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_700_000_000 + seconds).unwrap()
    }

    fn reading(seconds: i64, node: f64, container: f64, started: i64) -> Reading {
        let point = |cpu_seconds| Point {
            at: at(seconds),
            cpu_seconds,
            memory_bytes: 4096,
        };
        let container = ContainerPoint {
            point: point(container),
            started_at: at(started),
        };
        Reading {
            node: point(node),
            containers: HashMap::from([(("n".into(), "p".into(), "c".into()), container)]),
        }
    }

    #[test]
    fn usage_is_what_grew_between_two_readings() {
        let mut points = Points::default();
        points.add(reading(0, 100.0, 10.0, -100));
        assert!(!points.is_complete());
        points.add(reading(1, 100.5, 10.25, -100));
        let cores = |points: &Points| {
            let container = points.container("n", "p", "c").unwrap();
            (points.node().unwrap().cpu_nanocores, container.cpu_nanocores)
        };
        assert_eq!(cores(&points), (500_000_000, 250_000_000));
        // The first is kept until the second is old enough to be compared with.
        points.add(reading(8, 104.0, 10.0 + 8.0, -100));
        assert_eq!(cores(&points).0, 500_000_000);
        assert_eq!(points.node().unwrap().window, Duration::from_secs(8));
        points.add(reading(20, 116.0, 18.0, -100));
        assert_eq!(cores(&points), (1_000_000_000, 0));
        assert_eq!(points.node().unwrap().window, Duration::from_secs(12));
    }

    #[test]
    fn a_container_that_began_in_between_counts_from_its_beginning() {
        let mut points = Points::default();
        points.add(reading(0, 1.0, 50.0, -100));
        points.add(reading(10, 2.0, 2.0, 6));
        let used = points.container("n", "p", "c").unwrap();
        assert_eq!((used.cpu_nanocores, used.window), (500_000_000, Duration::from_secs(4)));
        points.add(reading(20, 3.0, 0.0, 20));
        assert!(points.container("n", "p", "c").is_none(), "too young to tell");
        assert!(points.container("n", "p", "other").is_none());
    }

    #[test]
    fn old_readings_and_restarted_nodes_are_not_compared_with() {
        let mut points = Points::default();
        points.add(reading(0, 100.0, 0.0, 0));
        points.add(reading(500, 200.0, 0.0, 0));
        assert!(!points.is_complete());
        points.add(reading(510, 1.0, 0.0, 0));
        assert!(!points.is_complete());
    }
}
