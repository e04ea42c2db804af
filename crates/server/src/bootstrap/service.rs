//! The `kubernetes` service in `default`: the API server under a name and address that pods can use.

use std::net::SocketAddr;
use std::sync::Arc;

use coracle_api::object::Object;
use coracle_api::status::Status;
use serde_json::{Value, json};

use super::{own_identity, request};
use crate::core::Core;
use crate::registry::read;

/// Makes the service, and its endpoints for the address that the server has now.
pub(super) async fn ensure(core: &Arc<Core>, advertised: SocketAddr) -> Result<(), Status> {
    let ip = core.network.service_cidr.first_service().to_string();
    let service = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"component": "apiserver", "provider": "kubernetes"},
        },
        "spec": {
            "type": "ClusterIP",
            "clusterIP": ip,
            "clusterIPs": [ip],
            "ipFamilies": ["IPv4"],
            "ipFamilyPolicy": "SingleStack",
            "sessionAffinity": "None",
            "ports": [{"name": "https", "protocol": "TCP", "port": 443, "targetPort": advertised.port()}],
        },
    });
    // Nobody but this machine reaches a loopback address: a service must not send anyone there.
    let addresses: Vec<String> = (!advertised.ip().is_loopback())
        .then(|| advertised.ip().to_string())
        .into_iter()
        .collect();
    let ready: Vec<Value> = addresses
        .iter()
        .map(|a| json!({"addresses": [a], "conditions": {"ready": true}}))
        .collect();
    let subsets: Vec<Value> = addresses
        .iter()
        .map(|a| {
            json!({
                "addresses": [{"ip": a}],
                "ports": [{"name": "https", "port": advertised.port(), "protocol": "TCP"}],
            })
        })
        .collect();
    let slice = json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": "kubernetes"},
        },
        "addressType": if advertised.is_ipv4() { "IPv4" } else { "IPv6" },
        "endpoints": ready,
        "ports": [{"name": "https", "port": advertised.port(), "protocol": "TCP"}],
    });
    let endpoints = json!({
        "apiVersion": "v1",
        "kind": "Endpoints",
        "metadata": {
            "name": "kubernetes",
            "namespace": "default",
            "labels": {"endpointslice.kubernetes.io/skip-mirror": "true"},
        },
        "subsets": subsets,
    });
    let parts = [
        (service, vec![vec!["spec", "ports"]]),
        (slice, vec![vec!["endpoints"], vec!["ports"]]),
        (endpoints, vec![vec!["subsets"]]),
    ];
    futures::future::try_join_all(parts.into_iter().map(|(object, fields)| put(core, object, fields))).await?;
    Ok(())
}

/// Creates the object, or brings these fields of it up to date.
async fn put(core: &Arc<Core>, wanted: Value, fields: Vec<Vec<&str>>) -> Result<(), Status> {
    let Some(wanted) = Object::from_value(wanted) else {
        return Ok(());
    };
    let table = core.registry.table();
    let Some(row) = table.by_api_version(wanted.api_version(), wanted.kind()) else {
        return Ok(());
    };
    let key = row.key(wanted.namespace(), wanted.name());
    let Some(current) = read::load(core, row, &key).await? else {
        return super::ensure(core, wanted.into_value()).await.map(drop);
    };
    let mut object = current.object;
    for field in fields {
        if let Some(value) = wanted.get(&field) {
            object.set(&field, value.clone());
        }
    }
    match request(core, object, true) {
        // An update that changes nothing writes nothing.
        Some(update) => core.serve(&own_identity(), update).await.map(|_| ()),
        None => Ok(()),
    }
}
