//! Which pod has which address of the node's range. One file per address, its content the owner's id, linked into place
//! so that it is whole or absent whatever kills the process. Knows nothing of links.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::io::ErrorKind;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use parking_lot::Mutex;

use crate::{Cidr, Error};

pub(crate) struct Ipam {
    dir: PathBuf,
    range: Cidr,
    held: Mutex<Held>,
}

#[derive(Default)]
struct Held {
    by_owner: HashMap<String, Ipv4Addr>,
    taken: HashSet<Ipv4Addr>,
    /// Where the search goes on, so that an address just given back rests for as long as possible.
    next: u64,
}

impl Ipam {
    /// Reads what is held. Addresses outside `range` (the node was given another one) are dropped.
    pub(crate) fn open(dir: &Path, range: Cidr) -> Result<Self, Error> {
        fs::create_dir_all(dir).map_err(Error::file("create", dir))?;
        let mut held = Held::default();
        for entry in fs::read_dir(dir).map_err(Error::file("read", dir))? {
            let entry = entry.map_err(Error::file("read", dir))?;
            let path = entry.path();
            let address = entry.file_name().to_str().and_then(|n| n.parse::<Ipv4Addr>().ok());
            let owner = fs::read_to_string(&path).map_err(Error::file("read", &path))?;
            match address {
                Some(address) if range.contains(address) && !owner.is_empty() => {
                    held.taken.insert(address);
                    held.by_owner.insert(owner, address);
                }
                // A file left half way by a crash, or of another range.
                _ => fs::remove_file(&path).map_err(Error::file("remove", &path))?,
            }
        }
        let highest = held.taken.iter().map(|a| u64::from(u32::from(*a))).max();
        held.next = highest.map_or(2, |h| h - u64::from(u32::from(range.gateway())) + 2);
        Ok(Self {
            dir: dir.to_owned(),
            range,
            held: Mutex::new(held),
        })
    }

    /// The owner's address, a new one if it has none. Network, gateway and broadcast addresses are never given.
    pub(crate) fn allocate(&self, owner: &str) -> Result<Ipv4Addr, Error> {
        let mut held = self.held.lock();
        if let Some(address) = held.by_owner.get(owner) {
            return Ok(*address);
        }
        let usable = self.range.size().saturating_sub(3);
        let start = held.next.saturating_sub(2);
        let free = (0..usable)
            .map(|i| (start + i) % usable + 2)
            .find_map(|offset| Some((offset, self.range.nth(offset)?)).filter(|(_, a)| !held.taken.contains(a)));
        let Some((offset, address)) = free else {
            return Err(Error::Exhausted(self.range));
        };
        self.write(owner, address)?;
        held.next = offset + 1;
        held.taken.insert(address);
        held.by_owner.insert(owner.to_owned(), address);
        Ok(address)
    }

    fn write(&self, owner: &str, address: Ipv4Addr) -> Result<(), Error> {
        let whole = self.dir.join(address.to_string());
        let draft = self.dir.join(format!(".{address}"));
        fs::write(&draft, owner).map_err(Error::file("write", &draft))?;
        fs::rename(&draft, &whole).map_err(Error::file("rename", &draft))
    }

    pub(crate) fn address_of(&self, owner: &str) -> Option<Ipv4Addr> {
        self.held.lock().by_owner.get(owner).copied()
    }

    /// Gives the owner's address back; nothing happens if it has none.
    pub(crate) fn release(&self, owner: &str) -> Result<(), Error> {
        let mut held = self.held.lock();
        let Some(address) = held.by_owner.get(owner).copied() else {
            return Ok(());
        };
        let path = self.dir.join(address.to_string());
        match fs::remove_file(&path) {
            Err(source) if source.kind() != ErrorKind::NotFound => return Err(Error::file("remove", path)(source)),
            _ => {}
        }
        held.by_owner.remove(owner);
        held.taken.remove(&address);
        Ok(())
    }

    /// Everyone who holds an address.
    pub(crate) fn owners(&self) -> Vec<String> {
        self.held.lock().by_owner.keys().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range() -> Cidr {
        "10.9.0.0/29".parse().unwrap()
    }

    #[test]
    fn an_address_is_given_once_and_survives_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        let ipam = Ipam::open(dir.path(), range()).unwrap();
        let a = ipam.allocate("a").unwrap();
        assert_eq!(a, Ipv4Addr::new(10, 9, 0, 2));
        assert_eq!(ipam.allocate("a").unwrap(), a);
        let b = ipam.allocate("b").unwrap();
        assert_ne!(a, b);
        let again = Ipam::open(dir.path(), range()).unwrap();
        assert_eq!(again.address_of("a"), Some(a));
        assert_eq!(again.allocate("b").unwrap(), b);
        assert_eq!(again.allocate("c").unwrap(), Ipv4Addr::new(10, 9, 0, 4));
    }

    #[test]
    fn a_released_address_rests_until_the_range_has_gone_round() {
        let dir = tempfile::tempdir().unwrap();
        let ipam = Ipam::open(dir.path(), range()).unwrap();
        let a = ipam.allocate("a").unwrap();
        ipam.release("a").unwrap();
        ipam.release("a").unwrap();
        let others: Vec<_> = ["b", "c", "d", "e"].iter().map(|o| ipam.allocate(o).unwrap()).collect();
        assert!(!others.contains(&a));
        assert_eq!(ipam.allocate("f").unwrap(), a);
        assert!(matches!(ipam.allocate("g"), Err(Error::Exhausted(_))));
    }

    #[test]
    fn what_a_crash_left_half_way_is_swept() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join(".10.9.0.3"), "x").unwrap();
        fs::write(dir.path().join("10.8.0.3"), "other range").unwrap();
        let ipam = Ipam::open(dir.path(), range()).unwrap();
        assert!(ipam.owners().is_empty());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
