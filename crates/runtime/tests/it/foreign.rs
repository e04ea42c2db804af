//! The shim with an OCI runtime that is another program: here the embedded one behind its command line.

use std::fs;
use std::process::Command;

use coracle_runtime::{AttachConfig, ContainerConfig, Error, PodRuntime};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::lifecycle::wait_for_log;
use crate::node::{HANG, Node, shell, sleeper};

#[tokio::test]
async fn a_foreign_oci_runtime_does_all_that_the_embedded_one_does() {
    let scripts = tempfile::TempDir::new().unwrap();
    let runtime = scripts.path().join("runtime");
    let (binary, calls) = (env!("CARGO_BIN_EXE_coracle-runtime"), scripts.path().join("calls"));
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}\nexec {binary} oci \"$@\"\n",
        calls.display()
    );
    // Written by another process: a file that this one has open for writing may be so in any child that is just starting,
    // and then nobody can execute it.
    let text = scripts.path().join("text");
    fs::write(&text, script).unwrap();
    let installed = Command::new("install")
        .args(["-m", "755"])
        .args([&text, &runtime])
        .status();
    assert!(installed.unwrap().success());
    let node = Node::with(|config| config.oci_runtime = Some(runtime)).await;
    node.import_busybox().await;
    let pod = node.sandbox().await;

    let (status, log) = node.run(&pod, shell("echo out; exit 3")).await;
    assert_eq!((status.exit_code, log.as_str()), (Some(3), "out\n"));
    // Over before the runtime's `start` is.
    assert_eq!(
        node.run(
            &pod,
            ContainerConfig {
                command: vec!["true".into()],
                ..shell("")
            }
        )
        .await
        .0
        .exit_code,
        Some(0)
    );

    let id = node.start(&pod, sleeper()).await;
    assert_eq!(node.sh(&id, "echo inside").await, "inside");
    let error = node.engine.exec_sync(&id, &["nope".into()], None).await.unwrap_err();
    assert!(matches!(error, Error::CommandNotFound(_)), "{error:?}");
    wait_for_log(&node, &id, "ready").await;
    node.engine.stop_container(&id, None, HANG).await.unwrap();

    let missing = node
        .create(
            &pod,
            ContainerConfig {
                command: vec!["nope".into()],
                ..shell("")
            },
        )
        .await;
    let error = node.engine.start_container(&missing).await.unwrap_err();
    assert_eq!(error.to_string(), "exec: \"nope\": executable file not found in $PATH");

    let mut config = shell("read word; echo got $word; tty");
    (config.tty, config.stdin) = (true, true);
    let id = node.start(&pod, config).await;
    let all = AttachConfig {
        stdin: true,
        stdout: true,
        stderr: true,
    };
    let mut streams = node.engine.attach(&id, all).await.unwrap();
    streams.stdin.as_mut().unwrap().write_all(b"it\n").await.unwrap();
    let mut text = String::new();
    streams.stdout.take().unwrap().read_to_string(&mut text).await.unwrap();
    assert!(text.contains("got it") && text.contains("/dev/pts/0"), "{text:?}");

    let calls = fs::read_to_string(calls).unwrap();
    for command in [" create ", " start ", " exec "] {
        assert!(calls.contains(command), "{command} was never called: {calls}");
    }
    node.finish().await;
}
