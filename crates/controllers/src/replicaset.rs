//! ReplicaSet: keeps N pods of a template. Watches ReplicaSets, and Pods by owner. Writes Pods and the set's status.

pub mod plan;

use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use coracle_client::event::EventType;
use coracle_client::{DeleteOptions, Error, ObjectKey, Patch};
use coracle_informer::{Action, Controller, Informer};
use futures::future::join_all;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;

use crate::Context;
use crate::expectations::Expectations;
use crate::owner::{adopt_patch, claim, controller_of, controller_reference, release_patch};
use crate::template::pod_from_template;
use plan::{Plan, note_failure, plan};

const NAME: &str = "replicaset-controller";
const WORKERS: usize = 5;

struct ReplicaSets {
    cx: Context,
    sets: Informer<ReplicaSet>,
    pods: Informer<Pod>,
    expectations: Expectations,
}

pub fn start(cx: &Context) {
    let cx = cx.named(NAME);
    let sets = cx.informers.get::<ReplicaSet>();
    let pods = cx.informers.get::<Pod>();
    let expectations = Expectations::new(cx.clock);
    let this = Arc::new(ReplicaSets { sets: sets.clone(), pods: pods.clone(), expectations, cx: cx.clone() });
    let observer = this.clone();
    Controller::new(NAME, WORKERS, cx.clock)
        .watches(&sets, |change| vec![ObjectKey::of(change.object())])
        .watches(&pods, move |change| observer.keys_of(change))
        .start(move |key| { let this = this.clone(); async move { this.reconcile(key).await } }, cx.shutdown.clone());
}
