//! Requests for resources: a call of the object road made from HTTP, and its answer.

use std::sync::Arc;

use coracle_api::service::{Operation, Request};
use coracle_api::status::Status;

use super::query::Write;
use super::{Answer, Inbound, body, connect, encode, table, watch};
use crate::core::Core;
use crate::metrics::Labels;
use crate::registry::{self, Output};

/// Serves an authorized request.
pub(crate) async fn serve(core: &Arc<Core>, inbound: Inbound, labels: &Labels) -> Result<Answer, Status> {
    let resources = core.registry.table();
    let target = inbound.info.target.clone();
    let row = resources
        .get(&target.group, &target.version, &target.resource)
        .ok_or_else(Status::no_such_resource)?
        .clone();
    let connects = row.subresource(&target.subresource).is_some_and(|s| s.connect);
    if connects {
        return connect::serve(core, inbound, labels).await;
    }
    if !inbound.info.rest.is_empty() {
        return Err(Status::no_such_resource());
    }
    let format = match inbound.info.verb.as_str() {
        "watch" => inbound.wish.watch(row.protobuf)?,
        _ => inbound.wish.object(row.protobuf)?,
    };
    let table_options = table::Options::parse(&inbound.query);
    let Inbound {
        headers,
        query,
        info,
        user,
        local,
        request,
        ..
    } = inbound;
    let most = core.limits.body_bytes;
    let unread = request.into_body();
    let mut warnings: Vec<String> = row.deprecation.iter().map(ToString::to_string).collect();
    let part = row.subresource(&target.subresource).and_then(|s| s.kind.as_ref());
    let kind = part.map_or(row.kind.as_ref(), |(_, _, kind)| kind.as_ref());
    let operation = match info.verb.as_str() {
        "get" => Operation::Get {
            resource_version: query.get("resourceVersion").unwrap_or_default().to_owned(),
        },
        "list" => Operation::List(query.list_options(false)?),
        "watch" => Operation::Watch(query.list_options(true)?),
        "create" => {
            let options = query.write_options(Write::Create, &headers)?;
            let bytes = body::read(unread, most).await?;
            let (object, more) = body::object(&headers, &bytes, kind, options.field_validation)?;
            warnings.extend(more);
            Operation::Create { object, options }
        }
        "update" => {
            let options = query.write_options(Write::Update, &headers)?;
            let bytes = body::read(unread, most).await?;
            let (object, more) = body::object(&headers, &bytes, kind, options.field_validation)?;
            warnings.extend(more);
            Operation::Update { object, options }
        }
        "patch" => {
            let kind = body::patch_kind(&headers, row.custom)?;
            let options = query.write_options(Write::Patch(kind), &headers)?;
            let bytes = body::read(unread, most).await?;
            let (patch, more) = body::patch(kind, &bytes, options.field_validation)?;
            warnings.extend(more);
            Operation::Patch { kind, patch, options }
        }
        "delete" => Operation::Delete(body::delete_options(
            &headers,
            &query,
            &body::read(unread, most).await?,
        )?),
        "deletecollection" => Operation::DeleteCollection {
            list: query.list_options(false)?,
            delete: body::delete_options(&headers, &query, &body::read(unread, most).await?)?,
        },
        _ => return Err(registry::method_not_allowed()),
    };
    let shown_subresource = target.subresource.clone();
    let reply = match core.serve(&user, Request { target, operation }).await {
        Ok(reply) => reply,
        // A watch that cannot begin says so as a watch does, so that clients list again.
        Err(status) if info.verb == "watch" && status.code == 410 => return Ok(watch::refused(&status, format)),
        Err(status) => return Err(status),
    };
    warnings.extend(reply.warnings);
    let accepts_gzip = !local && encode::accepts_gzip(&headers);
    // A Scale is shown as itself, whatever it is the scale of.
    let is_scale = row.subresource(&shown_subresource).is_some_and(|s| s.scale.is_some());
    let form = encode::Form {
        row: if is_scale {
            coracle_api::kinds::scale::printed()
        } else {
            &reply.row
        },
        format,
        table: table_options,
        now: core.clock.now(),
        accepts_gzip,
    };
    let mut answer = match reply.output {
        Output::Object { object, created } => encode::object(&form, &object, if created { 201 } else { 200 })?,
        Output::List(list) => encode::list(&form, &list)?,
        Output::Status(status) => encode::status(&status, format),
        Output::Watch(watcher) => watch::stream(core, *watcher, &form, labels),
    };
    encode::add_warnings(&mut answer, &warnings);
    Ok(answer)
}
