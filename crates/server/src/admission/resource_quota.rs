//! ResourceQuota: what a new object counts for is charged to the quotas of its namespace before it is written, and what
//! would exceed one is refused. What is given back is the quota controller's to count.

mod charge;

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use async_trait::async_trait;
use coracle_api::object::{Object, StoredObject};
use coracle_api::quota::{Counted, Evaluator, Usage};
use coracle_api::service::{Operation as Verb, Request, Target, WriteOptions};
use coracle_api::status::Status;
use tokio::sync::Mutex;

use super::{Admission, Attributes, Operation};
use crate::bootstrap::own_identity;
use crate::registry::read;
use charge::{Quota, charge};

/// How often a charge is tried again when somebody else changes a quota meanwhile.
const TRIES: usize = 16;
/// Requests of one namespace take turns, so that they do not get in each other's way; namespaces share this many turns.
const TURNS: usize = 64;

pub(super) struct ResourceQuota {
    turns: Vec<Mutex<()>>,
    hasher: RandomState,
}

impl ResourceQuota {
    pub fn new() -> Self {
        Self {
            turns: (0..TURNS).map(|_| Mutex::new(())).collect(),
            hasher: RandomState::new(),
        }
    }
}

fn evaluator(attributes: &Attributes<'_>) -> Evaluator {
    Evaluator::of(&attributes.row.group, &attributes.row.plural)
}

/// The object as it is counted.
fn counted(attributes: &Attributes<'_>, object: &Object) -> Result<Counted, Status> {
    let mut object = object.clone();
    read::to_stored(attributes.row, &mut object);
    let stored = StoredObject::from_object(object).map_err(|e| Status::internal(e.to_string()))?;
    evaluator(attributes)
        .counted(&stored)
        .map_err(|e| Status::internal(format!("the object cannot be counted: {e}")))
}

#[async_trait]
impl Admission for ResourceQuota {
    fn handles(&self, attributes: &Attributes<'_>) -> bool {
        if !attributes.row.is_namespaced() || attributes.operation == Operation::Delete {
            return false;
        }
        let creating = attributes.operation == Operation::Create;
        evaluator(attributes).is_charged(creating, &attributes.target.subresource)
    }

    async fn validate(&self, attributes: &Attributes<'_>, object: Option<&Object>) -> Result<(), Status> {
        let Some(object) = object else { return Ok(()) };
        if !has_quotas(attributes).await? {
            return Ok(());
        }
        let namespace = &attributes.target.namespace;
        let turn = self.hasher.hash_one(namespace) as usize % TURNS;
        let _turn = match self.turns.get(turn) {
            Some(turn) => Some(turn.lock().await),
            None => None,
        };
        let now = attributes.core.clock.now();
        let evaluator = evaluator(attributes);
        let new = counted(attributes, object)?;
        let usage = evaluator.usage(&new, now);
        let before = match attributes.old {
            Some(old) => evaluator.usage(&counted(attributes, old)?, now),
            None => Usage::new(),
        };
        for _ in 0..TRIES {
            let found = attributes.list("", "v1", "resourcequotas", namespace).await?;
            let quotas: Vec<Quota> = found.into_iter().filter_map(Quota::read).collect();
            let charged =
                charge(&evaluator, &new, &usage, &before, &quotas).map_err(|why| attributes.forbidden(why))?;
            if attributes.dry_run || charged.is_empty() || write(attributes, charged).await? {
                return Ok(());
            }
        }
        Err(Status::conflict(
            coracle_api::status::Of {
                group: "",
                plural: "resourcequotas",
            },
            namespace,
            "the quotas of the namespace change too fast; please try again",
        ))
    }
}

/// Most clusters have none, and then nothing is to be read from the store.
async fn has_quotas(attributes: &Attributes<'_>) -> Result<bool, Status> {
    let table = attributes.core.registry.table();
    let Some(row) = table.get("", "v1", "resourcequotas") else {
        return Ok(false);
    };
    Ok(attributes.core.cache.shard(row).await?.len() > 0)
}

/// Writes the quotas' new usage; false if one of them was changed meanwhile.
async fn write(attributes: &Attributes<'_>, quotas: Vec<Object>) -> Result<bool, Status> {
    for object in quotas {
        let target = Target {
            version: "v1".into(),
            resource: "resourcequotas".into(),
            namespace: attributes.target.namespace.clone(),
            name: object.name().to_owned(),
            subresource: "status".into(),
            ..Target::default()
        };
        let options = WriteOptions {
            field_manager: "kube-apiserver".into(),
            ..WriteOptions::default()
        };
        let operation = Verb::Update { object, options };
        match attributes
            .core
            .serve(&own_identity(), Request { target, operation })
            .await
        {
            Ok(_) => {}
            Err(status) if status.is_conflict() || status.is_not_found() => return Ok(false),
            Err(status) => return Err(status),
        }
    }
    Ok(true)
}
