//! A cluster without nodes that lives until Ctrl-C: prints the path of its kubeconfig.

use coracle_testkit::TestCluster;

#[tokio::main]
async fn main() -> Result<(), coracle_testkit::Error> {
    tracing_subscriber::fmt().with_writer(std::io::stderr).init();
    let cluster = TestCluster::start().await?;
    println!("{}", cluster.kubeconfig().display());
    tokio::signal::ctrl_c().await?;
    cluster.stop().await;
    Ok(())
}
