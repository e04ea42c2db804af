//! System calls that `nix` does not wrap. Nearly all of the `unsafe` there is, each with its reason; it knows nothing
//! about containers.
#![allow(unsafe_code)]

use std::ffi::{CStr, CString};
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::time::Duration;

use nix::libc;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, SigmaskHow, sigprocmask};
use nix::unistd::Pid;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Tells a terminal how large its window is.
pub(crate) fn set_terminal_size(terminal: &impl AsFd, columns: u16, rows: u16) -> io::Result<()> {
    let size = libc::winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    };
    // SAFETY: the descriptor is open for the call and `size` is a valid winsize that the kernel only reads.
    check(unsafe { libc::ioctl(terminal.as_fd().as_raw_fd(), libc::TIOCSWINSZ, &size) })
}

/// Reads what a process has written to a pipe or a terminal. 0 is the end, which a terminal tells by an error when its
/// last process has closed it. Linux looks for input before it looks for that: what is written and closed in between is
/// still there when it says so for the first time, and only the second time is it the end.
pub(crate) fn read_output(mut source: &fs::File, into: &mut [u8]) -> io::Result<usize> {
    use io::Read;
    let closed = |result: &io::Result<usize>| {
        let error = result.as_ref().err();
        error.is_some_and(|error| error.raw_os_error() == Some(libc::EIO))
    };
    let mut result = source.read(into);
    if closed(&result) {
        result = source.read(into);
    }
    if closed(&result) { Ok(0) } else { result }
}

/// Sets an extended attribute of what `path` names, following symbolic links.
pub(crate) fn set_xattr_at(path: &CStr, name: &CStr, value: &[u8]) -> io::Result<()> {
    // SAFETY: both strings are NUL-terminated and `value` points to `value.len()` readable bytes.
    check(unsafe { libc::setxattr(path.as_ptr(), name.as_ptr(), value.as_ptr().cast(), value.len(), 0) })
}

/// The extended attributes of what `path` names, which is no symbolic link; none where the file system has none.
pub(crate) fn xattrs(path: &Path) -> io::Result<Vec<(CString, Vec<u8>)>> {
    use std::os::unix::ffi::OsStrExt;
    let path = CString::new(path.as_os_str().as_bytes())?;
    // The sizes may change between the two calls of each pair: what does not fit is an error then.
    let list = sized(|buffer, size| {
        // SAFETY: `path` is NUL-terminated, and the kernel writes at most `size` bytes to `buffer`.
        unsafe { libc::llistxattr(path.as_ptr(), buffer.cast(), size) }
    });
    let list = match list {
        Err(error) if error.raw_os_error() == Some(libc::ENOTSUP) => return Ok(Vec::new()),
        list => list?,
    };
    let names = list.split(|byte| *byte == 0).filter(|name| !name.is_empty());
    let mut all = Vec::new();
    for name in names {
        let name = CString::new(name)?;
        let value = sized(|buffer, size| {
            // SAFETY: both strings are NUL-terminated, and the kernel writes at most `size` bytes to `buffer`.
            unsafe { libc::lgetxattr(path.as_ptr(), name.as_ptr(), buffer.cast(), size) }
        })?;
        all.push((name, value));
    }
    all.sort();
    Ok(all)
}

/// What a call returns that tells the size of it when it is given no room.
fn sized(call: impl Fn(*mut u8, usize) -> libc::ssize_t) -> io::Result<Vec<u8>> {
    let length = |result: libc::ssize_t| usize::try_from(result).map_err(|_| io::Error::last_os_error());
    let mut bytes = vec![0; length(call(std::ptr::null_mut(), 0))?];
    let written = length(call(bytes.as_mut_ptr(), bytes.len()))?;
    bytes.truncate(written);
    Ok(bytes)
}

/// Brings up `lo` in the caller's network namespace.
pub(crate) fn bring_up_loopback() -> io::Result<()> {
    // SAFETY: a plain socket(2) whose result is checked before it is owned.
    let socket = unsafe {
        let fd = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        check(fd)?;
        OwnedFd::from_raw_fd(fd)
    };
    // SAFETY: ifreq is plain data for which all zeroes is valid.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    request.ifr_name[0] = b'l' as libc::c_char;
    request.ifr_name[1] = b'o' as libc::c_char;
    // SAFETY: SIOCGIFFLAGS fills in, SIOCSIFFLAGS reads, the ifreq that outlives both calls.
    unsafe {
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFFLAGS, &mut request))?;
        request.ifr_ifru.ifru_flags |= libc::IFF_UP as libc::c_short;
        check(libc::ioctl(socket.as_raw_fd(), libc::SIOCSIFFLAGS, &request))
    }
}

/// A process that cannot be mistaken for a later one with the same number.
#[derive(Debug)]
pub(crate) struct PidFd(OwnedFd);

impl PidFd {
    pub(crate) fn open(pid: i32) -> io::Result<Self> {
        // SAFETY: pidfd_open takes two integers; a non-negative result is a new descriptor that nobody else owns.
        unsafe {
            let fd = libc::syscall(libc::SYS_pidfd_open, pid, 0) as libc::c_int;
            check(fd)?;
            Ok(Self(OwnedFd::from_raw_fd(fd)))
        }
    }

    pub(crate) fn kill(&self, signal: i32) -> io::Result<()> {
        // SAFETY: the descriptor is a pidfd; a null siginfo asks for that of kill(2).
        let result = unsafe {
            libc::syscall(
                libc::SYS_pidfd_send_signal,
                self.0.as_raw_fd(),
                signal,
                std::ptr::null::<libc::siginfo_t>(),
                0,
            )
        };
        check(result as libc::c_int)
    }

    /// Waits for its end.
    pub(crate) async fn ended(self) -> io::Result<()> {
        // SAFETY: an `OwnedFd` always returns the same descriptor, and owns it until it is dropped, which is after its
        // registration was.
        let process = unsafe { AsyncFd::register_with_interest(self.0, Interest::READABLE) }?;
        process.readable().await.map(drop)
    }

    /// Waits for its end. False when the time is over first.
    pub(crate) fn wait(&self, limit: Duration) -> io::Result<bool> {
        let timeout = PollTimeout::try_from(limit).unwrap_or(PollTimeout::MAX);
        loop {
            match poll(&mut [PollFd::new(self.0.as_fd(), PollFlags::POLLIN)], timeout) {
                Ok(ready) => return Ok(ready > 0),
                Err(nix::errno::Errno::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }
}

/// Forks; the child runs `child` and exits with what it returns.
///
/// For single-threaded processes only: the child may then do anything its parent could.
pub(crate) fn fork(child: impl FnOnce() -> i32) -> io::Result<Pid> {
    // SAFETY: the caller is single-threaded, so the child's memory holds no lock of a thread that is not there.
    match unsafe { nix::unistd::fork() }? {
        nix::unistd::ForkResult::Parent { child } => Ok(child),
        nix::unistd::ForkResult::Child => {
            let code = std::panic::catch_unwind(std::panic::AssertUnwindSafe(child)).unwrap_or(101);
            // SAFETY: _exit never returns and runs no handler that belongs to the parent.
            unsafe { libc::_exit(code) }
        }
    }
}

/// Closes every descriptor from `first` on, whoever owns it: for a freshly forked child that is about to become
/// another program.
pub(crate) fn close_from(first: RawFd) {
    // SAFETY: closing descriptors is memory-safe; the child that calls this uses none of them afterwards.
    unsafe {
        libc::syscall(libc::SYS_close_range, first as libc::c_uint, libc::c_uint::MAX, 0);
    }
}

/// Default actions for every signal, whoever changed them, and none blocked: as a program expects to be started.
pub(crate) fn reset_signals() {
    // The kernel's own structure, all zero: default action, no flags, no restorer, empty mask. The C library's
    // function would refuse the signals that it keeps to itself.
    let default = [0u64; 4];
    for signal in 1..=64 {
        // SAFETY: the kernel reads a sigaction of 32 bytes whose zeroes are valid, and writes nothing. SIGKILL and
        // SIGSTOP are refused, which is fine.
        unsafe {
            libc::syscall(
                libc::SYS_rt_sigaction,
                signal,
                default.as_ptr(),
                std::ptr::null_mut::<u64>(),
                8,
            );
        }
    }
    let _ = sigprocmask(SigmaskHow::SIG_SETMASK, Some(&SigSet::empty()), None);
}

/// Lets the kernel reap this process's children.
pub(crate) fn ignore_children() {
    // SAFETY: SIG_IGN for SIGCHLD is a valid disposition with no handler.
    unsafe {
        libc::signal(libc::SIGCHLD, libc::SIG_IGN);
    }
}

/// The program at `path` on a read-only mount of its own that nobody else sees, to be executed as
/// `/proc/self/fd/N`: a process that finds its way to it by `/proc/PID/exe` still cannot write it.
pub(crate) fn read_only_program(path: &CStr) -> io::Result<OwnedFd> {
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    const MOUNT_ATTR_RDONLY: u64 = 1;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint;
    // SAFETY: `path` is NUL-terminated; a non-negative result is a new descriptor that nobody else owns.
    let tree = unsafe {
        let fd = libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, path.as_ptr(), flags) as libc::c_int;
        check(fd)?;
        OwnedFd::from_raw_fd(fd)
    };
    // struct mount_attr: attributes to set, to clear, propagation, user namespace.
    let attributes = [MOUNT_ATTR_RDONLY, 0, 0, 0];
    // SAFETY: the empty path is NUL-terminated and the kernel reads as many bytes as it is told are there.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    check(result as libc::c_int)?;
    Ok(tree)
}

/// Mounts `source`, with what is mounted below it, at `target`; ids in its own files are those of the user `namespace`.
pub(crate) fn mount_mapped(source: &Path, target: &Path, namespace: &impl AsFd) -> io::Result<()> {
    use std::os::unix::ffi::OsStrExt;
    const OPEN_TREE_CLONE: libc::c_uint = 1;
    const MOVE_MOUNT_F_EMPTY_PATH: libc::c_uint = 4;
    const MOUNT_ATTR_IDMAP: u64 = 0x0010_0000;
    let source = std::ffi::CString::new(source.as_os_str().as_bytes())?;
    let target = std::ffi::CString::new(target.as_os_str().as_bytes())?;
    let flags = OPEN_TREE_CLONE | libc::O_CLOEXEC as libc::c_uint | libc::AT_RECURSIVE as libc::c_uint;
    // SAFETY: `source` is NUL-terminated; a non-negative result is a new descriptor that nobody else owns.
    let tree = unsafe {
        let fd = libc::syscall(libc::SYS_open_tree, libc::AT_FDCWD, source.as_ptr(), flags) as libc::c_int;
        check(fd)?;
        OwnedFd::from_raw_fd(fd)
    };
    // struct mount_attr: attributes to set, to clear, propagation, user namespace.
    let attributes = [MOUNT_ATTR_IDMAP, 0, 0, namespace.as_fd().as_raw_fd() as u64];
    // SAFETY: the empty path is NUL-terminated and the kernel reads as many bytes as it is told are there.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            attributes.as_ptr(),
            size_of_val(&attributes),
        )
    };
    check(result as libc::c_int)?;
    // SAFETY: both paths are NUL-terminated, both descriptors are open for the call or stand for the working directory.
    let result = unsafe {
        libc::syscall(
            libc::SYS_move_mount,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_FDCWD,
            target.as_ptr(),
            MOVE_MOUNT_F_EMPTY_PATH,
        )
    };
    check(result as libc::c_int)
}

/// When a process started, in clock ticks since boot: with its number, who it is.
pub(crate) fn start_time(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command's name may hold anything, so count from its closing parenthesis: state is field 3, start is 22.
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map(|id| id.trim().to_owned())
        .unwrap_or_default()
}

/// The capabilities that this process can give away, as a bit mask.
pub(crate) fn bounding_capabilities() -> u64 {
    fs::read_to_string("/proc/self/status")
        .ok()
        .and_then(|status| {
            let line = status.lines().find_map(|line| line.strip_prefix("CapBnd:"))?;
            u64::from_str_radix(line.trim(), 16).ok()
        })
        .unwrap_or(0)
}

/// Writes a file so that a reader sees the old or the new content, never a part.
pub(crate) fn write_atomic(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content, |_| Ok(()))
}

/// As [`write_atomic`], and durable when it returns.
pub(crate) fn write_durable(path: &Path, content: &[u8]) -> io::Result<()> {
    replace(path, content, fs::File::sync_all)?;
    match path.parent() {
        Some(parent) => fs::File::open(parent)?.sync_all(),
        None => Ok(()),
    }
}

/// Writes beside the file, does what is to be done with what was written, and puts it in the file's place.
fn replace(path: &Path, content: &[u8], finish: impl FnOnce(&fs::File) -> io::Result<()>) -> io::Result<()> {
    use std::io::Write;
    let temporary = path.with_extension(format!("tmp{}", std::process::id()));
    let mut file = fs::File::create(&temporary)?;
    file.write_all(content)?;
    finish(&file)?;
    drop(file);
    fs::rename(&temporary, path)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::process::{Command, Stdio};

    #[test]
    fn the_output_of_a_process_that_ends_at_once_comes_whole_out_of_its_terminal() {
        for _ in 0..100 {
            let terminal = nix::pty::openpty(None, None).unwrap();
            let side = || Stdio::from(terminal.slave.try_clone().unwrap());
            let mut command = Command::new("sh");
            command.args(["-c", "echo out; echo err >&2"]);
            let mut child = command.stdin(side()).stdout(side()).stderr(side()).spawn().unwrap();
            drop((command, terminal.slave));
            let master = fs::File::from(terminal.master);
            let (mut output, mut chunk) = (Vec::new(), [0; 64]);
            loop {
                match read_output(&master, &mut chunk).unwrap() {
                    0 => break,
                    count => output.extend_from_slice(&chunk[..count]),
                }
            }
            assert_eq!(String::from_utf8_lossy(&output), "out\r\nerr\r\n");
            child.wait().unwrap();
        }
    }
}
