//! Random pods come to full random clusters: who is evicted for whom.

use coracle_scheduler::listers::Listers;
use proptest::prelude::*;
use serde_json::json;

use crate::generate::{PodFacts, cluster};
use crate::model::Model;
use crate::placement::Bench;

/// A budget for the pods of app 0 that allows so many evictions.
fn listers(allowed: i32) -> Listers {
    let listers = Listers::holding();
    let budget = json!({"metadata": {"namespace": "default", "name": "b"},
        "spec": {"selector": {"matchLabels": {"app": "a0"}}},
        "status": {"disruptionsAllowed": allowed, "currentHealthy": 1, "desiredHealthy": 1, "expectedPods": 1}});
    listers.budgets.hold([serde_json::from_value(budget).unwrap()]);
    listers
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn only_lower_priorities_go_no_more_than_must_and_within_budgets_where_that_can_be(
        (nodes, pods) in cluster(4, 20), allowed in 0_i32..2,
    ) {
        let mut bench = Bench::new(&nodes, listers(allowed), 5);
        let mut model = Model { nodes: &nodes, placed: Vec::new() };
        for pod in pods {
            let info = pod.object();
            let action = match bench.schedule(&info) {
                Ok(name) => {
                    let at = nodes.iter().position(|n| n.name == name).unwrap();
                    bench.cache.assume(info, &name);
                    model.placed.push((pod, at));
                    continue;
                }
                Err(not_found) => not_found.action,
            };
            if action.victims.is_empty() {
                continue;
            }
            let at = nodes.iter().position(|n| Some(&*n.name) == action.nominate.as_deref()).unwrap();
            let victims: Vec<String> = action.victims.iter().map(|v| v.uid().to_owned()).collect();
            let gone = |p: &PodFacts| victims.contains(&p.name);
            for (victim, node) in model.placed.iter().filter(|(p, _)| gone(p)) {
                prop_assert!(victim.priority < pod.priority, "{} has no lower priority", victim.name);
                prop_assert_eq!(*node, at, "{} is on another node", &victim.name);
            }
            let without = |names: &[String]| Model {
                nodes: &nodes,
                placed: model.placed.iter().filter(|(p, _)| !names.contains(&p.name)).cloned().collect(),
            };
            prop_assert!(without(&victims).fits(&pod, at), "evicting {:?} does not help {:?}", &victims, pod);
            let violated = |names: &[String]| {
                let protected = model.placed.iter().filter(|(p, _)| p.app == 0 && names.contains(&p.name)).count();
                protected > usize::try_from(allowed).unwrap()
            };
            if violated(&victims) {
                // Then no node can do without: even with all others of lower priority gone from it.
                for (node, there_is) in nodes.iter().enumerate() {
                    let lower = |protected: bool| -> Vec<String> {
                        let there = model.placed.iter().filter(|(p, n)| *n == node && p.priority < pod.priority);
                        there.filter(|(p, _)| (p.app == 0) == protected).map(|(p, _)| p.name.clone()).collect()
                    };
                    // Only if all of lower priority gone would help is the node a candidate at all.
                    let all: Vec<String> = lower(true).into_iter().chain(lower(false)).collect();
                    let helps = !all.is_empty() && without(&all).fits(&pod, node);
                    prop_assert!(
                        !(helps && without(&lower(false)).fits(&pod, node) && is_monotone(&pod)),
                        "on {} the budget could have been kept", there_is.name
                    );
                }
            }
            for victim in &victims {
                bench.cache.remove_pod(victim);
            }
            model.placed.retain(|(p, _)| !victims.contains(&p.name));
            bench.cache.assume(info, &nodes[at].name);
            model.placed.push((pod, at));
        }
    }
}

/// Whether fewer pods on a node never make it worse for this one: then sparing pods one by one finds the best.
fn is_monotone(pod: &PodFacts) -> bool {
    pod.spread.is_none() && pod.affinity.is_none_or(|a| a.anti)
}
