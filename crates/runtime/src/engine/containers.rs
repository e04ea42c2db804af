//! Creating, starting, stopping and removing containers.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use nix::fcntl::OFlag;
use tokio::sync::watch;

use super::{
    CONTAINER_RECORD, ContainerEntry, ContainerRecord, Engine, Inner, SandboxEntry, blocking, remove_directory,
    write_json,
};
use crate::container::{ContainerConfig, ContainerState, ContainerStatus, Mount, Propagation};
use crate::error::{Error, Result};
use crate::id::{self, ContainerId, SandboxId};
use crate::image::ImageInfo;
use crate::image::config::{command_line, environment, parse_signal};
use crate::image::unpack::open_in_root;
use crate::pod_runtime::EventKind;
use crate::sandbox::SandboxState;
use crate::shim::protocol::{RECORD, Record, RecordState, Request, StartRequest};
use crate::snapshot::{self, IdMap};
use crate::spec::{self, user};

/// A process that SIGKILL does not end within this waits for something that does not come back.
const KILL_LIMIT: Duration = Duration::from_secs(30);

impl Engine {
    pub(super) async fn new_container(&self, sandbox: &SandboxId, config: ContainerConfig) -> Result<ContainerId> {
        let pod = self.inner.sandbox(sandbox)?;
        let _creating = pod.creating.read().await;
        if *pod.state.borrow() != SandboxState::Ready {
            return Err(Error::SandboxNotReady(sandbox.to_string()));
        }
        let image = self.inner.images.find(&config.image);
        let image = image.ok_or_else(|| Error::ImageNotFound {
            reference: config.image.clone(),
        })?;
        let id = ContainerId::new(id::random());
        let (inner, new, created_in) = (self.inner.clone(), id.clone(), pod.clone());
        let record = blocking(move || {
            let directory = inner.container_directory(&new);
            let result = inner.prepare(&new, &created_in, config, &image);
            if result.is_err() {
                let _ = snapshot::unmount_below(&directory);
                let _ = remove_directory(&directory);
            }
            result
        })
        .await?;
        let entry = Arc::new(ContainerEntry {
            directory: self.inner.container_directory(&id),
            status: watch::Sender::new(record.status(&id)),
            record: parking_lot::Mutex::new(record),
            change: tokio::sync::Mutex::default(),
            id: id.clone(),
        });
        self.inner.state.lock().containers.insert(id.clone(), entry);
        self.inner.emit(EventKind::Created, sandbox, Some(&id));
        Ok(id)
    }

    pub(super) async fn start(&self, id: &ContainerId) -> Result<()> {
        let entry = self.inner.container(id)?;
        let _change = entry.change.lock().await;
        entry.expect(ContainerState::Created, "created")?;
        let record = entry.record.lock().clone();
        let sandbox = self.inner.sandbox(&record.sandbox)?;
        if *sandbox.state.borrow() != SandboxState::Ready {
            return Err(Error::SandboxNotReady(record.sandbox.to_string()));
        }
        let request = Request::Start(StartRequest {
            container: id.to_string(),
            directory: entry.directory.clone(),
            cgroup: record.cgroup,
            terminal: record.config.tty,
            stdin: record.config.stdin,
            stdin_once: record.config.stdin_once,
            log: record.log_path,
            log_limits: self.inner.config.logs,
            shared_pids: record.shared_pids,
        });
        let answer = sandbox.client.call(&request).await;
        if let Err(error) = &answer {
            let failed = self.start_error(&entry, error);
            self.inner.apply(&entry, &failed);
        }
        answer?;
        // The shim told the watcher first, so this is there or about to be.
        let mut status = entry.status.subscribe();
        let _ = status.wait_for(|status| status.state != ContainerState::Created).await;
        Ok(())
    }

    fn start_error(&self, entry: &ContainerEntry, error: &Error) -> Record {
        let path = entry.directory.join(RECORD);
        if let Some(record) = super::read_json::<Record>(&path) {
            return record;
        }
        let record = Record {
            container: entry.id.to_string(),
            state: RecordState::Exited,
            pid: None,
            started_at: None,
            finished_at: Some(self.inner.config.clock.now()),
            exit_code: Some(128),
            signal: None,
            oom_killed: false,
            reason: Some("StartError".to_owned()),
            message: Some(error.chain()),
        };
        if let Err(error) = write_json(&path, &record) {
            tracing::warn!(container = %entry.id, error = %error.chain(), "cannot record a failed start");
        }
        record
    }

    /// Waits for its end. An error only when it is removed first.
    pub(super) async fn ended(&self, id: &ContainerId) -> Result<ContainerStatus> {
        // Holding no more than the receiving side, so that it is told when the container is removed.
        let mut status = self.inner.container(id)?.status.subscribe();
        let ended = status.wait_for(|status| status.state == ContainerState::Exited).await;
        ended
            .map(|status| status.clone())
            .map_err(|_| Error::NoSuchContainer(id.to_string()))
    }

    pub(super) async fn kill(&self, id: &ContainerId, signal: i32) -> Result<()> {
        let entry = self.inner.container(id)?;
        entry.expect(ContainerState::Running, "running")?;
        let sandbox = entry.record.lock().sandbox.clone();
        let sandbox = self.inner.sandbox(&sandbox)?;
        sandbox
            .client
            .call(&Request::Kill {
                container: id.to_string(),
                signal,
            })
            .await
            .map(|_| ())
    }

    pub(super) async fn stop_running(&self, id: &ContainerId, signal: Option<i32>, grace: Duration) -> Result<()> {
        let Ok(entry) = self.inner.container(id) else {
            return Ok(());
        };
        if entry.status.borrow().state != ContainerState::Running {
            return Ok(());
        }
        let clock = self.inner.config.clock;
        if !grace.is_zero() {
            let signal = signal.unwrap_or(entry.record.lock().stop_signal);
            if !gone(self.kill(id, signal).await)? && clock.timeout(grace, self.ended(id)).await.is_ok() {
                return Ok(());
            }
        }
        gone(self.kill(id, nix::libc::SIGKILL).await)?;
        match clock.timeout(KILL_LIMIT, self.ended(id)).await {
            Ok(_) => Ok(()),
            Err(_) => Err(Error::Failed(format!("container {id} does not end even when killed"))),
        }
    }

    pub(super) async fn delete_container(&self, id: &ContainerId) -> Result<()> {
        let Ok(entry) = self.inner.container(id) else {
            return Ok(());
        };
        let _change = entry.change.lock().await;
        self.stop_running(id, None, Duration::ZERO).await?;
        let record = entry.record.lock().clone();
        let sandbox = self.inner.sandbox(&record.sandbox).ok();
        if let Some(sandbox) = sandbox.filter(|sandbox| *sandbox.state.borrow() == SandboxState::Ready) {
            let _ = sandbox
                .client
                .call(&Request::Forget {
                    container: id.to_string(),
                })
                .await;
        }
        let (inner, removing) = (self.inner.clone(), entry.clone());
        blocking(move || inner.clear_container(&removing.id, &removing.directory, &record)).await?;
        let removed = self.inner.state.lock().containers.remove(id);
        if removed.is_some() {
            let sandbox = entry.record.lock().sandbox.clone();
            self.inner.emit(EventKind::Removed, &sandbox, Some(id));
        }
        Ok(())
    }
}

/// Whether a signal came too late, which is as good as in time.
fn gone(result: Result<()>) -> Result<bool> {
    match result {
        Ok(()) => Ok(false),
        Err(Error::WrongContainerState { .. } | Error::NoSuchContainer(_) | Error::Shim { .. }) => Ok(true),
        Err(error) => Err(error),
    }
}

impl ContainerEntry {
    pub(super) fn expect(&self, state: ContainerState, wanted: &'static str) -> Result<()> {
        let actual = self.status.borrow().state;
        if actual == state {
            return Ok(());
        }
        let state = format!("{actual:?}").to_lowercase();
        Err(Error::WrongContainerState {
            id: self.id.to_string(),
            state,
            wanted,
        })
    }
}

impl Inner {
    /// Removes a container's traces, in an order that leaves its record until nothing else is left. Blocking.
    pub(super) fn clear_container(&self, id: &ContainerId, directory: &Path, record: &ContainerRecord) -> Result<()> {
        self.cgroups
            .kill(&record.cgroup, None)
            .map_err(Error::io("kill cgroup", &record.cgroup))?;
        self.cgroups
            .remove(&record.cgroup)
            .map_err(Error::io("remove cgroup", &record.cgroup))?;
        snapshot::unmount_below(directory).map_err(Error::io("unmount", directory))?;
        remove_directory(&self.sandbox_directory(&record.sandbox).join("oci").join(id.as_str()))?;
        remove_directory(directory)
    }

    /// The first process of the container whose processes the new one is to see.
    fn pid_target(&self, sandbox: &SandboxId, config: &ContainerConfig) -> Result<Option<i32>> {
        let Some(target) = &config.pid_target else {
            return Ok(None);
        };
        let entry = self.container(target)?;
        entry.expect(ContainerState::Running, "running")?;
        if entry.record.lock().sandbox != *sandbox {
            return Err(Error::InvalidConfig(format!("container {target} is of another pod")));
        }
        let pid = entry.status.borrow().pid;
        Ok(pid)
    }

    /// Makes the container's directory: root file system, specification, record. Blocking.
    fn prepare(
        &self,
        id: &ContainerId,
        pod: &SandboxEntry,
        mut config: ContainerConfig,
        image: &ImageInfo,
    ) -> Result<ContainerRecord> {
        let command = command_line(&image.config, &config.command, &config.args);
        if command.is_empty() {
            let reason = "no command specified: neither the container nor its image has one";
            return Err(Error::InvalidConfig(reason.to_owned()));
        }
        let stop_signal = stop_signal(&config, image)?;
        let directory = self.container_directory(id);
        std::fs::create_dir(&directory).map_err(Error::io("create", &directory))?;
        let rootfs = directory.join("rootfs");
        let shim = pod
            .shim
            .lock()
            .clone()
            .ok_or_else(|| Error::SandboxNotReady(pod.id.to_string()))?;
        let users = match &pod.record.config.user_namespace {
            Some(users) => {
                let map = IdMap::of(shim.namespaces_pid(), users);
                Some(map.map_err(Error::io("find the user namespace of", pod.id.as_str()))?)
            }
            None => None,
        };
        snapshot::mount_rootfs(
            &self.images.layers_directory(),
            &image.layers,
            &directory,
            users.as_ref(),
        )
        .map_err(Error::io("mount root file system at", &rootfs))?;
        let identity = user::resolve(&config.security, &image.config.user, &user::Database::read(&rootfs)?)?;
        let (mut layers, mut mounted_images) = (image.layers.clone(), Vec::new());
        for (index, mount) in config.mounts.iter_mut().enumerate() {
            let target = directory.join("volumes").join(index.to_string());
            if let Some(id) = mount.image.clone() {
                let image = self.images.find(id.as_str());
                let image = image.ok_or_else(|| Error::ImageNotFound {
                    reference: id.to_string(),
                })?;
                snapshot::mount_image(&self.images.layers_directory(), &image.layers, &target, users.as_ref())
                    .map_err(Error::io("mount image at", &target))?;
                mount.host_path = part_of_image(&target, &mount.image_sub_path)?;
                layers.extend(image.layers.iter().cloned());
                mounted_images.push(id);
                continue;
            }
            prepare_source(mount)?;
            if let Some(users) = &users {
                map_volume(users, mount, target)?;
            }
        }
        let working_dir = config.working_dir.clone().filter(|dir| !dir.is_empty());
        let working_dir = working_dir.unwrap_or_else(|| image.config.working_dir.clone());
        let working_dir = if working_dir.is_empty() {
            "/".to_owned()
        } else {
            spec::absolute(&working_dir, "working directory")?
        };
        for path in image
            .config
            .volumes
            .keys()
            .map(String::as_str)
            .chain([working_dir.as_str()])
        {
            make_inside(&rootfs, path, users.as_ref().map_or(0, |users| users.root))?;
        }

        let sandbox = &pod.record.config;
        let target_pid = self.pid_target(&pod.id, &config)?;
        let shm = if sandbox.host_ipc {
            PathBuf::from("/dev/shm")
        } else {
            pod.directory.join("shm")
        };
        let cgroup = format!("{}/{id}", pod.record.cgroup);
        let specification = spec::build(&spec::Input {
            config: &config,
            sandbox,
            namespaces_pid: shim.namespaces_pid(),
            pause_pid: shim.pause_pid,
            target_pid,
            shm: &shm,
            identity: &identity,
            command: &command,
            environment: environment(&image.config, &config.env),
            working_dir: &working_dir,
            cgroup: &cgroup,
            cgroups: &self.cgroups,
            bounding: self.bounding,
        })?;
        write_json(&directory.join("config.json"), &specification)?;
        let log_path = (!config.log_path.as_os_str().is_empty()).then(|| sandbox.log_directory.join(&config.log_path));
        let record = ContainerRecord {
            sandbox: pod.id.clone(),
            created_at: self.config.clock.now(),
            image_id: image.id.clone(),
            layers,
            mounted_images,
            cgroup,
            log_path,
            stop_signal,
            user: identity.uid,
            group: identity.gid,
            supplemental_groups: identity.additional_gids,
            shared_pids: sandbox.host_pid || shim.pause_pid.is_some() || target_pid.is_some(),
            config,
        };
        // Last: a directory with a record is a whole container.
        write_json(&directory.join(CONTAINER_RECORD), &record)?;
        Ok(record)
    }
}

fn stop_signal(config: &ContainerConfig, image: &ImageInfo) -> Result<i32> {
    if let Some(signal) = &config.stop_signal {
        return parse_signal(signal).ok_or_else(|| Error::InvalidConfig(format!("unknown stop signal {signal:?}")));
    }
    // An image's nonsense does not keep it from running.
    Ok(parse_signal(&image.config.stop_signal).unwrap_or(nix::libc::SIGTERM))
}

/// Makes what is missing of a mount's source, follows its links, and checks that it can propagate as asked.
fn prepare_source(mount: &mut Mount) -> Result<()> {
    let source = &mount.host_path;
    if !source.is_absolute() {
        return Err(Error::InvalidConfig(format!(
            "mount source {} is not absolute",
            source.display()
        )));
    }
    match std::fs::canonicalize(source) {
        Ok(path) => mount.host_path = path,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            std::fs::create_dir_all(source).map_err(Error::io("create mount source", source))?;
        }
        Err(error) => return Err(Error::io("look up mount source", source)(error)),
    }
    if mount.propagation == Propagation::Private {
        return Ok(());
    }
    let (point, tags) =
        snapshot::mount_of(&mount.host_path).map_err(Error::io("find the mount of", &mount.host_path))?;
    let shared = tags.iter().any(|tag| tag.starts_with("shared:"));
    let slave = tags.iter().any(|tag| tag.starts_with("master:"));
    let fits = match mount.propagation {
        Propagation::Bidirectional => shared,
        _ => shared || slave,
    };
    if fits {
        return Ok(());
    }
    Err(Error::InvalidConfig(format!(
        "{} is on mount {}, which is not a shared mount; share it with `mount --make-rshared {}`",
        mount.host_path.display(),
        point.display(),
        point.display()
    )))
}

/// Where a part of a mounted image is, wherever its links point inside it.
fn part_of_image(image: &Path, part: &str) -> Result<PathBuf> {
    if part.is_empty() {
        return Ok(image.to_owned());
    }
    let failed = |error: std::io::Error| Error::io("find in the image of a volume", part)(error);
    let root = std::fs::File::open(image).map_err(failed)?.into();
    let found = open_in_root(&root, Path::new(part), OFlag::O_PATH).map_err(failed)?;
    use std::os::fd::AsRawFd;
    std::fs::read_link(format!("/proc/self/fd/{}", found.as_raw_fd())).map_err(failed)
}

/// Gives a pod with users of its own a view of a volume in which the files' owners are its users.
fn map_volume(users: &IdMap, mount: &mut Mount, target: PathBuf) -> Result<()> {
    let made = if mount.host_path.is_dir() {
        std::fs::create_dir_all(&target)
    } else {
        let parent = target.parent().unwrap_or(&target);
        std::fs::create_dir_all(parent).and_then(|()| std::fs::File::create(&target).map(drop))
    };
    made.map_err(Error::io("create", &target))?;
    users
        .mount(&mount.host_path, &target)
        .map_err(Error::io("map the users of", &mount.host_path))?;
    mount.host_path = target;
    Ok(())
}

/// Makes a directory inside a root file system, wherever its links point inside it.
fn make_inside(rootfs: &Path, path: &str, owner: u32) -> Result<()> {
    let failed = |error: std::io::Error| Error::io("create in the image", path)(error);
    let mut here = std::fs::File::open(rootfs).map_err(failed)?.into();
    let root = std::fs::File::open(rootfs).map_err(failed)?.into();
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY;
    let mut so_far = PathBuf::new();
    for part in Path::new(path).components() {
        let std::path::Component::Normal(part) = part else {
            continue;
        };
        so_far.push(part);
        here = match open_in_root(&root, &so_far, flags) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                let mode = nix::sys::stat::Mode::from_bits_truncate(0o755);
                let parent: &std::os::fd::OwnedFd = &here;
                use std::os::fd::AsRawFd;
                nix::sys::stat::mkdirat(Some(parent.as_raw_fd()), part, mode).map_err(|e| failed(e.into()))?;
                let made = open_in_root(&root, &so_far, flags).map_err(failed)?;
                if owner != 0 {
                    let path = format!("/proc/self/fd/{}", made.as_raw_fd());
                    std::os::unix::fs::chown(path, Some(owner), Some(owner)).map_err(failed)?;
                }
                made
            }
            result => result.map_err(failed)?,
        };
    }
    Ok(())
}
