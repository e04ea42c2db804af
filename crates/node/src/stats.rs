//! What the node and its pods use: sampled when asked for, never in between, and shown by upstream's names.
//!
//! `sample` reads it all, `rate` makes rates of counters, `machine` reads what is the machine's, `summary` and `metrics`
//! write it down.

mod machine;
mod metrics;
mod rate;
mod sample;
mod summary;

use http::{Response, StatusCode};

use crate::server::{Api, Body, Query, text};

pub(crate) use machine::MachineUsage;
pub(crate) use sample::{ContainerUsage, PodUsage, Sampler};

const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `/stats/summary`
pub(crate) async fn summary(api: &Api, query: &Query) -> Response<Body> {
    let snapshot = api.stats.take(!query.flag("only_cpu_and_memory")).await;
    text(
        StatusCode::OK,
        "application/json",
        summary::summary(&snapshot).to_string(),
    )
}

/// `/metrics/resource`
pub(crate) async fn resource_metrics(api: &Api) -> Response<Body> {
    let snapshot = api.stats.take(false).await;
    text(StatusCode::OK, METRICS, metrics::resource(&snapshot))
}

/// `/metrics/cadvisor`
pub(crate) async fn cadvisor_metrics(api: &Api) -> Response<Body> {
    let snapshot = api.stats.take(true).await;
    text(StatusCode::OK, METRICS, metrics::cadvisor(&snapshot))
}

/// `/metrics`
pub(crate) async fn agent_metrics(api: &Api) -> Response<Body> {
    let facts = metrics::AgentFacts {
        node: api.cx.node().name.clone(),
        pods: api.pods.len(),
        sandboxes: api.cx.runtime.sandboxes().await,
        containers: api.cx.runtime.containers().await,
        process: machine::Process::read(),
        own_users: (api.cx.users.tried(), api.cx.users.failed()),
    };
    text(StatusCode::OK, METRICS, metrics::agent(&facts))
}
