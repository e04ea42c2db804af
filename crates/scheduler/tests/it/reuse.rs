//! What is remembered from pod to pod changes nothing: replicas come to random clusters that change under them, and go where
//! they would if every one of them were the first of its kind.

use std::sync::Arc;

use coracle_scheduler::framework::{CycleState, Plugin, Point, Rejection, Reuse};
use coracle_scheduler::listers::Listers;
use coracle_scheduler::node_info::NodeInfo;
use coracle_scheduler::nominator::Nominator;
use coracle_scheduler::plugins::default_plugins;
use coracle_scheduler::profile::Profile;
use coracle_scheduler::shape::{PodInfo, Shapes};
use proptest::prelude::*;

use crate::generate::{NodeFacts, PodFacts, cluster};
use crate::placement::Bench;

/// Has nothing to say, and lets nothing be used again.
struct Forgetful;

impl Plugin for Forgetful {
    fn name(&self) -> &'static str {
        "Forgetful"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Filter]
    }

    fn reuse(&self, _pod: &PodInfo) -> Reuse {
        Reuse::Nothing
    }

    fn filter(&self, _state: &CycleState, _pod: &PodInfo, _node: &NodeInfo) -> Result<(), Rejection> {
        Ok(())
    }
}

/// What happens between two pods.
#[derive(Clone, Debug)]
enum Step {
    /// One more like that one.
    Pod(usize),
    /// One that was placed goes.
    Gone(usize),
    /// It begins to, and still counts for some.
    Terminating(usize),
    /// The node is as that one is, but for its name.
    Node(usize, usize),
    /// Its status is written.
    Heartbeat(usize),
    /// One is nominated to a node.
    Nominate(usize, usize),
}

fn a_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => any::<usize>().prop_map(Step::Pod),
        2 => any::<usize>().prop_map(Step::Gone),
        1 => any::<usize>().prop_map(Step::Terminating),
        1 => any::<(usize, usize)>().prop_map(|(a, b)| Step::Node(a, b)),
        1 => any::<usize>().prop_map(Step::Heartbeat),
        1 => any::<(usize, usize)>().prop_map(|(a, b)| Step::Nominate(a, b)),
    ]
}

struct Side {
    bench: Bench,
    shapes: Shapes,
    nominator: Nominator,
    placed: Vec<(PodInfo, String)>,
}

impl Side {
    fn new(nodes: &[NodeFacts], forgetful: bool) -> Self {
        let mut bench = Bench::new(nodes, Listers::holding(), 11);
        if forgetful {
            let mut plugins = default_plugins(&Arc::new(Listers::holding()));
            plugins.push((Arc::new(Forgetful), 0));
            bench.profile = Profile::new("default-scheduler", plugins);
        }
        Self {
            bench,
            shapes: Shapes::default(),
            nominator: Nominator::default(),
            placed: Vec::new(),
        }
    }

    /// What came of the step, in words.
    fn take(&mut self, nodes: &[NodeFacts], pods: &[PodFacts], step: &Step, number: usize) -> String {
        let one = |list: usize, of: usize| list % of.max(1);
        match step {
            Step::Pod(which) => {
                let mut facts = pods[one(*which, pods.len())].clone();
                facts.name = format!("p{number}");
                let info = self.shapes.info(&facts.object().pod, None);
                let outcome = self.bench.schedule_beside(&info, &self.nominator.current());
                match outcome {
                    Ok(node) => {
                        self.bench.cache.assume(info.clone(), &node);
                        self.placed.push((info, node.clone()));
                        node
                    }
                    Err(not_found) => {
                        let mut victims: Vec<_> = not_found.action.victims.iter().map(|v| v.uid().to_owned()).collect();
                        for victim in &victims {
                            self.bench.cache.remove_pod(victim);
                            self.placed.retain(|(p, _)| p.uid() != victim);
                        }
                        victims.sort();
                        let node = not_found.action.nominate;
                        format!("{} {node:?} {victims:?} {:?}", not_found.error, not_found.error.plugins)
                    }
                }
            }
            Step::Gone(which) if !self.placed.is_empty() => {
                let at = one(*which, self.placed.len());
                let (pod, _) = self.placed.remove(at);
                self.bench.cache.remove_pod(pod.uid());
                self.nominator.remove(pod.uid());
                pod.uid().to_owned()
            }
            Step::Terminating(which) if !self.placed.is_empty() => {
                let at = one(*which, self.placed.len());
                let (pod, node) = &mut self.placed[at];
                let mut object = (*pod.pod).clone();
                let time = serde_json::from_value("2026-01-01T00:00:00Z".into()).unwrap();
                object.metadata.deletion_timestamp = Some(time);
                *pod = self.shapes.info(&Arc::new(object), Some(pod));
                self.bench.cache.set_pod(pod.clone(), node);
                pod.uid().to_owned()
            }
            Step::Node(which, other) => {
                let (which, other) = (one(*which, nodes.len()), one(*other, nodes.len()));
                let mut facts = nodes[other].clone();
                facts.name.clone_from(&nodes[which].name);
                self.bench.cache.set_node(facts.object());
                facts.name
            }
            Step::Heartbeat(which) => {
                let name = &nodes[one(*which, nodes.len())].name;
                let view = self.bench.cache.cycle();
                let mut object = (*view.named(name).unwrap().node).clone();
                drop(view);
                object.metadata.resource_version = Some(number.to_string());
                self.bench.cache.set_node(Arc::new(object));
                name.clone()
            }
            Step::Nominate(which, node) => {
                let mut facts = pods[one(*which, pods.len())].clone();
                facts.name = format!("nominated{number}");
                let node = &nodes[one(*node, nodes.len())].name;
                let info = self.shapes.info(&facts.object().pod, None);
                self.nominator.nominate(info, node);
                node.clone()
            }
            Step::Gone(_) | Step::Terminating(_) => String::new(),
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn replicas_go_where_they_would_if_nothing_were_remembered(
        (nodes, pods) in cluster(6, 3), steps in proptest::collection::vec(a_step(), 1..40),
    ) {
        let (mut quick, mut slow) = (Side::new(&nodes, false), Side::new(&nodes, true));
        for (number, step) in steps.iter().enumerate() {
            let outcomes = (quick.take(&nodes, &pods, step, number), slow.take(&nodes, &pods, step, number));
            prop_assert_eq!(&outcomes.0, &outcomes.1, "step {} {:?} of {:?}", number, step, &steps);
        }
    }
}
