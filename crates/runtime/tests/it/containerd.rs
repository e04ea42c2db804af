//! A containerd for tests: one that nobody else uses, with its directories in a temporary one, a bridge of its own and
//! no need for a registry. Debian's packages have what it needs: containerd,
//! runc, containernetworking-plugins.

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU8, Ordering};

use serde_json::json;
use tempfile::TempDir;

const PAUSE: &str = "coracle.test/pause:1";

pub struct Containerd {
    child: Child,
    directory: TempDir,
    bridge: String,
}

impl Containerd {
    /// With the sandboxes' image and no other.
    pub fn start() -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path();
        let name = path.file_name().unwrap().to_str().unwrap().trim_start_matches(".tmp");
        let bridge = format!("ct{name}");
        fs::create_dir(path.join("cni")).unwrap();
        // Two at once must not have the same addresses: the machine would know only one way to them.
        static STARTED: AtomicU8 = AtomicU8::new(0);
        let [.., number] = std::process::id().to_be_bytes();
        let subnet = format!(
            "10.206.{}.0/24",
            number.wrapping_add(STARTED.fetch_add(1, Ordering::Relaxed))
        );
        let network = json!({"cniVersion": "0.4.0", "name": "test", "plugins": [{
            "type": "bridge", "bridge": bridge, "isGateway": true,
            "ipam": {"type": "host-local", "dataDir": path.join("addresses"),
                "ranges": [[{"subnet": subnet}]], "routes": [{"dst": "0.0.0.0/0"}]}}]});
        fs::write(path.join("cni/10-test.conflist"), network.to_string()).unwrap();
        fs::write(path.join("config.toml"), configuration(path)).unwrap();
        let log = fs::File::create(path.join("log")).unwrap();
        let mut child = Command::new("containerd")
            .arg("--config")
            .arg(path.join("config.toml"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("containerd is not installed; run ./test");
        // Its log says when it serves; then somebody has to go on reading.
        let mut lines = BufReader::new(child.stderr.take().unwrap())
            .lines()
            .map_while(Result::ok);
        let mut seen = Vec::new();
        let serves = lines.by_ref().any(|line| {
            seen.push(line);
            seen.last()
                .is_some_and(|line| line.contains("containerd successfully booted"))
        });
        assert!(serves, "containerd does not start:\n{}", seen.join("\n"));
        std::thread::spawn(move || {
            use std::io::Write;
            let mut log = log;
            lines.for_each(|line| drop(writeln!(log, "{line}")));
        });
        let containerd = Self {
            child,
            directory,
            bridge,
        };
        let pause = containerd.directory.path().join("pause.tar");
        fs::write(&pause, pause_archive()).unwrap();
        containerd.import(&pause);
        containerd
    }

    pub fn socket(&self) -> PathBuf {
        self.directory.path().join("c.sock")
    }

    fn ctr(&self, arguments: &[&str]) -> String {
        let output = Command::new("ctr")
            .arg("--address")
            .arg(self.socket())
            .args(["--namespace", "k8s.io"])
            .args(arguments)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Imports the images of an archive.
    pub fn import(&self, archive: &Path) {
        self.ctr(&["images", "import", archive.to_str().unwrap()]);
    }

    /// Returns when all that containers had to say is in the log: it is written by the way, and may be so when a container's
    /// end is known already. Then it is closed.
    #[allow(dead_code)] // Not every suite asks.
    pub fn finish_writing(&self, log: &Path) {
        let open = format!("/proc/{}/fd", self.child.id());
        let writes = || {
            let mut files = fs::read_dir(&open).unwrap().flatten();
            files.any(|file| fs::read_link(file.path()).is_ok_and(|target| target == log))
        };
        while writes() {
            std::thread::yield_now();
        }
    }

    /// Ids of all containers, those of sandboxes among them.
    #[allow(dead_code)] // Not every suite asks.
    pub fn containers(&self) -> Vec<String> {
        let lines = self.ctr(&["containers", "list", "--quiet"]);
        lines.lines().map(str::to_owned).collect()
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let pid = nix::unistd::Pid::from_raw(self.child.id().try_into().unwrap());
        let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM);
        let _ = self.child.wait();
        if std::thread::panicking() {
            let log = fs::read_to_string(self.directory.path().join("log")).unwrap_or_default();
            let lines: Vec<&str> = log.lines().collect();
            eprintln!(
                "--- containerd:\n{}",
                lines[lines.len().saturating_sub(30)..].join("\n")
            );
        }
        let _ = Command::new("ip").args(["link", "delete", &self.bridge]).output();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
        let below = points.filter(|point| Path::new(point).starts_with(self.directory.path()));
        for point in below.collect::<Vec<_>>().into_iter().rev() {
            let _ = nix::mount::umount2(point, nix::mount::MntFlags::MNT_DETACH);
        }
    }
}

fn configuration(path: &Path) -> String {
    let path = path.to_str().unwrap();
    format!(
        r#"
version = 2
root = "{path}/root"
state = "{path}/state"
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
    "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.aufs", "io.containerd.internal.v1.opt"]
[grpc]
address = "{path}/c.sock"
[ttrpc]
address = "{path}/t.sock"
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
restrict_oom_score_adj = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/usr/lib/cni"
conf_dir = "{path}/cni"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
"#
    )
}

/// An image whose process does nothing.
fn pause_archive() -> Vec<u8> {
    let busybox = fs::read("/usr/bin/busybox").expect("busybox-static is not installed; run ./test");
    let layer = tar(&[("busybox", 0o755, &busybox)]);
    let digest = {
        use sha2::Digest;
        let digest = sha2::Sha256::digest(&layer);
        digest.iter().map(|byte| format!("{byte:02x}")).collect::<String>()
    };
    let config = json!({"architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": {"Entrypoint": ["/busybox", "sleep", "2147483647"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]}});
    let manifest = json!([{"Config": "config.json", "RepoTags": [PAUSE], "Layers": ["layer.tar"]}]);
    tar(&[
        ("config.json", 0o644, config.to_string().as_bytes()),
        ("layer.tar", 0o644, &layer),
        ("manifest.json", 0o644, manifest.to_string().as_bytes()),
    ])
}

fn tar(files: &[(&str, u32, &[u8])]) -> Vec<u8> {
    let mut archive = tar::Builder::new(Vec::new());
    for (name, mode, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_mode(*mode);
        header.set_size(bytes.len() as u64);
        archive.append_data(&mut header, name, *bytes).unwrap();
    }
    archive.into_inner().unwrap()
}
