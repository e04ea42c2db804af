//! What is particular to a runtime behind the container runtime interface.

use std::fs;
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

use coracle_runtime::{ContainerState, Cri, CriConfig, Error, PodRuntime, SandboxState, SeccompProfile};

use crate::change::on_change;
use crate::image_build;
use crate::node::{BUSYBOX, HANG, Node, shell, sleeper};

#[tokio::test]
async fn it_says_who_it_is_and_how_it_is() {
    let node = Node::containerd().await;
    let identity = node.engine.identity();
    assert_eq!(identity.name, "containerd");
    assert!(identity.version.contains('.'), "{identity:?}");
    assert_eq!(node.engine.trouble().await, None);
    assert!(node.engine.image_filesystem().starts_with("/"));
    node.finish().await;
    let missing = CriConfig {
        socket: "/no/such.sock".into(),
        owner: "x".into(),
        logs: coracle_runtime::LogLimits::default(),
        clock: coracle_clock::Clock::system(),
    };
    let error = Cri::open(missing).await.err().unwrap().to_string();
    assert!(
        error.contains("no container runtime answers at /no/such.sock"),
        "{error}"
    );
}

#[tokio::test]
async fn a_pod_has_the_network_that_the_runtime_gave_it() {
    let node = Node::containerd().await;
    let pod = node.engine.run_sandbox(node.sandbox_config("pod")).await.unwrap();
    let address = pod.addresses.unwrap().remove(0);
    assert!(address.starts_with("10.206."), "{address}");
    let id = node.start(&pod.id, sleeper()).await;
    assert!(node.sh(&id, "ip addr show eth0").await.contains(&address));
    assert!(fs::metadata(&pod.netns).is_ok());
    assert_eq!(node.sh(&id, "hostname").await, "pod");
    let mut config = node.sandbox_config("host");
    config.host_network = true;
    let host = node.engine.run_sandbox(config).await.unwrap();
    let id = node.start(&host.id, sleeper()).await;
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(node.sh(&id, "readlink /proc/self/ns/net").await, own.to_str().unwrap());
    node.finish().await;
}

#[tokio::test]
async fn another_client_finds_what_runs_and_sees_nothing_of_other_owners() {
    let mut node = Node::containerd().await;
    let other = Node::containerd().await;
    let mut config = node.sandbox_config("pod");
    config.id = Some("the-pod-1".into());
    config.attempt = 1;
    let pod = node.engine.run_sandbox(config).await.unwrap().id;
    assert_eq!(pod.as_str(), "the-pod-1");
    let mut container = sleeper();
    container.annotations.insert("k".into(), "v".into());
    container.security.user = Some(7);
    container.security.group = Some(8);
    let id = node.start(&pod, container).await;
    let ended = node.start(&pod, shell("exit 5")).await;
    node.ended(&ended).await;
    let before = node.engine.container_status(&id).await.unwrap();

    node.reopen().await;
    let sandbox = node.engine.sandboxes().await.remove(0);
    assert_eq!((sandbox.id.as_str(), sandbox.config.attempt), ("the-pod-1", 1));
    assert!(sandbox.addresses.is_some_and(|a| a.len() == 1) && sandbox.config.annotations.is_empty());
    let status = node.engine.container_status(&id).await.unwrap();
    assert_eq!((status.pid, status.started_at), (before.pid, before.started_at));
    assert_eq!(
        (status.user, status.group, status.annotations["k"].as_str()),
        (7, 8, "v")
    );
    assert_eq!(status.annotations.len(), 1);
    assert_eq!(node.engine.container_status(&ended).await.unwrap().exit_code, Some(5));
    assert!(other.engine.sandboxes().await.is_empty() && other.engine.containers().await.is_empty());
    // Its end is noticed by the new one.
    node.engine.kill_container(&id, nix::libc::SIGKILL).await.unwrap();
    assert_eq!(node.ended(&id).await.exit_code, Some(137));
    other.finish().await;
    node.finish().await;
}

#[tokio::test]
async fn a_sandbox_that_dies_is_noticed() {
    let node = Node::containerd().await;
    let mut events = node.engine.events();
    let pod = node.engine.run_sandbox(node.sandbox_config("pod")).await.unwrap();
    let pid = nix::unistd::Pid::from_raw(pod.pid);
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
    let stopped = async { while events.recv().await.unwrap().kind != coracle_runtime::EventKind::SandboxStopped {} };
    tokio::time::timeout(HANG, stopped)
        .await
        .expect("its end is never told");
    assert_eq!(node.engine.sandboxes().await[0].state, SandboxState::NotReady);
    node.finish().await;
}

#[tokio::test]
async fn a_security_context_is_kept() {
    let node = Node::containerd().await;
    let mut config = node.sandbox_config("pod");
    config.privileged = true;
    let pod = node.engine.run_sandbox(config).await.unwrap().id;
    let mut container = sleeper();
    container.security.add_capabilities = vec!["NET_ADMIN".into()];
    container.security.drop_capabilities = vec!["ALL".into()];
    container.security.no_new_privileges = true;
    container.security.readonly_rootfs = true;
    container.security.seccomp = SeccompProfile::RuntimeDefault;
    let id = node.start(&pod, container).await;
    let status = node.sh(&id, "cat /proc/self/status").await;
    for line in ["CapEff:\t0000000000001000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(line), "{line}: {status}");
    }
    assert_eq!(node.sh(&id, "touch /x 2>/dev/null || echo refused").await, "refused");
    assert_eq!(node.sh(&id, "cat /proc/kcore | wc -c").await, "0");
    let mut privileged = sleeper();
    privileged.security.privileged = true;
    let id = node.start(&pod, privileged).await;
    assert_eq!(node.sh(&id, "test -e /dev/kmsg && echo all").await, "all");
    let mut debugging = sleeper();
    debugging.pid_target = Some(id.clone());
    let id = node.start(&pod, debugging).await;
    assert!(node.sh(&id, "ps").await.matches("sleep 1000").count() >= 2);
    node.finish().await;
}

#[tokio::test]
async fn what_this_version_cannot_is_refused_and_not_left_out() {
    let node = Node::containerd().await;
    let mut config = node.sandbox_config("pod");
    config.user_namespace = Some(coracle_runtime::UserNamespace {
        host_id: 65536,
        length: 65536,
    });
    let error = node.engine.run_sandbox(config).await.unwrap_err();
    assert!(
        error.to_string().contains("does not support users of a pod's own"),
        "{error}"
    );
    let archive = coracle_runtime::Archive::Path("/x".into());
    let error = node.engine.import_archive(archive, None).await.unwrap_err();
    assert!(error.to_string().contains("ctr -n k8s.io images import"), "{error}");
    node.finish().await;
}

#[tokio::test]
async fn images_are_the_runtimes() {
    let node = Node::containerd().await;
    let image = node.engine.image(BUSYBOX).await.unwrap();
    assert!(image.repo_tags.contains(&BUSYBOX.to_owned()) && image.size > 0 && !image.pinned);
    assert_eq!(node.engine.image(image.id.as_str()).await.unwrap().id, image.id);
    let all = node.engine.images().await;
    let pause = all
        .iter()
        .find(|i| i.repo_tags.iter().any(|tag| tag.contains("pause")))
        .unwrap();
    assert!(pause.pinned, "it would be missing when the next pod comes");
    assert!(node.engine.image("absent:1").await.is_none());
    node.engine.remove_image("absent:1").await.unwrap();
    let error = node
        .engine
        .pull_image("127.0.0.1:9/none:1", None, None)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::RegistryUnavailable { .. }), "{error:?}");
    node.finish().await;
}

#[tokio::test]
async fn an_archive_that_the_engine_has_exported_is_taken_by_containerd() {
    let (engine, node) = (Node::empty().await, Node::containerd().await);
    let (first, second) = (
        engine.directory.path().join("1.tar"),
        engine.directory.path().join("2.tar"),
    );
    image_build::Image::busybox().docker_archive(&first, &["demo/exported:1"]);
    let archive = coracle_runtime::Archive::Path(first);
    engine.engine.import_archive(archive, None).await.unwrap();
    let images = ["demo/exported:1".to_owned()];
    engine
        .engine
        .export_archive(&images, second.clone(), None)
        .await
        .unwrap();
    node.containerd.as_ref().unwrap().import(&second);
    let pod = node.sandbox().await;
    let mut config = shell("echo $FROM_IMAGE");
    config.image = images[0].clone();
    assert_eq!(node.run(&pod, config).await.1, "yes\n");
    engine.finish().await;
    node.finish().await;
}

#[tokio::test]
async fn a_log_that_has_grown_is_put_aside_and_nothing_of_it_lost() {
    let node = Node::containerd().await;
    let pod = node.sandbox().await;
    // Over the size at which a log is rotated; then one line more when it is told to.
    let script = "trap 'echo more' USR1; line=$(head -c 1000 /dev/zero | tr '\\0' x); i=0; \
                  while [ $i -lt 11000 ]; do echo $line; i=$((i+1)); done; echo ready; while :; do sleep 1 & wait; done";
    let id = node.start(&pod, shell(script)).await;
    let log = node.engine.container_status(&id).await.unwrap().log_path.unwrap();
    let (directory, name) = (log.parent().unwrap(), log.file_name().unwrap().to_str().unwrap());
    let aside = || -> Vec<_> {
        let all = fs::read_dir(directory).unwrap().flatten();
        let old = all.filter(|entry| entry.file_name().to_str().unwrap().starts_with(&format!("{name}.")));
        old.map(|entry| entry.path()).collect()
    };
    // It is rotated while it grows or after, and what is written meanwhile may be in either file.
    let files = || aside().into_iter().chain([log.clone()]);
    let last = || {
        let mut newest = files().rev().filter_map(|file| fs::File::open(file).ok());
        let mut file = newest.find(|file| file.metadata().unwrap().len() > 0)?;
        file.seek(SeekFrom::End(-6)).ok()?;
        let mut end = String::new();
        file.read_to_string(&mut end).ok()?;
        Some(end)
    };
    let rotated = on_change([directory], || {
        !aside().is_empty() && last().is_some_and(|end| end == "ready\n")
    });
    tokio::time::timeout(HANG, rotated).await.expect("it is never rotated");
    node.engine.kill_container(&id, nix::libc::SIGUSR1).await.unwrap();
    let told = on_change([directory], || last().is_some_and(|end| end == " more\n"));
    tokio::time::timeout(HANG, told)
        .await
        .expect("what is written after a rotation is lost");
    let lines = |file| fs::read_to_string(file).unwrap_or_default().lines().count();
    assert_eq!(files().map(lines).sum::<usize>(), 11_002);
    node.engine.stop_container(&id, None, Duration::ZERO).await.unwrap();
    let status = node.engine.container_status(&id).await.unwrap();
    assert_eq!((status.state, status.exit_code), (ContainerState::Exited, Some(137)));
    node.finish().await;
}
