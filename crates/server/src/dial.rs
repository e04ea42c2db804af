//! Connections to nodes' agents (TLS, with the server's own client certificate) and to pods (plain, or TLS that is not
//! verified, as upstream's proxy does it).

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use coracle_api::status::Status;
use coracle_clock::Clock;
use rustls::client::ResolvesClientCert;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::pki::Pki;

const DIAL: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Security {
    Plain,
    /// A node's agent.
    Agent,
    /// TLS, whoever is there.
    Unverified,
}

#[derive(Clone, Debug)]
pub(crate) struct Destination {
    pub host: String,
    pub port: u16,
    pub security: Security,
    /// With the query.
    pub path: String,
    /// The fingerprint of the certificate that an agent has made itself, as its Node tells it.
    pub fingerprint: Option<String>,
}

impl Destination {
    pub fn authority(&self) -> String {
        if self.host.contains(':') {
            format!("[{}]:{}", self.host, self.port)
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }
}

/// How the server reaches what it streams from.
pub(crate) struct NodeClient {
    agents: TlsConnector,
    anyone: TlsConnector,
    /// What is shown to agents.
    identity: Arc<dyn ResolvesClientCert>,
}

impl NodeClient {
    pub fn new(pki: &Pki) -> Result<Self, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut roots = rustls::RootCertStore::empty();
        for certificate in pki.ca.chain() {
            roots
                .add(certificate)
                .map_err(|e| format!("the CA certificate cannot be used: {e}"))?;
        }
        let key = pki
            .kubelet_client
            .private_key()
            .ok_or("the kubelet client key cannot be read: remove it")?;
        let agents = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .with_root_certificates(roots)
            .with_client_auth_cert(pki.kubelet_client.chain(), key)
            .map_err(|e| format!("the kubelet client certificate cannot be used: {e}"))?;
        let identity = agents.client_auth_cert_resolver.clone();
        let anyone = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unnamed {
                provider,
                fingerprint: None,
            }))
            .with_no_client_auth();
        Ok(Self {
            agents: Arc::new(agents).into(),
            anyone: Arc::new(anyone).into(),
            identity,
        })
    }

    /// For an agent that has made its certificate itself.
    fn known(&self, fingerprint: &str) -> Result<TlsConnector, String> {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Unnamed {
                provider,
                fingerprint: Some(fingerprint.to_owned()),
            }))
            .with_client_cert_resolver(self.identity.clone());
        Ok(Arc::new(config).into())
    }

    pub async fn dial(&self, clock: Clock, to: &Destination) -> Result<Link, Status> {
        let failed = |why: String| {
            let text = format!("error dialing backend: {}: {why}", to.authority());
            Status::failure(500, "InternalError", format!("Internal error occurred: {text}"))
        };
        let connect = async {
            let socket = TcpStream::connect((to.host.as_str(), to.port))
                .await
                .map_err(|e| failed(e.to_string()))?;
            let _ = socket.set_nodelay(true);
            let connector = match (to.security, &to.fingerprint) {
                (Security::Plain, _) => return Ok(Link::Plain(socket)),
                (Security::Agent, None) => self.agents.clone(),
                (Security::Agent, Some(fingerprint)) => self.known(fingerprint).map_err(failed)?,
                (Security::Unverified, _) => self.anyone.clone(),
            };
            let name = ServerName::try_from(to.host.clone()).map_err(|e| failed(e.to_string()))?;
            let stream = connector
                .connect(name, socket)
                .await
                .map_err(|e| failed(e.to_string()))?;
            Ok(Link::Tls(Box::new(stream)))
        };
        clock
            .timeout(DIAL, connect)
            .await
            .map_err(|_| failed("no answer in 10 s".into()))?
    }
}

/// Asks no authority: a certificate is known by its fingerprint, or taken as it is, as pods' are.
#[derive(Debug)]
struct Unnamed {
    provider: Arc<CryptoProvider>,
    fingerprint: Option<String>,
}

impl ServerCertVerifier for Unnamed {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let shown = || {
            let hash = ring::digest::digest(&ring::digest::SHA256, end_entity);
            let hex: String = hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
            format!("sha256:{hex}")
        };
        match &self.fingerprint {
            Some(known) if *known != shown() => Err(rustls::Error::General(
                "the certificate is not the one that the node has published".to_owned(),
            )),
            _ => Ok(ServerCertVerified::assertion()),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls12_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        rustls::crypto::verify_tls13_signature(
            message,
            certificate,
            signed,
            &self.provider.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// An open connection.
pub(crate) enum Link {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl AsyncRead for Link {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_read(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Link {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<std::io::Result<usize>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_write(cx, buf),
            Self::Tls(s) => Pin::new(s).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_flush(cx),
            Self::Tls(s) => Pin::new(s).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        match self.get_mut() {
            Self::Plain(s) => Pin::new(s).poll_shutdown(cx),
            Self::Tls(s) => Pin::new(s).poll_shutdown(cx),
        }
    }
}
