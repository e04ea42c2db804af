//! How fast an image comes from a registry into its directories, and how fast containerd does the same in turn.

use std::time::Duration;

use coracle_clock::Clock;

use crate::containerd::Containerd;
use crate::figure::Measured;
use crate::latency::Latencies;
use crate::process::program;
use crate::registry::Registry;
use crate::row::{Bench, Row};
use crate::server::{Nodes, Unavailable};
use crate::workload::count;

pub const ROW: Row = Row {
    name: "image-pull",
    about: "an image of --image-mib in thousands of files, from a registry on this machine: pulled, verified and unpacked, in turn with containerd",
    budgets: &[],
    run: |bench| Box::pin(run(bench)),
};

const ROUNDS: usize = 5;

async fn run(bench: &Bench) -> anyhow::Result<Measured> {
    if !bench.target.is_own() {
        return Unavailable::because("needs a node of our own, which is told to pull");
    }
    for (name, package) in [
        ("docker-registry", "docker-registry"),
        ("skopeo", "skopeo"),
        ("containerd", "containerd"),
        ("ctr", "containerd"),
    ] {
        if program(name).is_none() {
            return Unavailable::because(format!("needs `{name}`, to compare with: apt-get install {package}"));
        }
    }
    let server = bench.serve(Nodes::Real).await?;
    let directory = tempfile::Builder::new()
        .prefix("coracle-bench-")
        .tempdir_in(&bench.target.data_root)?;
    let registry = Registry::start(&directory, bench.options.image_mib).await?;
    let containerd = Containerd::start(&directory).await?;
    let image = &registry.reference;

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let own = timed(async { server.coracle(&["image", "pull", image]).await }).await?;
        server.coracle(&["image", "rm", image]).await?;
        let other = timed(async { containerd.pull(image).await }).await?;
        containerd.remove(image).await?;
        // In the first round the registry reads from the disk.
        if round > 0 {
            ours.push(own);
            theirs.push(other);
        }
    }
    containerd.end().await?;
    let rate = |times: Vec<Duration>| registry.bytes as f64 / 1e3 / Latencies::new(times).percentile(50.0);
    let (ours, theirs) = (rate(ours), rate(theirs));
    let mut measured = Measured::default();
    let what = format!("pull and unpack {} MiB", bench.options.image_mib);
    measured.gain(what.clone(), ours, "MB/s");
    measured.gain(format!("{what}, containerd's"), theirs, "MB/s");
    measured.gain(format!("{what}, compared with containerd"), ours / theirs, "×");
    measured.note(format!(
        "{} files in 6 layers, gzip; bytes are those unpacked; medians of {ROUNDS} pulls, in turn",
        count(registry.files)
    ));
    drop(registry);
    server.close().await?;
    Ok(measured)
}

async fn timed(work: impl Future<Output = anyhow::Result<()>>) -> anyhow::Result<Duration> {
    // What was written before must not be written out meanwhile.
    tokio::task::spawn_blocking(nix::unistd::sync).await?;
    let started = Clock::system().instant();
    work.await?;
    Ok(started.elapsed())
}
