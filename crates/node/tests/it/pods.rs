//! What pods do on a real node.

use std::sync::Arc;

use bytes::Bytes;
use coracle_client::Patch;
use coracle_client::{DeleteOptions, ListOptions, WatchEvent};
use futures::StreamExt;
use http::Response;
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use k8s_openapi::api::core::v1::{ConfigMap, Node as ApiNode, PersistentVolume, PersistentVolumeClaim, Pod, Secret};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::{ClientConfig, RootCertStore, crypto};

use crate::cluster::{IMAGE, LIMIT, Node, identity, is_ready};

pub fn container(name: &str, script: &str) -> Value {
    json!({"name": name, "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]})
}

/// The agent's answer to a GET by a bearer of this certificate.
async fn ask(node: &Node, path: &str, user: &str, groups: &[&str]) -> Result<Response<Incoming>, String> {
    let pki = node.pki();
    let pair = pki.client(user, &identity(user, groups)).unwrap();
    let mut roots = RootCertStore::empty();
    let authority = pki.authority().unwrap();
    for certificate in CertificateDer::pem_slice_iter(authority.certificate().as_bytes()) {
        roots.add(certificate.unwrap()).unwrap();
    }
    let config = ClientConfig::builder_with_provider(Arc::new(crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_client_auth_cert(pair.chain(), pair.private_key().unwrap())
        .unwrap();
    let stream = TcpStream::connect(node.agent.address().unwrap()).await.unwrap();
    let name = tokio_rustls::rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
    let stream = TlsConnector::from(Arc::new(config))
        .connect(name, stream)
        .await
        .map_err(|e| e.to_string())?;
    let io = hyper_util::rt::TokioIo::new(stream);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io)
        .await
        .map_err(|e| e.to_string())?;
    tokio::spawn(connection);
    let request = http::Request::get(path)
        .header("host", "n1")
        .body(Empty::<Bytes>::new())
        .unwrap();
    sender.send_request(request).await.map_err(|e| e.to_string())
}

async fn get(node: &Node, path: &str, user: &str, groups: &[&str]) -> Result<(u16, String), String> {
    let response = ask(node, path, user, groups).await?;
    let status = response.status().as_u16();
    let body = response
        .into_body()
        .collect()
        .await
        .map_err(|e| e.to_string())?
        .to_bytes();
    Ok((status, String::from_utf8_lossy(&body).into_owned()))
}

/// The log of a container that has ended.
pub async fn logs(node: &Node, pod: &str, container: &str) -> String {
    node.written().await;
    let path = format!("/containerLogs/default/{pod}/{container}");
    let (status, text) = get(node, &path, "kube-apiserver-kubelet-client", &["system:masters"])
        .await
        .unwrap();
    assert_eq!(status, 200, "{text}");
    text
}

/// Waits until a container that runs has said this, and nothing else.
pub async fn says(node: &Node, pod: &str, container: &str, expected: &str) {
    let path = format!("/containerLogs/default/{pod}/{container}?follow=true");
    let answer = ask(node, &path, "kube-apiserver-kubelet-client", &["system:masters"]);
    let mut body = answer.await.unwrap().into_body();
    let mut text = String::new();
    while text.len() < expected.len() {
        let frame = tokio::time::timeout(LIMIT, body.frame()).await;
        let frame = frame.unwrap_or_else(|_| panic!("it only says {text:?}"));
        text += std::str::from_utf8(frame.unwrap().unwrap().data_ref().unwrap()).unwrap();
    }
    assert_eq!(text, expected);
}

pub fn ended(pod: &Pod) -> bool {
    matches!(
        pod.status.as_ref().and_then(|s| s.phase.as_deref()),
        Some("Succeeded" | "Failed")
    )
}

async fn config_map(node: &Node, name: &str, data: Value) {
    let map = json!({"metadata": {"name": name, "namespace": "default"}, "data": data});
    node.client
        .namespaced::<ConfigMap>("default")
        .create(&serde_json::from_value(map).unwrap())
        .await
        .unwrap();
}

pub async fn a_pod_runs_with_volumes_environment_and_network_and_leaves_nothing_behind(node: Node) {
    let registered = node.client.all::<ApiNode>().get("n1").await.unwrap();
    let ready = registered
        .status
        .iter()
        .flat_map(|s| s.conditions.iter().flatten())
        .find(|c| c.type_ == "Ready");
    assert_eq!(ready.map(|c| c.status.as_str()), Some("True"));
    config_map(&node, "settings", json!({"colour": "blue"})).await;
    let secret = json!({"metadata": {"name": "hush", "namespace": "default"}, "stringData": {"word": "sesame"}});
    node.client
        .namespaced::<Secret>("default")
        .create(&serde_json::from_value(secret).unwrap())
        .await
        .unwrap();
    let script = "cat /config/colour /secret/word /shared/from-init; echo; (echo x > /config/colour) 2>/dev/null || echo only to be read; echo $COLOUR $WHO $IP $KUBERNETES_SERVICE_HOST; \
        hostname; cat /etc/hosts | busybox tail -1; echo last words > /dev/termination-log; echo hello | nc -ll -p 8080 -e cat /shared/from-init";
    let mut main = container("main", script);
    main["env"] = json!([
        {"name": "COLOUR", "valueFrom": {"configMapKeyRef": {"name": "settings", "key": "colour"}}},
        {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "WHO", "value": "i-am-$(NAME)"},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}}]);
    main["volumeMounts"] = json!([{"name": "c", "mountPath": "/config"}, {"name": "s", "mountPath": "/secret", "readOnly": true},
        {"name": "e", "mountPath": "/shared"}]);
    let mut init = container("init", "echo -n written-by-init > /shared/from-init");
    init["volumeMounts"] = json!([{"name": "e", "mountPath": "/shared"}]);
    node.run(
        "web",
        json!({"initContainers": [init], "containers": [main], "volumes": [
        {"name": "c", "configMap": {"name": "settings"}}, {"name": "s", "secret": {"secretName": "hush"}},
        {"name": "e", "emptyDir": {}}]}),
    )
    .await;
    let pod = node.ready("web").await;
    let status = pod.status.clone().unwrap();
    let ip = status.pod_ip.clone().unwrap();
    let fetch = format!("until nc -w 2 {ip} 8080 </dev/null; do busybox usleep 50000; done");
    node.run(
        "guest",
        json!({"restartPolicy": "Never", "containers": [container("c", &fetch)]}),
    )
    .await;
    let guest = node.until("guest", ended).await;
    assert_eq!(guest.status.as_ref().unwrap().phase.as_deref(), Some("Succeeded"));
    assert_eq!(logs(&node, "guest", "c").await, "written-by-init");
    let expected =
        format!("bluesesamewritten-by-init\nonly to be read\nblue i-am-web {ip} 10.96.0.1\nweb\n{ip}\tweb\n");
    says(&node, "web", "main", &expected).await;
    let uid = pod.metadata.uid.clone().unwrap();
    let dir = node.data_dir().join("pods").join(&uid);
    assert!(dir.exists());
    node.delete("web").await;
    node.delete("guest").await;
    assert!(!dir.exists());
    node.emptied().await;
    for wanted in ["Pulled", "Created", "Started", "Killing"] {
        node.event(wanted).await;
    }
    node.end().await;
}

pub async fn its_log_is_served_to_the_api_server_and_to_nobody_else(node: Node) {
    node.run(
        "talk",
        json!({"restartPolicy": "Never", "containers": [container("c", "echo one; echo two; echo three")]}),
    )
    .await;
    node.until("talk", ended).await;
    let path = "/containerLogs/default/talk/c?tailLines=2";
    let answer = get(&node, path, "kube-apiserver-kubelet-client", &["system:masters"])
        .await
        .unwrap();
    assert_eq!(answer, (200, "two\nthree\n".into()));
    assert_eq!(
        get(&node, path, "mallory", &["system:authenticated"]).await.unwrap().0,
        403
    );
    assert_eq!(
        get(&node, "/healthz", "root", &["system:masters"]).await.unwrap(),
        (200, "ok".into())
    );
    let (status, pods) = get(&node, "/pods", "root", &["system:masters"]).await.unwrap();
    assert_eq!(status, 200);
    assert!(pods.contains("\"talk\""));
    assert_eq!(
        get(&node, "/containerLogs/default/none/c", "root", &["system:masters"])
            .await
            .unwrap()
            .0,
        404
    );
    let anonymous = TcpStream::connect(node.agent.address().unwrap()).await.unwrap();
    drop(anonymous);
    node.delete("talk").await;
    node.end().await;
}

pub async fn volumes_follow_their_config_map_in_a_running_pod(node: Node) {
    config_map(&node, "settings", json!({"colour": "blue"})).await;
    let mut main = container(
        "c",
        "until busybox grep -q red /config/colour; do busybox usleep 20000; done; echo turned; sleep 1000",
    );
    main["volumeMounts"] = json!([{"name": "c", "mountPath": "/config"}]);
    main["readinessProbe"] =
        json!({"exec": {"command": ["busybox", "grep", "red", "/config/colour"]}, "periodSeconds": 1});
    node.run(
        "watcher",
        json!({"containers": [main], "volumes": [{"name": "c", "configMap": {"name": "settings"}}]}),
    )
    .await;
    let running = |p: &Pod| p.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
    assert!(!is_ready(&*node.until("watcher", running).await));
    let patch = Patch::Merge(json!({"data": {"colour": "red"}}));
    node.client
        .namespaced::<ConfigMap>("default")
        .patch("settings", patch)
        .await
        .unwrap();
    node.ready("watcher").await;
    node.delete("watcher").await;
    node.end().await;
}

pub async fn an_agent_that_is_replaced_disturbs_no_container(mut node: Node) {
    node.run("steady", json!({"containers": [container("c", "echo up; sleep 1000")]}))
        .await;
    node.run("doomed", json!({"containers": [container("c", "sleep 1000")]}))
        .await;
    let before = node.ready("steady").await;
    says(&node, "steady", "c", "up\n").await;
    node.ready("doomed").await;
    let identity = |pod: &Pod| {
        let c = pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].clone();
        (c.container_id, c.restart_count, c.state)
    };
    node.replace_agent().await;
    // The new agent is at work: it ends one pod and leaves the other alone.
    node.delete("doomed").await;
    let after = node.ready("steady").await;
    assert_eq!(identity(&before), identity(&after));
    says(&node, "steady", "c", "up\n").await;
    node.delete("steady").await;
    node.end().await;
}

pub async fn jobs_succeed_and_crashes_are_counted(node: Node) {
    let mut failing = container("c", "echo -n reason > /dev/termination-log; exit 3");
    failing["terminationMessagePolicy"] = json!("FallbackToLogsOnError");
    node.run("fails", json!({"restartPolicy": "Never", "containers": [failing]}))
        .await;
    let pod = node.until("fails", ended).await;
    let state = pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0]
        .state
        .clone()
        .unwrap()
        .terminated
        .unwrap();
    assert_eq!(
        (state.exit_code, state.reason.as_deref(), state.message.as_deref()),
        (3, Some("Error"), Some("reason"))
    );
    node.run("crashes", json!({"containers": [container("c", "echo oops; exit 1")]}))
        .await;
    let waits = |p: &Pod| {
        let waiting = p.status.as_ref().and_then(|s| {
            s.container_statuses.as_ref()?[0]
                .state
                .as_ref()?
                .waiting
                .as_ref()?
                .reason
                .clone()
        });
        waiting.as_deref() == Some("CrashLoopBackOff")
    };
    let pod = node.until("crashes", waits).await;
    assert_eq!(
        pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0].restart_count,
        1
    );
    let mut missing = container("c", "");
    missing["command"] = json!(["/no/such/program"]);
    node.run("missing", json!({"restartPolicy": "Never", "containers": [missing]}))
        .await;
    let pod = node.until("missing", ended).await;
    let state = pod.status.as_ref().unwrap().container_statuses.as_ref().unwrap()[0]
        .state
        .clone()
        .unwrap()
        .terminated
        .unwrap();
    assert_eq!((state.exit_code, state.reason.as_deref()), (128, Some("StartError")));
    for name in ["fails", "crashes", "missing"] {
        node.delete(name).await;
    }
    node.end().await;
}

/// A node-local volume and its claim, bound, as the provisioner and the binder leave them.
async fn bound(node: &Node) -> String {
    let registered = node.client.all::<ApiNode>().get("n1").await.unwrap();
    let root = registered.metadata.annotations.as_ref().unwrap()["coracle.dev/local-volumes"].clone();
    let claims = node.client.namespaced::<PersistentVolumeClaim>("default");
    let claim = json!({"metadata": {"name": "data", "namespace": "default"}, "spec": {"volumeName": "pv-1",
        "accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}});
    let claim = claims.create(&serde_json::from_value(claim).unwrap()).await.unwrap();
    let path = format!("{root}/pv-1");
    let volume = json!({"metadata": {"name": "pv-1", "labels": {"coracle.dev/local-volume": "n1"},
            "annotations": {"coracle.dev/node": "n1"}, "finalizers": ["coracle.dev/local-volume"]},
        "spec": {"capacity": {"storage": "1Gi"}, "accessModes": ["ReadWriteOnce"], "local": {"path": path},
            "persistentVolumeReclaimPolicy": "Delete",
            "claimRef": {"namespace": "default", "name": "data", "uid": claim.metadata.uid},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "kubernetes.io/hostname", "operator": "In", "values": ["n1"]}]}]}}}});
    let volumes = node.client.all::<PersistentVolume>();
    volumes.create(&serde_json::from_value(volume).unwrap()).await.unwrap();
    let phase = |phase: &str| Patch::Merge(json!({"status": {"phase": phase}}));
    volumes.status().patch("pv-1", phase("Bound")).await.unwrap();
    claims.status().patch("data", phase("Bound")).await.unwrap();
    path
}

pub async fn a_claims_data_outlives_its_pods_and_goes_with_the_claim(node: Node) {
    let pod = |script: &str, read_only: bool| {
        let mut container = container("c", script);
        container["volumeMounts"] = json!([{"name": "v", "mountPath": "/data"}]);
        json!({"restartPolicy": "Never", "containers": [container], "securityContext": {"fsGroup": 4242},
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "data", "readOnly": read_only}}]})
    };
    // The pod waits for its claim.
    node.run("writer", pod("echo kept > /data/file; stat -c %g /data/file", false))
        .await;
    node.event("FailedMount").await;
    let path = bound(&node).await;
    node.until("writer", ended).await;
    assert_eq!(logs(&node, "writer", "c").await, "4242\n");
    node.delete("writer").await;
    node.run(
        "reader",
        pod("cat /data/file; touch /data/other 2>/dev/null || echo read only", true),
    )
    .await;
    node.until("reader", ended).await;
    assert_eq!(logs(&node, "reader", "c").await, "kept\nread only\n");
    node.delete("reader").await;
    assert!(std::path::Path::new(&path).join("file").exists());

    let volumes = node.client.all::<PersistentVolume>();
    let mut changes = volumes.watch(&ListOptions::default()).await.unwrap();
    let released = Patch::Merge(json!({"status": {"phase": "Released"}}));
    volumes.status().patch("pv-1", released).await.unwrap();
    volumes.delete("pv-1", &DeleteOptions::default()).await.unwrap();
    let let_go = async {
        while let Some(change) = changes.next().await {
            let held = |v: &PersistentVolume| {
                v.metadata
                    .finalizers
                    .iter()
                    .flatten()
                    .any(|f| f == "coracle.dev/local-volume")
            };
            match change.unwrap() {
                WatchEvent::Deleted(_) => return,
                WatchEvent::Modified(volume) if !held(&volume) => return,
                _ => {}
            }
        }
    };
    tokio::time::timeout(LIMIT, let_go)
        .await
        .expect("the node never lets go");
    assert!(!std::path::Path::new(&path).exists());
    node.end().await;
}
