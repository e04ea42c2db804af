//! Random pods come to random small clusters: the scheduler places each where the model would, and nowhere else.

use std::sync::Arc;

use coracle_scheduler::cache::Cache;
use coracle_scheduler::cycle::{NotFound, Search};
use coracle_scheduler::listers::Listers;
use coracle_scheduler::nominator::{Nominations, Nominator};
use coracle_scheduler::plugins::default_plugins;
use coracle_scheduler::profile::Profile;
use coracle_scheduler::shape::PodInfo;
use proptest::prelude::*;

use crate::generate::{NodeFacts, cluster};
use crate::model::Model;

/// The scheduler without an API server.
pub struct Bench {
    pub cache: Cache,
    pub profile: Profile,
    pub search: Search,
}

impl Bench {
    pub fn new(nodes: &[NodeFacts], listers: Listers, seed: u64) -> Self {
        let bench = Self {
            cache: Cache::default(),
            profile: Profile::new("default-scheduler", default_plugins(&Arc::new(listers))),
            search: Search::new(seed, 0),
        };
        nodes.iter().for_each(|n| bench.cache.set_node(n.object()));
        bench
    }

    /// The node chosen for the pod, or what to do instead.
    pub fn schedule(&mut self, pod: &PodInfo) -> Result<String, Box<NotFound>> {
        self.schedule_beside(pod, &Nominator::default().current())
    }

    /// The same, where other pods are expected.
    pub fn schedule_beside(&mut self, pod: &PodInfo, expected: &Nominations) -> Result<String, Box<NotFound>> {
        let mut view = self.cache.cycle();
        pod.shape.topology_keys().for_each(|key| view.need_topology(key));
        let found = self.search.schedule(&self.profile, pod, &view, expected)?;
        Ok(found.node.to_string())
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_pod_goes_to_a_best_node_of_those_that_fit_and_to_none_if_none_fits((nodes, pods) in cluster(6, 14)) {
        let mut bench = Bench::new(&nodes, Listers::holding(), 7);
        let mut model = Model { nodes: &nodes, placed: Vec::new() };
        for pod in pods {
            let info = pod.object();
            for (number, node) in nodes.iter().enumerate() {
                let there = || model.placed.iter().filter(|(_, at)| *at == number).map(|(p, _)| p);
                prop_assert!(there().map(|p| p.cpu).sum::<i64>() <= node.cpu, "more CPU than {} has", node.name);
                prop_assert!(there().map(|p| p.memory).sum::<i64>() <= node.memory, "more memory than {}", node.name);
                prop_assert!(there().count() as i64 <= node.max_pods, "more pods than {} takes", node.name);
            }
            let fitting: Vec<usize> = (0..nodes.len()).filter(|n| model.fits(&pod, *n)).collect();
            match bench.schedule(&info) {
                Ok(name) => {
                    let chosen = nodes.iter().position(|n| n.name == name).unwrap();
                    prop_assert!(fitting.contains(&chosen), "{pod:?} does not fit on {name}");
                    let scores = model.scores(&pod, &fitting);
                    let best = scores.iter().max().unwrap();
                    let own = fitting.iter().position(|n| *n == chosen).unwrap();
                    prop_assert_eq!(
                        scores[own], *best,
                        "{:?} scores {:?} on {:?}, and {} was chosen", pod, &scores, &fitting, name
                    );
                    bench.cache.assume(info, &name);
                    model.placed.push((pod, chosen));
                }
                Err(not_found) => {
                    prop_assert!(fitting.is_empty(), "{:?} fits on {:?}: {}", pod, fitting, not_found.error);
                }
            }
        }
    }

    #[test]
    fn the_same_inputs_and_seed_give_the_same_placements((nodes, pods) in cluster(6, 10), seed in any::<u64>()) {
        let place = || {
            let mut bench = Bench::new(&nodes, Listers::holding(), seed);
            let mut out = Vec::new();
            for pod in &pods {
                let info = pod.object();
                let node = bench.schedule(&info).map_err(|e| e.error.to_string());
                if let Ok(node) = &node {
                    bench.cache.assume(info, node);
                }
                out.push(node);
            }
            out
        };
        prop_assert_eq!(place(), place());
    }

    #[test]
    fn pods_that_go_leave_the_cluster_as_if_they_had_never_been((nodes, pods) in cluster(5, 10)) {
        let (mut used, mut fresh) = (Bench::new(&nodes, Listers::holding(), 3), Bench::new(&nodes, Listers::holding(), 3));
        let (last, others) = pods.split_last().unwrap();
        for pod in others {
            let info = pod.object();
            if let Ok(node) = used.schedule(&info) {
                used.cache.assume(info, &node);
            }
        }
        others.iter().for_each(|p| used.cache.remove_pod(&p.name));
        used.search = Search::new(3, 0);
        let outcome = |bench: &mut Bench| bench.schedule(&last.object()).map_err(|e| e.error.to_string());
        prop_assert_eq!(outcome(&mut used), outcome(&mut fresh));
    }
}
