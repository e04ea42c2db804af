//! Applies one layer's tar stream to a directory: one that shows the layers below it, or an empty one, which is
//! [settled](assumed) with them later.
//!
//! Every path is resolved inside that directory by the kernel (`openat2` with `RESOLVE_IN_ROOT`), so that no entry,
//! symbolic link or hard link can reach outside, whatever its names say. Whiteouts become removals, or what overlayfs
//! writes down for them.

mod assumed;

use std::collections::HashSet;
use std::ffi::{CStr, CString, OsStr};
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AtFlags, OFlag, OpenHow, ResolveFlag, openat, openat2};
use nix::sys::stat::{
    FchmodatFlags, FileStat, Mode, SFlag, UtimensatFlags, fchmodat, fstatat, mkdirat, mknodat, utimensat,
};
use nix::sys::time::TimeSpec;
use nix::unistd::{Gid, Uid, UnlinkatFlags, fchownat, linkat, symlinkat, unlinkat};
use tar::{Archive, Entry, EntryType};

pub(crate) use assumed::Assumed;

const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";
const METADATA: &[u8] = b".wh..wh.";
const OVERLAY_OPAQUE: &CStr = c"trusted.overlay.opaque";

/// What is known of the layers below the one that is unpacked.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Below {
    /// There are none.
    Nothing,
    /// The directory shows them, and whiteouts hide them.
    Shown,
    /// They are not there yet. What cannot be told without them is an error.
    Unknown,
}

/// Unpacks `layer` into `root`. What was assumed about unknown layers below has to be settled before it is used.
pub(crate) fn unpack(layer: impl Read, root: &Path, below: Below) -> io::Result<Assumed> {
    let root = File::open(root)?;
    let mut unpacker = Unpacker {
        root: root.into(),
        below,
        written: HashSet::new(),
        assumed: Assumed::default(),
    };
    let mut archive = Archive::new(layer);
    for entry in archive.entries()? {
        let mut entry = entry?;
        let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        unpacker
            .apply(&mut entry)
            .map_err(|error| io::Error::new(error.kind(), format!("{name}: {error}")))?;
    }
    unpacker.finish()
}

struct Unpacker {
    root: OwnedFd,
    below: Below,
    /// What this layer itself holds, with all parents: its own whiteouts do not apply to it.
    written: HashSet<PathBuf>,
    assumed: Assumed,
}

/// The attributes of an entry, PAX records over header fields.
struct Metadata {
    uid: u32,
    gid: u32,
    mode: u32,
    mtime: TimeSpec,
    xattrs: Vec<(CString, Vec<u8>)>,
}

impl Unpacker {
    fn apply<R: Read>(&mut self, entry: &mut Entry<'_, R>) -> io::Result<()> {
        let kind = entry.header().entry_type();
        if matches!(kind, EntryType::XGlobalHeader) {
            return Ok(());
        }
        let path = inner_path(&entry.path_bytes())?;
        let metadata = Metadata::of(entry)?;
        let Some(name) = path.file_name().map(OsStr::to_owned) else {
            // The root itself: it is there, only its attributes are news.
            if kind.is_dir() {
                self.set_metadata(self.root.as_raw_fd(), OsStr::new("."), kind, &metadata)?;
                self.assumed.times.push((path, metadata.mtime));
            }
            return Ok(());
        };
        let parent_path = path.parent().unwrap_or(Path::new("")).to_owned();
        let parent = self.parent(&parent_path)?;
        let dir = parent.as_raw_fd();

        if name.as_bytes().starts_with(WHITEOUT) {
            return self.whiteout(&parent_path, dir, name.as_bytes());
        }
        for ancestor in path.ancestors() {
            if !self.written.insert(ancestor.to_owned()) && ancestor != path {
                break;
            }
        }
        let present = stat(dir, &name)?;
        let is_directory = present.as_ref().is_some_and(is_directory);
        if present.is_some() && !(is_directory && kind.is_dir()) {
            remove(dir, &name)?;
            self.assumed.replaced(&path);
        }
        match kind {
            EntryType::Directory => {
                if !is_directory {
                    mkdirat(Some(dir), name.as_os_str(), Mode::S_IRWXU)?;
                    if present.is_some() {
                        self.make_opaque(dir, &name, &path)?;
                    }
                }
                if self.below == Below::Unknown {
                    self.assumed.declared(&path);
                }
                self.assumed.times.push((path, metadata.mtime));
            }
            EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => write_file(entry, dir, &name)?,
            EntryType::Symlink => {
                let target = link_target(entry)?;
                symlinkat(OsStr::from_bytes(&target), Some(dir), name.as_os_str())?;
            }
            EntryType::Link => {
                let target = inner_path(&link_target(entry)?)?;
                let Some(target_name) = target.file_name() else {
                    return Err(invalid("a hard link to the root directory"));
                };
                let target_parent = self.open_directory(target.parent().unwrap_or(Path::new("")))?;
                if self.below == Below::Unknown
                    && stat(target_parent.as_raw_fd(), target_name)?.is_none_or(|target| is_whiteout(&target))
                {
                    return Err(invalid("a hard link to what is in no layer before"));
                }
                linkat(
                    Some(target_parent.as_raw_fd()),
                    target_name,
                    Some(dir),
                    name.as_os_str(),
                    AtFlags::empty(),
                )?;
                // It shares its target's attributes.
                return Ok(());
            }
            EntryType::Char | EntryType::Block | EntryType::Fifo => {
                let (flag, device) = match kind {
                    EntryType::Fifo => (SFlag::S_IFIFO, 0),
                    EntryType::Char => (SFlag::S_IFCHR, device(entry)?),
                    _ => (SFlag::S_IFBLK, device(entry)?),
                };
                if self.below == Below::Unknown && flag == SFlag::S_IFCHR && device == 0 {
                    return Err(invalid("a device that overlayfs takes for a whiteout"));
                }
                mknodat(Some(dir), name.as_os_str(), flag, Mode::S_IRWXU, device)?;
            }
            other => return Err(invalid(&format!("entry of unknown type {other:?}"))),
        }
        self.set_metadata(dir, &name, kind, &metadata)
    }

    fn whiteout(&mut self, parent_path: &Path, parent: RawFd, name: &[u8]) -> io::Result<()> {
        if self.below == Below::Nothing {
            return Ok(());
        }
        if name == OPAQUE {
            return match self.below {
                Below::Unknown if parent_path.as_os_str().is_empty() => {
                    Err(invalid("an opaque root, which overlayfs does not know"))
                }
                _ => {
                    self.hide_lower(parent_path, parent)?;
                    self.make_opaque(parent, OsStr::new("."), parent_path)
                }
            };
        }
        if name.starts_with(METADATA) {
            return Ok(());
        }
        let hidden = OsStr::from_bytes(&name[WHITEOUT.len()..]);
        if hidden.is_empty() || hidden == "." || hidden == ".." {
            return Err(invalid("a whiteout that names nothing"));
        }
        let path = parent_path.join(hidden);
        if self.written.contains(&path) {
            return Ok(());
        }
        // Directories that were only passed through are there, and go as well.
        remove(parent, hidden)?;
        self.assumed.replaced(&path);
        if self.below == Below::Unknown && !self.assumed.covers(&path) {
            mknodat(Some(parent), hidden, SFlag::S_IFCHR, Mode::empty(), 0)?;
            self.assumed.hidden(path);
        }
        Ok(())
    }

    /// Keeps what is below a directory from showing in it, where overlayfs does not do so by itself.
    fn make_opaque(&mut self, dir: RawFd, name: &OsStr, path: &Path) -> io::Result<()> {
        if self.below == Below::Unknown {
            set_xattrs(dir, name, &[(OVERLAY_OPAQUE.to_owned(), b"y".to_vec())], false)?;
            self.assumed.opaque(path);
        }
        Ok(())
    }

    /// Removes everything below a directory that this layer did not put there.
    fn hide_lower(&mut self, path: &Path, directory: RawFd) -> io::Result<()> {
        for name in names(directory)? {
            let child = path.join(&name);
            if !self.written.contains(&child) {
                remove(directory, &name)?;
                self.assumed.replaced(&child);
            } else if stat(directory, &name)?.as_ref().is_some_and(is_directory) {
                let opened = open_child_directory(directory, &name)?;
                self.hide_lower(&child, opened.as_raw_fd())?;
            }
        }
        Ok(())
    }

    /// Opens a directory inside the root.
    fn open_directory(&self, path: &Path) -> io::Result<OwnedFd> {
        // Without the layers below, nobody knows where a link leads.
        let resolve = match self.below {
            Below::Unknown => ResolveFlag::RESOLVE_NO_SYMLINKS,
            Below::Nothing | Below::Shown => ResolveFlag::empty(),
        };
        open_resolved(&self.root, path, OFlag::O_RDONLY | OFlag::O_DIRECTORY, resolve)
    }

    /// Opens a directory inside the root, making what is missing of it.
    fn parent(&mut self, path: &Path) -> io::Result<OwnedFd> {
        match self.open_directory(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) if self.below == Below::Unknown && error.kind() == io::ErrorKind::NotADirectory => {}
            result => return result,
        }
        let open_to_all = Mode::S_IRWXU | Mode::S_IRGRP | Mode::S_IXGRP | Mode::S_IROTH | Mode::S_IXOTH;
        let mut so_far = PathBuf::new();
        let mut directory = self.open_directory(&so_far)?;
        for component in path {
            so_far.push(component);
            directory = match self.open_directory(&so_far) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    mkdirat(Some(directory.as_raw_fd()), component, open_to_all)?;
                    if self.below == Below::Unknown {
                        self.assumed.passed_through(&so_far);
                    }
                    self.open_directory(&so_far)?
                }
                Err(error) if self.below == Below::Unknown && error.kind() == io::ErrorKind::NotADirectory => {
                    let dir = directory.as_raw_fd();
                    if !stat(dir, component)?.as_ref().is_some_and(is_whiteout) {
                        return Err(error);
                    }
                    // Hidden first and then made anew.
                    remove(dir, component)?;
                    mkdirat(Some(dir), component, open_to_all)?;
                    self.make_opaque(dir, component, &so_far)?;
                    self.open_directory(&so_far)?
                }
                result => result?,
            };
        }
        Ok(directory)
    }

    fn set_metadata(&self, dir: RawFd, name: &OsStr, kind: EntryType, metadata: &Metadata) -> io::Result<()> {
        // Changing the owner clears set-user-id and capabilities, so it comes first.
        fchownat(
            Some(dir),
            name,
            Some(Uid::from_raw(metadata.uid)),
            Some(Gid::from_raw(metadata.gid)),
            AtFlags::AT_SYMLINK_NOFOLLOW,
        )?;
        if !kind.is_symlink() {
            let mode = Mode::from_bits_truncate(metadata.mode & 0o7777);
            fchmodat(Some(dir), name, mode, FchmodatFlags::FollowSymlink)?;
            if !metadata.xattrs.is_empty() {
                // The file system below may not know them; the image's files are still what they are.
                set_xattrs(dir, name, &metadata.xattrs, true)?;
            }
        }
        if !kind.is_dir() {
            utimensat(
                Some(dir),
                name,
                &metadata.mtime,
                &metadata.mtime,
                UtimensatFlags::NoFollowSymlink,
            )?;
        }
        Ok(())
    }

    fn finish(mut self) -> io::Result<Assumed> {
        if self.below != Below::Unknown {
            assumed::set_times(&self.root, &std::mem::take(&mut self.assumed.times))?;
        }
        Ok(self.assumed)
    }
}

impl Metadata {
    fn of<R: Read>(entry: &mut Entry<'_, R>) -> io::Result<Self> {
        let header = entry.header();
        let seconds = i64::try_from(header.mtime().unwrap_or(0)).unwrap_or(0);
        let raw = header.as_old();
        let (uid, gid) = (number(&raw.uid, header.uid())?, number(&raw.gid, header.gid())?);
        let mut metadata = Self {
            uid: u32::try_from(uid).map_err(|_| invalid("user id out of range"))?,
            gid: u32::try_from(gid).map_err(|_| invalid("group id out of range"))?,
            mode: number(&raw.mode, header.mode())?,
            mtime: TimeSpec::new(seconds, 0),
            xattrs: Vec::new(),
        };
        let Some(records) = entry.pax_extensions()? else {
            return Ok(metadata);
        };
        for record in records {
            let record = record?;
            let key = record.key_bytes();
            let text = || record.value().map_err(|_| invalid("a PAX record that is not UTF-8"));
            if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                // Overlayfs keeps its own state under these names: an image must not write it.
                if name.starts_with(b"trusted.overlay.") || name.starts_with(b"user.overlay.") {
                    continue;
                }
                metadata
                    .xattrs
                    .push((CString::new(name)?, record.value_bytes().to_vec()));
            } else if key == b"uid" {
                metadata.uid = text()?.parse().map_err(|_| invalid("a PAX uid that is no number"))?;
            } else if key == b"gid" {
                metadata.gid = text()?.parse().map_err(|_| invalid("a PAX gid that is no number"))?;
            } else if key == b"mtime" {
                metadata.mtime = parse_time(text()?).ok_or_else(|| invalid("a PAX mtime that is no time"))?;
            }
        }
        Ok(metadata)
    }
}

/// A number of a header. A blank field is 0, as other tools have it.
fn number<T: From<u8>>(field: &[u8], read: io::Result<T>) -> io::Result<T> {
    let blank = field.iter().all(|byte| matches!(byte, 0 | b' '));
    if blank { Ok(0.into()) } else { read }
}

fn parse_time(text: &str) -> Option<TimeSpec> {
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits: String = fraction.chars().chain("000000000".chars()).take(9).collect();
    Some(TimeSpec::new(seconds.parse().ok()?, digits.parse().ok()?))
}

/// A path of the archive as a relative path of plain names.
fn inner_path(bytes: &[u8]) -> io::Result<PathBuf> {
    let mut path = PathBuf::new();
    for component in Path::new(OsStr::from_bytes(bytes)).components() {
        match component {
            Component::Normal(name) => path.push(name),
            Component::RootDir | Component::CurDir => {}
            Component::ParentDir | Component::Prefix(_) => return Err(invalid("the path leaves the image")),
        }
    }
    Ok(path)
}

fn link_target<R: Read>(entry: &Entry<'_, R>) -> io::Result<Vec<u8>> {
    match entry.link_name_bytes() {
        Some(target) if !target.is_empty() => Ok(target.into_owned()),
        _ => Err(invalid("a link without a target")),
    }
}

fn device<R: Read>(entry: &Entry<'_, R>) -> io::Result<nix::libc::dev_t> {
    let header = entry.header();
    match (header.device_major()?, header.device_minor()?) {
        (Some(major), Some(minor)) => Ok(nix::sys::stat::makedev(major.into(), minor.into())),
        _ => Err(invalid("a device without numbers")),
    }
}

fn write_file<R: Read>(entry: &mut Entry<'_, R>, dir: RawFd, name: &OsStr) -> io::Result<()> {
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut file = File::from(own(openat(Some(dir), name, flags, Mode::S_IRUSR | Mode::S_IWUSR)?));
    let expected = entry.size();
    let copied = io::copy(entry, &mut file)?;
    if copied != expected {
        return Err(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            "the archive ends in the middle of this file",
        ));
    }
    Ok(())
}

/// Opens `path` as if `root` were the root directory: links, absolute ones and `..` included.
pub(crate) fn open_in_root(root: &OwnedFd, path: &Path, flags: OFlag) -> io::Result<OwnedFd> {
    open_resolved(root, path, flags, ResolveFlag::empty())
}

fn open_resolved(root: &OwnedFd, path: &Path, flags: OFlag, resolve: ResolveFlag) -> io::Result<OwnedFd> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(resolve | ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
    loop {
        match openat2(root.as_raw_fd(), path, how) {
            Ok(fd) => return Ok(own(fd)),
            // A rename elsewhere made the kernel unsure; it asks to try again.
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Sets extended attributes of `name` itself. With `if_known`, one that the file system does not know is left out.
fn set_xattrs(dir: RawFd, name: &OsStr, xattrs: &[(CString, Vec<u8>)], if_known: bool) -> io::Result<()> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let file = own(openat(Some(dir), name, flags, Mode::empty())?);
    let path = CString::new(format!("/proc/self/fd/{}", file.as_raw_fd()))?;
    for (key, value) in xattrs {
        match crate::sys::set_xattr_at(&path, key, value) {
            Err(error) if if_known && error.raw_os_error() == Some(Errno::ENOTSUP as i32) => {}
            result => result?,
        }
    }
    Ok(())
}

fn is_directory(stat: &FileStat) -> bool {
    stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFDIR.bits()
}

/// What overlayfs takes for the removal of what is below.
fn is_whiteout(stat: &FileStat) -> bool {
    stat.st_mode & SFlag::S_IFMT.bits() == SFlag::S_IFCHR.bits() && stat.st_rdev == 0
}

fn stat(dir: RawFd, name: &OsStr) -> io::Result<Option<FileStat>> {
    match fstatat(Some(dir), name, AtFlags::AT_SYMLINK_NOFOLLOW) {
        Ok(stat) => Ok(Some(stat)),
        Err(Errno::ENOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes what `name` is, with all below it. Absent is fine.
fn remove(dir: RawFd, name: &OsStr) -> io::Result<()> {
    match unlinkat(Some(dir), name, UnlinkatFlags::NoRemoveDir) {
        Ok(()) | Err(Errno::ENOENT) => return Ok(()),
        Err(Errno::EISDIR | Errno::EPERM) => {}
        Err(error) => return Err(error.into()),
    }
    let directory = open_child_directory(dir, name)?;
    for child in names(directory.as_raw_fd())? {
        remove(directory.as_raw_fd(), &child)?;
    }
    Ok(unlinkat(Some(dir), name, UnlinkatFlags::RemoveDir)?)
}

fn open_child_directory(dir: RawFd, name: &OsStr) -> io::Result<OwnedFd> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    Ok(own(openat(Some(dir), name, flags, Mode::empty())?))
}

fn names(dir: RawFd) -> io::Result<Vec<std::ffi::OsString>> {
    let mut dir = nix::dir::Dir::openat(Some(dir), ".", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())?;
    let mut names = Vec::new();
    for entry in dir.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes();
        if name != b"." && name != b".." {
            names.push(OsStr::from_bytes(name).to_owned());
        }
    }
    Ok(names)
}

#[allow(unsafe_code)]
fn own(fd: RawFd) -> OwnedFd {
    // SAFETY: only called with descriptors that a successful open has just returned to us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

fn invalid(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason.to_owned())
}
