//! Who a container runs as: the configuration's user or the image's, completed from the image's own user database.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use nix::fcntl::OFlag;

use crate::container::Security;
use crate::error::{Error, Result};
use crate::image::unpack::open_in_root;

/// Larger user databases are no user databases.
const LIMIT: u64 = 4 << 20;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) additional_gids: Vec<u32>,
    pub(crate) home: String,
}

/// The image's `/etc/passwd` and `/etc/group`; empty where it has none.
#[derive(Default)]
pub(crate) struct Database {
    passwd: String,
    group: String,
}

impl Database {
    /// Reads them from a mounted root file system, from which no link leads out.
    pub(crate) fn read(rootfs: &Path) -> Result<Self> {
        let root = File::open(rootfs).map_err(Error::io("open", rootfs))?.into();
        let read = |path: &str| -> String {
            let Ok(file) = open_in_root(&root, Path::new(path), OFlag::O_RDONLY | OFlag::O_NONBLOCK) else {
                return String::new();
            };
            let mut bytes = Vec::new();
            let _ = File::from(file).take(LIMIT).read_to_end(&mut bytes);
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Ok(Self {
            passwd: read("etc/passwd"),
            group: read("etc/group"),
        })
    }

    fn user(&self, matches: impl Fn(&[&str]) -> bool) -> Option<Vec<&str>> {
        self.passwd
            .lines()
            .map(|line| line.split(':').collect::<Vec<_>>())
            .find(|f| f.len() >= 6 && matches(f))
    }

    fn group_id(&self, name: &str) -> Option<u32> {
        let groups = self.group.lines().map(|line| line.split(':').collect::<Vec<_>>());
        groups
            .filter(|f| f.len() >= 3 && f[0] == name)
            .find_map(|f| f[2].parse().ok())
    }

    fn groups_of(&self, user: &str) -> Vec<u32> {
        self.group
            .lines()
            .filter_map(|line| {
                let fields: Vec<&str> = line.split(':').collect();
                let members = fields.get(3)?;
                members
                    .split(',')
                    .any(|member| member.trim() == user)
                    .then(|| fields[2].parse().ok())?
            })
            .collect()
    }
}

/// `image_user` is `user`, `uid`, `user:group` or any mix of names and numbers; empty is root.
pub(crate) fn resolve(security: &Security, image_user: &str, database: &Database) -> Result<Identity> {
    let (image_name, image_group) = match image_user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|group| !group.is_empty())),
        None => (image_user, None),
    };
    let own = security
        .user
        .map(|uid| uid.to_string())
        .or_else(|| security.username.clone());
    let user = own
        .as_deref()
        .unwrap_or(if image_name.is_empty() { "0" } else { image_name });

    // A name may consist of digits, but then the digits are the number, as everywhere.
    let (uid, entry) = match user.parse::<u32>() {
        Ok(uid) => (uid, database.user(|fields| fields[2].parse() == Ok(uid))),
        Err(_) => {
            let entry = database.user(|fields| fields[0] == user);
            let uid = entry.as_ref().and_then(|fields| fields[2].parse().ok());
            let missing = || Error::InvalidConfig(format!("user {user:?} is not in the image's /etc/passwd"));
            (uid.ok_or_else(missing)?, entry)
        }
    };
    let gid = match (security.group, image_group.filter(|_| own.is_none())) {
        (Some(gid), _) => gid,
        (None, Some(group)) => match group.parse() {
            Ok(gid) => gid,
            Err(_) => database
                .group_id(group)
                .ok_or_else(|| Error::InvalidConfig(format!("group {group:?} is not in the image's /etc/group")))?,
        },
        (None, None) => entry.as_ref().and_then(|fields| fields[3].parse().ok()).unwrap_or(0),
    };
    let mut additional = vec![gid];
    if let Some(fields) = entry.as_ref().filter(|_| !security.strict_groups) {
        additional.extend(database.groups_of(fields[0]));
    }
    additional.extend(&security.supplemental_groups);
    let mut seen = std::collections::HashSet::new();
    additional.retain(|gid| seen.insert(*gid));
    let home = entry.map(|fields| fields[5].to_owned()).filter(|home| !home.is_empty());
    Ok(Identity {
        uid,
        gid,
        additional_gids: additional,
        home: home.unwrap_or_else(|| "/".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn database() -> Database {
        Database {
            passwd: "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n".into(),
            group: "root:x:0:\napp:x:1001:\nextra:x:50:app,other\nweb:x:33:\n".into(),
        }
    }

    #[test]
    fn the_images_user_is_looked_up_by_name_and_number() {
        let by_name = resolve(&Security::default(), "app", &database()).unwrap();
        assert_eq!(
            (by_name.uid, by_name.gid, by_name.home.as_str()),
            (1000, 1001, "/home/app")
        );
        assert_eq!(by_name.additional_gids, [1001, 50]);
        assert_eq!(resolve(&Security::default(), "1000", &database()).unwrap(), by_name);
        assert_eq!(resolve(&Security::default(), "app:web", &database()).unwrap().gid, 33);
        assert_eq!(resolve(&Security::default(), "", &database()).unwrap().uid, 0);
        assert!(resolve(&Security::default(), "ghost", &database()).is_err());
    }

    #[test]
    fn the_containers_user_and_groups_override_the_images() {
        let security = Security {
            user: Some(5),
            group: Some(6),
            supplemental_groups: vec![7, 6],
            ..Security::default()
        };
        let identity = resolve(&security, "app:web", &database()).unwrap();
        assert_eq!((identity.uid, identity.gid), (5, 6));
        assert_eq!(identity.additional_gids, [6, 7]);
        assert_eq!(identity.home, "/");
    }

    #[test]
    fn strict_groups_leave_out_those_of_the_image() {
        let security = Security {
            strict_groups: true,
            supplemental_groups: vec![9],
            ..Security::default()
        };
        assert_eq!(
            resolve(&security, "app", &database()).unwrap().additional_gids,
            [1001, 9]
        );
    }
}
