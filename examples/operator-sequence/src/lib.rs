//! An operator for Sequences (`examples/sequence.yaml`): Jobs in a row, each made when the one before it is complete. The
//! Sequence owns them, and waits: it is looked at whenever one of its Jobs changes, never by the clock.

mod plan;
pub mod sequence;

use std::sync::Arc;

use coracle_client::{Client, Patch};
use coracle_clock::Clock;
use coracle_informer::{Action, CancellationToken, Controller, Error, InformerFactory, Lister, ObjectKey};
use k8s_openapi::api::batch::v1::Job;
use serde_json::json;

use sequence::Sequence;

struct Context {
    client: Client,
    sequences: Lister<Sequence>,
    jobs: Lister<Job>,
}

/// Works until `shutdown`.
pub async fn run(client: Client, clock: Clock, shutdown: CancellationToken) {
    let client = client.named("sequence-operator");
    let informers = InformerFactory::new(client.clone(), clock, shutdown.clone());
    let sequences = informers.informer::<Sequence>();
    let jobs = informers.informer::<Job>();
    let context = Context {
        client,
        sequences: sequences.lister(),
        jobs: jobs.lister(),
    };
    Controller::new("sequence", 2, clock)
        .watches(&sequences, |sequence| [ObjectKey::of(sequence)])
        .watches_owned(&jobs)
        .run(context, reconcile, shutdown)
        .await;
}

async fn reconcile(cx: Arc<Context>, key: ObjectKey<Sequence>) -> Result<Action, Error> {
    let Some(sequence) = cx.sequences.get(&key) else {
        return Ok(Action::Done);
    };
    if sequence.metadata.deletion_timestamp.is_some() {
        // Its Jobs go with it.
        return Ok(Action::Done);
    }
    let plan = plan::plan(&sequence, |name| cx.jobs.find(&key.namespace, name));
    if let Some(job) = &plan.create {
        match cx.client.namespaced::<Job>(&key.namespace).create(job).await {
            Ok(_) => tracing::info!(sequence = %key.name, step = plan.status.step, "the next step begins"),
            // Names are fixed: it was made before, and the cache is behind.
            Err(error) if error.is_already_exists() => {}
            Err(error) => return Err(error.into()),
        }
    }
    if sequence.status.as_ref() != Some(&plan.status) {
        let sequences = cx.client.namespaced::<Sequence>(&key.namespace).status();
        let patch = Patch::Merge(json!({"status": plan.status}));
        sequences.patch(&key.name, patch).await?;
    }
    Ok(Action::Done)
}
