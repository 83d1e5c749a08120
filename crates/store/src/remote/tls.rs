//! TLS to a database server: version 1.3 alone, with the crypto provider of the whole program. Who may vouch for a server stands in the URL.

use std::{error::Error, io, path::Path, sync::Arc};

use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, ServerName, UnixTime, pem::PemObject},
    version::TLS13,
};

use super::{Failure, address::Tls};
use crate::error::Trouble;

/// The crypto provider of this process, which clients that ask for the process's own get as well.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    static PROVIDER: std::sync::OnceLock<Arc<CryptoProvider>> = std::sync::OnceLock::new();
    Arc::clone(PROVIDER.get_or_init(|| {
        let provider = aws_lc_rs::default_provider();
        let _ = provider.clone().install_default();
        Arc::new(provider)
    }))
}

/// The certificates in a file, read anew for each connection, so that another file is good from the next one on.
pub(crate) fn authorities(path: &Path) -> Result<Vec<CertificateDer<'static>>, Failure> {
    let failed = |why: String| {
        let detail = format!("cannot read the authorities' certificates (ca={}): {why}", path.display());
        Failure::trouble(Trouble::Setting, detail)
    };
    let read = CertificateDer::pem_file_iter(path).map_err(|e| failed(e.to_string()))?;
    let read: Vec<_> = read.collect::<Result<_, _>>().map_err(|e| failed(e.to_string()))?;
    if read.is_empty() {
        return Err(failed("there is none in it; it has to be PEM".to_owned()));
    }
    Ok(read)
}

/// What a client needs to speak TLS so; `None` where it does not.
pub(crate) fn config(tls: &Tls) -> Result<Option<ClientConfig>, Failure> {
    let failed = |e: rustls::Error| Failure::trouble(Trouble::Setting, format!("cannot set up TLS: {e}"));
    let builder = || ClientConfig::builder_with_provider(provider()).with_protocol_versions(&[&TLS13]);
    let config = match tls {
        Tls::Off => return Ok(None),
        Tls::Unverified => builder()
            .map_err(failed)?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(Anybody))
            .with_no_client_auth(),
        Tls::Verified { authorities: None } => {
            let roots = RootCertStore { roots: webpki_roots::TLS_SERVER_ROOTS.to_vec() };
            builder().map_err(failed)?.with_root_certificates(roots).with_no_client_auth()
        }
        Tls::Verified { authorities: Some(path) } => {
            let mut roots = RootCertStore::empty();
            for certificate in authorities(path)? {
                roots.add(certificate).map_err(failed)?;
            }
            builder().map_err(failed)?.with_root_certificates(roots).with_no_client_auth()
        }
    };
    Ok(Some(config))
}

/// What TLS had against the other side, if it is TLS that the error came from.
pub(crate) fn failure(error: &(dyn Error + 'static)) -> Option<Failure> {
    let error = found(error)?;
    let trouble = match error {
        rustls::Error::InvalidCertificate(_) => Trouble::Untrusted,
        rustls::Error::PeerIncompatible(_) | rustls::Error::AlertReceived(_) => Trouble::Setting,
        _ => Trouble::Lost,
    };
    let detail = match error {
        rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer) => {
            "the server's certificate is not of an authority that is trusted".to_owned()
        }
        rustls::Error::InvalidCertificate(
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
        ) => "the server's certificate is for another name than the URL's".to_owned(),
        rustls::Error::InvalidCertificate(
            CertificateError::Expired | CertificateError::ExpiredContext { .. },
        ) => "the server's certificate has run out".to_owned(),
        rustls::Error::PeerIncompatible(_) | rustls::Error::AlertReceived(_) => {
            format!("the server and luarm, which speaks TLS 1.3, do not agree: {error}")
        }
        error => format!("TLS failed: {error}"),
    };
    Some(Failure::trouble(trouble, detail))
}

/// TLS's own error, below those of input and output that carry it.
fn found<'a>(error: &'a (dyn Error + 'static)) -> Option<&'a rustls::Error> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(tls) = error.downcast_ref::<rustls::Error>() {
            return Some(tls);
        }
        // What an error of input or output carries is no source of it.
        let carried = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        next = match carried {
            Some(carried) => Some(carried as &(dyn Error + 'static)),
            None => error.source(),
        };
    }
    None
}

/// Takes any certificate; that the other side has its key is checked.
#[derive(Debug)]
struct Anybody;

impl ServerCertVerifier for Anybody {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
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
