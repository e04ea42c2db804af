//! One pod, brought to where it should be now: observe, [plan](crate::plan), write.

use std::time::Duration;

use coracle_client::event::reference;
use coracle_client::{DeleteOptions, Error, Patch, gone_is_done};
use coracle_informer::ObjectKey;
use k8s_openapi::api::core::v1::{ObjectReference, Pod};

use super::{Key, Shared};
use crate::config::rule::stages_of;
use crate::draw::Draw;
use crate::plan::{self, Known};
use crate::record::group;
use crate::status::Addresses;
use crate::told::{self, Told};

/// A pod that finds no address looks again after this.
const ADDRESS: Duration = Duration::from_secs(10);

impl Shared {
    pub(super) async fn follow(&self, key: &ObjectKey<Pod>) -> Result<(), Error> {
        let Some(pod) = self.pods.get().and_then(|pods| pods.lister().get(key)) else {
            return Ok(());
        };
        let node = pod
            .spec
            .as_ref()
            .and_then(|s| s.node_name.as_deref())
            .unwrap_or_default();
        if let Some(end) = self.dead(node) {
            if let Some(end) = end {
                self.look_again(Key::Pod(key.clone()), end);
            }
            return Ok(());
        }
        let now = self.now();
        let Some((record, address)) = self.state.look(&pod, now) else {
            return Ok(());
        };
        let (stages, wrong) = stages_of(&self.config.rules, &pod);
        for mistake in wrong {
            tracing::warn!(pod = %key, mistake, "an annotation for fake nodes is not followed");
        }
        if address.is_none() && !plan::has_ended(&pod) {
            tracing::warn!(pod = %key, node, "the fake node has no address left for the pod");
            self.queue.add_after(Key::Pod(key.clone()), ADDRESS);
        }
        let known = Known {
            stages: &stages,
            draw: Draw::of_pod(self.config.seed, group(&pod), record.ordinal),
            accepted: record.accepted,
            stopped: record.stopped,
            addresses: Addresses {
                host: self.endpoint.address.clone(),
                pod: address.map(|a| a.to_string()),
                pod6: address
                    .zip(self.config.nodes.pod_cidr6)
                    .map(|(a, beside)| beside.like(a).to_string()),
            },
        };
        let plan = plan::plan(&pod, known, now);
        if let Some(at) = plan.next {
            self.look_again(Key::Pod(key.clone()), at);
        }
        let uid = pod.metadata.uid.as_deref().unwrap_or_default();
        let pods = self.client.namespaced::<Pod>(&key.namespace);
        if let Some(status) = &plan.report {
            let patch = Patch::Strategic(plan::report_patch(uid, status));
            match pods.status().patch(&key.name, patch).await {
                // Another pod by this name, whose own turn comes.
                Err(error) if error.is_conflict() => return Ok(()),
                result => {
                    if gone_is_done(result)?.is_some() {
                        self.tell(&pod, node, told::changes(&pod, pod.status.as_ref(), status));
                    }
                }
            };
        }
        if plan.release {
            self.state.release(&pod);
        }
        if plan.remove {
            let now = DeleteOptions {
                grace_period_seconds: Some(0),
                uid: Some(uid.to_owned()),
                ..DeleteOptions::default()
            };
            match pods.delete(&key.name, &now).await {
                Err(error) if error.is_conflict() => {}
                result => drop(gone_is_done(result)?),
            }
        }
        Ok(())
    }

    /// As the kubelet of the pod's node would.
    pub(super) fn tell(&self, pod: &Pod, node: &str, events: Vec<Told>) {
        let Some(recorder) = self.events.as_ref().filter(|_| !events.is_empty()) else {
            return;
        };
        let recorder = recorder.on_host(node);
        for told in events {
            let about = ObjectReference {
                field_path: Some(told.field),
                ..reference(pod)
            };
            recorder.event_on(about, told.kind, told.reason, told.message);
        }
    }
}
