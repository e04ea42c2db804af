//! TLS with certificates on both sides, to a real etcd; and what is said when they do not fit.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair};

use super::super::{Etcd, EtcdOptions};
use super::cluster::Cluster;
use crate::testing::commit;
use crate::{Error, Store, Txn};

/// A certificate authority.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: String,
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, certificate }
    }

    /// A certificate for some names and its key.
    fn sign(&self, name: &str, names: &[&str], usage: &[ExtendedKeyUsagePurpose]) -> (String, String) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = usage.to_vec();
        let key = KeyPair::generate().unwrap();
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn sign_client(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let (certificate, key) = self.sign("coracle", &[], &[ExtendedKeyUsagePurpose::ClientAuth]);
        Some((certificate.into(), key.into()))
    }
}

/// An etcd of one member that wants certificates.
fn cluster(authority: &Authority, directory: &Path, names: &[&str]) -> Cluster {
    // etcd's gateway is a client of its own.
    let usage = [ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    let (certificate, key) = authority.sign("etcd", names, &usage);
    let file = |name: &str, contents: &str| {
        let path = directory.join(name);
        std::fs::write(&path, contents).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let arguments = [
        "--client-cert-auth".to_owned(),
        format!("--trusted-ca-file={}", file("ca.crt", &authority.certificate)),
        format!("--cert-file={}", file("server.crt", &certificate)),
        format!("--key-file={}", file("server.key", &key)),
    ];
    let mut cluster = Cluster::with("https", 1, arguments.into());
    cluster.options.ca = Some(authority.certificate.clone().into());
    cluster.options.identity = authority.sign_client();
    cluster
}

async fn refused(options: EtcdOptions) -> String {
    // Until it runs it refuses everybody.
    let mut said = String::from("Connection refused");
    while said.contains("Connection refused") {
        let Err(error) = Etcd::connect(options.clone()).await else {
            panic!("it was let in")
        };
        said = error.to_string();
    }
    said
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn certificates_on_both_sides_are_wanted_and_what_is_wrong_with_them_is_said() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("etcd-ca");
    let cluster = cluster(&authority, directory.path(), &["127.0.0.1", "localhost"]);
    let store = cluster.connect().await;
    let revision = commit(&store, Txn::put("/k", "1")).await;
    assert_eq!(store.get("/k", None).await.unwrap().kv.unwrap().mod_revision, revision);
    let mut watch = store.watch("/k", revision).await.unwrap();
    commit(&store, Txn::put("/k", "2")).await;
    assert_eq!(watch.next().await.unwrap().events.len(), 1);

    let good = || cluster.options.clone();
    let other = Authority::new("another-ca");
    for (options, words) in [
        (
            EtcdOptions {
                identity: None,
                ..good()
            },
            &["--store-cert"][..],
        ),
        (
            EtcdOptions {
                identity: other.sign_client(),
                ..good()
            },
            &["--store-cert"],
        ),
        (
            EtcdOptions {
                ca: Some(other.certificate.clone().into()),
                ..good()
            },
            &["--store-ca", "not signed"],
        ),
        (EtcdOptions { ca: None, ..good() }, &["--store-ca"]),
        (
            EtcdOptions {
                ca: Some(b"no certificate".to_vec()),
                ..good()
            },
            &["--store-ca", "PEM"],
        ),
        (
            EtcdOptions {
                identity: Some((b"no certificate".to_vec(), b"no key".to_vec())),
                ..good()
            },
            &["--store-cert", "PEM"],
        ),
    ] {
        let said = refused(options).await;
        println!("{said}");
        for word in words.iter().chain([&"127.0.0.1"]) {
            assert!(said.contains(word), "{said}");
        }
    }
    let plain = cluster.members[0].client_url.replace("https", "http");
    let said = refused(EtcdOptions::new(vec![plain])).await;
    println!("{said}");
    assert!(said.contains("https"), "{said}");
    // It goes on for those who are let in.
    commit(&store, Txn::put("/k", "3")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_certificate_for_another_address_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let authority = Authority::new("etcd-ca");
    let cluster = cluster(&authority, directory.path(), &["etcd.example"]);
    let said = refused(cluster.options.clone()).await;
    println!("{said}");
    assert!(said.contains("not for this address"), "{said}");
    assert!(matches!(
        Etcd::connect(cluster.options.clone()).await.err(),
        Some(Error::Unavailable { .. })
    ));
}
