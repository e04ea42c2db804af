//! Opens watches: where one begins, how long it lasts.

use std::time::Duration;

use coracle_api::service::ListOptions;
use coracle_api::status::Status;

use super::list::known_version;
use super::{Call, check};
use crate::cache::{Selection, Start, Watcher};

/// A watch without a timeout ends after this and up to twice this, so that clients do not all come back together.
const SHORTEST: Duration = Duration::from_secs(1800);

/// See the module.
pub(crate) async fn watch(call: &mut Call<'_>, options: &ListOptions) -> Result<Watcher, Status> {
    check::typed_list_options(options, true)?;
    let row = call.row.clone();
    let cache = call.core.cache.clone();
    let shard = cache.shard(&row).await?;
    let mut field_selector = options.field_selector.clone();
    if !call.target.name.is_empty() {
        // The deprecated watch of one object by its path.
        if !field_selector.is_empty() {
            field_selector.push(',');
        }
        field_selector.push_str("metadata.name=");
        field_selector.push_str(&call.target.name);
    }
    let selection = Selection::parse(
        &row,
        &shard,
        &call.target.namespace,
        &options.label_selector,
        &field_selector,
    )?;
    let version = options.resource_version.as_str();
    let start = match options.send_initial_events {
        Some(true) => {
            match version {
                "0" => {}
                "" => {
                    cache.wait_until_current().await?;
                }
                version => cache.wait_for(known_version(version)?).await?,
            }
            Start::Everything {
                closing_bookmark: options.allow_watch_bookmarks,
            }
        }
        Some(false) if matches!(version, "" | "0") => {
            cache.wait_until_current().await?;
            Start::Now
        }
        _ if version.is_empty() => {
            cache.wait_until_current().await?;
            Start::Everything {
                closing_bookmark: false,
            }
        }
        _ if version == "0" => Start::Everything {
            closing_bookmark: false,
        },
        _ => {
            let revision = known_version(version)?;
            cache.wait_for(revision).await?;
            Start::After(revision)
        }
    };
    let timeout = match options.timeout_seconds {
        Some(seconds) if seconds > 0 => Duration::from_secs(seconds.min(86_400 * 365)),
        _ => SHORTEST.mul_f64(1.0 + call.core.random.fraction()),
    };
    Watcher::open(cache, shard, selection, start, options.allow_watch_bookmarks, timeout)
}
