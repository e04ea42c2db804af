//! The built-in controllers, one file each: what is watched, which key an event means, and what a look at that key leads
//! to. A controller holds a client and shared informers, nothing else; it is level-triggered and idempotent, so it
//! may be killed between any two writes and started again, here or in another process.
//!
//! [`CONTROLLERS`] lists them all. What several need is one module each: [`owner`] and [`claim`] (adoption and release),
//! [`expectations`] (waiting for one's own writes to come back), [`pods`] (which pods count, which go first),
//! [`pod_control`] (making and deleting them), [`template`] (pods from templates), [`history`] (revisions of templates),
//! [`status`] (writing it) and [`written`] (reading one's own writes), [`count`] (numbers and percentages).
//!
//! Start reading at [`replicaset`], the smallest that does everything a controller does.

pub mod bootstrap_signer;
pub mod bootstrap_token;
pub mod certificate_approving;
pub mod certificate_cleaner;
pub mod certificate_request;
pub mod certificate_signing;
pub mod claim;
pub mod cluster_role_aggregation;
pub mod context;
pub mod count;
pub mod cronjob;
pub mod daemon_set;
pub mod deployment;
pub mod disruption;
pub mod endpoint_slice;
pub mod endpoint_slice_mirroring;
pub mod endpoints;
pub mod ephemeral_volume;
pub mod expectations;
pub mod finalizer;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
pub mod garbage_collector;
pub mod history;
pub mod horizontal_pod_autoscaler;
pub mod job;
pub mod keys;
pub mod legacy_token_cleaner;
pub mod local_path_provisioner;
pub mod members;
pub mod metrics;
pub mod namespace;
pub mod node_lifecycle;
pub mod owner;
pub mod pace;
pub mod persistent_volume;
pub mod pod_control;
pub mod pod_garbage_collector;
pub mod pods;
pub mod pv_protection;
pub mod pvc_protection;
pub mod replicaset;
pub mod replication_controller;
pub mod resource_quota;
pub mod root_ca;
pub mod selector_text;
pub mod service_account;
pub mod service_account_token;
pub mod stateful_set;
pub mod status;
pub mod taint_eviction;
pub mod template;
pub mod token_cleaner;
pub mod ttl_after_finished;
pub mod written;

use futures::FutureExt;
use futures::future::BoxFuture;

pub use context::Context;
pub use metrics::Metrics;

/// A controller's name (as `--controllers` takes it) and its life, which ends at the context's shutdown.
pub struct Registration {
    pub name: &'static str,
    pub run: fn(Context) -> BoxFuture<'static, ()>,
}

/// Every built-in controller.
pub const CONTROLLERS: &[Registration] = &[
    Registration {
        name: "bootstrap-signer-controller",
        run: |cx| bootstrap_signer::run(cx).boxed(),
    },
    Registration {
        name: "certificatesigningrequest-approving-controller",
        run: |cx| certificate_approving::run(cx).boxed(),
    },
    Registration {
        name: "certificatesigningrequest-cleaner-controller",
        run: |cx| certificate_cleaner::run(cx).boxed(),
    },
    Registration {
        name: "certificatesigningrequest-signing-controller",
        run: |cx| certificate_signing::run(cx).boxed(),
    },
    Registration {
        name: "clusterrole-aggregation-controller",
        run: |cx| cluster_role_aggregation::run(cx).boxed(),
    },
    Registration {
        name: "cronjob-controller",
        run: |cx| cronjob::run(cx).boxed(),
    },
    Registration {
        name: "daemonset-controller",
        run: |cx| daemon_set::run(cx).boxed(),
    },
    Registration {
        name: "deployment-controller",
        run: |cx| deployment::run(cx).boxed(),
    },
    Registration {
        name: "disruption-controller",
        run: |cx| disruption::run(cx).boxed(),
    },
    Registration {
        name: "endpoints-controller",
        run: |cx| endpoints::run(cx).boxed(),
    },
    Registration {
        name: "endpointslice-controller",
        run: |cx| endpoint_slice::run(cx).boxed(),
    },
    Registration {
        name: "endpointslice-mirroring-controller",
        run: |cx| endpoint_slice_mirroring::run(cx).boxed(),
    },
    Registration {
        name: "ephemeral-volume-controller",
        run: |cx| ephemeral_volume::run(cx).boxed(),
    },
    Registration {
        name: "garbage-collector-controller",
        run: |cx| garbage_collector::run(cx).boxed(),
    },
    Registration {
        name: "horizontal-pod-autoscaler-controller",
        run: |cx| horizontal_pod_autoscaler::run(cx).boxed(),
    },
    Registration {
        name: "job-controller",
        run: |cx| job::run(cx).boxed(),
    },
    Registration {
        name: "legacy-serviceaccount-token-cleaner-controller",
        run: |cx| legacy_token_cleaner::run(cx).boxed(),
    },
    Registration {
        name: "local-path-provisioner-controller",
        run: |cx| local_path_provisioner::run(cx).boxed(),
    },
    Registration {
        name: "namespace-controller",
        run: |cx| namespace::run(cx).boxed(),
    },
    Registration {
        name: "node-lifecycle-controller",
        run: |cx| node_lifecycle::run(cx).boxed(),
    },
    Registration {
        name: "persistentvolume-binder-controller",
        run: |cx| persistent_volume::run(cx).boxed(),
    },
    Registration {
        name: "persistentvolume-protection-controller",
        run: |cx| pv_protection::run(cx).boxed(),
    },
    Registration {
        name: "persistentvolumeclaim-protection-controller",
        run: |cx| pvc_protection::run(cx).boxed(),
    },
    Registration {
        name: "pod-garbage-collector-controller",
        run: |cx| pod_garbage_collector::run(cx).boxed(),
    },
    Registration {
        name: "replicaset-controller",
        run: |cx| replicaset::run(cx).boxed(),
    },
    Registration {
        name: "replicationcontroller-controller",
        run: |cx| replication_controller::run(cx).boxed(),
    },
    Registration {
        name: "resourcequota-controller",
        run: |cx| resource_quota::run(cx).boxed(),
    },
    Registration {
        name: "root-ca-certificate-publisher-controller",
        run: |cx| root_ca::run(cx).boxed(),
    },
    Registration {
        name: "serviceaccount-controller",
        run: |cx| service_account::run(cx).boxed(),
    },
    Registration {
        name: "statefulset-controller",
        run: |cx| stateful_set::run(cx).boxed(),
    },
    Registration {
        name: "taint-eviction-controller",
        run: |cx| taint_eviction::run(cx).boxed(),
    },
    Registration {
        name: "serviceaccount-token-controller",
        run: |cx| service_account_token::run(cx).boxed(),
    },
    Registration {
        name: "token-cleaner-controller",
        run: |cx| token_cleaner::run(cx).boxed(),
    },
    Registration {
        name: "ttl-after-finished-controller",
        run: |cx| ttl_after_finished::run(cx).boxed(),
    },
];

/// Runs the controllers that `wanted` says yes to, until the context's shutdown.
pub async fn run(cx: Context, wanted: impl Fn(&str) -> bool) {
    let mut running = tokio::task::JoinSet::new();
    for registration in CONTROLLERS.iter().filter(|r| wanted(r.name)) {
        running.spawn((registration.run)(cx.clone()));
    }
    while running.join_next().await.is_some() {}
}
