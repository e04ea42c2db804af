//! `subPath`: a part of a volume, pinned by a bind mount of an open descriptor, so that a link placed by a container
//! cannot lead out of the volume between the check and the mount.

use std::fs::{self, File, OpenOptions};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use nix::libc::{O_CLOEXEC, O_PATH};

use super::{io, mounts};

/// Where the part of the volume is mounted: below the pod's directory, by container and mount.
pub(crate) fn pin(
    pod_dir: &Path,
    container: &str,
    index: usize,
    volume: &Path,
    sub_path: &str,
) -> Result<PathBuf, String> {
    let relative = Path::new(sub_path);
    if relative
        .components()
        .any(|c| !matches!(c, Component::Normal(_) | Component::CurDir))
    {
        return Err(format!("subPath {sub_path:?} must stay within the volume"));
    }
    let root = volume.canonicalize().map_err(io("resolve", volume))?;
    let wanted = root.join(relative);
    // Make what is missing, from the deepest part that exists and is inside.
    let existing = wanted.ancestors().find(|a| a.exists()).unwrap_or(&root);
    inside(
        &root,
        &existing.canonicalize().map_err(io("resolve", existing))?,
        sub_path,
    )?;
    if !wanted.exists() {
        fs::create_dir_all(&wanted).map_err(io("create", &wanted))?;
    }
    let open = open_inside(&root, sub_path)?.ok_or_else(|| format!("subPath {sub_path:?} is gone"))?;
    let by_descriptor = by_descriptor(&open);
    let target = pod_dir.join("volume-subpaths").join(container).join(index.to_string());
    let is_dir = open.metadata().map_err(io("stat", &wanted))?.is_dir();
    if is_dir {
        fs::create_dir_all(&target).map_err(io("create", &target))?;
    } else {
        fs::create_dir_all(target.parent().unwrap_or(pod_dir)).map_err(io("create", &target))?;
        OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(&target)
            .map_err(io("create", &target))?;
    }
    mounts::bind(&by_descriptor, &target).map_err(io("mount", &target))?;
    Ok(target)
}

/// Opens what is at `path` in the volume, without reading it; none where there is nothing.
pub(crate) fn open_inside(volume: &Path, path: &str) -> Result<Option<File>, String> {
    let root = volume.canonicalize().map_err(io("resolve", volume))?;
    let resolved = match root.join(path).canonicalize() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        resolved => resolved.map_err(io("resolve", &root.join(path)))?,
    };
    inside(&root, &resolved, path)?;
    let open: File = OpenOptions::new()
        .read(true)
        .custom_flags(O_PATH | O_CLOEXEC)
        .open(&resolved)
        .map_err(io("open", &resolved))?;
    let by_descriptor = by_descriptor(&open);
    // What was opened is what counts, whatever the path leads to by now.
    inside(
        &root,
        &fs::read_link(&by_descriptor).map_err(io("read", &by_descriptor))?,
        path,
    )?;
    Ok(Some(open))
}

/// The path by which an open file is reached again.
pub(crate) fn by_descriptor(open: &File) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", open.as_raw_fd()))
}

fn inside(root: &Path, path: &Path, shown: &str) -> Result<(), String> {
    if path.starts_with(root) {
        Ok(())
    } else {
        Err(format!("subPath {shown:?} leads out of the volume"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sub_path_is_pinned_and_links_cannot_lead_out() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let (pod, volume) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        fs::create_dir(volume.path().join("d")).unwrap();
        fs::write(volume.path().join("d/f"), "in").unwrap();
        std::os::unix::fs::symlink("/etc", volume.path().join("out")).unwrap();
        std::os::unix::fs::symlink("d", volume.path().join("in")).unwrap();
        let pin = |index, sub: &str| pin(pod.path(), "c", index, volume.path(), sub);
        let dir = pin(0, "in").unwrap();
        assert_eq!(fs::read_to_string(dir.join("f")).unwrap(), "in");
        let file = pin(1, "d/f").unwrap();
        assert_eq!(fs::read_to_string(file).unwrap(), "in");
        assert!(pin(2, "new/deep").unwrap().is_dir());
        for bad in ["out", "out/passwd", "../x", "/etc", "out/new"] {
            assert!(pin(3, bad).is_err(), "{bad}");
        }
        mounts::remove_tree(pod.path()).unwrap();
        assert!(volume.path().join("d/f").exists());
    }
}
