//! `coracle get`: objects as the server's table, or as they are.

use anyhow::{Context, bail};
use coracle_client::{DynamicObject, ListOptions, WatchEvent};
use futures::StreamExt;
use serde_json::{Value, json};

use super::target::{Connection, block_on};
use crate::cli::Get;

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";

pub fn run(args: Get) -> anyhow::Result<()> {
    block_on(async {
        let connection = Connection::open(&args.target).await?;
        let (resource, names) = connection.parse(&args.what)?;
        let namespace = if args.all_namespaces {
            ""
        } else {
            connection.namespace.as_str()
        };
        let api = connection.api(resource, namespace);
        match args.output.as_deref() {
            None | Some("wide") => {
                let r = &resource.resource;
                let root = if r.group.is_empty() {
                    "/api".to_owned()
                } else {
                    format!("/apis/{}", r.group)
                };
                let scope = if r.namespaced && !namespace.is_empty() {
                    format!("/namespaces/{namespace}")
                } else {
                    String::new()
                };
                let collection = format!("{root}/{}{scope}/{}", r.version, r.plural);
                let wide = args.output.is_some();
                let paths = if names.is_empty() {
                    vec![format!("{collection}?labelSelector={}", encode(&args.selector))]
                } else {
                    names.iter().map(|n| format!("{collection}/{}", encode(n))).collect()
                };
                let mut rows = Vec::new();
                let mut columns = Vec::new();
                for path in paths {
                    let body = connection.client.raw(&path, TABLE).await?;
                    let table: Value = serde_json::from_slice(&body).context("the server sent no table")?;
                    columns = table["columnDefinitions"].as_array().cloned().unwrap_or_default();
                    rows.extend(table["rows"].as_array().cloned().unwrap_or_default());
                }
                if rows.is_empty() {
                    eprintln!("no objects found");
                } else {
                    print_table(&columns, &rows, wide, namespace.is_empty() && r.namespaced);
                }
            }
            Some(format @ ("json" | "yaml" | "name")) => {
                let mut objects = Vec::new();
                if names.is_empty() {
                    let options = ListOptions {
                        label_selector: args.selector.clone(),
                        ..ListOptions::default()
                    };
                    objects.extend(api.list(&options).await?.items);
                }
                for name in &names {
                    objects.push(api.get(name).await?);
                }
                print_objects(&resource.resource, &objects, format, names.len() == 1)?;
            }
            Some(other) => bail!("unknown output {other:?}; use wide, json, yaml or name"),
        }
        if args.watch {
            follow(&api, &args.selector, &names).await?;
        }
        Ok(())
    })
}

fn encode(text: &str) -> String {
    let safe = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    text.bytes()
        .map(|b| {
            if safe(b) {
                (b as char).to_string()
            } else {
                format!("%{b:02X}")
            }
        })
        .collect()
}

fn print_table(columns: &[Value], rows: &[Value], wide: bool, with_namespace: bool) {
    let shown: Vec<usize> = (0..columns.len())
        .filter(|i| wide || columns[*i]["priority"].as_i64().unwrap_or(0) == 0)
        .collect();
    let mut lines: Vec<Vec<String>> = Vec::new();
    let mut header: Vec<String> = shown
        .iter()
        .map(|i| columns[*i]["name"].as_str().unwrap_or_default().to_uppercase())
        .collect();
    if with_namespace {
        header.insert(0, "NAMESPACE".into());
    }
    lines.push(header);
    for row in rows {
        let cell = |i: &usize| match &row["cells"][*i] {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            other => other.to_string(),
        };
        let mut line: Vec<String> = shown.iter().map(cell).collect();
        if with_namespace {
            line.insert(
                0,
                row.pointer("/object/metadata/namespace")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .into(),
            );
        }
        lines.push(line);
    }
    let width = |column: usize| lines.iter().map(|l| l[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..lines[0].len()).map(width).collect();
    for line in &lines {
        let padded: Vec<String> = line.iter().zip(&widths).map(|(c, w)| format!("{c:<w$}")).collect();
        println!("{}", padded.join("   ").trim_end());
    }
}

fn print_objects(
    resource: &coracle_client::ApiResource,
    objects: &[std::sync::Arc<DynamicObject>],
    format: &str,
    single: bool,
) -> anyhow::Result<()> {
    if format == "name" {
        for object in objects {
            println!("{resource}/{}", object.metadata.name.as_deref().unwrap_or_default());
        }
        return Ok(());
    }
    let mut values = Vec::new();
    for object in objects {
        let mut value = serde_json::to_value(object.as_ref())?;
        value["apiVersion"] = json!(resource.api_version());
        value["kind"] = json!(resource.kind);
        values.push(value);
    }
    let out = match values.as_slice() {
        [one] if single => one.clone(),
        _ => json!({"apiVersion": "v1", "kind": "List", "items": values}),
    };
    if format == "json" {
        println!("{}", serde_json::to_string_pretty(&out)?);
    } else {
        print!("{}", serde_saphyr::to_string(&out)?);
    }
    Ok(())
}

async fn follow(api: &coracle_client::Api<DynamicObject>, selector: &str, names: &[&str]) -> anyhow::Result<()> {
    let list = api
        .list(&ListOptions {
            label_selector: selector.to_owned(),
            ..ListOptions::default()
        })
        .await?;
    let mut revision = list.revision.to_string();
    loop {
        let options = ListOptions {
            label_selector: selector.to_owned(),
            resource_version: revision.clone(),
            ..ListOptions::default()
        };
        let mut events = api.watch(&options).await?;
        while let Some(event) = events.next().await {
            let (verb, object) = match event? {
                WatchEvent::Added(o) => ("added", o),
                WatchEvent::Modified(o) => ("modified", o),
                WatchEvent::Deleted(o) => ("deleted", o),
                WatchEvent::Bookmark { revision: r, .. } => {
                    revision = r.to_string();
                    continue;
                }
            };
            revision = object.metadata.resource_version.clone().unwrap_or_default();
            let name = object.metadata.name.as_deref().unwrap_or_default();
            if names.is_empty() || names.contains(&name) {
                println!("{verb} {}/{name}", api.resource());
            }
        }
    }
}
