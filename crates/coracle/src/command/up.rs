//! `coracle up`: starts the server in the background and returns when the cluster is ready.

use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::PathBuf;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail};

use super::progress::Progress;
use super::server::Milestone;
use crate::cli::Up;
use crate::cluster::Cluster;
use crate::{preflight, user_kubeconfig};

pub fn run(args: &Up) -> anyhow::Result<()> {
    let cluster = Cluster::at(&args.place)?;
    if let Some(pid) = cluster.running()? {
        bail!(
            "the cluster in {} already runs (process {pid}); see `coracle status`, stop it with `coracle down`, or start \
             another beside it with another --data-dir and --port",
            cluster.dir.display()
        );
    }
    super::component::scheduler_configuration(args.serving.scheduler_config.as_deref())?;
    super::node::settings(&args.serving.node)?;
    if !args.serving.no_node {
        preflight::node()?;
    }
    // A mistake in these files is told here, not in a log.
    super::fake_node::Files::read(&args.serving.fake)?;
    preflight::port(args.serving.bind_address, args.serving.port)?;
    cluster.create()?;

    let kubeconfig = match &args.kubeconfig {
        Some(path) => std::path::absolute(path)?,
        None => user_kubeconfig::default_path()?,
    };
    let progress = Progress::new();
    progress.step("starting the API server");
    let (mut child, milestones) = spawn(args, &cluster)?;
    match follow(&mut child, milestones, &progress, args, &cluster, kubeconfig) {
        Ok(()) => {
            progress.clear();
            Ok(())
        }
        Err(error) => {
            progress.clear();
            // A server that did not become ready is not left behind.
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::from_raw(i32::try_from(child.id())?),
                nix::sys::signal::Signal::SIGTERM,
            );
            let _ = child.wait();
            Err(error)
        }
    }
}

fn spawn(args: &Up, cluster: &Cluster) -> anyhow::Result<(Child, mpsc::Receiver<Milestone>)> {
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(cluster.log_file())
        .with_context(|| format!("cannot write {}", cluster.log_file().display()))?;
    let serving = &args.serving;
    let mut command = Command::new(std::env::current_exe().context("cannot find this program's own file")?);
    command
        .arg("server")
        .arg("--detached")
        .arg("--data-dir")
        .arg(&cluster.dir);
    command.arg("--port").arg(serving.port.to_string());
    command.arg("--bind-address").arg(serving.bind_address.to_string());
    command
        .arg("--pod-cidr")
        .arg(&serving.pod_cidr)
        .arg("--service-cidr")
        .arg(&serving.service_cidr);
    command.arg("--log").arg(&serving.log);
    if serving.no_node {
        command.arg("--no-node");
    }
    let store = &serving.store;
    if !store.store.is_empty() {
        command.arg("--store").arg(store.store.join(","));
    }
    for (flag, path) in [
        ("--store-ca", &store.store_ca),
        ("--store-cert", &store.store_cert),
        ("--store-key", &store.store_key),
    ] {
        if let Some(path) = path {
            command.arg(flag).arg(std::path::absolute(path)?);
        }
    }
    command
        .arg("--snapshot-every")
        .arg(format!("{}s", serving.snapshot_every.as_secs()))
        .arg("--snapshot-keep")
        .arg(serving.snapshot_keep.to_string());
    if let Some(name) = &serving.node_name {
        command.arg("--node-name").arg(name);
    }
    for (flag, names) in [
        ("--enable-admission-plugins", &serving.enable_admission_plugins),
        ("--disable-admission-plugins", &serving.disable_admission_plugins),
    ] {
        if !names.is_empty() {
            command.arg(flag).arg(names.join(","));
        }
    }
    for (flag, path) in [
        (
            "--admission-control-config-file",
            &serving.admission_control_config_file,
        ),
        ("--token-auth-file", &serving.token_auth_file),
    ] {
        if let Some(path) = path {
            command.arg(flag).arg(std::path::absolute(path)?);
        }
    }
    let fake = &serving.fake;
    command.arg("--fake-nodes").arg(fake.fake_nodes.to_string());
    for (flag, path) in [
        ("--node-template", &fake.node_template),
        ("--fake-stages", &fake.fake_stages),
    ] {
        if let Some(path) = path {
            command.arg(flag).arg(std::path::absolute(path)?);
        }
    }
    if let Some(path) = &serving.oci_runtime {
        command.arg("--oci-runtime").arg(path);
    }
    command.args(super::node::arguments(&serving.node)?);
    if let Some(path) = &serving.scheduler_config {
        // The server runs in another directory.
        command
            .arg("--scheduler-config")
            .arg(std::path::absolute(path).unwrap_or_else(|_| path.clone()));
    }
    command
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log);
    let mut child = command.spawn().context("cannot start the server")?;
    let stdout = child.stdout.take().context("the server has no standard output")?;
    Ok((child, read_milestones(stdout)))
}

fn read_milestones(stdout: ChildStdout) -> mpsc::Receiver<Milestone> {
    let (sender, receiver) = mpsc::sync_channel(16);
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if let Some(milestone) = Milestone::parse(&line)
                && sender.send(milestone).is_err()
            {
                return;
            }
        }
    });
    receiver
}

fn follow(
    child: &mut Child,
    milestones: mpsc::Receiver<Milestone>,
    progress: &Progress,
    args: &Up,
    cluster: &Cluster,
    kubeconfig: PathBuf,
) -> anyhow::Result<()> {
    let mut left = Deadline::new(args.timeout);
    loop {
        match milestones.recv_timeout(left.remaining()) {
            Ok(Milestone::Api(url)) => {
                merge_context(args, cluster, &kubeconfig)?;
                progress.done(&format!("API server ready at {url}"));
                progress.step("waiting for the node");
            }
            Ok(Milestone::Node(name)) => progress.done(&format!("node {name} ready")),
            Ok(Milestone::FakeNodes(count)) => progress.done(&format!("{count} fake nodes ready")),
            Ok(Milestone::Ready) => {
                progress.done(&format!("context {:?} is in {}", args.name, kubeconfig.display()));
                return Ok(());
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = child.wait()?;
                bail!(
                    "the server ended ({status}) before the cluster was ready:\n{}",
                    last_lines(cluster)
                );
            }
            Err(mpsc::RecvTimeoutError::Timeout) => bail!(
                "the cluster was not ready within {:?}; the log is {}:\n{}",
                args.timeout,
                cluster.log_file().display(),
                last_lines(cluster)
            ),
        }
    }
}

/// What is left of a time limit.
struct Deadline {
    ends: coracle_clock::Timestamp,
}

impl Deadline {
    fn new(limit: Duration) -> Self {
        Self {
            ends: coracle_clock::Clock::system()
                .now()
                .saturating_add(limit)
                .unwrap_or(coracle_clock::Timestamp::MAX),
        }
    }

    fn remaining(&mut self) -> Duration {
        Duration::try_from(self.ends.duration_since(coracle_clock::Clock::system().now())).unwrap_or_default()
    }
}

fn merge_context(args: &Up, cluster: &Cluster, kubeconfig: &std::path::Path) -> anyhow::Result<()> {
    let text = std::fs::read_to_string(cluster.admin_kubeconfig()).context("cannot read the admin kubeconfig")?;
    let admin: serde_json::Value = serde_saphyr::from_str(&text).context("the admin kubeconfig is damaged")?;
    user_kubeconfig::merge(kubeconfig, &admin, &args.name)?;
    let merged = user_kubeconfig::Merged {
        file: kubeconfig.to_owned(),
        name: args.name.clone(),
    };
    std::fs::write(cluster.context_file(), serde_json::to_vec(&merged)?).context("cannot note the context")
}

/// The end of the server's log.
fn last_lines(cluster: &Cluster) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = std::fs::File::open(cluster.log_file())?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(4096)))?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    };
    let text = read().unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(10)..].join("\n")
}
