//! The keys of service account tokens: one signs, and it and all its predecessors verify. A new one is made every year;
//! what the old ones signed stays good, because the tokens in Secrets do not expire.
//!
//! `sa.key` holds the private key, `sa.pub` the public ones, newest first, each below a line that tells its age. To stop
//! trusting a key, take it out of `sa.pub`; to change keys at once, remove `sa.key`.

use std::path::Path;

use coracle_clock::{Clock, Timestamp};
use rcgen::{KeyPair, PublicKeyData};
use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;

use super::issue::{self, PkiError};

const PRIVATE: &str = "sa.key";
const PUBLIC: &str = "sa.pub";
const MADE: &str = "made ";
const YEAR_SECONDS: i64 = 365 * 86_400;

/// See the module.
#[derive(Clone)]
pub(crate) struct SigningKeys {
    /// PKCS #8.
    pub private: Vec<u8>,
    /// SubjectPublicKeyInfo of each key that verifies; the first belongs to `private`.
    pub public: Vec<Vec<u8>>,
}

/// A public key and when it was made.
struct Known {
    made: Option<Timestamp>,
    key: Vec<u8>,
}

impl SigningKeys {
    /// Reads the keys; makes one if there is none, or the newest is old.
    pub fn open(dir: &Path, clock: Clock) -> Result<Self, PkiError> {
        let unreadable = |file: &str| PkiError::Unreadable { path: dir.join(file) };
        let mut known = match issue::read(&dir.join(PUBLIC))? {
            Some(text) => parse(&text).ok_or_else(|| unreadable(PUBLIC))?,
            None => Vec::new(),
        };
        let current = match issue::read(&dir.join(PRIVATE))? {
            Some(text) => Some(KeyPair::from_pem(&text).map_err(|_| unreadable(PRIVATE))?),
            None => None,
        };
        let now = clock.now();
        let good = current.filter(|key| {
            let own = known.iter().find(|k| k.key == key.subject_public_key_info());
            // A key of unknown age is taken for new: its age counts from now on.
            own.and_then(|k| k.made)
                .is_none_or(|made| now.as_second() < made.as_second() + YEAR_SECONDS)
        });
        let is_new = good.is_none();
        let key = match good {
            Some(key) => key,
            None => {
                let made = KeyPair::generate().map_err(|source| PkiError::Make {
                    what: "sa".into(),
                    source,
                })?;
                tracing::info!("made a key for service account tokens");
                made
            }
        };
        let public = key.subject_public_key_info();
        let is_first = known.first().is_some_and(|k| k.key == public && k.made.is_some());
        if !is_first {
            let made = known.iter().find(|k| k.key == public).and_then(|k| k.made);
            known.retain(|k| k.key != public);
            known.insert(
                0,
                Known {
                    made: Some(made.unwrap_or(now)),
                    key: public,
                },
            );
            // The public keys go first: after a crash in between, the new one is known and not used yet.
            issue::write(&dir.join(PUBLIC), write(&known).as_bytes(), 0o644)?;
        }
        if is_new {
            issue::write(&dir.join(PRIVATE), key.serialize_pem().as_bytes(), 0o600)?;
        }
        Ok(Self {
            private: key.serialized_der().to_vec(),
            public: known.into_iter().map(|k| k.key).collect(),
        })
    }
}

fn parse(text: &str) -> Option<Vec<Known>> {
    let mut all = Vec::new();
    let mut made = None;
    let mut pem = String::new();
    for line in text.lines() {
        if let Some(time) = line.strip_prefix(MADE) {
            made = time.trim().parse().ok();
            continue;
        }
        pem.push_str(line);
        pem.push('\n');
        if line.starts_with("-----END") {
            let key = SubjectPublicKeyInfoDer::from_pem_slice(pem.as_bytes()).ok()?;
            all.push(Known {
                made: made.take(),
                key: key.as_ref().to_vec(),
            });
            pem.clear();
        }
    }
    Some(all)
}

fn write(known: &[Known]) -> String {
    use base64::Engine;
    let mut text = String::new();
    for one in known {
        if let Some(made) = one.made {
            text.push_str(&format!("{MADE}{made}\n"));
        }
        let encoded = base64::engine::general_purpose::STANDARD.encode(&one.key);
        text.push_str("-----BEGIN PUBLIC KEY-----\n");
        for line in encoded.as_bytes().chunks(64) {
            text.push_str(&String::from_utf8_lossy(line));
            text.push('\n');
        }
        text.push_str("-----END PUBLIC KEY-----\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Clock {
        Clock::starting_at(text.parse().unwrap())
    }

    #[tokio::test(start_paused = true)]
    async fn a_key_signs_for_a_year_and_verifies_ever_after() {
        let dir = tempfile::tempdir().unwrap();
        let first = SigningKeys::open(dir.path(), at("2026-01-01T00:00:00Z")).unwrap();
        assert_eq!(first.public.len(), 1);
        let same = SigningKeys::open(dir.path(), at("2026-12-01T00:00:00Z")).unwrap();
        assert_eq!((&same.private, &same.public), (&first.private, &first.public));
        let second = SigningKeys::open(dir.path(), at("2027-01-02T00:00:00Z")).unwrap();
        assert_ne!(second.private, first.private);
        assert_eq!(second.public[1..], first.public);
    }

    #[tokio::test(start_paused = true)]
    async fn a_removed_key_is_replaced_and_one_of_unknown_age_is_kept() {
        let dir = tempfile::tempdir().unwrap();
        let now = at("2026-01-01T00:00:00Z");
        let first = SigningKeys::open(dir.path(), now).unwrap();
        std::fs::remove_file(dir.path().join(PRIVATE)).unwrap();
        let second = SigningKeys::open(dir.path(), now).unwrap();
        assert_eq!(second.public.len(), 2);
        assert_eq!(second.public[1..], first.public);
        std::fs::remove_file(dir.path().join(PUBLIC)).unwrap();
        let again = SigningKeys::open(dir.path(), at("2036-01-01T00:00:00Z")).unwrap();
        assert_eq!(again.private, second.private);
        assert_eq!(again.public.len(), 1);
    }
}
