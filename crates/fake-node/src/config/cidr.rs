//! An IPv4 range, and how it is cut into the ranges of nodes; and the IPv6 range beside it, in which every IPv4 address has
//! its like.

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};

/// `10.128.0.0/9`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    first: u32,
    prefix: u8,
}

impl Cidr {
    /// Room for 32,768 nodes of 256 addresses, apart from the ranges of real nodes and services.
    pub const DEFAULT: Self = Self {
        first: u32::from_be_bytes([10, 128, 0, 0]),
        prefix: 9,
    };

    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no range of IPv4 addresses; write 10.128.0.0/9");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: Ipv4Addr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if prefix > 32 {
            return Err(wrong());
        }
        let range = Self {
            first: u32::from(address),
            prefix,
        };
        if range.first & range.host_mask() != 0 {
            let first = Ipv4Addr::from(range.first & !range.host_mask());
            return Err(format!(
                "{text:?} does not begin at its first address; that is {first}/{prefix}"
            ));
        }
        Ok(range)
    }

    fn host_mask(self) -> u32 {
        u32::MAX.checked_shr(self.prefix.into()).unwrap_or(0)
    }

    pub(crate) fn prefix(self) -> u8 {
        self.prefix
    }

    /// How many addresses there are.
    pub(crate) fn len(self) -> u64 {
        u64::from(self.host_mask()) + 1
    }

    /// How many ranges of `prefix` there are in it.
    pub(crate) fn parts(self, prefix: u8) -> u64 {
        match prefix.checked_sub(self.prefix) {
            Some(bits) if prefix <= 32 => 1u64 << bits,
            _ => 0,
        }
    }

    /// The `index`-th of them.
    pub(crate) fn part(self, prefix: u8, index: u32) -> Option<Self> {
        if u64::from(index) >= self.parts(prefix) {
            return None;
        }
        let size = 1u64 << (32 - prefix);
        let first = u64::from(self.first) + u64::from(index) * size;
        Some(Self {
            first: u32::try_from(first).ok()?,
            prefix,
        })
    }

    /// Which of the ranges of `prefix` this one is.
    pub(crate) fn index_of(self, part: Self) -> Option<u32> {
        let offset = part.first.checked_sub(self.first)?;
        let index = u64::from(offset) >> (32 - u32::from(part.prefix)).min(63);
        (index < self.parts(part.prefix)).then(|| u32::try_from(index).ok())?
    }

    pub(crate) fn address(self, offset: u32) -> Option<Ipv4Addr> {
        (u64::from(offset) < self.len()).then(|| Ipv4Addr::from(self.first + offset))
    }

    pub(crate) fn offset_of(self, address: Ipv4Addr) -> Option<u32> {
        let offset = u32::from(address).checked_sub(self.first)?;
        (u64::from(offset) < self.len()).then_some(offset)
    }
}

/// `fd00:10:128::/96`: with room for all IPv4 addresses, so that a pod's second address follows from its first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr6 {
    first: u128,
}

impl Cidr6 {
    pub fn parse(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is no range of IPv6 addresses; write fd00:10:128::/96");
        let (address, prefix) = text.split_once('/').ok_or_else(wrong)?;
        let address: Ipv6Addr = address.parse().map_err(|_| wrong())?;
        let prefix: u8 = prefix.parse().map_err(|_| wrong())?;
        if prefix > 96 {
            return Err(format!("{text:?} is too small: its prefix may be 96 at most"));
        }
        let first = u128::from(address);
        match first & u128::MAX.checked_shr(prefix.into()).unwrap_or(0) {
            0 => Ok(Self { first }),
            _ => Err(format!("{text:?} does not begin at its first address")),
        }
    }

    /// The address like this one.
    pub(crate) fn like(self, address: Ipv4Addr) -> Ipv6Addr {
        Ipv6Addr::from(self.first | u128::from(u32::from(address)))
    }

    /// The range like this one.
    pub(crate) fn like_range(self, range: Cidr) -> String {
        format!("{}/{}", self.like(Ipv4Addr::from(range.first)), 96 + range.prefix)
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.first), self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_cut_into_parts_that_do_not_overlap() {
        let whole = Cidr::parse("10.0.0.0/22").unwrap();
        assert_eq!(whole.parts(24), 4);
        assert_eq!(whole.part(24, 3).unwrap().to_string(), "10.0.3.0/24");
        assert_eq!(whole.part(24, 4), None);
        assert_eq!(whole.index_of(Cidr::parse("10.0.2.0/24").unwrap()), Some(2));
        assert_eq!(whole.index_of(Cidr::parse("10.0.4.0/24").unwrap()), None);
        assert_eq!(whole.part(24, 1).unwrap().address(7), Some(Ipv4Addr::new(10, 0, 1, 7)));
        assert_eq!(Cidr::parse("0.0.0.0/0").unwrap().parts(24), 1 << 24);
        assert_eq!(Cidr::DEFAULT.parts(24), 32_768);
    }

    #[test]
    fn every_address_has_its_like_in_the_range_beside() {
        let beside = Cidr6::parse("fd00:10:128::/64").unwrap();
        assert_eq!(
            beside.like(Ipv4Addr::new(10, 128, 1, 5)).to_string(),
            "fd00:10:128::a80:105"
        );
        let range = Cidr::parse("10.128.1.0/24").unwrap();
        assert_eq!(beside.like_range(range), "fd00:10:128::a80:100/120");
        for text in ["fd00::/97", "fd00::1/64", "10.0.0.0/8", "fd00::"] {
            assert!(Cidr6::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_no_range_is_refused_with_what_was_meant() {
        for text in ["10.0.0.0", "10.0.0.0/33", "fd00::/8", "10.0.0/8", ""] {
            assert!(Cidr::parse(text).is_err(), "{text}");
        }
        assert!(Cidr::parse("10.0.1.0/8").unwrap_err().contains("10.0.0.0/8"));
    }
}
