//! What is in a cluster before anybody makes anything: the system's namespaces, roles and their bindings, priority
//! classes, the objects of flow control, and the `kubernetes` service with its endpoints. Made by the same road as everything else, so that it is
//! validated and defaulted like everything else.

pub(crate) mod flow_control;
mod reconcile;
mod service;

use std::sync::Arc;

use coracle_api::kinds::flow_control::{AUTOUPDATE, objects as flow_control_objects};
use coracle_api::object::Object;
use coracle_api::resource::split_api_version;
use coracle_api::service::{Operation, Request, Target, UserInfo, WriteOptions};
use coracle_api::status::Status;
use futures::future::try_join_all;
use serde_json::{Value, json};

use std::net::SocketAddr;

use crate::authz::{SUPERUSERS, policy};
use crate::core::Core;

const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// The server itself, as a user.
pub(crate) fn own_identity() -> UserInfo {
    UserInfo {
        name: "system:apiserver".into(),
        groups: vec![SUPERUSERS.into(), crate::authn::AUTHENTICATED.into()],
        ..UserInfo::default()
    }
}

/// Makes what is missing. Concurrent creations share their syncs to the disk.
pub(crate) async fn run(core: &Arc<Core>, advertised: SocketAddr, ca: &str) -> Result<(), Status> {
    let namespaces =
        NAMESPACES.map(|name| json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}));
    try_join_all(namespaces.map(|n| ensure(core, n))).await?;
    let mut objects = policy::objects();
    objects.extend(priority_classes());
    objects.extend(flow_control_objects().iter().cloned());
    objects.push(extension_authentication(ca));
    objects.push(standard_class());
    objects.push(token_tracking(core));
    objects.push(json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "ServiceCIDR",
        "metadata": {"name": "kubernetes"},
        "spec": {"cidrs": [core.network.service_cidr.to_string()]},
    }));
    let all = try_join_all(objects.into_iter().map(|o| ensure(core, o)));
    let service = service::ensure(core, advertised);
    tokio::try_join!(all, service)?;
    Ok(())
}

/// The row of an object's kind, and the object.
fn request(core: &Arc<Core>, object: Object, update: bool) -> Option<Request> {
    let table = core.registry.table();
    let (group, version) = split_api_version(object.api_version());
    let row = table.by_kind(group, version, object.kind())?;
    let target = Target {
        group: row.group.to_string(),
        version: row.version.to_string(),
        resource: row.plural.to_string(),
        namespace: object.namespace().to_owned(),
        name: if update {
            object.name().to_owned()
        } else {
            String::new()
        },
        subresource: String::new(),
    };
    let options = WriteOptions {
        field_manager: "kube-apiserver".into(),
        ..WriteOptions::default()
    };
    let operation = if update {
        Operation::Update { object, options }
    } else {
        Operation::Create { object, options }
    };
    Some(Request { target, operation })
}

/// Creates an object unless it exists; an existing role gets the rules that it lacks. Whether anything was written.
pub(super) async fn ensure(core: &Arc<Core>, object: Value) -> Result<bool, Status> {
    let Some(object) = Object::from_value(object) else {
        return Ok(false);
    };
    let Some(create) = request(core, object.clone(), false) else {
        tracing::debug!(kind = object.kind(), "a system object's kind is not served");
        return Ok(false);
    };
    let user = own_identity();
    let written = match core.serve(&user, create).await {
        Ok(_) => Ok(true),
        Err(status) if status.is_already_exists() => complete(core, &user, object.clone()).await,
        Err(status) => Err(status),
    };
    written.inspect_err(|status| {
        tracing::error!(kind = object.kind(), name = object.name(), error = %status, "a system object was refused");
    })
}

/// Gives an existing role or binding what it lacks, and an object of flow control its spec, unless its owner said not to.
/// What a role has beyond that stays. Whether anything was written.
async fn complete(core: &Arc<Core>, user: &UserInfo, wanted: Object) -> Result<bool, Status> {
    let is_kept = |object: &Object| object.annotation(AUTOUPDATE) == Some("true");
    if wanted.annotation(policy::AUTOUPDATE).is_none() && !is_kept(&wanted) {
        return Ok(false);
    }
    let table = core.registry.table();
    let Some(row) = table.by_api_version(wanted.api_version(), wanted.kind()) else {
        return Ok(false);
    };
    let key = row.key(wanted.namespace(), wanted.name());
    let Some(current) = crate::registry::read::load(core, row, &key).await? else {
        return Ok(false);
    };
    let mut found = current.object;
    if is_kept(&wanted) {
        let spec = wanted.get(&["spec"]).cloned().unwrap_or_default();
        if !is_kept(&found) || found.get(&["spec"]) == Some(&spec) {
            return Ok(false);
        }
        found.set(&["spec"], spec);
        return match request(core, found, true) {
            Some(update) => core.serve(user, update).await.map(|_| true),
            None => Ok(false),
        };
    }
    if found.annotation(policy::AUTOUPDATE) == Some("false") {
        return Ok(false);
    }
    if wanted.get(&["roleRef"]).is_some() && wanted.get(&["roleRef"]) != found.get(&["roleRef"]) {
        // What a binding refers to cannot change: it is made again.
        if let Some(delete) = removal(core, &found) {
            core.serve(user, delete).await?;
        }
        return match request(core, wanted, false) {
            Some(create) => core.serve(user, create).await.map(|_| true),
            None => Ok(false),
        };
    }
    let completed = reconcile::completed(&found, &wanted);
    if completed == found {
        return Ok(false);
    }
    match request(core, completed, true) {
        Some(update) => core.serve(user, update).await.map(|_| true),
        None => Ok(false),
    }
}

fn removal(core: &Arc<Core>, object: &Object) -> Option<Request> {
    let mut request = request(core, object.clone(), true)?;
    request.operation = Operation::Delete(coracle_api::service::DeleteOptions::default());
    Some(request)
}

fn priority_classes() -> Vec<Value> {
    [
        ("system-cluster-critical", 2_000_000_000, "Used for system critical pods that must run in the cluster, but can be moved to another node if necessary."),
        ("system-node-critical", 2_000_001_000, "Used for system critical pods that must not be moved from their current node."),
    ]
    .into_iter()
    .map(|(name, value, description)| {
        json!({
            "apiVersion": "scheduling.k8s.io/v1",
            "kind": "PriorityClass",
            "metadata": {"name": name},
            "value": value,
            "globalDefault": false,
            "description": description,
        })
    })
    .collect()
}

/// Claims that name no class get a directory of the node that their first pod goes to.
fn standard_class() -> Value {
    json!({
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": "standard",
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": "coracle.dev/local",
        "reclaimPolicy": "Delete",
        "allowVolumeExpansion": true,
        "volumeBindingMode": "WaitForFirstConsumer",
    })
}

/// Since when the use of tokens in Secrets is written down.
fn token_tracking(core: &Core) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "kube-apiserver-legacy-service-account-token-tracking", "namespace": "kube-system"},
        "data": {"since": crate::authn::legacy::day(core.clock.now())},
    })
}

/// What extension servers need to know whom to trust.
fn extension_authentication(ca: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": "extension-apiserver-authentication", "namespace": "kube-system"},
        "data": {
            "client-ca-file": ca,
            "requestheader-client-ca-file": ca,
            "requestheader-allowed-names": "[\"front-proxy-client\"]",
            "requestheader-extra-headers-prefix": "[\"X-Remote-Extra-\"]",
            "requestheader-group-headers": "[\"X-Remote-Group\"]",
            "requestheader-username-headers": "[\"X-Remote-User\"]",
        },
    })
}
