//! In which form a client wants its answer: media type, and for objects whether as themselves, as rows of a table or as
//! their metadata alone.

use coracle_api::status::Status;
use http::header::{ACCEPT, HeaderMap, HeaderValue, USER_AGENT};

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

/// What a request says of the form of its answer.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    accept: Option<HeaderValue>,
    /// A person reads the answer.
    pretty: bool,
}

impl Wish {
    pub fn of(headers: &HeaderMap, query: &Query) -> Self {
        let agent = headers
            .get(USER_AGENT)
            .and_then(|v| v.to_str().ok())
            .unwrap_or_default();
        let is_persons = || {
            ["curl", "Wget", "Mozilla/5.0"]
                .iter()
                .any(|name| agent.starts_with(name))
        };
        Self {
            accept: headers.get(ACCEPT).cloned(),
            pretty: query.flag_if_said("pretty").unwrap_or_else(is_persons),
        }
    }

    /// The form of an answer that is objects. `protobuf` says whether the kind has that form.
    pub fn object(&self, protobuf: bool) -> Result<Format, Status> {
        self.best(|form| has_form(form, protobuf)).ok_or_else(|| {
            Status::not_acceptable(
                "only the following media types are accepted: application/json, application/yaml, \
                 application/vnd.kubernetes.protobuf",
            )
        })
    }

    /// The form of a watch, which YAML has none for.
    pub fn watch(&self, protobuf: bool) -> Result<Format, Status> {
        let served = |form: &Format| has_form(form, protobuf) && form.media != Media::Yaml;
        self.best(served).ok_or_else(|| {
            Status::not_acceptable(
                "only the following media types are accepted: application/json;stream=watch, \
                 application/vnd.kubernetes.protobuf;stream=watch",
            )
        })
    }

    /// The form of a Status, which is never shown as anything else. What went wrong is told in JSON rather than not at all.
    pub fn status(&self) -> Format {
        self.best(|form| form.shape == Shape::Object).unwrap_or(self.json())
    }

    fn json(&self) -> Format {
        Format {
            pretty: self.pretty,
            ..Format::JSON
        }
    }

    /// The most wanted of the forms that are served.
    fn best(&self, served: impl Fn(&Format) -> bool) -> Option<Format> {
        let entries = match &self.accept {
            None => return Some(self.json()),
            Some(text) => accepted(text.to_str().unwrap_or("*/*")),
        };
        if entries.is_empty() {
            return Some(self.json());
        }
        let format = |entry: &Accepted<'_>| {
            let (media, shape) = form(entry)?;
            let pretty = self.pretty;
            Some(Format { media, shape, pretty }).filter(&served)
        };
        let forms: Vec<Format> = entries.iter().filter_map(format).collect();
        // A client that takes JSON as well as protobuf gets what is stored, not what must be made of it.
        let unmade = forms.iter().find(|f| f.media != Media::Protobuf);
        unmade.or_else(|| forms.first()).copied()
    }
}

/// Any kind's metadata has the form that the kind itself may lack.
fn has_form(form: &Format, protobuf: bool) -> bool {
    form.media != Media::Protobuf || protobuf || form.shape == Shape::Metadata
}

/// The form that an entry asks for, if there is one such.
fn form(entry: &Accepted<'_>) -> Option<(Media, Shape)> {
    let media = match entry.media {
        "application/json" | "*/*" | "*" | "application/*" => Media::Json,
        "application/yaml" => Media::Yaml,
        "application/vnd.kubernetes.protobuf" => Media::Protobuf,
        _ => return None,
    };
    match (entry.parameter("stream"), media) {
        ("", _) | ("watch", Media::Json | Media::Protobuf) => {}
        _ => return None,
    }
    let shape = match (entry.parameter("as"), entry.parameter("g"), entry.parameter("v")) {
        ("", "", "") => Shape::Object,
        ("Table", "meta.k8s.io", "v1") if media != Media::Protobuf => Shape::Table("v1"),
        ("Table", "meta.k8s.io", "v1beta1") if media != Media::Protobuf => Shape::Table("v1beta1"),
        ("PartialObjectMetadata" | "PartialObjectMetadataList", "meta.k8s.io", "v1" | "v1beta1") => Shape::Metadata,
        _ => return None,
    };
    Some((media, shape))
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = "as=PartialObjectMetadata;g=meta.k8s.io;v=v1";

    fn wish(accept: &str) -> Wish {
        let mut headers = HeaderMap::new();
        headers.insert(ACCEPT, HeaderValue::from_str(accept).unwrap());
        Wish::of(&headers, &Query::default())
    }

    fn told(format: Result<Format, Status>) -> Result<(Media, Shape), u16> {
        format.map(|f| (f.media, f.shape)).map_err(|s| s.code)
    }

    #[test]
    fn the_most_wanted_form_that_is_served_wins() {
        let proto = "application/vnd.kubernetes.protobuf";
        for (accept, expected) in [
            ("*/*", Ok((Media::Json, Shape::Object))),
            ("*", Ok((Media::Json, Shape::Object))),
            ("", Ok((Media::Json, Shape::Object))),
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
            ("application/json;v=v1;g=meta.k8s.io", Err(406)),
            ("application/yaml;stream=watch", Err(406)),
            ("application/json;stream=other", Err(406)),
            (
                &format!("{proto};{METADATA},application/json;{METADATA},application/json"),
                Ok((Media::Json, Shape::Metadata)),
            ),
            (&format!("{proto};{METADATA}"), Ok((Media::Protobuf, Shape::Metadata))),
            (&format!("{proto};as=Table;g=meta.k8s.io;v=v1"), Err(406)),
            (proto, Ok((Media::Protobuf, Shape::Object))),
            (&format!("{proto},application/json"), Ok((Media::Json, Shape::Object))),
            ("text/html", Err(406)),
        ] {
            assert_eq!(told(wish(accept).object(true)), expected, "{accept}");
        }
        assert_eq!(told(wish(proto).object(false)), Err(406));
        let metadata = wish(&format!("{proto};{METADATA}")).object(false);
        assert_eq!(told(metadata), Ok((Media::Protobuf, Shape::Metadata)));
    }

    #[test]
    fn a_watch_is_in_a_form_that_streams() {
        let proto = "application/vnd.kubernetes.protobuf;stream=watch";
        for (accept, expected) in [
            ("application/json;stream=watch", Ok((Media::Json, Shape::Object))),
            ("application/yaml", Err(406)),
            ("application/yaml, */*;q=0.1", Ok((Media::Json, Shape::Object))),
            (proto, Ok((Media::Protobuf, Shape::Object))),
        ] {
            assert_eq!(told(wish(accept).watch(true)), expected, "{accept}");
        }
        assert_eq!(told(wish(proto).watch(false)), Err(406));
    }

    #[test]
    fn a_status_is_told_in_any_case() {
        let proto = "application/vnd.kubernetes.protobuf";
        for (accept, expected) in [
            ("application/yaml", Media::Yaml),
            (proto, Media::Protobuf),
            (&format!("{proto};stream=watch"), Media::Protobuf),
            (&format!("{proto};{METADATA}"), Media::Json),
            (&format!("{proto}, application/json"), Media::Json),
            ("application/yaml;as=Table;g=meta.k8s.io;v=v1", Media::Json),
            (
                "application/json;as=Table;g=meta.k8s.io;v=v1,application/yaml",
                Media::Yaml,
            ),
            ("application/yaml;stream=watch", Media::Json),
            ("*/*", Media::Json),
            ("text/html", Media::Json),
            ("; nonsense ,,", Media::Json),
        ] {
            let format = wish(accept).status();
            assert_eq!((format.media, format.shape), (expected, Shape::Object), "{accept}");
        }
    }

    #[test]
    fn people_get_lines() {
        for (agent, query, expected) in [
            ("curl/8.0", "", true),
            ("curl/8.0", "pretty=false", false),
            ("kubectl/v1.37", "", false),
            ("kubectl/v1.37", "pretty=1", true),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(USER_AGENT, HeaderValue::from_static(agent));
            let wish = Wish::of(&headers, &Query::parse(query));
            assert_eq!(wish.object(true).unwrap().pretty, expected, "{agent} {query}");
            assert_eq!(wish.status().pretty, expected, "{agent} {query}");
        }
    }
}
