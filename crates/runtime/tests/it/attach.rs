//! Attaching to a container's own streams.

use coracle_runtime::{AttachConfig, PodRuntime};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};

use crate::node::{Node, log_lines, over_both, shell, text_of};

over_both! {
    output_from_now_on_and_input_are_those_of_the_container
    input_stays_open_between_clients_unless_it_is_for_once
    a_terminal_can_be_attached_to_and_resized
}

const ALL: AttachConfig = AttachConfig {
    stdin: true,
    stdout: true,
    stderr: true,
};

async fn output_from_now_on_and_input_are_those_of_the_container(node: Node<impl PodRuntime>) {
    let pod = node.sandbox().await;
    let mut config = shell("while read line; do echo got $line; echo err $line >&2; done; echo over");
    (config.stdin, config.stdin_once) = (true, true);
    let id = node.start(&pod, config).await;
    let mut streams = node.engine.attach(&id, ALL).await.unwrap();
    let mut stdin = streams.stdin.take().unwrap();
    stdin.write_all(b"one\ntwo\n").await.unwrap();
    // The end of the first client's input is the end of the container's.
    drop(stdin);
    let (mut out, mut err) = (String::new(), String::new());
    streams.stdout.take().unwrap().read_to_string(&mut out).await.unwrap();
    streams.stderr.take().unwrap().read_to_string(&mut err).await.unwrap();
    assert_eq!(
        (out.as_str(), err.as_str()),
        ("got one\ngot two\nover\n", "err one\nerr two\n")
    );
    assert_eq!(node.ended(&id).await.exit_code, Some(0));
    node.finish().await;
}

async fn input_stays_open_between_clients_unless_it_is_for_once(node: Node<impl PodRuntime>) {
    let pod = node.sandbox().await;
    let mut config = shell("while read line; do echo got $line; done");
    config.stdin = true;
    let id = node.start(&pod, config).await;
    for word in ["first", "second"] {
        let mut streams = node.engine.attach(&id, ALL).await.unwrap();
        let stdin = streams.stdin.as_mut().unwrap();
        stdin.write_all(format!("{word}\n").as_bytes()).await.unwrap();
        let mut line = String::new();
        BufReader::new(streams.stdout.take().unwrap())
            .read_line(&mut line)
            .await
            .unwrap();
        assert_eq!(line, format!("got {word}\n"));
    }
    node.finish().await;
}

async fn a_terminal_can_be_attached_to_and_resized(node: Node<impl PodRuntime>) {
    let pod = node.sandbox().await;
    let mut config = shell("read go; until stty size | grep '30 90'; do :; done; exit 9");
    (config.tty, config.stdin) = (true, true);
    let id = node.start(&pod, config).await;
    let mut streams = node.engine.attach(&id, ALL).await.unwrap();
    streams.control.resize(90, 30).await.unwrap();
    streams.stdin.as_mut().unwrap().write_all(b"\n").await.unwrap();
    let mut text = String::new();
    streams.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert!(text.contains("30 90\r\n"), "{text:?}");
    let status = node.ended(&id).await;
    assert_eq!(status.exit_code, Some(9));
    assert!(text_of(&log_lines(&status)).contains("30 90"));
    node.finish().await;
}

// Of the engine only: containerd gives up on a container's output two seconds after its end.
#[tokio::test]
async fn a_slow_reader_gets_everything_and_the_log_too() {
    let node = Node::new().await;
    let pod = node.sandbox().await;
    let mut config = shell("read go; seq 1 200000");
    config.stdin = true;
    let id = node.start(&pod, config).await;
    let mut streams = node.engine.attach(&id, ALL).await.unwrap();
    streams.stdin.as_mut().unwrap().write_all(b"\n").await.unwrap();
    let mut stdout = streams.stdout.take().unwrap();
    let mut first = [0; 1];
    stdout.read_exact(&mut first).await.unwrap();
    // Meanwhile the pipe is full and the container waits, whose exit is therefore still to come.
    let mut rest = Vec::new();
    stdout.read_to_end(&mut rest).await.unwrap();
    assert_eq!(
        rest.len() + 1,
        (1..=200_000).map(|n: u32| n.to_string().len() + 1).sum::<usize>()
    );
    let status = node.ended(&id).await;
    assert_eq!(log_lines(&status).len(), 200_000);
    node.finish().await;
}
