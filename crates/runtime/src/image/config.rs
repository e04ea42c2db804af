//! An image's configuration and how a container's own settings override it. Pure.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use crate::error::{Error, Result};

/// What programs usually expect to find when neither image nor container says.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// The execution settings of an image.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct ImageConfig {
    #[serde(deserialize_with = "or_default")]
    pub user: String,
    #[serde(deserialize_with = "or_default")]
    pub env: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub entrypoint: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub cmd: Vec<String>,
    #[serde(deserialize_with = "or_default")]
    pub working_dir: String,
    #[serde(deserialize_with = "or_default")]
    pub stop_signal: String,
    #[serde(deserialize_with = "or_default")]
    pub volumes: BTreeMap<String, serde_json::Value>,
    #[serde(deserialize_with = "or_default")]
    pub labels: BTreeMap<String, String>,
    #[serde(deserialize_with = "or_default")]
    pub exposed_ports: BTreeMap<String, serde_json::Value>,
}

/// The file that an image id is the digest of.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ConfigFile {
    #[serde(default)]
    pub(crate) os: String,
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) config: ImageConfig,
    pub(crate) rootfs: RootFs,
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct RootFs {
    #[serde(default, deserialize_with = "or_default")]
    pub(crate) diff_ids: Vec<String>,
}

impl ConfigFile {
    pub(crate) fn parse(bytes: &[u8], what: &str) -> Result<Self> {
        serde_json::from_slice(bytes).map_err(|error| Error::corrupt(format!("configuration of {what}"), error))
    }
}

/// Go writes absent lists as null.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

/// The command line: `command` replaces the entrypoint and drops the image's command, `args` replaces the latter.
pub(crate) fn command_line(image: &ImageConfig, command: &[String], args: &[String]) -> Vec<String> {
    let (first, rest) = if !command.is_empty() {
        (command, args)
    } else if !args.is_empty() {
        (&image.entrypoint[..], args)
    } else {
        (&image.entrypoint[..], &image.cmd[..])
    };
    first.iter().chain(rest).cloned().collect()
}

/// The environment: the image's, then the container's; a later value replaces an earlier one in its place.
pub(crate) fn environment(image: &ImageConfig, own: &[(String, String)]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let from_image = image
        .env
        .iter()
        .map(|entry| entry.split_once('=').unwrap_or((entry, "")));
    let from_own = own.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    for (name, value) in [("PATH", DEFAULT_PATH)].into_iter().chain(from_image).chain(from_own) {
        if values.insert(name.to_owned(), value.to_owned()).is_none() {
            names.push(name.to_owned());
        }
    }
    names
        .into_iter()
        .map(|name| format!("{name}={}", values[&name]))
        .collect()
}

/// A signal by number, or by name with or without `SIG`.
pub(crate) fn parse_signal(signal: &str) -> Option<i32> {
    use nix::libc;
    let name = signal.trim().to_ascii_uppercase();
    if let Ok(number) = name.parse::<i32>() {
        return (1..=64).contains(&number).then_some(number);
    }
    let name = name.strip_prefix("SIG").unwrap_or(&name);
    let (base, offset) = match name.split_once(['+', '-']) {
        Some((base, offset)) => (base, offset.parse::<i32>().ok()?),
        None => (name, 0),
    };
    let number = match base {
        "RTMIN" if name.contains('+') || offset == 0 => libc::SIGRTMIN() + offset,
        "RTMAX" => libc::SIGRTMAX() - offset,
        _ => format!("SIG{name}").parse::<nix::sys::signal::Signal>().ok()? as i32,
    };
    (1..=64).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn strings(list: &[&str]) -> Vec<String> {
        list.iter().map(|s| (*s).to_owned()).collect()
    }

    #[test]
    fn command_and_args_override_the_image_as_kubernetes_documents() {
        let image = ImageConfig {
            entrypoint: strings(&["/ep"]),
            cmd: strings(&["foo", "bar"]),
            ..ImageConfig::default()
        };
        for (command, args, expected) in [
            (&[][..], &[][..], &["/ep", "foo", "bar"][..]),
            (&["/cmd"], &[], &["/cmd"]),
            (&[], &["zoo", "boo"], &["/ep", "zoo", "boo"]),
            (&["/cmd"], &["zoo"], &["/cmd", "zoo"]),
        ] {
            assert_eq!(
                command_line(&image, &strings(command), &strings(args)),
                strings(expected)
            );
        }
    }

    #[test]
    fn the_containers_environment_wins_and_a_path_is_always_there() {
        let image = ImageConfig {
            env: strings(&["A=1", "B=2=3"]),
            ..ImageConfig::default()
        };
        let own = [("A".to_owned(), "x".to_owned()), ("C".to_owned(), String::new())];
        assert_eq!(
            environment(&image, &own),
            [&format!("PATH={DEFAULT_PATH}"), "A=x", "B=2=3", "C="]
        );
        let image = ImageConfig {
            env: strings(&["PATH=/bin"]),
            ..ImageConfig::default()
        };
        assert_eq!(environment(&image, &[]), ["PATH=/bin"]);
    }

    #[test]
    fn signals_are_known_by_number_and_by_name() {
        assert_eq!(parse_signal("SIGQUIT"), Some(3));
        assert_eq!(parse_signal("quit"), Some(3));
        assert_eq!(parse_signal("9"), Some(9));
        assert_eq!(parse_signal("SIGRTMIN+3"), Some(nix::libc::SIGRTMIN() + 3));
        assert_eq!(parse_signal("SIGNONSENSE"), None);
        assert_eq!(parse_signal("900"), None);
    }

    #[test]
    fn nulls_in_a_configuration_are_absent_values() {
        let file = br#"{"architecture":"amd64","os":"linux","config":{"Env":null,"Cmd":["sh"],"Volumes":null},
            "rootfs":{"type":"layers","diff_ids":["sha256:aa"]}}"#;
        let parsed = ConfigFile::parse(file, "x").unwrap();
        assert_eq!(parsed.config.cmd, ["sh"]);
        assert!(parsed.config.env.is_empty());
    }
}
