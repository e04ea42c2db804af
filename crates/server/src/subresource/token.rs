//! `serviceaccounts/token`: a token for a service account, bound to an object if asked.

use coracle_api::field::{FieldError, FieldErrorKind};
use coracle_api::object::Object;
use coracle_api::service::WriteOptions;
use coracle_api::status::{Of, Status};
use serde_json::Value;

use crate::admission::{self, Attributes};
use crate::authn::tokens::{Bound, Grant};
use crate::registry::{Call, Output, body, meta, read};

const SHORTEST: i64 = 600;
const LONGEST: i64 = 1 << 32;
const DEFAULT: i64 = 3600;

/// The request has no name: it is refused under its own kind.
fn invalid(seconds: &str, detail: &str) -> Status {
    let error = FieldError {
        kind: FieldErrorKind::Invalid,
        path: "spec.expirationSeconds".into(),
        value: seconds.into(),
        detail: detail.into(),
    };
    Status::invalid("authentication.k8s.io", "TokenRequest", "", &[error])
}

/// See the module.
pub(super) async fn create(
    call: &mut Call<'_>,
    mut request: Object,
    _options: &WriteOptions,
) -> Result<Output, Status> {
    body::check_kind_as(&mut request, "authentication.k8s.io/v1", "TokenRequest")?;
    body::check_place(call, &mut request)?;
    let name = call.target.name.clone();
    let row = call.row.clone();
    let account = read::load(call.core, &row, &call.key(&name)).await?;
    let account = account.ok_or_else(|| Status::not_found(call.of(), &name))?.object;
    {
        let attributes = Attributes::new(call, admission::Operation::Create, &name, Some(&account));
        call.core.admission.validate(&attributes, Some(&request)).await?;
    }
    let seconds = request.i64(&["spec", "expirationSeconds"]).unwrap_or(DEFAULT);
    let shown = seconds.to_string();
    if seconds < SHORTEST {
        return Err(invalid(&shown, "may not specify a duration less than 10 minutes"));
    }
    if seconds > LONGEST {
        return Err(invalid(&shown, "may not specify a duration larger than 2^32 seconds"));
    }
    let audiences: Vec<String> = request
        .array(&["spec", "audiences"])
        .iter()
        .filter_map(Value::as_str)
        .map(str::to_owned)
        .collect();
    let bound = match request.get(&["spec", "boundObjectRef"]) {
        None => None,
        Some(reference) => Some(bound(call, reference).await?),
    };
    let grant = Grant {
        namespace: account.namespace().to_owned(),
        account: name,
        account_uid: account.uid().to_owned(),
        audiences,
        seconds,
        bound,
    };
    let issued = call.core.tokens.issue(&grant, call.core.clock.now())?;
    request.set(&["spec", "expirationSeconds"], seconds);
    request.set(
        &["spec", "audiences"],
        issued
            .audiences
            .iter()
            .map(|a| Value::from(a.as_str()))
            .collect::<Vec<_>>(),
    );
    request.set(
        &["metadata", "creationTimestamp"],
        meta::time_text(call.core.clock.now()),
    );
    request.set(&["status", "token"], issued.token);
    request.set(&["status", "expirationTimestamp"], meta::time_text(issued.expires));
    Output::made(request, true)
}

/// The object that the token lives and dies with.
async fn bound(call: &Call<'_>, reference: &Value) -> Result<Bound, Status> {
    let text = |field: &str| reference.get(field).and_then(Value::as_str).unwrap_or_default();
    let (kind, name, uid) = (text("kind"), text("name"), text("uid"));
    let plural = match (text("apiVersion"), kind) {
        ("v1", "Pod") => "pods",
        ("v1", "Secret") => "secrets",
        ("v1", "Node") => "nodes",
        _ => {
            let group = text("apiVersion");
            return Err(Status::bad_request(format!(
                "cannot bind token for object of type {group}, Kind={kind}"
            )));
        }
    };
    let table = call.core.registry.table();
    let row = table.get("", "v1", plural).ok_or_else(Status::no_such_resource)?;
    let of = Of { group: "", plural };
    let namespace = if row.is_namespaced() {
        call.target.namespace.as_str()
    } else {
        ""
    };
    let found = read::load(call.core, row, &row.key(namespace, name)).await?;
    let object = found.ok_or_else(|| Status::not_found(of, name))?.object;
    if !uid.is_empty() && uid != object.uid() {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record ({})",
            object.uid()
        );
        return Err(Status::conflict(of, name, &why));
    }
    if kind == "Pod" && object.str(&["spec", "serviceAccountName"]) != Some(call.target.name.as_str()) {
        let why = format!(
            "cannot bind token for serviceaccount {:?} to pod running with different serviceaccount name.",
            call.target.name
        );
        return Err(Status::bad_request(why));
    }
    let node = match object
        .str(&["spec", "nodeName"])
        .filter(|n| kind == "Pod" && !n.is_empty())
    {
        Some(node) => Some((node.to_owned(), node_uid(call, node).await?)),
        None => None,
    };
    Ok(Bound {
        kind: kind.into(),
        name: name.into(),
        uid: object.uid().into(),
        node,
    })
}

/// Empty for a node that is not registered.
async fn node_uid(call: &Call<'_>, node: &str) -> Result<String, Status> {
    let table = call.core.registry.table();
    let row = table.get("", "v1", "nodes").ok_or_else(Status::no_such_resource)?;
    let found = read::load(call.core, row, &row.key("", node)).await?;
    Ok(found.map(|f| f.object.uid().to_owned()).unwrap_or_default())
}
