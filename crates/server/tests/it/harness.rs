//! A server on the memory engine, and two ways to speak to it.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use coracle_api::object::{Object, StoredObject};
use coracle_api::service::{
    Answer, DeleteOptions, ListOptions, ObjectList, Operation, PatchKind, Request, Service, Target, UserInfo,
    WatchEvent, WatchStream, WriteOptions,
};
use coracle_api::status::Status;
use coracle_clock::Clock;
use coracle_server::{ApiServer, Identity, PkiDir, RunningServer, ServerOptions};
use coracle_store::{Embedded, Store};
use futures::StreamExt;
use http::{HeaderMap, Method, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

pub struct Cluster {
    pub server: RunningServer,
    dir: TempDir,
    clock: Clock,
}

pub fn admin() -> UserInfo {
    user("admin", &["system:masters", "system:authenticated"])
}

pub fn user(name: &str, groups: &[&str]) -> UserInfo {
    UserInfo {
        name: name.into(),
        groups: groups.iter().map(|g| (*g).into()).collect(),
        ..UserInfo::default()
    }
}

/// `pods` in `default`, `apps/v1/deployments` in `default`; a leading `/` has no namespace.
pub fn at(path: &str) -> Target {
    let (path, namespace) = match path.strip_prefix('/') {
        Some(path) => (path, ""),
        None => (path, "default"),
    };
    let mut parts: Vec<&str> = path.split('/').collect();
    let resource = parts.pop().unwrap();
    let version = parts.pop().unwrap_or("v1");
    let group = parts.pop().unwrap_or("");
    Target {
        group: group.into(),
        version: version.into(),
        resource: resource.into(),
        namespace: namespace.into(),
        ..Target::default()
    }
}

pub fn named(path: &str, name: &str) -> Target {
    Target {
        name: name.into(),
        ..at(path)
    }
}

pub fn sub(path: &str, name: &str, subresource: &str) -> Target {
    Target {
        subresource: subresource.into(),
        ..named(path, name)
    }
}

pub fn object(value: Value) -> Object {
    Object::from_value(value).unwrap()
}

pub fn config_map(name: &str) -> Value {
    json!({"metadata": {"name": name}, "data": {"k": "v"}})
}

pub fn options() -> WriteOptions {
    WriteOptions {
        field_manager: "test".into(),
        ..WriteOptions::default()
    }
}

impl Cluster {
    pub async fn start() -> Self {
        Self::with(Arc::new(Embedded::in_memory())).await
    }

    pub async fn with(store: Arc<dyn Store>) -> Self {
        Self::start_with(store, |_| {}).await
    }

    /// With other options.
    pub async fn start_with(store: Arc<dyn Store>, set: impl FnOnce(&mut ServerOptions)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = ServerOptions::new(store, dir.path().join("pki"));
        options.bind.set_port(0);
        set(&mut options);
        let clock = options.clock;
        let server = ApiServer::start(options).await.unwrap();
        Self { server, dir, clock }
    }

    /// Where certificates and keys are.
    pub fn pki(&self) -> std::path::PathBuf {
        self.dir.path().join("pki")
    }

    /// The answer to a creation, with its warnings.
    pub async fn create_as(
        &self,
        user: &UserInfo,
        target: Target,
        value: Value,
    ) -> Result<(Object, Vec<String>), Status> {
        let operation = Operation::Create {
            object: object(value),
            options: options(),
        };
        let response = self.server.service().call(user, Request { target, operation }).await?;
        let made = match response.answer {
            Answer::Object { object, .. } => object.to_object(),
            Answer::Status(status) => object(serde_json::to_value(status).unwrap()),
            _ => panic!("not an object"),
        };
        Ok((made, response.warnings))
    }

    pub async fn call_as(&self, user: &UserInfo, target: Target, operation: Operation) -> Result<Answer, Status> {
        let request = Request { target, operation };
        Ok(self.server.service().call(user, request).await?.answer)
    }

    pub async fn call(&self, target: Target, operation: Operation) -> Result<Answer, Status> {
        self.call_as(&admin(), target, operation).await
    }

    async fn one(&self, target: Target, operation: Operation) -> Result<Object, Status> {
        match self.call(target, operation).await? {
            Answer::Object { object, .. } => Ok(object.to_object()),
            Answer::Status(status) => Ok(object(serde_json::to_value(status).unwrap())),
            _ => panic!("not an object"),
        }
    }

    pub async fn create(&self, target: Target, value: Value) -> Result<Object, Status> {
        self.one(
            target,
            Operation::Create {
                object: object(value),
                options: options(),
            },
        )
        .await
    }

    pub async fn get(&self, target: Target) -> Result<Object, Status> {
        self.one(
            target,
            Operation::Get {
                resource_version: String::new(),
            },
        )
        .await
    }

    pub async fn update(&self, target: Target, object: Object) -> Result<Object, Status> {
        self.one(
            target,
            Operation::Update {
                object,
                options: options(),
            },
        )
        .await
    }

    pub async fn patch(&self, target: Target, kind: PatchKind, patch: Value) -> Result<Object, Status> {
        self.one(
            target,
            Operation::Patch {
                kind,
                patch,
                options: options(),
            },
        )
        .await
    }

    pub async fn delete(&self, target: Target, options: DeleteOptions) -> Result<Object, Status> {
        self.one(target, Operation::Delete(options)).await
    }

    pub async fn list(&self, target: Target, options: ListOptions) -> Result<ObjectList, Status> {
        match self.call(target, Operation::List(options)).await? {
            Answer::List(list) => Ok(list),
            _ => panic!("not a list"),
        }
    }

    pub async fn watch(&self, target: Target, options: ListOptions) -> Result<WatchStream, Status> {
        match self.call(target, Operation::Watch(options)).await? {
            Answer::Watch(watch) => Ok(watch),
            _ => panic!("not a watch"),
        }
    }

    /// Waits until `ready` says so of the object, by watching it.
    pub async fn wait(&self, target: Target, ready: impl Fn(&Object) -> bool) -> Object {
        let options = ListOptions {
            field_selector: format!("metadata.name={}", target.name),
            ..ListOptions::default()
        };
        let mut watch = self
            .watch(
                Target {
                    name: String::new(),
                    ..target
                },
                options,
            )
            .await
            .unwrap();
        let found = async {
            while let Some(event) = watch.next().await {
                if let WatchEvent::Added(o) | WatchEvent::Modified(o) = event.unwrap() {
                    let object = o.to_object();
                    if ready(&object) {
                        return object;
                    }
                }
            }
            panic!("the watch ended");
        };
        self.clock
            .timeout(Duration::from_secs(20), found)
            .await
            .expect("the object never got there")
    }

    /// Waits until the object is gone.
    pub async fn wait_gone(&self, target: Target) {
        let options = ListOptions {
            field_selector: format!("metadata.name={}", target.name),
            ..ListOptions::default()
        };
        let list = Target {
            name: String::new(),
            ..target.clone()
        };
        let version = self.list(list.clone(), options.clone()).await.unwrap();
        if version.items.is_empty() {
            return;
        }
        let options = ListOptions {
            resource_version: version.revision.to_string(),
            ..options
        };
        let mut watch = self.watch(list, options).await.unwrap();
        let gone = async {
            while let Some(event) = watch.next().await {
                if matches!(event.unwrap(), WatchEvent::Deleted(_)) {
                    return;
                }
            }
        };
        self.clock
            .timeout(Duration::from_secs(20), gone)
            .await
            .expect("the object never went");
    }

    /// A client with the administrator's certificate, or with none.
    pub async fn http(&self, with_certificate: bool) -> Http {
        self.http_at(&self.pki(), with_certificate).await
    }

    /// With the certificates in another directory.
    pub async fn http_at(&self, pki: &std::path::Path, with_certificate: bool) -> Http {
        let stream = self.tls_at(pki, with_certificate).await;
        let (sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .unwrap();
        tokio::spawn(connection);
        Http { sender }
    }

    /// A connection to write anything to.
    pub async fn tls(&self, with_certificate: bool) -> tokio_rustls::client::TlsStream<TcpStream> {
        self.tls_at(&self.pki(), with_certificate).await
    }

    async fn tls_at(
        &self,
        pki: &std::path::Path,
        with_certificate: bool,
    ) -> tokio_rustls::client::TlsStream<TcpStream> {
        let pki = PkiDir::new(pki, self.clock);
        let mut roots = rustls::RootCertStore::empty();
        let ca = coracle_server::Pair {
            certificate: self.server.ca().into(),
            key: String::new(),
        };
        for certificate in ca.chain() {
            roots.add(certificate).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = if with_certificate {
            let identity = Identity {
                user: "kubernetes-admin".into(),
                groups: vec!["system:masters".into()],
            };
            let pair = pki.client("admin", &identity).unwrap();
            builder
                .with_client_auth_cert(pair.chain(), pair.private_key().unwrap())
                .unwrap()
        } else {
            builder.with_no_client_auth()
        };
        let socket = TcpStream::connect(self.server.local_addr()).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, socket)
            .await
            .unwrap()
    }
}

pub struct Http {
    sender: hyper::client::conn::http1::SendRequest<Full<Bytes>>,
}

pub struct Got {
    pub code: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Got {
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {:?}", self.body))
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

impl Http {
    pub async fn open(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> http::Response<hyper::body::Incoming> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", "localhost");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.sender.ready().await.unwrap();
        self.sender
            .send_request(request.body(Full::new(body.into())).unwrap())
            .await
            .unwrap()
    }

    pub async fn send(&mut self, method: Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Got {
        let (parts, body) = self.open(method, path, headers, body).await.into_parts();
        Got {
            code: parts.status,
            headers: parts.headers,
            body: body.collect().await.unwrap().to_bytes(),
        }
    }

    pub async fn get(&mut self, path: &str) -> Got {
        self.send(Method::GET, path, &[], "").await
    }
}

pub fn names(list: &ObjectList) -> Vec<String> {
    list.items
        .iter()
        .map(|o: &Arc<StoredObject>| o.head().name.to_string())
        .collect()
}
