//! `hostPath`: a file or directory of the node, after the check that its type asks for.

use std::fs::{self, OpenOptions};
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use async_trait::async_trait;
use k8s_openapi::api::core::v1::HostPathVolumeSource;

use super::{Setup, Volume, io};

#[async_trait]
impl Volume for HostPathVolumeSource {
    async fn set_up(&self, _name: &str, _setup: &Setup<'_>) -> Result<PathBuf, String> {
        let path = PathBuf::from(&self.path);
        check(&path, self.type_.as_deref().unwrap_or_default())?;
        Ok(path)
    }
}

fn check(path: &Path, kind: &str) -> Result<(), String> {
    let found = fs::metadata(path).ok();
    let is = |test: fn(&fs::FileType) -> bool| found.as_ref().is_some_and(|m| test(&m.file_type()));
    let require = |holds: bool, what: &str| {
        if holds {
            Ok(())
        } else {
            Err(format!("hostPath type check failed: {} is not {what}", path.display()))
        }
    };
    match kind {
        // What is not there is made by the mount, as it always was upstream.
        "" if found.is_none() => fs::create_dir_all(path).map_err(io("create", path)),
        "" => Ok(()),
        "DirectoryOrCreate" if found.is_none() => fs::DirBuilder::new()
            .recursive(true)
            .mode(0o755)
            .create(path)
            .map_err(io("create", path)),
        "FileOrCreate" if found.is_none() => OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o644)
            .open(path)
            .map(drop)
            .map_err(io("create", path)),
        "DirectoryOrCreate" | "Directory" => require(is(fs::FileType::is_dir), "a directory"),
        "FileOrCreate" | "File" => require(is(fs::FileType::is_file), "a file"),
        "Socket" => require(is(|t| t.is_socket()), "a socket file"),
        "CharDevice" => require(is(|t| t.is_char_device()), "a character device"),
        "BlockDevice" => require(is(|t| t.is_block_device()), "a block device"),
        other => Err(format!("hostPath type {other:?} is unknown")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_is_checked() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        fs::write(at("file"), "").unwrap();
        for (path, kind, fine) in [
            (dir.path().to_owned(), "Directory", true),
            (at("file"), "Directory", false),
            (at("none"), "Directory", false),
            (at("file"), "File", true),
            (at("none"), "File", false),
            (at("socket"), "Socket", true),
            (at("file"), "Socket", false),
            (PathBuf::from("/dev/null"), "CharDevice", true),
            (PathBuf::from("/dev/null"), "BlockDevice", false),
            (at("new/dir"), "DirectoryOrCreate", true),
            (at("newfile"), "FileOrCreate", true),
            (at("file"), "DirectoryOrCreate", false),
            (at("file"), "", true),
        ] {
            assert_eq!(check(&path, kind).is_ok(), fine, "{kind} {}", path.display());
        }
        assert!(at("new/dir").is_dir() && at("newfile").is_file());
    }
}
