//! How extension points run through the plugins, sentence by sentence of the scheduling framework's documentation. What
//! needs an API server is in `tests/it/framework.rs`.

use parking_lot::Mutex;
use serde_json::json;

use super::*;
use crate::cycle::{NotFound, Search};
use crate::framework::Reuse;
use crate::nominator::Nominator;
use crate::testing::{node, pod};

type Log = Arc<Mutex<Vec<String>>>;

/// Notes every call, and refuses at one extension point.
struct Recorder {
    name: &'static str,
    log: Log,
    refuses: Option<Point>,
}

impl Recorder {
    fn call(&self, point: Point) -> Result<(), Rejection> {
        self.log.lock().push(format!("{} {}", self.name, point.field()));
        match self.refuses == Some(point) {
            true => Err(Rejection::new("refused")),
            false => Ok(()),
        }
    }
}

impl Plugin for Recorder {
    fn name(&self) -> &'static str {
        self.name
    }

    fn points(&self) -> &'static [Point] {
        &Point::ALL
    }

    fn reuse(&self, _pod: &PodInfo) -> Reuse {
        Reuse::Nothing
    }

    fn pre_enqueue(&self, _pod: &Pod) -> Result<(), Rejection> {
        self.call(Point::PreEnqueue)
    }

    fn pre_filter(&self, _: &mut CycleState, _: &PodInfo, _: &Snapshot) -> Result<PreFilter, Rejection> {
        self.call(Point::PreFilter).map(|()| PreFilter::All)
    }

    fn filter(&self, _: &CycleState, _: &PodInfo, _: &NodeInfo) -> Result<(), Rejection> {
        self.call(Point::Filter)
    }

    fn post_filter(&self, _: &mut CycleState, _: &Failed<'_>, _: &mut dyn FnMut(usize) -> usize) -> Option<PostFilter> {
        let nominate = self.call(Point::PostFilter).err().map(|_| Arc::from("n1"));
        Some(PostFilter {
            nominate,
            message: format!("{} says", self.name),
            ..PostFilter::default()
        })
    }

    fn pre_score(&self, _: &mut CycleState, _: &PodInfo, _: &[&NodeInfo], _: &Snapshot) -> PreScore {
        match self.call(Point::PreScore) {
            Ok(()) => PreScore::Score,
            Err(_) => PreScore::Skip,
        }
    }

    fn score(&self, _: &CycleState, _: &PodInfo, node: &NodeInfo) -> i64 {
        let _ = self.call(Point::Score);
        i64::from(node.name.as_ref() == "n2")
    }

    fn normalize(&self, _: &CycleState, _: &[&NodeInfo], scores: &mut [i64]) {
        self.log
            .lock()
            .push(format!("{} normalize {}", self.name, scores.len()));
    }

    fn reserve(&self, _: &mut CycleState, _: &PodInfo, _: &str) -> Result<(), Rejection> {
        self.call(Point::Reserve)
    }

    fn unreserve(&self, _: &CycleState, _: &PodInfo, _: &str) {
        self.log.lock().push(format!("{} unreserve", self.name));
    }

    fn permit(&self, _: &CycleState, _: &PodInfo, _: &str) -> Result<Permit, Rejection> {
        let limit = Duration::from_secs(if self.name == "b" { 3600 } else { 10 });
        self.call(Point::Permit).map(|()| Permit::Wait(limit))
    }
}

/// Plugins a, b and c, of which one refuses.
fn profile(refusing: &str, point: Point) -> (Profile, Log) {
    let log = Log::default();
    let recorder = |name: &'static str| -> (Arc<dyn Plugin>, i64) {
        let plugin = Recorder {
            name,
            log: log.clone(),
            refuses: (name == refusing).then_some(point),
        };
        (Arc::new(plugin), 1)
    };
    let profile = Profile::new("default-scheduler", ["a", "b", "c"].map(recorder).into());
    (profile, log)
}

fn schedule(profile: &Profile, nodes: &[&str]) -> Result<String, Box<NotFound>> {
    let mut snapshot = Snapshot::default();
    for name in nodes {
        snapshot.set_node(node(name, json!({}), json!({})));
    }
    snapshot.settle();
    let found = Search::new(0, 0).schedule(
        profile,
        &pod("p", json!({})),
        &snapshot,
        &Nominator::default().current(),
    );
    found.map(|f| f.node.to_string())
}

#[test]
fn only_when_all_pre_enqueue_plugins_agree_a_pod_enters() {
    let (open, log) = profile("", Point::PreEnqueue);
    assert_eq!(open.gate(&pod("p", json!({})).pod), None);
    assert_eq!(*log.lock(), ["a preEnqueue", "b preEnqueue", "c preEnqueue"]);
    let (closed, _) = profile("c", Point::PreEnqueue);
    assert_eq!(closed.gate(&pod("p", json!({})).pod).map(|g| g.plugin), Some("c"));
}

#[test]
fn a_pre_filter_that_refuses_ends_the_cycle() {
    let (profile, log) = profile("b", Point::PreFilter);
    let not_found = schedule(&profile, &["n1", "n2"]).unwrap_err();
    assert_eq!(not_found.error.plugins, ["b"]);
    let called: Vec<String> = log
        .lock()
        .iter()
        .filter(|l| !l.contains("postFilter"))
        .cloned()
        .collect();
    assert_eq!(called, ["a preFilter", "b preFilter"], "no node is looked at");
}

#[test]
fn where_a_filter_refuses_a_node_the_others_are_not_called() {
    let (profile, log) = profile("b", Point::Filter);
    assert!(schedule(&profile, &["n1", "n2"]).is_err());
    let called: Vec<String> = log.lock().iter().filter(|l| l.ends_with(" filter")).cloned().collect();
    assert_eq!(called, ["a filter", "b filter", "a filter", "b filter"]);
}

#[test]
fn post_filters_are_called_in_order_only_when_no_node_fits_until_one_makes_the_pod_schedulable() {
    let post = |log: &Log| -> Vec<String> {
        log.lock()
            .iter()
            .filter(|l| l.contains("postFilter"))
            .cloned()
            .collect()
    };
    let (fits, log) = profile("", Point::Filter);
    assert!(schedule(&fits, &["n1"]).is_ok());
    assert!(post(&log).is_empty());
    let (full, log) = profile("c", Point::Filter);
    let not_found = schedule(&full, &["n1"]).unwrap_err();
    assert_eq!(post(&log), ["a postFilter", "b postFilter", "c postFilter"]);
    assert_eq!(not_found.action.message, "a says, b says, c says");
    // This one refuses nothing but names a node; then the others have no say.
    let log = Log::default();
    let recorder = |name: &'static str, refuses: Point| -> (Arc<dyn Plugin>, i64) {
        let log = log.clone();
        let refuses = Some(refuses);
        (Arc::new(Recorder { name, log, refuses }), 1)
    };
    let plugins = vec![
        recorder("a", Point::Filter),
        recorder("b", Point::PostFilter),
        recorder("c", Point::PostFilter),
    ];
    let not_found = schedule(&Profile::new("default-scheduler", plugins), &["n1"]).unwrap_err();
    assert_eq!(not_found.action.nominate.as_deref(), Some("n1"));
    assert_eq!(post(&log), ["a postFilter", "b postFilter"]);
}

#[test]
fn every_node_that_fits_is_scored_and_each_plugin_normalizes_once() {
    let (profile, log) = profile("b", Point::PreScore);
    assert_eq!(schedule(&profile, &["n1", "n2"]).unwrap(), "n2");
    let log = log.lock();
    let of = |what: &str| log.iter().filter(|l| l.ends_with(what)).count();
    assert_eq!(
        (of("a score"), of("b score"), of("c score")),
        (2, 0, 2),
        "b had nothing to say"
    );
    assert_eq!((of("a normalize 2"), of("b normalize 2")), (1, 0));
}

#[test]
fn one_node_that_fits_needs_no_score() {
    let (profile, log) = profile("", Point::Filter);
    assert_eq!(schedule(&profile, &["n1"]).unwrap(), "n1");
    assert!(!log.lock().iter().any(|l| l.ends_with("core")), "{:?}", log.lock());
}

#[test]
fn when_one_cannot_reserve_all_unreserve_in_reverse_order() {
    let (profile, log) = profile("b", Point::Reserve);
    let refused = profile.reserve(&mut CycleState::default(), &pod("p", json!({})), "n1");
    assert_eq!(refused.unwrap_err().0, "b");
    assert_eq!(
        *log.lock(),
        ["a reserve", "b reserve", "c unreserve", "b unreserve", "a unreserve"]
    );
}

#[test]
fn a_permit_plugin_denies_or_makes_the_pod_wait_but_not_for_ever() {
    let permit = |refusing| {
        let (profile, _) = profile(refusing, Point::Permit);
        profile.permit(&CycleState::default(), &pod("p", json!({})), "n1")
    };
    let ten = Duration::from_secs(10);
    assert_eq!(permit("").unwrap(), [("a", ten), ("b", LONGEST_WAIT), ("c", ten)]);
    assert_eq!(permit("c").unwrap_err().0, "c");
}
