//! `coracle apply`: server-side apply of manifests.

use coracle_client::Patch;

use super::target::{Connection, block_on, identity, read_manifests};
use crate::cli::Apply;

pub fn run(args: Apply) -> anyhow::Result<()> {
    let manifests = read_manifests(&args.filename)?;
    block_on(async {
        let connection = Connection::open(&args.target).await?;
        for manifest in manifests {
            let (api_version, kind, namespace, name) = identity(&manifest)?;
            let resource = connection.resource_of(api_version, kind)?;
            let namespace = if namespace.is_empty() {
                connection.namespace.as_str()
            } else {
                namespace
            };
            let api = connection.api(resource, namespace);
            let before = api.find(name).await?.map(|o| o.metadata.resource_version.clone());
            let after = api
                .patch(
                    name,
                    Patch::Apply {
                        object: manifest.clone(),
                        force: false,
                    },
                )
                .await?;
            let verb = match before {
                None => "created",
                Some(version) if version == after.metadata.resource_version => "unchanged",
                Some(_) => "configured",
            };
            println!("{}/{name} {verb}", resource.resource);
        }
        Ok(())
    })
}
