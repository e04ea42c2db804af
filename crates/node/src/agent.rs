//! [`Agent`]: the node agent as a whole. It joins the parts and starts them in order; what they do is theirs.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use coracle_client::event::{EventRecorder, EventType};
use coracle_client::{Client, Error as ClientError};
use coracle_clock::Clock;
use coracle_informer::{CancellationToken, InformerFactory, InformerOptions};
use coracle_runtime::PodRuntime;
use k8s_openapi::api::core::v1::{Node, Pod, Service, Taint};
use parking_lot::{Mutex, RwLock};

use crate::allocation::{Allocations, Capacity};
use crate::client_objects::ClientObjects;
use crate::eviction::Evictor;
use crate::image_gc::ImageCollector;
use crate::machine::{Machine, own_address};
use crate::node_object::{self, Registration};
use crate::node_state::NodeState;
use crate::patience::Patient;
use crate::pod::context::{Context, PodNetworking};
use crate::pod::downward::NodeFacts;
use crate::pod::files::Dns;
use crate::pod::users::Users;
use crate::pods::Pods;
use crate::registration::Registrar;
use crate::server::{self, Api, Serving};
use crate::settings::Settings;
use crate::stats::Sampler;
use crate::user_ids::UserIds;
use crate::{local_volumes, mirror, node_shutdown, static_pods};

/// What an agent is started with.
pub struct AgentOptions {
    /// Allowed what a node is allowed: its identity is `system:node:<name>` in the group `system:nodes`.
    pub client: Client,
    pub runtime: Arc<dyn PodRuntime>,
    pub network: Arc<dyn PodNetworking>,
    pub clock: Clock,
    /// Empty: the machine's host name.
    pub node_name: String,
    /// Where pods, logs and addresses are kept.
    pub data_dir: PathBuf,
    /// The node's own address; found by the default route when absent.
    pub node_ip: Option<IpAddr>,
    /// The node's share of the pod range, written into a Node that this agent creates.
    pub pod_cidr: Option<String>,
    pub labels: BTreeMap<String, String>,
    pub taints: Vec<Taint>,
    /// Addresses of the cluster's DNS service; none when there is none.
    pub cluster_dns: Vec<String>,
    /// `cluster.local`.
    pub cluster_domain: String,
    /// The cgroup that holds all pods; clusters on one machine have different ones.
    pub cgroup_root: String,
    pub settings: Settings,
    /// The agent's own API; absent, it has none.
    pub serving: Option<Serving>,
    pub shutdown: CancellationToken,
}

/// Why an agent did not start.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("create {path}; the data directory must be writable")]
    Directory {
        path: PathBuf,
        #[source]
        source: std::io::Error,
    },
    #[error("register node {name}")]
    Register {
        name: String,
        #[source]
        source: Box<ClientError>,
    },
    #[error("node {name} was stopped before it could be registered")]
    Stopped { name: String },
    #[error("give pods users of their own: {0}; see docs/security.md")]
    UserIds(String),
    #[error("serve the node's API")]
    Serve(#[source] server::Error),
}

/// A running agent. It ends with the shutdown token it was given; its pods run on.
pub struct Agent {
    name: String,
    address: Option<SocketAddr>,
    pods: Pods,
}

impl Agent {
    /// Takes up what runs here and the static pods, registers the node (as soon as the API server can be reached), takes
    /// up its pods and serves its API. Returns when the node is Ready.
    pub async fn start(options: AgentOptions) -> Result<Self, Error> {
        for part in ["pods", "logs", "seccomp"] {
            let path = options.data_dir.join(part);
            std::fs::create_dir_all(&path).map_err(|source| Error::Directory { path, source })?;
        }
        let (per_pod, most_pods) = (options.settings.ids_per_pod, options.settings.max_pods);
        let user_ids = UserIds::of_host(Path::new("/"), per_pod, most_pods).map_err(Error::UserIds)?;
        let machine = Machine::read(&options.data_dir);
        let name = if options.node_name.is_empty() {
            machine.hostname.clone()
        } else {
            options.node_name.clone()
        };
        let node_ip = options.node_ip.unwrap_or_else(own_address).to_string();
        let listener = match &options.serving {
            Some(serving) => Some(server::bind(serving).await.map_err(Error::Serve)?),
            None => None,
        };
        let address = listener.as_ref().and_then(|l| l.address());
        let published = options.serving.as_ref().map(Serving::published);
        let published = published.transpose().map_err(Error::Serve)?.flatten();
        let identity = options.runtime.identity();
        let registration = Registration {
            name: name.clone(),
            labels: options.labels,
            annotations: published
                .map(|fingerprint| (node_object::SERVING_CERTIFICATE.to_owned(), fingerprint))
                .into_iter()
                .collect(),
            taints: options
                .taints
                .into_iter()
                .chain(options.settings.taints.clone())
                .collect(),
            abilities: options.runtime.abilities(),
            addresses: vec![node_ip.clone()],
            pod_cidr: options.pod_cidr,
            port: address.map_or(10250, |a| a.port()),
            pods: options.settings.max_pods,
            runtime: format!("{}://{}", identity.name, identity.version),
            volumes: local_volumes::directory(&options.data_dir)
                .to_string_lossy()
                .into_owned(),
        };
        let facts = NodeFacts {
            name: name.clone(),
            host_ips: vec![node_ip],
            allocatable: node_object::allocatable(&registration, &machine),
        };
        let (clock, shutdown, client) = (options.clock, options.shutdown, options.client.named("kubelet"));
        let informers = InformerFactory::new(client.clone(), clock, shutdown.clone());
        let services = informers.informer::<Service>();
        let own_pods = informers.informer_of::<Pod>(InformerOptions {
            field_selector: format!("spec.nodeName={name}"),
            ..InformerOptions::default()
        });
        let own_node = informers.informer_of::<Node>(InformerOptions {
            field_selector: format!("metadata.name={name}"),
            ..InformerOptions::default()
        });
        let events = EventRecorder::start(&client, "kubelet", Some(&name), clock, shutdown.clone());
        let objects = ClientObjects::new(client.clone(), events.clone(), services.lister(), clock, &shutdown);
        let limit = options.settings.runtime_request_timeout;
        let patient = Patient::new(options.runtime, clock, limit);
        let health = patient.health();
        let runtime: Arc<dyn PodRuntime> = Arc::new(patient);
        let cx = Arc::new(Context {
            runtime: runtime.clone(),
            network: options.network,
            objects: Arc::new(objects),
            clock,
            data_dir: options.data_dir.clone(),
            cgroup_root: options.cgroup_root,
            hostname: name.clone(),
            dns: Dns {
                servers: options.cluster_dns,
                domain: options.cluster_domain,
                host_resolv_conf: host_resolv_conf(),
            },
            memory_capacity: i64::try_from(machine.memory_bytes).unwrap_or(i64::MAX),
            allocations: Allocations::new(Capacity::of(&facts.allocatable)),
            node: RwLock::new(Arc::new(facts)),
            users: Users::new(user_ids),
            settings: options.settings,
            state: NodeState::default(),
        });
        let (seen, recorder) = (cx.clone(), events.clone());
        own_node.add_handler(move |change| {
            let node = change.object();
            let before = seen.state.object.send_replace(Some(node.clone()));
            let cordoned = |node: &Node| node.spec.as_ref().is_some_and(|s| s.unschedulable == Some(true));
            if before.is_some_and(|before| cordoned(&before)) != cordoned(node) {
                let reason = if cordoned(node) {
                    "NodeNotSchedulable"
                } else {
                    "NodeSchedulable"
                };
                let name = node.metadata.name.as_deref().unwrap_or_default();
                let text = format!("Node {name} status is now: {reason}");
                recorder.event(&**node, EventType::Normal, reason, text);
            }
        });
        // What runs already, and static pods, do not wait for an API server.
        let pods = Pods::new(cx.clone(), shutdown.clone()).await;
        pods.listen_to_runtime();
        if let Some(path) = &cx.settings.static_pods {
            let mut source = static_pods::Source::new(path, &name);
            pods.set_static(source.read());
            let follow = source.follow(pods.clone(), clock);
            tokio::spawn(shutdown.clone().run_until_cancelled_owned(follow));
        }
        let volume_client = client.clone();
        let volumes = local_volumes::directory(&options.data_dir);
        let registrar = Registrar {
            client: client.clone(),
            events: events.clone(),
            clock,
            runtime: runtime.clone(),
            registration,
            machine,
            cx: cx.clone(),
            health,
            images: Mutex::default(),
        };
        let registered = tokio::select! {
            registered = registrar.register_when_reached() => registered,
            () = shutdown.cancelled() => return Err(Error::Stopped { name }),
        };
        let node = registered.map_err(|source| Error::Register {
            name: name.clone(),
            source: Box::new(source),
        })?;
        events.event(&*node, EventType::Normal, "Starting", "Starting kubelet.");
        let labels = node.metadata.labels.as_ref();
        tokio::spawn(local_volumes::run(
            volume_client,
            events.clone(),
            informers,
            labels
                .and_then(|l| l.get("kubernetes.io/hostname"))
                .cloned()
                .unwrap_or_default(),
            volumes,
            clock,
            shutdown.clone(),
        ));
        let sampler = Arc::new(Sampler::new(cx.clone()));
        let evictor = Evictor {
            pods: pods.clone(),
            sampler: sampler.clone(),
            images: ImageCollector::new(runtime, clock, cx.settings.images),
            events,
            node: node.clone(),
        };
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(evictor.run()));
        let keep = mirror::keep(pods.clone(), cx.state.uid.subscribe());
        tokio::spawn(shutdown.clone().run_until_cancelled_owned(keep));
        tokio::spawn(registrar.keep(node, shutdown.clone()));
        let follower = pods.clone();
        let followed = own_pods.clone();
        let stop = shutdown.clone();
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            // Pods see the services that were there before them, and are judged by the node as it is.
            services.synced().await;
            own_node.synced().await;
            follower.follow(&followed).await;
        }));
        if let Some(listener) = listener {
            tokio::spawn(listener.serve(Api::new(cx, sampler, own_pods.lister(), client, shutdown)));
        }
        Ok(Self { name, address, pods })
    }

    pub fn node_name(&self) -> &str {
        &self.name
    }

    /// Where the agent's API listens.
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// The machine goes down: ends the pods as the settings say. Returns when they have ended, or their time is over.
    pub async fn end_pods_for_shutdown(&self) {
        node_shutdown::end_pods(&self.pods).await;
    }

    /// How many pods the agent takes care of now.
    pub fn pod_count(&self) -> usize {
        self.pods.len()
    }
}

/// The host's DNS configuration; where a local stub resolver stands in it, the one behind the stub.
fn host_resolv_conf() -> String {
    let own = std::fs::read_to_string("/etc/resolv.conf").unwrap_or_default();
    if own.lines().any(|l| l.trim() == "nameserver 127.0.0.53") {
        return std::fs::read_to_string("/run/systemd/resolve/resolv.conf").unwrap_or(own);
    }
    own
}
