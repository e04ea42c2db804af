//! Runs the operator against the cluster of the current kubeconfig, or of the pod that it runs in.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    tracing_subscriber::fmt().init();
    let client = kube::Client::try_default().await?;
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    tokio::spawn(async move {
        let _ = tokio::signal::ctrl_c().await;
        drop(stop);
    });
    let shutdown = async move {
        let _ = stopped.await;
    };
    operator_kube_rs::run(client, shutdown).await;
    Ok(())
}
