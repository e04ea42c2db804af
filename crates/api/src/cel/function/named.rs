//! Formats with a name: `format.dns1123Label().validate(self.name)`.

use super::Entry;
use crate::cel::value::Value;
use crate::names;
use crate::names::object_name;
use crate::schema::formats;
use crate::strategy::NameRule;

/// A format, and what it says is wrong with a text.
#[derive(Debug)]
pub struct Format {
    pub name: &'static str,
    faults: fn(&str) -> Vec<String>,
}

const FORMATS: &[Format] = &[
    Format {
        name: "dns1123Label",
        faults: names::dns1123_label,
    },
    Format {
        name: "dns1123Subdomain",
        faults: names::dns1123_subdomain,
    },
    Format {
        name: "dns1035Label",
        faults: names::dns1035_label,
    },
    Format {
        name: "dns1123LabelPrefix",
        faults: |s| object_name(NameRule::DnsLabel, s, true),
    },
    Format {
        name: "dns1123SubdomainPrefix",
        faults: |s| object_name(NameRule::DnsSubdomain, s, true),
    },
    Format {
        name: "dns1035LabelPrefix",
        faults: |s| object_name(NameRule::Dns1035Label, s, true),
    },
    Format {
        name: "qualifiedName",
        faults: names::qualified_name,
    },
    Format {
        name: "labelValue",
        faults: names::label_value,
    },
    Format {
        name: "uri",
        faults: |s| of_schema("uri", s),
    },
    Format {
        name: "uuid",
        faults: |s| of_schema("uuid", s),
    },
    Format {
        name: "byte",
        faults: |s| of_schema("byte", s),
    },
    Format {
        name: "date",
        faults: |s| of_schema("date", s),
    },
    Format {
        name: "datetime",
        faults: |s| of_schema("date-time", s),
    },
];

fn of_schema(format: &str, text: &str) -> Vec<String> {
    if formats::is_well_formed(format, text) {
        return Vec::new();
    }
    vec![format!("does not match the format {format}")]
}

fn find(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|f| f.name == name)
}

macro_rules! formats {
    ($($name:literal: $signature:literal),* $(,)?) => {
        pub(super) const ALL: &[Entry] = &[
            $(Entry {
                signatures: &[$signature],
                run: |_, _| Ok(find($name).map(Value::Format)),
            },)*
            Entry {
                signatures: &["format.named(string) optional(NamedFormat)"],
                run: |_, a| {
                    let Some(name) = a[0].as_str() else { return Ok(None) };
                    let found = find(name).map(Value::Format);
                    Ok(Some(found.map_or(Value::Optional(None), Value::some)))
                },
            },
            Entry {
                signatures: &["NamedFormat.validate(string) optional(list(string))"],
                run: |run, a| {
                    let (Value::Format(format), Some(text)) = (&a[0], a[1].as_str()) else { return Ok(None) };
                    run.pay(a[1].size().saturating_mul(4))?;
                    let faults = (format.faults)(text);
                    if faults.is_empty() {
                        return Ok(Some(Value::Optional(None)));
                    }
                    let faults: Vec<Value> = faults.into_iter().map(Value::from).collect();
                    Ok(Some(Value::some(faults.into())))
                },
            },
        ];
    };
}

formats! {
    "dns1123Label": "format.dns1123Label() NamedFormat",
    "dns1123Subdomain": "format.dns1123Subdomain() NamedFormat",
    "dns1035Label": "format.dns1035Label() NamedFormat",
    "dns1123LabelPrefix": "format.dns1123LabelPrefix() NamedFormat",
    "dns1123SubdomainPrefix": "format.dns1123SubdomainPrefix() NamedFormat",
    "dns1035LabelPrefix": "format.dns1035LabelPrefix() NamedFormat",
    "qualifiedName": "format.qualifiedName() NamedFormat",
    "labelValue": "format.labelValue() NamedFormat",
    "uri": "format.uri() NamedFormat",
    "uuid": "format.uuid() NamedFormat",
    "byte": "format.byte() NamedFormat",
    "date": "format.date() NamedFormat",
    "datetime": "format.datetime() NamedFormat",
}
