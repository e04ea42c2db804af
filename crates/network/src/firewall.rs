//! Masquerading for what pods send to the world: one nftables table per cluster, replaced as a whole. A machine without
//! `nft` still has a pod network, only without a way out; that is a warning.

use std::process::Stdio;

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::Cidr;

/// The rules of the cluster's table. `pods` is the node's range, `cluster` that of all pods.
pub(crate) fn rules(table: &str, bridge: &str, pods: Cidr, cluster: Cidr) -> String {
    format!(
        "add table ip {table}\n\
         delete table ip {table}\n\
         table ip {table} {{\n\
         \tchain postrouting {{\n\
         \t\ttype nat hook postrouting priority srcnat; policy accept;\n\
         \t\tip saddr {pods} ip daddr != {cluster} oifname != \"{bridge}\" masquerade\n\
         \t}}\n\
         }}\n"
    )
}

/// Installs the rules.
pub(crate) async fn install(table: &str, bridge: &str, pods: Cidr, cluster: Cidr) {
    if let Err(reason) = nft(&rules(table, bridge, pods, cluster)).await {
        tracing::warn!(
            table,
            reason,
            "pods cannot reach the world: install nft and kernel support for NAT"
        );
    }
}

/// Removes the cluster's table, if there is one.
pub(crate) async fn remove(table: &str) {
    if let Err(reason) = nft(&format!("add table ip {table}\ndelete table ip {table}\n")).await {
        tracing::warn!(table, reason, "the nftables table of the cluster may be left over");
    }
}

async fn nft(script: &str) -> Result<(), String> {
    let mut child = Command::new("nft")
        .args(["-f", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|e| format!("start nft: {e}"))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin
            .write_all(script.as_bytes())
            .await
            .map_err(|e| format!("write to nft: {e}"))?;
    }
    let output = child
        .wait_with_output()
        .await
        .map_err(|e| format!("wait for nft: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
}
