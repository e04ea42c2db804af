//! `fsGroup` on a volume that outlives the pod: every file becomes the group's, readable and writable by it, and what is
//! made later inherits the group.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

const SET_GID: u32 = 0o2000;

/// Changes everything below `root`; with `only_on_mismatch` nothing, if the root is as it should be.
pub(super) fn set(root: &Path, group: u32, only_on_mismatch: bool) -> io::Result<()> {
    let found = fs::symlink_metadata(root)?;
    if only_on_mismatch && found.gid() == group && found.mode() & wanted(true) == wanted(true) {
        return Ok(());
    }
    // The root comes last: it tells that all the rest is done.
    let mut open = vec![root.to_owned()];
    let mut directories = Vec::new();
    while let Some(directory) = open.pop() {
        for entry in fs::read_dir(&directory)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                open.push(entry.path());
            } else {
                change(&entry.path(), group)?;
            }
        }
        directories.push(directory);
    }
    directories.iter().rev().try_for_each(|d| change(d, group))
}

fn wanted(directory: bool) -> u32 {
    if directory { 0o770 | SET_GID } else { 0o660 }
}

fn change(path: &Path, group: u32) -> io::Result<()> {
    let found = match fs::symlink_metadata(path) {
        // Its pods go on working meanwhile.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    if found.gid() != group {
        lchown(path, None, Some(group))?;
    }
    let mode = found.mode() & 0o7777 | wanted(found.is_dir());
    if found.is_symlink() || mode == found.mode() & 0o7777 {
        return Ok(());
    }
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_gets_every_file_and_symlinks_are_not_followed() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let (dir, outside) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let at = |name: &str| dir.path().join(name);
        fs::create_dir(at("sub")).unwrap();
        fs::write(at("sub/file"), "").unwrap();
        fs::write(outside.path().join("other"), "").unwrap();
        std::os::unix::fs::symlink(outside.path().join("other"), at("link")).unwrap();
        set(dir.path(), 4242, false).unwrap();
        for (path, mode) in [(at(""), 0o2770), (at("sub"), 0o2770), (at("sub/file"), 0o660)] {
            let found = fs::metadata(&path).unwrap();
            assert_eq!((found.gid(), found.mode() & mode), (4242, mode), "{}", path.display());
        }
        assert_eq!(fs::metadata(outside.path().join("other")).unwrap().gid(), 0);

        // Asked for only on mismatch, nothing below a right root is looked at.
        fs::write(at("late"), "").unwrap();
        lchown(at("late"), None, Some(0)).unwrap();
        set(dir.path(), 4242, true).unwrap();
        assert_eq!(fs::metadata(at("late")).unwrap().gid(), 0);
    }
}
