//! The user's kubeconfig: `up` merges a context into it, `down --delete` takes it out again. Everything else in the file
//! stays.

use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

/// Where a context was written to.
#[derive(Debug, Serialize, Deserialize)]
pub struct Merged {
    pub file: PathBuf,
    pub name: String,
}

/// The file kubectl would write to: the first of $KUBECONFIG, or ~/.kube/config.
pub fn default_path() -> anyhow::Result<PathBuf> {
    let listed = std::env::var_os("KUBECONFIG").unwrap_or_default();
    if let Some(first) = std::env::split_paths(&listed).find(|p| !p.as_os_str().is_empty()) {
        return Ok(first);
    }
    let home = std::env::var_os("HOME").context("HOME is not set; say where with --kubeconfig")?;
    Ok(Path::new(&home).join(".kube/config"))
}

fn read(path: &Path) -> anyhow::Result<Value> {
    match std::fs::read_to_string(path) {
        Ok(text) if text.trim().is_empty() => Ok(json!({})),
        Ok(text) => serde_saphyr::from_str(&text)
            .with_context(|| format!("{} is not a kubeconfig; mend it or use --kubeconfig", path.display())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(json!({})),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Writes beside the file and renames, readable by its owner alone.
fn write(path: &Path, config: &Value) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let dir = path
        .parent()
        .filter(|p| !p.as_os_str().is_empty())
        .unwrap_or(Path::new("."));
    std::fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let text = serde_saphyr::to_string(config).context("cannot write the kubeconfig as YAML")?;
    let beside = path.with_extension(format!("coracle-{}", std::process::id()));
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&beside)
        .with_context(|| format!("cannot write {}", beside.display()))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    std::fs::rename(&beside, path).with_context(|| format!("cannot replace {}", path.display()))
}

const LISTS: [&str; 3] = ["clusters", "contexts", "users"];

/// Puts the entries of `admin` (one cluster, context and user) into the file under `name` and makes it current.
pub fn merge(path: &Path, admin: &Value, name: &str) -> anyhow::Result<()> {
    let mut config = read(path)?;
    put_entries(&mut config, admin, name);
    config["apiVersion"] = json!("v1");
    config["kind"] = json!("Config");
    config["current-context"] = json!(name);
    write(path, &config)
}

/// Brings the entries under `name` up to date, if the file still has them; which context is current is the user's.
pub fn refresh(path: &Path, admin: &Value, name: &str) -> anyhow::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let mut config = read(path)?;
    let has = |list: &str| {
        let entries = config[list].as_array();
        entries.is_some_and(|all| all.iter().any(|e| e["name"] == json!(name)))
    };
    if !has("users") {
        return Ok(());
    }
    put_entries(&mut config, admin, name);
    write(path, &config)
}

fn put_entries(config: &mut Value, admin: &Value, name: &str) {
    remove_entries(config, name);
    for list in LISTS {
        let mut entry = admin[list][0].clone();
        entry["name"] = json!(name);
        if list == "contexts" {
            entry["context"]["cluster"] = json!(name);
            entry["context"]["user"] = json!(name);
        }
        match config[list].as_array_mut() {
            Some(entries) => entries.push(entry),
            None => config[list] = json!([entry]),
        }
    }
}

/// Takes the context out of the file; a file left without contexts that only we wrote is removed.
pub fn remove(path: &Path, name: &str) -> anyhow::Result<()> {
    if !path.exists() {
        return Ok(());
    }
    let mut config = read(path)?;
    remove_entries(&mut config, name);
    if config["current-context"] == json!(name) {
        config["current-context"] = json!("");
    }
    let empty = LISTS.iter().all(|l| config[*l].as_array().is_none_or(Vec::is_empty));
    if empty {
        return std::fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display()));
    }
    write(path, &config)
}

fn remove_entries(config: &mut Value, name: &str) {
    for list in LISTS {
        if let Some(entries) = config[list].as_array_mut() {
            entries.retain(|e| e["name"] != json!(name));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admin() -> Value {
        json!({
            "clusters": [{"name": "x", "cluster": {"server": "https://127.0.0.1:6443"}}],
            "contexts": [{"name": "x", "context": {"cluster": "x", "user": "x"}}],
            "users": [{"name": "x", "user": {"token": "t"}}],
        })
    }

    #[test]
    fn a_context_comes_and_goes_and_leaves_the_others_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        std::fs::write(
            &path,
            "apiVersion: v1\nkind: Config\ncurrent-context: mine\nclusters: [{name: mine, cluster: {}}]\n\
             contexts: [{name: mine, context: {cluster: mine, user: mine}}]\nusers: [{name: mine, user: {}}]\n",
        )
        .unwrap();
        merge(&path, &admin(), "coracle").unwrap();
        merge(&path, &admin(), "coracle").unwrap();
        let config = read(&path).unwrap();
        assert_eq!(config["current-context"], "coracle");
        assert_eq!(config["contexts"].as_array().unwrap().len(), 2);
        assert_eq!(config["contexts"][1]["context"]["user"], "coracle");
        remove(&path, "coracle").unwrap();
        let config = read(&path).unwrap();
        assert_eq!(config["contexts"].as_array().unwrap().len(), 1);
        assert_eq!(config["clusters"][0]["name"], "mine");
    }

    #[test]
    fn a_refreshed_context_stays_where_it_is_and_one_that_was_taken_out_stays_out() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let mut renewed = admin();
        renewed["users"][0]["user"]["token"] = "t2".into();
        refresh(&path, &renewed, "coracle").unwrap();
        assert!(!path.exists());
        merge(&path, &admin(), "coracle").unwrap();
        let mut config = read(&path).unwrap();
        config["current-context"] = "mine".into();
        write(&path, &config).unwrap();
        refresh(&path, &renewed, "other").unwrap();
        assert_eq!(read(&path).unwrap(), config);
        refresh(&path, &renewed, "coracle").unwrap();
        let config = read(&path).unwrap();
        assert_eq!(config["users"][0]["user"]["token"], "t2");
        assert_eq!(config["current-context"], "mine");
    }

    #[test]
    fn a_file_that_was_ours_alone_is_removed_and_one_that_is_no_kubeconfig_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        merge(&path, &admin(), "coracle").unwrap();
        remove(&path, "coracle").unwrap();
        assert!(!path.exists());
        std::fs::write(&path, "a: [b").unwrap();
        assert!(
            merge(&path, &admin(), "coracle")
                .unwrap_err()
                .to_string()
                .contains("not a kubeconfig")
        );
        assert_eq!(
            std::fs::read_to_string(&path).unwrap(),
            "a: [b",
            "a file that cannot be read is left as it is"
        );
    }
}
