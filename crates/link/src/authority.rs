//! The server's certificate authority: `DIR/server`, with `ca.pem`, `ca.key` and `names`.
//!
//! The server's own certificate is made when it starts, for a key that never leaves its memory.

use std::{
    net::IpAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use luarm_schema::Time;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, DnType, ExtendedKeyUsagePurpose,
    IsCa, Issuer, KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SerialNumber,
};
use rustls::{
    pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer, pem::PemObject},
    sign::CertifiedKey,
};
use time::OffsetDateTime;

use crate::{LinkError, files, tls, token::Fingerprint};

/// Certificates are good from so long before they are made, for hosts whose clocks are behind.
const SKEW: Duration = Duration::from_secs(3600);
const YEAR: Duration = Duration::from_secs(365 * 86_400);
/// How long the server's own certificate is good; it makes another long before.
const OWN: Duration = Duration::from_secs(30 * 86_400);
const ADVICE: &str = "restore it from a backup";

/// An authority that can sign.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    names: Vec<String>,
}

/// A certificate for a host.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The certificate, in DER.
    pub certificate: CertificateDer<'static>,
    /// Digest of its public key.
    pub key: Fingerprint,
    /// When it expires.
    pub expires: Time,
}

/// Where an authority is kept in a data directory.
pub fn directory(data: &Path) -> PathBuf {
    data.join("server")
}

impl Authority {
    /// Makes an authority in the data directory, for a server that answers to these names and addresses, and on loopback.
    pub fn init(data: &Path, names: &[String]) -> Result<Self, LinkError> {
        let directory = directory(data);
        if directory.join("ca.pem").exists() {
            return Err(LinkError::HasAuthority { data: data.to_owned(), directory });
        }
        for name in names {
            san(name)?;
        }
        files::directory(data)?;
        files::directory(&directory)?;
        let failed = |e| LinkError::certificate("make a certificate authority", e);
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params("luarm server authority", 10 * YEAR)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let certificate = params.self_signed(&key).map_err(failed)?;
        files::write(&directory.join("ca.key"), key.serialize_pem().as_bytes())?;
        files::write(&directory.join("names"), (names.join("\n") + "\n").as_bytes())?;
        // Last: an authority is there when its certificate is.
        files::write(&directory.join("ca.pem"), certificate.pem().as_bytes())?;
        Self::load(data)
    }

    /// The authority of the data directory.
    pub fn load(data: &Path) -> Result<Self, LinkError> {
        let directory = directory(data);
        let read = |name: &str| {
            let content = files::read(&directory.join(name))?;
            content.ok_or_else(|| LinkError::NoAuthority { data: data.to_owned() })
        };
        let damaged = |name: &str, detail: String| LinkError::Damaged {
            path: directory.join(name),
            detail,
            advice: ADVICE,
        };
        let certificate =
            CertificateDer::from_pem_slice(&read("ca.pem")?).map_err(|e| damaged("ca.pem", e.to_string()))?;
        let key = String::from_utf8_lossy(&read("ca.key")?).into_owned();
        let key = KeyPair::from_pem(&key).map_err(|e| damaged("ca.key", e.to_string()))?;
        let names = String::from_utf8_lossy(&read("names")?).into_owned();
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|e| damaged("ca.pem", e.to_string()))?;
        let names = names.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect();
        Ok(Authority { issuer, certificate, names })
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// The fingerprint by which tokens name it.
    pub fn fingerprint(&self) -> Fingerprint {
        tls::fingerprint(&self.certificate)
    }

    /// A certificate for the public key in a host's or an analyst's request. Nothing else of the request is used. An analyst has a
    /// [`luarm_store::analyst_id`] where a host has its machine id.
    pub fn sign(
        &self,
        request: &[u8],
        (name, machine_id): (&str, &str),
        lifetime: Duration,
    ) -> Result<Signed, LinkError> {
        let request: CertificateSigningRequestDer<'_> = request.into();
        let request = CertificateSigningRequestParams::from_der(&request)
            .map_err(|e| LinkError::Request(e.to_string()))?;
        let failed = |e| LinkError::certificate("sign a certificate", e);
        let mut params = params(name, lifetime)?;
        let urn = if machine_id.starts_with(&luarm_store::analyst_id("")) {
            format!("{}{machine_id}", tls::URN)
        } else {
            format!("{}machine:{machine_id}", tls::URN)
        };
        params.subject_alt_names = vec![SanType::URI(urn.try_into().map_err(failed)?)];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let expires = Time(params.not_after.unix_timestamp() * 1_000_000);
        let certificate = params.signed_by(&request.public_key, &self.issuer).map_err(failed)?;
        let key = sha2_of(request.public_key.der_bytes());
        Ok(Signed { certificate: certificate.der().clone(), key, expires })
    }

    /// A certificate for this server, with a key of its own.
    pub(crate) fn own(&self) -> Result<Arc<CertifiedKey>, LinkError> {
        let failed = |e| LinkError::certificate("make the server's certificate", e);
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = params("luarm server", OWN)?;
        for name in self.names.iter().map(String::as_str).chain(["localhost", "127.0.0.1", "::1"]) {
            params.subject_alt_names.push(san(name)?);
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let chain = vec![certificate.der().clone(), self.certificate.clone()];
        let key = PrivatePkcs8KeyDer::from(key.serialize_der()).into();
        let certified = CertifiedKey::from_der(chain, key, &tls::provider());
        certified.map(Arc::new).map_err(|e| LinkError::certificate("use the server's certificate", e))
    }
}

impl std::fmt::Debug for Authority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authority").field("names", &self.names).finish_non_exhaustive()
    }
}

/// A new key for a host, and the request for its certificate in DER.
pub(crate) fn request() -> Result<(KeyPair, Vec<u8>), LinkError> {
    let key = KeyPair::generate().map_err(|e| LinkError::certificate("make a key", e))?;
    let request = request_for(&key)?;
    Ok((key, request))
}

/// The request for a certificate of that key, in DER.
pub(crate) fn request_for(key: &KeyPair) -> Result<Vec<u8>, LinkError> {
    let failed = |e| LinkError::certificate("make a request for a certificate", e);
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    Ok(params.serialize_request(key).map_err(failed)?.der().to_vec())
}

fn sha2_of(bytes: &[u8]) -> Fingerprint {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).into()
}

fn params(common_name: &str, lifetime: Duration) -> Result<CertificateParams, LinkError> {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    let now = OffsetDateTime::now_utc();
    params.not_before = now - SKEW;
    params.not_after = now + lifetime;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let mut serial = [0; 16];
    tls::random(&mut serial)?;
    // Positive, as RFC 5280 wants it.
    serial[0] = serial[0] & 0x7f | 1;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    Ok(params)
}

fn san(name: &str) -> Result<SanType, LinkError> {
    let wrong = || LinkError::ServerName { name: name.to_owned() };
    if let Ok(address) = name.parse::<IpAddr>() {
        return Ok(SanType::IpAddress(address));
    }
    rustls::pki_types::DnsName::try_from(name).map_err(|_| wrong())?;
    Ok(SanType::DnsName(name.to_owned().try_into().map_err(|_| wrong())?))
}
