//! A request that is ready to be sent, any number of times.

use bytes::Bytes;
use http::Method;
use serde_json::Value;

/// How `kubectl get` asks for lists.
const TABLE: &str =
    "application/json;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json";

#[derive(Clone, Debug)]
pub struct Prepared {
    pub method: Method,
    /// Path and query.
    pub path: String,
    pub content_type: &'static str,
    /// Empty: JSON.
    pub accept: &'static str,
    pub body: Bytes,
}

impl Prepared {
    pub fn get(path: impl Into<String>) -> Self {
        Self::new(Method::GET, path, "", Bytes::new())
    }

    /// The same, answered as a table.
    pub fn table(path: impl Into<String>) -> Self {
        Self {
            accept: TABLE,
            ..Self::get(path)
        }
    }

    pub fn delete(path: impl Into<String>) -> Self {
        Self::new(Method::DELETE, path, "", Bytes::new())
    }

    pub fn post(path: impl Into<String>, body: &Value) -> Self {
        Self::new(Method::POST, path, "application/json", encode(body))
    }

    pub fn put(path: impl Into<String>, body: &Value) -> Self {
        Self::new(Method::PUT, path, "application/json", encode(body))
    }

    /// A merge patch.
    pub fn patch(path: impl Into<String>, body: &Value) -> Self {
        Self::new(Method::PATCH, path, "application/merge-patch+json", encode(body))
    }

    fn new(method: Method, path: impl Into<String>, content_type: &'static str, body: Bytes) -> Self {
        Self {
            method,
            path: path.into(),
            content_type,
            accept: "",
            body,
        }
    }
}

fn encode(body: &Value) -> Bytes {
    body.to_string().into()
}
