//! An agent in a process of its own is killed again and again while pods come and go, and some pods' shims with it. What
//! runs must go on, what was half made must be finished or cleared away, and of deleted pods nothing may be left: every
//! kind of thing that a pod is made from is counted. `CORACLE_KILLS` says how often, `CORACLE_SEED` repeats a run.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Arc;
use std::time::Duration;

use coracle_client::{Client, Config, DeleteOptions, ListOptions};
use coracle_clock::Clock;
use coracle_informer::CancellationToken;
use coracle_network::{NetworkOptions, PodNetwork, free_cidr};
use coracle_node::{Agent, AgentOptions};
use coracle_runtime::{Archive, Engine, EngineConfig, PodRuntime};
use coracle_testkit::{Options, TestCluster};
use futures::StreamExt;
use k8s_openapi::api::core::v1::{ConfigMap, Event, Pod};
use serde_json::{Value, json};

use crate::change::on_change;
use crate::cluster::{IMAGE, LIMIT, busybox, furnish, is_ready};

/// `agent KUBECONFIG DIRECTORY CIDR`: an agent until it is killed.
pub fn agent_main(mut arguments: impl Iterator<Item = OsString>) -> ! {
    let mut next = || PathBuf::from(arguments.next().unwrap());
    let (kubeconfig, dir, cidr) = (next(), next(), next());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    crate::log();
    runtime.block_on(async {
        let engine = Engine::open(EngineConfig::new(dir.join("runtime"))).await.unwrap();
        let cidr = cidr.to_str().unwrap().parse().unwrap();
        let network = PodNetwork::open(network_options(&dir, cidr)).await.unwrap();
        let config = Config::from_kubeconfig(&kubeconfig, None).unwrap();
        let _agent = Agent::start(AgentOptions {
            client: Client::connect(config, Clock::system()).unwrap(),
            runtime: Arc::new(engine),
            clock: Clock::system(),
            node_name: "n1".into(),
            data_dir: dir.join("node"),
            node_ip: Some(network.gateway().into()),
            pod_cidr: Some(network.pod_cidr().to_string()),
            network: Arc::new(network),
            labels: BTreeMap::new(),
            taints: Vec::new(),
            cluster_dns: vec!["10.96.0.10".into()],
            cluster_domain: "cluster.local".into(),
            cgroup_root: cgroup_root(&dir),
            settings: coracle_node::Settings::default(),
            serving: None,
            shutdown: CancellationToken::new(),
        })
        .await
        .unwrap();
        std::future::pending::<()>().await;
    });
    unreachable!()
}

fn network_options(dir: &Path, cidr: coracle_network::Cidr) -> NetworkOptions {
    NetworkOptions {
        cluster_id: dir.to_string_lossy().into_owned(),
        pod_cidr: cidr,
        cluster_cidr: cidr,
        data_dir: dir.to_owned(),
    }
}

fn cgroup_root(dir: &Path) -> String {
    format!("/coracle-leaks{}", dir.to_string_lossy().replace(['/', '.'], "-"))
}

pub async fn nothing_is_left_of_pods_whose_agent_and_shims_are_killed_at_random_points() {
    let kills = number("CORACLE_KILLS").unwrap_or(6);
    let seed = number("CORACLE_SEED").unwrap_or_else(|| Clock::system().now().as_nanosecond() as u64);
    println!("CORACLE_SEED={seed} CORACLE_KILLS={kills}");
    let mut random = Random(seed | 1);
    let mut world = World::start().await;
    world.create("steady", 0).await;
    world.start_agent();
    world.settled(|name| name == "steady").await;
    let steady = world.uid("steady").await;
    // It has started all that it ever will once this one runs.
    while !processes().any(|(_, line, groups)| groups.contains(&steady) && line.starts_with("sleep")) {
        tokio::task::yield_now().await;
    }
    let untouched = world.processes_of(&steady);
    assert!(untouched.len() >= 3, "{untouched:?}");

    for round in 0..kills {
        for n in 0..2 {
            world.create(&format!("p{round}-{n}"), random.below(6)).await;
        }
        world.delete_some(&mut random, 2).await;
        if world.agent.is_none() {
            world.start_agent();
        }
        pause(random.delay());
        if random.below(3) == 0 {
            world.kill_a_shim(&mut random, &steady);
            pause(random.delay() / 4);
        }
        if random.below(2) == 0 {
            world.delete_some(&mut random, 2).await;
            pause(random.delay() / 4);
        }
        world.kill_agent();
        if random.below(4) == 0 {
            world.kill_a_shim(&mut random, &steady);
        }
        world.delete_some(&mut random, 1).await;
        assert_eq!(
            world.processes_of(&steady),
            untouched,
            "round {round} touched what runs"
        );
    }

    world.start_agent();
    world.settled(|_| true).await;
    assert_eq!(world.processes_of(&steady), untouched);
    world.delete_all().await;
    // Whatever is taken down, what names it goes last.
    let names: Vec<PathBuf> = world
        .directories()
        .into_iter()
        .map(|(_, directory)| directory)
        .collect();
    let gone = on_change(&names, || world.left().is_empty());
    if tokio::time::timeout(LIMIT, gone).await.is_err() {
        panic!("left: {:#?}", world.left());
    }
    let foreign = world.foreign_namespaces();
    assert!(foreign.is_empty(), "the agent holds network namespaces: {foreign:?}");
    world.end().await;
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn pause(time: Duration) {
    std::thread::sleep(time);
}

struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % limit
    }

    /// Mostly while things are being made, sometimes long after.
    fn delay(&mut self) -> Duration {
        let most = [60, 150, 400, 1500][self.below(4) as usize];
        Duration::from_millis(self.below(most))
    }
}

struct World {
    cluster: TestCluster,
    dir: tempfile::TempDir,
    cidr: coracle_network::Cidr,
    bridge: String,
    agent: Option<Child>,
}

impl World {
    async fn start() -> Self {
        let options = Options {
            controllers: false,
            scheduler: false,
            ..Options::default()
        };
        let cluster = TestCluster::with(options).await.unwrap();
        furnish(&cluster.client).await;
        let map = json!({"metadata": {"name": "settings", "namespace": "default"}, "data": {"a": "1", "b": "2"}});
        let maps = cluster.client.namespaced::<ConfigMap>("default");
        maps.create(&serde_json::from_value(map).unwrap()).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let engine = Engine::open(EngineConfig::new(dir.path().join("runtime")))
            .await
            .unwrap();
        let archive = dir.path().join("busybox.tar");
        std::fs::write(&archive, busybox()).unwrap();
        engine.import_archive(Archive::Path(archive), None).await.unwrap();
        let id = dir.path().to_string_lossy().into_owned();
        let cidr = free_cidr(&id, "10.206.0.0/24".parse().unwrap(), &[]).await.unwrap();
        let network = PodNetwork::open(network_options(dir.path(), cidr)).await.unwrap();
        Self {
            bridge: network.bridge_name().to_owned(),
            cluster,
            dir,
            cidr,
            agent: None,
        }
    }

    fn start_agent(&mut self) {
        let agent = Command::new(std::env::current_exe().unwrap())
            .arg("agent")
            .arg(self.cluster.kubeconfig())
            .arg(self.dir.path())
            .arg(self.cidr.to_string())
            .spawn()
            .unwrap();
        self.agent = Some(agent);
    }

    fn kill_agent(&mut self) {
        let mut agent = self.agent.take().unwrap();
        assert!(agent.try_wait().unwrap().is_none(), "the agent has ended by itself");
        agent.kill().unwrap();
        agent.wait().unwrap();
    }

    fn pods(&self) -> coracle_client::Api<Pod> {
        self.cluster.client.namespaced::<Pod>("default")
    }

    async fn list(&self) -> Vec<Pod> {
        let list = self.pods().list(&ListOptions::default()).await.unwrap();
        list.items.into_iter().map(|pod| Pod::clone(&pod)).collect()
    }

    async fn uid(&self, name: &str) -> String {
        let pods = self.list().await;
        let pod = pods.iter().find(|p| p.metadata.name.as_deref() == Some(name)).unwrap();
        pod.metadata.uid.clone().unwrap()
    }

    async fn create(&self, name: &str, kind: u64) {
        let mut spec = spec(kind);
        spec["nodeName"] = json!("n1");
        spec["terminationGracePeriodSeconds"] = json!(1);
        let pod = json!({"metadata": {"name": name, "namespace": "default"}, "spec": spec});
        self.pods().create(&serde_json::from_value(pod).unwrap()).await.unwrap();
    }

    async fn delete_some(&self, random: &mut Random, most: u64) {
        for _ in 0..random.below(most + 1) {
            let names: Vec<String> = self.list().await.into_iter().filter_map(|p| p.metadata.name).collect();
            let name = &names[random.below(names.len() as u64) as usize];
            if name != "steady" {
                let grace_period_seconds = (random.below(3) == 0).then_some(0);
                let options = DeleteOptions {
                    grace_period_seconds,
                    ..DeleteOptions::default()
                };
                // It may be gone by now.
                let _ = self.pods().delete(name, &options).await;
            }
        }
    }

    async fn delete_all(&self) {
        for pod in self.list().await {
            let name = pod.metadata.name.unwrap();
            let _ = self.pods().delete(&name, &DeleteOptions::default()).await;
        }
        self.until("every pod is deleted", |pods| pods.is_empty()).await;
    }

    /// Waits until every pod of these names is ready or has ended.
    async fn settled(&self, which: impl Fn(&str) -> bool) {
        let done = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
            is_ready(pod) || matches!(phase, Some("Succeeded" | "Failed"))
        };
        self.until("every pod is ready or has ended", |pods| {
            pods.iter()
                .filter(|p| p.metadata.deletion_timestamp.is_none())
                .filter(|p| which(p.metadata.name.as_deref().unwrap()))
                .all(done)
        })
        .await;
    }

    async fn until(&self, what: &str, holds: impl Fn(&[Pod]) -> bool) {
        let mut changes = self.pods().watch(&ListOptions::default()).await.unwrap();
        let until = async {
            while !holds(&self.list().await) {
                changes.next().await.expect("the watch goes on").unwrap();
            }
        };
        if tokio::time::timeout(LIMIT, until).await.is_ok() {
            return;
        }
        let events = self.cluster.client.namespaced::<Event>("default");
        for event in events.list(&ListOptions::default()).await.unwrap().items {
            let of = event.involved_object.name.as_deref().unwrap_or_default();
            println!("{of}: {:?} {:?}", event.reason, event.message);
        }
        let pods = self.list().await;
        let shown = pods.iter().map(|p| json!([p.metadata.name, p.status]));
        panic!("not in time: {what}: {:#?}", shown.collect::<Vec<_>>());
    }

    fn kill_a_shim(&self, random: &mut Random, spare: &str) {
        let sandboxes = self.dir.path().join("runtime/sandboxes");
        let shims: Vec<i32> = processes()
            .filter(|(_, line, _)| line.contains(sandboxes.to_str().unwrap()) && !line.contains(spare))
            .map(|(pid, _, _)| pid)
            .collect();
        if !shims.is_empty() {
            let pid = nix::unistd::Pid::from_raw(shims[random.below(shims.len() as u64) as usize]);
            let _ = nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL);
        }
    }

    /// The processes of a pod, with when they started.
    fn processes_of(&self, uid: &str) -> BTreeSet<(i32, String)> {
        let start = |pid: i32| {
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
            stat.rsplit_once(')').unwrap().1.split(' ').nth(20).unwrap().to_owned()
        };
        let own = processes().filter(|(_, _, groups)| groups.contains(uid));
        own.map(|(pid, _, _)| (pid, start(pid))).collect()
    }

    /// Everything that there is of pods.
    fn left(&self) -> Vec<String> {
        let dir = self.dir.path();
        let (root, path) = (cgroup_root(dir), dir.to_str().unwrap());
        let mountinfo = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut left: Vec<String> = mountinfo
            .lines()
            .filter(|line| line.contains(path))
            .map(|line| format!("mount {line}"))
            .collect();
        for hierarchy in mountinfo.lines().filter(|line| line.contains(" - cgroup")) {
            let top = format!("{}{root}", hierarchy.split(' ').nth(4).unwrap());
            groups(Path::new(&top), &mut left);
        }
        let agent = self.agent.as_ref().map(|a| a.id() as i32);
        let ours = |(pid, line, groups): &(i32, String, String)| {
            (line.contains(path) || groups.contains(&root)) && Some(*pid) != agent
        };
        left.extend(
            processes()
                .filter(ours)
                .map(|(pid, line, _)| format!("process {pid} {line}")),
        );
        let ports = PathBuf::from(format!("/sys/class/net/{}/brif", self.bridge));
        for (kind, directory) in self.directories().into_iter().chain([("veth", ports)]) {
            let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
            left.extend(entries.map(|e| format!("{kind} {}", e.path().display())));
        }
        left
    }

    /// Where everything that there is of a pod has a name.
    fn directories(&self) -> [(&'static str, PathBuf); 6] {
        [
            ("address", "network/addresses"),
            ("pod directory", "node/pods"),
            ("log directory", "node/logs"),
            ("sandbox directory", "runtime/sandboxes"),
            ("container directory", "runtime/containers"),
            ("temporary file", "runtime/tmp"),
        ]
        .map(|(kind, path)| (kind, self.dir.path().join(path)))
    }

    /// Network namespaces other than the host's that the agent has a descriptor of or a thread in.
    fn foreign_namespaces(&self) -> Vec<String> {
        let agent = format!("/proc/{}", self.agent.as_ref().unwrap().id());
        let own = std::fs::read_link("/proc/self/ns/net").unwrap();
        let list = |part: &str| std::fs::read_dir(format!("{agent}/{part}")).unwrap().flatten();
        let open = list("fd").filter_map(|e| std::fs::read_link(e.path()).ok());
        let threads = list("task").filter_map(|e| std::fs::read_link(e.path().join("ns/net")).ok());
        open.chain(threads)
            .filter(|at| at.to_string_lossy().starts_with("net:") && *at != own)
            .map(|at| at.display().to_string())
            .collect()
    }

    async fn end(mut self) {
        self.kill_agent();
        let id = self.dir.path().to_string_lossy().into_owned();
        PodNetwork::teardown(&id, self.dir.path()).await.unwrap();
        let engine = Engine::open(EngineConfig::new(self.dir.path().join("runtime")))
            .await
            .unwrap();
        engine.remove_cgroup(&cgroup_root(self.dir.path())).unwrap();
    }
}

impl Drop for World {
    /// A test that failed half-way must not go on either.
    fn drop(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            let _ = agent.kill();
            let _ = agent.wait();
        }
        let root = cgroup_root(self.dir.path());
        for (pid, _, _) in processes().filter(|(_, _, groups)| groups.contains(&root)) {
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
        }
    }
}

/// Pods of many kinds, for there are many ways to be half made.
fn spec(kind: u64) -> Value {
    let run = |name: &str, script: &str| json!({"name": name, "image": IMAGE, "imagePullPolicy": "IfNotPresent", "command": ["sh", "-c", script]});
    let stay = "trap 'exit 0' TERM; sleep 1000 & wait";
    let mut spec = json!({"containers": [run("main", stay)]});
    match kind {
        0 => {
            spec["volumes"] = json!([
                {"name": "memory", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
                {"name": "disk", "emptyDir": {}},
                {"name": "map", "configMap": {"name": "settings"}},
            ]);
            spec["containers"][0]["volumeMounts"] = json!([
                {"name": "memory", "mountPath": "/memory"},
                {"name": "disk", "mountPath": "/disk", "subPath": "deep/er"},
                {"name": "map", "mountPath": "/map"},
                {"name": "map", "mountPath": "/one", "subPath": "a"},
            ]);
        }
        1 => spec["initContainers"] = json!([run("first", "sleep 0.1"), run("second", "true")]),
        2 => {
            spec["shareProcessNamespace"] = json!(true);
            spec["containers"] = json!([run("main", stay), run("other", stay)]);
        }
        3 => {
            spec["restartPolicy"] = json!("Never");
            spec["containers"] = json!([run("main", "sleep 0.2; echo done")]);
        }
        4 => spec["hostNetwork"] = json!(true),
        _ => {
            spec["containers"][0]["tty"] = json!(true);
            spec["containers"][0]["stdin"] = json!(true);
        }
    }
    spec
}

/// Every process: number, command line, control groups.
fn processes() -> impl Iterator<Item = (i32, String, String)> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| {
        let pid = entry.file_name().to_str()?.parse().ok()?;
        let line = std::fs::read_to_string(entry.path().join("cmdline"))
            .ok()?
            .replace('\0', " ");
        let groups = std::fs::read_to_string(entry.path().join("cgroup")).ok()?;
        // What is dead and not yet reaped has no command line.
        (!line.is_empty()).then_some((pid, line, groups))
    })
}

/// The groups of pods and below; those of the classes above them stay.
fn groups(directory: &Path, left: &mut Vec<String>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            if entry.file_name().to_string_lossy().starts_with("pod") {
                left.push(format!("control group {}", entry.path().display()));
            }
            groups(&entry.path(), left);
        }
    }
}
