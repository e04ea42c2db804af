//! Priority: a pod's priority is its class's, or the default class's; nobody chooses the number.

use std::sync::Arc;

use async_trait::async_trait;
use coracle_api::object::{Object, StoredObject};
use coracle_api::status::Status;

use super::{Admission, Attributes, Operation};
use crate::cache::Selection;

pub(super) struct Priority;

#[async_trait]
impl Admission for Priority {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        attributes.is("pods") && attributes.operation == Operation::Create
    }

    async fn mutate(&self, attributes: &Attributes<'_>, pod: &mut Object) -> Result<bool, Status> {
        let asked = pod.str(&["spec", "priorityClassName"]).unwrap_or_default().to_owned();
        let class = if asked.is_empty() {
            default_class(attributes).await?
        } else {
            let found = named_class(attributes, &asked).await?;
            let why = || attributes.forbidden(format!("no PriorityClass with name {asked} was found"));
            Some(found.ok_or_else(why)?)
        };
        let value = class.as_ref().and_then(|c| c.i64(&["value"])).unwrap_or(0);
        if let Some(given) = pod.i64(&["spec", "priority"])
            && given != value
        {
            let why = format!(
                "the integer value of priority ({given}) must not be provided in pod spec; priority admission \
                 controller computed {value} from the given PriorityClass name"
            );
            return Err(attributes.forbidden(why));
        }
        pod.set(&["spec", "priority"], value);
        let policy = class
            .as_ref()
            .and_then(|c| c.str(&["preemptionPolicy"]))
            .unwrap_or("PreemptLowerPriority");
        if let Some(given) = pod.str(&["spec", "preemptionPolicy"])
            && given != policy
        {
            let why = format!(
                "the string value of PreemptionPolicy ({given}) must not be provided in pod spec; priority admission \
                 controller computed {policy} from the given PriorityClass name"
            );
            return Err(attributes.forbidden(why));
        }
        pod.set(&["spec", "preemptionPolicy"], policy);
        if let Some(class) = class
            && asked.is_empty()
        {
            pod.set(&["spec", "priorityClassName"], class.name());
        }
        Ok(true)
    }
}

async fn named_class(attributes: &Attributes<'_>, name: &str) -> Result<Option<Object>, Status> {
    let table = attributes.core.registry.table();
    let Some(row) = table.get("scheduling.k8s.io", "v1", "priorityclasses") else {
        return Ok(None);
    };
    let found = crate::registry::read::load(attributes.core, row, &row.key("", name)).await?;
    Ok(found.map(|f| f.object))
}

/// The global default; of several, the one with the lowest value.
async fn default_class(attributes: &Attributes<'_>) -> Result<Option<Object>, Status> {
    let table = attributes.core.registry.table();
    let Some(row) = table.get("scheduling.k8s.io", "v1", "priorityclasses") else {
        return Ok(None);
    };
    let shard = attributes.core.cache.shard(row).await?;
    let Some(all) = shard.snapshot(&Selection::all(row, ""), None, 0, 0) else {
        return Ok(None);
    };
    let classes = all
        .items
        .iter()
        .map(|i| &i.object)
        .filter(|o| says_default(o))
        .map(|o| o.to_object());
    Ok(classes
        .filter(|c| c.bool(&["globalDefault"]) == Some(true))
        .min_by_key(|c| c.i64(&["value"])))
}

/// Whether it is worth decoding: the few classes that may be a default name the field.
fn says_default(object: &Arc<StoredObject>) -> bool {
    object.raw().windows(15).any(|w| w == b"\"globalDefault\"")
}
