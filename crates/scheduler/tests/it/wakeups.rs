//! A pod that fits nowhere waits for an event that some plugin thinks may help. No event that does help is thought not to:
//! random clusters turn random pods down, something changes, and if the pod fits then, it is woken.

use coracle_scheduler::event::ClusterEvent;
use coracle_scheduler::listers::Listers;
use proptest::prelude::*;

use crate::generate::{NodeFacts, PodFacts, cluster};
use crate::model::Model;
use crate::placement::Bench;

/// What may change for the better.
#[derive(Clone, Debug)]
enum Change {
    /// The node is as this one is, but for its name.
    Node(usize, NodeFacts),
    NewNode(NodeFacts),
    NodeGone(usize),
    PodGone(usize),
    /// It is of another app now.
    Relabel(usize, u8),
    NewPod(PodFacts, usize),
}

fn a_change() -> impl Strategy<Value = Change> {
    let node = || cluster(1, 1).prop_map(|(mut nodes, _)| nodes.remove(0));
    let pod = || cluster(1, 1).prop_map(|(_, mut pods)| pods.remove(0));
    prop_oneof![
        3 => (any::<usize>(), node()).prop_map(|(at, node)| Change::Node(at, node)),
        1 => node().prop_map(Change::NewNode),
        1 => any::<usize>().prop_map(Change::NodeGone),
        3 => any::<usize>().prop_map(Change::PodGone),
        2 => (any::<usize>(), 0_u8..3).prop_map(|(at, app)| Change::Relabel(at, app)),
        2 => (pod(), any::<usize>()).prop_map(|(pod, at)| Change::NewPod(pod, at)),
    ]
}

/// The cluster after the change, and what is told of it. `None`: there is nothing to change.
fn apply(change: &Change, nodes: &mut Vec<NodeFacts>, placed: &mut Vec<(PodFacts, usize)>) -> Option<ClusterEvent> {
    let one = |which: usize, of: usize| (of > 0).then(|| which % of);
    Some(match change {
        Change::Node(which, facts) => {
            let at = one(*which, nodes.len())?;
            let mut new = facts.clone();
            new.name.clone_from(&nodes[at].name);
            let old = std::mem::replace(&mut nodes[at], new);
            ClusterEvent::of_node(&old.object(), &nodes[at].object())?
        }
        Change::NewNode(facts) => {
            let mut new = facts.clone();
            new.name = "new".into();
            nodes.push(new.clone());
            ClusterEvent::NodeAdded(new.object())
        }
        Change::NodeGone(which) => {
            // One with pods stays: they would be strays.
            let empty: Vec<usize> = (0..nodes.len())
                .filter(|n| placed.iter().all(|(_, at)| at != n))
                .collect();
            let at = empty[one(*which, empty.len())?];
            let gone = nodes.remove(at);
            placed.iter_mut().for_each(|(_, n)| *n -= usize::from(*n > at));
            ClusterEvent::NodeGone(gone.object())
        }
        Change::PodGone(which) => {
            let (gone, _) = placed.remove(one(*which, placed.len())?);
            ClusterEvent::PodGone(gone.object())
        }
        Change::Relabel(which, app) => {
            let at = one(*which, placed.len())?;
            let old = placed[at].0.object();
            placed[at].0.app = *app;
            ClusterEvent::PodChanged {
                old,
                new: placed[at].0.object(),
            }
        }
        Change::NewPod(facts, which) => {
            let at = one(*which, nodes.len())?;
            let mut new = facts.clone();
            new.name = "new".into();
            placed.push((new.clone(), at));
            ClusterEvent::PodPlaced(new.object())
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_helps_a_pod_wakes_it((nodes, pods) in cluster(3, 9), change in a_change()) {
        let mut bench = Bench::new(&nodes, Listers::holding(), 3);
        let mut placed = Vec::new();
        for pod in &pods {
            let info = pod.object();
            let Err(not_found) = bench.schedule(&info).map(|name| {
                bench.cache.assume(info.clone(), &name);
                placed.push((pod.clone(), nodes.iter().position(|n| n.name == name).unwrap()));
            }) else { continue };
            let (mut nodes, mut placed) = (nodes.clone(), placed.clone());
            let Some(event) = apply(&change, &mut nodes, &mut placed) else { continue };
            let model = Model { nodes: &nodes, placed };
            let fits: Vec<usize> = (0..nodes.len()).filter(|n| model.fits(pod, *n)).collect();
            prop_assert!(
                fits.is_empty() || bench.profile.may_help(&not_found.error.plugins, &event, &info),
                "{:?} was turned down by {:?} and fits on {:?} after {:?}",
                pod, not_found.error.plugins, fits, change
            );
        }
    }
}
