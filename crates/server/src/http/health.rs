//! `/healthz`, `/livez`, `/readyz`: named checks, together or one by one, with exclusions and details.

use std::sync::Arc;

use coracle_api::status::Status;

use super::{Answer, Inbound, plain};
use crate::core::Core;

const TEXT: &str = "text/plain; charset=utf-8";

/// A check's name and what is wrong, if anything.
type Check = (String, Result<(), String>);

async fn checks(core: &Arc<Core>, ready: bool) -> Vec<Check> {
    let store = match core.store.status().await {
        Ok(status) => status.failure.map_or(Ok(()), Err),
        Err(error) => Err(error.to_string()),
    };
    let mut all: Vec<Check> = vec![
        ("ping".into(), Ok(())),
        ("log".into(), Ok(())),
        ("etcd".into(), store.clone()),
    ];
    if ready {
        all.push(("etcd-readiness".into(), store));
        all.push(("informer-sync".into(), Ok(())));
    }
    for (name, met) in core.ready.conditions() {
        let state = if met || !ready {
            Ok(())
        } else {
            Err("not finished".to_owned())
        };
        all.push((name, state));
    }
    if ready {
        let down = core.shutdown.is_cancelled();
        all.push((
            "shutdown".into(),
            if down {
                Err("process is shutting down".into())
            } else {
                Ok(())
            },
        ));
    }
    all
}

/// `inbound`'s path begins with one of the three endpoints.
pub(crate) async fn serve(core: &Arc<Core>, inbound: &Inbound) -> Result<Answer, Status> {
    let path = inbound.info.path.trim_matches('/');
    let (endpoint, one) = path.split_once('/').unwrap_or((path, ""));
    let all = checks(core, endpoint == "readyz").await;
    if !one.is_empty() {
        let found = all.iter().find(|(name, _)| name == one);
        let (_, state) = found.ok_or_else(Status::no_such_resource)?;
        return Ok(match state {
            Ok(()) => plain(200, TEXT, "ok"),
            Err(error) => plain(500, TEXT, format!("internal server error: {error}\n")),
        });
    }
    let excluded: Vec<&str> = inbound.query.all("exclude").collect();
    let mut out = String::new();
    let mut failed = false;
    for (name, state) in &all {
        if excluded.contains(&name.as_str()) {
            out.push_str(&format!("[+]{name} excluded: ok\n"));
            continue;
        }
        match state {
            Ok(()) => out.push_str(&format!("[+]{name} ok\n")),
            Err(_) => {
                failed = true;
                out.push_str(&format!("[-]{name} failed: reason withheld\n"));
            }
        }
    }
    for name in excluded.iter().filter(|name| !all.iter().any(|(n, _)| n == **name)) {
        out.push_str(&format!(
            "warn: some health checks cannot be excluded: no matches for {name:?}\n"
        ));
    }
    if failed {
        out.push_str(&format!("{endpoint} check failed\n"));
        return Ok(plain(500, TEXT, out));
    }
    if inbound.query.get("verbose").is_some() {
        out.push_str(&format!("{endpoint} check passed\n"));
        return Ok(plain(200, TEXT, out));
    }
    Ok(plain(200, TEXT, "ok"))
}
