//! What a request is about, from its method and path, by the same rules as upstream: it decides routing, and it is what
//! authorization is asked about.

use coracle_api::service::{Target, UserInfo};
use http::Method;
use percent_encoding::percent_decode_str;

use super::query::Query;
use crate::authz::{self, Attributes};
use crate::metrics::Labels;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct RequestInfo {
    /// `get`, `list`, `create`...; for other paths the method in lower case.
    pub verb: String,
    pub path: String,
    /// Without a resource the request is about the path.
    pub target: Target,
    /// What comes behind the subresource (`proxy`).
    pub rest: String,
    /// The name for authorization: also the one that a field selector pins.
    name: String,
    /// Of requests about a collection.
    field_selector: String,
}

/// Paths that need no credentials.
const OPEN: [&str; 4] = ["/healthz", "/livez", "/readyz", "/version"];
/// Subresources that are streams.
const STREAMS: [&str; 5] = ["attach", "exec", "log", "portforward", "proxy"];

impl RequestInfo {
    pub fn parse(method: &Method, path: &str, query: &Query) -> Self {
        let mut info = Self {
            verb: method.as_str().to_lowercase(),
            path: path.to_owned(),
            ..Self::default()
        };
        let decode = |segment: &str| percent_decode_str(segment).decode_utf8_lossy().into_owned();
        let segments: Vec<String> = path.split('/').skip(1).map(decode).collect();
        let trimmed: Vec<&str> = {
            let mut all: Vec<&str> = segments.iter().map(String::as_str).collect();
            while all.last() == Some(&"") && all.len() > 1 {
                all.pop();
            }
            all
        };
        let (group, version, mut parts) = match trimmed.as_slice() {
            ["api", version, parts @ ..] if !parts.is_empty() => ("", *version, parts),
            ["apis", group, version, parts @ ..] if !parts.is_empty() => (*group, *version, parts),
            _ => return info,
        };
        let mut verb = match *method {
            Method::GET | Method::HEAD => "get",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            _ => "",
        };
        if let ["watch", rest @ ..] = parts
            && !rest.is_empty()
        {
            verb = "watch";
            parts = rest;
        }
        let target = &mut info.target;
        target.group = group.to_owned();
        target.version = version.to_owned();
        let own = match parts {
            ["namespaces", namespace, rest @ ..] => match rest {
                [] | ["status" | "finalize", ..] => parts,
                rest => {
                    target.namespace = (*namespace).to_owned();
                    rest
                }
            },
            parts => parts,
        };
        if let [resource, more @ ..] = own {
            target.resource = (*resource).to_owned();
            if let [name, more @ ..] = more {
                target.name = (*name).to_owned();
                if let [subresource, more @ ..] = more {
                    target.subresource = (*subresource).to_owned();
                    info.rest = more.join("/");
                    if !more.is_empty() && path.ends_with('/') {
                        info.rest.push('/');
                    }
                }
            }
        }
        info.name.clone_from(&info.target.name);
        if info.target.name.is_empty() && verb == "get" {
            verb = if query.flag("watch") { "watch" } else { "list" };
        }
        if info.target.name.is_empty()
            && matches!(verb, "list" | "watch")
            && let Some(name) = query.get("fieldSelector").and_then(pinned_name)
        {
            info.name = name;
        }
        if info.target.name.is_empty() && verb == "delete" {
            verb = "deletecollection";
        }
        if matches!(verb, "list" | "watch" | "deletecollection") {
            info.field_selector = query.get("fieldSelector").unwrap_or_default().to_owned();
        }
        info.verb = verb.to_owned();
        info
    }

    pub fn is_open_to_all(&self) -> bool {
        self.target.resource.is_empty()
            && OPEN
                .iter()
                .any(|open| self.path == *open || self.path.strip_prefix(open).is_some_and(|r| r.starts_with('/')))
    }

    /// Watches and streams last as long as they last.
    pub fn is_long_running(&self) -> bool {
        self.verb == "watch" || STREAMS.contains(&self.target.subresource.as_str())
    }

    pub fn is_mutating(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch" | "head" | "options")
    }

    pub fn attributes(&self, user: &UserInfo) -> Attributes {
        if self.target.resource.is_empty() {
            return Attributes {
                user: user.clone(),
                verb: self.verb.clone(),
                resource: None,
                path: self.path.clone(),
            };
        }
        let mut attributes = authz::resource_attributes(user, &self.verb, &self.target);
        if let Some(resource) = &mut attributes.resource {
            resource.name.clone_from(&self.name);
            resource.select(&self.field_selector);
        }
        attributes
    }

    pub fn labels(&self) -> Labels {
        let scope = if self.target.resource.is_empty() {
            ""
        } else if !self.target.name.is_empty() {
            "resource"
        } else if !self.target.namespace.is_empty() {
            "namespace"
        } else {
            "cluster"
        };
        let verb = match self.verb.as_str() {
            "create" => "POST",
            "update" => "PUT",
            other => {
                return Labels {
                    verb: other.to_uppercase(),
                    ..self.label_rest(scope)
                };
            }
        };
        Labels {
            verb: verb.into(),
            ..self.label_rest(scope)
        }
    }

    fn label_rest(&self, scope: &'static str) -> Labels {
        Labels {
            verb: String::new(),
            group: self.target.group.clone(),
            version: self.target.version.clone(),
            resource: self.target.resource.clone(),
            subresource: self.target.subresource.clone(),
            scope,
        }
    }
}

/// The name that `metadata.name=x` pins.
fn pinned_name(selector: &str) -> Option<String> {
    let term = selector
        .split(',')
        .find_map(|t| t.trim().strip_prefix("metadata.name="))?;
    Some(term.strip_prefix('=').unwrap_or(term).to_owned()).filter(|n| !n.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(method: Method, path: &str) -> String {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let info = RequestInfo::parse(&method, path, &Query::parse(query));
        let t = &info.target;
        format!(
            "{} {}/{} ns={} {} {} {}|{}",
            info.verb, t.group, t.version, t.namespace, t.resource, t.name, t.subresource, info.rest
        )
    }

    #[test]
    fn paths_read_as_upstream_reads_them() {
        for (method, path, expected) in [
            (Method::GET, "/api/v1/namespaces", "list /v1 ns= namespaces  |"),
            (Method::GET, "/api/v1/namespaces/a", "get /v1 ns= namespaces a |"),
            (
                Method::PUT,
                "/api/v1/namespaces/a/finalize",
                "update /v1 ns= namespaces a finalize|",
            ),
            (Method::GET, "/api/v1/namespaces/a/pods", "list /v1 ns=a pods  |"),
            (Method::GET, "/api/v1/pods?watch=1", "watch /v1 ns= pods  |"),
            (
                Method::GET,
                "/api/v1/watch/namespaces/a/pods/b",
                "watch /v1 ns=a pods b |",
            ),
            (
                Method::DELETE,
                "/apis/apps/v1/namespaces/a/deployments",
                "deletecollection apps/v1 ns=a deployments  |",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/a/pods/b/log",
                "get /v1 ns=a pods b log|",
            ),
            (
                Method::GET,
                "/api/v1/namespaces/a/services/b:80/proxy/x/y/",
                "get /v1 ns=a services b:80 proxy|x/y/",
            ),
            (
                Method::POST,
                "/apis/a.b/v1/namespaces/n%20m/things",
                "create a.b/v1 ns=n m things  |",
            ),
            (Method::GET, "/apis/apps/v1", "get / ns=   |"),
            (Method::GET, "/healthz/", "get / ns=   |"),
        ] {
            assert_eq!(parse(method, path), expected, "{path}");
        }
    }

    #[test]
    fn a_field_selector_on_the_name_names_the_object_to_authorization() {
        let query = Query::parse("fieldSelector=metadata.name%3Db");
        let info = RequestInfo::parse(&Method::GET, "/api/v1/namespaces/a/pods", &query);
        assert_eq!(info.attributes(&UserInfo::default()).resource.unwrap().name, "b");
        assert_eq!(info.target.name, "");
    }
}
