//! Where a stream goes: which host and port, and the path there.

use std::sync::Arc;

use coracle_api::field::{FieldError, FieldErrorKind};
use coracle_api::object::Object;
use coracle_api::status::{Of, Status};
use http::Method;
use serde_json::Value;

use crate::cache::Selection;
use crate::core::Core;
use crate::dial::{Destination, Security};
use crate::http::Inbound;
use crate::http::query::Query;
use crate::registry::read;

/// The annotation by which a node that no authority has given a certificate names the one it made itself. Only the node
/// may write it.
const SERVING_CERTIFICATE: &str = "node.coracle.io/serving-certificate";

/// Finds the destination of a request.
pub(super) async fn find(core: &Arc<Core>, inbound: &Inbound) -> Result<Destination, Status> {
    let target = &inbound.info.target;
    let method = &inbound.method;
    match (target.resource.as_str(), target.subresource.as_str()) {
        ("pods", "log") if *method == Method::GET => log(core, inbound).await,
        ("pods", "exec") => run(core, inbound, "exec").await,
        ("pods", "attach") => run(core, inbound, "attach").await,
        ("pods", "portforward") => port_forward(core, inbound).await,
        ("pods", "proxy") => pod_proxy(core, inbound).await,
        ("services", "proxy") => service_proxy(core, inbound).await,
        ("nodes", "proxy") => node_proxy(core, inbound).await,
        _ => Err(crate::registry::method_not_allowed()),
    }
}

async fn object(core: &Arc<Core>, plural: &str, namespace: &str, name: &str) -> Result<Object, Status> {
    let table = core.registry.table();
    let row = table.get("", "v1", plural).ok_or_else(Status::no_such_resource)?;
    let found = read::load(core, row, &row.key(namespace, name)).await?;
    Ok(found
        .ok_or_else(|| Status::not_found(Of { group: "", plural }, name))?
        .object)
}

async fn pod(core: &Arc<Core>, inbound: &Inbound) -> Result<Object, Status> {
    object(core, "pods", &inbound.info.target.namespace, &inbound.info.target.name).await
}

/// Where a node's resource metrics are if not at the usual path: nodes that share one agent say so, and metrics-server
/// looks there too.
const METRICS_PATH: &str = "metrics.k8s.io/resource-metrics-path";

/// The agent of a node.
pub(super) async fn agent(core: &Arc<Core>, node: &str, path: String) -> Result<Destination, Status> {
    agent_of(&object(core, "nodes", "", node).await?, path)
}

/// The resource metrics of a node.
pub(super) async fn metrics(core: &Arc<Core>, node: &str) -> Result<Destination, Status> {
    let node = object(core, "nodes", "", node).await?;
    let path = node.annotation(METRICS_PATH).filter(|path| path.starts_with('/'));
    agent_of(&node, path.unwrap_or("/metrics/resource").to_owned())
}

fn agent_of(object: &Object, path: String) -> Result<Destination, Status> {
    let node = object.name();
    // By the address that works most often first, as upstream's preference has it for InternalIP clusters.
    let addresses = object.array(&["status", "addresses"]);
    let of_type = |wanted: &str| {
        let found = addresses
            .iter()
            .find(|a| a.get("type").and_then(Value::as_str) == Some(wanted))?;
        found.get("address")?.as_str().map(str::to_owned)
    };
    let host = ["InternalIP", "Hostname", "InternalDNS", "ExternalDNS", "ExternalIP"]
        .into_iter()
        .find_map(of_type);
    let host = host.ok_or_else(|| Status::internal(format!("node {node:?} has no address yet")))?;
    let port = object
        .i64(&["status", "daemonEndpoints", "kubeletEndpoint", "Port"])
        .unwrap_or(10250);
    let port = u16::try_from(port).map_err(|_| Status::internal(format!("node {node:?} has no agent port")))?;
    Ok(Destination {
        host,
        port,
        security: Security::Agent,
        path,
        fingerprint: object.annotation(SERVING_CERTIFICATE).map(str::to_owned),
    })
}

/// The node that a pod is on.
fn node_of(pod: &Object) -> Result<&str, Status> {
    let node = pod.str(&["spec", "nodeName"]).filter(|n| !n.is_empty());
    node.ok_or_else(|| Status::bad_request(format!("pod {} does not have a host assigned", pod.name())))
}

/// The container that is meant: the one asked for, or the only one, or the one that is marked.
fn container<'a>(pod: &'a Object, asked: Option<&'a str>) -> Result<&'a str, Status> {
    let names = |list: &str| -> Vec<&'a str> {
        let all = pod.array(&["spec", list]).iter();
        all.filter_map(|c| c.get("name").and_then(Value::as_str)).collect()
    };
    let containers = names("containers");
    let others: Vec<&str> = names("initContainers")
        .into_iter()
        .chain(names("ephemeralContainers"))
        .collect();
    match asked.filter(|a| !a.is_empty()) {
        Some(asked) if containers.contains(&asked) || others.contains(&asked) => Ok(asked),
        Some(asked) => Err(Status::bad_request(format!(
            "container {asked} is not valid for pod {}",
            pod.name()
        ))),
        None => match containers.as_slice() {
            [one] => Ok(one),
            [] => Err(Status::bad_request(format!("pod {} has no containers", pod.name()))),
            many => {
                let marked = pod.annotation("kubectl.kubernetes.io/default-container");
                if let Some(marked) = marked.filter(|m| many.contains(m)) {
                    return Ok(marked);
                }
                let mut text = format!(
                    "a container name must be specified for pod {}, choose one of: [{}]",
                    pod.name(),
                    many.join(" ")
                );
                if !others.is_empty() {
                    text.push_str(&format!(" or one of the init containers: [{}]", others.join(" ")));
                }
                Err(Status::bad_request(text))
            }
        },
    }
}

/// The parameters with these names, as a query.
fn query(inbound: &Inbound, names: &[&str]) -> String {
    let mut out = form_urlencoded::Serializer::new(String::new());
    for name in names {
        for value in inbound.query.all(name) {
            out.append_pair(name, value);
        }
    }
    out.finish()
}

fn with_query(path: String, query: &str) -> String {
    if query.is_empty() {
        path
    } else {
        format!("{path}?{query}")
    }
}

/// What a request for a pod's log may ask for.
fn check_log_options(query: &Query, pod: &str) -> Result<(), Status> {
    let mut faults = Vec::new();
    for (name, least, detail) in [
        ("tailLines", 0, "must be greater than or equal to 0"),
        ("limitBytes", 1, "must be greater than 0"),
        ("sinceSeconds", 1, "must be greater than 0"),
    ] {
        let asked = query.number(name)?;
        if let Some(n) = asked.filter(|n| *n < least) {
            faults.push(FieldError {
                kind: FieldErrorKind::Invalid,
                path: name.into(),
                value: n.to_string(),
                detail: detail.into(),
            });
        }
    }
    if query.get("sinceTime").is_some() && query.get("sinceSeconds").is_some() {
        faults.retain(|f| f.path != "sinceSeconds");
        faults.push(FieldError {
            kind: FieldErrorKind::Forbidden,
            path: String::new(),
            value: String::new(),
            detail: "at most one of `sinceTime` or `sinceSeconds` may be specified".into(),
        });
    }
    if faults.is_empty() {
        return Ok(());
    }
    Err(Status::invalid("", "PodLogOptions", pod, &faults))
}

async fn log(core: &Arc<Core>, inbound: &Inbound) -> Result<Destination, Status> {
    let pod = pod(core, inbound).await?;
    let container = container(&pod, inbound.query.get("container"))?;
    check_log_options(&inbound.query, &inbound.info.target.name)?;
    let Ok(node) = node_of(&pod) else {
        // A pod without a node has no log yet, which is not an error upstream either way but says why.
        return Err(Status::bad_request(format!(
            "container {container:?} in pod {:?} is waiting to start: the pod has no node yet",
            pod.name()
        )));
    };
    let path = format!("/containerLogs/{}/{}/{container}", pod.namespace(), pod.name());
    let names = [
        "follow",
        "previous",
        "tailLines",
        "sinceSeconds",
        "sinceTime",
        "timestamps",
        "limitBytes",
        "stream",
    ];
    agent(core, node, with_query(path, &query(inbound, &names))).await
}

/// exec and attach.
async fn run(core: &Arc<Core>, inbound: &Inbound, verb: &str) -> Result<Destination, Status> {
    let pod = pod(core, inbound).await?;
    let container = container(&pod, inbound.query.get("container"))?;
    if matches!(pod.str(&["status", "phase"]), Some("Succeeded" | "Failed")) {
        let phase = pod.str(&["status", "phase"]).unwrap_or_default();
        return Err(Status::bad_request(format!(
            "cannot {verb} {} a container in a completed pod; current phase is {phase}",
            if verb == "exec" { "into" } else { "to" }
        )));
    }
    let path = format!("/{verb}/{}/{}/{container}", pod.namespace(), pod.name());
    agent(core, node_of(&pod)?, with_query(path, &run_query(inbound))).await
}

/// The parameters of exec and attach by the agent's names.
fn run_query(inbound: &Inbound) -> String {
    let mut out = form_urlencoded::Serializer::new(String::new());
    for (theirs, ours) in [
        ("input", "stdin"),
        ("output", "stdout"),
        ("error", "stderr"),
        ("tty", "tty"),
    ] {
        if inbound.query.flag(ours) {
            out.append_pair(theirs, "1");
        }
    }
    for word in inbound.query.all("command") {
        out.append_pair("command", word);
    }
    out.finish()
}

async fn port_forward(core: &Arc<Core>, inbound: &Inbound) -> Result<Destination, Status> {
    let pod = pod(core, inbound).await?;
    let path = format!("/portForward/{}/{}", pod.namespace(), pod.name());
    let ports = query(inbound, &["ports"]).replace("ports=", "port=");
    agent(core, node_of(&pod)?, with_query(path, &ports)).await
}

async fn node_proxy(core: &Arc<Core>, inbound: &Inbound) -> Result<Destination, Status> {
    let (_, name, port) = split(&inbound.info.target.name);
    let mut to = agent(core, &name, rest(inbound)).await?;
    if let Some(port) = port {
        to.port = port
            .parse()
            .map_err(|_| Status::bad_request(format!("invalid port {port:?} in node request")))?;
    }
    Ok(to)
}

/// What comes behind `/proxy`, with the query.
fn rest(inbound: &Inbound) -> String {
    // As the client encoded it: a path that was decoded would be another one.
    let path = inbound.request.uri().path();
    let behind = path.split_once("/proxy").map_or("", |(_, rest)| rest);
    let path = if behind.is_empty() {
        "/".to_owned()
    } else {
        behind.to_owned()
    };
    with_query(path, inbound.request.uri().query().unwrap_or_default())
}

/// `https:name:port` in its parts.
fn split(name: &str) -> (String, String, Option<String>) {
    let parts: Vec<&str> = name.split(':').collect();
    let port = |p: &str| Some(p.to_owned()).filter(|p| !p.is_empty());
    match parts.as_slice() {
        [scheme @ ("http" | "https" | ""), name, p] => ((*scheme).to_owned(), (*name).to_owned(), port(p)),
        [name, p] => (String::new(), (*name).to_owned(), port(p)),
        _ => (String::new(), name.to_owned(), None),
    }
}

fn security(scheme: &str) -> Security {
    if scheme == "https" {
        Security::Unverified
    } else {
        Security::Plain
    }
}

async fn pod_proxy(core: &Arc<Core>, inbound: &Inbound) -> Result<Destination, Status> {
    let (scheme, name, port) = split(&inbound.info.target.name);
    let pod = object(core, "pods", &inbound.info.target.namespace, &name).await?;
    let host = pod.str(&["status", "podIP"]).filter(|ip| !ip.is_empty());
    let host = host
        .ok_or_else(|| Status::bad_request("address not allowed: the pod has no address yet"))?
        .to_owned();
    let port = match port {
        Some(port) => container_port(&pod, &port)?,
        None => {
            let ports = pod
                .array(&["spec", "containers"])
                .iter()
                .filter_map(|c| c.get("ports")?.as_array());
            let first = ports
                .flatten()
                .find_map(|p| u16::try_from(p.get("containerPort")?.as_i64()?).ok());
            first.unwrap_or(80)
        }
    };
    Ok(Destination {
        host,
        port,
        security: security(&scheme),
        path: rest(inbound),
        fingerprint: None,
    })
}

/// A port by number, or by the name that a container gives it.
fn container_port(pod: &Object, port: &str) -> Result<u16, Status> {
    if let Ok(number) = port.parse() {
        return Ok(number);
    }
    let ports = pod
        .array(&["spec", "containers"])
        .iter()
        .filter_map(|c| c.get("ports")?.as_array())
        .flatten();
    ports
        .filter(|p| p.get("name").and_then(Value::as_str) == Some(port))
        .find_map(|p| u16::try_from(p.get("containerPort")?.as_i64()?).ok())
        .ok_or_else(|| Status::bad_request(format!("pod {} has no port named {port:?}", pod.name())))
}

/// One of the service's ready endpoints.
async fn service_proxy(core: &Arc<Core>, inbound: &Inbound) -> Result<Destination, Status> {
    let namespace = &inbound.info.target.namespace;
    let (scheme, name, asked) = split(&inbound.info.target.name);
    let service = object(core, "services", namespace, &name).await?;
    let ports = service.array(&["spec", "ports"]);
    let text = |p: &Value, f: &str| p.get(f).and_then(Value::as_str).unwrap_or_default().to_owned();
    let chosen = match &asked {
        None if ports.len() == 1 => ports.first(),
        None => None,
        Some(asked) => ports.iter().find(|p| {
            text(p, "name") == *asked
                || p.get("port")
                    .and_then(Value::as_i64)
                    .is_some_and(|n| n.to_string() == *asked)
        }),
    };
    let unavailable = || {
        let shown = asked.as_deref().map_or(String::new(), |p| format!(":{p}"));
        Status::unavailable(format!("no endpoints available for service \"{name}{shown}\""))
    };
    let port_name = text(chosen.ok_or_else(unavailable)?, "name");
    let table = core.registry.table();
    let row = table
        .get("discovery.k8s.io", "v1", "endpointslices")
        .ok_or_else(unavailable)?;
    let shard = core.cache.shard(row).await?;
    let label = format!("kubernetes.io/service-name={name}");
    let selection = Selection::parse(row, &shard, namespace, &label, "")?;
    let slices = shard.snapshot(&selection, None, 0, 0).ok_or_else(unavailable)?;
    let mut found: Vec<(String, u16)> = Vec::new();
    for slice in slices.items.iter().map(|i| i.object.to_object()) {
        let ports = slice.array(&["ports"]).iter().filter(|p| text(p, "name") == port_name);
        let numbers: Vec<u16> = ports
            .filter_map(|p| u16::try_from(p.get("port")?.as_i64()?).ok())
            .collect();
        for endpoint in slice.array(&["endpoints"]) {
            let ready = endpoint
                .pointer("/conditions/ready")
                .and_then(Value::as_bool)
                .unwrap_or(true);
            let address = endpoint.pointer("/addresses/0").and_then(Value::as_str);
            if let (true, Some(address), Some(port)) = (ready, address, numbers.first()) {
                found.push((address.to_owned(), *port));
            }
        }
    }
    if found.is_empty() {
        return Err(unavailable());
    }
    let (host, port) = found.swap_remove(rand::random_range(0..found.len()));
    Ok(Destination {
        host,
        port,
        security: security(&scheme),
        path: rest(inbound),
        fingerprint: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxied_name_may_carry_a_scheme_and_a_port() {
        for (name, expected) in [
            ("a", ("", "a", None)),
            ("a:80", ("", "a", Some("80"))),
            ("https:a:443", ("https", "a", Some("443"))),
            ("http:a:", ("http", "a", None)),
            (":a:web", ("", "a", Some("web"))),
        ] {
            let (scheme, host, port) = split(name);
            assert_eq!((scheme.as_str(), host.as_str(), port.as_deref()), expected, "{name}");
        }
    }

    #[test]
    fn the_container_is_the_only_one_or_the_marked_one_or_must_be_named() {
        let pod = |annotations: Value| {
            let json = serde_json::json!({
                "metadata": {"name": "p", "annotations": annotations},
                "spec": {"containers": [{"name": "a"}, {"name": "b"}]},
            });
            Object::from_value(json).unwrap()
        };
        assert_eq!(container(&pod(Value::Null), Some("b")).unwrap(), "b");
        let text = container(&pod(Value::Null), None).unwrap_err().message;
        assert!(text.contains("choose one of: [a b]"), "{text}");
        let marked = pod(serde_json::json!({"kubectl.kubernetes.io/default-container": "b"}));
        assert_eq!(container(&marked, None).unwrap(), "b");
        assert!(container(&marked, Some("c")).is_err());
    }
}
