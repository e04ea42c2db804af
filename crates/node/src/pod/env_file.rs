//! Environment variables in a file of a volume (`fileKeyRef`), which containers have written: nothing of it is trusted.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::volume::sub_path;

/// As large as an object's data may be.
const MOST: u64 = 1 << 20;

/// The variables in the file at `path` inside the volume; none where there is no such file.
pub(crate) fn read(volume: &Path, path: &str) -> Result<Option<BTreeMap<String, String>>, String> {
    let failed = |error: io::Error| format!("couldn't read env file {path:?}: {error}");
    let Some(found) =
        sub_path::open_inside(volume, path).map_err(|e| format!("couldn't read env file {path:?}: {e}"))?
    else {
        return Ok(None);
    };
    if !found.metadata().map_err(failed)?.is_file() {
        return Err(format!("env file {path:?} is not a regular file"));
    }
    let mut text = String::new();
    let file = File::open(sub_path::by_descriptor(&found)).map_err(failed)?;
    file.take(MOST + 1).read_to_string(&mut text).map_err(failed)?;
    if text.len() as u64 > MOST {
        return Err(format!("env file {path:?} is larger than {MOST} bytes"));
    }
    let parsed = parse(&text).map_err(|reason| format!("couldn't parse env file {path:?}: {reason}"))?;
    Ok(Some(parsed))
}

/// `NAME='value'`, one after the other: a value is in single quotes, is taken as it is, and may have several lines. Between
/// them are blank lines and lines that begin with `#`. The last one of a name counts.
fn parse(text: &str) -> Result<BTreeMap<String, String>, String> {
    let mut variables = BTreeMap::new();
    let mut rest = text;
    loop {
        rest = rest.trim_start();
        if rest.is_empty() {
            return Ok(variables);
        }
        let at = || format!("line {}", text[..text.len() - rest.len()].matches('\n').count() + 1);
        if rest.starts_with('#') {
            rest = rest.split_once('\n').map_or("", |(_, after)| after);
            continue;
        }
        let line = rest.lines().next().unwrap_or_default();
        let (name, _) = line
            .split_once('=')
            .ok_or_else(|| format!("{}: there is no \"=\"", at()))?;
        let value = rest[name.len() + 1..].trim_start_matches([' ', '\t']);
        let name = name.trim_end();
        if name.is_empty() || name.contains(char::is_whitespace) {
            return Err(format!("{}: {name:?} is not the name of a variable", at()));
        }
        let quoted = value.strip_prefix('\'').and_then(|value| value.split_once('\''));
        let Some((value, after)) = quoted else {
            return Err(format!("{}: the value of {name} must be in single quotes", at()));
        };
        let (left, after) = after.split_once('\n').unwrap_or((after, ""));
        if !left.trim().is_empty() {
            return Err(format!("{}: there is something after the value of {name}", at()));
        }
        variables.insert(name.to_owned(), value.to_owned());
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_in_single_quotes_and_taken_as_they_are() {
        let text = "# comment\nDB_ADDRESS='address'\n\n  SPACED = 'a # b'\t\nMULTI='line1\n# line2'\nRAW='$(X) \\n \"'\nEMPTY=''\n\
                    DB_ADDRESS='again'";
        let found = parse(text).unwrap();
        let expected = [
            ("DB_ADDRESS", "again"),
            ("EMPTY", ""),
            ("MULTI", "line1\n# line2"),
            ("RAW", "$(X) \\n \""),
            ("SPACED", "a # b"),
        ];
        let found: Vec<_> = found.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(found, expected);
        assert!(parse(" \n#\n").unwrap().is_empty());
    }

    #[test]
    fn what_a_shell_would_take_otherwise_is_refused() {
        for (text, reason) in [
            ("VAR=value", "line 1: the value of VAR must be in single quotes"),
            ("VAR=\"value\"", "line 1: the value of VAR must be in single quotes"),
            ("A='1'\nVAR='open", "line 2: the value of VAR must be in single quotes"),
            ("VAR='a''b'", "line 1: there is something after the value of VAR"),
            ("VAR='a'$OTHER", "line 1: there is something after the value of VAR"),
            ("A='1\n2'\n\nVAR", "line 4: there is no \"=\""),
            ("='x'", "line 1: \"\" is not the name of a variable"),
            ("export VAR='x'", "line 1: \"export VAR\" is not the name of a variable"),
        ] {
            assert_eq!(parse(text), Err(reason.to_owned()), "{text}");
        }
    }

    #[test]
    fn a_file_is_looked_for_inside_its_volume_alone() {
        let dir = tempfile::tempdir().unwrap();
        let volume = dir.path().join("volume");
        std::fs::create_dir_all(volume.join("deep")).unwrap();
        std::fs::write(dir.path().join("secret"), "A='outside'").unwrap();
        std::fs::write(volume.join("deep/env"), "A='inside'").unwrap();
        std::os::unix::fs::symlink("../secret", volume.join("out")).unwrap();
        std::os::unix::fs::symlink("deep/env", volume.join("in")).unwrap();
        nix::unistd::mkfifo(&volume.join("pipe"), nix::sys::stat::Mode::S_IRWXU).unwrap();
        let found = |path: &str| read(&volume, path).map(|all| all.map(|all| all["A"].clone()));
        assert_eq!(found("deep/env"), Ok(Some("inside".into())));
        assert_eq!(found("in"), Ok(Some("inside".into())));
        assert_eq!(found("none"), Ok(None));
        assert!(found("out").unwrap_err().contains("leads out of the volume"));
        for other in ["pipe", "deep"] {
            assert!(found(other).unwrap_err().contains("is not a regular file"), "{other}");
        }
    }
}
