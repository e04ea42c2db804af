//! `GET` of a collection: from the cache at its present revision, or page by page at the revision where the list began.

use std::sync::Arc;

use coracle_api::object::StoredObject;
use coracle_api::service::{ListOptions, ObjectList, VersionMatch};
use coracle_api::status::Status;
use coracle_store::{Error, ListOptions as StoreList};

use super::token::ContinueToken;
use super::{Call, check, read};
use crate::cache::{Item, Selection, Shard, shard, store_failed};

/// How many objects are read from the store's past at a time when selectors thin them out.
const PAST_PAGE: usize = 1_000;

/// See the module.
pub(crate) async fn list(call: &mut Call<'_>, options: &ListOptions) -> Result<ObjectList, Status> {
    check_options(options)?;
    let row = call.row.clone();
    let cache = call.core.cache.clone();
    let limit = usize::try_from(options.limit).unwrap_or(usize::MAX);

    let token = match options.continue_token.as_str() {
        "" => None,
        text => Some(ContinueToken::decode(text)?),
    };
    let after = token.as_ref().map(|t| format!("{}{}", row.key_prefix(""), t.after));
    let exact = match (&token, options.resource_version_match) {
        (Some(token), _) if token.revision > 0 => Some(token.revision.unsigned_abs()),
        (Some(_), _) => None,
        (None, Some(VersionMatch::Exact)) => Some(parse_version(&options.resource_version)?),
        // Without a match, a limited list at a version is of exactly that version.
        (None, None) if limit > 0 && !matches!(options.resource_version.as_str(), "" | "0") => {
            Some(parse_version(&options.resource_version)?)
        }
        (None, _) => None,
    };
    // First wait until the cache has come far enough, then look.
    match (exact, options.resource_version.as_str()) {
        (Some(revision), _) => cache.wait_for(revision).await?,
        (None, "0") => {}
        (None, "") => {
            cache.wait_until_current().await?;
        }
        (None, version) => cache.wait_for(parse_version(version)?).await?,
    }
    let shard = cache.shard(&row).await?;
    let selection = Selection::parse(
        &row,
        &shard,
        &call.target.namespace,
        &options.label_selector,
        &options.field_selector,
    )?;
    let page = match exact {
        Some(revision) => match present(&shard, &selection, after.as_deref(), limit, revision, cache.revision()) {
            Some(page) => page,
            None => match past(call, &shard, &selection, after.as_deref(), limit, revision).await {
                Err(Error::Compacted { .. }) => return Err(too_old(token.as_ref())),
                other => other.map_err(|e| store_failed(&e))?,
            },
        },
        None => now(&shard, &selection, after.as_deref(), limit, cache.revision())?,
    };
    finish(call, &selection, page)
}

/// Some items at a revision.
struct Page {
    items: Vec<Arc<Item>>,
    revision: u64,
    /// There are more, after this key.
    more: Option<Arc<str>>,
    remaining: u64,
}

fn now(shard: &Shard, selection: &Selection, after: Option<&str>, limit: usize, fed: u64) -> Result<Page, Status> {
    let found = shard
        .snapshot(selection, after, limit, fed)
        .ok_or_else(|| Status::unavailable("the watch cache is starting afresh: try again"))?;
    Ok(Page {
        items: found.items,
        revision: found.revision,
        more: found.more,
        remaining: found.remaining,
    })
}

/// A page at a past revision that is still what is there now, because nothing changed since.
fn present(
    shard: &Shard,
    selection: &Selection,
    after: Option<&str>,
    limit: usize,
    revision: u64,
    fed: u64,
) -> Option<Page> {
    if shard.revision()? > revision {
        return None;
    }
    let page = now(shard, selection, after, limit, fed).ok()?;
    // A change between the two looks shows in the shard's revision.
    (shard.revision()? <= revision).then_some(Page { revision, ..page })
}

/// A page from the store's history.
async fn past(
    call: &Call<'_>,
    shard: &Shard,
    selection: &Selection,
    after: Option<&str>,
    limit: usize,
    revision: u64,
) -> Result<Page, Error> {
    let mut page = Page {
        items: Vec::new(),
        revision,
        more: None,
        remaining: 0,
    };
    let mut after = after.map(str::to_owned);
    loop {
        let wanted = match limit {
            0 => PAST_PAGE,
            limit if selection.is_everything() => limit - page.items.len(),
            _ => PAST_PAGE,
        };
        let options = StoreList {
            prefix: selection.prefix().to_owned(),
            after: after.take(),
            limit: wanted,
            revision: Some(revision),
        };
        let found = call.core.store.list(options).await?;
        let count = found.items.len();
        for (i, kv) in found.items.iter().enumerate() {
            let known = shard.get(&kv.key).filter(|k| k.object.revision() == kv.mod_revision);
            let Some(item) = known.or_else(|| shard::item(kv).map(Arc::new)) else {
                continue;
            };
            if selection.covers(&kv.key) && selection.matches(&item) {
                page.items.push(item);
                if limit > 0 && page.items.len() == limit {
                    page.remaining = (count - i - 1) as u64 + found.remaining;
                    page.more = (page.remaining > 0).then(|| kv.key.clone());
                    return Ok(page);
                }
            }
        }
        match found.items.last() {
            Some(last) if found.more => after = Some(last.key.to_string()),
            _ => return Ok(page),
        }
    }
}

fn finish(call: &Call<'_>, selection: &Selection, page: Page) -> Result<ObjectList, Status> {
    let row = &call.row;
    let prefix = row.key_prefix("");
    let continue_token = match &page.more {
        Some(key) => {
            let revision = i64::try_from(page.revision).unwrap_or(i64::MAX);
            ContinueToken::encode(revision, key.strip_prefix(&prefix).unwrap_or(key))
        }
        None => String::new(),
    };
    let items = if read::is_stored_version(row) && row.convert.is_none() {
        page.items.into_iter().map(|i| i.object.clone()).collect()
    } else {
        let converted: Result<Vec<Arc<StoredObject>>, Status> =
            page.items.iter().map(|i| read::in_version(row, &i.object)).collect();
        converted?
    };
    // How many remain is known only when nothing is selected among them.
    let remaining = (page.more.is_some() && selection.is_everything()).then_some(page.remaining);
    Ok(ObjectList {
        items,
        revision: page.revision,
        continue_token,
        remaining,
    })
}

/// The page's revision has been compacted.
fn too_old(token: Option<&ContinueToken>) -> Status {
    let Some(token) = token else {
        return Status::expired("The resourceVersion for the provided list is too old.");
    };
    let text = "The provided continue parameter is too old to display a consistent list result. You can start a new list \
                without the continue parameter, or use the continue token in this response to retrieve the remainder of \
                the results. Continuing with the provided token results in an inconsistent list - objects that were \
                created, modified, or deleted between the time the first chunk was returned and now may show up in the \
                list.";
    let mut status = Status::expired(text);
    status.continue_token = ContinueToken::encode(-1, &token.after);
    status
}

/// A resourceVersion in a request.
fn parse_version(text: &str) -> Result<u64, Status> {
    version(text).map_err(|why| Status::bad_request(format!("invalid resource version: {why}")))
}

/// The same of a watch or of one object, where upstream takes what is none for its own fault.
pub(crate) fn known_version(text: &str) -> Result<u64, Status> {
    version(text).map_err(|why| Status::failure(500, "", why))
}

/// A resourceVersion, or what is wrong with it.
fn version(text: &str) -> Result<u64, String> {
    use std::num::IntErrorKind;
    let why = match text.parse::<u64>() {
        Ok(version) if !text.starts_with('+') => return Ok(version),
        Err(error) if *error.kind() == IntErrorKind::PosOverflow => "value out of range",
        _ => "invalid syntax",
    };
    Err(format!(
        "resourceVersion: Invalid value: {text:?}: strconv.ParseUint: parsing {text:?}: {why}"
    ))
}

fn check_options(options: &ListOptions) -> Result<(), Status> {
    check::typed_list_options(options, false)?;
    if !options.continue_token.is_empty() && !matches!(options.resource_version.as_str(), "" | "0") {
        return Err(Status::bad_request(
            "specifying resource version is not allowed when using continue",
        ));
    }
    Ok(())
}
