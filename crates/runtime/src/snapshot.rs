//! A container's root file system: the image's layers below, a directory of its own above, joined by overlayfs.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::OnceLock;

use nix::errno::Errno;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// Mounts `layers` (lowest first, in `layers_directory`) at `container/rootfs`, writable in `container/upper`.
///
/// The names of many layers must fit into one page, so they are given relative to their directory; only a thread of
/// its own may change the working directory.
pub(crate) fn mount_rootfs(layers_directory: &Path, layers: &[String], container: &Path) -> io::Result<()> {
    for (name, mode) in [("upper", 0o755), ("work", 0o700), ("rootfs", 0o755)] {
        let directory = container.join(name);
        fs::create_dir_all(&directory)?;
        fs::set_permissions(&directory, fs::Permissions::from_mode(mode))?;
    }
    let target = container.join("rootfs");
    if layers.is_empty() {
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
    fs::set_permissions(container.join("upper"), top.permissions())?;
    {
        use std::os::unix::fs::MetadataExt;
        std::os::unix::fs::chown(container.join("upper"), Some(top.uid()), Some(top.gid()))?;
    }
    let lower: Vec<&str> = layers.iter().rev().map(String::as_str).collect();
    let options = format!(
        "lowerdir={},upperdir={},workdir={}{}",
        lower.join(":"),
        container.join("upper").display(),
        container.join("work").display(),
        stable_options()
    );
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_FS)?;
            nix::unistd::chdir(layers_directory)?;
            mount(
                Some("overlay"),
                &target,
                Some("overlay"),
                MsFlags::empty(),
                Some(options.as_str()),
            )
        });
        match thread.join() {
            Ok(result) => Ok(result?),
            Err(_) => Err(io::Error::other("the mounting thread panicked")),
        }
    })
}

/// Mounts the memory that a pod's containers share at `/dev/shm`.
pub(crate) fn mount_shm(target: &Path, size: u64) -> io::Result<()> {
    fs::create_dir_all(target)?;
    let flags = MsFlags::MS_NOSUID | MsFlags::MS_NODEV | MsFlags::MS_NOEXEC;
    let options = format!("mode=1777,size={size}");
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
