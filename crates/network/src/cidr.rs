//! An IPv4 address range, and the choice of a free one. Pure.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::Error;

/// An IPv4 range in CIDR notation; the host bits are zero.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Cidr {
    base: u32,
    prefix: u8,
}

impl Cidr {
    /// The range of this prefix length that `address` is in.
    pub fn new(address: Ipv4Addr, prefix: u8) -> Self {
        let prefix = prefix.min(32);
        Self {
            base: u32::from(address) & mask(prefix),
            prefix,
        }
    }

    pub fn prefix(&self) -> u8 {
        self.prefix
    }

    /// How many addresses it spans.
    pub fn size(&self) -> u64 {
        1u64 << (32 - u32::from(self.prefix))
    }

    /// The address `offset` places behind the first; `None` outside the range.
    pub fn nth(&self, offset: u64) -> Option<Ipv4Addr> {
        if offset >= self.size() {
            return None;
        }
        Some(Ipv4Addr::from(self.base.wrapping_add(u32::try_from(offset).ok()?)))
    }

    /// The first usable address: the bridge's, and so the pods' default route.
    pub fn gateway(&self) -> Ipv4Addr {
        Ipv4Addr::from(self.base.wrapping_add(1))
    }

    pub fn contains(&self, address: Ipv4Addr) -> bool {
        u32::from(address) & mask(self.prefix) == self.base
    }

    pub fn overlaps(&self, other: &Cidr) -> bool {
        let shorter = mask(self.prefix.min(other.prefix));
        self.base & shorter == other.base & shorter
    }

    /// `wanted` if it overlaps nothing taken, else the next range of its size in the private 10.0.0.0/8, starting over
    /// at its beginning, then in 172.16.0.0/12.
    pub fn choose(wanted: Cidr, taken: &[Cidr]) -> Option<Cidr> {
        let free = |candidate: &Cidr| !taken.iter().any(|t| t.overlaps(candidate));
        if free(&wanted) {
            return Some(wanted);
        }
        let within = |space: Cidr| {
            let count = space.size() / wanted.size();
            let start = if space.contains(Ipv4Addr::from(wanted.base)) {
                u64::from(wanted.base - space.base) / wanted.size()
            } else {
                0
            };
            (0..count)
                .filter_map(move |i| space.nth((start + i) % count * wanted.size()))
                .map(move |base| Cidr::new(base, wanted.prefix))
        };
        within(Cidr::new(Ipv4Addr::new(10, 0, 0, 0), 8))
            .chain(within(Cidr::new(Ipv4Addr::new(172, 16, 0, 0), 12)))
            .find(free)
    }
}

fn mask(prefix: u8) -> u32 {
    u32::MAX.checked_shl(32 - u32::from(prefix)).unwrap_or(0)
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.prefix)
    }
}

impl FromStr for Cidr {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::NotACidr(text.to_owned());
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if prefix > 32 {
            return Err(wrong());
        }
        Ok(Self::new(address.parse().map_err(|_| wrong())?, prefix))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cidr(text: &str) -> Cidr {
        text.parse().unwrap()
    }

    #[test]
    fn ranges_overlap_when_one_holds_the_other() {
        assert!(cidr("10.42.0.0/16").overlaps(&cidr("10.42.7.0/24")));
        assert!(cidr("10.42.7.0/24").overlaps(&cidr("10.42.0.0/16")));
        assert!(!cidr("10.42.0.0/16").overlaps(&cidr("10.43.0.0/16")));
        assert!(cidr("0.0.0.0/0").overlaps(&cidr("10.43.0.0/16")));
    }

    #[test]
    fn a_taken_range_gives_way_to_the_next_free_one() {
        let wanted = cidr("10.42.0.0/16");
        assert_eq!(Cidr::choose(wanted, &[]), Some(wanted));
        let taken = [cidr("10.42.3.0/24"), cidr("10.43.0.0/16")];
        assert_eq!(Cidr::choose(wanted, &taken), Some(cidr("10.44.0.0/16")));
        assert_eq!(Cidr::choose(wanted, &[cidr("10.0.0.0/8")]), Some(cidr("172.16.0.0/16")));
        assert_eq!(
            Cidr::choose(cidr("10.255.0.0/16"), &[cidr("10.255.0.0/16")]),
            Some(cidr("10.0.0.0/16"))
        );
    }

    #[test]
    fn addresses_of_a_range() {
        let range = cidr("10.42.1.77/24");
        assert_eq!(range.to_string(), "10.42.1.0/24");
        assert_eq!(range.gateway(), Ipv4Addr::new(10, 42, 1, 1));
        assert_eq!(range.nth(255), Some(Ipv4Addr::new(10, 42, 1, 255)));
        assert_eq!(range.nth(256), None);
        assert!("10.42.0.0".parse::<Cidr>().is_err());
        assert!("10.42.0.0/40".parse::<Cidr>().is_err());
    }
}
