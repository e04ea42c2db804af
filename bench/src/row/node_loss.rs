//! A node that goes silent: until it is tainted, and until its pods are replaced elsewhere.

use std::collections::HashMap;

use coracle_clock::Clock;
use serde_json::json;

use crate::bare_nodes::BareNodes;
use crate::figure::Measured;
use crate::load::{Events, Prepared};
use crate::row::{Bench, Row};
use crate::scratch::Scratch;
use crate::server::Nodes;
use crate::view;
use crate::workload::{count, deployment, deployments, send, within};

pub const ROW: Row = Row {
    name: "node-loss",
    about: "one of ten nodes goes silent: until it is tainted, and from then until its pods (which tolerate no loss) are bound elsewhere",
    budgets: &[],
    run: |bench| Box::pin(run(bench)),
};

const NODES: usize = 10;

async fn run(bench: &Bench) -> anyhow::Result<Measured> {
    let server = bench.serve(Nodes::Any).await?;
    let nodes = BareNodes::make(&server, NODES).await?;
    let replicas = bench.options.replicas / 2;
    let scratch = Scratch::make(&server).await?;
    let endpoint = server.endpoint()?;
    let mut pods = Events::open(endpoint, &scratch.path("pods"), "").await?;
    let mut node_events = Events::open(endpoint, "/api/v1/nodes", "").await?;
    let leave_at_once =
        |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0});
    let tolerations = json!({"tolerations": [
        leave_at_once("node.kubernetes.io/unreachable"), leave_at_once("node.kubernetes.io/not-ready"),
    ]});
    let made = deployment("spread", replicas, "v1", tolerations);
    send(endpoint, &Prepared::post(deployments(&scratch), &made)).await?;
    let mut placed: HashMap<String, String> = HashMap::new();
    within(
        "pods to be bound",
        settle(&mut pods, &mut placed, replicas as usize, ""),
    )
    .await?;

    let clock = Clock::system();
    let lost = nodes.lose(0);
    let there = placed.values().filter(|n| **n == lost).count();
    let silent = clock.instant();
    within("the node to be tainted", async {
        loop {
            let node = node_events.next::<view::Node>().await?.object;
            if node.metadata.name == lost && node.is_unreachable() {
                return Ok(());
            }
        }
    })
    .await?;
    let tainted = clock.instant();
    within(
        "pods to be replaced",
        settle(&mut pods, &mut placed, replicas as usize, &lost),
    )
    .await?;
    let replaced = tainted.elapsed();
    let mut measured = Measured::default();
    let of = format!("node loss, one of {}", nodes.len());
    measured.cost(
        format!("{of}, silent → tainted"),
        tainted.duration_since(silent).as_secs_f64(),
        "s",
    );
    measured.cost(
        format!("{of}, tainted → its pods bound elsewhere"),
        replaced.as_secs_f64(),
        "s",
    );
    measured.note(format!(
        "the lost node had {there} of {} pods; silence is noticed after the server's own grace period",
        count(replicas)
    ));
    scratch.drop_from(&server, bench.target.is_own()).await?;
    nodes.delete(server.client()?).await?;
    server.close().await?;
    Ok(measured)
}

/// Follows pods until so many are bound, none of them to the node that is lost.
async fn settle(
    events: &mut Events,
    placed: &mut HashMap<String, String>,
    wanted: usize,
    lost: &str,
) -> anyhow::Result<()> {
    while placed.len() != wanted || placed.values().any(|n| n == lost) {
        let event = events.next::<view::Pod>().await?;
        let pod = event.object;
        if event.kind == "DELETED" || pod.metadata.deletion_timestamp.is_some() {
            placed.remove(&pod.metadata.name);
        } else if pod.is_bound() {
            placed.insert(pod.metadata.name.clone(), pod.node().to_owned());
        }
    }
    Ok(())
}
