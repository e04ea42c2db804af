//! In which form a client wants its answer: media type, and for objects whether as themselves, as rows of a table or as
//! their metadata alone.

use coracle_api::status::Status;
use http::HeaderMap;
use http::header::ACCEPT;

use super::query::Query;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Media {
    Json,
    Yaml,
    Protobuf,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    Object,
    /// `meta.k8s.io` version.
    Table(&'static str),
    Metadata,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Format {
    pub media: Media,
    pub shape: Shape,
    pub pretty: bool,
}

impl Format {
    pub const JSON: Self = Self {
        media: Media::Json,
        shape: Shape::Object,
        pretty: false,
    };
}

/// One entry of an Accept header.
pub(crate) struct Accepted<'a> {
    pub media: &'a str,
    pub parameters: Vec<(&'a str, &'a str)>,
    quality: u16,
}

impl<'a> Accepted<'a> {
    pub fn parameter(&self, name: &str) -> &'a str {
        self.parameters.iter().find(|(n, _)| *n == name).map_or("", |(_, v)| v)
    }
}

/// The entries of an Accept header, the most wanted first.
pub(crate) fn accepted(text: &str) -> Vec<Accepted<'_>> {
    let mut entries: Vec<Accepted<'_>> = text
        .split(',')
        .filter_map(|entry| {
            let mut parts = entry.split(';').map(str::trim);
            let media = parts.next().filter(|m| !m.is_empty())?;
            let mut quality = 1000;
            let mut parameters = Vec::new();
            for part in parts {
                let (name, value) = part.split_once('=').unwrap_or((part, ""));
                let value = value.trim_matches('"');
                if name == "q" {
                    let q: f32 = value.parse().unwrap_or(1.0);
                    // Between 0 and 1, in thousandths.
                    quality = (q.clamp(0.0, 1.0) * 1000.0) as u16;
                } else {
                    parameters.push((name, value));
                }
            }
            Some(Accepted {
                media,
                parameters,
                quality,
            })
        })
        .filter(|e| e.quality > 0)
        .collect();
    entries.sort_by_key(|e| std::cmp::Reverse(e.quality));
    entries
}

/// The form of an answer that is objects. `protobuf` says whether the kind has that form.
pub(crate) fn negotiate(headers: &HeaderMap, query: &Query, protobuf: bool) -> Result<Format, Status> {
    let pretty = match query.get("pretty") {
        Some(_) => query.flag("pretty"),
        None => {
            let agent = headers
                .get(http::header::USER_AGENT)
                .and_then(|v| v.to_str().ok())
                .unwrap_or_default();
            agent.starts_with("curl") || agent.starts_with("Wget") || agent.starts_with("Mozilla/5.0")
        }
    };
    let text = match headers.get(ACCEPT).map(|v| v.to_str()) {
        None => return Ok(Format { pretty, ..Format::JSON }),
        Some(text) => text.unwrap_or("*/*"),
    };
    let entries = accepted(text);
    if entries.is_empty() {
        return Ok(Format { pretty, ..Format::JSON });
    }
    let form = |entry: &Accepted<'_>| -> Option<Format> {
        let media = match entry.media {
            "application/json" | "*/*" | "application/*" => Media::Json,
            "application/yaml" => Media::Yaml,
            "application/vnd.kubernetes.protobuf" if protobuf => Media::Protobuf,
            _ => return None,
        };
        let group = entry.parameter("g");
        let version = entry.parameter("v");
        let shape = match entry.parameter("as") {
            "" => Shape::Object,
            "Table" if group == "meta.k8s.io" && version == "v1" => Shape::Table("v1"),
            "Table" if group == "meta.k8s.io" && version == "v1beta1" => Shape::Table("v1beta1"),
            "PartialObjectMetadata" | "PartialObjectMetadataList" if group == "meta.k8s.io" => Shape::Metadata,
            _ => return None,
        };
        if shape != Shape::Object && media == Media::Protobuf {
            return None;
        }
        Some(Format { media, shape, pretty })
    };
    let forms: Vec<Format> = entries.iter().filter_map(form).collect();
    // A client that takes JSON as well as protobuf gets what is stored, not what must be made of it.
    let best = forms
        .iter()
        .find(|f| f.media != Media::Protobuf)
        .or_else(|| forms.first());
    best.copied().ok_or_else(|| {
        Status::not_acceptable(
            "only the following media types are accepted: application/json, application/yaml, \
             application/vnd.kubernetes.protobuf",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn form(accept: &'static str) -> Result<(Media, Shape), u16> {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_static(accept));
        negotiate(&headers, &Query::default(), true)
            .map(|f| (f.media, f.shape))
            .map_err(|s| s.code)
    }

    #[test]
    fn the_most_wanted_form_that_is_served_wins() {
        for (accept, expected) in [
            ("*/*", Ok((Media::Json, Shape::Object))),
            ("application/yaml", Ok((Media::Yaml, Shape::Object))),
            (
                "application/yaml;q=0.5, application/json",
                Ok((Media::Json, Shape::Object)),
            ),
            (
                "application/json;q=0.5, application/yaml",
                Ok((Media::Yaml, Shape::Object)),
            ),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
                Ok((Media::Json, Shape::Table("v1"))),
            ),
            (
                "application/json;as=Table;v=v9;g=meta.k8s.io,application/json",
                Ok((Media::Json, Shape::Object)),
            ),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,\
                 application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
                Ok((Media::Json, Shape::Metadata)),
            ),
            (
                "application/vnd.kubernetes.protobuf",
                Ok((Media::Protobuf, Shape::Object)),
            ),
            (
                "application/vnd.kubernetes.protobuf,application/json",
                Ok((Media::Json, Shape::Object)),
            ),
            ("text/html", Err(406)),
        ] {
            assert_eq!(form(accept), expected, "{accept}");
        }
    }
}
