//! PodTemplate: a pod to copy, kept on its own.

use jiff::Timestamp;
use serde_json::Value;

use super::cells::{format_labels, name, names_and_images, text};
use super::fill::at;
use super::pod_spec::{set_template_defaults, validate_template};
use super::row::namespaced;
use crate::field::{Cursor, ErrorList};
use crate::object::Object;
use crate::resource::Resource;
use crate::strategy::Strategy;

pub(super) fn row() -> Resource {
    namespaced("", "v1", "PodTemplate", "podtemplates")
        .generation()
        .columns([
            name(),
            text("Containers", "Names of each container in the template."),
            text("Images", "Images referenced by each container in the template."),
            text("Pod Labels", "The labels for the pod template."),
        ])
        .strategy(PodTemplate)
        .build()
}

struct PodTemplate;

impl Strategy for PodTemplate {
    fn set_defaults(&self, object: &mut Object) {
        if let Some(template) = at(&mut object.0, "template") {
            set_template_defaults(template);
        }
    }

    fn validate(&self, object: &Cursor<'_>, errors: &mut ErrorList) {
        validate_template(&object.at("template"), &[], errors);
    }

    fn cells(&self, object: &Object, _now: Timestamp) -> Vec<Value> {
        let (names, images) = names_and_images(object, &["template", "spec", "containers"]);
        let labels = format_labels(object.get(&["template", "metadata", "labels"]));
        vec![object.name().into(), names, images, labels.into()]
    }
}
