//! ServiceAccount: every namespace has the account `default`. Watches Namespaces and ServiceAccounts of that name.

use std::sync::Arc;

use coracle_client::{Client, ObjectKey};
use coracle_informer::{Action, Error, InformerOptions, Lister};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};

use crate::Context;

const NAME: &str = "serviceaccount-controller";
const ACCOUNT: &str = "default";

struct ServiceAccounts {
    client: Client,
    namespaces: Lister<Namespace>,
    accounts: Lister<ServiceAccount>,
}

pub async fn run(cx: Context) {
    let namespaces = cx.informers.informer::<Namespace>();
    let only = InformerOptions {
        field_selector: format!("metadata.name={ACCOUNT}"),
        ..InformerOptions::default()
    };
    let accounts = cx.informers.informer_of::<ServiceAccount>(only);
    let context = ServiceAccounts {
        client: cx.client_of("service-account"),
        namespaces: namespaces.lister(),
        accounts: accounts.lister(),
    };
    cx.controller(NAME, 1)
        .watches(&namespaces, |namespace| [ObjectKey::of(namespace)])
        .watches(&accounts, |account: &ServiceAccount| {
            account
                .metadata
                .namespace
                .as_deref()
                .map(|namespace| ObjectKey::<Namespace>::new("", namespace))
        })
        .run(context, reconcile, cx.shutdown.clone())
        .await;
}

async fn reconcile(cx: Arc<ServiceAccounts>, key: ObjectKey<Namespace>) -> Result<Action, Error> {
    let Some(namespace) = cx.namespaces.get(&key) else {
        return Ok(Action::Done);
    };
    let going = namespace.metadata.deletion_timestamp.is_some();
    if going || cx.accounts.find(&key.name, ACCOUNT).is_some() {
        return Ok(Action::Done);
    }
    let mut account = ServiceAccount::default();
    account.metadata.name = Some(ACCOUNT.into());
    match cx.client.namespaced::<ServiceAccount>(&key.name).create(&account).await {
        Err(error) if error.is_already_exists() => Ok(Action::Done),
        // The namespace began to go: it needs no account any more.
        Err(error) if error.is_namespace_terminating() || error.is_not_found() => Ok(Action::Done),
        other => other.map(|_| Action::Done).map_err(Error::from),
    }
}
