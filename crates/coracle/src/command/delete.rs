//! `coracle delete`: objects by name, by label or by manifest.

use anyhow::bail;
use coracle_client::discovery::Discovered;
use coracle_client::{DeleteOptions, ListOptions, Propagation};

use super::target::{Connection, block_on, identity, read_manifests};
use super::wait::until_gone;
use crate::cli::Delete;

pub fn run(args: Delete) -> anyhow::Result<()> {
    let propagation = match args.cascade.as_str() {
        "background" => Propagation::Background,
        "foreground" => Propagation::Foreground,
        "orphan" => Propagation::Orphan,
        other => bail!("unknown cascade {other:?}; use background, foreground or orphan"),
    };
    block_on(async {
        let connection = Connection::open(&args.target).await?;
        let mut doomed: Vec<(&Discovered, String, String)> = Vec::new();
        let manifests = if args.filename.is_empty() {
            Vec::new()
        } else {
            read_manifests(&args.filename)?
        };
        for manifest in &manifests {
            let (api_version, kind, namespace, name) = identity(manifest)?;
            let namespace = if namespace.is_empty() {
                connection.namespace.as_str()
            } else {
                namespace
            };
            doomed.push((
                connection.resource_of(api_version, kind)?,
                namespace.to_owned(),
                name.to_owned(),
            ));
        }
        if !args.what.is_empty() {
            let (resource, names) = connection.parse(&args.what)?;
            let namespace = connection.namespace.clone();
            if names.is_empty() {
                if args.selector.is_empty() {
                    bail!("name what to delete, or select it with -l");
                }
                let options = ListOptions {
                    label_selector: args.selector.clone(),
                    ..ListOptions::default()
                };
                for object in connection.api(resource, &namespace).list(&options).await?.items {
                    doomed.push((
                        resource,
                        namespace.clone(),
                        object.metadata.name.clone().unwrap_or_default(),
                    ));
                }
            }
            doomed.extend(names.into_iter().map(|n| (resource, namespace.clone(), n.to_owned())));
        }
        if doomed.is_empty() {
            println!("no objects found");
        }
        for (resource, namespace, name) in &doomed {
            let options = DeleteOptions {
                propagation: Some(propagation),
                ..DeleteOptions::default()
            };
            connection.api(resource, namespace).delete(name, &options).await?;
            println!("{}/{name} deleted", resource.resource);
        }
        if !args.no_wait {
            for (resource, namespace, name) in &doomed {
                until_gone(&connection.api(resource, namespace), name).await?;
            }
        }
        Ok(())
    })
}
