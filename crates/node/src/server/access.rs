//! Who may call the agent, and for what: a client certificate of the cluster's authority or a bearer token that the API
//! server vouches for says who; the API server's authorizer says whether. Nobody is let in without a name.

use coracle_client::access::{Access, Permission, bearer};
use coracle_client::{Client, Error};
use coracle_clock::Clock;
use http::header::HeaderMap;
use http::{Method, StatusCode};
use k8s_openapi::api::authentication::v1::UserInfo;

/// What a request asks leave for: a verb on a part of the node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Part {
    pub(super) verb: &'static str,
    /// Of `nodes`.
    pub(super) subresource: &'static str,
}

/// What a request needs; any one of it is enough.
pub(super) fn needed(method: &Method, path: &str) -> Vec<Part> {
    let mut verb = match *method {
        Method::POST => "create",
        Method::PUT => "update",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        _ => "get",
    };
    let first = path.split('/').find(|p| !p.is_empty()).unwrap_or_default();
    let also = match first {
        // A command in a container is not something that is read, even when it is asked for by GET as WebSockets are.
        "exec" | "attach" | "portForward" | "run" => {
            verb = "create";
            None
        }
        "stats" => {
            return vec![Part {
                verb,
                subresource: "stats",
            }];
        }
        "metrics" => {
            return vec![Part {
                verb,
                subresource: "metrics",
            }];
        }
        "logs" => {
            return vec![Part {
                verb,
                subresource: "log",
            }];
        }
        "pods" | "runningpods" => Some("pods"),
        "healthz" => Some("healthz"),
        "configz" => Some("configz"),
        _ => None,
    };
    let also = also.map(|subresource| Part { verb, subresource });
    let proxy = Part {
        verb,
        subresource: "proxy",
    };
    also.into_iter().chain([proxy]).collect()
}

/// Says who may call the agent of one node.
pub(super) struct NodeAccess {
    access: Access,
    node: String,
}

impl NodeAccess {
    pub(super) fn new(client: Client, clock: Clock, node: String) -> Self {
        Self {
            access: Access::new(client, clock),
            node,
        }
    }

    /// Whether the request may be answered; else with what it is refused.
    pub(super) async fn check(
        &self,
        certificate: Option<&UserInfo>,
        headers: &HeaderMap,
        method: &Method,
        path: &str,
    ) -> Result<(), (StatusCode, String)> {
        let unknown = || (StatusCode::UNAUTHORIZED, "Unauthorized".to_owned());
        let user = match certificate {
            Some(user) => user.clone(),
            None => {
                let token = bearer(headers).ok_or_else(unknown)?;
                self.access.user(token).await.map_err(failed)?.ok_or_else(unknown)?
            }
        };
        let needed = needed(method, path);
        for part in &needed {
            let permission = Permission::Resource {
                verb: part.verb,
                resource: "nodes",
                subresource: part.subresource,
                name: self.node.clone(),
            };
            if self.access.allows(&user, &permission).await.map_err(failed)? {
                return Ok(());
            }
        }
        let last = needed.last().map_or("", |p| p.subresource);
        let verb = needed.last().map_or("", |p| p.verb);
        let text = format!(
            "Forbidden (user={}, verb={verb}, resource=nodes, subresource={last})",
            user.username.unwrap_or_default()
        );
        Err((StatusCode::FORBIDDEN, text))
    }
}

fn failed(error: Error) -> (StatusCode, String) {
    tracing::warn!(%error, "the API server was not asked who may call the node's API");
    let text = "the API server cannot be asked whether this is allowed".to_owned();
    (StatusCode::INTERNAL_SERVER_ERROR, text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_path_needs_its_own_part_of_the_node_or_all_of_it() {
        for (method, path, expected) in [
            (Method::GET, "/healthz", vec![("get", "healthz"), ("get", "proxy")]),
            (Method::GET, "/pods", vec![("get", "pods"), ("get", "proxy")]),
            (Method::GET, "/stats/summary", vec![("get", "stats")]),
            (Method::GET, "/metrics/cadvisor", vec![("get", "metrics")]),
            (Method::GET, "/logs/", vec![("get", "log")]),
            (Method::GET, "/containerLogs/a/b/c", vec![("get", "proxy")]),
            (Method::GET, "/exec/a/b/c", vec![("create", "proxy")]),
            (Method::POST, "/portForward/a/b", vec![("create", "proxy")]),
            (Method::DELETE, "/nonsense", vec![("delete", "proxy")]),
        ] {
            let found: Vec<_> = needed(&method, path).iter().map(|p| (p.verb, p.subresource)).collect();
            assert_eq!(found, expected, "{method} {path}");
        }
    }
}
