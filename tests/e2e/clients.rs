//! Other people's clients: kubectl of every supported age through its commands, Helm 3 and 4, the official Python and
//! JavaScript clients.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::harness::{Cluster, Said};

/// A file beside these tests.
fn file(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../tests/clients")
        .join(name)
}

/// A program among the fetched clients.
fn program(name: &str) -> PathBuf {
    let clients = std::env::var_os("CORACLE_CLIENTS").expect("CORACLE_CLIENTS is not set; run ./test");
    Path::new(&clients).join(name)
}

fn run(cluster: &Cluster, command: &mut Command) -> Said {
    command
        .env("KUBECONFIG", cluster.kubeconfig())
        .env("HOME", cluster.data_dir())
        .output()
        .unwrap_or_else(|e| panic!("cannot run {command:?}: {e}"))
        .into()
}

/// Every line of `kubectl.txt` succeeds.
fn every_command_works(version: &str) {
    let cluster = Cluster::without_node();
    let work = tempfile::tempdir().unwrap();
    let path = format!(
        "{}:{}",
        program(version).display(),
        std::env::var("PATH").unwrap_or_default()
    );
    let mut failed = Vec::new();
    let lines = std::fs::read_to_string(file("kubectl.txt")).unwrap();
    for line in lines.lines().filter(|l| !l.is_empty() && !l.starts_with('#')) {
        let said = run(
            &cluster,
            Command::new("bash")
                .args(["-c", line])
                .env("PATH", &path)
                .env("MANIFEST", file("manifest.yaml"))
                .env("OLD", if version == "v27" { "yes" } else { "no" })
                .current_dir(work.path()),
        );
        if !said.ok {
            failed.push(format!("{line}\n    {}{}", said.out, said.err));
        }
    }
    assert!(failed.is_empty(), "kubectl {version}:\n{}", failed.join("\n"));
}

#[test]
fn kubectl_1_27_finds_all_it_asks_for() {
    every_command_works("v27");
}

#[test]
fn kubectl_1_30_finds_all_it_asks_for() {
    every_command_works("v30");
}

#[test]
fn kubectl_1_33_finds_all_it_asks_for() {
    every_command_works("v33");
}

#[test]
fn kubectl_1_37_finds_all_it_asks_for() {
    every_command_works("v37");
}

/// Installs, upgrades, rolls back and removes a chart with a custom resource and a hook that runs a container.
fn a_chart_lives(version: &str) {
    let cluster = Cluster::with_node();
    let helm = |args: &[&str]| run(&cluster, Command::new(program(version).join("helm")).args(args));
    let chart = file("chart");
    let chart = chart.to_str().unwrap();
    let greeting = || cluster.field("configmap/shop", ".data.greeting");

    helm(&["install", "shop", chart, "--wait", "--timeout", "60s"]).expect_ok();
    assert_eq!(cluster.field("widget/shop", ".spec.size"), "1");
    assert_eq!(cluster.field("deployment/shop", ".status.availableReplicas"), "1");
    assert!(cluster.k(&["logs", "job/shop-before"]).contains("prepared"));

    let upgrade = [
        "upgrade",
        "shop",
        chart,
        "--set",
        "replicas=2,greeting=again",
        "--wait",
        "--timeout",
        "60s",
    ];
    helm(&upgrade).expect_ok();
    assert_eq!(greeting(), "again");
    assert_eq!(cluster.field("deployment/shop", ".status.availableReplicas"), "2");
    // One that cannot be rendered by the server fails and is on record.
    let broken = helm(&["upgrade", "shop", chart, "--set", "replicas=-1"]).expect_error();
    assert!(broken.contains("spec.replicas"), "{broken}");

    helm(&["rollback", "shop", "1", "--wait", "--timeout", "60s"]).expect_ok();
    assert_eq!(greeting(), "hello");
    let history = helm(&["history", "shop"]).expect_ok();
    assert!(history.contains("Rollback to 1"), "{history}");
    assert!(helm(&["list"]).expect_ok().contains("deployed"));

    helm(&["uninstall", "shop", "--wait", "--timeout", "60s"]).expect_ok();
    let left = cluster.k(&["get", "deployments,configmaps,widgets", "-o", "name"]);
    assert!(!left.contains("shop\n"), "{left}");
}

#[test]
fn helm_3_installs_upgrades_rolls_back_and_uninstalls() {
    a_chart_lives("v33");
}

#[test]
fn helm_4_installs_upgrades_rolls_back_and_uninstalls() {
    a_chart_lives("v37");
}

#[test]
fn the_python_client_works_unchanged() {
    let cluster = Cluster::without_node();
    let said = run(
        &cluster,
        Command::new(program("python/bin/python")).arg(file("client.py")),
    );
    assert!(said.expect_ok().contains("all holds"));
}

#[test]
fn the_javascript_client_works_unchanged() {
    let cluster = Cluster::without_node();
    let mut command = Command::new("node");
    command.arg(file("client.mjs")).env("CORACLE_JS", program("js"));
    assert!(run(&cluster, &mut command).expect_ok().contains("all holds"));
}
