//! DefaultBinder: binds a pod by the API's `binding` subresource.

use futures::future::BoxFuture;

use crate::framework::{Binding, Plugin, Point};

pub struct DefaultBinder;

impl Plugin for DefaultBinder {
    fn name(&self) -> &'static str {
        "DefaultBinder"
    }

    fn points(&self) -> &'static [Point] {
        &[Point::Bind]
    }

    fn bind<'a>(&'a self, binding: &'a Binding<'a>) -> Option<BoxFuture<'a, Result<(), coracle_client::Error>>> {
        let pods = binding
            .client
            .namespaced::<k8s_openapi::api::core::v1::Pod>(binding.pod.namespace());
        Some(Box::pin(async move {
            let uid = binding.pod.pod.metadata.uid.as_deref();
            pods.bind(binding.pod.name(), uid, binding.node).await
        }))
    }
}
