//! Label selectors as messages for people spell them. Clients parse selectors; this text is never read back.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

/// A selector as upstream's messages spell it.
pub fn spelt(selector: Option<&LabelSelector>) -> String {
    let Some(selector) = selector else {
        return "nil".to_owned();
    };
    let labels = selector.match_labels.iter().flatten();
    let labels: String = labels.map(|(key, value)| format!("{key}: {value},")).collect();
    let all = selector.match_expressions.iter().flatten();
    let expressions: String = all
        .map(|e| {
            let values = e.values.as_deref().unwrap_or_default().join(" ");
            format!(
                "LabelSelectorRequirement{{Key:{},Operator:{},Values:[{values}],}},",
                e.key, e.operator
            )
        })
        .collect();
    format!(
        "&LabelSelector{{MatchLabels:map[string]string{{{labels}}},MatchExpressions:[]LabelSelectorRequirement\
         {{{expressions}}},}}"
    )
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::spelt;

    #[test]
    fn a_selector_is_spelt_as_upstreams_messages_do() {
        let of = |selector: Value| spelt(Some(&serde_json::from_value(selector).unwrap()));
        assert_eq!(spelt(None), "nil");
        assert_eq!(
            of(json!({"matchLabels": {"app": "web", "a": "b"}})),
            "&LabelSelector{MatchLabels:map[string]string{a: b,app: web,},MatchExpressions:[]LabelSelectorRequirement{},}"
        );
        assert_eq!(
            of(json!({"matchExpressions": [{"key": "a", "operator": "In", "values": ["x", "y"]}]})),
            "&LabelSelector{MatchLabels:map[string]string{},MatchExpressions:[]LabelSelectorRequirement\
             {LabelSelectorRequirement{Key:a,Operator:In,Values:[x y],},},}"
        );
    }
}
