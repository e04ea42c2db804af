//! What can be asked of the binary: subcommands, flags and their help.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

/// Kubernetes in one binary, small enough to carry.
#[derive(Debug, Parser)]
#[command(name = "coracle", version, max_term_width = 100, arg_required_else_help = true)]
#[command(after_help = "Start with:  coracle up && kubectl get nodes")]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a cluster on this machine, in the background; returns when it is ready
    Up(Up),
    /// Stop the cluster and its containers; its objects are kept unless --delete is given
    Down(Down),
    /// Show whether the cluster runs, where, and how it fares
    Status(Status),
    /// Run the server in the foreground: API, controllers, scheduler and (unless --no-node) a node
    Server(Server),
    /// Run a node in the foreground that joins the server of a kubeconfig
    Agent(Agent),
    /// Run fake nodes alone, against any Kubernetes API server: pods on them run without containers
    FakeNode(FakeNode),
    /// Run the controllers alone, against any Kubernetes API server
    ControllerManager(ControllerManager),
    /// Run the scheduler alone, against any Kubernetes API server
    Scheduler(SchedulerArgs),
    /// Work with the container images of the node on this machine
    Image(Image),
    /// Save, check and restore snapshots of the cluster's objects
    Snapshot(Snapshot),
    /// Work with where objects are kept
    Store(StoreArgs),
    /// Create or update objects from files
    Apply(Apply),
    /// Show objects
    Get(Get),
    /// Delete objects
    Delete(Delete),
    /// Show a container's log
    Logs(Logs),
    /// Wait for a condition of an object
    Wait(Wait),
    /// Follow or undo a Deployment's rollout
    Rollout(Rollout),
}

/// Which cluster on this machine.
#[derive(Clone, Debug, Args)]
pub struct Place {
    /// Directory that holds everything of the cluster
    /// [default: /var/lib/coracle for root, otherwise ~/.local/share/coracle]
    #[arg(long, env = "CORACLE_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub struct Serving {
    /// Port of the API server on all the addresses it listens on; 0 takes a free one
    #[arg(long, default_value_t = 6443)]
    pub port: u16,
    /// Address the API server listens on
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub bind_address: IpAddr,
    /// Run no node: the API server and the controllers alone, for tests of operators (needs no root)
    #[arg(long)]
    pub no_node: bool,
    /// Name of the node [default: this machine's host name]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Addresses of pods; another range is chosen by itself when this one is in use on this machine
    #[arg(long, default_value = "10.42.0.0/24", value_name = "CIDR")]
    pub pod_cidr: String,
    /// Addresses of services
    #[arg(long, default_value = "10.96.0.0/16", value_name = "CIDR")]
    pub service_cidr: String,
    /// An OCI runtime to create containers with instead of the built-in one: runc, crun
    #[arg(long, value_name = "PATH")]
    pub oci_runtime: Option<PathBuf>,
    /// Admission plugins to switch on besides the default ones, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub enable_admission_plugins: Vec<String>,
    /// Admission plugins to switch off, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "NAMES")]
    pub disable_admission_plugins: Vec<String>,
    /// What admission plugins are told: an AdmissionConfiguration
    #[arg(long, value_name = "FILE")]
    pub admission_control_config_file: Option<PathBuf>,
    /// Tokens that the API server accepts: lines of token,user,uid,"group,group"
    #[arg(long, value_name = "FILE")]
    pub token_auth_file: Option<PathBuf>,
    #[command(flatten)]
    pub store: StoreFlags,
    /// Take a snapshot of the embedded store this often when something has changed; 0 takes none
    #[arg(long, default_value = "12h", value_parser = seconds, value_name = "TIME")]
    pub snapshot_every: Duration,
    /// How many of those snapshots are kept
    #[arg(long, default_value_t = 5, value_name = "N")]
    pub snapshot_keep: usize,
    #[command(flatten)]
    pub node: NodeFlags,
    #[command(flatten)]
    pub fake: FakeNodes,
    /// Profiles and plugins of the scheduler: a KubeSchedulerConfiguration
    #[arg(long, value_name = "FILE")]
    pub scheduler_config: Option<PathBuf>,
    /// What to log: error, warn, info, debug, trace, or a filter as of RUST_LOG
    #[arg(long, default_value = "info", value_name = "FILTER")]
    pub log: String,
}

/// Where objects are kept.
#[derive(Clone, Debug, Default, Args)]
pub struct StoreFlags {
    /// Keep objects in etcd at these URLs, separated by commas, instead of in the data directory
    #[arg(long, value_delimiter = ',', value_name = "URL")]
    pub store: Vec<String>,
    /// Certificate of the authority that signed etcd's, for https
    #[arg(long, value_name = "FILE")]
    pub store_ca: Option<PathBuf>,
    /// Certificate to show to etcd
    #[arg(long, value_name = "FILE", requires = "store_key")]
    pub store_cert: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, value_name = "FILE", requires = "store_cert")]
    pub store_key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Snapshot {
    #[command(flatten)]
    pub place: Place,
    #[command(subcommand)]
    pub verb: SnapshotVerb,
}

#[derive(Debug, Subcommand)]
pub enum SnapshotVerb {
    /// Write all objects, as they are at one moment, to a file; the cluster may run
    Save { file: PathBuf },
    /// Read a snapshot through and say what it holds
    Verify { file: PathBuf },
    /// Make the stopped cluster's objects those of a snapshot; what was there is kept beside
    Restore { file: PathBuf },
    /// List the snapshots that the server took by itself
    Ls,
}

#[derive(Debug, Args)]
pub struct StoreArgs {
    #[command(subcommand)]
    pub verb: StoreVerb,
}

#[derive(Debug, Subcommand)]
pub enum StoreVerb {
    /// Copy all objects of a stopped cluster from one store to another, empty one
    Copy {
        /// A cluster's data directory, or URLs of etcd
        #[arg(long, value_name = "DIR|URLS")]
        from: String,
        /// A cluster's data directory without a store, or URLs of an etcd without objects
        #[arg(long, value_name = "DIR|URLS")]
        to: String,
        #[command(flatten)]
        tls: StoreTls,
    },
}

/// How to reach an etcd that is a side of a copy.
#[derive(Clone, Debug, Default, Args)]
pub struct StoreTls {
    /// Certificate of the authority that signed etcd's, for https
    #[arg(long, value_name = "FILE")]
    pub ca: Option<PathBuf>,
    /// Certificate to show to etcd
    #[arg(long, value_name = "FILE", requires = "key")]
    pub cert: Option<PathBuf>,
    /// Key of that certificate
    #[arg(long, value_name = "FILE", requires = "cert")]
    pub key: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Up {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub serving: Serving,
    /// Write the cluster's context to this file alone, instead of merging it into the default kubeconfig
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Name of the context, cluster and user in the kubeconfig
    #[arg(long, default_value = "coracle", value_name = "NAME")]
    pub name: String,
    /// Give up when the cluster is not ready after this many seconds
    #[arg(long, default_value = "60", value_parser = seconds, value_name = "SECONDS")]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub struct Down {
    #[command(flatten)]
    pub place: Place,
    /// Delete the cluster: its objects, images, volumes and its context in the kubeconfig
    #[arg(long)]
    pub delete: bool,
}

#[derive(Debug, Args)]
pub struct Status {
    #[command(flatten)]
    pub place: Place,
}

#[derive(Debug, Args)]
pub struct Server {
    #[command(flatten)]
    pub place: Place,
    #[command(flatten)]
    pub serving: Serving,
    /// Leave the terminal's session and tell progress on standard output (what `up` starts)
    #[arg(long, hide = true)]
    pub detached: bool,
}

#[derive(Debug, Args)]
pub struct Agent {
    #[command(flatten)]
    pub place: Place,
    /// How to reach the server, with the rights of a node
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: PathBuf,
    /// Name of the node [default: this machine's host name]
    #[arg(long, value_name = "NAME")]
    pub node_name: Option<String>,
    /// Addresses of this node's pods; must differ from other nodes'
    #[arg(long, value_name = "CIDR")]
    pub pod_cidr: Option<String>,
    /// Address and port of the agent's own API (logs, exec), by which the server reaches it; port 0 takes a free one
    #[arg(long, default_value = "0.0.0.0:0", value_name = "IP:PORT")]
    pub listen: std::net::SocketAddr,
    /// An OCI runtime to create containers with instead of the built-in one: runc, crun
    #[arg(long, value_name = "PATH")]
    pub oci_runtime: Option<PathBuf>,
    #[command(flatten)]
    pub node: NodeFlags,
    /// What to log
    #[arg(long, default_value = "info", value_name = "FILTER")]
    pub log: String,
}

/// How a node looks after itself.
#[derive(Clone, Debug, Default, Args)]
pub struct NodeFlags {
    /// Eviction, image garbage collection, node shutdown and more: a KubeletConfiguration (see docs/node.md)
    #[arg(long, value_name = "FILE")]
    pub kubelet_config: Option<PathBuf>,
    /// Run the pods whose manifests are in this directory, with or without an API server
    #[arg(long, value_name = "DIR")]
    pub pod_manifest_path: Option<PathBuf>,
    /// Run pods by the container runtime that serves the CRI at this socket (containerd, CRI-O), with its images and its
    /// pod network, instead of by the built-in engine
    #[arg(long, value_name = "PATH", conflicts_with = "oci_runtime")]
    pub cri_socket: Option<PathBuf>,
    /// A handler that RuntimeClasses may name, and the OCI runtime that it is (gvisor=/usr/local/bin/runsc); may be
    /// given several times
    #[arg(long, value_name = "NAME=PATH", value_parser = pair, conflicts_with = "cri_socket")]
    pub runtime_handler: Vec<(String, String)>,
    /// Labels to register the node with, separated by commas
    #[arg(long, value_delimiter = ',', value_name = "KEY=VALUE", value_parser = pair)]
    pub node_labels: Vec<(String, String)>,
}

/// `name=value`.
fn pair(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("write it like NAME=VALUE".to_owned()),
    }
}

/// Nodes on which pods run without containers.
#[derive(Clone, Debug, Args)]
pub struct FakeNodes {
    /// Add so many fake nodes: pods on them live as --fake-stages says, and run no containers
    #[arg(long, default_value_t = 0, value_name = "COUNT")]
    pub fake_nodes: u32,
    /// What fake nodes look like: a Node in YAML with labels, taints, capacity, allocatable, images
    #[arg(long, value_name = "FILE")]
    pub node_template: Option<PathBuf>,
    /// How fake nodes and their pods live: stages, delays, failures (see docs/fake-nodes.md)
    #[arg(long, value_name = "FILE")]
    pub fake_stages: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct FakeNode {
    /// How to reach the API server [default: $KUBECONFIG, ~/.kube/config, or the pod's service account]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// How many nodes
    #[arg(long, default_value_t = 1, value_name = "COUNT")]
    pub nodes: u32,
    /// Names the nodes: NAME-0, NAME-1 and so on
    #[arg(long, default_value = "fake", value_name = "NAME")]
    pub name: String,
    /// What the nodes look like: a Node in YAML with labels, taints, capacity, allocatable, images
    #[arg(long, value_name = "FILE")]
    pub node_template: Option<PathBuf>,
    /// How the nodes and their pods live: stages, delays, failures (see docs/fake-nodes.md)
    #[arg(long, value_name = "FILE")]
    pub fake_stages: Option<PathBuf>,
    /// Address and port of the nodes' own API (logs), which the API server must be able to reach
    #[arg(long, default_value = "127.0.0.1:0", value_name = "IP:PORT")]
    pub listen: std::net::SocketAddr,
    /// Serving certificate and key, PEM [default: signed by itself]
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub tls_private_key_file: Option<PathBuf>,
    /// What to log
    #[arg(long, default_value = "info", value_name = "FILTER")]
    pub log: String,
}

#[derive(Debug, Args)]
pub struct Component {
    /// How to reach the API server [default: $KUBECONFIG, ~/.kube/config, or the pod's service account]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Run at once, without being elected by a Lease first
    #[arg(long)]
    pub no_leader_election: bool,
    /// How long a leader may be silent before another takes over
    #[arg(long, default_value = "15", value_parser = seconds, value_name = "SECONDS")]
    pub leader_elect_lease_duration: Duration,
    /// How long a leader tries to renew its lease before it gives up; less than the lease's duration
    #[arg(long, default_value = "10", value_parser = seconds, value_name = "SECONDS")]
    pub leader_elect_renew_deadline: Duration,
    /// How long to wait between tries to take or renew the lease
    #[arg(long, default_value = "2", value_parser = seconds, value_name = "SECONDS")]
    pub leader_elect_retry_period: Duration,
    #[command(flatten)]
    pub endpoint: Endpoint,
    /// What to log
    #[arg(long, default_value = "info", value_name = "FILTER")]
    pub log: String,
}

/// Where a component in a process of its own serves metrics and health.
#[derive(Debug, Args)]
pub struct Endpoint {
    /// Address to serve /metrics, /healthz, /livez and /readyz at
    #[arg(long, default_value = "127.0.0.1", value_name = "IP")]
    pub bind_address: std::net::IpAddr,
    /// Port for them, by HTTPS; 0 for none [default: upstream's, 10259 for the scheduler, 10257 for the controllers]
    #[arg(long, value_name = "PORT")]
    pub secure_port: Option<u16>,
    /// Serving certificate and key, PEM [default: signed by itself]
    #[arg(long, value_name = "FILE", requires = "tls_private_key_file")]
    pub tls_cert_file: Option<PathBuf>,
    #[arg(long, value_name = "FILE", requires = "tls_cert_file")]
    pub tls_private_key_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct ControllerManager {
    #[command(flatten)]
    pub component: Component,
    /// Which to run: names, `*` for all, `-name` to leave one out, separated by commas
    #[arg(
        long,
        default_value = "*",
        value_delimiter = ',',
        allow_hyphen_values = true,
        value_name = "LIST"
    )]
    pub controllers: Vec<String>,
    /// The cluster's CA certificate in PEM, to sign certificate requests with
    #[arg(long, requires = "cluster_signing_key_file", value_name = "FILE")]
    pub cluster_signing_cert_file: Option<PathBuf>,
    /// The CA's private key in PEM; without it certificate requests are not signed
    #[arg(long, requires = "cluster_signing_cert_file", value_name = "FILE")]
    pub cluster_signing_key_file: Option<PathBuf>,
    /// The longest life of a signed certificate, in seconds [default: a year]
    #[arg(long, value_parser = seconds, value_name = "SECONDS")]
    pub cluster_signing_duration: Option<Duration>,
    /// The private key in PEM that signs service account tokens; without it token Secrets are not filled
    #[arg(long, value_name = "FILE")]
    pub service_account_private_key_file: Option<PathBuf>,
    /// The CA in PEM that pods verify the API server by [default: the connection's]
    #[arg(long, value_name = "FILE")]
    pub root_ca_file: Option<PathBuf>,
}

#[derive(Debug, Args)]
pub struct SchedulerArgs {
    /// How to reach the API server [default: the configuration's, $KUBECONFIG, ~/.kube/config, or the pod's service account]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// A KubeSchedulerConfiguration: profiles, plugins and their arguments, leader election
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Run at once, without being elected by a Lease first
    #[arg(long)]
    pub no_leader_election: bool,
    #[command(flatten)]
    pub endpoint: Endpoint,
    /// What to log
    #[arg(long, default_value = "info", value_name = "FILTER")]
    pub log: String,
}

#[derive(Debug, Args)]
pub struct Image {
    #[command(flatten)]
    pub place: Place,
    #[command(subcommand)]
    pub verb: ImageVerb,
}

#[derive(Debug, Subcommand)]
pub enum ImageVerb {
    /// Import images from an archive (docker save, or an OCI archive)
    Import { archive: PathBuf },
    /// Export images to an archive that is both, for `docker load`, `ctr images import` and `coracle image import`
    Export {
        #[arg(required = true)]
        images: Vec<String>,
        /// The archive
        #[arg(long, short, value_name = "FILE")]
        output: PathBuf,
    },
    /// Pull an image from its registry
    Pull { image: String },
    /// List images
    Ls,
    /// Remove an image
    Rm { image: String },
}

/// Which cluster to talk to.
#[derive(Clone, Debug, Args)]
pub struct Target {
    /// [default: $KUBECONFIG or ~/.kube/config]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,
    /// Namespace [default: the context's]
    #[arg(long, short)]
    pub namespace: Option<String>,
}

#[derive(Debug, Args)]
pub struct Apply {
    #[command(flatten)]
    pub target: Target,
    /// YAML or JSON; `-` reads standard input; may be given several times
    #[arg(long, short, required = true, value_name = "FILE")]
    pub filename: Vec<PathBuf>,
}

#[derive(Debug, Args)]
pub struct Get {
    #[command(flatten)]
    pub target: Target,
    /// Resource, as in `pods`, `deploy/web` or `pod web-1`
    #[arg(required = true)]
    pub what: Vec<String>,
    /// In all namespaces
    #[arg(long, short = 'A')]
    pub all_namespaces: bool,
    /// Only objects with these labels
    #[arg(long, short = 'l', default_value = "")]
    pub selector: String,
    /// `wide`, `json`, `yaml` or `name` instead of a table
    #[arg(long, short)]
    pub output: Option<String>,
    /// Go on showing changes
    #[arg(long, short)]
    pub watch: bool,
}

#[derive(Debug, Args)]
pub struct Delete {
    #[command(flatten)]
    pub target: Target,
    /// Resource and names, as in `deploy/web` or `pod web-1`
    pub what: Vec<String>,
    /// Delete the objects of this file
    #[arg(long, short, value_name = "FILE")]
    pub filename: Vec<PathBuf>,
    /// Only objects with these labels
    #[arg(long, short = 'l', default_value = "")]
    pub selector: String,
    /// background, foreground or orphan
    #[arg(long, default_value = "background")]
    pub cascade: String,
    /// Return at once instead of waiting until the objects are gone
    #[arg(long)]
    pub no_wait: bool,
}

#[derive(Debug, Args)]
pub struct Logs {
    #[command(flatten)]
    pub target: Target,
    /// Pod, or deploy/NAME for one of its pods
    pub pod: String,
    /// Container [default: the first]
    #[arg(long, short)]
    pub container: Option<String>,
    /// Go on as lines are written
    #[arg(long, short)]
    pub follow: bool,
    /// The container's run before this one
    #[arg(long, short)]
    pub previous: bool,
    /// This many lines from the end
    #[arg(long)]
    pub tail: Option<u64>,
}

#[derive(Debug, Args)]
pub struct Wait {
    #[command(flatten)]
    pub target: Target,
    /// Resource, as in `deploy/web` or `pod/web-1`
    pub what: String,
    /// `condition=NAME[=VALUE]`, `delete`, or `create`
    #[arg(long = "for", value_name = "WHAT")]
    pub condition: String,
    /// Give up after this many seconds
    #[arg(long, default_value = "30", value_parser = seconds, value_name = "SECONDS")]
    pub timeout: Duration,
}

#[derive(Debug, Args)]
pub struct Rollout {
    #[command(flatten)]
    pub target: Target,
    #[command(subcommand)]
    pub verb: RolloutVerb,
}

#[derive(Debug, Subcommand)]
pub enum RolloutVerb {
    /// Follow a rollout to its end
    Status { deployment: String },
    /// Go back to the revision before, or to the one given
    Undo {
        deployment: String,
        #[arg(long)]
        to_revision: Option<i64>,
    },
}

/// `30`, `30s`, `5m`.
fn seconds(text: &str) -> Result<Duration, String> {
    let (digits, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let factor = match unit {
        "" | "s" => 1,
        "m" => 60,
        "h" => 3600,
        other => return Err(format!("unknown unit {other:?}; use s, m or h")),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| format!("{text:?} is not a number of seconds"))?;
    number
        .checked_mul(factor)
        .map(Duration::from_secs)
        .ok_or_else(|| format!("{text:?} is too long"))
}
