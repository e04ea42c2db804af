//! Token cleaner: deletes bootstrap tokens when they expire. Watches the Secrets of kube-system.

use std::sync::Arc;
use std::time::Duration;

use coracle_client::{Client, DeleteOptions, ObjectKey, gone_is_done};
use coracle_clock::Clock;
use coracle_informer::{Action, Error, Lister};
use k8s_openapi::api::core::v1::Secret;

use crate::Context;
use crate::bootstrap_signer::tokens_only;
use crate::bootstrap_token::{self, End};

const NAME: &str = "token-cleaner-controller";
const ACCOUNT: &str = "token-cleaner";

struct Cleaner {
    client: Client,
    clock: Clock,
    tokens: Lister<Secret>,
}

pub async fn run(cx: Context) {
    let tokens = cx.informers.informer_of::<Secret>(tokens_only());
    let context = Cleaner {
        client: cx.client_as(ACCOUNT, NAME),
        clock: cx.clock,
        tokens: tokens.lister(),
    };
    cx.controller(NAME, 1)
        .watches(&tokens, |secret| [ObjectKey::of(secret)])
        .run(context, reconcile, cx.shutdown.clone())
        .await;
}

async fn reconcile(cx: Arc<Cleaner>, key: ObjectKey<Secret>) -> Result<Action, Error> {
    let Some(secret) = cx.tokens.get(&key).filter(|s| bootstrap_token::is_token(s)) else {
        return Ok(Action::Done);
    };
    let now = cx.clock.now();
    if !bootstrap_token::is_over(&secret, now) {
        return Ok(match bootstrap_token::end(&secret) {
            End::At(at) => Action::After(Duration::try_from(at.duration_since(now)).unwrap_or_default()),
            End::Never | End::Now => Action::Done,
        });
    }
    let options = DeleteOptions {
        uid: secret.metadata.uid.clone(),
        resource_version: secret.metadata.resource_version.clone(),
        ..DeleteOptions::default()
    };
    let secrets = cx.client.namespaced::<Secret>(&key.namespace);
    gone_is_done(secrets.delete(&key.name, &options).await)?;
    Ok(Action::Done)
}
