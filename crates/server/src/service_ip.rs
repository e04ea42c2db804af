//! Cluster IPs and node ports of services. An address is held by an IPAddress object and a port by a key of its own,
//! written in the service's transaction: no two services can hold the same one, and none is lost in a crash.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Arc;

use coracle_api::field::{FieldError, FieldErrorKind};
use coracle_api::object::Object;
use coracle_api::resource::Resource;
use coracle_api::status::Status;
use coracle_store::{Compare, ListOptions, Op};
use serde_json::{Value, json};

use crate::cache::store_failed;
use crate::registry::companion::Plan;
use crate::registry::{Call, meta};

const PORTS: &str = "/registry/ranges/servicenodeports/";
/// How many random places are tried before the range is searched in order.
const GUESSES: usize = 64;

/// Completes `new` with what it asks for and has not, and plans what that takes and releases.
pub(crate) async fn plan(
    call: &Call<'_>,
    old: Option<&Object>,
    new: Option<&mut Object>,
    dry_run: bool,
    plan: &mut Plan,
) -> Result<(), Status> {
    let held = old.map(addresses).unwrap_or_default();
    let held_ports = old.map(ports).unwrap_or_default();
    let (mut wanted, mut wanted_ports) = (BTreeSet::new(), BTreeSet::new());
    let name = old
        .or(new.as_deref())
        .map(|o| (o.namespace().to_owned(), o.name().to_owned()))
        .unwrap_or_default();
    if let Some(new) = new {
        if call.target.subresource.is_empty() {
            allocate_ip(call, old, new).await?;
            allocate_ports(call, old, new).await?;
        }
        wanted = addresses(new);
        wanted_ports = ports(new);
    }
    if dry_run {
        return Ok(());
    }
    let table = call.core.registry.table();
    if let Some(row) = table.get("networking.k8s.io", "v1", "ipaddresses") {
        for ip in wanted.difference(&held) {
            let key = row.key("", &ip.to_string());
            plan.compare.push(Compare::Absent(key.clone()));
            plan.ops.push(Op::Put {
                key,
                value: ip_object(call, row, *ip, &name)?.into(),
            });
        }
        for ip in held.difference(&wanted) {
            plan.ops.push(Op::Delete {
                key: row.key("", &ip.to_string()),
            });
        }
    }
    for (protocol, port) in wanted_ports.difference(&held_ports) {
        let key = port_key(protocol, *port);
        plan.compare.push(Compare::Absent(key.clone()));
        let value = serde_json::to_vec(&json!({"namespace": name.0, "name": name.1})).unwrap_or_default();
        plan.ops.push(Op::Put {
            key,
            value: value.into(),
        });
    }
    for (protocol, port) in held_ports.difference(&wanted_ports) {
        plan.ops.push(Op::Delete {
            key: port_key(protocol, *port),
        });
    }
    Ok(())
}

fn port_key(protocol: &str, port: u16) -> String {
    format!("{PORTS}{protocol}/{port}")
}

/// The IPv4 cluster addresses that a service holds.
fn addresses(service: &Object) -> BTreeSet<Ipv4Addr> {
    if service.str(&["spec", "type"]) == Some("ExternalName") {
        return BTreeSet::new();
    }
    let all = service.array(&["spec", "clusterIPs"]).iter().filter_map(Value::as_str);
    all.chain(service.str(&["spec", "clusterIP"]))
        .filter_map(|t| t.parse().ok())
        .collect()
}

/// The node ports that a service holds, by protocol.
fn ports(service: &Object) -> BTreeSet<(String, u16)> {
    let all = service.array(&["spec", "ports"]).iter().filter_map(|p| {
        let port = u16::try_from(p.get("nodePort")?.as_i64()?).ok().filter(|p| *p != 0)?;
        Some((protocol(p).to_owned(), port))
    });
    let health = service
        .i64(&["spec", "healthCheckNodePort"])
        .and_then(|p| u16::try_from(p).ok())
        .filter(|p| *p != 0);
    all.chain(health.map(|p| ("TCP".to_owned(), p))).collect()
}

fn protocol(port: &Value) -> &str {
    port.get("protocol").and_then(Value::as_str).unwrap_or("TCP")
}

/// The IPAddress that says who holds an address.
fn ip_object(
    call: &Call<'_>,
    row: &Arc<Resource>,
    ip: Ipv4Addr,
    service: &(String, String),
) -> Result<Vec<u8>, Status> {
    let mut object = Object::default();
    object.set(&["apiVersion"], row.storage.api_version.as_ref());
    object.set(&["kind"], row.kind.as_ref());
    object.set(&["metadata", "name"], ip.to_string());
    object.set(
        &["metadata", "labels"],
        json!({"ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io", "ipaddress.kubernetes.io/ip-family": "IPv4"}),
    );
    object.set(
        &["spec", "parentRef"],
        json!({"group": "", "resource": "services", "namespace": service.0, "name": service.1}),
    );
    meta::prepare_for_create(call.core, row, &mut object);
    serde_json::to_vec(&object).map_err(|e| Status::internal(e.to_string()))
}

fn invalid(call: &Call<'_>, service: &Object, path: &str, value: String, detail: String) -> Status {
    let error = FieldError {
        kind: FieldErrorKind::Invalid,
        path: path.into(),
        value,
        detail,
    };
    Status::invalid("", &call.row.kind, service.name(), &[error])
}

async fn allocate_ip(call: &Call<'_>, old: Option<&Object>, service: &mut Object) -> Result<(), Status> {
    let kind = service.str(&["spec", "type"]).unwrap_or("ClusterIP").to_owned();
    if kind == "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            service.remove(&["spec", field]);
        }
        return Ok(());
    }
    let set = |o: &Object| o.str(&["spec", "clusterIP"]).unwrap_or_default().to_owned();
    let mut ip = set(service);
    if ip.is_empty() {
        // A field that an update leaves out stays, unless the service had no address because of its type.
        ip = old.map(set).unwrap_or_default();
    }
    // Without a selector, whoever writes the endpoints chooses their families.
    let open = ip == "None"
        && service
            .get(&["spec", "selector"])
            .and_then(Value::as_object)
            .is_none_or(|s| s.is_empty());
    if !open {
        served_families(call, old, service)?;
    }
    let cidr = call.core.network.service_cidr;
    if ip.is_empty() {
        ip = free_ip(call).await?.to_string();
    } else if ip != "None" && old.is_none_or(|o| set(o) != ip) {
        let shown = format!("[{ip:?}]");
        let path = "spec.clusterIPs";
        let Ok(parsed) = ip.parse::<Ipv4Addr>() else {
            let detail = "failed to allocate IP: only IPv4 addresses are served".to_owned();
            return Err(invalid(call, service, path, shown, detail));
        };
        if !cidr.contains(parsed) {
            let detail = format!("failed to allocate IP {ip}: the provided network does not match the current range");
            return Err(invalid(call, service, path, shown, detail));
        }
        let table = call.core.registry.table();
        if let Some(row) = table.get("networking.k8s.io", "v1", "ipaddresses")
            && call.core.exists(&row.key("", &ip)).await?
        {
            let detail = format!("failed to allocate IP {ip}: provided IP is already allocated");
            return Err(invalid(call, service, path, shown, detail));
        }
    }
    service.set(&["spec", "clusterIP"], ip.as_str());
    service.set(&["spec", "clusterIPs"], vec![Value::from(ip)]);
    if service.get(&["spec", "ipFamilyPolicy"]).is_none() {
        let policy = if open { "RequireDualStack" } else { "SingleStack" };
        service.set(&["spec", "ipFamilyPolicy"], policy);
    }
    if service.get(&["spec", "ipFamilies"]).is_none() {
        let both = open && service.str(&["spec", "ipFamilyPolicy"]) != Some("SingleStack");
        let families = if both { &["IPv4", "IPv6"][..] } else { &["IPv4"] };
        let families: Vec<Value> = families.iter().map(|f| Value::from(*f)).collect();
        service.set(&["spec", "ipFamilies"], families);
    }
    Ok(())
}

/// The cluster has IPv4 addresses only: a service that asks for others is refused, unless it had them before.
fn served_families(call: &Call<'_>, old: Option<&Object>, service: &Object) -> Result<(), Status> {
    let policy = service.str(&["spec", "ipFamilyPolicy"]);
    let families = service.array(&["spec", "ipFamilies"]);
    if old.is_some_and(|o| o.str(&["spec", "ipFamilyPolicy"]) == policy && o.array(&["spec", "ipFamilies"]) == families)
    {
        return Ok(());
    }
    if policy == Some("RequireDualStack") {
        let detail = "this cluster is not configured for dual-stack services".to_owned();
        return Err(invalid(
            call,
            service,
            "spec.ipFamilyPolicy",
            "\"RequireDualStack\"".into(),
            detail,
        ));
    }
    let mut numbered = families.iter().enumerate();
    if let Some((i, family)) = numbered.find(|(_, family)| family.as_str() == Some("IPv6")) {
        let path = format!("spec.ipFamilies[{i}]");
        let detail = "not configured on this cluster".to_owned();
        return Err(invalid(call, service, &path, family.to_string(), detail));
    }
    Ok(())
}

/// An address that nobody holds. The lower part of the range is left to those who choose theirs.
async fn free_ip(call: &Call<'_>) -> Result<Ipv4Addr, Status> {
    let cidr = call.core.network.service_cidr;
    let table = call.core.registry.table();
    let row = table.get("networking.k8s.io", "v1", "ipaddresses");
    let shard = match row {
        Some(row) => Some((row, call.core.cache.shard(row).await?)),
        None => None,
    };
    let is_free = |ip: Ipv4Addr| match &shard {
        Some((row, shard)) => shard.get(&row.key("", &ip.to_string())).is_none(),
        None => true,
    };
    let last = cidr.len() - 2;
    let reserved = (last / 16).clamp(16, 256).min(last / 2);
    for _ in 0..GUESSES {
        let offset = call.core.random.between(reserved.max(2), last);
        if let Some(ip) = cidr.nth(offset).filter(|ip| is_free(*ip)) {
            return Ok(ip);
        }
    }
    let ordered = (reserved.max(2)..=last).chain(2..reserved);
    ordered
        .filter_map(|offset| cidr.nth(offset))
        .find(|ip| is_free(*ip))
        .ok_or_else(|| {
            Status::internal(format!(
                "failed to allocate a serviceIP: range {cidr} is full: delete services, or restart with a larger range"
            ))
        })
}

async fn allocate_ports(call: &Call<'_>, old: Option<&Object>, service: &mut Object) -> Result<(), Status> {
    let kind = service.str(&["spec", "type"]).unwrap_or("ClusterIP").to_owned();
    let balanced = kind == "LoadBalancer" && service.bool(&["spec", "allocateLoadBalancerNodePorts"]) != Some(false);
    let wants = kind == "NodePort" || balanced;
    let may = matches!(kind.as_str(), "NodePort" | "LoadBalancer");
    let old_ports = old.map(|o| o.array(&["spec", "ports"]).to_vec()).unwrap_or_default();
    let held = old.map(ports).unwrap_or_default();
    let mut list = service.array(&["spec", "ports"]).to_vec();
    let mut taken: Option<BTreeSet<(String, u16)>> = None;
    for (i, port) in list.iter_mut().enumerate() {
        let protocol = protocol(port).to_owned();
        let number = port.get("nodePort").and_then(Value::as_i64).unwrap_or(0);
        let Some(port) = port.as_object_mut() else { continue };
        if !may {
            // A port that was given by an earlier type goes with it.
            if old.is_some() {
                port.remove("nodePort");
            }
            continue;
        }
        if number == 0 && !wants {
            continue;
        }
        if taken.is_none() {
            taken = Some(taken_ports(call).await?);
        }
        let Some(taken) = &mut taken else { continue };
        let path = format!("spec.ports[{i}].nodePort");
        let chosen = if number != 0 {
            let (first, last) = call.core.network.node_ports;
            let Some(chosen) = u16::try_from(number).ok().filter(|p| (first..=last).contains(p)) else {
                let detail =
                    format!("provided port is not in the valid range. The range of valid ports is {first}-{last}");
                return Err(invalid(call, service, &path, number.to_string(), detail));
            };
            let mine = (protocol.clone(), chosen);
            if taken.contains(&mine) && !held.contains(&mine) {
                let detail = "provided port is already allocated".to_owned();
                return Err(invalid(call, service, &path, number.to_string(), detail));
            }
            chosen
        } else {
            let kept = old_ports
                .iter()
                .find(|o| o.get("port") == port.get("port") && self::protocol(o) == protocol);
            let kept = kept
                .and_then(|o| u16::try_from(o.get("nodePort")?.as_i64()?).ok())
                .filter(|p| *p != 0);
            match kept {
                Some(kept) => kept,
                None => free_port(call, &protocol, taken)?,
            }
        };
        taken.insert((protocol, chosen));
        port.insert("nodePort".into(), chosen.into());
    }
    if !list.is_empty() {
        service.set(&["spec", "ports"], list);
    }
    let local = service.str(&["spec", "externalTrafficPolicy"]) == Some("Local");
    if kind == "LoadBalancer" && local {
        if service.i64(&["spec", "healthCheckNodePort"]).unwrap_or(0) == 0 {
            let kept = old
                .and_then(|o| o.i64(&["spec", "healthCheckNodePort"]))
                .filter(|p| *p != 0);
            let port = match kept {
                Some(kept) => kept,
                None => {
                    let taken = match taken {
                        Some(taken) => taken,
                        None => taken_ports(call).await?,
                    };
                    i64::from(free_port(call, "TCP", &taken)?)
                }
            };
            service.set(&["spec", "healthCheckNodePort"], port);
        }
    } else {
        service.remove(&["spec", "healthCheckNodePort"]);
    }
    Ok(())
}

async fn taken_ports(call: &Call<'_>) -> Result<BTreeSet<(String, u16)>, Status> {
    let options = ListOptions {
        prefix: PORTS.into(),
        ..ListOptions::default()
    };
    let page = call.core.store.list(options).await.map_err(|e| store_failed(&e))?;
    let parse = |key: &str| {
        let (protocol, port) = key.strip_prefix(PORTS)?.split_once('/')?;
        Some((protocol.to_owned(), port.parse().ok()?))
    };
    Ok(page.items.iter().filter_map(|kv| parse(&kv.key)).collect())
}

fn free_port(call: &Call<'_>, protocol: &str, taken: &BTreeSet<(String, u16)>) -> Result<u16, Status> {
    let (first, last) = call.core.network.node_ports;
    let is_free = |port: &u16| !taken.contains(&(protocol.to_owned(), *port));
    for _ in 0..GUESSES {
        let port = call.core.random.between(first.into(), last.into());
        if let Ok(port) = u16::try_from(port)
            && is_free(&port)
        {
            return Ok(port);
        }
    }
    (first..=last).find(is_free).ok_or_else(|| {
        Status::internal(format!(
            "failed to allocate a nodePort: all of {first}-{last} are taken: delete services"
        ))
    })
}
