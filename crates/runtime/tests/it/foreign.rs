//! The shim with an OCI runtime that is another program: here the embedded one behind its command line.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use coracle_runtime::{AttachConfig, ContainerConfig, Error, PodRuntime, SandboxConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::lifecycle::wait_for_log;
use crate::node::{HANG, Node, shell, sleeper};

/// A program that is the embedded runtime, and writes down its calls.
fn install(scripts: &Path) -> PathBuf {
    let runtime = scripts.join("runtime");
    let (binary, calls) = (env!("CARGO_BIN_EXE_coracle-runtime"), scripts.join("calls"));
    let script = format!(
        "#!/bin/sh\necho \"$@\" >> {}\nexec {binary} oci \"$@\"\n",
        calls.display()
    );
    // Written by another process: a file that this one has open for writing may be so in any child that is just starting,
    // and then nobody can execute it.
    let text = scripts.join("text");
    fs::write(&text, script).unwrap();
    let installed = Command::new("install")
        .args(["-m", "755"])
        .args([&text, &runtime])
        .status();
    assert!(installed.unwrap().success());
    runtime
}

#[tokio::test]
async fn a_sandbox_is_run_by_the_handler_that_it_names() {
    let scripts = tempfile::TempDir::new().unwrap();
    let runtime = install(scripts.path());
    let node = Node::with(|config| config.handlers = [("other".to_owned(), runtime)].into()).await;
    node.import_busybox().await;
    let abilities = node.engine.abilities();
    assert_eq!(
        abilities.handlers.iter().map(|h| h.name.as_str()).collect::<Vec<_>>(),
        ["", "other"]
    );
    let pod = node.sandbox().await;
    assert_eq!(node.run(&pod, shell("echo plain")).await.1, "plain\n");
    let calls = scripts.path().join("calls");
    assert!(!calls.exists(), "the default handler is the engine's own");

    let other = SandboxConfig {
        handler: "other".into(),
        ..node.sandbox_config("other")
    };
    let other = node.engine.run_sandbox(other).await.unwrap().id;
    assert_eq!(node.run(&other, shell("echo other")).await.1, "other\n");
    assert!(fs::read_to_string(calls).unwrap().contains(" create "));

    let missing = SandboxConfig {
        handler: "none".into(),
        ..node.sandbox_config("missing")
    };
    let error = node.engine.run_sandbox(missing).await.unwrap_err();
    assert_eq!(error.to_string(), "no runtime for \"none\" is configured");
    node.finish().await;
}

#[tokio::test]
async fn a_foreign_oci_runtime_does_all_that_the_embedded_one_does() {
    let scripts = tempfile::TempDir::new().unwrap();
    let (runtime, calls) = (install(scripts.path()), scripts.path().join("calls"));
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
