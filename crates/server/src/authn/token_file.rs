//! The static token file: `token,user,uid,"group,group"`, a line each, read at the start.

use std::collections::HashMap;
use std::path::Path;

use coracle_api::service::UserInfo;
use sha2::{Digest, Sha256};

/// Users by the digest of their token, so that looking one up tells nothing of others.
#[derive(Default)]
pub(crate) struct TokenFile(HashMap<[u8; 32], UserInfo>);

impl TokenFile {
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|e| format!("the token file {} cannot be read: {e}", path.display()))?;
        Self::parse(&text).map_err(|(line, why)| format!("line {line} of the token file {}: {why}", path.display()))
    }

    pub fn parse(text: &str) -> Result<Self, (usize, String)> {
        let mut all = HashMap::new();
        for (i, line) in text.lines().enumerate() {
            let line_number = i + 1;
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let fields = fields(line).ok_or((line_number, "a quote is not closed".to_owned()))?;
            let [token, name, uid, rest @ ..] = fields.as_slice() else {
                let why = format!(
                    "there must be at least 3 columns (token, user, uid), found {}",
                    fields.len()
                );
                return Err((line_number, why));
            };
            if token.is_empty() || name.is_empty() {
                return Err((line_number, "token and user must not be empty".into()));
            }
            let groups = rest.first().map(String::as_str).unwrap_or_default();
            let mut groups: Vec<String> = groups
                .split(',')
                .map(str::trim)
                .filter(|g| !g.is_empty())
                .map(str::to_owned)
                .collect();
            groups.push(super::AUTHENTICATED.into());
            let user = UserInfo {
                name: name.clone(),
                uid: uid.clone(),
                groups,
                ..UserInfo::default()
            };
            if all.insert(digest(token), user).is_some() {
                tracing::warn!(line = line_number, "a token is there twice: the later line counts");
            }
        }
        Ok(Self(all))
    }

    pub fn user(&self, token: &str) -> Option<&UserInfo> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&digest(token))
    }
}

fn digest(token: &str) -> [u8; 32] {
    Sha256::digest(token.as_bytes()).into()
}

/// The columns of a line; `None` if a quoted one does not end.
fn fields(line: &str) -> Option<Vec<String>> {
    let mut all = Vec::new();
    let mut field = String::new();
    let mut quoted = false;
    let mut letters = line.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            '"' if quoted && letters.peek() == Some(&'"') => {
                letters.next();
                field.push('"');
            }
            '"' => quoted = !quoted,
            ',' if !quoted => all.push(std::mem::take(&mut field).trim().to_owned()),
            other => field.push(other),
        }
    }
    all.push(field.trim().to_owned());
    (!quoted).then_some(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_token_a_user_a_uid_and_groups() {
        let file = TokenFile::parse("t1,ann,1,\"a,b\"\n\n# nobody\nt2,bob,2\n").unwrap();
        let ann = file.user("t1").unwrap();
        assert_eq!((ann.name.as_str(), ann.uid.as_str()), ("ann", "1"));
        assert_eq!(ann.groups, ["a", "b", "system:authenticated"]);
        assert_eq!(file.user("t2").unwrap().groups, ["system:authenticated"]);
        assert!(file.user("t3").is_none());
    }

    #[test]
    fn a_line_that_says_too_little_is_refused_by_its_number() {
        assert_eq!(TokenFile::parse("a,b,c\nx,y").err().unwrap().0, 2);
        assert_eq!(TokenFile::parse("a,b,c,\"d").err().unwrap().0, 1);
        assert_eq!(TokenFile::parse(",b,c").err().unwrap().0, 1);
    }
}
