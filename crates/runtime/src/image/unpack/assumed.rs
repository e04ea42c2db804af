//! What a layer that is unpacked by itself takes for granted about the layers below it, and how it is settled with them
//! when they are there. It changes only the layer's own directory.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, ResolveFlag};
use nix::sys::stat::{FileStat, Mode, fchmod, fstat, fstatat};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchown, unlinkat};

use super::{is_directory, is_whiteout, open_resolved};
use crate::sys;

#[derive(Default)]
pub(crate) struct Assumed {
    directories: BTreeMap<PathBuf, Directory>,
    whiteouts: Vec<PathBuf>,
    /// Directories that hide all that is below them.
    opaque: BTreeSet<PathBuf>,
    /// Directories get their times last, when nothing changes in them any more.
    pub(super) times: Vec<(PathBuf, TimeSpec)>,
}

#[derive(Default)]
struct Directory {
    /// The layer put something into it before it said what it is: below, it is a directory or nothing.
    passed_through: bool,
    takes: Takes,
}

/// Which attributes a directory has from the one below.
#[derive(Default, PartialEq)]
enum Takes {
    #[default]
    Nothing,
    /// Those that the layer does not set itself.
    Xattrs,
    All,
}

impl Assumed {
    /// A directory was made only because something is in it.
    pub(super) fn passed_through(&mut self, path: &Path) {
        if !self.covers(path) {
            let directory = self.directories.entry(path.to_owned()).or_default();
            *directory = Directory {
                passed_through: true,
                takes: Takes::All,
            };
        }
    }

    /// The layer has an entry for a directory.
    pub(super) fn declared(&mut self, path: &Path) {
        if !self.covers(path) {
            self.directories.entry(path.to_owned()).or_default().takes = Takes::Xattrs;
        }
    }

    /// What the layer had at `path` it has no more.
    pub(super) fn replaced(&mut self, path: &Path) {
        let below = self.directories.range_mut(path.to_owned()..);
        for (_, directory) in below.take_while(|(other, _)| other.starts_with(path)) {
            directory.takes = Takes::Nothing;
        }
    }

    pub(super) fn hidden(&mut self, path: PathBuf) {
        self.whiteouts.push(path);
    }

    pub(super) fn opaque(&mut self, path: &Path) {
        self.opaque.insert(path.to_owned());
    }

    /// Whether nothing that is below can show at `path`.
    pub(super) fn covers(&self, path: &Path) -> bool {
        !self.opaque.is_empty() && path.ancestors().any(|ancestor| self.opaque.contains(ancestor))
    }

    /// Settles the layer unpacked to `upper` with what `lower` shows. `false` when the layer means something else on it
    /// than was assumed: then it has to be unpacked again, on what is below.
    pub(crate) fn settle(mut self, upper: &Path, lower: &Path) -> io::Result<bool> {
        let (upper, lower): (OwnedFd, OwnedFd) = (File::open(upper)?.into(), File::open(lower)?.into());
        let mut adopted = Vec::new();
        for (path, directory) in std::mem::take(&mut self.directories) {
            match stat(&lower, &path)? {
                Found::Nothing => {}
                Found::File(below) if is_directory(&below) => adopted.push((path, directory.takes, below)),
                _ if directory.passed_through => return Ok(false),
                _ => {}
            }
        }
        for path in &self.whiteouts {
            if self.covers(path) || !matches!(stat(&lower, path)?, Found::File(_)) {
                remove_whiteout(&upper, path)?;
            }
        }
        let mut times = Vec::new();
        for (path, takes, below) in adopted {
            let Some(directory) = directory(&upper, &path)?.filter(|_| takes != Takes::Nothing) else {
                continue;
            };
            if takes == Takes::All {
                let (uid, gid) = (Uid::from_raw(below.st_uid), Gid::from_raw(below.st_gid));
                fchown(directory.as_raw_fd(), Some(uid), Some(gid))?;
                fchmod(directory.as_raw_fd(), Mode::from_bits_truncate(below.st_mode & 0o7777))?;
                times.push((path.clone(), TimeSpec::new(below.st_mtime, below.st_mtime_nsec)));
            }
            if let Some(below) = self::directory(&lower, &path)? {
                adopt_xattrs(&directory, &below)?;
            }
        }
        times.append(&mut self.times);
        set_times(&upper, &times)?;
        Ok(true)
    }
}

/// Gives directories their times. One that was replaced since has none to get.
pub(super) fn set_times(root: &OwnedFd, times: &[(PathBuf, TimeSpec)]) -> io::Result<()> {
    for (path, time) in times {
        if let Some(directory) = directory(root, path)? {
            nix::sys::stat::futimens(directory.as_raw_fd(), time, time)?;
        }
    }
    Ok(())
}

enum Found {
    File(FileStat),
    Nothing,
    /// What is on the way is a link or no directory.
    Elsewhere,
}

fn stat(root: &OwnedFd, path: &Path) -> io::Result<Found> {
    match open_resolved(
        root,
        path,
        OFlag::O_PATH | OFlag::O_NOFOLLOW,
        ResolveFlag::RESOLVE_NO_SYMLINKS,
    ) {
        Ok(file) => Ok(Found::File(fstat(file.as_raw_fd())?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Found::Nothing),
        Err(error) if is_elsewhere(&error) => Ok(Found::Elsewhere),
        Err(error) => Err(error),
    }
}

/// The directory at `path`, where there is one without following links.
fn directory(root: &OwnedFd, path: &Path) -> io::Result<Option<OwnedFd>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY;
    match open_resolved(root, path, flags, ResolveFlag::RESOLVE_NO_SYMLINKS) {
        Ok(directory) => Ok(Some(directory)),
        Err(error) if error.kind() == io::ErrorKind::NotFound || is_elsewhere(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_elsewhere(error: &io::Error) -> bool {
    let code = error.raw_os_error();
    code == Some(Errno::ELOOP as i32) || code == Some(Errno::ENOTDIR as i32)
}

fn remove_whiteout(upper: &OwnedFd, path: &Path) -> io::Result<()> {
    let (Some(parent), Some(name)) = (path.parent(), path.file_name()) else {
        return Ok(());
    };
    let Some(parent) = directory(upper, parent)? else {
        return Ok(());
    };
    match fstatat(Some(parent.as_raw_fd()), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(found) if is_whiteout(&found) => {}
        Ok(_) | Err(Errno::ENOENT) => return Ok(()),
        Err(error) => return Err(error.into()),
    }
    Ok(unlinkat(Some(parent.as_raw_fd()), name, UnlinkatFlags::NoRemoveDir)?)
}

fn adopt_xattrs(directory: &OwnedFd, below: &OwnedFd) -> io::Result<()> {
    // By way of the directory itself: the link of the descriptor would not be followed.
    let path = |fd: &OwnedFd| PathBuf::from(format!("/proc/self/fd/{}/.", fd.as_raw_fd()));
    let there = sys::xattrs(&path(below))?;
    if there.is_empty() {
        return Ok(());
    }
    let own = sys::xattrs(&path(directory))?;
    let target = CString::new(path(directory).as_os_str().as_bytes())?;
    for (key, value) in there {
        if !key.as_bytes().starts_with(b"trusted.overlay.") && !own.iter().any(|(known, _)| *known == key) {
            sys::set_xattr_at(&target, &key, &value)?;
        }
    }
    Ok(())
}
