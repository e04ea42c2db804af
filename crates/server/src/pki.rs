//! The cluster's certificates: a CA, what the server shows, and what each component shows to it. Made at the first start,
//! reused while they are good, renewed when a third of their life is left. Keys are readable by their owner only.

mod issue;
mod kubeconfig;
pub(crate) mod renewal;
mod signing;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use coracle_clock::{Clock, Timestamp};

pub use issue::{Authority, Identity, Pair, PkiError};
pub use kubeconfig::kubeconfig;
pub(crate) use signing::SigningKeys;

use crate::authz::SUPERUSERS;
use crate::options::ServerOptions;

/// What a running server needs of the directory.
pub(crate) struct Pki {
    pub ca: Authority,
    pub serving: Pair,
    /// Shown to nodes' agents.
    pub kubelet_client: Pair,
    pub admin: Pair,
    /// For service account tokens.
    pub token_keys: SigningKeys,
}

impl Pki {
    /// When the first of the certificates is due for renewal.
    pub fn renewal_time(&self) -> Option<Timestamp> {
        [
            self.ca.certificate(),
            &self.serving.certificate,
            &self.kubelet_client.certificate,
            &self.admin.certificate,
        ]
        .iter()
        .filter_map(|pem| issue::renewal_time(pem))
        .min()
    }
}

/// The components that have a client certificate of their own, by file name: user and group.
const COMPONENTS: [(&str, &str, &str); 4] = [
    ("admin", "kubernetes-admin", SUPERUSERS),
    ("apiserver-kubelet-client", "kube-apiserver-kubelet-client", SUPERUSERS),
    ("controller-manager", "system:kube-controller-manager", ""),
    ("scheduler", "system:kube-scheduler", ""),
];

/// Reads or makes everything.
pub(crate) fn prepare(options: &ServerOptions) -> Result<Pki, PkiError> {
    let dir = options.pki_dir.as_path();
    let clock = options.clock;
    issue::make_dir(dir)?;
    let ca = Authority::open(dir, "ca", "kubernetes-ca", clock)?;
    let (names, addresses) = serving_names(options);
    let serving = ca.serving(dir, "apiserver", "kube-apiserver", &names, &addresses, clock)?;
    let mut pairs = Vec::new();
    for (file, user, group) in COMPONENTS {
        let identity = Identity {
            user: user.into(),
            groups: [group]
                .iter()
                .filter(|g| !g.is_empty())
                .map(|g| (*g).to_owned())
                .collect(),
        };
        pairs.push(ca.client(dir, file, &identity, clock)?);
    }
    let mut pairs = pairs.into_iter();
    let (Some(admin), Some(kubelet_client)) = (pairs.next(), pairs.next()) else {
        return Err(PkiError::Missing);
    };
    let token_keys = SigningKeys::open(dir, clock)?;
    Ok(Pki {
        ca,
        serving,
        kubelet_client,
        admin,
        token_keys,
    })
}

/// The names and addresses that clients reach the server by.
fn serving_names(options: &ServerOptions) -> (Vec<String>, Vec<IpAddr>) {
    let domain = &options.network.cluster_domain;
    let mut names: Vec<String> = [
        "localhost",
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
    ]
    .into_iter()
    .map(str::to_owned)
    .collect();
    names.push(format!("kubernetes.default.svc.{domain}"));
    let mut addresses: Vec<IpAddr> = vec![
        [127, 0, 0, 1].into(),
        std::net::Ipv6Addr::LOCALHOST.into(),
        options.network.service_cidr.first_service().into(),
    ];
    addresses.extend(options.advertise);
    if !options.bind.ip().is_unspecified() {
        addresses.push(options.bind.ip());
    }
    if let Ok(name) = std::fs::read_to_string("/proc/sys/kernel/hostname") {
        names.push(name.trim().to_owned());
    }
    for extra in &options.extra_names {
        match extra.parse() {
            Ok(address) => addresses.push(address),
            Err(_) => names.push(extra.clone()),
        }
    }
    names.retain(|n| !n.is_empty());
    names.sort();
    names.dedup();
    addresses.sort();
    addresses.dedup();
    (names, addresses)
}

/// The certificate authority and the client certificates in a directory, for components that are started beside the
/// server and issue or show certificates themselves.
pub struct PkiDir {
    path: PathBuf,
    clock: Clock,
}

impl PkiDir {
    pub fn new(path: impl AsRef<Path>, clock: Clock) -> Self {
        Self {
            path: path.as_ref().to_owned(),
            clock,
        }
    }

    /// The CA; made if there is none.
    pub fn authority(&self) -> Result<Authority, PkiError> {
        issue::make_dir(&self.path)?;
        Authority::open(&self.path, "ca", "kubernetes-ca", self.clock)
    }

    /// A client certificate, kept under `file`.
    pub fn client(&self, file: &str, identity: &Identity) -> Result<Pair, PkiError> {
        self.authority()?.client(&self.path, file, identity, self.clock)
    }

    /// A serving certificate, kept under `file`.
    pub fn serving(&self, file: &str, name: &str, names: &[String], addresses: &[IpAddr]) -> Result<Pair, PkiError> {
        self.authority()?
            .serving(&self.path, file, name, names, addresses, self.clock)
    }
}
