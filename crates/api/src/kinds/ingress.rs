//! Ingress: HTTP routes from outside to services.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name, text};
use super::row::namespaced;
use super::service::load_balancer;
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("networking.k8s.io", "v1", "Ingress", "ingresses")
        .short(&["ing"])
        .prefix("ingress")
        .status()
        .generation()
        .columns([
            name(),
            text(
                "Class",
                "The name of the IngressClass resource that should be used for additional configuration",
            ),
            text(
                "Hosts",
                "Hosts that incoming requests are matched against before the ingress rule",
            ),
            text(
                "Address",
                "Address is a list containing ingress points for the load-balancer",
            ),
            text("Ports", "Ports of TLS configurations that open"),
            age(),
        ])
        .strategy(Ingress)
        .build()
}

struct Ingress;

impl Strategy for Ingress {
    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        let tls = !object.array(&["spec", "tls"]).is_empty();
        vec![
            object.name().into(),
            object.str(&["spec", "ingressClassName"]).unwrap_or("<none>").into(),
            hosts(object.array(&["spec", "rules"])).into(),
            load_balancer(object).into(),
            if tls { "80, 443" } else { "80" }.into(),
            age_of(object, now),
        ]
    }
}

/// `a.example,b.example`; `*` when no rule names a host.
fn hosts(rules: &[Value]) -> String {
    let mut shown = Vec::new();
    let mut more = false;
    for rule in rules {
        if shown.len() == 3 {
            more = true;
            break;
        }
        let host = rule.get("host").and_then(Value::as_str).unwrap_or_default();
        if !host.is_empty() {
            shown.push(host);
        }
    }
    if shown.is_empty() {
        "*".to_owned()
    } else if more {
        format!("{} + {} more...", shown.join(","), rules.len() - 3)
    } else {
        shown.join(",")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn the_table_tells_three_hosts() {
        let rule = |host: &str| json!({"host": host});
        assert_eq!(hosts(&[json!({})]), "*");
        assert_eq!(hosts(&[rule("a"), rule("b")]), "a,b");
        assert_eq!(
            hosts(&[rule("a"), rule("b"), rule("c"), rule("d")]),
            "a,b,c + 1 more..."
        );
    }
}
