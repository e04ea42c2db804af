//! ServiceAccount: who a pod is to the API.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{age, age_of, name};
use super::row::namespaced;
use crate::object::Object;
use crate::resource::{Resource, Verbs};
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("", "v1", "ServiceAccount", "serviceaccounts")
        .short(&["sa"])
        .subresource_of("token", Verbs::CREATE, ("authentication.k8s.io", "v1", "TokenRequest"))
        .columns([name(), age()])
        .strategy(ServiceAccount)
        .build()
}

struct ServiceAccount;

impl Strategy for ServiceAccount {
    fn prepare_for_create(&self, object: &mut Object) {
        only_names(object);
    }

    fn prepare_for_update(&self, new: &mut Object, _old: &Object) {
        only_names(new);
    }

    fn cells(&self, object: &Object, now: Timestamp) -> Vec<Value> {
        vec![object.name().into(), age_of(object, now)]
    }
}

/// Of the secrets that an account mentions, only their names are kept.
fn only_names(object: &mut Object) {
    let secrets = object.get_mut(&["secrets"]).and_then(Value::as_array_mut);
    for secret in secrets.into_iter().flatten().filter_map(Value::as_object_mut) {
        secret.retain(|field, _| field == "name");
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::tests::prepared;
    use super::*;
    use serde_json::json;

    #[test]
    fn secrets_are_mentioned_by_name() {
        let account = json!({"metadata": {"name": "a"}, "secrets": [{"name": "s", "namespace": "elsewhere"}]});
        assert_eq!(prepared(&row(), account)["secrets"], json!([{"name": "s"}]));
    }
}
