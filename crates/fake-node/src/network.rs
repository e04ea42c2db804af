//! Which addresses of a node's range are taken. No addresses are on any wire: they are told, and are unique.

use std::net::Ipv4Addr;

use crate::config::Cidr;

/// A node's pod range: a bit for each address. The first is the network's, the second the node's own, the last is left
/// free, as in a real one.
#[derive(Clone, Debug)]
pub(crate) struct Range {
    cidr: Cidr,
    taken: Box<[u64]>,
    /// Where to look next: an address that was let go is not given again at once.
    next: u32,
}

const FIRST: u32 = 2;
/// Enough for any node: more pods than that do not go on one.
const MOST: u64 = 1 << 16;

impl Range {
    pub(crate) fn new(cidr: Cidr) -> Self {
        let words = cidr.len().min(MOST).div_ceil(64);
        Self {
            cidr,
            taken: vec![0; usize::try_from(words).unwrap_or(0)].into(),
            next: FIRST,
        }
    }

    fn end(&self) -> u32 {
        u32::try_from(self.cidr.len().min(MOST)).unwrap_or(0).saturating_sub(1)
    }

    fn bit(&mut self, offset: u32) -> Option<(&mut u64, u64)> {
        let word = self.taken.get_mut(usize::try_from(offset / 64).ok()?)?;
        Some((word, 1 << (offset % 64)))
    }

    /// The node's own address, for pods on its network.
    pub(crate) fn own(&self) -> Option<Ipv4Addr> {
        self.cidr.address(1)
    }

    /// A free address, unless all are taken.
    pub(crate) fn take(&mut self) -> Option<Ipv4Addr> {
        let (first, end) = (FIRST, self.end());
        let count = end.checked_sub(first)?;
        for step in 0..count {
            let offset = first + (self.next.max(first) - first + step) % count;
            let (word, bit) = self.bit(offset)?;
            if *word & bit == 0 {
                *word |= bit;
                self.next = offset + 1;
                return self.cidr.address(offset);
            }
        }
        None
    }

    /// Notes that a pod has this address already; whether it is this node's and was free.
    pub(crate) fn claim(&mut self, address: Ipv4Addr) -> bool {
        let Some(offset) = self.cidr.offset_of(address) else {
            return false;
        };
        match self.bit(offset) {
            Some((word, bit)) if *word & bit == 0 => {
                *word |= bit;
                true
            }
            _ => false,
        }
    }

    pub(crate) fn release(&mut self, address: Ipv4Addr) {
        if let Some((word, bit)) = self.cidr.offset_of(address).and_then(|offset| self.bit(offset)) {
            *word &= !bit;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_address_is_given_once_until_it_is_let_go() {
        let mut range = Range::new(Cidr::parse("10.0.0.0/28").unwrap());
        assert!(range.claim(Ipv4Addr::new(10, 0, 0, 5)));
        assert!(!range.claim(Ipv4Addr::new(10, 0, 1, 5)));
        let mut given: Vec<_> = std::iter::from_fn(|| range.take()).collect();
        assert_eq!(given.len(), 12);
        assert!(!given.contains(&Ipv4Addr::new(10, 0, 0, 5)));
        assert!(!given.contains(&Ipv4Addr::new(10, 0, 0, 1)), "that is the node's own");
        given.sort();
        given.dedup();
        assert_eq!(given.len(), 12);
        range.release(Ipv4Addr::new(10, 0, 0, 9));
        assert_eq!(range.take(), Some(Ipv4Addr::new(10, 0, 0, 9)));
        assert_eq!(range.take(), None);
    }
}
