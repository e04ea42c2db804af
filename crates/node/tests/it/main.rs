//! Real pods on a real cluster: the API server, the runtime's engine with real containers, the pod network, and the agent
//! between them. Needs root and the host's static busybox. It has a `main` of its own because the engine starts this very
//! program again as the pods' shim.
// Tests outside `#[test]` functions, measuring real time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::disallowed_methods)]

#[path = "../../../runtime/tests/it/change.rs"]
mod change;
mod cluster;
#[path = "../../../runtime/tests/it/containerd.rs"]
mod containerd;
mod kernel;
mod leaks;
mod pods;
mod told;

use std::future::Future;
use std::pin::Pin;
use std::time::Instant;

use cluster::{Node, Runtime};

type Case = (String, Box<dyn Fn() -> Pin<Box<dyn Future<Output = ()>>>>);

macro_rules! cases {
    ($($module:ident::$name:ident),* $(,)?) => {
        vec![$((stringify!($name).to_owned(), Box::new(|| Box::pin($module::$name())))),*]
    };
}

/// Cases that any container runtime must pass.
macro_rules! over_both {
    ($($module:ident::$name:ident),* $(,)?) => {
        vec![$((
            format!("engine::{}", stringify!($name)),
            Box::new(|| Box::pin(async { $module::$name(Node::start(Runtime::Engine).await).await })),
        ),
        (
            format!("containerd::{}", stringify!($name)),
            Box::new(|| Box::pin(async { $module::$name(Node::start(Runtime::Containerd).await).await })),
        )),*]
    };
}

fn main() {
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().as_ref().and_then(|first| first.to_str()) {
        Some("shim") => coracle_runtime::shim_main(arguments),
        Some("agent") => leaks::agent_main(arguments),
        _ => {}
    }
    let wanted: Vec<String> = std::env::args().skip(1).filter(|a| !a.starts_with('-')).collect();
    let mut cases: Vec<Case> = over_both![
        pods::a_pod_runs_with_volumes_environment_and_network_and_leaves_nothing_behind,
        pods::its_log_is_served_to_the_api_server_and_to_nobody_else,
        pods::volumes_follow_their_config_map_in_a_running_pod,
        pods::an_agent_that_is_replaced_disturbs_no_container,
        pods::a_claims_data_outlives_its_pods_and_goes_with_the_claim,
        pods::jobs_succeed_and_crashes_are_counted,
    ];
    let of_the_engine: Vec<Case> = cases![
        kernel::security_contexts_are_what_they_say,
        kernel::images_and_devices_are_volumes_too,
        told::what_others_say_that_the_node_has_can_be_allocated_until_they_take_it_back,
        told::a_pod_of_a_handler_that_the_node_has_not_fails_and_says_so,
        told::trust_bundles_are_followed_in_a_running_pod,
        told::a_pod_is_given_a_key_and_a_certificate_by_the_signer_that_it_names,
        leaks::nothing_is_left_of_pods_whose_agent_and_shims_are_killed_at_random_points,
    ];
    cases.extend(of_the_engine);
    if std::env::args().any(|a| a == "--list") {
        return cases.iter().for_each(|(name, _)| println!("{name}: test"));
    }
    if !nix::unistd::geteuid().is_root() {
        return eprintln!("skipped: needs root");
    }
    log();
    for (name, case) in cases
        .into_iter()
        .filter(|(name, _)| wanted.is_empty() || wanted.iter().any(|w| name.contains(w)))
    {
        let started = Instant::now();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .unwrap();
        runtime.block_on(async { case().await });
        println!("test {name} ... ok ({:?})", started.elapsed());
    }
}

/// As `RUST_LOG` says.
fn log() {
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
        .with_writer(std::io::stderr)
        .init();
}
