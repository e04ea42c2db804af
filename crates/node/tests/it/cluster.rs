//! A cluster with one real node, in a directory of its own; nothing of it is left on the machine.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use coracle_client::{Client, DeleteOptions, ListOptions, WatchEvent};
use coracle_clock::Clock;
use coracle_informer::CancellationToken;
use coracle_network::{NetworkOptions, PodNetwork, free_cidr};
use coracle_node::{Agent, AgentOptions, RuntimeNetworking, Serving, Settings};
use coracle_runtime::{Archive, ContainerState, Cri, CriConfig, Engine, EngineConfig, PodRuntime};
use coracle_server::{Identity, PkiDir};
use coracle_testkit::{Options, TestCluster};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod, ServiceAccount};
use serde_json::{Value, json};
use tokio::sync::broadcast::error::RecvError;

use crate::change::on_change;
use crate::containerd::Containerd;

pub const IMAGE: &str = "busybox:test";
/// What takes this long on the busiest machine hangs.
pub const LIMIT: Duration = Duration::from_secs(300);

/// What runs the pods.
#[derive(Clone, Copy, Debug)]
pub enum Runtime {
    Engine,
    /// Over the container runtime interface, with its own network.
    Containerd,
}

pub struct Node {
    pub cluster: TestCluster,
    pub client: Client,
    pub engine: Arc<dyn PodRuntime>,
    /// None where the runtime makes it.
    pub network: Option<Arc<PodNetwork>>,
    containerd: Option<Containerd>,
    pub agent: Agent,
    stop: CancellationToken,
    id: String,
    dir: tempfile::TempDir,
}

impl Node {
    pub async fn start(runtime: Runtime) -> Self {
        // Nothing but the server: pods are bound to the node by their specs.
        let options = Options {
            controllers: false,
            scheduler: false,
            ..Options::default()
        };
        let cluster = TestCluster::with(options).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let archive = dir.path().join("busybox.tar");
        std::fs::write(&archive, busybox()).unwrap();
        let id = dir.path().to_string_lossy().into_owned();
        let (engine, network, containerd) = match runtime {
            Runtime::Engine => {
                let engine = Engine::open(EngineConfig::new(dir.path().join("runtime")))
                    .await
                    .unwrap();
                engine.import_archive(Archive::Path(archive), None).await.unwrap();
                let network = Arc::new(network(dir.path(), &id).await);
                (Arc::new(engine) as Arc<dyn PodRuntime>, Some(network), None)
            }
            Runtime::Containerd => {
                let containerd = Containerd::start();
                containerd.import(&archive);
                (
                    Arc::new(connect(&containerd).await) as Arc<dyn PodRuntime>,
                    None,
                    Some(containerd),
                )
            }
        };
        let stop = CancellationToken::new();
        let agent = agent(
            &cluster,
            dir.path().join("node"),
            &id,
            engine.clone(),
            network.clone(),
            &stop,
        )
        .await;
        let client = cluster.client.clone();
        furnish(&client).await;
        Self {
            cluster,
            client,
            engine,
            network,
            containerd,
            agent,
            stop,
            id,
            dir,
        }
    }

    /// Ends the agent without a word and starts another in its place.
    pub async fn replace_agent(&mut self) {
        self.stop.cancel();
        self.stop = CancellationToken::new();
        let dir = self.dir.path().join("node");
        if let Some(containerd) = &self.containerd {
            self.engine = Arc::new(connect(containerd).await);
        }
        self.agent = agent(
            &self.cluster,
            dir,
            &self.id,
            self.engine.clone(),
            self.network.clone(),
            &self.stop,
        )
        .await;
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("node")
    }

    pub fn pki(&self) -> PkiDir {
        PkiDir::new(self.cluster.kubeconfig().with_file_name("pki"), self.cluster.clock)
    }

    /// A pod bound to the node.
    pub async fn run(&self, name: &str, spec: Value) -> Arc<Pod> {
        let mut merged = json!({"nodeName": self.agent.node_name(), "terminationGracePeriodSeconds": 1});
        merged
            .as_object_mut()
            .unwrap()
            .extend(spec.as_object().unwrap().clone());
        let pod = json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"}, "spec": merged});
        self.client
            .namespaced::<Pod>("default")
            .create(&serde_json::from_value(pod).unwrap())
            .await
            .unwrap()
    }

    /// Waits until the pod is as wanted.
    pub async fn until(&self, name: &str, wanted: impl Fn(&Pod) -> bool) -> Arc<Pod> {
        let options = ListOptions {
            field_selector: format!("metadata.name={name}"),
            ..ListOptions::default()
        };
        let api = self.client.namespaced::<Pod>("default");
        let mut last = None;
        let find = async {
            let mut events = api.watch(&options).await.unwrap();
            while let Some(event) = events.next().await {
                if let WatchEvent::Added(pod) | WatchEvent::Modified(pod) = event.unwrap() {
                    if wanted(&pod) {
                        return pod;
                    }
                    last = Some(pod);
                }
            }
            panic!("the watch ended");
        };
        match tokio::time::timeout(LIMIT, find).await {
            Ok(pod) => pod,
            Err(_) => {
                let events = self.client.namespaced::<Event>("default");
                let told = events.list(&ListOptions::default()).await.unwrap().items;
                let events: Vec<_> = told.iter().map(|e| e.message.as_deref().unwrap_or_default()).collect();
                panic!(
                    "{name} is never so: {:#?}, {events:#?}",
                    last.and_then(|p| p.status.clone())
                )
            }
        }
    }

    pub async fn ready(&self, name: &str) -> Arc<Pod> {
        self.until(name, is_ready).await
    }

    /// Deletes the pod and waits until the API has it no more.
    pub async fn delete(&self, name: &str) {
        let api = self.client.namespaced::<Pod>("default");
        let options = ListOptions {
            field_selector: format!("metadata.name={name}"),
            ..ListOptions::default()
        };
        let mut events = api.watch(&options).await.unwrap();
        api.delete(name, &DeleteOptions::default()).await.unwrap();
        let gone = async {
            while let Some(event) = events.next().await {
                if matches!(event.unwrap(), WatchEvent::Deleted(_)) {
                    return;
                }
            }
        };
        tokio::time::timeout(LIMIT, gone)
            .await
            .expect("the pod is never removed");
    }

    /// Waits until there is nothing of pods any more: one that had ended is cleaned up after its object is gone.
    pub async fn emptied(&self) {
        let mut events = self.engine.events();
        let empty = async {
            while !(self.engine.sandboxes().await.is_empty() && self.engine.containers().await.is_empty()) {
                assert!(!matches!(events.recv().await, Err(RecvError::Closed)));
            }
        };
        tokio::time::timeout(LIMIT, empty)
            .await
            .expect("sandboxes or containers are left");
        let directories: Vec<PathBuf> = ["pods", "logs"].map(|part| self.data_dir().join(part)).into();
        let empty = |directory: &PathBuf| std::fs::read_dir(directory).unwrap().next().is_none();
        let emptied = on_change(&directories, || directories.iter().all(empty));
        tokio::time::timeout(LIMIT, emptied)
            .await
            .expect("a pod's files are left");
    }

    /// What containers that have ended had to say is in their logs from here on.
    pub async fn written(&self) {
        let Some(containerd) = &self.containerd else { return };
        for status in self.engine.containers().await {
            if let (ContainerState::Exited, Some(log)) = (status.state, &status.log_path) {
                containerd.finish_writing(log);
            }
        }
    }

    /// Waits for an event of this reason.
    pub async fn event(&self, reason: &str) {
        let mut events = self
            .client
            .namespaced::<Event>("default")
            .watch(&ListOptions::default())
            .await
            .unwrap();
        let find = async {
            while let Some(event) = events.next().await {
                if let WatchEvent::Added(event) = event.unwrap()
                    && event.reason.as_deref() == Some(reason)
                {
                    return;
                }
            }
        };
        tokio::time::timeout(LIMIT, find)
            .await
            .unwrap_or_else(|_| panic!("no event {reason}"));
    }

    /// Takes everything down, once the pods are deleted, and looks that nothing is left.
    pub async fn end(self) {
        self.emptied().await;
        self.stop.cancel();
        if self.network.is_some() {
            PodNetwork::teardown(&self.id, self.dir.path()).await.unwrap();
        }
        self.cluster.stop().await;
        remove_groups(&cgroup_root(&self.id));
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        assert!(
            !mounts.contains(self.dir.path().to_str().unwrap()),
            "mounts are left: {mounts}"
        );
    }
}

/// What every namespace has: the default service account and the authority's certificate.
pub async fn furnish(client: &Client) {
    let account = json!({"metadata": {"name": "default", "namespace": "default"}});
    client
        .namespaced::<ServiceAccount>("default")
        .create(&serde_json::from_value(account).unwrap())
        .await
        .unwrap();
    let ca =
        json!({"metadata": {"name": "kube-root-ca.crt", "namespace": "default"}, "data": {"ca.crt": "certificate"}});
    client
        .namespaced::<ConfigMap>("default")
        .create(&serde_json::from_value(ca).unwrap())
        .await
        .unwrap();
}

async fn connect(containerd: &Containerd) -> Cri {
    let config = CriConfig {
        socket: containerd.socket(),
        owner: "n1".into(),
        logs: coracle_runtime::LogLimits::default(),
        clock: Clock::system(),
    };
    Cri::open(config).await.unwrap()
}

async fn network(dir: &Path, id: &str) -> PodNetwork {
    let cidr = free_cidr(id, "10.205.0.0/24".parse().unwrap(), &[]).await.unwrap();
    let options = NetworkOptions {
        cluster_id: id.to_owned(),
        pod_cidr: cidr,
        cluster_cidr: cidr,
        data_dir: dir.to_owned(),
    };
    PodNetwork::open(options).await.unwrap()
}

async fn agent(
    cluster: &TestCluster,
    data_dir: PathBuf,
    id: &str,
    engine: Arc<dyn PodRuntime>,
    network: Option<Arc<PodNetwork>>,
    stop: &CancellationToken,
) -> Agent {
    let pki = PkiDir::new(cluster.kubeconfig().with_file_name("pki"), cluster.clock);
    let serving = pki
        .serving("kubelet", "system:node:n1", &["n1".into()], &[[127, 0, 0, 1].into()])
        .unwrap();
    let options = AgentOptions {
        client: cluster.client_as("system:node:n1", &["system:nodes", "system:masters"]),
        runtime: engine,
        network: match &network {
            Some(network) => network.clone(),
            None => Arc::new(RuntimeNetworking),
        },
        clock: cluster.clock,
        node_name: "n1".into(),
        data_dir,
        node_ip: Some(match &network {
            Some(network) => network.gateway().into(),
            None => coracle_node::own_address(),
        }),
        pod_cidr: network.as_ref().map(|n| n.pod_cidr().to_string()),
        labels: BTreeMap::new(),
        taints: Vec::new(),
        cluster_dns: vec!["10.96.0.10".into()],
        cluster_domain: "cluster.local".into(),
        cgroup_root: cgroup_root(id),
        settings: Settings::default(),
        serving: Some(Serving {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            certificate: serving.certificate.into_bytes(),
            key: serving.key.into_bytes(),
            client_ca: pki.authority().unwrap().certificate().as_bytes().to_vec(),
            self_signed: false,
            renewals: None,
        }),
        shutdown: stop.clone(),
    };
    Agent::start(options).await.unwrap()
}

fn cgroup_root(id: &str) -> String {
    format!("/coracle-test{}", id.replace(['/', '.'], "-"))
}

/// The agent leaves the groups above its pods' to the next one.
fn remove_groups(root: &str) {
    let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
    for hierarchy in mountinfo.lines().filter(|line| line.contains(" - cgroup")) {
        let mount = hierarchy.split(' ').nth(4).unwrap();
        remove_tree(Path::new(&format!("{mount}{root}")));
    }
}

fn remove_tree(group: &Path) {
    for entry in std::fs::read_dir(group).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_tree(&entry.path());
        }
    }
    // Not every hierarchy has it.
    let _ = std::fs::remove_dir(group);
}

pub fn is_ready(pod: &Pod) -> bool {
    let conditions = pod.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.into_iter().any(|c| c.type_ == "Ready" && c.status == "True")
}

/// A certificate for calling the agent.
pub fn identity(name: &str, groups: &[&str]) -> Identity {
    Identity {
        user: name.into(),
        groups: groups.iter().map(|g| (*g).to_owned()).collect(),
    }
}

/// An image archive with the host's static busybox.
pub fn busybox() -> Vec<u8> {
    let mut layer = tar::Builder::new(Vec::new());
    let mut entry = |kind, mode, name: &str, link: Option<&str>, bytes: &[u8]| {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_size(bytes.len() as u64);
        header.set_mtime(0);
        header.set_uid(0);
        header.set_gid(0);
        match link {
            Some(link) => layer.append_link(&mut header, name, link).unwrap(),
            None => layer.append_data(&mut header, name, bytes).unwrap(),
        }
    };
    for (dir, mode) in [
        ("bin/", 0o755),
        ("etc/", 0o755),
        ("tmp/", 0o1777),
        ("proc/", 0o555),
        ("sys/", 0o555),
        ("dev/", 0o755),
    ] {
        entry(tar::EntryType::Directory, mode, dir, None, &[]);
    }
    entry(
        tar::EntryType::Regular,
        0o755,
        "bin/busybox",
        None,
        &std::fs::read("/usr/bin/busybox").unwrap(),
    );
    entry(
        tar::EntryType::Regular,
        0o644,
        "etc/passwd",
        None,
        b"root:x:0:0:root:/:/bin/sh\n",
    );
    for name in [
        "sh", "cat", "sleep", "echo", "ls", "id", "nc", "hostname", "env", "true", "touch", "readlink", "stat", "grep",
        "mkdir", "df",
    ] {
        entry(
            tar::EntryType::Symlink,
            0o777,
            &format!("bin/{name}"),
            Some("busybox"),
            &[],
        );
    }
    let layer = layer.into_inner().unwrap();
    let config = json!({"architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": {"Cmd": ["sh"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [digest(&layer)]}});
    let config = config.to_string().into_bytes();
    let manifest = json!([{"Config": "config.json", "RepoTags": [IMAGE], "Layers": ["layer.tar"]}]).to_string();
    let mut archive = tar::Builder::new(Vec::new());
    for (name, bytes) in [
        ("config.json", config.as_slice()),
        ("layer.tar", &layer),
        ("manifest.json", manifest.as_bytes()),
    ] {
        let mut header = tar::Header::new_gnu();
        header.set_mode(0o644);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, bytes).unwrap();
    }
    archive.into_inner().unwrap()
}

fn digest(bytes: &[u8]) -> String {
    use sha2::Digest;
    let digest = sha2::Sha256::digest(bytes);
    digest
        .iter()
        .fold("sha256:".to_owned(), |text, byte| format!("{text}{byte:02x}"))
}
