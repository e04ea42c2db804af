//! [`PodNetwork`]: the order of things. Addresses are [`ipam`](crate::ipam)'s, links are [`link`](crate::link)'s.

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use rtnetlink::Handle;

use crate::ipam::Ipam;
use crate::netns::Netns;
use crate::{Cidr, Error, firewall, link};

/// What the pod network of a node is made from.
#[derive(Clone, Debug)]
pub struct NetworkOptions {
    /// Tells this cluster's bridge and tables from those of other clusters on the machine.
    pub cluster_id: String,
    /// The node's share of the cluster's pod range.
    pub pod_cidr: Cidr,
    /// The range of all pods of the cluster; traffic within it keeps its source address.
    pub cluster_cidr: Cidr,
    /// Where the addresses in use are written down.
    pub data_dir: PathBuf,
}

/// What a pod was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attachment {
    pub address: Ipv4Addr,
    pub gateway: Ipv4Addr,
}

/// The pod network of one node.
pub struct PodNetwork {
    handle: Handle,
    bridge_name: String,
    bridge: u32,
    range: Cidr,
    ipam: Ipam,
}

/// `wanted`, or the next range of its size that overlaps no route of this machine and nothing in `also_taken`. Routes
/// over the cluster's own bridge do not count, so that a restart keeps its range.
pub async fn free_cidr(cluster_id: &str, wanted: Cidr, also_taken: &[Cidr]) -> Result<Cidr, Error> {
    let handle = link::host()?;
    let bridge = link::index(&handle, &bridge_name(cluster_id)).await?;
    let mut taken = link::routed(&handle, bridge).await?;
    taken.extend_from_slice(also_taken);
    Cidr::choose(wanted, &taken).ok_or(Error::NoFreeRange(wanted))
}

impl PodNetwork {
    /// Makes the bridge (or finds it again) and reads which addresses are held.
    pub async fn open(options: NetworkOptions) -> Result<Self, Error> {
        let range = options.pod_cidr;
        let ipam = Ipam::open(&addresses_dir(&options.data_dir), range)?;
        let handle = link::host()?;
        let bridge_name = bridge_name(&options.cluster_id);
        let mac = mac_of(range.gateway());
        let bridge = link::ensure_bridge(&handle, &bridge_name, mac, range).await?;
        allow_forwarding(&bridge_name);
        firewall::install(
            &table_name(&options.cluster_id),
            &bridge_name,
            range,
            options.cluster_cidr,
        )
        .await;
        tracing::info!(bridge = bridge_name, range = %range, "pod network is up");
        Ok(Self {
            handle,
            bridge_name,
            bridge,
            range,
            ipam,
        })
    }

    /// The node's pod range.
    pub fn pod_cidr(&self) -> Cidr {
        self.range
    }

    pub fn bridge_name(&self) -> &str {
        &self.bridge_name
    }

    /// The address of the bridge: how pods reach the node.
    pub fn gateway(&self) -> Ipv4Addr {
        self.range.gateway()
    }

    /// Gives the namespace at `netns` its loopback and `eth0`. `id` names the sandbox: the same id gets the same address
    /// again, and whatever an interrupted attempt left is replaced.
    pub async fn attach(&self, id: &str, netns: &Path) -> Result<Attachment, Error> {
        let namespace = Netns::open(netns)?;
        let address = self.ipam.allocate(id)?;
        let name = veth_name(id);
        let inside = namespace.netlink(netns).await?;
        let done = async {
            if link::index(&inside, "eth0").await?.is_none() {
                link::delete(&self.handle, &name).await?;
                link::add_veth(&self.handle, &name, self.bridge, &namespace, mac_of(address)).await?;
            }
            link::configure_pod(&inside, address, self.range).await
        };
        if let Err(error) = done.await {
            if let Err(left) = self.detach(id).await {
                tracing::warn!(id, error = %left, "the network of a failed pod was not taken back");
            }
            return Err(error);
        }
        Ok(Attachment {
            address,
            gateway: self.range.gateway(),
        })
    }

    /// Takes the sandbox's link and address back; nothing happens if it has none.
    pub async fn detach(&self, id: &str) -> Result<(), Error> {
        link::delete(&self.handle, &veth_name(id)).await?;
        self.ipam.release(id)
    }

    /// The address that the sandbox was given.
    pub fn address_of(&self, id: &str) -> Option<Ipv4Addr> {
        self.ipam.address_of(id)
    }

    /// Takes back what belongs to no live sandbox: what a crash between two steps left.
    pub async fn reconcile(&self, live: &HashSet<String>) -> Result<(), Error> {
        for owner in self.ipam.owners() {
            if !live.contains(&owner) {
                tracing::info!(id = owner, "a pod address without its pod was taken back");
                self.detach(&owner).await?;
            }
        }
        let wanted: HashSet<String> = live.iter().map(|id| veth_name(id)).collect();
        for name in link::ports(&self.handle, self.bridge).await? {
            if name.starts_with(VETH_PREFIX) && !wanted.contains(&name) {
                link::delete(&self.handle, &name).await?;
            }
        }
        Ok(())
    }

    /// Removes the cluster's bridge, every link in it, its tables and its record of addresses. Nothing happens where
    /// there is nothing.
    pub async fn teardown(cluster_id: &str, data_dir: &Path) -> Result<(), Error> {
        let handle = link::host()?;
        let name = bridge_name(cluster_id);
        if let Some(bridge) = link::index(&handle, &name).await? {
            for port in link::ports(&handle, bridge).await? {
                link::delete(&handle, &port).await?;
            }
            link::delete(&handle, &name).await?;
            firewall::remove(&table_name(cluster_id)).await;
        }
        let dir = addresses_dir(data_dir);
        match std::fs::remove_dir_all(&dir) {
            Err(source) if source.kind() != std::io::ErrorKind::NotFound => Err(Error::file("remove", dir)(source)),
            _ => Ok(()),
        }
    }
}

fn addresses_dir(data_dir: &Path) -> PathBuf {
    data_dir.join("network").join("addresses")
}

const VETH_PREFIX: &str = "veth";

/// At most 15 bytes, as the kernel demands.
fn bridge_name(cluster_id: &str) -> String {
    format!("cor{:08x}", fnv(cluster_id) as u32)
}

fn table_name(cluster_id: &str) -> String {
    format!("coracle-{:08x}", fnv(cluster_id) as u32)
}

fn veth_name(id: &str) -> String {
    format!("{VETH_PREFIX}{:010x}", fnv(id) >> 24)
}

/// A locally administered address that follows from the IP address, so that a reused IP never meets a stale neighbour.
fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [a, b, c, d] = address.octets();
    [0x0a, 0x58, a, b, c, d]
}

/// FNV-1a: the names must be the same in every build, which the standard hasher does not promise.
fn fnv(text: &str) -> u64 {
    text.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

fn allow_forwarding(bridge: &str) {
    for path in [
        "/proc/sys/net/ipv4/ip_forward".to_owned(),
        format!("/proc/sys/net/ipv4/conf/{bridge}/forwarding"),
    ] {
        let on = std::fs::read_to_string(&path).is_ok_and(|text| text.trim() == "1");
        if !on && let Err(error) = std::fs::write(&path, "1") {
            tracing::warn!(path, %error, "pods cannot reach beyond this machine: IP forwarding stays off");
        }
    }
}
