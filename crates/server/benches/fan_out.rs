//! One write, seen by every watcher: the whole road of a patch, the commit, and the event's way to 1, 100 and 1,000
//! watchers in process. The store is in memory.
//!
//! ```sh
//! cargo bench -p coracle-server
//! ```
#![expect(clippy::unwrap_used, reason = "a benchmark may stop")]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;

use coracle_api::object::Object;
use coracle_api::service::{
    Answer, ListOptions, Operation, PatchKind, Request, Service, Target, UserInfo, WatchStream, WriteOptions,
};
use coracle_server::{ApiServer, RunningServer, ServerOptions};
use coracle_store::Embedded;
use divan::Bencher;
use divan::counter::ItemsCount;
use futures::StreamExt;
use serde_json::json;
use tokio::runtime::Runtime;

fn main() {
    divan::main();
}

struct Bench {
    server: RunningServer,
    api: ApiServer,
    user: UserInfo,
    written: u64,
    _dir: tempfile::TempDir,
}

impl Bench {
    async fn start() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let mut options = ServerOptions::new(Arc::new(Embedded::in_memory()), dir.path());
        options.bind = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let server = ApiServer::start(options).await.unwrap();
        let user = UserInfo {
            name: "bench".into(),
            groups: vec!["system:masters".into()],
            ..UserInfo::default()
        };
        let bench = Self {
            api: server.service(),
            server,
            user,
            written: 0,
            _dir: dir,
        };
        let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "ticker"}, "data": {"n": "0"}});
        let create = Operation::Create {
            object: Object::from_value(map).unwrap(),
            options: WriteOptions::default(),
        };
        bench.call("", create).await;
        bench
    }

    async fn call(&self, name: &str, operation: Operation) -> Answer {
        let target = Target {
            version: "v1".into(),
            resource: "configmaps".into(),
            namespace: "default".into(),
            name: name.into(),
            ..Target::default()
        };
        self.api
            .call(&self.user, Request { target, operation })
            .await
            .unwrap()
            .answer
    }

    async fn watch(&self) -> WatchStream {
        let Answer::List(list) = self.call("", Operation::List(ListOptions::default())).await else {
            unreachable!("a list is answered by a list");
        };
        let options = ListOptions {
            resource_version: list.revision.to_string(),
            ..ListOptions::default()
        };
        match self.call("", Operation::Watch(options)).await {
            Answer::Watch(stream) => stream,
            _ => unreachable!("a watch is answered by a watch"),
        }
    }

    async fn write(&mut self) {
        self.written += 1;
        let patch = Operation::Patch {
            kind: PatchKind::Merge,
            patch: json!({"data": {"n": self.written.to_string()}}),
            options: WriteOptions::default(),
        };
        self.call("ticker", patch).await;
    }
}

#[divan::bench(args = [1, 100, 1000])]
fn one_write(bencher: Bencher<'_, '_>, watchers: usize) {
    let runtime = Runtime::new().unwrap();
    let mut bench = runtime.block_on(Bench::start());
    let mut streams = runtime.block_on(async {
        let mut streams = Vec::new();
        for _ in 0..watchers {
            streams.push(bench.watch().await);
        }
        streams
    });
    bencher.counter(ItemsCount::new(watchers)).bench_local(|| {
        runtime.block_on(async {
            bench.write().await;
            for stream in &mut streams {
                stream.next().await.unwrap().unwrap();
            }
        });
    });
    drop(streams);
    runtime.block_on(bench.server.shutdown());
}
