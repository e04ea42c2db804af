//! Forgets history that is older than the window's age, so that an idle store returns to what its values alone take.
//! It sleeps until the oldest commit is due, and not at all while there is no history.

use std::sync::{Arc, Weak};
use std::time::Duration;

use tokio::task::{AbortHandle, spawn_blocking};

use super::Core;

/// Starts the task, if there is a runtime to run it and an age to heed.
pub(super) fn start(core: &Arc<Core>) -> Option<AbortHandle> {
    let age = core.options.history.age?;
    let runtime = tokio::runtime::Handle::try_current().ok()?;
    Some(runtime.spawn(run(Arc::downgrade(core), age)).abort_handle())
}

async fn run(weak: Weak<Core>, age: Duration) {
    let Some(clock) = weak.upgrade().map(|core| core.options.clock) else {
        return;
    };
    loop {
        let Some(core) = weak.upgrade() else { return };
        let oldest = core.state.read().oldest_commit().map(|commit| commit.at);
        let Some(oldest) = oldest else {
            core.history_began.notified().await;
            continue;
        };
        drop(core);
        // Under steady writes there is always something that comes of age next: take it in portions.
        let portion = clock.instant() + age / 10;
        clock.sleep_until((oldest + age).max(portion)).await;
        let Some(core) = weak.upgrade() else { return };
        let forget = move || {
            let now = core.options.clock.instant();
            let state = core.state.read();
            let due = state.aged(|at| at + age <= now);
            drop(state);
            due.map_or(Ok(()), |upto| core.forget(upto))
        };
        if let Ok(Err(error)) = spawn_blocking(forget).await {
            tracing::debug!(%error, "history was not compacted");
        }
    }
}
