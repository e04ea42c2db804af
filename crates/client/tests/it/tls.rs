//! TLS: whom the client trusts, and how it shows who it is.

use std::sync::Arc;

use coracle_client::config::ClientCertificate;
use coracle_client::{Client, Config, ListOptions};
use coracle_clock::Clock;
use k8s_openapi::api::core::v1::ConfigMap;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use tokio::net::TcpListener;

use crate::front::Front;
use crate::memory::Memory;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn pem(&self) -> Vec<u8> {
        self.0.pem().into_bytes()
    }

    fn issue(&self, name: &str) -> ClientCertificate {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec![name.to_owned()])
            .unwrap()
            .signed_by(&key, &self.0)
            .unwrap();
        ClientCertificate {
            certificate: certificate.pem().into_bytes(),
            key: key.serialize_pem().into_bytes(),
        }
    }
}

/// A server whose certificate is for `name`; with `clients` it wants certificates of that authority.
async fn serve(authority: &Authority, name: &str, clients: Option<&Authority>, alpn: &[&str]) -> String {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(clients) => {
            let mut roots = RootCertStore::empty();
            roots
                .add(CertificateDer::from_pem_slice(&clients.pem()).unwrap())
                .unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(roots.into(), provider)
                .build()
                .unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let own = authority.issue(name);
    let chain = vec![CertificateDer::from_pem_slice(&own.certificate).unwrap()];
    let mut config = builder
        .with_single_cert(chain, PrivateKeyDer::from_pem_slice(&own.key).unwrap())
        .unwrap();
    config.alpn_protocols = alpn.iter().map(|p| p.as_bytes().to_vec()).collect();
    let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    let front = Front {
        memory: Memory::new(),
        streams_lists: true,
    };
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (acceptor, front) = (acceptor.clone(), front.clone());
            tokio::spawn(async move {
                if let Ok(stream) = acceptor.accept(stream).await {
                    front.connection(stream).await;
                }
            });
        }
    });
    url
}

async fn ask(config: Config) -> Result<(), String> {
    let client = Client::connect(config, Clock::system()).map_err(|e| e.to_string())?;
    let list = client.all::<ConfigMap>().list(&ListOptions::default()).await;
    list.map(drop).map_err(|e| format!("{e:?}"))
}

#[tokio::test]
async fn a_server_is_trusted_by_its_authority_over_either_http() {
    let authority = Authority::new();
    for alpn in [&["h2", "http/1.1"][..], &["http/1.1"], &[]] {
        let url = serve(&authority, "127.0.0.1", None, alpn).await;
        let trusting = Config {
            certificate_authority: Some(authority.pem()),
            ..Config::new(&url)
        };
        ask(trusting).await.unwrap();
    }
}

#[tokio::test]
async fn a_stranger_is_refused_at_once_unless_one_insists() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let url = serve(&stranger, "127.0.0.1", None, &["h2"]).await;
    let careful = Config {
        certificate_authority: Some(authority.pem()),
        ..Config::new(&url)
    };
    let error = ask(careful.clone()).await.unwrap_err();
    assert!(error.contains("InvalidCertificate"), "{error}");
    let careless = Config {
        insecure_skip_tls_verify: true,
        ..careful
    };
    ask(careless).await.unwrap();
}

#[tokio::test]
async fn the_name_on_the_certificate_counts_and_can_be_told() {
    let authority = Authority::new();
    let url = serve(&authority, "kubernetes", None, &["h2"]).await;
    let config = Config {
        certificate_authority: Some(authority.pem()),
        ..Config::new(&url)
    };
    let error = ask(config.clone()).await.unwrap_err();
    assert!(error.contains("NotValidForName"), "{error}");
    let told = Config {
        tls_server_name: Some("kubernetes".into()),
        ..config
    };
    ask(told).await.unwrap();
}

#[tokio::test]
async fn a_client_certificate_is_shown_when_it_is_asked_for() {
    let (authority, clients) = (Authority::new(), Authority::new());
    let url = serve(&authority, "127.0.0.1", Some(&clients), &["h2"]).await;
    let nobody = Config {
        certificate_authority: Some(authority.pem()),
        ..Config::new(&url)
    };
    assert!(ask(nobody.clone()).await.is_err());
    let somebody = Config {
        client_certificate: Some(clients.issue("jane")),
        ..nobody
    };
    ask(somebody).await.unwrap();
}
