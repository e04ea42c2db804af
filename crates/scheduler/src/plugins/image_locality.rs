//! ImageLocality: prefers nodes that have the pod's images already, the more the larger they are; an image that few nodes
//! have counts less, so that pods do not all go where it happens to be.

use crate::framework::{CycleState, MAX_SCORE, Plugin, Point, PreScore, Reuse};
use crate::node_info::NodeInfo;
use crate::shape::PodInfo;
use crate::snapshot::Snapshot;

const MB: i64 = 1024 * 1024;
/// Images smaller than this in all do not count.
const LEAST: i64 = 23 * MB;
/// Of each container or image volume; more does not count.
const MOST: i64 = 1000 * MB;

pub struct ImageLocality;

/// Sums of image sizes by node number, in order.
struct Sizes(Vec<(u32, i64)>);

/// Whether any of the nodes has any of the images.
fn counted(sizes: &[(u32, i64)], nodes: &[&NodeInfo]) -> PreScore {
    let counts = |n: &&NodeInfo| sizes.binary_search_by_key(&n.number, |(n, _)| *n).is_ok();
    match !sizes.is_empty() && nodes.iter().any(counts) {
        true => PreScore::Score,
        false => PreScore::Skip,
    }
}

impl Plugin for ImageLocality {
    fn name(&self) -> &'static str {
        "ImageLocality"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::PreScore, Point::Score]
    }

    fn reuse(&self, _pod: &PodInfo) -> Reuse {
        Reuse::Node
    }

    fn pre_score(&self, state: &mut CycleState, pod: &PodInfo, nodes: &[&NodeInfo], all: &Snapshot) -> PreScore {
        if let Some(Sizes(sizes)) = state.get() {
            return counted(sizes, nodes);
        }
        let total = all.len() as f64;
        let mut sizes: Vec<(u32, i64)> = Vec::new();
        for image in &pod.shape.images {
            let Some(image) = all.image(image) else { continue };
            let spread = image.nodes.len() as f64 / total;
            let scaled = image.nodes.iter().map(|(n, size)| (*n, (*size as f64 * spread) as i64));
            sizes.extend(scaled);
        }
        sizes.sort_unstable_by_key(|(n, _)| *n);
        sizes.dedup_by(|later, first| {
            let same = later.0 == first.0;
            if same {
                first.1 += later.1;
            }
            same
        });
        let verdict = counted(&sizes, nodes);
        state.put(Sizes(sizes));
        verdict
    }

    fn score(&self, state: &CycleState, pod: &PodInfo, node: &NodeInfo) -> i64 {
        let Some(Sizes(sizes)) = state.get() else { return 0 };
        let Ok(at) = sizes.binary_search_by_key(&node.number, |(n, _)| *n) else {
            return 0;
        };
        let most = MOST * i64::try_from(pod.shape.image_uses).unwrap_or(i64::MAX / MOST);
        let sum = sizes[at].1.clamp(LEAST, most.max(LEAST + 1));
        MAX_SCORE * (sum - LEAST) / (most.max(LEAST + 1) - LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{node, pod};
    use serde_json::{Value, json};

    /// Scores of nodes with images of these names and sizes in MB.
    fn scores_of(nodes: &[&[(&str, i64)]], spec: Value) -> Option<Vec<i64>> {
        let mut snapshot = Snapshot::default();
        for (i, images) in nodes.iter().enumerate() {
            let images = images.iter().filter(|(_, size)| *size > 0);
            let images = images.map(|(name, size)| json!({"names": [name], "sizeBytes": size * MB}));
            let images: Vec<Value> = images.collect();
            snapshot.set_node(node(&format!("n{i}"), json!({}), json!({"images": images})));
        }
        snapshot.settle();
        let nodes: Vec<&NodeInfo> = (0..nodes.len() as u32).filter_map(|n| snapshot.node(n)).collect();
        let (pod, mut state) = (pod("a", spec), CycleState::default());
        match ImageLocality.pre_score(&mut state, &pod, &nodes, &snapshot) {
            PreScore::Skip => None,
            PreScore::Score => Some(nodes.iter().map(|n| ImageLocality.score(&state, &pod, n)).collect()),
        }
    }

    fn scores(sizes: [i64; 3]) -> Option<Vec<i64>> {
        let nodes = sizes.map(|size| [("web:v1", size)]);
        let nodes: Vec<&[(&str, i64)]> = nodes.iter().map(<[_; 1]>::as_slice).collect();
        scores_of(&nodes, json!({}))
    }

    #[test]
    fn larger_images_on_more_nodes_score_higher() {
        assert_eq!(scores([0, 0, 0]), None);
        // On one of three nodes a third counts: (100 - 23) / (1000 - 23).
        assert_eq!(scores([300, 0, 0]), Some(vec![7, 0, 0]));
        assert_eq!(scores([300, 300, 300]), Some(vec![28, 28, 28]));
        assert_eq!(scores([5000, 5000, 20]), Some(vec![100, 100, 0]));
    }

    #[test]
    fn all_images_of_a_pod_count_and_what_counts_as_much_grows_with_them() {
        let container = |image: &str| json!({"name": image, "image": image});
        let volume = |image: &str| json!({"name": "v", "image": {"reference": image}});
        let both: &[(&str, i64)] = &[("a:1", 140), ("b:1", 250)];
        let one: &[(&str, i64)] = &[("a:1", 140)];
        for (what, nodes, spec, expected) in [
            // (140 + 250 / 2 - 23) / (2000 - 23) on one of two nodes, (140 - 23) / (2000 - 23) on the other.
            (
                "two containers",
                [both, one],
                json!({"containers": [container("a:1"), container("b:1")]}),
                vec![12, 5],
            ),
            (
                "an init container",
                [both, one],
                json!({"initContainers": [container("a:1")], "containers": [container("b:1")]}),
                vec![12, 5],
            ),
            (
                "an image volume",
                [both, one],
                json!({"volumes": [volume("a:1")], "containers": [container("b:1")]}),
                vec![12, 5],
            ),
            (
                "an image volume that no node has, which counts for the most that counts",
                [one, one],
                json!({"volumes": [volume("c:1")], "containers": [container("a:1")]}),
                vec![5, 5],
            ),
            (
                "one image twice",
                [one, one],
                json!({"containers": [container("a:1"), {"name": "again", "image": "a:1"}]}),
                vec![12, 12],
            ),
        ] {
            assert_eq!(scores_of(&nodes, spec), Some(expected), "{what}");
        }
    }
}
