//! A cluster for one test, and the programs that talk to it.

use std::io::{BufRead, BufReader, Lines};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU8, Ordering};

use tempfile::TempDir;

/// Which kubectl to drive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kubectl {
    V27,
    V30,
    V33,
    V37,
}

pub const EVERY_KUBECTL: [Kubectl; 2] = [Kubectl::V33, Kubectl::V37];

impl Kubectl {
    fn path(self) -> PathBuf {
        let clients = std::env::var_os("CORACLE_CLIENTS").expect("CORACLE_CLIENTS is not set; run ./test");
        let version = match self {
            Self::V27 => "v27",
            Self::V30 => "v30",
            Self::V33 => "v33",
            Self::V37 => "v37",
        };
        Path::new(&clients).join(version).join("kubectl")
    }
}

/// What a program said.
#[derive(Debug)]
pub struct Said {
    pub ok: bool,
    pub out: String,
    pub err: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            ok: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Said {
    /// Standard output of a program that must have succeeded.
    #[track_caller]
    pub fn expect_ok(self) -> String {
        assert!(self.ok, "failed:\n{}\n{}", self.out, self.err);
        self.out
    }

    /// Standard error of a program that must have failed.
    #[track_caller]
    pub fn expect_error(self) -> String {
        assert!(!self.ok, "succeeded:\n{}", self.out);
        self.err
    }
}

/// Runs the binary under test.
pub fn coracle(args: &[&str]) -> Said {
    Command::new(env!("CARGO_BIN_EXE_coracle"))
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("cannot run coracle")
        .into()
}

/// The archive of the image `demo/web:TAG`, built once.
pub fn image_archive(tag: &str) -> PathBuf {
    static DIR: OnceLock<TempDir> = OnceLock::new();
    let dir = DIR.get_or_init(|| tempfile::tempdir().expect("no temporary directory"));
    let out = dir.path().join(format!("{tag}.tar"));
    static BUILD: parking_lot::Mutex<()> = parking_lot::Mutex::new(());
    let _one_at_a_time = BUILD.lock();
    if !out.exists() {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/build-image.sh");
        let status = Command::new(script)
            .arg(format!("demo/web:{tag}"))
            .arg(&out)
            .arg(tag)
            .status();
        assert!(status.expect("cannot run build-image.sh").success());
    }
    out
}

/// A running cluster; deleted when dropped.
pub struct Cluster {
    dir: TempDir,
}

impl Cluster {
    /// A one-node cluster with `demo/web:v1` and `:v2` imported.
    pub fn with_node() -> Self {
        let cluster = Self::start(&[]);
        for tag in ["v1", "v2"] {
            let archive = image_archive(tag);
            cluster
                .coracle(&["image", "import", archive.to_str().unwrap()])
                .expect_ok();
        }
        cluster
    }

    /// A one-node cluster with `demo/web:v1` imported.
    pub fn start_with_image(flags: &[&str]) -> Self {
        let cluster = Self::start(flags);
        let archive = image_archive("v1");
        cluster
            .coracle(&["image", "import", archive.to_str().unwrap()])
            .expect_ok();
        cluster
    }

    /// The API server and the controllers alone.
    pub fn without_node() -> Self {
        Self::start(&["--no-node"])
    }

    pub fn start(flags: &[&str]) -> Self {
        let cluster = Self::not_started();
        cluster.up(flags).expect_ok();
        cluster
    }

    /// Room for a cluster.
    pub fn not_started() -> Self {
        Self {
            dir: tempfile::tempdir().expect("no temporary directory"),
        }
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn kubeconfig(&self) -> PathBuf {
        self.dir.path().join("kubeconfig")
    }

    pub fn up(&self, flags: &[&str]) -> Said {
        let kubeconfig = self.kubeconfig();
        let mut args = vec!["up", "--port", "0", "--kubeconfig", kubeconfig.to_str().unwrap()];
        args.extend(flags);
        self.coracle(&args)
    }

    /// Runs a subcommand on this cluster's directory.
    pub fn coracle(&self, args: &[&str]) -> Said {
        Command::new(env!("CARGO_BIN_EXE_coracle"))
            .args(args)
            .env("CORACLE_DATA_DIR", self.data_dir())
            .env("KUBECONFIG", self.kubeconfig())
            .stdin(Stdio::null())
            .output()
            .expect("cannot run coracle")
            .into()
    }

    /// The server's process id.
    pub fn pid(&self) -> i32 {
        let text = std::fs::read_to_string(self.data_dir().join("coracle.pid")).expect("no coracle.pid");
        text.trim().parse().expect("coracle.pid holds no number")
    }

    /// kill -9 of the server; returns when it is gone.
    pub fn kill(&self) {
        let pid = self.pid();
        let status = Command::new("kill").args(["-9", &pid.to_string()]).status();
        assert!(status.expect("cannot run kill").success());
        while Path::new("/proc").join(pid.to_string()).exists() {
            std::thread::yield_now();
        }
    }

    pub fn kubectl_command(&self, which: Kubectl, args: &[&str]) -> Command {
        let mut command = Command::new(which.path());
        command
            .args(args)
            .env("KUBECONFIG", self.kubeconfig())
            .env("HOME", self.dir.path())
            .stdin(Stdio::null());
        command
    }

    pub fn kubectl(&self, which: Kubectl, args: &[&str]) -> Said {
        self.kubectl_command(which, args)
            .output()
            .expect("cannot run kubectl")
            .into()
    }

    /// The newest kubectl, which must succeed.
    #[track_caller]
    pub fn k(&self, args: &[&str]) -> String {
        self.kubectl(Kubectl::V37, args).expect_ok()
    }

    /// kubectl with a manifest on standard input.
    pub fn kubectl_stdin(&self, which: Kubectl, args: &[&str], input: &str) -> Said {
        use std::io::Write;
        let mut child = self
            .kubectl_command(which, args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cannot run kubectl");
        // kubectl may refuse what it is given before it has read all of it.
        let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
        child.wait_with_output().expect("kubectl was lost").into()
    }

    /// Applies a manifest, which must succeed.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> String {
        self.kubectl_stdin(Kubectl::V37, &["apply", "-f", "-"], manifest)
            .expect_ok()
    }

    /// A jsonpath of an object.
    #[track_caller]
    pub fn field(&self, what: &str, path: &str) -> String {
        self.k(&["get", what, "-o", &format!("jsonpath={{{path}}}")])
    }

    /// Waits (by a watch) until the jsonpath has the value.
    #[track_caller]
    pub fn wait_for(&self, what: &str, path: &str, value: &str) {
        self.k(&[
            "wait",
            what,
            &format!("--for=jsonpath={{{path}}}={value}"),
            "--timeout=60s",
        ]);
    }

    /// A watch of what `kubectl get` takes, by the newest kubectl. It is open once it has shown something.
    pub fn watch(&self, what: &[&str]) -> SaidLines {
        let options = ["-w", "--output-watch-events", "--no-headers", "--request-timeout=60s"];
        let args = [&["get"], what, &options].concat();
        SaidLines::of(self.kubectl_command(Kubectl::V37, &args))
    }

    /// The log of a pod's container as it comes.
    pub fn follow(&self, pod_and_flags: &[&str]) -> SaidLines {
        SaidLines::of(self.kubectl_command(Kubectl::V37, &[&["logs", "-f"], pod_and_flags].concat()))
    }

    /// The example Deployment of the documentation, applied and rolled out.
    #[track_caller]
    pub fn deploy_example(&self) {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/web.yaml");
        self.k(&["apply", "-f", manifest.to_str().unwrap()]);
        self.k(&["rollout", "status", "deployment/web", "--timeout=90s"]);
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(self.data_dir().join("coracle.log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "--- end of the server's log\n{}",
                lines[lines.len().saturating_sub(60)..].join("\n")
            );
        }
        let said = self.coracle(&["down", "--delete"]);
        if !said.ok && !std::thread::panicking() {
            panic!("down --delete failed: {}", said.err);
        }
    }
}

/// A small file system, until it is dropped.
pub struct Disk {
    path: PathBuf,
    _directory: Option<TempDir>,
}

impl Disk {
    /// In a place of its own.
    pub fn small(size: &str) -> Self {
        let directory = tempfile::tempdir().expect("no temporary directory");
        let mut disk = Self::over(directory.path(), size);
        disk._directory = Some(directory);
        disk
    }

    /// Over a directory, which is made if need be.
    pub fn over(path: &Path, size: &str) -> Self {
        std::fs::create_dir_all(path).unwrap();
        let options = format!("size={size},mode=755");
        let flags = nix::mount::MsFlags::empty();
        nix::mount::mount(Some("tmpfs"), path, Some("tmpfs"), flags, Some(options.as_str())).unwrap();
        Self {
            path: path.to_owned(),
            _directory: None,
        }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file until there is no space.
    pub fn fill(&self) -> PathBuf {
        use std::io::Write;
        let path = self.path.join("fill");
        let mut file = std::fs::File::create(&path).unwrap();
        // In ever smaller pieces, so that nothing is left over.
        for size in [1 << 20, 1 << 12, 1] {
            let piece = vec![b'.'; size];
            while file.write_all(&piece).is_ok() {}
        }
        path
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.path, nix::mount::MntFlags::MNT_DETACH);
    }
}

/// A node that has joined a cluster by `coracle agent`, with a directory of its own; removed when dropped.
pub struct JoinedNode {
    child: Child,
    dir: PathBuf,
}

impl JoinedNode {
    /// Returns when the node is Ready.
    #[track_caller]
    pub fn start(cluster: &Cluster, name: &str, dir: &Path, flags: &[&str]) -> Self {
        // No two at once may have the same addresses.
        static STARTED: AtomicU8 = AtomicU8::new(0);
        let range = format!("--pod-cidr=10.77.{}.0/24", STARTED.fetch_add(1, Ordering::Relaxed));
        let child = Command::new(env!("CARGO_BIN_EXE_coracle"))
            .args(["agent", &range, "--listen=127.0.0.1:0", "--node-name", name])
            .args(flags)
            .arg("--kubeconfig")
            .arg(cluster.kubeconfig())
            .env("CORACLE_DATA_DIR", dir)
            .stdin(Stdio::null())
            .stderr(std::fs::File::create(log_of(dir)).unwrap())
            .spawn()
            .expect("cannot run coracle");
        let node = Self {
            child,
            dir: dir.to_owned(),
        };
        let name = format!("node/{name}");
        cluster.k(&["wait", "--for=create", &name, "--timeout=30s"]);
        cluster.k(&["wait", &name, "--for=condition=Ready", "--timeout=30s"]);
        let archive = image_archive("v1");
        node.coracle(&["image", "import", archive.to_str().unwrap()])
            .expect_ok();
        node
    }

    /// Runs a subcommand on the node's directory.
    fn coracle(&self, args: &[&str]) -> Said {
        Command::new(env!("CARGO_BIN_EXE_coracle"))
            .args(args)
            .env("CORACLE_DATA_DIR", &self.dir)
            .output()
            .expect("cannot run coracle")
            .into()
    }
}

/// Beside the node's directory, on the same disk.
fn log_of(dir: &Path) -> PathBuf {
    dir.with_extension("log")
}

impl Drop for JoinedNode {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = std::fs::read_to_string(log_of(&self.dir)).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "--- end of the node's log\n{}",
                lines[lines.len().saturating_sub(60)..].join("\n")
            );
        }
        let _ = std::fs::remove_file(log_of(&self.dir));
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
        let said = self.coracle(&["down", "--delete"]);
        if !said.ok && !std::thread::panicking() {
            panic!("down --delete failed: {}", said.err);
        }
    }
}

/// What a program says while it runs, line by line. It ends when this is dropped.
pub struct SaidLines {
    child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl SaidLines {
    fn of(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("cannot run kubectl");
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        Self { child, lines }
    }

    /// The next line: of a watch, the kind of the change, then the object's row.
    #[track_caller]
    pub fn line(&mut self) -> String {
        self.lines.next().expect("it has ended").unwrap()
    }

    /// Passes over lines up to one that holds this.
    #[track_caller]
    pub fn until(&mut self, text: &str) {
        while !self.line().contains(text) {}
    }
}

impl Drop for SaidLines {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
