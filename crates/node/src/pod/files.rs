//! The files that every container of a pod is given: `/etc/hosts`, `/etc/hostname`, `/etc/resolv.conf`. Pure: text in,
//! text out.

use k8s_openapi::api::core::v1::{Pod, PodSpec};

/// How the cluster's DNS is reached, and what the host itself uses.
#[derive(Clone, Debug, Default)]
pub struct Dns {
    /// Addresses of the cluster's DNS service; empty when there is none.
    pub servers: Vec<String>,
    /// `cluster.local`.
    pub domain: String,
    /// The host's resolv.conf, for policy `Default`.
    pub host_resolv_conf: String,
}

/// The pod's host name and, with a subdomain, its domain.
pub(crate) fn hostname(
    pod: &Pod,
    node_hostname: &str,
    cluster_domain: &str,
) -> Result<(String, Option<String>), String> {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    if let Some(name) = spec.hostname_override.as_deref().filter(|n| !n.is_empty()) {
        return Ok((name.to_owned(), None));
    }
    if spec.host_network == Some(true) {
        return Ok((node_hostname.to_owned(), None));
    }
    let own = spec
        .hostname
        .as_deref()
        .filter(|n| !n.is_empty())
        .or(pod.metadata.name.as_deref())
        .unwrap_or_default();
    let mut name = own.to_owned();
    if name.len() > 63 {
        name.truncate(63);
        name.truncate(name.trim_end_matches(['-', '.']).len());
    }
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let subdomain = spec.subdomain.as_deref().filter(|s| !s.is_empty());
    let domain = subdomain.map(|s| format!("{s}.{namespace}.svc.{cluster_domain}"));
    if spec.set_hostname_as_fqdn == Some(true)
        && let Some(domain) = &domain
    {
        let fqdn = format!("{name}.{domain}");
        if fqdn.len() > 64 {
            return Err(format!(
                "Failed to construct FQDN from Pod hostname and cluster domain, FQDN {fqdn} is too long (64 characters is the max, {} characters requested)",
                fqdn.len()
            ));
        }
        return Ok((fqdn, Some(domain.clone())));
    }
    Ok((name, domain))
}

/// `/etc/hosts` of a pod.
pub(crate) fn hosts(pod: &Pod, host_file: &str, pod_ips: &[String], name: &str, domain: Option<&str>) -> String {
    let spec = pod.spec.as_ref();
    let mut out = if spec.and_then(|s| s.host_network) == Some(true) {
        format!("# Kubernetes-managed hosts file (host network).\n{host_file}")
    } else {
        let mut out = "# Kubernetes-managed hosts file.\n\
            127.0.0.1\tlocalhost\n\
            ::1\tlocalhost ip6-localhost ip6-loopback\n\
            fe00::0\tip6-localnet\n\
            fe00::0\tip6-mcastprefix\n\
            fe00::1\tip6-allnodes\n\
            fe00::2\tip6-allrouters\n"
            .to_owned();
        let short = name.split('.').next().unwrap_or(name);
        for ip in pod_ips {
            out.push_str(&match domain {
                Some(domain) => format!("{ip}\t{short}.{domain}\t{short}\n"),
                None => format!("{ip}\t{name}\n"),
            });
        }
        out
    };
    let aliases = spec.and_then(|s| s.host_aliases.as_ref());
    if let Some(aliases) = aliases.filter(|a| !a.is_empty()) {
        out.push_str("\n# Entries added by HostAliases.\n");
        for alias in aliases {
            let names = alias
                .hostnames
                .iter()
                .flatten()
                .map(String::as_str)
                .collect::<Vec<_>>()
                .join("\t");
            out.push_str(&format!("{}\t{names}\n", alias.ip));
        }
    }
    out
}

#[derive(Default)]
struct Resolv {
    servers: Vec<String>,
    searches: Vec<String>,
    options: Vec<String>,
}

impl Resolv {
    fn parse(text: &str) -> Self {
        let mut parsed = Self::default();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            let rest = |words: std::str::SplitWhitespace<'_>| words.map(str::to_owned).collect::<Vec<_>>();
            match words.next() {
                Some("nameserver") => parsed.servers.extend(words.next().map(str::to_owned)),
                Some("search") => parsed.searches = rest(words),
                Some("domain") if parsed.searches.is_empty() => parsed.searches = rest(words),
                Some("options") => parsed.options = rest(words),
                _ => {}
            }
        }
        parsed.searches.retain(|s| s != ".");
        parsed
    }
}

/// `/etc/resolv.conf` of a pod by its DNS policy, and whether the policy had to give way for want of a cluster DNS.
pub(crate) fn resolv_conf(pod: &Pod, dns: &Dns) -> (String, bool) {
    let default = PodSpec::default();
    let spec = pod.spec.as_ref().unwrap_or(&default);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let policy = spec.dns_policy.as_deref().unwrap_or("ClusterFirst");
    let cluster = match policy {
        "ClusterFirstWithHostNet" => true,
        "ClusterFirst" => spec.host_network != Some(true),
        _ => false,
    };
    let fell_back = cluster && dns.servers.is_empty();
    let mut resolv = match policy {
        "None" => Resolv::default(),
        _ if cluster && !fell_back => {
            let domain = &dns.domain;
            let mut searches = vec![
                format!("{namespace}.svc.{domain}"),
                format!("svc.{domain}"),
                domain.clone(),
            ];
            searches.extend(Resolv::parse(&dns.host_resolv_conf).searches);
            Resolv {
                servers: dns.servers.clone(),
                searches,
                options: vec!["ndots:5".into()],
            }
        }
        _ => Resolv::parse(&dns.host_resolv_conf),
    };
    if let Some(config) = &spec.dns_config {
        resolv.servers.extend(config.nameservers.iter().flatten().cloned());
        resolv.searches.extend(config.searches.iter().flatten().cloned());
        for option in config.options.iter().flatten() {
            let Some(name) = &option.name else { continue };
            resolv.options.retain(|o| o.split(':').next() != Some(name.as_str()));
            resolv
                .options
                .push(match option.value.as_deref().filter(|v| !v.is_empty()) {
                    Some(value) => format!("{name}:{value}"),
                    None => name.clone(),
                });
        }
    }
    // The limits that upstream sets: what the C library reads, and 32 search domains.
    let servers = distinct(resolv.servers, 3);
    let searches = distinct(resolv.searches, 32);
    let mut out = String::new();
    if !searches.is_empty() {
        out.push_str(&format!("search {}\n", searches.join(" ")));
    }
    for server in servers {
        out.push_str(&format!("nameserver {server}\n"));
    }
    if !resolv.options.is_empty() {
        out.push_str(&format!("options {}\n", resolv.options.join(" ")));
    }
    (out, fell_back)
}

fn distinct(items: Vec<String>, most: usize) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for item in items {
        if out.len() < most && !out.contains(&item) {
            out.push(item);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn pod(spec: serde_json::Value) -> Pod {
        let mut pod: Pod = serde_json::from_value(
            json!({"metadata": {"name": "web-0", "namespace": "ns"}, "spec": {"containers": []}}),
        )
        .unwrap();
        let mut merged = json!({"containers": []});
        merged
            .as_object_mut()
            .unwrap()
            .extend(spec.as_object().unwrap().clone());
        pod.spec = Some(serde_json::from_value(merged).unwrap());
        pod
    }

    #[test]
    fn host_names_follow_hostname_subdomain_and_host_network() {
        let name = |spec| hostname(&pod(spec), "node1", "cluster.local").unwrap();
        assert_eq!(name(json!({})), ("web-0".into(), None));
        assert_eq!(name(json!({"hostNetwork": true})), ("node1".into(), None));
        let domain = Some("db.ns.svc.cluster.local".to_owned());
        assert_eq!(
            name(json!({"hostname": "h", "subdomain": "db"})),
            ("h".into(), domain.clone())
        );
        assert_eq!(
            name(json!({"subdomain": "db", "setHostnameAsFQDN": true})),
            ("web-0.db.ns.svc.cluster.local".into(), domain)
        );
    }

    #[test]
    fn hosts_has_the_pod_and_its_aliases() {
        let text = hosts(
            &pod(json!({"hostAliases": [{"ip": "192.0.2.9", "hostnames": ["a", "b"]}]})),
            "",
            &["10.1.0.2".into()],
            "h",
            Some("db.ns.svc.cluster.local"),
        );
        assert!(text.starts_with("# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
        assert!(text.contains("10.1.0.2\th.db.ns.svc.cluster.local\th\n"));
        assert!(text.ends_with("\n# Entries added by HostAliases.\n192.0.2.9\ta\tb\n"));
    }

    #[test]
    fn resolv_conf_follows_the_policy() {
        let dns = Dns {
            servers: vec!["10.43.0.10".into()],
            domain: "cluster.local".into(),
            host_resolv_conf: "nameserver 192.0.2.53\nsearch corp.example\noptions edns0\n".into(),
        };
        let text = |spec| resolv_conf(&pod(spec), &dns);
        let cluster = "search ns.svc.cluster.local svc.cluster.local cluster.local corp.example\nnameserver 10.43.0.10\noptions ndots:5\n";
        let host = "search corp.example\nnameserver 192.0.2.53\noptions edns0\n";
        assert_eq!(text(json!({})), (cluster.into(), false));
        assert_eq!(text(json!({"hostNetwork": true})), (host.into(), false));
        assert_eq!(
            text(json!({"hostNetwork": true, "dnsPolicy": "ClusterFirstWithHostNet"})),
            (cluster.into(), false)
        );
        assert_eq!(text(json!({"dnsPolicy": "Default"})), (host.into(), false));
        let own = json!({"dnsPolicy": "None", "dnsConfig": {"nameservers": ["1.1.1.1", "1.1.1.1"], "searches": ["x"],
            "options": [{"name": "ndots", "value": "2"}, {"name": "edns0"}]}});
        assert_eq!(
            text(own),
            ("search x\nnameserver 1.1.1.1\noptions ndots:2 edns0\n".into(), false)
        );
        let without = Dns {
            servers: vec![],
            ..dns.clone()
        };
        assert_eq!(resolv_conf(&pod(json!({})), &without), (host.into(), true));
    }
}
