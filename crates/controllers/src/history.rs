//! ControllerRevisions: the templates that a DaemonSet or StatefulSet has had, numbered, as patches that bring them back
//! (which is what `kubectl rollout undo` sends). What is to be done is decided by pure functions; [`History`] does it.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api::selector::LabelSelector;
use coracle_client::{Client, DeleteOptions, Patch, TypedKind, gone_is_done};
use coracle_informer::Error;
use k8s_openapi::api::apps::v1::ControllerRevision;
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::apimachinery::pkg::runtime::RawExtension;
use serde_json::{Value, json};

use crate::claim::{Claimable, Claiming};
use crate::owner::{controller_of, controller_reference};
use crate::template::{Digest, Digests, digest_of, settled, template_hash};

/// The label by which a pod tells of which revision it is.
pub const REVISION_LABEL: &str = "controller-revision-hash";

/// A name has at most so many characters before the hash.
const LONGEST_PREFIX: usize = 223;

/// The patch that brings a template back.
pub fn data(template: &PodTemplateSpec) -> Value {
    let mut template = serde_json::to_value(template).unwrap_or_default();
    template["$patch"] = json!("replace");
    json!({"spec": {"template": template}})
}

/// The template that a revision holds.
pub fn template(revision: &ControllerRevision) -> Option<PodTemplateSpec> {
    let mut template = revision.data.0.pointer("/spec/template")?.clone();
    template.as_object_mut()?.remove("$patch");
    serde_json::from_value(template).ok()
}

pub fn number(revision: &ControllerRevision) -> i64 {
    revision.revision.unwrap_or(0)
}

pub fn name(revision: &ControllerRevision) -> &str {
    revision.metadata.name.as_deref().unwrap_or_default()
}

pub fn label<'r>(revision: &'r ControllerRevision, key: &str) -> Option<&'r str> {
    revision.metadata.labels.as_ref()?.get(key).map(String::as_str)
}

/// The digest of revision data: that of its template as a server prints it. Fields that are null (as other controllers
/// write them) say nothing.
pub fn digest(data: &Value) -> Digest {
    fn without_null(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let set = map.iter().filter(|(_, v)| !v.is_null());
                Value::Object(set.map(|(k, v)| (k.clone(), without_null(v))).collect())
            }
            Value::Array(all) => Value::Array(all.iter().map(without_null).collect()),
            other => other.clone(),
        }
    }
    let mut data = without_null(data);
    if let Some(template) = data.pointer_mut("/spec/template") {
        let patch = template.as_object_mut().and_then(|t| t.remove("$patch"));
        *template = settled(template.take());
        if let (Some(patch), Some(template)) = (patch, template.as_object_mut()) {
            template.insert("$patch".into(), patch);
        }
    }
    digest_of(&data)
}

/// How the newest revision comes to hold the template of now.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// It does.
    Keep(Arc<ControllerRevision>),
    /// An older one does: it becomes the newest, by this number.
    Renumber(Arc<ControllerRevision>, i64),
    /// None does: one is to be made with this number.
    Create(i64),
}

/// `holds` says whether a revision holds the template of now.
pub fn step(revisions: &[Arc<ControllerRevision>], holds: impl Fn(&ControllerRevision) -> bool) -> Step {
    let (same, others): (Vec<_>, Vec<_>) = revisions.iter().partition(|r| holds(r));
    let highest = others.iter().map(|r| number(r)).max().unwrap_or(0);
    match same.into_iter().max_by_key(|r| number(r)) {
        Some(newest) if number(newest) > highest => Step::Keep(newest.clone()),
        Some(older) => Step::Renumber(older.clone(), highest.saturating_add(1)),
        None => Step::Create(highest.saturating_add(1)),
    }
}

/// The oldest revisions, at most `count` of them, that are not `live`.
pub fn oldest(
    revisions: &[Arc<ControllerRevision>],
    count: usize,
    live: impl Fn(&ControllerRevision) -> bool,
) -> Vec<Arc<ControllerRevision>> {
    let mut dead: Vec<_> = revisions.iter().filter(|r| !live(r)).cloned().collect();
    dead.sort_by_key(|r| {
        (
            number(r),
            r.metadata.creation_timestamp.clone(),
            r.metadata.name.clone(),
        )
    });
    dead.truncate(count);
    dead
}

/// A name for a revision: after its owner and the hash.
fn revision_name(owner: &str, hash: &str) -> String {
    let prefix: String = owner.chars().take(LONGEST_PREFIX).collect();
    format!("{prefix}-{hash}")
}

/// The revisions of the owners of one kind.
pub struct History<O> {
    pub client: Client,
    pub revisions: Claimable<O, ControllerRevision>,
    /// The label of a revision that carries its hash.
    pub hash_label: &'static str,
    /// Of the revisions and of their owners' templates.
    pub digests: Digests,
}

impl<O> History<O>
where
    O: TypedKind + k8s_openapi::Resource + k8s_openapi::Metadata<Ty = ObjectMeta>,
{
    /// Whether two revisions hold the same template.
    pub fn is_double(&self, one: &ControllerRevision, other: &ControllerRevision) -> bool {
        self.digest(one) == self.digest(other)
    }

    /// What a revision holds never changes.
    fn digest(&self, revision: &ControllerRevision) -> Digest {
        self.digests.of(&revision.metadata, || digest(&revision.data.0))
    }

    /// The owner's revisions, after adopting and releasing.
    pub async fn claim(&self, owner: &O, selector: &LabelSelector) -> Result<Vec<Arc<ControllerRevision>>, Error> {
        let claiming = Claiming {
            client: &self.client,
            owner,
        };
        claiming.claim(&self.revisions, selector, |_| true).await
    }

    /// The revision of the template of now, made or renumbered if need be, and how many names have collided so far.
    pub async fn current(
        &self,
        owner: &O,
        template: &PodTemplateSpec,
        revisions: &[Arc<ControllerRevision>],
        collisions: Option<i32>,
    ) -> Result<(Arc<ControllerRevision>, Option<i32>), Error> {
        let wanted = self.digests.of(owner.meta(), || digest(&data(template)));
        let api = self
            .client
            .namespaced::<ControllerRevision>(owner.meta().namespace.as_deref().unwrap_or_default());
        let next = match step(revisions, |r| self.digest(r) == wanted) {
            Step::Keep(revision) => return Ok((revision, collisions)),
            Step::Renumber(revision, number) => {
                let patch = json!({"metadata": {"uid": revision.metadata.uid}, "revision": number});
                let renumbered = api.patch(name(&revision), Patch::Merge(patch)).await?;
                return Ok((renumbered, collisions));
            }
            Step::Create(number) => number,
        };
        let mut collisions = collisions;
        loop {
            let new = self.revision(owner, template, next, collisions);
            match api.create(&new).await {
                Ok(made) => return Ok((made, collisions)),
                Err(error) if error.is_already_exists() => {
                    let there = api.get(name(&new)).await?;
                    let ours =
                        controller_of(&there.metadata).is_some_and(|o| Some(&o.uid) == owner.meta().uid.as_ref());
                    if ours && self.digest(&there) == wanted {
                        return Ok((there, collisions));
                    }
                    collisions = Some(collisions.unwrap_or(0).saturating_add(1));
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn revision(
        &self,
        owner: &O,
        template: &PodTemplateSpec,
        number: i64,
        collisions: Option<i32>,
    ) -> ControllerRevision {
        let hash = template_hash(template, collisions);
        let meta = owner.meta();
        let mut labels: BTreeMap<String, String> = template
            .metadata
            .as_ref()
            .and_then(|m| m.labels.clone())
            .unwrap_or_default();
        labels.insert(self.hash_label.to_owned(), hash.clone());
        ControllerRevision {
            metadata: ObjectMeta {
                name: Some(revision_name(meta.name.as_deref().unwrap_or_default(), &hash)),
                namespace: meta.namespace.clone(),
                labels: Some(labels),
                annotations: meta.annotations.clone(),
                owner_references: Some(vec![controller_reference(owner)]),
                ..ObjectMeta::default()
            },
            data: RawExtension(data(template)),
            revision: Some(number),
        }
    }

    pub async fn delete(&self, revisions: &[Arc<ControllerRevision>]) -> Result<(), Error> {
        for revision in revisions {
            let namespace = revision.metadata.namespace.as_deref().unwrap_or_default();
            let options = DeleteOptions {
                uid: revision.metadata.uid.clone(),
                ..DeleteOptions::default()
            };
            let api = self.client.namespaced::<ControllerRevision>(namespace);
            gone_is_done(api.delete(name(revision), &options).await)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(image: &str) -> PodTemplateSpec {
        let template =
            json!({"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "c", "image": image}]}});
        serde_json::from_value(template).unwrap()
    }

    fn revision(number: i64, image: &str) -> Arc<ControllerRevision> {
        let mut revision = ControllerRevision {
            data: RawExtension(data(&of(image))),
            revision: Some(number),
            ..ControllerRevision::default()
        };
        revision.metadata.name = Some(format!("r{number}"));
        Arc::new(revision)
    }

    #[test]
    fn a_revision_is_a_patch_that_replaces_the_template() {
        let kept = revision(1, "v1");
        assert_eq!(kept.data.0["spec"]["template"]["$patch"], "replace");
        assert_eq!(template(&kept), Some(of("v1")));
    }

    #[test]
    fn a_null_in_a_revision_written_by_others_says_nothing() {
        let mut foreign = ControllerRevision::clone(&revision(1, "v1"));
        foreign.data.0["spec"]["template"]["metadata"]["creationTimestamp"] = Value::Null;
        assert_eq!(digest(&foreign.data.0), digest(&data(&of("v1"))));
        assert_ne!(digest(&foreign.data.0), digest(&data(&of("v2"))));
    }

    #[test]
    fn the_newest_revision_is_kept_an_old_one_is_renumbered_and_a_new_template_gets_its_own() {
        let all = [revision(1, "v1"), revision(2, "v2")];
        let step = |all: &[_], image| {
            let wanted = digest(&data(&of(image)));
            step(all, |r| digest(&r.data.0) == wanted)
        };
        assert_eq!(step(&all, "v2"), Step::Keep(all[1].clone()));
        assert_eq!(step(&all, "v1"), Step::Renumber(all[0].clone(), 3));
        assert_eq!(step(&all, "v3"), Step::Create(3));
        assert_eq!(step(&[], "v1"), Step::Create(1));
    }

    #[test]
    fn the_oldest_that_no_pod_is_of_go_first() {
        let all = [revision(3, "c"), revision(1, "a"), revision(2, "b"), revision(4, "d")];
        let doomed = oldest(&all, 2, |r| number(r) == 1);
        assert_eq!(doomed.iter().map(|r| number(r)).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn a_long_name_is_cut_before_the_hash() {
        assert_eq!(revision_name(&"x".repeat(250), "abc").len(), 227);
        assert_eq!(revision_name("web", "abc"), "web-abc");
    }
}
