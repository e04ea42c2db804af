//! `scale`: an object's replica count as an `autoscaling/v1` Scale, for any kind whose row says where the count is.

use coracle_api::field::{FieldError, FieldErrorKind};
use coracle_api::object::Object;
use coracle_api::resource::{Resource, ScalePaths};
use coracle_api::selector::LabelSelector;
use coracle_api::service::{Operation, PatchKind, WriteOptions};
use coracle_api::status::Status;
use serde_json::{Value, json};

use crate::registry::read::load;
use crate::registry::update::{Commit, Tracking, revise};
use crate::registry::{Call, Output, body, codec};

const TRIES: usize = 5;

/// See the module.
pub(super) async fn serve(call: &mut Call<'_>, paths: &ScalePaths, operation: Operation) -> Result<Output, Status> {
    match operation {
        Operation::Get { .. } => {
            let current = current(call).await?;
            Output::made(scale_of(&call.row, paths, &current.object), false)
        }
        Operation::Update { object, options } => change(call, paths, &Change::Put(object), &options).await,
        Operation::Patch { kind, patch, options } => {
            if kind == PatchKind::Apply && options.field_manager.is_empty() {
                return Err(Status::bad_request("fieldManager is required for apply patch"));
            }
            change(call, paths, &Change::Patch(kind, patch), &options).await
        }
        _ => Err(crate::registry::method_not_allowed()),
    }
}

enum Change {
    Put(Object),
    Patch(PatchKind, Value),
}

async fn current(call: &Call<'_>) -> Result<crate::registry::read::Current, Status> {
    let name = &call.target.name;
    load(call.core, &call.row, &call.key(name))
        .await?
        .ok_or_else(|| Status::not_found(call.of(), name))
}

async fn change(
    call: &mut Call<'_>,
    paths: &ScalePaths,
    change: &Change,
    options: &WriteOptions,
) -> Result<Output, Status> {
    let key = call.key(&call.target.name);
    let mut tries = 1;
    loop {
        let mut current = current(call).await?;
        let shown = scale_of(&call.row, paths, &current.object);
        let mut wanted = match change {
            Change::Put(object) => object.clone(),
            Change::Patch(kind, patch) => {
                // A scale has no lists that merge by key: strategic and apply patches are merge patches here.
                let kind = if *kind == PatchKind::Json {
                    PatchKind::Json
                } else {
                    PatchKind::Merge
                };
                codec::patched(&call.row, kind, &shown, patch)?
            }
        };
        body::check_kind_as(&mut wanted, "autoscaling/v1", "Scale")?;
        body::check_place(call, &mut wanted)?;
        let replicas = replicas(call, &wanted)?;
        let mut new = current.object.clone();
        new.set(&steps(&paths.spec_replicas), replicas);
        let asked = wanted.resource_version().to_owned();
        let conditional = !asked.is_empty() && asked != current.object.resource_version();
        if conditional || !asked.is_empty() {
            new.set(&["metadata", "resourceVersion"], asked);
        }
        if !wanted.uid().is_empty() {
            new.set(&["metadata", "uid"], wanted.uid());
        }
        let explicit = matches!(change, Change::Put(o) if !o.resource_version().is_empty());
        match revise(call, &key, &mut current, new, options, Tracking::Update).await? {
            Commit::Done(object) => return Output::made(scale_of(&call.row, paths, &object.to_object()), false),
            Commit::Conflict if !explicit && tries < TRIES => tries += 1,
            Commit::Conflict => return Err(Status::modified(call.of(), &call.target.name)),
        }
    }
}

fn replicas(call: &Call<'_>, scale: &Object) -> Result<i64, Status> {
    let invalid = |kind, value: String, detail: &str| {
        let error = FieldError {
            kind,
            path: "spec.replicas".into(),
            value,
            detail: detail.into(),
        };
        Err(Status::invalid("autoscaling", "Scale", &call.target.name, &[error]))
    };
    match scale.get(&["spec", "replicas"]) {
        None => Ok(0),
        Some(value) => match value.as_i64() {
            Some(n) if (0..=i64::from(i32::MAX)).contains(&n) => Ok(n),
            Some(n) => invalid(
                FieldErrorKind::Invalid,
                n.to_string(),
                "must be greater than or equal to 0",
            ),
            None => invalid(FieldErrorKind::Invalid, value.to_string(), "must be an integer"),
        },
    }
}

/// `.spec.replicas` as steps.
fn steps(path: &str) -> Vec<&str> {
    path.split('.').filter(|s| !s.is_empty()).collect()
}

fn scale_of(row: &Resource, paths: &ScalePaths, object: &Object) -> Object {
    let meta = |field: &str| object.get(&["metadata", field]).cloned();
    let mut metadata = serde_json::Map::new();
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if let Some(value) = meta(field) {
            metadata.insert(field.into(), value);
        }
    }
    let mut spec = serde_json::Map::new();
    if let Some(replicas) = object.i64(&steps(&paths.spec_replicas)).filter(|r| *r != 0) {
        spec.insert("replicas".into(), replicas.into());
    }
    let mut status = json!({"replicas": object.i64(&steps(&paths.status_replicas)).unwrap_or(0)});
    if let Some(path) = &paths.label_selector
        && let Some(selector) = object.get(&steps(path))
    {
        let text = match selector {
            Value::String(text) => text.clone(),
            map if map.get("matchLabels").is_some()
                || map.get("matchExpressions").is_some()
                || !row.group.is_empty() =>
            {
                LabelSelector::from_json(map).map(|s| s.to_string()).unwrap_or_default()
            }
            map => plain_selector(map),
        };
        if let Value::Object(status) = &mut status
            && !text.is_empty()
        {
            status.insert("selector".into(), text.into());
        }
    }
    let mut scale = Object::default();
    scale.set(&["apiVersion"], "autoscaling/v1");
    scale.set(&["kind"], "Scale");
    scale.set(&["metadata"], metadata);
    scale.set(&["spec"], spec);
    scale.set(&["status"], status);
    scale
}

/// A replication controller's selector is a map of labels.
fn plain_selector(map: &Value) -> String {
    let Some(map) = map.as_object() else {
        return String::new();
    };
    let terms: Vec<String> = map
        .iter()
        .map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or_default()))
        .collect();
    terms.join(",")
}
