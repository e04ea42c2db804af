//! What the built-in types and fields are for, in upstream's words. Compressed in the binary, unpacked while documents
//! are written and dropped again.

use std::collections::HashMap;
use std::io::Read as _;
use std::ops::Range;

const COMPRESSED: &[u8] = include_bytes!("../../data/descriptions.txt.gz");

#[derive(Default)]
pub(super) struct Descriptions {
    /// `=TYPE` lines, each followed by `FIELD<tab>TEXT` lines; the type's own field is empty. Texts are escaped as in JSON.
    text: String,
    types: HashMap<String, Range<usize>>,
}

impl Descriptions {
    pub fn unpack() -> Self {
        let mut text = String::new();
        if flate2::read::GzDecoder::new(COMPRESSED)
            .read_to_string(&mut text)
            .is_err()
        {
            return Self::default();
        }
        let mut types: HashMap<String, Range<usize>> = HashMap::new();
        let mut open: Option<(String, usize)> = None;
        let mut at = 0;
        for line in text.split_inclusive('\n') {
            let next = at + line.len();
            if let Some(name) = line.strip_prefix('=')
                && let Some((name, start)) = open.replace((name.trim_end().to_owned(), next))
            {
                types.insert(name, start..at);
            }
            at = next;
        }
        if let Some((name, start)) = open {
            types.insert(name, start..at);
        }
        Self { text, types }
    }

    /// The text for a field (or, with an empty name, for the type itself), as the inside of a JSON string.
    pub fn get(&self, type_name: &str, field: &str) -> Option<&str> {
        let lines = self.text.get(self.types.get(type_name)?.clone())?;
        lines
            .lines()
            .find_map(|line| line.strip_prefix(field)?.strip_prefix('\t'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema::built_in;

    #[test]
    fn every_described_type_and_field_is_in_the_table() {
        let descriptions = Descriptions::unpack();
        assert!(descriptions.types.len() > 800);
        for (name, range) in &descriptions.types {
            let Some(id) = built_in().type_node(name) else { continue };
            for line in descriptions.text[range.clone()].lines() {
                let (field, _) = line.split_once('\t').unwrap();
                assert!(
                    field.is_empty() || built_in().at(id).property(field).is_some(),
                    "{name}.{field}"
                );
            }
        }
    }

    #[test]
    fn a_pod_says_what_it_is() {
        let descriptions = Descriptions::unpack();
        let text = descriptions.get("io.k8s.api.core.v1.Pod", "").unwrap();
        assert!(text.starts_with("Pod is a collection of containers"), "{text}");
        assert!(descriptions.get("io.k8s.api.core.v1.Volume", "emptyDir").is_some());
        assert!(
            descriptions
                .get("io.k8s.apimachinery.pkg.api.resource.Quantity", "")
                .is_some()
        );
    }
}
