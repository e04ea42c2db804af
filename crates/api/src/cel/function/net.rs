//! IP addresses and blocks of them. Read strictly: no leading zeros, no IPv4 inside IPv6, no zones.

use std::net::IpAddr;

use super::{Entry, Found};
use crate::cel::eval::Fault;
use crate::cel::value::Value;
use crate::names::address::network;

pub(super) const ALL: &[Entry] = &[
    Entry {
        signatures: &["ip(string) IP"],
        run: |_, a| {
            let Some(s) = a[0].as_str() else { return Ok(None) };
            address(s)
                .map(|ip| Some(Value::Ip(ip)))
                .ok_or_else(|| Fault::of(format!("IP Address {s:?} parse error during conversion from string")))
        },
    },
    Entry {
        signatures: &["isIP(string) bool"],
        run: |_, a| Ok(a[0].as_str().map(|s| address(s).is_some().into())),
    },
    Entry {
        signatures: &["ip.isCanonical(string) bool"],
        run: |_, a| {
            let Some(s) = a[0].as_str() else { return Ok(None) };
            match address(s) {
                Some(ip) => Ok(Some((ip.to_string() == s).into())),
                None => Err(Fault::of(format!(
                    "IP Address {s:?} parse error during conversion from string"
                ))),
            }
        },
    },
    Entry {
        signatures: &["IP.family() int"],
        run: |_, a| of_ip(a, |ip| Value::Int(if ip.is_ipv4() { 4 } else { 6 })),
    },
    Entry {
        signatures: &["IP.isUnspecified() bool"],
        run: |_, a| of_ip(a, |ip| ip.is_unspecified().into()),
    },
    Entry {
        signatures: &["IP.isLoopback() bool"],
        run: |_, a| of_ip(a, |ip| ip.is_loopback().into()),
    },
    Entry {
        signatures: &["IP.isLinkLocalMulticast() bool"],
        run: |_, a| {
            of_ip(a, |ip| {
                let is = match ip {
                    IpAddr::V4(v4) => v4.octets().starts_with(&[224, 0, 0]),
                    IpAddr::V6(v6) => v6.segments()[0] & 0xff0f == 0xff02,
                };
                is.into()
            })
        },
    },
    Entry {
        signatures: &["IP.isLinkLocalUnicast() bool"],
        run: |_, a| of_ip(a, |ip| link_local(ip).into()),
    },
    Entry {
        signatures: &["IP.isGlobalUnicast() bool"],
        run: |_, a| {
            of_ip(a, |ip| {
                let broadcast = matches!(ip, IpAddr::V4(v4) if v4.is_broadcast());
                let other = ip.is_unspecified() || ip.is_loopback() || ip.is_multicast() || link_local(ip);
                (!broadcast && !other).into()
            })
        },
    },
    Entry {
        signatures: &["cidr(string) CIDR"],
        run: |_, a| {
            let Some(s) = a[0].as_str() else { return Ok(None) };
            block(s).map(|(ip, n)| Some(Value::Cidr(ip, n))).ok_or_else(|| {
                Fault::of(format!(
                    "network address parse error during conversion from string: {s:?}"
                ))
            })
        },
    },
    Entry {
        signatures: &["isCIDR(string) bool"],
        run: |_, a| Ok(a[0].as_str().map(|s| block(s).is_some().into())),
    },
    Entry {
        signatures: &["CIDR.containsIP(string) bool", "CIDR.containsIP(IP) bool"],
        run: |_, a| {
            let ip = match &a[1] {
                Value::Ip(ip) => *ip,
                Value::String(s) => match address(s) {
                    Some(ip) => ip,
                    None => return Err(Fault::of(format!("IP Address {s:?} parse error"))),
                },
                _ => return Ok(None),
            };
            Ok(of_block(a).map(|block| contains(block, ip).into()))
        },
    },
    Entry {
        signatures: &["CIDR.containsCIDR(string) bool", "CIDR.containsCIDR(CIDR) bool"],
        run: |_, a| {
            let inner = match &a[1] {
                Value::Cidr(ip, n) => (*ip, *n),
                Value::String(s) => match block(s) {
                    Some(block) => block,
                    None => return Err(Fault::of(format!("network address parse error: {s:?}"))),
                },
                _ => return Ok(None),
            };
            Ok(of_block(a).map(|outer| (outer.1 <= inner.1 && contains(outer, inner.0)).into()))
        },
    },
    Entry {
        signatures: &["CIDR.ip() IP"],
        run: |_, a| Ok(of_block(a).map(|(ip, _)| Value::Ip(ip))),
    },
    Entry {
        signatures: &["CIDR.masked() CIDR"],
        run: |_, a| Ok(of_block(a).map(|(ip, n)| Value::Cidr(network(ip, n), n))),
    },
    Entry {
        signatures: &["CIDR.prefixLength() int"],
        run: |_, a| Ok(of_block(a).map(|(_, n)| Value::Int(n.into()))),
    },
];

fn address(text: &str) -> Option<IpAddr> {
    let ip: IpAddr = text.parse().ok()?;
    let mapped = matches!(ip, IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some());
    (!mapped).then_some(ip)
}

fn block(text: &str) -> Option<(IpAddr, u8)> {
    let (ip, length) = text.split_once('/')?;
    let ip = address(ip)?;
    let plain = length.bytes().all(|b| b.is_ascii_digit()) && (length == "0" || !length.starts_with('0'));
    let length: u8 = length.parse().ok().filter(|_| plain)?;
    (length <= if ip.is_ipv4() { 32 } else { 128 }).then_some((ip, length))
}

fn contains((base, length): (IpAddr, u8), ip: IpAddr) -> bool {
    base.is_ipv4() == ip.is_ipv4() && network(base, length) == network(ip, length)
}

fn link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => v6.segments()[0] & 0xffc0 == 0xfe80,
    }
}

fn of_ip(a: &[Value], say: fn(IpAddr) -> Value) -> Found {
    match &a[0] {
        Value::Ip(ip) => Ok(Some(say(*ip))),
        _ => Ok(None),
    }
}

fn of_block(a: &[Value]) -> Option<(IpAddr, u8)> {
    match &a[0] {
        Value::Cidr(ip, n) => Some((*ip, *n)),
        _ => None,
    }
}
