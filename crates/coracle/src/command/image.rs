//! `coracle image`: the images of the node on this machine.

use anyhow::{Context, bail};

use super::progress::Progress;
use crate::cli::{Image, ImageVerb};
use crate::cluster::Cluster;
use crate::image_service::{Reply, Request, ask};

pub fn run(args: Image) -> anyhow::Result<()> {
    let cluster = Cluster::at(&args.place)?;
    if !cluster.dir.exists() {
        bail!(
            "there is no cluster in {}; start one with `coracle up`",
            cluster.dir.display()
        );
    }
    let request = match &args.verb {
        ImageVerb::Import { archive } => {
            let path = std::path::absolute(archive)?;
            std::fs::File::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
            Request::Import(path)
        }
        ImageVerb::Export { images, output } => Request::Export(images.clone(), std::path::absolute(output)?),
        ImageVerb::Pull { image } => Request::Pull(image.clone()),
        ImageVerb::Ls => Request::List,
        ImageVerb::Rm { image } => Request::Remove(image.clone()),
    };
    let progress = std::sync::Arc::new(Progress::new());
    let shown = progress.clone();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    let reply = runtime.block_on(ask(&cluster, request, move |text| shown.step(&text)))?;
    progress.clear();
    match reply {
        Reply::Names(names) => names.iter().for_each(|name| println!("{name}")),
        Reply::Images(images) => {
            println!("{:<50} {:<15} {:>10}", "IMAGE", "ID", "SIZE");
            for image in images {
                let id = image.id.trim_start_matches("sha256:");
                let short = id.get(..12).unwrap_or(id);
                let size = format!("{:.1} MiB", image.size as f64 / 1_048_576.0);
                for name in if image.names.is_empty() {
                    vec!["<none>".to_owned()]
                } else {
                    image.names
                } {
                    println!("{name:<50} {short:<15} {size:>10}");
                }
            }
        }
        Reply::Failed(why) => bail!(why),
        Reply::Progress(_) => {}
    }
    Ok(())
}
