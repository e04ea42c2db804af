//! What an autoscaler scales: any resource with a scale subresource, found by its kind.

use coracle_client::{ApiResource, Client};

/// The resource of a kind, in the version its group prefers.
pub async fn resource_of(client: &Client, api_version: &str, kind: &str) -> Result<ApiResource, String> {
    let group = match api_version.split_once('/') {
        Some((group, version)) if !version.contains('/') => group,
        Some(_) => return Err(format!("unexpected GroupVersion string: {api_version}")),
        None => "",
    };
    let found = client.discover().await.map_err(|e| e.to_string())?;
    let mut of_kind: Vec<_> = found
        .into_iter()
        .filter(|d| d.resource.group == group && d.resource.kind == kind)
        .collect();
    of_kind.sort_by_key(|d| !d.preferred);
    let first = of_kind.into_iter().next();
    first
        .map(|d| d.resource)
        .ok_or_else(|| format!("no matches for kind {kind:?} in group {group:?}"))
}
