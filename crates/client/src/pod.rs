//! What can be done with pods alone: bind, evict, read logs. It only shapes requests.

use std::fmt::Write;

use bytes::Bytes;
use futures::stream::BoxStream;
use k8s_openapi::api::core::v1::{Binding, ObjectReference, Pod};
use k8s_openapi::api::policy::v1::Eviction;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Preconditions};

use crate::{Api, DeleteOptions, Error, Propagation};

/// Which part of a container's log.
#[derive(Clone, Debug, Default)]
pub struct LogOptions {
    /// Empty: the pod's only container.
    pub container: String,
    /// Go on as more is written.
    pub follow: bool,
    /// The log of the container's previous instance.
    pub previous: bool,
    pub since_seconds: Option<u64>,
    pub timestamps: bool,
    pub tail_lines: Option<u64>,
    pub limit_bytes: Option<u64>,
}

impl Api<Pod> {
    /// Puts the pod (with this uid, if one is given) on a node.
    pub async fn bind(&self, name: &str, uid: Option<&str>, node: &str) -> Result<(), Error> {
        let binding = Binding {
            metadata: self.meta_of(name, uid),
            target: ObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Node".into()),
                name: Some(node.to_owned()),
                ..ObjectReference::default()
            },
        };
        let bindings: Api<Binding> = self.subresource("binding");
        bindings.create_at(name, &binding).await.map(drop)
    }

    /// Deletes the pod if disruption budgets allow it now; if not, the error
    /// [is "too many requests"](Error::is_too_many_requests).
    pub async fn evict(&self, name: &str, options: &DeleteOptions) -> Result<(), Error> {
        let eviction = Eviction {
            metadata: self.meta_of(name, None),
            delete_options: Some(meta_delete_options(options)),
        };
        let evictions: Api<Eviction> = self.subresource("eviction");
        evictions.create_at(name, &eviction).await.map(drop)
    }

    /// A container's log as it comes. Needs a client over HTTP.
    pub async fn logs(
        &self,
        name: &str,
        options: &LogOptions,
    ) -> Result<BoxStream<'static, Result<Bytes, Error>>, Error> {
        let mut path = format!("/api/v1/namespaces/{}/pods/{name}/log?", self.namespace());
        if !options.container.is_empty() {
            let _ = write!(path, "container={}&", options.container);
        }
        for (set, field) in [
            (options.follow, "follow"),
            (options.previous, "previous"),
            (options.timestamps, "timestamps"),
        ] {
            if set {
                let _ = write!(path, "{field}=true&");
            }
        }
        for (value, field) in [
            (options.since_seconds, "sinceSeconds"),
            (options.tail_lines, "tailLines"),
            (options.limit_bytes, "limitBytes"),
        ] {
            if let Some(value) = value {
                let _ = write!(path, "{field}={value}&");
            }
        }
        path.pop();
        self.client.stream(&path).await
    }

    fn meta_of(&self, name: &str, uid: Option<&str>) -> ObjectMeta {
        ObjectMeta {
            namespace: (!self.namespace().is_empty()).then(|| self.namespace().to_owned()),
            name: Some(name.to_owned()),
            uid: uid.map(str::to_owned),
            ..ObjectMeta::default()
        }
    }
}

/// The options as meta/v1 spells them.
pub(crate) fn meta_delete_options(
    options: &DeleteOptions,
) -> k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions {
    let preconditions = (options.uid.is_some() || options.resource_version.is_some()).then(|| Preconditions {
        uid: options.uid.clone(),
        resource_version: options.resource_version.clone(),
    });
    k8s_openapi::apimachinery::pkg::apis::meta::v1::DeleteOptions {
        grace_period_seconds: options.grace_period_seconds,
        preconditions,
        propagation_policy: options.propagation.map(|p| {
            match p {
                Propagation::Orphan => "Orphan",
                Propagation::Background => "Background",
                Propagation::Foreground => "Foreground",
            }
            .to_owned()
        }),
        dry_run: options.dry_run.then(|| vec!["All".to_owned()]),
        ..Default::default()
    }
}
