//! What an API server is started with.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use coracle_clock::Clock;
use coracle_store::Store;
use prometheus_client::registry::Registry;

/// Puts metrics into a registry.
pub type Register = Arc<dyn Fn(&mut Registry) + Send + Sync>;

/// See the module. `Default` is not implemented because there is no default store: start from
/// [`ServerOptions::new`].
#[derive(Clone)]
pub struct ServerOptions {
    pub store: Arc<dyn Store>,
    pub clock: Clock,
    /// Where certificates and keys are kept, made when they are missing and renewed when they near their end.
    pub pki_dir: PathBuf,
    /// Where to listen; port 0 takes a free one.
    pub bind: SocketAddr,
    /// The address that others reach this server at, for kubeconfigs and the `kubernetes` endpoints; by default the
    /// one it listens on, or 127.0.0.1 when it listens on all.
    pub advertise: Option<IpAddr>,
    /// More names and addresses for the serving certificate.
    pub extra_names: Vec<String>,
    pub network: Network,
    pub limits: Limits,
    /// Put the metrics of what else runs in this process into the registry that `/metrics` serves.
    pub metrics: Vec<Register>,
    pub admission: AdmissionPlugins,
    /// Tokens with their users, a line each: `token,user,uid,"group,group"`.
    pub token_file: Option<PathBuf>,
}

impl ServerOptions {
    pub fn new(store: Arc<dyn Store>, pki_dir: impl Into<PathBuf>) -> Self {
        Self {
            store,
            clock: Clock::system(),
            pki_dir: pki_dir.into(),
            bind: SocketAddr::from((Ipv4Addr::LOCALHOST, 6443)),
            advertise: None,
            extra_names: Vec::new(),
            network: Network::default(),
            limits: Limits::default(),
            metrics: Vec::new(),
            admission: AdmissionPlugins::default(),
            token_file: None,
        }
    }
}

/// Admission plugins, by upstream's names, that are on or off against upstream's default set.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AdmissionPlugins {
    pub enable: Vec<String>,
    pub disable: Vec<String>,
}

/// Addresses and ports that services take.
#[derive(Clone, Debug)]
pub struct Network {
    /// The first address belongs to the `kubernetes` service.
    pub service_cidr: Cidr,
    /// First and last node port.
    pub node_ports: (u16, u16),
    /// The DNS domain of the cluster.
    pub cluster_domain: String,
}

impl Default for Network {
    fn default() -> Self {
        Self {
            service_cidr: Cidr {
                address: Ipv4Addr::new(10, 96, 0, 0),
                bits: 16,
            },
            node_ports: (30_000, 32_767),
            cluster_domain: "cluster.local".into(),
        }
    }
}

/// A range of IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    pub address: Ipv4Addr,
    pub bits: u8,
}

impl Cidr {
    /// How many addresses it has.
    pub fn len(&self) -> u32 {
        1u32.checked_shl(32 - u32::from(self.bits.clamp(1, 32))).unwrap_or(1)
    }

    pub fn is_empty(&self) -> bool {
        false
    }

    /// The address at `offset` from the start, if it is in the range.
    pub fn nth(&self, offset: u32) -> Option<Ipv4Addr> {
        let base = u32::from(self.address) & !(self.len() - 1);
        (offset < self.len()).then(|| Ipv4Addr::from(base + offset))
    }

    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let mask = !(self.len() - 1);
        u32::from(address) & mask == u32::from(self.address) & mask
    }

    /// The address of the `kubernetes` service.
    pub fn first_service(&self) -> Ipv4Addr {
        self.nth(1).unwrap_or(self.address)
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.nth(0).unwrap_or(self.address), self.bits)
    }
}

impl std::str::FromStr for Cidr {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not an IPv4 range: write it like 10.96.0.0/16");
        let (address, bits) = text.split_once('/').ok_or_else(bad)?;
        let bits: u8 = bits.parse().map_err(|_| bad())?;
        if !(8..=30).contains(&bits) {
            return Err(format!("{text:?} must have between 8 and 30 bits"));
        }
        Ok(Self {
            address: address.parse().map_err(|_| bad())?,
            bits,
        })
    }
}

/// How much the server takes on at a time.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Requests that read, except watches and streams.
    pub reads_in_flight: usize,
    pub writes_in_flight: usize,
    /// How many more may wait for their turn before some are sent away with 429.
    pub waiting: usize,
    /// The largest body.
    pub body_bytes: usize,
    /// How long a request may take, except watches and streams.
    pub request_time: Duration,
    /// How long a client may take for the TLS handshake and for the head of a request.
    pub head_time: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            reads_in_flight: 400,
            writes_in_flight: 400,
            waiting: 4_000,
            body_bytes: 3 << 20,
            request_time: Duration::from_secs(60),
            head_time: Duration::from_secs(30),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_knows_its_addresses() {
        let cidr: Cidr = "10.96.7.0/16".parse().unwrap();
        assert_eq!(cidr.to_string(), "10.96.0.0/16");
        assert_eq!(cidr.first_service(), Ipv4Addr::new(10, 96, 0, 1));
        assert_eq!(cidr.nth(65_536), None);
        assert!(cidr.contains(Ipv4Addr::new(10, 96, 255, 255)));
        assert!(!cidr.contains(Ipv4Addr::new(10, 97, 0, 0)));
        assert!("10.96.0.0".parse::<Cidr>().is_err());
    }
}
