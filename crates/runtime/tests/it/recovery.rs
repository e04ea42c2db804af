//! Agents that go away and come back, and shims that die.

use std::fs;
use std::time::Duration;

use coracle_runtime::{ContainerState, Engine, EventKind, PodRuntime, SandboxState};

use crate::lifecycle::wait_for_log;
use crate::node::{HANG, Node, config, shell, sleeper};

impl Node {
    /// Drops the engine, as an agent's end does, then lets `meanwhile` happen before the next one comes.
    async fn restart(&mut self, meanwhile: impl AsyncFnOnce()) {
        let elsewhere = tempfile::TempDir::new().unwrap();
        let placeholder = Engine::open(config(elsewhere.path())).await.unwrap();
        drop(std::mem::replace(&mut self.engine, placeholder));
        // What it had begun it brings to an end.
        let lock = fs::File::open(self.root().join("lock")).unwrap();
        tokio::task::spawn_blocking(move || lock.lock()).await.unwrap().unwrap();
        meanwhile().await;
        self.engine = Engine::open(config(&self.root())).await.unwrap();
    }
}

#[tokio::test]
async fn a_restarted_agent_finds_everything_as_it_is_now() {
    let mut node = Node::new().await;
    let pod = node.sandbox().await;
    let running = node.start(&pod, sleeper()).await;
    let go = node.directory.path().join("go");
    fs::create_dir(&go).unwrap();
    let mut waiting = shell("while ! test -e /go/now; do sleep 0.05; done; echo away; exit 42");
    waiting.mounts = vec![coracle_runtime::Mount {
        host_path: go.clone(),
        container_path: "/go".into(),
        ..Default::default()
    }];
    let ending = node.start(&pod, waiting).await;
    let created = node.create(&pod, sleeper()).await;
    let before = node.engine.container_status(&running).await.unwrap();
    let record = node.root().join("containers").join(ending.as_str()).join("status.json");

    node.restart(async || {
        fs::write(go.join("now"), "").unwrap();
        while !fs::read_to_string(&record).unwrap_or_default().contains("exited") {
            tokio::task::yield_now().await;
        }
    })
    .await;

    let after = node.engine.container_status(&running).await.unwrap();
    assert_eq!(
        (after.state, after.pid, after.started_at),
        (ContainerState::Running, before.pid, before.started_at)
    );
    let ended = node.engine.container_status(&ending).await.unwrap();
    assert_eq!((ended.state, ended.exit_code), (ContainerState::Exited, Some(42)));
    assert!(fs::read_to_string(ended.log_path.unwrap()).unwrap().contains("F away"));
    assert_eq!(
        node.engine.container_status(&created).await.unwrap().state,
        ContainerState::Created
    );
    assert_eq!(node.engine.sandboxes().await[0].state, SandboxState::Ready);
    // And it is in charge again.
    assert_eq!(node.sh(&running, "echo alive").await, "alive");
    node.engine.start_container(&created).await.unwrap();
    wait_for_log(&node, &running, "ready").await;
    let mut events = node.engine.events();
    node.engine.stop_container(&running, None, HANG).await.unwrap();
    assert_eq!(events.recv().await.unwrap().kind, EventKind::Exited);
    node.finish().await;
}

#[tokio::test]
async fn a_shims_death_is_its_pods_death() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let (one, two) = (
        node.start(&pod, sleeper()).await,
        node.start(&pod, shell("exit 3")).await,
    );
    node.ended(&two).await;
    let pid = node.engine.container_status(&one).await.unwrap().pid.unwrap();
    let mut events = node.engine.events();
    kill(node.engine.sandboxes().await[0].pid.unwrap());
    let status = node.ended(&one).await;
    assert_eq!(
        (status.exit_code, status.reason.as_deref()),
        (Some(137), Some("ContainerStatusUnknown"))
    );
    assert_eq!(node.engine.container_status(&two).await.unwrap().exit_code, Some(3));
    let mut kinds = vec![events.recv().await.unwrap().kind];
    kinds.push(events.recv().await.unwrap().kind);
    assert_eq!(kinds, [EventKind::Exited, EventKind::SandboxStopped]);
    assert_eq!(node.engine.sandboxes().await[0].state, SandboxState::NotReady);
    assert!(!is_running(pid), "the container outlived its pod");
    assert!(node.engine.start_container(&one).await.is_err());
    node.finish().await;
}

#[tokio::test]
async fn a_shim_that_died_while_no_agent_was_there_is_found_dead() {
    let mut node = Node::new().await;
    let pod = node.sandbox().await;
    let id = node.start(&pod, sleeper()).await;
    let shim = node.engine.sandboxes().await[0].pid.unwrap();
    let container = node.engine.container_status(&id).await.unwrap().pid.unwrap();
    node.restart(async || {
        kill(shim);
        // Without any agent the container goes with its shim all the same.
        while is_running(container) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    assert_eq!(node.engine.sandboxes().await[0].state, SandboxState::NotReady);
    let status = node.engine.container_status(&id).await.unwrap();
    assert_eq!((status.state, status.exit_code), (ContainerState::Exited, Some(137)));
    node.finish().await;
}

#[tokio::test]
async fn what_a_crash_left_half_made_is_cleared_away() {
    let mut node = Node::new().await;
    let pod = node.sandbox().await;
    let id = node.create(&pod, sleeper()).await;
    let (containers, sandboxes) = (node.root().join("containers"), node.root().join("sandboxes"));
    let layers = node.root().join("layers");
    node.restart(async || {
        // A container without its record, mounted; a sandbox of which only the directory is there; a torn layer.
        fs::remove_file(containers.join(id.as_str()).join("container.json")).unwrap();
        fs::create_dir(sandboxes.join("half")).unwrap();
        fs::create_dir(layers.join(".tmp-1")).unwrap();
        fs::create_dir(layers.join("0123456789abcdef01234567")).unwrap();
    })
    .await;
    assert!(node.engine.containers().await.is_empty());
    assert_eq!(node.engine.sandboxes().await.len(), 1);
    assert_eq!(fs::read_dir(&layers).unwrap().count(), 1);
    assert!(!sandboxes.join("half").exists());
    node.finish().await;
}

#[tokio::test]
async fn a_directory_belongs_to_one_engine() {
    let node = Node::empty().await;
    let error = Engine::open(config(&node.root()))
        .await
        .err()
        .expect("a second engine is refused");
    assert!(error.to_string().contains("in use"), "{error}");
    node.finish().await;
}

#[tokio::test]
async fn a_hurried_agent_that_is_killed_at_any_point_leaves_a_directory_that_can_be_opened() {
    let mut node = Node::new().await;
    let engine = node.engine.clone();
    // Abandon the work at many different points by dropping its future.
    for step in 0..12 {
        let (engine, sandbox) = (engine.clone(), node.sandbox_config(&format!("pod{step}")));
        let work = async move {
            let pod = engine.run_sandbox(sandbox).await.unwrap().id;
            let id = engine.create_container(&pod, sleeper()).await.unwrap();
            engine.start_container(&id).await.unwrap();
            engine.remove_sandbox(&pod).await.unwrap();
        };
        let _ = tokio::time::timeout(Duration::from_millis(5 + step * 12), work).await;
    }
    drop(engine);
    node.restart(async || {}).await;
    for sandbox in node.engine.sandboxes().await {
        node.engine.remove_sandbox(&sandbox.id).await.unwrap();
    }
    let pod = node.sandbox().await;
    let id = node.start(&pod, shell("echo fine; sleep 100")).await;
    wait_for_log(&node, &id, "fine").await;
    node.finish().await;
}

#[tokio::test]
async fn the_shims_program_cannot_be_overwritten_through_its_process() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let shim = node.engine.sandboxes().await[0].pid.unwrap();
    use std::os::unix::fs::OpenOptionsExt;
    let handle = fs::File::options()
        .read(true)
        .custom_flags(nix::libc::O_PATH)
        .open(format!("/proc/{shim}/exe"))
        .unwrap();
    node.engine.stop_sandbox(&pod).await.unwrap();
    // Nobody executes it any more, which was the other reason why it could not be written.
    use std::os::fd::AsRawFd;
    let error = fs::File::options()
        .write(true)
        .open(format!("/proc/self/fd/{}", handle.as_raw_fd()))
        .unwrap_err();
    assert!(
        [nix::libc::EROFS, nix::libc::ETXTBSY].contains(&error.raw_os_error().unwrap()),
        "{error}"
    );
    node.finish().await;
}

#[tokio::test]
async fn waiting_for_a_container_that_is_removed_ends() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let id = node.create(&pod, sleeper()).await;
    let (engine, waiting) = (node.engine.clone(), id.clone());
    let wait = tokio::spawn(async move { engine.wait_container(&waiting).await });
    tokio::task::yield_now().await;
    node.engine.remove_container(&id).await.unwrap();
    assert!(wait.await.unwrap().is_err());
    node.finish().await;
}

fn kill(pid: i32) {
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).unwrap();
}

fn is_running(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !stat.is_empty() && !stat.contains(") Z ")
}
