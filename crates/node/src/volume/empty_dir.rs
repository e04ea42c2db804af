//! `emptyDir`: a directory that lives as long as the pod: on disk, in memory, or in huge pages.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::{EmptyDirVolumeSource, Pod};

use super::{Setup, Volume, io, mounts};
use crate::pod::amount::{Amounts, whole, whole_of};
use crate::pod::resources;

#[async_trait]
impl Volume for EmptyDirVolumeSource {
    async fn set_up(&self, name: &str, setup: &Setup<'_>) -> Result<PathBuf, String> {
        let dir = setup.dir("empty-dir", name);
        if dir.is_dir() && self.medium.as_deref().unwrap_or_default().is_empty() {
            return Ok(dir);
        }
        std::fs::create_dir_all(&dir).map_err(io("create", &dir))?;
        match self.medium.as_deref().unwrap_or_default() {
            "" => {}
            "Memory" => {
                let size = size_in_memory(self, setup.pod, &setup.node.allocatable);
                mounts::tmpfs(&dir, size).map_err(io("mount a tmpfs on", &dir))?;
            }
            medium if medium.starts_with("HugePages") => {
                let size = page_size(medium, setup.pod)?;
                mounts::hugetlbfs(&dir, &size).map_err(io("mount huge pages on", &dir))?;
            }
            other => return Err(format!("unknown storage medium {other:?}")),
        }
        let mode = match setup.fs_group() {
            Some(group) => {
                chown(&dir, None, Some(group)).map_err(io("chown", &dir))?;
                0o2777
            }
            None => 0o777,
        };
        std::fs::set_permissions(&dir, std::fs::Permissions::from_mode(mode)).map_err(io("chmod", &dir))?;
        Ok(dir)
    }
}

/// The least of what the volume, the whole pod and all pods of the node may have. What is in it is memory that its writers
/// use, so more could not be filled anyway; and who looks how much fits is told the truth.
fn size_in_memory(volume: &EmptyDirVolumeSource, pod: &Pod, allocatable: &Amounts) -> Option<i64> {
    let own = volume.size_limit.as_ref().map(whole);
    let of_pod = resources::of_pod(pod, -1).memory_limit;
    let of_node = whole_of(Some(allocatable), "memory");
    [own, of_pod, of_node]
        .into_iter()
        .flatten()
        .filter(|size| *size > 0)
        .min()
}

/// `2Mi` of `HugePages-2Mi`; of plain `HugePages` it is the one size that the pod or its containers ask for.
fn page_size(medium: &str, pod: &Pod) -> Result<String, String> {
    if let Some(size) = medium.strip_prefix("HugePages-").filter(|size| !size.is_empty()) {
        return Ok(size.to_owned());
    }
    let spec = pod.spec.as_ref();
    let containers = spec
        .into_iter()
        .flat_map(|s| s.init_containers.iter().flatten().chain(&s.containers));
    let of_pod = spec.and_then(|s| s.resources.as_ref());
    let all = containers.filter_map(|c| c.resources.as_ref()).chain(of_pod);
    let amounts = all.filter_map(|r| r.requests.as_ref());
    let mut sizes: Vec<&str> = amounts
        .flat_map(|a| a.keys().filter_map(|name| name.strip_prefix("hugepages-")))
        .collect();
    sizes.sort_unstable();
    sizes.dedup();
    match sizes.as_slice() {
        [size] => Ok((*size).to_owned()),
        [] => Err("medium HugePages needs a container that requests huge pages".into()),
        _ => Err(
            "medium HugePages is ambiguous in a pod that requests pages of several sizes; name one (HugePages-2Mi)"
                .into(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// concepts/storage/volumes: emptyDir.
    #[test]
    fn without_a_size_memory_backed_volumes_are_sized_to_node_allocatable_memory() {
        let size = |limit: Option<&str>, of_pod: Option<&str>| {
            let volume = json!({"medium": "Memory", "sizeLimit": limit});
            let resources = of_pod.map(|memory| json!({"limits": {"memory": memory}}));
            let pod = json!({"spec": {"containers": [{"name": "c", "resources": resources}]}});
            let allocatable = serde_json::from_value(json!({"memory": "4Gi"})).unwrap();
            size_in_memory(
                &serde_json::from_value(volume).unwrap(),
                &serde_json::from_value(pod).unwrap(),
                &allocatable,
            )
        };
        assert_eq!(size(None, None), Some(4 << 30));
        assert_eq!(size(Some("1Gi"), None), Some(1 << 30));
        assert_eq!(size(Some("8Gi"), None), Some(4 << 30), "no more than there is");
        assert_eq!(size(None, Some("2Gi")), Some(2 << 30), "nor than the pod may have");
        assert_eq!(size(Some("3Gi"), Some("2Gi")), Some(2 << 30));
        assert_eq!(size(Some("0"), None), Some(4 << 30), "nothing is no limit");
    }

    #[test]
    fn the_size_of_huge_pages_is_named_or_the_only_one_that_is_requested() {
        let size = |medium: &str, requests: serde_json::Value| {
            let pod = json!({"spec": {"containers": [{"name": "c", "resources": {"requests": requests}}]}});
            page_size(medium, &serde_json::from_value(pod).unwrap())
        };
        assert_eq!(size("HugePages-1Gi", json!({})), Ok("1Gi".into()));
        assert_eq!(
            size("HugePages", json!({"hugepages-2Mi": "4Mi", "cpu": "1"})),
            Ok("2Mi".into())
        );
        let of_pod =
            json!({"spec": {"containers": [{"name": "c"}], "resources": {"requests": {"hugepages-1Gi": "1Gi"}}}});
        assert_eq!(
            page_size("HugePages", &serde_json::from_value(of_pod).unwrap()),
            Ok("1Gi".into())
        );
        assert!(size("HugePages", json!({})).is_err());
        assert!(size("HugePages", json!({"hugepages-2Mi": "4Mi", "hugepages-1Gi": "1Gi"})).is_err());
    }
}
