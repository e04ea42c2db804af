//! Keeps the objects of flow control while the server runs: one that is deleted comes back, and one that should have its
//! spec gets it again. Two watches on the store tell when there is something to do.

use std::sync::Arc;
use std::time::Duration;

use coracle_api::kinds::flow_control;
use coracle_api::status::Status;
use coracle_store::{Error, Watch};

use super::ensure;
use crate::core::Core;

const GROUP: &str = "flowcontrol.apiserver.k8s.io";
const KINDS: [&str; 2] = ["flowschemas", "prioritylevelconfigurations"];
/// How long after a failure it is tried again.
const AGAIN: Duration = Duration::from_secs(60);
/// How long it is left alone after it was done: servers of two versions that share a store, each with its own idea of a
/// spec, must not keep each other busy.
const PAUSE: Duration = Duration::from_secs(1);

/// Begins to keep them, as they are now.
pub(crate) async fn keep(core: &Arc<Core>) -> Result<(), Error> {
    if let Some(watches) = open(core).await? {
        tokio::spawn(run(core.clone(), watches));
    }
    Ok(())
}

async fn open(core: &Core) -> Result<Option<[Watch; 2]>, Error> {
    let prefixes = KINDS.map(|kind| {
        let table = core.registry.table();
        table.get(GROUP, "v1", kind).map(|row| row.key_prefix(""))
    });
    let [Some(schemas), Some(levels)] = prefixes else {
        return Ok(None);
    };
    let revision = core.store.revision().await?;
    let schemas = core.store.watch(&schemas, revision).await?;
    let levels = core.store.watch(&levels, revision).await?;
    Ok(Some([schemas, levels]))
}

async fn run(core: Arc<Core>, mut watches: [Watch; 2]) {
    loop {
        let [schemas, levels] = &mut watches;
        let news = tokio::select! {
            biased;
            () = core.shutdown.cancelled() => return,
            news = schemas.next() => news,
            news = levels.next() => news,
        };
        let restored = match news {
            Ok(_) => restore(&core).await.is_ok(),
            Err(Error::Closed) => return,
            Err(error) => {
                tracing::warn!(%error, "a watch on the objects of flow control broke");
                false
            }
        };
        if !restored {
            match reopen(&core).await {
                Some(again) => watches = again,
                None => return,
            }
        } else if !rest(&core, PAUSE).await {
            return;
        }
    }
}

/// Waits; false at shutdown.
async fn rest(core: &Core, time: Duration) -> bool {
    tokio::select! {
        biased;
        () = core.shutdown.cancelled() => false,
        () = core.clock.sleep(time) => true,
    }
}

/// Watches again once all is as it should be; `None` at shutdown.
async fn reopen(core: &Arc<Core>) -> Option<[Watch; 2]> {
    while rest(core, AGAIN).await {
        if let Ok(Some(watches)) = open(core).await
            && restore(core).await.is_ok()
        {
            return Some(watches);
        }
    }
    None
}

async fn restore(core: &Arc<Core>) -> Result<(), Status> {
    for object in flow_control::objects() {
        ensure(core, object.clone()).await?;
    }
    Ok(())
}
