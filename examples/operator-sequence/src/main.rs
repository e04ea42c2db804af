//! Runs the operator against the cluster of the current kubeconfig, or of the pod that it runs in.

use coracle_client::{Client, Config};
use coracle_clock::Clock;
use coracle_informer::CancellationToken;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().init();
    let clock = Clock::system();
    let client = Client::connect(Config::infer()?, clock)?;
    let shutdown = CancellationToken::new();
    let stop = shutdown.clone();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        stop.cancel();
    });
    operator_sequence::run(client, clock, shutdown).await;
    Ok(())
}
