//! `Impersonate-*` headers: acting as somebody else, for those who may.

use std::collections::BTreeMap;
use std::sync::Arc;

use coracle_api::service::UserInfo;
use coracle_api::status::Status;
use http::HeaderMap;
use percent_encoding::percent_decode_str;

use super::authorize;
use crate::authz::{Attributes, ResourceAttributes};
use crate::core::Core;

const EXTRA: &str = "impersonate-extra-";

/// The user that a request acts as, if it asks to, and `user` may.
pub(crate) async fn impersonated(
    core: &Arc<Core>,
    user: &UserInfo,
    headers: &HeaderMap,
) -> Result<Option<UserInfo>, Status> {
    let all = |name: &str| -> Vec<String> {
        headers
            .get_all(name)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .map(str::to_owned)
            .collect()
    };
    let name = all("impersonate-user").into_iter().next().unwrap_or_default();
    let mut groups = all("impersonate-group");
    let uid = all("impersonate-uid").into_iter().next().unwrap_or_default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for key in headers.keys().filter_map(|k| k.as_str().strip_prefix(EXTRA)) {
        let decoded = percent_decode_str(key).decode_utf8_lossy().into_owned();
        extra.insert(decoded, all(&format!("{EXTRA}{key}")));
    }
    if name.is_empty() {
        if groups.is_empty() && uid.is_empty() && extra.is_empty() {
            return Ok(None);
        }
        return Err(Status::bad_request(
            "requested to impersonate groups, a uid or extras without impersonating a user",
        ));
    }
    let ask = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| Attributes {
        user: user.clone(),
        verb: "impersonate".into(),
        resource: Some(ResourceAttributes {
            group: group.into(),
            resource: resource.into(),
            subresource: subresource.into(),
            namespace: namespace.into(),
            name: name.into(),
            fields: Vec::new(),
        }),
        path: String::new(),
    };
    let account = name
        .strip_prefix("system:serviceaccount:")
        .and_then(|r| r.split_once(':'));
    match account {
        Some((namespace, account)) => {
            authorize(core, &ask("", "serviceaccounts", "", namespace, account)).await?;
            if groups.is_empty() {
                groups = vec![
                    "system:serviceaccounts".into(),
                    format!("system:serviceaccounts:{namespace}"),
                ];
            }
        }
        None => authorize(core, &ask("", "users", "", "", &name)).await?,
    }
    for group in all("impersonate-group") {
        authorize(core, &ask("", "groups", "", "", &group)).await?;
    }
    if !uid.is_empty() {
        authorize(core, &ask("authentication.k8s.io", "uids", "", "", &uid)).await?;
    }
    for (key, values) in &extra {
        for value in values {
            authorize(core, &ask("authentication.k8s.io", "userextras", key, "", value)).await?;
        }
    }
    let known = if name == "system:anonymous" {
        "system:unauthenticated"
    } else {
        crate::authn::AUTHENTICATED
    };
    if !groups.iter().any(|g| g == known) {
        groups.push(known.into());
    }
    Ok(Some(UserInfo {
        name,
        uid,
        groups,
        extra,
    }))
}
