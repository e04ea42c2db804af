//! Mounts below a pod's directory, and their removal. Nothing below it is deleted while anything is still mounted there:
//! a bind mount of the host's files must never be emptied.

use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

/// Everything mounted at or below `dir`, in order of mounting.
pub(crate) fn below(dir: &Path) -> io::Result<Vec<PathBuf>> {
    let table = std::fs::read_to_string("/proc/self/mountinfo")?;
    let points = table.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape);
    Ok(points.filter(|point| point.starts_with(dir)).collect())
}

/// mountinfo writes blanks as `\040`.
fn unescape(field: &str) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field.as_bytes();
    while let Some((first, tail)) = rest.split_first() {
        let octal = tail
            .get(..3)
            .and_then(|t| std::str::from_utf8(t).ok())
            .and_then(|t| u8::from_str_radix(t, 8).ok());
        match (first, octal) {
            (b'\\', Some(byte)) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    PathBuf::from(std::ffi::OsString::from_vec(bytes))
}

pub(crate) fn is_mounted(point: &Path) -> io::Result<bool> {
    Ok(below(point)?.iter().any(|p| p == point))
}

/// A tmpfs on `dir`, unless one is there. `size` in bytes; the kernel's default is half of the memory.
pub(crate) fn tmpfs(dir: &Path, size: Option<i64>) -> io::Result<()> {
    if is_mounted(dir)? {
        return Ok(());
    }
    let options = match size {
        Some(size) => format!("mode=0777,size={size}"),
        None => "mode=0777".to_owned(),
    };
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("tmpfs"), dir, Some("tmpfs"), flags, Some(options.as_str())).map_err(io::Error::from)
}

/// Huge pages of this size (`2Mi`) on `dir`, unless they are there.
pub(crate) fn hugetlbfs(dir: &Path, size: &str) -> io::Result<()> {
    if is_mounted(dir)? {
        return Ok(());
    }
    // The kernel reads `2M`.
    let options = format!("pagesize={},mode=0777", size.trim_end_matches('i'));
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount(Some("hugetlbfs"), dir, Some("hugetlbfs"), flags, Some(options.as_str())).map_err(io::Error::from)
}

/// The file or directory `source` also at `target`, instead of what was mounted there.
pub(crate) fn bind(source: &Path, target: &Path) -> io::Result<()> {
    if is_mounted(target)? {
        umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW).map_err(io::Error::from)?;
    }
    mount(Some(source), target, None::<&str>, MsFlags::MS_BIND, None::<&str>).map_err(io::Error::from)
}

/// Unmounts everything below `dir` and then removes it. Nothing happens if it is not there.
pub(crate) fn remove_tree(dir: &Path) -> io::Result<()> {
    let dir = match dir.canonicalize() {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    for point in below(&dir)?.iter().rev() {
        umount2(point, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW)
            .map_err(|e| io::Error::other(format!("unmount {}: {e}", point.display())))?;
    }
    let left = below(&dir)?;
    if let Some(point) = left.first() {
        return Err(io::Error::other(format!("{} is still mounted", point.display())));
    }
    match std::fs::remove_dir_all(&dir) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removal_unmounts_first_and_leaves_the_hosts_files_alone() {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("skipped: needs root");
            return;
        }
        let host = tempfile::tempdir().unwrap();
        std::fs::write(host.path().join("keep"), "x").unwrap();
        let pod = tempfile::tempdir().unwrap();
        let (a, b) = (pod.path().join("with blank"), pod.path().join("b"));
        std::fs::create_dir(&a).unwrap();
        std::fs::create_dir(&b).unwrap();
        tmpfs(&a, Some(1 << 20)).unwrap();
        tmpfs(&a, Some(1 << 20)).unwrap();
        bind(host.path(), &b).unwrap();
        assert!(b.join("keep").exists());
        assert_eq!(below(pod.path()).unwrap().len(), 2);
        remove_tree(pod.path()).unwrap();
        remove_tree(pod.path()).unwrap();
        assert!(!pod.path().exists());
        assert!(host.path().join("keep").exists());
    }
}
