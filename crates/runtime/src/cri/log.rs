//! Rotation of containers' logs: the runtime writes them, and rotates none.

use std::sync::Weak;
use std::time::Duration;

use coracle_clock::Clock;

use super::Inner;
use crate::container::ContainerState;
use crate::error::{Error, Result};
use crate::id::ContainerId;
use crate::shim::{LogLimits, aside, remove_surplus};

/// Between looks at the logs' sizes, as upstream's agent has it.
const LOOK: Duration = Duration::from_secs(10);

pub(super) async fn run(inner: Weak<Inner>, limits: LogLimits, clock: Clock) {
    loop {
        clock.sleep(LOOK).await;
        let Some(inner) = inner.upgrade() else { return };
        inner.rotate(limits).await;
    }
}

impl Inner {
    /// Puts aside the logs of running containers that have reached their size.
    async fn rotate(&self, limits: LogLimits) {
        let running: Vec<_> = {
            let state = self.state.lock();
            let all = state.containers.values().map(|known| known.status.borrow());
            let running = all.filter(|status| status.state == ContainerState::Running);
            running
                .filter_map(|s| Some((s.id.clone(), s.log_path.clone()?)))
                .collect()
        };
        for (id, log) in running {
            if std::fs::metadata(&log).is_ok_and(|m| m.len() >= limits.size)
                && let Err(error) = self.put_aside(&id, &log, limits.files).await
            {
                tracing::warn!(container = %id, error = error.chain(), "a log was not rotated");
            }
        }
    }

    async fn put_aside(&self, id: &ContainerId, log: &std::path::Path, files: usize) -> Result<()> {
        let failed = || Error::io::<std::io::Error>("put aside", log);
        let old = aside(log, self.clock.now());
        std::fs::rename(log, &old).map_err(failed())?;
        self.reopen(id).await.inspect_err(|_| {
            // Better one log that grows than none.
            let _ = std::fs::rename(&old, log);
        })?;
        remove_surplus(log, files).map_err(failed())
    }
}
