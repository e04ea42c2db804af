//! Runs an API server by itself, with no controllers and no nodes, for trying it by hand:
//! `cargo run -p coracle-server --example serve -- DIRECTORY [PORT]` writes `DIRECTORY/admin.kubeconfig`.

use std::path::PathBuf;
use std::sync::Arc;

use coracle_server::{ApiServer, ServerOptions};
use coracle_store::{Embedded, EmbeddedOptions, Store};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let clock = coracle_clock::Clock::system();
    let started = clock.instant();
    let mut arguments = std::env::args().skip(1);
    let dir = PathBuf::from(arguments.next().ok_or("say which directory to keep the data in")?);
    let port: u16 = arguments.next().map_or(Ok(0), |p| p.parse())?;
    let store: Arc<dyn Store> = Arc::new(Embedded::open(dir.join("store"), EmbeddedOptions::default()).await?);
    let mut options = ServerOptions::new(store, dir.join("pki"));
    options.bind.set_port(port);
    let server = ApiServer::start(options).await?;
    let took = clock.instant() - started;
    tokio::fs::write(dir.join("admin.kubeconfig"), server.admin_kubeconfig()).await?;
    eprintln!("{} ready after {took:?}", server.url());
    tokio::signal::ctrl_c().await?;
    server.shutdown().await;
    Ok(())
}
