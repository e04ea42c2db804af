//! Namespace: when one is deleted, everything in it goes, then it does. Watches Namespaces, and Pods (the last to leave
//! mostly). Writes the namespace's conditions, and takes its finalizer off at the end.

use std::time::Duration;

use coracle_client::discovery::Discovered;
use coracle_client::{Client, DeleteOptions, ListOptions, ObjectKey, PartialObject, Propagation, gone_is_done};
use coracle_clock::Clock;
use coracle_informer::{Action, Error, Lister};
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::Context;

const NAME: &str = "namespace-controller";
const WORKERS: usize = 10;
const FINALIZER: &str = "kubernetes";
/// When what is left is held by finalizers of others, whose going no informer of ours tells.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

struct Namespaces {
    client: Client,
    clock: Clock,
    namespaces: Lister<Namespace>,
}

pub async fn run(cx: Context) {
    let namespaces = cx.informers.informer::<Namespace>();
    let pods = cx.informers.informer::<Pod>();
    let context = Namespaces {
        client: cx.client_of(NAME),
        clock: cx.clock,
        namespaces: namespaces.lister(),
    };
    cx.controller(NAME, WORKERS)
        .watches(&namespaces, |namespace| [ObjectKey::of(namespace)])
        .watches_changes(&pods, |change| {
            let namespace = change.object().metadata.namespace.as_deref();
            namespace
                .filter(|_| change.is_deletion())
                .map(|n| ObjectKey::<Namespace>::new("", n))
        })
        .run(
            context,
            |this, key| async move { this.reconcile(key).await },
            cx.shutdown.clone(),
        )
        .await;
}

/// What is still in a namespace.
#[derive(Debug, Default)]
struct Left {
    /// How many objects of each resource.
    objects: Vec<(String, usize)>,
    finalizers: std::collections::BTreeMap<String, usize>,
    failures: Vec<String>,
    discovery: Option<String>,
}

impl Left {
    fn is_empty(&self) -> bool {
        self.objects.is_empty() && self.failures.is_empty() && self.discovery.is_none()
    }
}

impl Namespaces {
    async fn reconcile(&self, key: ObjectKey<Namespace>) -> Result<Action, Error> {
        let Some(namespace) = self.namespaces.get(&key) else {
            return Ok(Action::Done);
        };
        let finalizers = namespace
            .spec
            .as_ref()
            .and_then(|s| s.finalizers.clone())
            .unwrap_or_default();
        if namespace.metadata.deletion_timestamp.is_none() || !finalizers.iter().any(|f| f == FINALIZER) {
            return Ok(Action::Done);
        }
        let left = self.empty(&key.name).await;
        if !left.is_empty() {
            self.tell(&namespace, &left).await?;
            if let Some(failure) = left.failures.first().or(left.discovery.as_ref()) {
                return Err(Error::message(failure.clone()));
            }
            return Ok(Action::After(LOOK_AGAIN));
        }
        let mut done = (*namespace).clone();
        if let Some(spec) = done.spec.as_mut() {
            spec.finalizers = Some(finalizers.into_iter().filter(|f| f != FINALIZER).collect());
        }
        let finalize = self.client.all::<Namespace>().subresource::<Namespace>("finalize");
        gone_is_done(finalize.update(&done).await)?;
        Ok(Action::Done)
    }

    /// Deletes everything in the namespace and says what is left. Pods go first: what they rely on (network policies,
    /// quotas, secrets) is there as long as they are.
    async fn empty(&self, namespace: &str) -> Left {
        let mut left = Left::default();
        let resources = match self.client.discover().await {
            Ok(resources) => resources,
            Err(error) => {
                left.discovery = Some(error.to_string());
                return left;
            }
        };
        let wanted =
            |d: &&Discovered| d.preferred && d.resource.namespaced && d.has_verb("delete") && d.has_verb("list");
        let is_pods = |d: &&Discovered| d.resource.group.is_empty() && d.resource.plural == "pods";
        let (pods, others): (Vec<_>, Vec<_>) = resources.iter().filter(wanted).partition(is_pods);
        for kinds in [pods, others] {
            for discovered in kinds {
                if let Err(error) = self.empty_of(namespace, discovered, &mut left).await {
                    left.failures.push(format!("{}: {error}", discovered.resource));
                }
            }
            if !left.is_empty() {
                break;
            }
        }
        left
    }

    async fn empty_of(
        &self,
        namespace: &str,
        discovered: &Discovered,
        left: &mut Left,
    ) -> Result<(), coracle_client::Error> {
        let api = self
            .client
            .dynamic::<PartialObject>(&discovered.resource)
            .within(namespace);
        let everything = ListOptions::default();
        if api.list(&everything).await?.items.is_empty() {
            return Ok(());
        }
        let options = DeleteOptions {
            propagation: Some(Propagation::Background),
            ..DeleteOptions::default()
        };
        if discovered.has_verb("deletecollection") {
            api.delete_collection(&everything, &options).await?;
        } else {
            for object in api.list(&everything).await?.items {
                let name = object.metadata.name.as_deref().unwrap_or_default();
                gone_is_done(api.delete(name, &options).await)?;
            }
        }
        let remaining = api.list(&everything).await?.items;
        if !remaining.is_empty() {
            let resource = &discovered.resource;
            left.objects
                .push((format!("{}.{}", resource.plural, resource.group), remaining.len()));
            for finalizer in remaining.iter().flat_map(|o| o.metadata.finalizers.iter().flatten()) {
                *left.finalizers.entry(finalizer.clone()).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Puts what is left into the conditions that people read.
    async fn tell(&self, namespace: &Namespace, left: &Left) -> Result<(), Error> {
        let counted = |items: &mut dyn Iterator<Item = String>| items.collect::<Vec<_>>().join(", ");
        let objects = counted(
            &mut left
                .objects
                .iter()
                .map(|(r, n)| format!("{r} has {n} resource instances")),
        );
        let held = counted(
            &mut left
                .finalizers
                .iter()
                .map(|(f, n)| format!("{f} in {n} resource instances")),
        );
        let failures = counted(&mut left.failures.iter().cloned());
        let yes_or = |found: bool, kind: &str, reasons: (&str, &str), messages: (String, &str)| NamespaceCondition {
            type_: kind.into(),
            status: if found { "True" } else { "False" }.into(),
            reason: Some(if found { reasons.0 } else { reasons.1 }.into()),
            message: Some(if found { messages.0 } else { messages.1.into() }),
            last_transition_time: Some(Time(self.clock.now())),
        };
        let fresh = [
            yes_or(
                left.discovery.is_some(),
                "NamespaceDeletionDiscoveryFailure",
                ("DiscoveryFailed", "ResourcesDiscovered"),
                (
                    left.discovery.clone().unwrap_or_default(),
                    "All resources successfully discovered",
                ),
            ),
            yes_or(
                false,
                "NamespaceDeletionGroupVersionParsingFailure",
                ("GroupVersionParsingFailed", "ParsedGroupVersions"),
                (String::new(), "All legacy kube types successfully parsed"),
            ),
            yes_or(
                !left.failures.is_empty(),
                "NamespaceDeletionContentFailure",
                ("ContentDeletionFailed", "ContentDeleted"),
                (
                    format!(
                        "Failed to delete all resource types, {} remaining: {failures}",
                        left.failures.len()
                    ),
                    "All content successfully deleted, may be waiting on finalization",
                ),
            ),
            yes_or(
                !left.objects.is_empty(),
                "NamespaceContentRemaining",
                ("SomeResourcesRemain", "ContentRemoved"),
                (
                    format!("Some resources are remaining: {objects}"),
                    "All content successfully removed",
                ),
            ),
            yes_or(
                !left.finalizers.is_empty(),
                "NamespaceFinalizersRemaining",
                ("SomeFinalizersRemain", "ContentHasNoFinalizers"),
                (
                    format!("Some content in the namespace has finalizers remaining: {held}"),
                    "All content-preserving finalizers finished",
                ),
            ),
        ];
        let mut changed = namespace.clone();
        let conditions = changed
            .status
            .get_or_insert_default()
            .conditions
            .get_or_insert_default();
        for condition in fresh {
            match conditions.iter_mut().find(|c| c.type_ == condition.type_) {
                Some(old) if old.status == condition.status && old.message == condition.message => {}
                Some(old) => {
                    let since = (old.status == condition.status).then(|| old.last_transition_time.clone());
                    *old = condition;
                    if let Some(since) = since {
                        old.last_transition_time = since;
                    }
                }
                None => conditions.push(condition),
            }
        }
        if changed.status == namespace.status {
            return Ok(());
        }
        gone_is_done(self.client.all::<Namespace>().update_status(&changed).await)?;
        Ok(())
    }
}
