//! The files that a content volume consists of, selected from keys by items, with their modes. Pure but for
//! [`Payload::publish`], which hands them to the atomic writer.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::KeyToPath;

use super::{Setup, atomic, io, mounts};

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct File {
    pub(crate) bytes: Vec<u8>,
    pub(crate) mode: u32,
    pub(crate) owner: Option<u32>,
}

/// Files by relative path.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Payload {
    pub(crate) files: BTreeMap<String, File>,
}

pub(crate) const DEFAULT_MODE: i32 = 0o644;

fn mode_of(mode: Option<i32>, default: Option<i32>) -> u32 {
    mode.or(default).unwrap_or(DEFAULT_MODE).unsigned_abs() & 0o777
}

impl Payload {
    pub(crate) fn insert(
        &mut self,
        path: &str,
        bytes: Vec<u8>,
        mode: Option<i32>,
        default: Option<i32>,
    ) -> Result<(), String> {
        check(path)?;
        let mode = mode_of(mode, default);
        self.files.insert(
            path.to_owned(),
            File {
                bytes,
                mode,
                owner: None,
            },
        );
        Ok(())
    }

    /// All keys as files, or the items' keys at the items' paths. `what` begins the message on a key that is not there.
    pub(crate) fn select(
        &mut self,
        data: &BTreeMap<String, Vec<u8>>,
        items: &[KeyToPath],
        default: Option<i32>,
        optional: bool,
        what: &str,
    ) -> Result<(), String> {
        if items.is_empty() {
            return data
                .iter()
                .try_for_each(|(key, bytes)| self.insert(key, bytes.clone(), None, default));
        }
        for item in items {
            match data.get(&item.key) {
                Some(bytes) => self.insert(&item.path, bytes.clone(), item.mode, default)?,
                None if optional => {}
                None => return Err(format!("{what}: {}", item.key)),
            }
        }
        Ok(())
    }

    /// Writes the files into the volume's directory (a tmpfs if `in_memory`) as one step for its readers.
    pub(crate) fn publish(mut self, dir: &Path, in_memory: bool, setup: &Setup<'_>) -> Result<PathBuf, String> {
        std::fs::create_dir_all(dir).map_err(io("create", dir))?;
        if in_memory {
            mounts::tmpfs(dir, None).map_err(io("mount a tmpfs on", dir))?;
        }
        let group = setup.fs_group();
        if group.is_some() {
            for file in self.files.values_mut() {
                file.mode |= 0o440;
            }
        }
        atomic::write(dir, &self, group, setup.now).map_err(io("write", dir))?;
        Ok(dir.to_owned())
    }
}

/// Paths stay within the volume and leave the writer's own names alone.
fn check(path: &str) -> Result<(), String> {
    let bad = path.is_empty()
        || path.starts_with('/')
        || path.starts_with("..")
        || path.split('/').any(|part| part == ".." || part.is_empty());
    if bad {
        Err(format!("invalid path {path:?} in a volume"))
    } else {
        Ok(())
    }
}
