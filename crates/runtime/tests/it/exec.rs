//! Commands in running containers.

use std::fs::File;
use std::io::Read;
use std::time::Duration;

use coracle_runtime::{ContainerId, Error, ExecConfig, PodRuntime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::node::{HANG, Node, over_both, shell, sleeper};

over_both! {
    a_commands_output_and_exit_code_are_returned
    a_command_that_is_not_there_is_told_from_one_that_fails
    input_reaches_a_command_and_its_end_is_seen
    a_command_with_a_terminal_has_one_with_a_size
    commands_run_as_the_containers_user_under_its_seccomp_profile
}

/// What a script says first, so that [`Alive`] knows of it and of all that it starts.
const HELD: &str = "exec 9>/alive";

/// Tells when nothing runs any more that has the pipe open.
struct Alive<'a, R: PodRuntime> {
    node: &'a Node<R>,
    id: &'a ContainerId,
}

impl<'a, R: PodRuntime> Alive<'a, R> {
    async fn new(node: &'a Node<R>, id: &'a ContainerId) -> Self {
        node.sh(id, "mknod /alive p").await;
        Self { node, id }
    }

    async fn over(self) {
        self.node.sh(self.id, "cat /alive").await;
    }
}

fn command(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

async fn a_commands_output_and_exit_code_are_returned(node: Node<impl PodRuntime>) {
    let pod = node.sandbox().await;
    let mut config = sleeper();
    config.env = vec![("GIVEN".into(), "value".into())];
    config.working_dir = Some("/work/dir".into());
    let id = node.start(&pod, config).await;
    let script = command(&["sh", "-c", "echo $GIVEN $FROM_IMAGE; pwd; echo oops >&2; exit 5"]);
    let output = node.engine.exec_sync(&id, &script, None).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), "value yes\n/work/dir\n");
    assert_eq!((output.stderr.as_slice(), output.exit_code), (&b"oops\n"[..], 5));
    let killed = node
        .engine
        .exec_sync(&id, &command(&["sh", "-c", "kill -9 $$"]), None)
        .await
        .unwrap();
    assert_eq!(killed.exit_code, 137);
    node.finish().await;
}

async fn a_command_that_is_not_there_is_told_from_one_that_fails(node: Node<impl PodRuntime>) {
    let pod = node.sandbox().await;
    let id = node.start(&pod, sleeper()).await;
    let error = node.engine.exec_sync(&id, &command(&["nope"]), None).await.unwrap_err();
    let expected = "exec: \"nope\": executable file not found in $PATH";
    assert!(
        matches!(&error, Error::CommandNotFound(message) if message == expected),
        "{error:?}"
    );
    assert!(matches!(
        node.engine.exec_sync(&id, &[], None).await,
        Err(Error::InvalidConfig(_))
    ));
    node.finish().await;
}

#[tokio::test]
async fn a_command_that_takes_too_long_is_killed() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let id = node.start(&pod, sleeper()).await;
    node.sh(&id, "mknod /alive p").await;
    let alive = node.root().join("containers").join(id.as_str()).join("rootfs/alive");
    // Time stands still until the command says that it has begun, which is when much of what it says first was read: a pipe
    // does not hold all of it.
    tokio::time::pause();
    let begun = tokio::task::spawn_blocking(move || {
        let mut alive = File::open(alive).unwrap();
        let mut said = [0; 6];
        alive.read_exact(&mut said).unwrap();
        (alive, said)
    });
    let script = format!("{HELD}; sleep 777 & seq 1 20000; echo begun >&9; exec sleep 777");
    let script = command(&["sh", "-c", &script]);
    let run = node.engine.exec_sync(&id, &script, Some(Duration::from_secs(1)));
    let error = run.await.unwrap_err();
    tokio::time::resume();
    let Error::ExecTimeout { stdout, .. } = &error else {
        panic!("{error:?}")
    };
    assert!(
        stdout.starts_with(b"1\n2\n") && stdout.len() > 32 << 10,
        "{}",
        stdout.len()
    );
    // Its end is that of all that it has started.
    let (mut alive, _) = begun.await.unwrap();
    let over = tokio::task::spawn_blocking(move || alive.read_to_end(&mut Vec::new()));
    over.await.unwrap().unwrap();
    assert!(!node.sh(&id, "ps").await.contains("sleep 777"));
    node.finish().await;
}

// Of the engine only: containerd waits for whoever holds the output.
#[tokio::test]
async fn a_background_process_does_not_hold_up_the_answer() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let id = node.start(&pod, sleeper()).await;
    let script = command(&["sh", "-c", "sleep 100 & echo done"]);
    let output = node.engine.exec_sync(&id, &script, None).await.unwrap();
    assert_eq!(output.stdout, b"done\n");
    assert!(node.sh(&id, "ps").await.contains("sleep 100"));
    node.finish().await;
}

// Of the engine only: containerd may wait without end for a quick command's input to be taken.
#[tokio::test]
async fn input_that_nobody_reads_does_not_keep_a_command_from_ending() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let id = node.start(&pod, sleeper()).await;
    let config = ExecConfig {
        command: command(&["false"]),
        stdin: true,
        stdout: true,
        stderr: true,
        ..ExecConfig::default()
    };
    let mut streams = node.engine.exec(&id, config).await.unwrap();
    let mut stdin = streams.stdin.take().unwrap();
    let feeder = tokio::spawn(async move {
        let piece = vec![b'x'; 64 << 10];
        for _ in 0..64 {
            if stdin.write_all(&piece).await.is_err() {
                return;
            }
        }
    });
    let ended = tokio::time::timeout(HANG, streams.control.wait());
    assert_eq!(ended.await.expect("it ends").unwrap(), 1);
    feeder.abort();
    node.finish().await;
}

async fn input_reaches_a_command_and_its_end_is_seen(node: Node<impl PodRuntime>) {
    let pod = node.sandbox().await;
    let id = node.start(&pod, sleeper()).await;
    let config = ExecConfig {
        command: command(&["wc", "-c"]),
        stdin: true,
        stdout: true,
        ..ExecConfig::default()
    };
    let mut streams = node.engine.exec(&id, config).await.unwrap();
    let mut stdin = streams.stdin.take().unwrap();
    let data = vec![b'x'; 300_000];
    stdin.write_all(&data).await.unwrap();
    drop(stdin);
    let mut text = String::new();
    streams.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert_eq!(text.trim(), "300000");
    assert_eq!(streams.control.wait().await.unwrap(), 0);
    node.finish().await;
}

async fn a_command_with_a_terminal_has_one_with_a_size(node: Node<impl PodRuntime>) {
    let pod = node.sandbox().await;
    let id = node.start(&pod, sleeper()).await;
    let config = ExecConfig {
        command: command(&[
            "sh",
            "-c",
            "tty; read go; until stty size | grep '40 100'; do :; done; exit 6",
        ]),
        tty: true,
        stdin: true,
        stdout: true,
        stderr: true,
    };
    let mut streams = node.engine.exec(&id, config).await.unwrap();
    assert!(streams.stderr.is_none());
    streams.control.resize(100, 40).unwrap();
    streams.stdin.as_mut().unwrap().write_all(b"\n").await.unwrap();
    let mut text = String::new();
    streams.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert!(text.contains("/dev/pts/") && text.contains("40 100"), "{text:?}");
    assert_eq!(streams.control.wait().await.unwrap(), 6);
    node.finish().await;
}

#[tokio::test]
async fn letting_go_of_a_command_kills_it() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let id = node.start(&pod, sleeper()).await;
    let alive = Alive::new(&node, &id).await;
    let config = ExecConfig {
        command: command(&["sh", "-c", &format!("{HELD}; echo begun; exec sleep 555")]),
        stdout: true,
        ..ExecConfig::default()
    };
    let let_go = async {
        let mut streams = node.engine.exec(&id, config).await.unwrap();
        let mut said = [0; 6];
        streams.stdout.as_mut().unwrap().read_exact(&mut said).await.unwrap();
        assert_eq!(&said, b"begun\n");
    };
    tokio::join!(let_go, alive.over());
    node.finish().await;
}

#[tokio::test]
async fn many_commands_leave_no_files_behind() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let id = node.start(&pod, sleeper()).await;
    let files = || {
        let mut found: Vec<_> = ["containers", "sandboxes"]
            .iter()
            .flat_map(|kind| walk(&node.root().join(kind)))
            .collect();
        found.sort();
        found
    };
    node.sh(&id, "true").await;
    let before = files();
    let engine = &node.engine;
    let runs = (0..12).map(|number| {
        let id = id.clone();
        async move {
            engine
                .exec_sync(&id, &command(&["sh", "-c", &format!("exit {number}")]), None)
                .await
                .unwrap()
        }
    });
    let codes: Vec<i32> = futures::future::join_all(runs)
        .await
        .iter()
        .map(|output| output.exit_code)
        .collect();
    assert_eq!(codes, (0..12).collect::<Vec<_>>());
    assert_eq!(files(), before);
    node.finish().await;
}

fn walk(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_name() == "rootfs" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            found.extend(walk(&entry.path()));
        }
        found.push(entry.path());
    }
    found
}

async fn commands_run_as_the_containers_user_under_its_seccomp_profile(node: Node<impl PodRuntime>) {
    let pod = node.sandbox().await;
    let mut config = shell("sleep 1000");
    config.security.user = Some(1000);
    config.security.seccomp = coracle_runtime::SeccompProfile::RuntimeDefault;
    let id = node.start(&pod, config).await;
    assert_eq!(node.sh(&id, "id -u; id -g").await, "1000\n1001");
    assert!(node.sh(&id, "grep Seccomp: /proc/self/status").await.ends_with('2'));
    node.finish().await;
}
