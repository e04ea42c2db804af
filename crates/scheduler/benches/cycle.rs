//! One scheduling cycle: finding a node for a pod and noting it, with everything in memory. `examples/cycle.rs` measures the
//! same with spread, affinity and preemption, and tells percentiles.
//!
//! ```sh
//! cargo bench -p coracle-scheduler
//! ```

use std::sync::Arc;

use coracle_scheduler::cache::Cache;
use coracle_scheduler::cycle::Search;
use coracle_scheduler::listers::Listers;
use coracle_scheduler::nominator::Nominator;
use coracle_scheduler::plugins::default_plugins;
use coracle_scheduler::profile::Profile;
use coracle_scheduler::shape::Shapes;
use coracle_scheduler::testing::{node, pod_requesting};
use divan::Bencher;
use serde_json::json;

fn main() {
    divan::main();
}

const PODS_PER_NODE: usize = 20;

#[divan::bench(args = [100, 1000, 5000])]
fn plain_pod(bencher: Bencher<'_, '_>, nodes: usize) {
    let listers = Arc::new(Listers::holding());
    let profile = Profile::new("default-scheduler", default_plugins(&listers));
    let (cache, shapes, nominator) = (Cache::default(), Shapes::default(), Nominator::default());
    let mut search = Search::new(1, 0);
    for key in profile.topology_keys() {
        cache.cycle().need_topology(&key);
    }
    for n in 0..nodes {
        let name = format!("node-{n:04}");
        let labels = json!({"topology.kubernetes.io/zone": format!("zone-{}", n % 3)});
        cache.set_node(node(&name, labels, json!({})));
        for pod in 0..PODS_PER_NODE {
            let pod = pod_requesting(&format!("there-{n}-{pod}"), "10m", "10Mi", json!({}));
            cache.set_pod(shapes.info(&pod.pod, None), &name);
        }
    }
    let mut made = 0;
    let pods = || {
        made += 1;
        pod_requesting(&format!("new-{made}"), "1m", "1Mi", json!({}))
    };
    bencher.with_inputs(pods).bench_local_values(|pod| {
        let pod = shapes.info(&pod.pod, None);
        let found = {
            let view = cache.cycle();
            search.schedule(&profile, &pod, &view, &nominator.current())
        };
        if let Ok(found) = found {
            // Taken back, so that every cycle finds the cluster alike.
            let uid = pod.uid().to_owned();
            cache.assume(pod, &found.node);
            cache.remove_pod(&uid);
        }
    });
}
