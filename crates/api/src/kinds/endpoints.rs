//! Endpoints: the addresses behind a service, in the form that EndpointSlice replaced.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, text};
use super::row::namespaced;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("", "v1", "Endpoints", "endpoints")
        .short(&["ep"])
        .prefix("services/endpoints")
        .create_on_update()
        .columns([
            name(),
            text("Endpoints", "The addresses and ports behind the service."),
            age(),
        ])
        .strategy(Endpoints)
        .build()
}

struct Endpoints;

impl Strategy for Endpoints {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![
            object.name().into(),
            addresses(object.array(&["subsets"])).into(),
            age_of(object, now),
        ]
    }
}

/// `10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more...`
fn addresses(subsets: &[Value]) -> String {
    if subsets.is_empty() {
        return "<none>".to_owned();
    }
    let list = |of: &'_ Value, field: &str| of.get(field).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut shown = Vec::new();
    let mut count = 0;
    for subset in subsets {
        let ips: Vec<String> = list(subset, "addresses")
            .iter()
            .map(|a| a.get("ip").and_then(Value::as_str).unwrap_or_default().to_owned())
            .collect();
        let ports = list(subset, "ports");
        // A headless service may have addresses without ports.
        let numbers: Vec<Option<i64>> = if ports.is_empty() {
            vec![None]
        } else {
            let number = |p: &Value| p.get("port").and_then(Value::as_i64).unwrap_or_default();
            ports.iter().map(|p| Some(number(p))).collect()
        };
        for number in numbers {
            count += ips.len();
            for ip in ips.iter().take(3_usize.saturating_sub(shown.len())) {
                shown.push(match number {
                    None => ip.clone(),
                    Some(port) if ip.contains(':') => format!("[{ip}]:{port}"),
                    Some(port) => format!("{ip}:{port}"),
                });
            }
        }
    }
    let text = shown.join(",");
    if count > shown.len() {
        format!("{text} + {} more...", count - shown.len())
    } else {
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_shows_three_addresses_with_their_ports() {
        let subset = |ips: &[&str], ports: &[i64]| {
            json!({
                "addresses": ips.iter().map(|ip| json!({"ip": ip})).collect::<Vec<_>>(),
                "ports": ports.iter().map(|p| json!({"port": p})).collect::<Vec<_>>(),
            })
        };
        assert_eq!(addresses(&[]), "<none>");
        assert_eq!(addresses(&[subset(&["10.0.0.1"], &[80])]), "10.0.0.1:80");
        assert_eq!(addresses(&[subset(&["fd00::1"], &[80])]), "[fd00::1]:80");
        assert_eq!(addresses(&[subset(&["10.0.0.1"], &[])]), "10.0.0.1");
        assert_eq!(
            addresses(&[subset(&["10.0.0.1", "10.0.0.2"], &[80, 443])]),
            "10.0.0.1:80,10.0.0.2:80,10.0.0.1:443 + 1 more..."
        );
    }
}
