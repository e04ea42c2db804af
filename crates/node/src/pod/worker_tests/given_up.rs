//! Starts that the agent gives up because the runtime does not answer, and that the runtime brings to an end all the same.

use super::*;
use crate::patience::Patient;

const LIMIT: Duration = Duration::from_secs(120);

/// A pod of one container, on a runtime that is waited for two minutes.
fn patient() -> Bench {
    let mut bench = Bench::new(json!({"containers": containers(&["a"])}));
    let patient = Patient::new(bench.cx.runtime.clone(), bench.cx.clock, LIMIT);
    Arc::get_mut(&mut bench.cx).unwrap().runtime = Arc::new(patient);
    bench
}

fn running(bench: &Bench) -> usize {
    let containers = bench.runtime.all().1;
    containers.iter().filter(|c| is_running(c)).count()
}

fn restarts(status: &PodStatus) -> i32 {
    status.container_statuses.as_ref().unwrap()[0].restart_count
}

#[tokio::test(start_paused = true)]
async fn a_container_that_comes_up_late_does_not_run_beside_the_next() {
    let bench = patient();
    bench.runtime.hold(Some("start_container"));
    bench.start();
    bench.until(|s| waiting(s) == Some("RunContainerError")).await;
    // The next attempt cannot take it away either.
    bench.until(|s| waiting(s) == Some("CreateContainerError")).await;
    bench.runtime.hold(None);
    let status = bench.until(is_ready).await;
    assert_eq!((running(&bench), restarts(&status)), (1, 0));
    let log = bench.runtime.take_log();
    let steps: Vec<&str> = log
        .iter()
        .filter_map(|l| l.split_once(' '))
        .map(|(_, what)| what)
        .collect();
    assert_eq!(steps, ["run_sandbox", "start a", "remove a", "start a"]);
}

#[tokio::test(start_paused = true)]
async fn a_start_that_outlives_its_agent_gives_one_container_and_no_restart() {
    let bench = patient();
    bench.runtime.hold(Some("start_container"));
    let worker = bench.start();
    bench.until(|s| waiting(s) == Some("RunContainerError")).await;
    worker.abort();
    bench.runtime.hold(None);
    assert_eq!((bench.runtime.all().1.len(), running(&bench)), (1, 0));
    bench.start();
    let status = bench.until(is_ready).await;
    assert_eq!(
        (bench.runtime.all().1.len(), running(&bench), restarts(&status)),
        (1, 1, 0)
    );
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_comes_up_late_is_stopped_and_another_takes_its_place() {
    let bench = patient();
    bench.runtime.hold(Some("run_sandbox"));
    bench.start();
    let mut statuses = bench.api.statuses.subscribe();
    statuses.wait_for(|all| !all.is_empty()).await.unwrap();
    bench.cx.clock.sleep(LIMIT + Duration::from_secs(1)).await;
    let told = "Warning FailedCreatePodSandBox Failed to create pod sandbox: run_sandbox: the container runtime did not \
                answer within 120s";
    assert!(bench.events().contains(&told.to_owned()), "{:?}", bench.events());
    bench.runtime.hold(None);
    bench.until(is_ready).await;
    let sandboxes = bench.runtime.all().0;
    let states: Vec<_> = sandboxes.iter().map(|s| (s.id.as_str(), s.state)).collect();
    let (old, new) = (
        coracle_runtime::SandboxState::NotReady,
        coracle_runtime::SandboxState::Ready,
    );
    assert_eq!(states, [("uid-0", old), ("uid-1", new)]);
    assert_eq!(running(&bench), 1);
}

#[tokio::test(start_paused = true)]
async fn a_sandbox_that_comes_up_for_an_agent_that_has_ended_is_taken_over_by_the_next() {
    let bench = patient();
    bench.runtime.hold(Some("run_sandbox"));
    let worker = bench.start();
    bench.cx.clock.sleep(Duration::from_secs(1)).await;
    worker.abort();
    bench.runtime.hold(None);
    bench.cx.clock.sleep(Duration::from_secs(1)).await;
    bench.start();
    bench.until(is_ready).await;
    assert_eq!(bench.runtime.all().0.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_pod_that_is_deleted_while_its_start_hangs_leaves_nothing() {
    let mut bench = patient();
    bench.runtime.hold(Some("start_container"));
    let worker = bench.start();
    bench.until(|s| waiting(s) == Some("RunContainerError")).await;
    bench.delete(30);
    bench.cx.clock.sleep(Duration::from_secs(10)).await;
    bench.runtime.hold(None);
    bench.removed().await;
    worker.await.unwrap();
    let (sandboxes, containers) = bench.runtime.all();
    assert!(sandboxes.is_empty() && containers.is_empty());
}
