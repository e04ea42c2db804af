//! Custom kinds as types of one's own.

/// Declares the type of a namespaced custom kind, for typed clients, informers and controllers. The types of its spec and
/// status are one's own; both crates that it is made with, `serde` and `k8s-openapi`, have to be dependencies.
///
/// ```
/// use serde::{Deserialize, Serialize};
///
/// coracle_client::custom_kind! {
///     /// A page on the network.
///     pub struct Website: "example.org" / "v1" / "websites" {
///         spec: WebsiteSpec,
///         status: WebsiteStatus,
///     }
/// }
///
/// #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
/// pub struct WebsiteSpec {
///     pub html: String,
/// }
///
/// #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
/// pub struct WebsiteStatus {
///     pub ready: bool,
/// }
///
/// let home = Website::new("home", WebsiteSpec { html: "hello".into() });
/// assert_eq!((&*home.api_version, &*home.kind), ("example.org/v1", "Website"));
/// ```
#[macro_export]
macro_rules! custom_kind {
    (
        $(#[$about:meta])*
        $vis:vis struct $name:ident: $group:literal / $version:literal / $plural:literal {
            spec: $spec:ty,
            status: $status:ty $(,)?
        }
    ) => {
        $(#[$about])*
        #[derive(Clone, Debug, Default, PartialEq, ::serde::Serialize, ::serde::Deserialize)]
        #[serde(rename_all = "camelCase", default)]
        $vis struct $name {
            pub api_version: ::std::borrow::Cow<'static, str>,
            pub kind: ::std::borrow::Cow<'static, str>,
            pub metadata: ::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta,
            pub spec: $spec,
            #[serde(skip_serializing_if = "Option::is_none")]
            pub status: ::std::option::Option<$status>,
        }

        impl ::k8s_openapi::Resource for $name {
            const API_VERSION: &'static str = concat!($group, "/", $version);
            const GROUP: &'static str = $group;
            const KIND: &'static str = stringify!($name);
            const VERSION: &'static str = $version;
            const URL_PATH_SEGMENT: &'static str = $plural;
            type Scope = ::k8s_openapi::NamespaceResourceScope;
        }

        impl ::k8s_openapi::Metadata for $name {
            type Ty = ::k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

            fn metadata(&self) -> &Self::Ty {
                &self.metadata
            }

            fn metadata_mut(&mut self) -> &mut Self::Ty {
                &mut self.metadata
            }
        }

        impl $name {
            /// One that does not exist yet.
            pub fn new(name: &str, spec: $spec) -> Self {
                let mut new = Self {
                    api_version: <Self as ::k8s_openapi::Resource>::API_VERSION.into(),
                    kind: <Self as ::k8s_openapi::Resource>::KIND.into(),
                    spec,
                    ..Self::default()
                };
                new.metadata.name = Some(name.to_owned());
                new
            }
        }
    };
}
