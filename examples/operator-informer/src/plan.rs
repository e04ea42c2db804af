//! What a website needs: pure, so that a table can test it.

use serde_json::{Value, json};

use crate::website::{Website, WebsiteStatus};
use k8s_openapi::Resource as _;
use k8s_openapi::api::apps::v1::Deployment;

/// The objects that a website owns, as they are applied.
pub struct Wanted {
    pub config_map: Value,
    pub deployment: Value,
}

/// See the module.
pub fn plan(site: &Website) -> Wanted {
    let name = site.metadata.name.as_deref().unwrap_or_default();
    let labels = json!({"app.kubernetes.io/name": "website", "app.kubernetes.io/instance": name});
    let metadata = json!({
        "name": name,
        "namespace": site.metadata.namespace,
        "labels": labels,
        "ownerReferences": [{
            "apiVersion": Website::API_VERSION, "kind": Website::KIND, "name": name, "uid": site.metadata.uid,
            "controller": true, "blockOwnerDeletion": true,
        }],
    });
    Wanted {
        config_map: json!({
            "apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata,
            "data": {"index.html": site.spec.html},
        }),
        deployment: json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {
                "replicas": site.spec.replicas.unwrap_or(1),
                "selector": {"matchLabels": labels},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {
                        "containers": [{
                            "name": "web", "image": site.spec.image,
                            "ports": [{"containerPort": 80}],
                            "volumeMounts": [{"name": "page", "mountPath": "/usr/share/nginx/html"}],
                        }],
                        "volumes": [{"name": "page", "configMap": {"name": name}}],
                    },
                },
            },
        }),
    }
}

/// What the website's status should say.
pub fn status(site: &Website, deployment: Option<&Deployment>) -> WebsiteStatus {
    let seen = deployment.and_then(|d| d.status.as_ref());
    WebsiteStatus {
        observed_generation: site.metadata.generation.unwrap_or_default(),
        replicas: seen.and_then(|s| s.replicas).unwrap_or_default(),
        ready_replicas: seen.and_then(|s| s.ready_replicas).unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::website::WebsiteSpec;

    #[test]
    fn a_website_needs_its_page_and_who_serves_it() {
        let spec = WebsiteSpec {
            html: "<h1>hello</h1>".into(),
            image: "nginx".into(),
            replicas: Some(2),
        };
        let wanted = plan(&Website::new("home", spec));
        assert_eq!(wanted.config_map["data"]["index.html"], "<h1>hello</h1>");
        assert_eq!(wanted.deployment["spec"]["replicas"], 2);
        assert_eq!(wanted.deployment["metadata"]["ownerReferences"][0]["kind"], "Website");
    }
}
