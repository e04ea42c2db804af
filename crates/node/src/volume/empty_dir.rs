//! `emptyDir`: a directory that lives as long as the pod, on disk or in memory.

use std::os::unix::fs::{PermissionsExt, chown};
use std::path::PathBuf;

use async_trait::async_trait;
use k8s_openapi::api::core::v1::EmptyDirVolumeSource;

use super::{Setup, Volume, io, mounts};
use crate::pod::amount::whole;

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
                let size = self.size_limit.as_ref().map(whole).filter(|size| *size > 0);
                mounts::tmpfs(&dir, size).map_err(io("mount a tmpfs on", &dir))?;
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
