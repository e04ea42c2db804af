//! IP addresses and CIDR blocks, read as leniently as upstream reads them (leading zeros, IPv4 in IPv6), with the
//! warnings it gives for such forms.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An address, tolerating leading zeros in IPv4 parts.
pub fn parse_ip(value: &str) -> Option<IpAddr> {
    if !value.contains(':') {
        return sloppy_v4(value).map(IpAddr::V4);
    }
    if let Ok(v6) = value.parse::<Ipv6Addr>() {
        return Some(IpAddr::V6(v6));
    }
    // `::ffff:010.0.0.1`: rewrite the IPv4 tail as the strict parser wants it.
    let (head, tail) = value.rsplit_once(':')?;
    let v4 = sloppy_v4(tail)?;
    format!("{head}:{v4}").parse::<Ipv6Addr>().ok().map(IpAddr::V6)
}

fn sloppy_v4(value: &str) -> Option<Ipv4Addr> {
    let mut octets = [0u8; 4];
    let mut parts = value.split('.');
    for octet in &mut octets {
        let part = parts.next()?;
        if part.is_empty() || !part.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let digits = part.trim_start_matches('0');
        *octet = if digits.is_empty() { 0 } else { digits.parse().ok()? };
    }
    parts.next().is_none().then(|| Ipv4Addr::from(octets))
}

/// A block: its address as written and the length of its prefix.
pub fn parse_cidr(value: &str) -> Option<(IpAddr, u8)> {
    let (address, length) = value.split_once('/')?;
    let address = parse_ip(address)?;
    if length.is_empty() || length.len() > 3 || !length.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let length: u8 = length.parse().ok()?;
    let most = if address.is_ipv4() { 32 } else { 128 };
    (length <= most).then_some((address, length))
}

/// The first address of the block.
pub fn network(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(v4) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            IpAddr::V4(Ipv4Addr::from_bits(v4.to_bits() & mask))
        }
        IpAddr::V6(v6) => {
            let mask = u128::MAX.checked_shl(128 - u32::from(length.min(128))).unwrap_or(0);
            IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() & mask))
        }
    }
}

pub fn ip(value: &str) -> Vec<String> {
    refuse_unless(
        parse_ip(value).is_some(),
        "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
    )
}

/// An address in the one form that newer fields take.
pub fn strict_ip(value: &str) -> Vec<String> {
    let Some(ip) = parse_ip(value) else {
        return self::ip(value);
    };
    let fault = match value.parse::<IpAddr>() {
        Err(_) => "must not have leading 0s".to_owned(),
        Ok(written) if written != written.to_canonical() => "must not be an IPv4-mapped IPv6 address".to_owned(),
        Ok(_) if ip.to_string() != value => format!("must be in canonical form ({:?})", ip.to_string()),
        Ok(_) => return Vec::new(),
    };
    vec![fault]
}

/// A block in the one form that newer fields take.
pub fn strict_cidr(value: &str) -> Vec<String> {
    let (Some((ip, length)), Some((written, digits))) = (parse_cidr(value), value.split_once('/')) else {
        return cidr(value);
    };
    let is_standard = written.parse::<IpAddr>().is_ok() && (digits == "0" || !digits.starts_with('0'));
    let canonical = format!("{ip}/{length}");
    let fault = if !is_standard {
        "must not have leading 0s in IP or prefix length".to_owned()
    } else if ip != ip.to_canonical() {
        "must not have an IPv4-mapped IPv6 address".to_owned()
    } else if network(ip, length) != ip {
        "must not have bits set beyond the prefix length".to_owned()
    } else if canonical != value {
        format!("must be in canonical form ({canonical:?})")
    } else {
        return Vec::new();
    };
    vec![fault]
}

/// IPv4, also written within IPv6.
pub fn ipv4(value: &str) -> Vec<String> {
    let is_v4 = parse_ip(value).is_some_and(|ip| ip.to_canonical().is_ipv4());
    refuse_unless(is_v4, "must be a valid IPv4 address")
}

pub fn ipv6(value: &str) -> Vec<String> {
    let is_v6 = parse_ip(value).is_some_and(|ip| ip.to_canonical().is_ipv6());
    refuse_unless(is_v6, "must be a valid IPv6 address")
}

pub fn cidr(value: &str) -> Vec<String> {
    refuse_unless(
        parse_cidr(value).is_some(),
        "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
    )
}

/// An address and the length of its network's prefix, as an interface has them, in the form that is usual.
pub fn interface_address(value: &str) -> Vec<String> {
    let Some((address, length)) = parse_cidr(value) else {
        return vec!["must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)".to_owned()];
    };
    let short = address.to_canonical();
    // An IPv4 address within IPv6 counts the bits around it.
    let length = match (address, short) {
        (IpAddr::V6(_), IpAddr::V4(_)) if length > 32 => length.saturating_sub(96),
        _ => length,
    };
    let usual = format!("{short}/{length}");
    if usual == value {
        return Vec::new();
    }
    vec![format!("must be in canonical form ({usual:?})")]
}

fn refuse_unless(fine: bool, text: &str) -> Vec<String> {
    if fine { Vec::new() } else { vec![text.to_owned()] }
}

/// What is odd about an address that [`ip`] accepts, for a warning behind the field's path.
pub fn ip_warning(value: &str) -> Option<String> {
    let ip = parse_ip(value)?;
    let preferred = ip.to_canonical().to_string();
    let is_standard = value.parse::<IpAddr>().is_ok_and(|ip| ip == ip.to_canonical());
    if !is_standard {
        return Some(format!(
            "non-standard IP address {value:?} will be considered invalid in a future Kubernetes release: use {preferred:?}"
        ));
    }
    (ip.is_ipv6() && preferred != value)
        .then(|| format!("IPv6 address {value:?} should be in RFC 5952 canonical format ({preferred:?})"))
}

/// What is odd about a block that [`cidr`] accepts, for warnings behind the field's path.
pub fn cidr_warnings(value: &str) -> Vec<String> {
    let Some((address, length)) = parse_cidr(value) else {
        return Vec::new();
    };
    let mut warnings = Vec::new();
    let block = format!("{}/{length}", network(address, length));
    if network(address, length) != address {
        let single = format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 });
        warnings.push(format!(
            "CIDR value {value:?} is ambiguous in this context (should be {block:?} or {single:?}?)"
        ));
    }
    let written = value.split_once('/').map_or("", |(a, _)| a);
    let is_standard = written.parse::<IpAddr>().is_ok_and(|ip| ip == ip.to_canonical());
    if !is_standard {
        warnings.push(format!(
            "non-standard CIDR value {value:?} will be considered invalid in a future Kubernetes release: use {block:?}"
        ));
    }
    if warnings.is_empty() && address.is_ipv6() && block != value {
        warnings.push(format!(
            "IPv6 CIDR value {value:?} should be in RFC 5952 canonical format ({block:?})"
        ));
    }
    warnings
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_of_an_interface_is_in_its_usual_form() {
        for good in ["1.2.3.4/24", "1.1.1.1/32", "2001:4860:4860::1/48", "::1/128"] {
            assert!(interface_address(good).is_empty(), "{good}");
        }
        for bad in ["", "1.2.3.4", "192.168.0.1/healthz", "192.168.0.0/-16", "300.9.8.0/24"] {
            assert_eq!(
                interface_address(bad),
                ["must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)"],
                "{bad}"
            );
        }
        for (odd, usual) in [
            ("010.009.008.000/24", "10.9.8.0/24"),
            ("2001:0db8::1/64", "2001:db8::1/64"),
            ("::ffff:192.168.0.1/120", "192.168.0.1/24"),
        ] {
            assert_eq!(
                interface_address(odd),
                [format!("must be in canonical form ({usual:?})")]
            );
        }
    }

    #[test]
    fn addresses_are_read_with_leading_zeros_and_warned_of() {
        assert_eq!(parse_ip("010.000.001.7").unwrap().to_string(), "10.0.1.7");
        assert!(parse_ip("::ffff:01.2.3.4").is_some());
        for bad in ["", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.x", "fe80::1%eth0", ":"] {
            assert_eq!(ip(bad).len(), 1, "{bad}");
        }
        assert!(ipv4("::ffff:1.2.3.4").is_empty());
        assert!(!ipv6("::ffff:1.2.3.4").is_empty());
        assert_eq!(
            ip_warning("01.2.3.4").unwrap(),
            "non-standard IP address \"01.2.3.4\" will be considered invalid in a future Kubernetes release: use \
             \"1.2.3.4\""
        );
        assert_eq!(
            ip_warning("2001:DB8::0").unwrap(),
            "IPv6 address \"2001:DB8::0\" should be in RFC 5952 canonical format (\"2001:db8::\")"
        );
        assert_eq!(ip_warning("10.0.0.1"), None);
    }

    #[test]
    fn a_block_whose_host_bits_are_set_is_ambiguous() {
        assert!(cidr("10.0.0.0/8").is_empty());
        for bad in ["10.0.0.0", "10.0.0.0/33", "::/129", "10.0.0.0/", "10.0.0.0/+8"] {
            assert_eq!(cidr(bad).len(), 1, "{bad}");
        }
        assert_eq!(
            cidr_warnings("10.0.0.1/8"),
            vec![
                "CIDR value \"10.0.0.1/8\" is ambiguous in this context (should be \"10.0.0.0/8\" or \"10.0.0.1/32\"?)"
            ]
        );
        assert!(cidr_warnings("0.0.0.0/0").is_empty());
        assert!(cidr_warnings("2001:db8::/32").is_empty());
    }
}
