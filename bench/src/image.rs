//! The image that pods run: a name that was given, or one made from this machine's busybox and imported into the server's
//! node.

use std::path::Path;

use anyhow::{Context, bail};
use tokio::process::Command;

use crate::row::Bench;
use crate::server::{Server, Unavailable};

const OWN: &str = "demo/bench:v1";
/// The repository's own way to make one.
const SCRIPT: &str = include_str!("../../examples/build-image.sh");

/// The name of an image that is on the server's node.
pub async fn ready(bench: &Bench, server: &Server) -> anyhow::Result<String> {
    if let Some(image) = &bench.options.image {
        return Ok(image.clone());
    }
    if !bench.target.is_own() {
        return Unavailable::because("needs an image that is on the node, with `sleep` and `true`: --image");
    }
    let dir = tempfile::tempdir()?;
    let archive = dir.path().join("image.tar");
    build(&archive).await?;
    server.import(&archive).await?;
    Ok(OWN.into())
}

async fn build(archive: &Path) -> anyhow::Result<()> {
    let output = Command::new("bash")
        .args(["-c", SCRIPT, "build-image.sh", OWN])
        .arg(archive)
        .output()
        .await
        .context("cannot run bash")?;
    if !output.status.success() {
        bail!("no image was made: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
