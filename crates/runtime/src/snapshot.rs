//! A container's root file system: the image's layers below, a directory of its own above, joined by overlayfs.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

use crate::sandbox::UserNamespace;

/// Mounts `layers` (lowest first, in `layers_directory`) at `container/rootfs`, writable in `container/upper`.
///
/// The names of many layers must fit into one page, so they are given relative to their directory; only a thread of
/// its own may change the working directory.
///
/// In a pod with users of its own the files of the layers belong to the pod's users, by a mapped view of the layers.
pub(crate) fn mount_rootfs(
    layers_directory: &Path,
    layers: &[String],
    container: &Path,
    users: Option<&IdMap>,
) -> io::Result<()> {
    for (name, mode) in [("upper", 0o755), ("work", 0o700), ("rootfs", 0o755)] {
        let directory = container.join(name);
        fs::create_dir_all(&directory)?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode))?;
    }
    let target = container.join("rootfs");
    let upper = container.join("upper");
    let root = users.map_or(0, |users| users.root);
    if layers.is_empty() {
        std::os::unix::fs::chown(&upper, Some(root), Some(root))?;
        // An image of nothing: the container's own directory is all there is.
        return Ok(mount(
            Some(&container.join("upper")),
            &target,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )?);
    }
    let top = fs::metadata(layers_directory.join(&layers[layers.len() - 1]))?;
    // The merged root shows the attributes of the upper directory, which should be the image's.
    fs::set_permissions(&upper, top.permissions())?;
    std::os::unix::fs::chown(&upper, Some(root + top.uid()), Some(root + top.gid()))?;
    let mapped = container.join("layers");
    if let Some(users) = users {
        fs::create_dir_all(&mapped)?;
        users.mount(layers_directory, &mapped)?;
    }
    let layers_directory = if users.is_some() { &mapped } else { layers_directory };
    let lower: Vec<&str> = layers.iter().rev().map(String::as_str).collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}{}",
        lower.join(":"),
        container.join("upper").display(),
        container.join("work").display(),
        stable_options()
    );
    let result = mount_overlay(layers_directory, &target, &options);
    // The overlay keeps what it was given.
    if users.is_some() {
        unmount(&mapped)?;
        fs::remove_dir(&mapped)?;
    }
    result
}

/// Mounts an image's files at `target`, to be read only.
pub(crate) fn mount_image(
    layers_directory: &Path,
    layers: &[String],
    target: &Path,
    users: Option<&IdMap>,
) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let mapped = target.with_extension("layers");
    if let Some(users) = users {
        fs::create_dir_all(&mapped)?;
        users.mount(layers_directory, &mapped)?;
    }
    let from = if users.is_some() { &mapped } else { layers_directory };
    let result = match layers {
        [] => Ok(()),
        // The kernel stacks no fewer than two.
        [only] => mount(
            Some(&from.join(only)),
            target,
            None::<&str>,
            MsFlags::MS_BIND,
            None::<&str>,
        )
        .map_err(io::Error::from),
        _ => {
            let lower: Vec<&str> = layers.iter().rev().map(String::as_str).collect();
            let options = format!("lowerdir={}{}", lower.join(":"), stable_options());
            mount_overlay(from, target, &options)
        }
    };
    if users.is_some() {
        unmount(&mapped)?;
        fs::remove_dir(&mapped)?;
    }
    result
}

/// The users of a pod that has its own, as its user namespace maps them.
pub(crate) struct IdMap {
    namespace: fs::File,
    /// The host's id that is the pod's root.
    pub(crate) root: u32,
}

impl IdMap {
    /// By the process that holds the namespace.
    pub(crate) fn of(holder: i32, users: &UserNamespace) -> io::Result<Self> {
        Ok(Self {
            namespace: fs::File::open(format!("/proc/{holder}/ns/user"))?,
            root: users.host_id,
        })
    }

    /// Mounts `source` at `target` so that ids in its files are the pod's. What is mounted below `source` comes along as
    /// it is.
    pub(crate) fn mount(&self, source: &Path, target: &Path) -> io::Result<()> {
        crate::sys::mount_mapped(source, target, &self.namespace).map_err(|error| match error.raw_os_error() {
            Some(nix::libc::EINVAL) => io::Error::other(
                "the file system cannot map users (idmapped mounts), which a pod with users of its own needs",
            ),
            _ => error,
        })
    }
}

/// Mounts an overlay whose options name its layers relative to `directory`.
fn mount_overlay(directory: &Path, target: &Path, options: &str) -> io::Result<()> {
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_FS)?;
            nix::unistd::chdir(directory)?;
            mount(
                Some("overlay"),
                target,
                Some("overlay"),
                MsFlags::empty(),
                Some(options),
            )
        });
        match thread.join() {
            Ok(result) => Ok(result?),
            Err(_) => Err(io::Error::other("the mounting thread panicked")),
        }
    })
}

/// Mounts the memory that a pod's containers share at `/dev/shm`.
pub(crate) fn mount_shm(target: &Path, size: u64, owner: u32) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = format!("mode=1777,size={size},uid={owner},gid={owner}");
    Ok(mount(
        Some("shm"),
        target,
        Some("tmpfs"),
        flags,
        Some(options.as_str()),
    )?)
}

/// Unmounts everything stacked at `target`. Absent or not mounted is fine.
pub(crate) fn unmount(target: &Path) -> io::Result<()> {
    loop {
        match umount2(target, MntFlags::MNT_DETACH | MntFlags::UMOUNT_NOFOLLOW) {
            Ok(()) => {}
            Err(Errno::EINVAL | Errno::ENOENT) => return Ok(()),
            Err(error) => return Err(error.into()),
        }
    }
}

/// Unmounts everything mounted below `directory`, deepest first: for recovery.
pub(crate) fn unmount_below(directory: &Path) -> io::Result<()> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    let mut points: Vec<String> = mountinfo
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(unescape)
        .filter(|point| Path::new(point).starts_with(directory))
        .collect();
    points.sort();
    for point in points.iter().rev() {
        unmount(Path::new(point))?;
    }
    Ok(())
}

/// mountinfo writes blanks and backslashes as octal numbers.
fn unescape(field: &str) -> String {
    field
        .replace("\\040", " ")
        .replace("\\011", "\t")
        .replace("\\012", "\n")
        .replace("\\134", "\\")
}

/// Options that keep upper directories usable as lower ones and on any kernel, where the kernel knows them.
pub(crate) fn stable_options() -> &'static str {
    static OPTIONS: OnceLock<String> = OnceLock::new();
    OPTIONS.get_or_init(|| {
        ["index", "redirect_dir", "metacopy"]
            .iter()
            .filter(|option| Path::new("/sys/module/overlay/parameters").join(option).exists())
            .map(|option| format!(",{option}=off"))
            .collect()
    })
}

/// The mount that a path is on: where, and its propagation (`shared:1`, `master:2`).
pub(crate) fn mount_of(path: &Path) -> io::Result<(std::path::PathBuf, Vec<String>)> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo")?;
    let mut best: Option<(std::path::PathBuf, Vec<String>)> = None;
    for line in mountinfo.lines() {
        let fields: Vec<&str> = line.split(' ').collect();
        let Some(point) = fields.get(4).map(|point| std::path::PathBuf::from(unescape(point))) else {
            continue;
        };
        // Of mounts on one another, the last is the one that is seen.
        let deeper = best
            .as_ref()
            .is_none_or(|(known, _)| point.components().count() >= known.components().count());
        if path.starts_with(&point) && deeper {
            let tags = fields[6..]
                .iter()
                .take_while(|field| **field != "-")
                .map(|tag| (*tag).to_owned())
                .collect();
            best = Some((point, tags));
        }
    }
    best.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
}
