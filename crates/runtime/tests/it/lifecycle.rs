//! Sandboxes and containers from creation to removal.

use std::fs;
use std::time::Duration;

use coracle_runtime::{ContainerConfig, ContainerState, Error, EventKind, PodRuntime, SandboxId, SandboxState};

use crate::change::on_change;
use crate::node::{HANG, Node, labels, log_lines, over_both, shell, sleeper};

over_both! {
    a_container_runs_and_its_output_and_exit_code_are_recorded
    statuses_carry_what_was_given_at_creation
    stopping_asks_first_and_kills_after_the_grace_period
    the_images_stop_signal_is_used_unless_the_container_has_its_own
    a_program_that_is_not_there_is_an_error_in_known_words
    events_tell_each_step_without_being_asked
    stopping_a_sandbox_ends_its_containers_and_removing_it_removes_them
    removing_a_running_container_leaves_the_others_alone
    pods_of_the_same_name_do_not_meet
    two_sandboxes_may_share_a_pods_cgroup
    a_log_is_reopened_after_it_was_renamed
}

async fn a_container_runs_and_its_output_and_exit_code_are_recorded(node: Node<impl PodRuntime>) {
    let pod = node.sandbox().await;
    let (status, log) = node.run(&pod, shell("echo out; echo err >&2; exit 3")).await;
    assert_eq!(status.state, ContainerState::Exited);
    assert_eq!(status.exit_code, Some(3));
    assert_eq!(status.reason.as_deref(), Some("Error"));
    assert!(!status.oom_killed);
    assert!(status.started_at >= Some(status.created_at) && status.finished_at >= status.started_at);
    assert!(log.contains("out\n") && log.contains("err\n"), "{log}");
    let lines = log_lines(&status);
    assert!(lines.iter().any(|line| line.stream == "stderr" && line.text == "err"));
    let (status, _) = node.run(&pod, shell("true")).await;
    assert_eq!(
        (status.exit_code, status.reason.as_deref()),
        (Some(0), Some("Completed"))
    );
    node.finish().await;
}

async fn statuses_carry_what_was_given_at_creation(node: Node<impl PodRuntime>) {
    let mut config = node.sandbox_config("web");
    config.labels = labels(&[("a", "b")]);
    config.attempt = 2;
    let pod = node.engine.run_sandbox(config).await.unwrap();
    let mut container = sleeper();
    (container.labels, container.attempt) = (labels(&[("c", "d")]), 7);
    let id = node.create(&pod.id, container).await;

    let sandbox = &node.engine.sandboxes().await[0];
    assert_eq!((sandbox.config.labels["a"].as_str(), sandbox.config.attempt), ("b", 2));
    assert_eq!((sandbox.state, sandbox.pid), (SandboxState::Ready, Some(pod.pid)));
    assert!(fs::metadata(sandbox.netns.as_ref().unwrap()).is_ok());
    let status = node.engine.container_status(&id).await.unwrap();
    assert_eq!(
        (status.labels["c"].as_str(), status.attempt, status.state),
        ("d", 7, ContainerState::Created)
    );
    assert_eq!(status.sandbox, pod.id);
    node.finish().await;
}

async fn stopping_asks_first_and_kills_after_the_grace_period(node: Node<impl PodRuntime>) {
    let pod = node.sandbox().await;
    let polite = node
        .start(&pod, shell("trap 'exit 7' TERM; echo ready; sleep 1000 & wait"))
        .await;
    let stubborn = node
        .start(&pod, shell("trap '' TERM; echo ready; while :; do sleep 1; done"))
        .await;
    for id in [&polite, &stubborn] {
        wait_for_log(&node, id, "ready").await;
    }
    node.engine.stop_container(&polite, None, HANG).await.unwrap();
    assert_eq!(node.engine.container_status(&polite).await.unwrap().exit_code, Some(7));
    node.engine
        .stop_container(&stubborn, None, Duration::from_millis(200))
        .await
        .unwrap();
    let status = node.engine.container_status(&stubborn).await.unwrap();
    assert_eq!(status.exit_code, Some(137));
    // Again, and for one that is not there.
    node.engine
        .stop_container(&stubborn, None, Duration::ZERO)
        .await
        .unwrap();
    node.engine
        .stop_container(&"nothing".into(), None, Duration::ZERO)
        .await
        .unwrap();
    node.finish().await;
}

async fn the_images_stop_signal_is_used_unless_the_container_has_its_own(node: Node<impl PodRuntime>) {
    let pod = node.sandbox().await;
    let mut config = shell("trap 'exit 4' USR1; echo ready; sleep 1000 & wait");
    config.stop_signal = Some("SIGUSR1".into());
    let id = node.start(&pod, config).await;
    wait_for_log(&node, &id, "ready").await;
    node.engine.stop_container(&id, None, HANG).await.unwrap();
    assert_eq!(node.engine.container_status(&id).await.unwrap().exit_code, Some(4));
    node.finish().await;
}

async fn a_program_that_is_not_there_is_an_error_in_known_words(node: Node<impl PodRuntime>) {
    let pod = node.sandbox().await;
    for (command, expected) in [
        ("nonsense", "exec: \"nonsense\": executable file not found in $PATH"),
        (
            "/no/such",
            "exec: \"/no/such\": stat /no/such: no such file or directory",
        ),
        ("/etc/plain", "exec: \"/etc/plain\": permission denied"),
    ] {
        let config = ContainerConfig {
            command: vec![command.into()],
            ..shell("")
        };
        let id = node.create(&pod, config).await;
        let error = node.engine.start_container(&id).await.unwrap_err();
        assert!(
            matches!(&error, Error::CommandNotFound(message) if message == expected),
            "{error:?}"
        );
        let status = node.engine.container_status(&id).await.unwrap();
        assert_eq!((status.state, status.exit_code), (ContainerState::Exited, Some(128)));
        assert_eq!(
            (status.reason.as_deref(), status.message.as_deref()),
            (Some("StartError"), Some(expected))
        );
    }
    node.finish().await;
}

#[tokio::test]
async fn what_cannot_be_made_leaves_nothing_behind() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let missing = ContainerConfig {
        image: "absent:1".into(),
        ..shell("")
    };
    let error = node.engine.create_container(&pod, missing).await.unwrap_err();
    assert!(matches!(error, Error::ImageNotFound { .. }));
    let mut unknown_user = shell("true");
    unknown_user.security.username = Some("ghost".into());
    let error = node.engine.create_container(&pod, unknown_user).await.unwrap_err();
    assert!(error.to_string().contains("ghost"), "{error}");
    let mut relative = shell("true");
    relative.working_dir = Some("here".into());
    assert!(node.engine.create_container(&pod, relative).await.is_err());
    let error = node
        .engine
        .create_container(&SandboxId::from("none"), shell("true"))
        .await
        .unwrap_err();
    assert!(matches!(error, Error::NoSuchSandbox(_)));
    assert!(node.engine.containers().await.is_empty());

    let mut bad = node.sandbox_config("bad");
    bad.sysctls = labels(&[("net.no.such", "1")]);
    assert!(
        node.engine
            .run_sandbox(bad)
            .await
            .unwrap_err()
            .to_string()
            .contains("net.no.such")
    );
    assert_eq!(node.engine.sandboxes().await.len(), 1);
    node.finish().await;
}

async fn events_tell_each_step_without_being_asked(node: Node<impl PodRuntime>) {
    let mut events = node.engine.events();
    let pod = node.sandbox().await;
    let (status, _) = node.run(&pod, shell("true")).await;
    node.engine.remove_container(&status.id).await.unwrap();
    node.engine.remove_sandbox(&pod).await.unwrap();
    let mut kinds = Vec::new();
    while let Ok(event) = events.try_recv() {
        assert_eq!(event.sandbox, pod);
        kinds.push(event.kind);
    }
    use EventKind::*;
    assert_eq!(
        kinds,
        [
            SandboxReady,
            Created,
            Started,
            Exited,
            Removed,
            SandboxStopped,
            SandboxRemoved
        ]
    );
    node.finish().await;
}

async fn stopping_a_sandbox_ends_its_containers_and_removing_it_removes_them(node: Node<impl PodRuntime>) {
    let pod = node.sandbox().await;
    let running = node.start(&pod, sleeper()).await;
    let created = node.create(&pod, sleeper()).await;
    node.engine.stop_sandbox(&pod).await.unwrap();
    node.engine.stop_sandbox(&pod).await.unwrap();
    assert_eq!(node.engine.sandboxes().await[0].state, SandboxState::NotReady);
    let status = node.engine.container_status(&running).await.unwrap();
    assert_eq!((status.state, status.exit_code), (ContainerState::Exited, Some(137)));
    assert_eq!(
        node.engine.container_status(&created).await.unwrap().state,
        ContainerState::Created
    );
    let error = node.engine.create_container(&pod, sleeper()).await.unwrap_err();
    assert!(matches!(error, Error::SandboxNotReady(_)));
    assert!(matches!(
        node.engine.start_container(&created).await,
        Err(Error::SandboxNotReady(_))
    ));
    node.engine.remove_sandbox(&pod).await.unwrap();
    node.engine.remove_sandbox(&pod).await.unwrap();
    node.finish().await;
}

async fn removing_a_running_container_leaves_the_others_alone(node: Node<impl PodRuntime>) {
    let pod = node.sandbox().await;
    let (one, other) = (node.start(&pod, sleeper()).await, node.start(&pod, sleeper()).await);
    node.engine.remove_container(&one).await.unwrap();
    node.engine.remove_container(&one).await.unwrap();
    assert!(matches!(
        node.engine.container_status(&one).await,
        Err(Error::NoSuchContainer(_))
    ));
    assert_eq!(
        node.engine.container_status(&other).await.unwrap().state,
        ContainerState::Running
    );
    node.finish().await;
}

async fn pods_of_the_same_name_do_not_meet(node: Node<impl PodRuntime>) {
    let (mut a, mut b) = (node.sandbox_config("same"), node.sandbox_config("same"));
    (a.namespace, b.namespace) = ("one".into(), "two".into());
    b.cgroup_parent += "-2";
    let (a, b) = (
        node.engine.run_sandbox(a).await.unwrap().id,
        node.engine.run_sandbox(b).await.unwrap().id,
    );
    node.start(&a, sleeper()).await;
    let survivor = node.start(&b, sleeper()).await;
    node.engine.remove_sandbox(&a).await.unwrap();
    assert_eq!(
        node.engine.container_status(&survivor).await.unwrap().state,
        ContainerState::Running
    );
    node.finish().await;
}

async fn two_sandboxes_may_share_a_pods_cgroup(node: Node<impl PodRuntime>) {
    let first = node.engine.run_sandbox(node.sandbox_config("pod")).await.unwrap().id;
    let mut config = node.sandbox_config("pod");
    config.attempt = 1;
    let second = node.engine.run_sandbox(config).await.unwrap().id;
    node.engine.remove_sandbox(&first).await.unwrap();
    let (status, _) = node.run(&second, shell("true")).await;
    assert_eq!(status.exit_code, Some(0));
    node.finish().await;
}

async fn a_log_is_reopened_after_it_was_renamed(node: Node<impl PodRuntime>) {
    let pod = node.sandbox().await;
    let mut config = shell("while read line; do echo $line; done");
    config.stdin = true;
    let id = node.start(&pod, config).await;
    let log = node.engine.container_status(&id).await.unwrap().log_path.unwrap();
    let attach = coracle_runtime::AttachConfig {
        stdin: true,
        stdout: true,
        stderr: false,
    };
    let mut streams = node.engine.attach(&id, attach).await.unwrap();
    let mut stdin = streams.stdin.take().unwrap();
    let mut stdout = tokio::io::BufReader::new(streams.stdout.take().unwrap());
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt};
    let mut line = String::new();
    stdin.write_all(b"before\n").await.unwrap();
    stdout.read_line(&mut line).await.unwrap();
    let old = log.with_extension("old");
    fs::rename(&log, &old).unwrap();
    node.engine.reopen_log(&id).await.unwrap();
    stdin.write_all(b"after\n").await.unwrap();
    stdout.read_line(&mut line).await.unwrap();
    assert_eq!(line, "before\nafter\n");
    // Who is attached may hear of it before it is in the log.
    for (log, line) in [(&old, "stdout F before\n"), (&log, "stdout F after\n")] {
        let written = on_change([log.parent().unwrap()], || {
            fs::read_to_string(log).unwrap().ends_with(line)
        });
        tokio::time::timeout(HANG, written).await.expect(line);
    }
    node.finish().await;
}

// Of the engine only: containerd gives up on a container's output two seconds after its end.
#[tokio::test]
async fn much_output_arrives_whole() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let (status, log) = node.run(&pod, shell("seq 1 50000; printf end")).await;
    assert_eq!(log.lines().count(), 50_001);
    assert!(log.ends_with("50000\nend"));
    assert!(!log_lines(&status).last().unwrap().whole);
    node.finish().await;
}

pub async fn wait_for_log(node: &Node<impl PodRuntime>, id: &coracle_runtime::ContainerId, text: &str) {
    let log = node.engine.container_status(id).await.unwrap().log_path.unwrap();
    let appears = on_change([log.parent().unwrap()], || {
        fs::read_to_string(&log).is_ok_and(|all| all.contains(text))
    });
    let appears = tokio::time::timeout(HANG, appears).await;
    appears.unwrap_or_else(|_| panic!("{text:?} never appears in the log"));
}
