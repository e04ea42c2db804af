//! Which of the host's user and group ids are there for pods with users of their own: those above the host's own users, or
//! those that the host has set aside for the user `kubelet`. Pure but for [`UserIds::of_host`], which reads the files.

use std::path::Path;

/// What every range of ids is a multiple of, as upstream has it.
pub(crate) const UNIT: u32 = 65_536;
/// The first ids belong to the host's own users and to those who run containers without root.
const FIRST: u32 = 64 * UNIT;
const END: u32 = 0x7fff_0000;
/// The one user whose subordinate ids are those of pods.
const OWNER: &str = "kubelet";

/// Ids from `first` on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct UserIds {
    pub(crate) first: u32,
    pub(crate) count: u32,
    /// How many each pod has.
    pub(crate) per_pod: u32,
}

impl Default for UserIds {
    fn default() -> Self {
        Self::above_the_host(UNIT)
    }
}

impl UserIds {
    fn above_the_host(per_pod: u32) -> Self {
        Self {
            first: FIRST,
            count: END - FIRST,
            per_pod,
        }
    }

    /// How many pods can have some.
    pub(crate) fn blocks(&self) -> u32 {
        self.count / self.per_pod
    }

    /// As the host says, below `root` (`/`).
    pub(crate) fn of_host(root: &Path, per_pod: u32, most_pods: u32) -> Result<Self, String> {
        let read = |name: &str| std::fs::read_to_string(root.join("etc").join(name)).unwrap_or_default();
        let is_known = read("passwd").lines().any(|line| line.split(':').next() == Some(OWNER));
        let (users, groups) = (read("subuid"), read("subgid"));
        if !is_known || (users.is_empty() && groups.is_empty()) {
            return Ok(Self::above_the_host(per_pod));
        }
        let (users, groups) = (owned(&users), owned(&groups));
        if users != groups {
            return Err(format!(
                "the subordinate ids of {OWNER} in /etc/subuid and /etc/subgid differ"
            ));
        }
        let [(first, count)] = users.as_slice() else {
            return Err(format!(
                "{OWNER} must have exactly one line in /etc/subuid and /etc/subgid, and has {}",
                users.len()
            ));
        };
        set_aside(first, count, per_pod, most_pods)
    }
}

/// First id and count of each of the owner's lines.
fn owned(text: &str) -> Vec<(&str, &str)> {
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with('#'));
    let fields = lines.filter_map(|line| {
        let mut fields = line.split(':');
        (fields.next()? == OWNER).then(|| Some((fields.next()?, fields.next()?)))?
    });
    fields.collect()
}

fn set_aside(first: &str, count: &str, per_pod: u32, most_pods: u32) -> Result<UserIds, String> {
    let number = |what: &str, text: &str| {
        let parsed = text.parse::<u32>();
        parsed.map_err(|_| format!("{what} of {OWNER}'s subordinate ids is {text:?}, and must be a number"))
    };
    let (start, length) = (number("the first", first)?, number("the count", count)?);
    if start < UNIT || !start.is_multiple_of(UNIT) {
        return Err(format!(
            "the first of {OWNER}'s subordinate ids is {start}, and must be a multiple of {UNIT}, not 0"
        ));
    }
    if !length.is_multiple_of(UNIT) {
        return Err(format!(
            "the count of {OWNER}'s subordinate ids is {length}, and must be a multiple of {UNIT}"
        ));
    }
    let least = u64::from(per_pod) * u64::from(most_pods);
    if u64::from(length) < least {
        return Err(format!(
            "{OWNER} has {length} subordinate ids, and {most_pods} pods of {per_pod} each need {least}"
        ));
    }
    if u64::from(start) + u64::from(length) > u64::from(u32::MAX) {
        return Err(format!(
            "{OWNER}'s subordinate ids end beyond the last id that there is"
        ));
    }
    Ok(UserIds {
        first: start,
        count: length,
        per_pod,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(passwd: &str, subuid: &str, subgid: &str) -> Result<UserIds, String> {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("etc")).unwrap();
        for (name, text) in [("passwd", passwd), ("subuid", subuid), ("subgid", subgid)] {
            std::fs::write(root.path().join("etc").join(name), text).unwrap();
        }
        UserIds::of_host(root.path(), UNIT, 110)
    }

    const KUBELET: &str = "root:x:0:0::/root:/bin/sh\nkubelet:x:999:999::/:/bin/false\n";
    const RANGE: &str = "me:100000:65536\n# of pods\nkubelet:65536:7208960\n";

    /// concepts/workloads/pods/user-namespaces: set up a node to support user namespaces.
    #[test]
    fn the_kubelet_can_use_a_custom_range_for_user_ids_and_group_ids_for_pods() {
        let of_pods = UserIds {
            first: 65_536,
            count: 110 * 65_536,
            per_pod: 65_536,
        };
        assert_eq!(host(KUBELET, RANGE, RANGE), Ok(of_pods));
        assert_eq!(of_pods.blocks(), 110);
        // Without the user, or without subordinate ids, there is no range of its own.
        assert_eq!(
            host("root:x:0:0::/root:/bin/sh\n", RANGE, RANGE),
            Ok(UserIds::default())
        );
        assert_eq!(host(KUBELET, "", ""), Ok(UserIds::default()));
        assert!(UserIds::default().first > 65_535);
    }

    #[test]
    fn you_must_follow_some_constraints_for_the_subordinate_id_range() {
        for (line, why) in [
            ("kubelet:0:7208960", "must be a multiple of 65536, not 0"),
            ("kubelet:100000:7208960", "must be a multiple of 65536, not 0"),
            (
                "kubelet:65536:7208961",
                "the count of kubelet's subordinate ids is 7208961",
            ),
            ("kubelet:65536:65536", "110 pods of 65536 each need 7208960"),
            ("kubelet:4294901760:7208960", "beyond the last id"),
            ("kubelet:65536:many", "must be a number"),
            ("kubelet:65536:7208960\nkubelet:8388608:65536", "exactly one line"),
            ("me:65536:7208960", "exactly one line"),
        ] {
            let error = host(KUBELET, line, line).err().unwrap_or_default();
            assert!(error.contains(why), "{line}: {error}");
        }
        let error = host(KUBELET, RANGE, "kubelet:131072:7208960").unwrap_err();
        assert!(error.contains("differ"), "{error}");
    }
}
