//! What a CertificateSigningRequest asks for, and whether it may be asked of Kubernetes' own signers. Pure.

use std::collections::BTreeSet;

use k8s_openapi::api::certificates::v1::{CertificateSigningRequest, CertificateSigningRequestCondition};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::pem::parse_x509_pem;
use x509_parser::prelude::FromDer;

pub const CLIENT: &str = "kubernetes.io/kube-apiserver-client";
pub const KUBELET_CLIENT: &str = "kubernetes.io/kube-apiserver-client-kubelet";
pub const KUBELET_SERVING: &str = "kubernetes.io/kubelet-serving";
pub const LEGACY_UNKNOWN: &str = "kubernetes.io/legacy-unknown";

/// A name that a certificate is asked to be valid for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AlternativeName {
    Dns(String),
    Email(String),
    Uri(String),
    Ip(Vec<u8>),
}

/// The parts of a PKCS #10 request that count. Names and key are kept as they are encoded.
#[derive(Clone, Debug)]
pub struct Requested {
    pub subject: Vec<u8>,
    pub subject_is_empty: bool,
    pub public_key: Vec<u8>,
    pub common_name: String,
    pub organizations: Vec<String>,
    pub alternative_names: Vec<AlternativeName>,
}

impl Requested {
    /// From PEM; an error if it is none, or if who asks does not hold the key.
    pub fn parse(pem: &[u8]) -> Result<Self, String> {
        let wrong = "PEM block type must be CERTIFICATE REQUEST";
        let (_, block) = parse_x509_pem(pem).map_err(|_| wrong.to_owned())?;
        if block.label != "CERTIFICATE REQUEST" {
            return Err(wrong.to_owned());
        }
        let (rest, request) = X509CertificationRequest::from_der(&block.contents)
            .map_err(|e| format!("the certificate request cannot be read: {e}"))?;
        if !rest.is_empty() {
            return Err("the certificate request has trailing data".into());
        }
        request
            .verify_signature()
            .map_err(|e| format!("the certificate request is not signed by its own key: {e}"))?;
        let info = &request.certification_request_info;
        let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| {
            value
                .as_str()
                .map(str::to_owned)
                .map_err(|e| format!("the subject cannot be read: {e}"))
        };
        let subject = &info.subject;
        let organizations = subject.iter_organization().map(text).collect::<Result<_, _>>()?;
        // As in Go, the last one counts.
        let common_name = subject.iter_common_name().last().map(text).transpose()?;
        let mut alternative_names = Vec::new();
        for attribute in info.attributes() {
            let ParsedCriAttribute::ExtensionRequest(wanted) = attribute.parsed_attribute() else {
                continue;
            };
            for extension in &wanted.extensions {
                if let ParsedExtension::SubjectAlternativeName(names) = extension.parsed_extension() {
                    alternative_names.extend(names.general_names.iter().filter_map(|name| match name {
                        GeneralName::DNSName(name) => Some(AlternativeName::Dns((*name).to_owned())),
                        GeneralName::RFC822Name(name) => Some(AlternativeName::Email((*name).to_owned())),
                        GeneralName::URI(name) => Some(AlternativeName::Uri((*name).to_owned())),
                        GeneralName::IPAddress(address) => Some(AlternativeName::Ip(address.to_vec())),
                        _ => None,
                    }));
                }
            }
        }
        Ok(Self {
            subject: subject.as_raw().to_vec(),
            subject_is_empty: subject.iter().next().is_none(),
            public_key: info.subject_pki.raw.to_vec(),
            common_name: common_name.unwrap_or_default(),
            organizations,
            alternative_names,
        })
    }

    fn has(&self, kind: impl Fn(&AlternativeName) -> bool) -> bool {
        self.alternative_names.iter().any(kind)
    }
}

/// Whether the signer signs this; the error is why not.
pub fn permitted(signer: &str, requested: &Requested, usages: &[String]) -> Result<(), String> {
    match signer {
        CLIENT => client(usages),
        KUBELET_CLIENT => kubelet_client(requested, usages),
        KUBELET_SERVING => kubelet_serving(requested, usages),
        // No rules, as ever.
        LEGACY_UNKNOWN => Ok(()),
        other => Err(format!("unrecognized signerName: {other:?}")),
    }
}

fn client(usages: &[String]) -> Result<(), String> {
    let known = ["client auth", "digital signature", "key encipherment"];
    if let Some(other) = usages.iter().find(|u| !known.contains(&u.as_str())) {
        return Err(format!("invalid usage for client certificate: {other}"));
    }
    if !usages.iter().any(|u| u == "client auth") {
        return Err("missing required usage for client certificate: client auth".into());
    }
    Ok(())
}

fn is_of_nodes(requested: &Requested) -> Result<(), String> {
    if requested.organizations == ["system:nodes"] {
        Ok(())
    } else {
        Err("subject organization is not system:nodes".into())
    }
}

fn names_a_node(requested: &Requested) -> Result<(), String> {
    if requested.common_name.starts_with("system:node:") {
        Ok(())
    } else {
        Err("subject common name does not begin with system:node:".into())
    }
}

/// Exactly these usages; a key that cannot encipher may leave that one out.
fn exact_usages(usages: &[String], purpose: &str) -> Result<(), String> {
    let mut wanted = BTreeSet::from([purpose, "digital signature", "key encipherment"]);
    let given: BTreeSet<&str> = usages.iter().map(String::as_str).collect();
    let listed = wanted.iter().copied().collect::<Vec<_>>().join(" ");
    let full = given == wanted;
    wanted.remove("key encipherment");
    if full || given == wanted {
        Ok(())
    } else {
        Err(format!("usages did not match [{listed}]"))
    }
}

pub fn kubelet_client(requested: &Requested, usages: &[String]) -> Result<(), String> {
    is_of_nodes(requested)?;
    for (found, kind) in [
        (requested.has(|n| matches!(n, AlternativeName::Dns(_))), "DNS"),
        (requested.has(|n| matches!(n, AlternativeName::Email(_))), "Email"),
        (requested.has(|n| matches!(n, AlternativeName::Ip(_))), "IP"),
        (requested.has(|n| matches!(n, AlternativeName::Uri(_))), "URI"),
    ] {
        if found {
            return Err(format!("{kind} subjectAltNames are not allowed"));
        }
    }
    names_a_node(requested)?;
    exact_usages(usages, "client auth")
}

fn kubelet_serving(requested: &Requested, usages: &[String]) -> Result<(), String> {
    is_of_nodes(requested)?;
    if !requested.has(|n| matches!(n, AlternativeName::Dns(_) | AlternativeName::Ip(_))) {
        return Err("DNS or IP subjectAltName is required".into());
    }
    if requested.has(|n| matches!(n, AlternativeName::Email(_))) {
        return Err("Email subjectAltNames are not allowed".into());
    }
    if requested.has(|n| matches!(n, AlternativeName::Uri(_))) {
        return Err("URI subjectAltNames are not allowed".into());
    }
    exact_usages(usages, "server auth")?;
    names_a_node(requested)
}

pub fn condition<'a>(csr: &'a CertificateSigningRequest, kind: &str) -> Option<&'a CertificateSigningRequestCondition> {
    let conditions = csr.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|c| c.type_ == kind)
}

pub fn is_issued(csr: &CertificateSigningRequest) -> bool {
    let certificate = csr.status.as_ref().and_then(|s| s.certificate.as_ref());
    certificate.is_some_and(|c| !c.0.is_empty())
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SanType};

    /// A request as PEM.
    pub(crate) fn request(user: &str, group: &str, names: Vec<SanType>) -> String {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.subject_alt_names = names;
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, user);
        params.distinguished_name.push(DnType::OrganizationName, group);
        params.serialize_request(&key).unwrap().pem().unwrap()
    }

    pub(crate) fn dns(name: &str) -> SanType {
        SanType::DnsName(name.try_into().unwrap())
    }

    pub(crate) fn usages(all: &[&str]) -> Vec<String> {
        all.iter().map(|u| (*u).to_owned()).collect()
    }

    const NODE: (&str, &str) = ("system:node:n", "system:nodes");
    const CLIENT_USAGES: &[&str] = &["key encipherment", "digital signature", "client auth"];
    const SERVER_USAGES: &[&str] = &["digital signature", "server auth"];

    #[test]
    fn each_signer_signs_what_its_documentation_permits() {
        let ip = SanType::IpAddress([10, 0, 0, 1].into());
        for (signer, (user, group), names, asked, wanted) in [
            (CLIENT, ("alice", "dev"), vec![], CLIENT_USAGES, Ok(())),
            (
                CLIENT,
                ("alice", "dev"),
                vec![],
                &["digital signature"],
                Err("missing required usage for client certificate: client auth"),
            ),
            (
                CLIENT,
                ("alice", "dev"),
                vec![],
                &["client auth", "server auth"],
                Err("invalid usage for client certificate: server auth"),
            ),
            (KUBELET_CLIENT, NODE, vec![], CLIENT_USAGES, Ok(())),
            (
                KUBELET_CLIENT,
                NODE,
                vec![],
                &["digital signature", "client auth"],
                Ok(()),
            ),
            (
                KUBELET_CLIENT,
                NODE,
                vec![],
                &["client auth"],
                Err("usages did not match [client auth digital signature key encipherment]"),
            ),
            (
                KUBELET_CLIENT,
                ("system:node:n", "x"),
                vec![],
                CLIENT_USAGES,
                Err("subject organization is not system:nodes"),
            ),
            (
                KUBELET_CLIENT,
                ("n", "system:nodes"),
                vec![],
                CLIENT_USAGES,
                Err("subject common name does not begin with system:node:"),
            ),
            (
                KUBELET_CLIENT,
                NODE,
                vec![dns("n")],
                CLIENT_USAGES,
                Err("DNS subjectAltNames are not allowed"),
            ),
            (
                KUBELET_CLIENT,
                NODE,
                vec![ip.clone()],
                CLIENT_USAGES,
                Err("IP subjectAltNames are not allowed"),
            ),
            (KUBELET_SERVING, NODE, vec![dns("n"), ip], SERVER_USAGES, Ok(())),
            (
                KUBELET_SERVING,
                NODE,
                vec![],
                SERVER_USAGES,
                Err("DNS or IP subjectAltName is required"),
            ),
            (
                KUBELET_SERVING,
                NODE,
                vec![dns("n"), SanType::Rfc822Name("a@b".try_into().unwrap())],
                SERVER_USAGES,
                Err("Email subjectAltNames are not allowed"),
            ),
            (
                KUBELET_SERVING,
                NODE,
                vec![dns("n")],
                CLIENT_USAGES,
                Err("usages did not match [digital signature key encipherment server auth]"),
            ),
            (LEGACY_UNKNOWN, ("any", "thing"), vec![dns("n")], &["any"], Ok(())),
            (
                "example.com/own",
                ("a", "b"),
                vec![],
                CLIENT_USAGES,
                Err("unrecognized signerName: \"example.com/own\""),
            ),
        ] {
            let requested = Requested::parse(request(user, group, names).as_bytes()).unwrap();
            let verdict = permitted(signer, &requested, &usages(asked));
            assert_eq!(
                verdict,
                wanted.map_err(str::to_owned),
                "{signer} {user} {group} {asked:?}"
            );
        }
    }

    #[test]
    fn a_request_is_pem_signed_by_the_key_that_it_names() {
        let good = request("a", "b", vec![]);
        assert!(Requested::parse(good.as_bytes()).is_ok());
        assert!(Requested::parse(b"nonsense").is_err());
        let other = good.replace("CERTIFICATE REQUEST", "CERTIFICATE");
        assert_eq!(
            Requested::parse(other.as_bytes()).unwrap_err(),
            "PEM block type must be CERTIFICATE REQUEST"
        );
        // Another subject under the same signature.
        let (_, block) = parse_x509_pem(good.as_bytes()).unwrap();
        let mut bytes = block.contents;
        let at = bytes.iter().position(|b| *b == b'a').unwrap();
        bytes[at] = b'z';
        let forged = crate::certificate_signing::issue::pem("CERTIFICATE REQUEST", &bytes);
        assert!(Requested::parse(forged.as_bytes()).is_err());
    }
}
