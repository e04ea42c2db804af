//! Reviews: what is created is a question, and the answer is the same object with a status. Nothing is kept. A `Binding`
//! posted by itself takes the same way and binds its pod.

use coracle_api::object::Object;
use coracle_api::schema::decode::Mode;
use coracle_api::service::{UserInfo, WriteOptions};
use coracle_api::status::Status;
use serde_json::{Map, Value, json};

use super::binding;
use crate::authz::{Attributes, Decision, ResourceAttributes};
use crate::registry::{Call, Output, body, codec, meta};

/// See the module.
pub(crate) async fn create(call: &mut Call<'_>, mut object: Object, options: &WriteOptions) -> Result<Output, Status> {
    body::check_kind(call, &mut object)?;
    body::check_place(call, &mut object)?;
    let mut object = codec::decode(call, object, Mode::Whole, options.field_validation)?;
    let kind = call.row.kind.clone();
    match kind.as_ref() {
        "Binding" => return bind(call, &object, options).await,
        "SelfSubjectReview" => {
            object.set(
                &["metadata", "creationTimestamp"],
                meta::time_text(call.core.clock.now()),
            );
            object.set(&["status", "userInfo"], user_value(call.user));
        }
        "TokenReview" => review_token(call, &mut object).await?,
        "SelfSubjectRulesReview" => review_rules(call, &mut object).await?,
        "SelfSubjectAccessReview" => {
            let user = call.user.clone();
            review_access(call, &mut object, &user).await?;
        }
        "SubjectAccessReview" | "LocalSubjectAccessReview" => {
            if kind == "LocalSubjectAccessReview" {
                let namespace = object
                    .str(&["spec", "resourceAttributes", "namespace"])
                    .unwrap_or_default();
                if namespace != call.target.namespace {
                    return Err(Status::bad_request(format!(
                        "spec.resourceAttributes.namespace must match namespace: {}",
                        call.target.namespace
                    )));
                }
            }
            let user = user_of(&object);
            if user.name.is_empty() && user.groups.is_empty() {
                return Err(crate::registry::check::invalid(
                    call,
                    "spec.user",
                    "\"\"",
                    "at least one of user or group must be specified",
                ));
            }
            review_access(call, &mut object, &user).await?;
        }
        _ => return Err(Status::no_such_resource()),
    }
    Output::made(object, true)
}

async fn bind(call: &mut Call<'_>, object: &Object, options: &WriteOptions) -> Result<Output, Status> {
    let table = call.core.registry.table();
    let row = table
        .get("", "v1", "pods")
        .cloned()
        .ok_or_else(Status::no_such_resource)?;
    let mut target = call.target.clone();
    target.resource = "pods".into();
    target.name = object.name().to_owned();
    target.subresource = "binding".into();
    let mut pods = Call {
        core: call.core,
        user: call.user,
        target,
        row,
        warnings: Vec::new(),
    };
    binding::bind(&mut pods, object.name(), object, options.dry_run).await?;
    Ok(Output::Status(binding::success(201)))
}

fn user_value(user: &UserInfo) -> Value {
    let mut out = Map::new();
    out.insert("username".into(), user.name.clone().into());
    if !user.uid.is_empty() {
        out.insert("uid".into(), user.uid.clone().into());
    }
    if !user.groups.is_empty() {
        out.insert("groups".into(), user.groups.clone().into());
    }
    if !user.extra.is_empty() {
        out.insert("extra".into(), json!(user.extra));
    }
    Value::Object(out)
}

fn strings(value: Option<&Value>) -> Vec<String> {
    let items = value.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    items.iter().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn user_of(review: &Object) -> UserInfo {
    let extra = review.get(&["spec", "extra"]).and_then(Value::as_object);
    UserInfo {
        name: review.str(&["spec", "user"]).unwrap_or_default().to_owned(),
        uid: review.str(&["spec", "uid"]).unwrap_or_default().to_owned(),
        groups: strings(review.get(&["spec", "groups"])),
        extra: extra
            .into_iter()
            .flatten()
            .map(|(k, v)| (k.clone(), strings(Some(v))))
            .collect(),
    }
}

async fn review_token(call: &Call<'_>, review: &mut Object) -> Result<(), Status> {
    let token = review.str(&["spec", "token"]).unwrap_or_default().to_owned();
    if token.is_empty() {
        return Err(crate::registry::check::invalid(
            call,
            "spec.token",
            "\"\"",
            "is required",
        ));
    }
    let audiences = strings(review.get(&["spec", "audiences"]));
    let verified = crate::authn::authenticate_token(call.core, &token, &audiences).await;
    let status = match verified {
        Ok((user, audiences)) => json!({
            "authenticated": true,
            "user": user_value(&user),
            "audiences": audiences,
        }),
        Err(error) => json!({"authenticated": false, "error": error.to_string()}),
    };
    review.set(&["status"], status);
    Ok(())
}

async fn review_access(call: &Call<'_>, review: &mut Object, user: &UserInfo) -> Result<(), Status> {
    let verb_of = |path: &str| review.str(&["spec", path, "verb"]).unwrap_or_default().to_owned();
    let resource = review.get(&["spec", "resourceAttributes"]).is_some();
    let path = review.get(&["spec", "nonResourceAttributes"]).is_some();
    if resource == path {
        return Err(Status::bad_request(
            "exactly one of nonResourceAttributes or resourceAttributes must be specified",
        ));
    }
    let attributes = if resource {
        let text = |f: &str| {
            review
                .str(&["spec", "resourceAttributes", f])
                .unwrap_or_default()
                .to_owned()
        };
        Attributes {
            user: user.clone(),
            verb: verb_of("resourceAttributes"),
            resource: Some(ResourceAttributes {
                group: text("group"),
                resource: text("resource"),
                subresource: text("subresource"),
                namespace: text("namespace"),
                name: text("name"),
                fields: pinned_fields(review),
            }),
            path: String::new(),
        }
    } else {
        Attributes {
            user: user.clone(),
            verb: verb_of("nonResourceAttributes"),
            resource: None,
            path: review
                .str(&["spec", "nonResourceAttributes", "path"])
                .unwrap_or_default()
                .to_owned(),
        }
    };
    let status = match call.core.authorizer.authorize(&attributes).await? {
        Decision::Allow(reason) => json!({"allowed": true, "reason": reason}),
        Decision::NoOpinion(reason) if reason.is_empty() => json!({"allowed": false}),
        Decision::NoOpinion(reason) => json!({"allowed": false, "reason": reason}),
    };
    review.set(&["status"], status);
    Ok(())
}

/// What the selector that is asked about holds to one value each.
fn pinned_fields(review: &Object) -> Vec<(String, String)> {
    let selector = ["spec", "resourceAttributes", "fieldSelector"];
    let mut raw = ResourceAttributes::default();
    if let Some(text) = review
        .get(&selector)
        .and_then(|s| s.get("rawSelector"))
        .and_then(Value::as_str)
    {
        raw.select(text);
    }
    let requirements = review
        .get(&selector)
        .and_then(|s| s.get("requirements"))
        .and_then(Value::as_array);
    for requirement in requirements.into_iter().flatten() {
        let text = |field: &str| requirement.get(field).and_then(Value::as_str).unwrap_or_default();
        if let ("In", [one]) = (text("operator"), strings(requirement.get("values")).as_slice()) {
            raw.fields.push((text("key").to_owned(), one.clone()));
        }
    }
    raw.fields
}

async fn review_rules(call: &Call<'_>, review: &mut Object) -> Result<(), Status> {
    let namespace = review.str(&["spec", "namespace"]).unwrap_or_default().to_owned();
    if namespace.is_empty() {
        return Err(Status::bad_request("no namespace on request"));
    }
    let found = call.core.authorizer.rules(call.user, &namespace).await?;
    let mut resource_rules = Vec::new();
    let mut path_rules = Vec::new();
    for rule in found.rules {
        if rule.paths.is_empty() {
            resource_rules.push(json!({
                "verbs": rule.verbs,
                "apiGroups": rule.groups,
                "resources": rule.resources,
                "resourceNames": rule.names,
            }));
        } else {
            path_rules.push(json!({"verbs": rule.verbs, "nonResourceURLs": rule.paths}));
        }
    }
    let mut status = json!({
        "incomplete": found.incomplete.is_some(),
        "resourceRules": resource_rules,
        "nonResourceRules": path_rules,
    });
    if let (Some(why), Some(status)) = (found.incomplete, status.as_object_mut()) {
        status.insert("evaluationError".into(), why.into());
    }
    review.set(&["status"], status);
    Ok(())
}
