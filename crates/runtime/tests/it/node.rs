//! A runtime for one test, and the proof that nothing is left of what it made.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Weak};
use std::time::Duration;

use coracle_runtime::{
    Archive, ContainerConfig, ContainerId, ContainerStatus, Cri, CriConfig, Engine, EngineConfig, PodRuntime, Program,
    Resources, SandboxConfig, SandboxId,
};
use tempfile::TempDir;

use crate::containerd::Containerd;
use crate::image_build;

/// What takes this long on the busiest machine hangs.
pub const HANG: Duration = Duration::from_secs(300);

pub const BUSYBOX: &str = "docker.io/library/busybox:test";

pub struct Node<R: PodRuntime = Engine> {
    pub engine: R,
    pub directory: TempDir,
    pub cgroup: String,
    /// What serves another runtime than the engine.
    pub containerd: Option<Arc<Containerd>>,
}

/// Tests that any runtime must pass, over each implementation.
macro_rules! over_both {
    ($($name:ident)*) => {
        mod engine {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::node::Node::new().await).await;
            })*
        }
        mod containerd {
            $(#[tokio::test]
            async fn $name() {
                super::$name(crate::node::Node::containerd().await).await;
            })*
        }
    };
}
pub(crate) use over_both;

pub fn config(root: &Path) -> EngineConfig {
    let mut config = EngineConfig::new(root);
    config.shim = Program {
        path: env!("CARGO_BIN_EXE_coracle-runtime").into(),
        arguments: vec!["shim".into()],
    };
    config
}

impl Node {
    /// With a busybox image.
    pub async fn new() -> Self {
        let node = Self::empty().await;
        node.import_busybox().await;
        node
    }

    pub async fn import_busybox(&self) {
        let archive = self.directory.path().join("busybox.tar");
        image_build::Image::busybox().docker_archive(&archive, &[BUSYBOX]);
        self.engine.import_archive(Archive::Path(archive), None).await.unwrap();
    }

    pub async fn empty() -> Self {
        Self::with(|_| {}).await
    }

    pub async fn with(change: impl FnOnce(&mut EngineConfig)) -> Self {
        assert!(
            nix::unistd::geteuid().is_root(),
            "these tests run containers: run them as root"
        );
        let directory = TempDir::new().unwrap();
        let mut config = config(&directory.path().join("root"));
        change(&mut config);
        let engine = Engine::open(config).await.unwrap();
        Self {
            engine,
            cgroup: cgroup(&directory),
            directory,
            containerd: None,
        }
    }

    pub fn root(&self) -> PathBuf {
        self.directory.path().join("root")
    }
}

fn cgroup(directory: &TempDir) -> String {
    let name = directory.path().file_name().unwrap().to_str().unwrap();
    format!("/coracle-test-{}", name.replace('.', ""))
}

/// The containerd of this process's tests, with a busybox image; it ends with the last test that uses it.
async fn shared() -> Arc<Containerd> {
    static SHARED: tokio::sync::Mutex<Weak<Containerd>> = tokio::sync::Mutex::const_new(Weak::new());
    let mut shared = SHARED.lock().await;
    if let Some(running) = shared.upgrade() {
        return running;
    }
    let start = tokio::task::spawn_blocking(|| {
        let containerd = Containerd::start();
        let directory = TempDir::new().unwrap();
        let archive = directory.path().join("busybox.tar");
        image_build::Image::busybox().docker_archive(&archive, &[BUSYBOX]);
        containerd.import(&archive);
        Arc::new(containerd)
    });
    let containerd = start.await.unwrap();
    *shared = Arc::downgrade(&containerd);
    containerd
}

impl Node<Cri> {
    /// By containerd, with a busybox image.
    pub async fn containerd() -> Self {
        let containerd = shared().await;
        let directory = TempDir::new().unwrap();
        let engine = Self::connect(&containerd, &directory).await;
        Self {
            engine,
            cgroup: cgroup(&directory),
            directory,
            containerd: Some(containerd),
        }
    }

    async fn connect(containerd: &Containerd, directory: &TempDir) -> Cri {
        let config = CriConfig {
            socket: containerd.socket(),
            owner: cgroup(directory).trim_start_matches('/').to_owned(),
            logs: coracle_runtime::LogLimits::default(),
            clock: coracle_clock::Clock::system(),
        };
        Cri::open(config).await.unwrap()
    }

    /// As an agent that is started again.
    pub async fn reopen(&mut self) {
        self.engine = Self::connect(self.containerd.as_ref().unwrap(), &self.directory).await;
    }
}

impl<R: PodRuntime> Node<R> {
    pub fn sandbox_config(&self, name: &str) -> SandboxConfig {
        SandboxConfig {
            pod_uid: format!("uid-{name}{}", self.cgroup.replace('/', "-")),
            namespace: "default".into(),
            name: name.into(),
            hostname: name.into(),
            cgroup_parent: format!("{}/{name}", self.cgroup),
            log_directory: self.directory.path().join("logs").join(name),
            ..SandboxConfig::default()
        }
    }

    pub async fn sandbox(&self) -> SandboxId {
        self.engine.run_sandbox(self.sandbox_config("pod")).await.unwrap().id
    }

    pub async fn create(&self, sandbox: &SandboxId, config: ContainerConfig) -> ContainerId {
        self.engine.create_container(sandbox, config).await.unwrap()
    }

    pub async fn start(&self, sandbox: &SandboxId, config: ContainerConfig) -> ContainerId {
        let id = self.create(sandbox, config).await;
        self.engine.start_container(&id).await.unwrap();
        id
    }

    /// Runs a container to its end; its status and the text of its log.
    pub async fn run(&self, sandbox: &SandboxId, config: ContainerConfig) -> (ContainerStatus, String) {
        let id = self.start(sandbox, config).await;
        let status = self.ended(&id).await;
        (status.clone(), text_of(&log_lines(&status)))
    }

    pub async fn ended(&self, id: &ContainerId) -> ContainerStatus {
        let ended = tokio::time::timeout(HANG, self.engine.wait_container(id));
        let ended = ended.await.expect("the container ends").unwrap();
        if let (Some(containerd), Some(log)) = (&self.containerd, &ended.log_path) {
            containerd.finish_writing(log);
        }
        ended
    }

    /// What a shell command in a container prints.
    pub async fn sh(&self, id: &ContainerId, script: &str) -> String {
        let command = ["sh".to_owned(), "-c".to_owned(), script.to_owned()];
        let output = self.engine.exec_sync(id, &command, Some(HANG)).await.unwrap();
        let err = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.exit_code, 0, "{script}: {err}");
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// Removes everything and checks that nothing is left.
    pub async fn finish(self) {
        for sandbox in self.engine.sandboxes().await {
            self.engine.remove_sandbox(&sandbox.id).await.unwrap();
        }
        assert!(self.engine.containers().await.is_empty());
        assert!(self.engine.sandboxes().await.is_empty());
        assert_eq!(self.mounts(), Vec::<String>::new(), "mounts are left");
        assert_eq!(self.cgroups(), Vec::<PathBuf>::new(), "cgroups are left");
        for kind in ["sandboxes", "containers", "tmp"] {
            // Another runtime has its own places.
            let left: Vec<_> = fs::read_dir(self.directory.path().join("root").join(kind))
                .into_iter()
                .flatten()
                .flatten()
                .map(|e| e.path())
                .collect();
            assert!(left.is_empty(), "{left:?} are left");
        }
        assert_eq!(self.processes(), Vec::<String>::new(), "processes are left");
    }

    pub fn mounts(&self) -> Vec<String> {
        let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
        let root = self.directory.path().to_str().unwrap();
        mountinfo
            .lines()
            .filter(|line| line.contains(root))
            .map(str::to_owned)
            .collect()
    }

    /// Groups with limits or processes; the test's own empty parent does not count.
    pub fn cgroups(&self) -> Vec<PathBuf> {
        let tops = cgroup_roots()
            .into_iter()
            .map(|root| root.join(self.cgroup.trim_start_matches('/')));
        tops.flat_map(|top| children(&top)).collect()
    }

    /// Shims and what they have started.
    pub fn processes(&self) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/proc").unwrap().flatten() {
            let line = fs::read_to_string(entry.path().join("cmdline"))
                .unwrap_or_default()
                .replace('\0', " ");
            let groups = fs::read_to_string(entry.path().join("cgroup")).unwrap_or_default();
            let ours = line.contains(self.directory.path().to_str().unwrap()) || groups.contains(&self.cgroup);
            if ours && line.contains(|c: char| !c.is_whitespace()) {
                found.push(line);
            }
        }
        found
    }

    pub fn cgroup_file(&self, controller: &str, group: &str, file: &str) -> String {
        let v1 = Path::new("/sys/fs/cgroup").join(controller);
        let root = if v1.is_dir() { v1 } else { "/sys/fs/cgroup".into() };
        let path = root.join(group.trim_start_matches('/')).join(file);
        fs::read_to_string(&path)
            .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
            .trim()
            .to_owned()
    }
}

impl<R: PodRuntime> Drop for Node<R> {
    /// A test that failed half-way must not leave anything either.
    fn drop(&mut self) {
        let tops: Vec<PathBuf> = cgroup_roots()
            .into_iter()
            .map(|root| root.join(self.cgroup.trim_start_matches('/')))
            .collect();
        for top in &tops {
            let _ = fs::write(top.join("cgroup.kill"), "1");
        }
        for _ in 0..100 {
            let left: Vec<PathBuf> = tops
                .iter()
                .filter(|top| top.is_dir())
                .cloned()
                .flat_map(|top| [children(&top), vec![top]].concat())
                .collect();
            if left.is_empty() {
                break;
            }
            for group in left {
                for pid in fs::read_to_string(group.join("cgroup.procs"))
                    .unwrap_or_default()
                    .lines()
                {
                    let pid = nix::unistd::Pid::from_raw(pid.parse().unwrap());
                    let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
                }
                let _ = fs::remove_dir(&group);
            }
            #[allow(clippy::disallowed_methods)]
            std::thread::sleep(Duration::from_millis(5));
        }
        for mount in self.mounts().iter().rev() {
            let point = mount.split(' ').nth(4).unwrap();
            let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

fn cgroup_roots() -> Vec<PathBuf> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let cgroups = mountinfo.lines().filter(|line| line.contains(" - cgroup"));
    cgroups
        .map(|line| PathBuf::from(line.split(' ').nth(4).unwrap()))
        .collect()
}

/// Deepest first.
fn children(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            found.extend(children(&entry.path()));
            found.push(entry.path());
        }
    }
    found
}

/// A busybox container that runs a shell script.
pub fn shell(script: &str) -> ContainerConfig {
    ContainerConfig {
        name: unique(script),
        image: BUSYBOX.into(),
        command: vec!["sh".into(), "-c".into(), script.into()],
        log_path: format!("{}.log", unique(script)).into(),
        ..ContainerConfig::default()
    }
}

/// Sleeps until it is told to end, and ends at once then, once it has said that it is ready.
pub fn sleeper() -> ContainerConfig {
    shell("trap 'exit 0' TERM; echo ready; sleep 1000 & wait")
}

fn unique(seed: &str) -> String {
    use std::hash::{BuildHasher, Hasher};
    let mut hasher = std::hash::RandomState::new().build_hasher();
    hasher.write(seed.as_bytes());
    format!("{:x}", hasher.finish())
}

#[derive(Debug, PartialEq)]
pub struct LogLine {
    pub stream: String,
    pub whole: bool,
    pub text: String,
}

pub fn log_lines(status: &ContainerStatus) -> Vec<LogLine> {
    let log = fs::read_to_string(status.log_path.as_ref().unwrap()).unwrap();
    log.lines()
        .map(|line| {
            let mut fields = line.splitn(4, ' ');
            fields
                .next()
                .unwrap()
                .parse::<jiff::Timestamp>()
                .expect("a time comes first");
            LogLine {
                stream: fields.next().unwrap().to_owned(),
                whole: fields.next().unwrap() == "F",
                text: fields.next().unwrap().to_owned(),
            }
        })
        .collect()
}

pub fn text_of(lines: &[LogLine]) -> String {
    lines
        .iter()
        .map(|line| line.text.clone() + if line.whole { "\n" } else { "" })
        .collect()
}

pub fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
}

pub fn memory(limit: i64) -> Resources {
    Resources {
        memory_limit: Some(limit),
        memory_swap_limit: Some(limit),
        ..Resources::default()
    }
}
