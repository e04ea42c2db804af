//! The few netlink requests the pod network is made of. Each is idempotent and names itself in its error.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::AsRawFd;

use futures::TryStreamExt;
use rtnetlink::packet_route::address::AddressAttribute;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::packet_route::route::{RouteAddress, RouteAttribute};
use rtnetlink::{Handle, LinkBridge, LinkBridgePort, LinkMessageBuilder, LinkUnspec, LinkVeth, RouteMessageBuilder};

use crate::netns::Netns;
use crate::{Cidr, Error};

fn fail(operation: &'static str) -> impl FnOnce(rtnetlink::Error) -> Error {
    move |source| Error::Netlink { operation, source }
}

fn errno(error: &rtnetlink::Error) -> Option<i32> {
    match error {
        rtnetlink::Error::NetlinkError(message) => Some(-message.raw_code()),
        _ => None,
    }
}

fn unless(errnos: &[i32], result: Result<(), rtnetlink::Error>) -> Result<(), rtnetlink::Error> {
    match result {
        Err(error) if errno(&error).is_some_and(|e| errnos.contains(&e)) => Ok(()),
        other => other,
    }
}

const ENODEV: i32 = nix::errno::Errno::ENODEV as i32;
const EEXIST: i32 = nix::errno::Errno::EEXIST as i32;

/// A netlink handle in the host's namespace.
pub(crate) fn host() -> Result<Handle, Error> {
    let (connection, handle, _) = rtnetlink::new_connection().map_err(Error::Socket)?;
    tokio::spawn(connection);
    Ok(handle)
}

/// The index of the link of this name.
pub(crate) async fn index(handle: &Handle, name: &str) -> Result<Option<u32>, Error> {
    let found = handle
        .link()
        .get()
        .match_name(name.to_owned())
        .execute()
        .try_next()
        .await;
    match found {
        Ok(link) => Ok(link.map(|l| l.header.index)),
        Err(error) if errno(&error) == Some(ENODEV) => Ok(None),
        Err(error) => Err(fail("look up a link")(error)),
    }
}

/// The bridge of this name, made if absent, with its address, up. `mac` is fixed so that it does not follow the ports.
pub(crate) async fn ensure_bridge(handle: &Handle, name: &str, mac: [u8; 6], range: Cidr) -> Result<u32, Error> {
    let index_of = async || index(handle, name).await?.ok_or_else(|| Error::NoLink(name.to_owned()));
    if index(handle, name).await?.is_none() {
        let bridge = LinkBridge::new(name).address(mac.to_vec()).up().build();
        unless(&[EEXIST], handle.link().add(bridge).execute().await).map_err(fail("create the bridge"))?;
    }
    let index = index_of().await?;
    let up = LinkUnspec::new_with_index(index).up().build();
    handle
        .link()
        .change(up)
        .execute()
        .await
        .map_err(fail("set the bridge up"))?;
    ensure_address(handle, index, range.gateway(), range.prefix()).await?;
    Ok(index)
}

/// The address on the link, and no other IPv4 address.
async fn ensure_address(handle: &Handle, index: u32, address: Ipv4Addr, prefix: u8) -> Result<(), Error> {
    let mut present = false;
    let mut list = handle.address().get().set_link_index_filter(index).execute();
    while let Some(message) = list.try_next().await.map_err(fail("list the bridge's addresses"))? {
        let its = message.attributes.iter().find_map(|a| match a {
            AddressAttribute::Address(IpAddr::V4(v4)) => Some(*v4),
            _ => None,
        });
        match its {
            Some(its) if its == address && message.header.prefix_len == prefix => present = true,
            Some(_) => handle
                .address()
                .del(message)
                .execute()
                .await
                .map_err(fail("remove an old address"))?,
            None => {}
        }
    }
    if !present {
        let add = handle.address().add(index, address.into(), prefix).execute().await;
        unless(&[EEXIST], add).map_err(fail("give the link its address"))?;
    }
    Ok(())
}

/// A veth pair: `host_name` in the bridge with hairpin on, the peer as `eth0` in the pod's namespace.
pub(crate) async fn add_veth(
    handle: &Handle,
    host_name: &str,
    bridge: u32,
    netns: &Netns,
    mac: [u8; 6],
) -> Result<(), Error> {
    let peer: LinkMessage = LinkMessageBuilder::<LinkUnspec>::new()
        .name("eth0")
        .address(mac.to_vec())
        .setns_by_fd(netns.file.as_raw_fd())
        .build();
    let pair = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth)
        .name(host_name)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
        .controller(bridge)
        .up()
        .build();
    handle
        .link()
        .add(pair)
        .execute()
        .await
        .map_err(fail("create the veth pair"))?;
    let index = index(handle, host_name)
        .await?
        .ok_or_else(|| Error::NoLink(host_name.to_owned()))?;
    let port = LinkBridgePort::new(index).hairpin(true).build();
    handle
        .link()
        .set_port(port)
        .execute()
        .await
        .map_err(fail("turn hairpin on"))
}

/// Inside the pod: `lo` and `eth0` up, the address, the default route.
pub(crate) async fn configure_pod(handle: &Handle, address: Ipv4Addr, range: Cidr) -> Result<(), Error> {
    let lo = LinkUnspec::new_with_name("lo").up().build();
    handle
        .link()
        .change(lo)
        .execute()
        .await
        .map_err(fail("set the pod's loopback up"))?;
    let index = index(handle, "eth0")
        .await?
        .ok_or_else(|| Error::NoLink("eth0".into()))?;
    let added = handle
        .address()
        .add(index, address.into(), range.prefix())
        .execute()
        .await;
    unless(&[EEXIST], added).map_err(fail("give the pod its address"))?;
    let eth0 = LinkUnspec::new_with_index(index).up().build();
    handle
        .link()
        .change(eth0)
        .execute()
        .await
        .map_err(fail("set the pod's eth0 up"))?;
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .gateway(range.gateway())
        .output_interface(index)
        .build();
    unless(&[EEXIST], handle.route().add(route).execute().await).map_err(fail("give the pod its default route"))
}

/// Removes the link; nothing happens if there is none.
pub(crate) async fn delete(handle: &Handle, name: &str) -> Result<(), Error> {
    let Some(index) = index(handle, name).await? else {
        return Ok(());
    };
    unless(&[ENODEV], handle.link().del(index).execute().await).map_err(fail("delete the link"))
}

/// The names of the links whose controller is `bridge`.
pub(crate) async fn ports(handle: &Handle, bridge: u32) -> Result<Vec<String>, Error> {
    let mut names = Vec::new();
    let mut links = handle.link().get().execute();
    while let Some(link) = links.try_next().await.map_err(fail("list links"))? {
        let in_bridge = link
            .attributes
            .iter()
            .any(|a| matches!(a, LinkAttribute::Controller(c) if *c == bridge));
        if in_bridge && let Some(name) = link.attributes.iter().find_map(name_of) {
            names.push(name);
        }
    }
    Ok(names)
}

fn name_of(attribute: &LinkAttribute) -> Option<String> {
    match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    }
}

/// Every IPv4 range that a route of this machine leads to, except default routes and those of `bridge`.
pub(crate) async fn routed(handle: &Handle, bridge: Option<u32>) -> Result<Vec<Cidr>, Error> {
    let mut ranges = Vec::new();
    let mut routes = handle
        .route()
        .get(RouteMessageBuilder::<Ipv4Addr>::new().build())
        .execute();
    while let Some(route) = routes.try_next().await.map_err(fail("list routes"))? {
        let via = route.attributes.iter().find_map(|a| match a {
            RouteAttribute::Oif(index) => Some(*index),
            _ => None,
        });
        let prefix = route.header.destination_prefix_length;
        if prefix == 0 || (bridge.is_some() && via == bridge) {
            continue;
        }
        for attribute in &route.attributes {
            if let RouteAttribute::Destination(RouteAddress::Inet(address)) = attribute {
                ranges.push(Cidr::new(*address, prefix));
            }
        }
    }
    Ok(ranges)
}
