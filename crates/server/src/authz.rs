//! Who may do what. The superusers' group may do anything, a node what its pods need, and everybody else what roles
//! grant; the first that says yes decides.

pub(crate) mod escalation;
pub(crate) mod node;
pub(crate) mod policy;
pub(crate) mod rbac;

use std::sync::Arc;

use async_trait::async_trait;
use coracle_api::selector::FieldSelector;
use coracle_api::service::{Target, UserInfo};
use coracle_api::status::{Of, Status};

/// The group whose members may do anything.
pub(crate) const SUPERUSERS: &str = "system:masters";

/// What is asked for.
#[derive(Clone, Debug)]
pub(crate) struct Attributes {
    pub user: UserInfo,
    pub verb: String,
    pub resource: Option<ResourceAttributes>,
    /// Of a request that is not about a resource.
    pub path: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct ResourceAttributes {
    pub group: String,
    pub resource: String,
    pub subresource: String,
    pub namespace: String,
    pub name: String,
    /// Fields that the request's selector holds to one value.
    pub fields: Vec<(String, String)>,
}

impl ResourceAttributes {
    /// Whether the request is about objects with this value of the field alone.
    pub fn pins(&self, field: &str, value: &str) -> bool {
        self.fields.iter().any(|(f, v)| f == field && v == value)
    }

    /// Takes what a field selector pins.
    pub fn select(&mut self, selector: &str) {
        let Ok(selector) = FieldSelector::parse(selector) else {
            return;
        };
        for requirement in selector.requirements().iter().filter(|r| !r.negated) {
            self.fields
                .push((requirement.field.to_string(), requirement.value.to_string()));
        }
    }

    /// The name that a list or watch is confined to.
    pub fn take_pinned_name(&mut self) {
        let pinned = self.fields.iter().find(|(field, _)| field == "metadata.name");
        if let Some((_, name)) = pinned.filter(|_| self.name.is_empty()) {
            self.name = name.clone();
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    Allow(String),
    /// Nothing allows it.
    NoOpinion(String),
}

/// A rule as SelfSubjectRulesReview shows it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    pub verbs: Vec<String>,
    pub groups: Vec<String>,
    pub resources: Vec<String>,
    pub names: Vec<String>,
    pub paths: Vec<String>,
}

/// What a user may do, as far as it can be told.
#[derive(Clone, Debug, Default)]
pub(crate) struct Rules {
    pub rules: Vec<Rule>,
    /// Why it is not all.
    pub incomplete: Option<String>,
}

#[async_trait]
pub(crate) trait Authorizer: Send + Sync {
    async fn authorize(&self, attributes: &Attributes) -> Result<Decision, Status>;

    /// What the user may do in a namespace.
    async fn rules(&self, user: &UserInfo, namespace: &str) -> Result<Rules, Status>;
}

/// Asks one after the other.
pub(crate) struct Union(pub Vec<Arc<dyn Authorizer>>);

#[async_trait]
impl Authorizer for Union {
    async fn authorize(&self, attributes: &Attributes) -> Result<Decision, Status> {
        let mut reasons = Vec::new();
        for one in &self.0 {
            match one.authorize(attributes).await? {
                Decision::NoOpinion(reason) => reasons.extend((!reason.is_empty()).then_some(reason)),
                decided => return Ok(decided),
            }
        }
        Ok(Decision::NoOpinion(reasons.join(", ")))
    }

    async fn rules(&self, user: &UserInfo, namespace: &str) -> Result<Rules, Status> {
        let mut all = Rules::default();
        for one in &self.0 {
            let more = one.rules(user, namespace).await?;
            all.rules.extend(more.rules);
            all.incomplete = all.incomplete.or(more.incomplete);
        }
        Ok(all)
    }
}

/// Lets [`SUPERUSERS`] do anything.
pub(crate) struct Superusers;

#[async_trait]
impl Authorizer for Superusers {
    async fn authorize(&self, attributes: &Attributes) -> Result<Decision, Status> {
        let is = attributes.user.groups.iter().any(|g| g == SUPERUSERS);
        Ok(if is {
            Decision::Allow(String::new())
        } else {
            Decision::NoOpinion(String::new())
        })
    }

    async fn rules(&self, user: &UserInfo, _namespace: &str) -> Result<Rules, Status> {
        if !user.groups.iter().any(|g| g == SUPERUSERS) {
            return Ok(Rules::default());
        }
        let any = || vec!["*".to_owned()];
        let rules = vec![
            Rule {
                verbs: any(),
                groups: any(),
                resources: any(),
                ..Rule::default()
            },
            Rule {
                verbs: any(),
                paths: any(),
                ..Rule::default()
            },
        ];
        Ok(Rules {
            rules,
            incomplete: None,
        })
    }
}

/// The attributes of a request for a resource.
pub(crate) fn resource_attributes(user: &UserInfo, verb: &str, target: &Target) -> Attributes {
    // A namespace is in itself, so that a role there can grant reading it.
    let is_namespace = target.group.is_empty() && target.resource == "namespaces";
    let namespace = if is_namespace { &target.name } else { &target.namespace };
    Attributes {
        user: user.clone(),
        verb: verb.to_owned(),
        resource: Some(ResourceAttributes {
            group: target.group.clone(),
            resource: target.resource.clone(),
            subresource: target.subresource.clone(),
            namespace: namespace.clone(),
            name: target.name.clone(),
            fields: Vec::new(),
        }),
        path: String::new(),
    }
}

/// The refusal of a request, in upstream's words.
pub(crate) fn forbidden(attributes: &Attributes, reason: &str) -> Status {
    let user = &attributes.user.name;
    let verb = &attributes.verb;
    let because = if reason.is_empty() {
        String::new()
    } else {
        format!(": {reason}")
    };
    let Some(r) = &attributes.resource else {
        let path = &attributes.path;
        let text = format!("forbidden: User {user:?} cannot {verb} path {path:?}{because}");
        return Status::failure(403, "Forbidden", text).with_details(Some(Box::default()));
    };
    let resource = if r.subresource.is_empty() {
        r.resource.clone()
    } else {
        format!("{}/{}", r.resource, r.subresource)
    };
    let place = if r.namespace.is_empty() {
        "at the cluster scope".to_owned()
    } else {
        format!("in the namespace {:?}", r.namespace)
    };
    let why = format!(
        "User {user:?} cannot {verb} resource {resource:?} in API group {:?} {place}{because}",
        r.group
    );
    Status::forbidden(
        Of {
            group: &r.group,
            plural: &r.resource,
        },
        &r.name,
        &why,
    )
}
