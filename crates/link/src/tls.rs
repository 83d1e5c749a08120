//! TLS as both sides use it: version 1.3 alone, one crypto provider, key exchange with X25519MLKEM768 first.

use std::sync::Arc;

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, ServerConfig, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, ServerName, UnixTime},
    server::{NoServerSessionStorage, ResolvesServerCert, WebPkiClientVerifier},
    version::TLS13,
};
use sha2::{Digest, Sha256};

use crate::{LinkError, token::Fingerprint};

/// HTTP/2, which gRPC is spoken over.
const ALPN: &[u8] = b"h2";

/// How the name in a client's certificate begins that says what the client is.
pub(crate) const URN: &str = "urn:luarm:";

/// Whether a certificate that our authority signed is an analyst's. Nothing else in it can hold these words: names have no colon.
pub(crate) fn is_analyst(certificate: &CertificateDer<'_>) -> bool {
    let mark = format!("{URN}{}", luarm_store::analyst_id(""));
    certificate.windows(mark.len()).any(|window| window == mark.as_bytes())
}

/// The crypto provider of this process.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| {
        let provider = aws_lc_rs::default_provider();
        // Another library that asks for the process's provider gets the same. That one was there before is no matter: ours is named at each use.
        let _ = provider.clone().install_default();
        Arc::new(provider)
    }))
}

/// Fills the bytes with random ones.
pub(crate) fn random(bytes: &mut [u8]) -> Result<(), LinkError> {
    let failed = |_| LinkError::certificate("get random numbers", "the system gives none");
    provider().secure_random.fill(bytes).map_err(failed)
}

/// SHA-256 of a certificate.
pub(crate) fn fingerprint(certificate: &CertificateDer<'_>) -> Fingerprint {
    Sha256::digest(certificate).into()
}

fn roots(authority: &CertificateDer<'static>) -> Result<Arc<RootCertStore>, LinkError> {
    let mut roots = RootCertStore::empty();
    let failed = |e| LinkError::certificate("use the authority's certificate", e);
    roots.add(authority.clone()).map_err(failed)?;
    Ok(Arc::new(roots))
}

/// What a server needs. A client shows a certificate of this authority, or none: whoever has none can only join.
pub(crate) fn server(
    authority: &CertificateDer<'static>,
    own: Arc<dyn ResolvesServerCert>,
) -> Result<ServerConfig, LinkError> {
    const ACTION: &str = "set up TLS";
    let clients = WebPkiClientVerifier::builder_with_provider(roots(authority)?, provider())
        .allow_unauthenticated()
        .build()
        .map_err(|e| LinkError::certificate(ACTION, e))?;
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| LinkError::certificate(ACTION, e))?
        .with_client_cert_verifier(clients)
        .with_cert_resolver(own);
    config.alpn_protocols = vec![ALPN.to_vec()];
    // A resumed session would not look at the certificate again.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(config)
}

/// What a host that has joined needs.
pub(crate) fn client(
    authority: &CertificateDer<'static>,
    certificate: CertificateDer<'static>,
    key: PrivateKeyDer<'static>,
) -> Result<ClientConfig, LinkError> {
    const ACTION: &str = "use this host's certificate";
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| LinkError::certificate(ACTION, e))?
        .with_root_certificates(roots(authority)?)
        .with_client_auth_cert(vec![certificate], key)
        .map_err(|e| LinkError::certificate(ACTION, e))?;
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// What a host that joins needs: it knows the authority by its fingerprint alone.
pub(crate) fn stranger(authority: Fingerprint) -> Result<ClientConfig, LinkError> {
    let mut config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|e| LinkError::certificate("set up TLS", e))?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(ByFingerprint { authority }))
        .with_no_client_auth();
    config.alpn_protocols = vec![ALPN.to_vec()];
    config.resumption = rustls::client::Resumption::disabled();
    Ok(config)
}

/// Trusts the authority of one fingerprint, whose certificate the server sends along; the rest is checked as usual.
#[derive(Debug)]
struct ByFingerprint {
    authority: Fingerprint,
}

impl ServerCertVerifier for ByFingerprint {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let other = || {
            rustls::Error::General(
                "its certificate authority is another than the token names: this is not the server that made the token"
                    .to_owned(),
            )
        };
        let authority = intermediates.iter().find(|c| fingerprint(c) == self.authority).ok_or_else(other)?;
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        WebPkiServerVerifier::builder_with_provider(Arc::new(roots), provider())
            .build()
            .map_err(|e| rustls::Error::General(e.to_string()))?
            .verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &provider().signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}
