//! A job's pods: what they carry (finalizer, completion index, failure counts) and how a new one is made. Pure.

use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::{Container, EnvVar, EnvVarSource, ObjectFieldSelector, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::{Value, json};

use crate::owner;
use crate::template::pod_from_template;

/// Holds a pod until the job has counted it.
pub const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub const INDEX: &str = "batch.kubernetes.io/job-completion-index";
const FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
const IGNORED: &str = "batch.kubernetes.io/job-index-ignored-failure-count";
const VARIABLE: &str = "JOB_COMPLETION_INDEX";

/// A pod to be made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewPod {
    /// Of an Indexed job.
    pub index: Option<i32>,
    /// With backoffLimitPerIndex: how often the index has failed before.
    pub failures: Option<Failures>,
}

/// How often an index has failed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Failures {
    pub counted: u32,
    pub ignored: u32,
}

impl Failures {
    pub fn all(self) -> u32 {
        self.counted.saturating_add(self.ignored)
    }
}

fn annotation<'p>(pod: &'p Pod, key: &str) -> Option<&'p str> {
    pod.metadata.annotations.as_ref()?.get(key).map(String::as_str)
}

/// The pod's completion index.
pub fn index(pod: &Pod) -> Option<i32> {
    annotation(pod, INDEX)?.parse().ok().filter(|i| *i >= 0)
}

/// How often the pod's index had failed when it was made.
pub fn failures(pod: &Pod) -> Failures {
    let count = |key| annotation(pod, key).and_then(|c| c.parse().ok()).unwrap_or(0);
    Failures {
        counted: count(FAILURES),
        ignored: count(IGNORED),
    }
}

/// Whether the job still has to count the pod.
pub fn is_held(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().flatten().any(|f| f == FINALIZER)
}

/// The finalizers of a pod that was adopted (true) or released: what the job controls it holds, and nothing else.
pub fn finalizers(meta: &ObjectMeta, adopted: bool) -> Option<Vec<String>> {
    let mut all = meta.finalizers.clone().unwrap_or_default();
    let held = all.iter().any(|f| f == FINALIZER);
    match (adopted, held) {
        (true, false) => all.push(FINALIZER.to_owned()),
        (false, true) => all.retain(|f| f != FINALIZER),
        _ => return None,
    }
    Some(all)
}

/// The strategic merge patch that lets the pod go.
pub fn let_go(pod: &Pod) -> Value {
    json!({"metadata": {
        "uid": pod.metadata.uid,
        "$deleteFromPrimitiveList/finalizers": [FINALIZER],
    }})
}

/// The same for a pod that is to be deleted without being counted: only as it is known, because one that has ended
/// meanwhile counts.
pub fn give_up(pod: &Pod) -> Value {
    let mut patch = let_go(pod);
    patch["metadata"]["resourceVersion"] = json!(pod.metadata.resource_version);
    patch
}

/// The pod of a job that is to be made.
pub fn make(job: &Job, new: &NewPod) -> Pod {
    let meta = &job.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    let namespace = meta.namespace.as_deref().unwrap_or_default();
    let prefix = match new.index {
        Some(index) => format!("{name}-{index}"),
        None => name.to_owned(),
    };
    let template = job.spec.as_ref().map(|s| s.template.clone()).unwrap_or_default();
    let mut pod = pod_from_template(&template, namespace, &prefix, owner::controller_reference(job));
    pod.metadata
        .finalizers
        .get_or_insert_default()
        .push(FINALIZER.to_owned());
    if let Some(failures) = new.failures {
        let annotations = pod.metadata.annotations.get_or_insert_default();
        annotations.insert(FAILURES.to_owned(), failures.counted.to_string());
        if failures.ignored > 0 {
            annotations.insert(IGNORED.to_owned(), failures.ignored.to_string());
        }
    }
    if let Some(index) = new.index {
        let index = index.to_string();
        pod.metadata
            .annotations
            .get_or_insert_default()
            .insert(INDEX.to_owned(), index.clone());
        pod.metadata
            .labels
            .get_or_insert_default()
            .insert(INDEX.to_owned(), index.clone());
        if let Some(spec) = pod.spec.as_mut() {
            spec.hostname = Some(prefix);
            let containers = spec.containers.iter_mut();
            containers
                .chain(spec.init_containers.iter_mut().flatten())
                .for_each(tell_index);
        }
    }
    pod
}

/// Gives a container the variable that carries the index, unless it sets it itself.
fn tell_index(container: &mut Container) {
    let variables = container.env.get_or_insert_default();
    if variables.iter().any(|v| v.name == VARIABLE) {
        return;
    }
    variables.push(EnvVar {
        name: VARIABLE.to_owned(),
        value: None,
        value_from: Some(EnvVarSource {
            field_ref: Some(ObjectFieldSelector {
                api_version: Some("v1".into()),
                field_path: format!("metadata.labels['{INDEX}']"),
            }),
            ..EnvVarSource::default()
        }),
    });
}
