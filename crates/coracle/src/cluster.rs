//! A cluster's directory on this machine: where things are, and who holds it.
//!
//! `coracle.pid` holds the server's process id, and the server holds a lock on that file while it lives. The lock tells
//! a running server from a file left behind, and waiting for it is waiting for the server's end.

use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};
use nix::unistd::Pid;

use crate::cli::Place;

/// A directory with a cluster in it, or room for one.
#[derive(Clone, Debug)]
pub struct Cluster {
    pub dir: PathBuf,
}

/// The lock of a running server; released when dropped, or when the process ends however it ends.
pub struct Held {
    _lock: Flock<File>,
}

impl Cluster {
    pub fn at(place: &Place) -> anyhow::Result<Self> {
        let dir = match &place.data_dir {
            Some(dir) => dir.clone(),
            None if nix::unistd::geteuid().is_root() => PathBuf::from("/var/lib/coracle"),
            None => {
                let home = std::env::var_os("HOME").context("HOME is not set; say where with --data-dir")?;
                Path::new(&home).join(".local/share/coracle")
            }
        };
        let dir = std::path::absolute(&dir).with_context(|| format!("cannot resolve {}", dir.display()))?;
        Ok(Self { dir })
    }

    pub fn pid_file(&self) -> PathBuf {
        self.dir.join("coracle.pid")
    }

    pub fn log_file(&self) -> PathBuf {
        self.dir.join("coracle.log")
    }

    /// The administrator's kubeconfig that the server writes.
    pub fn admin_kubeconfig(&self) -> PathBuf {
        self.dir.join("admin.kubeconfig")
    }

    /// Which kubeconfig `up` wrote the context to, and under which name, so that `down --delete` can take it out.
    pub fn context_file(&self) -> PathBuf {
        self.dir.join("kubeconfig-context.json")
    }

    pub fn store_dir(&self) -> PathBuf {
        self.dir.join("store")
    }

    /// The snapshots that a running server takes by itself.
    pub fn snapshot_dir(&self) -> PathBuf {
        self.dir.join("snapshots")
    }

    pub fn pki_dir(&self) -> PathBuf {
        self.dir.join("pki")
    }

    pub fn node_dir(&self) -> PathBuf {
        self.dir.join("node")
    }

    pub fn runtime_dir(&self) -> PathBuf {
        self.dir.join("runtime")
    }

    pub fn network_dir(&self) -> PathBuf {
        self.dir.join("network")
    }

    /// Tells clusters on one machine apart: a short hash (FNV-1a) of the directory, the same in every version.
    pub fn id(&self) -> String {
        let bytes = self.dir.as_os_str().as_encoded_bytes();
        let hash = bytes.iter().fold(0x811c_9dc5_u32, |hash, b| {
            (hash ^ u32::from(*b)).wrapping_mul(0x0100_0193)
        });
        format!("{hash:08x}")
    }

    /// Pods with users of their own pass through the cluster's directory to their root file systems, so others may pass
    /// and not look. What holds secrets is shut one level below.
    pub fn create(&self) -> anyhow::Result<()> {
        use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
        for (directory, mode) in [
            (&self.dir, 0o711),
            (&self.node_dir(), 0o700),
            (&self.network_dir(), 0o700),
        ] {
            std::fs::DirBuilder::new()
                .recursive(true)
                .mode(mode)
                .create(directory)
                .and_then(|()| std::fs::set_permissions(directory, std::fs::Permissions::from_mode(mode)))
                .with_context(|| {
                    format!(
                        "cannot create {}; choose another place with --data-dir",
                        directory.display()
                    )
                })?;
        }
        Ok(())
    }

    fn open_pid_file(&self) -> std::io::Result<File> {
        OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(self.pid_file())
    }

    /// Takes the cluster for this process and writes its id; fails if a server runs.
    pub fn hold(&self) -> anyhow::Result<Held> {
        let path = self.pid_file();
        let file = self
            .open_pid_file()
            .with_context(|| format!("cannot open {}", path.display()))?;
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((mut file, _)) => {
                let pid = read_pid(&mut file).map_or_else(|| "?".into(), |p| p.to_string());
                bail!(
                    "a server (process {pid}) already runs on {}; use it, stop it with `coracle down --data-dir {}`, \
                     or choose another --data-dir and --port",
                    self.dir.display(),
                    self.dir.display()
                );
            }
        };
        lock.set_len(0)?;
        lock.rewind()?;
        writeln!(lock, "{}", std::process::id())?;
        lock.sync_all()?;
        Ok(Held { _lock: lock })
    }

    /// The process id of the running server, if one runs.
    pub fn running(&self) -> anyhow::Result<Option<Pid>> {
        if !self.pid_file().exists() {
            return Ok(None);
        }
        let file = OpenOptions::new().read(true).write(true).open(self.pid_file());
        let file = file.with_context(|| format!("cannot open {}; are you its owner?", self.pid_file().display()))?;
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Ok(_) => Ok(None),
            Err((mut file, _)) => Ok(read_pid(&mut file).map(Pid::from_raw)),
        }
    }

    /// Blocks until no server holds the cluster. Call it from a thread that may wait.
    pub fn wait_for_end(&self) -> std::io::Result<()> {
        let file = self.open_pid_file()?;
        Flock::lock(file, FlockArg::LockShared)
            .map(drop)
            .map_err(|(_, errno)| errno.into())
    }
}

fn read_pid(file: &mut File) -> Option<i32> {
    let mut text = String::new();
    file.rewind().ok()?;
    file.read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}

/// Points standard output at nothing, which closes the pipe it was.
pub fn close_stdout() -> std::io::Result<()> {
    let null = OpenOptions::new().write(true).open("/dev/null")?;
    nix::unistd::dup2(std::os::fd::AsRawFd::as_raw_fd(&null.as_fd()), 1)?;
    Ok(())
}
/// A file that only its owner may read.
pub fn write_private(path: &Path, text: &str) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    file.write_all(text.as_bytes())
        .with_context(|| format!("cannot write {}", path.display()))
}
