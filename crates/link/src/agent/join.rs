//! Joining a server, and getting another certificate before the old one expires.

use std::{path::Path, time::Duration};

use luarm_schema::Time;
use rcgen::KeyPair;
use rustls::pki_types::CertificateDer;
use tonic::{Request, Status, transport::Channel};

use super::connect::{self, ServerUrl};
use crate::{
    LinkError, authority,
    identity::{self, Facts, Identity, Kind},
    proto::{Certificate, JoinRequest, RenewRequest, enrolment_client::EnrolmentClient},
    tls,
    token::Token,
};

/// For an answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Joins a server: proves by the token's fingerprint that it is the one, gets a certificate for a key that stays here, and keeps both in the data
/// directory. `name` is what the host wishes to be called.
pub fn join(
    url: &ServerUrl,
    token: &Token,
    data: &Path,
    (name, machine_id): (&str, &str),
) -> Result<Facts, LinkError> {
    if identity::spool(data).exists()
        && Identity::find(data)?.is_some_and(|old| old.authority_fingerprint() != token.authority())
    {
        return Err(LinkError::OtherServer { data: data.to_owned() });
    }
    join_as(Kind::Agent, url, token, data, (name, machine_id))
}

/// Joins as a host or an analyst.
pub(crate) fn join_as(
    kind: Kind,
    url: &ServerUrl,
    token: &Token,
    data: &Path,
    (name, machine_id): (&str, &str),
) -> Result<Facts, LinkError> {
    let (key, request) = identity::first_key(data, kind)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|e| LinkError::Unreachable { url: url.to_string(), detail: e.to_string() })?;
    let reply = runtime.block_on(async {
        let channel = connect::connect(url, tls::stranger(token.authority())?).await?;
        let mut request = Request::new(JoinRequest {
            token: token.to_string(),
            request,
            name: name.to_owned(),
            machine_id: machine_id.to_owned(),
            analyst: kind == Kind::Analyst,
        });
        request.set_timeout(PATIENCE);
        let reply = EnrolmentClient::new(channel).join(request).await;
        reply.map(tonic::Response::into_inner).map_err(|status| refused(url, &status))
    })?;
    let certificate = reply.certificate.unwrap_or_default();
    if tls::fingerprint(&certificate.authority.as_slice().into()) != token.authority() {
        return Err(LinkError::Refused {
            url: url.to_string(),
            message: "its certificate authority is another than the token names".to_owned(),
        });
    }
    let facts = Facts {
        name: reply.name,
        machine_id: machine_id.to_owned(),
        server: url.to_string(),
        after: reply.stored,
        issued: Time::now().0,
        expires: certificate.expires,
    };
    keep((data, kind), &certificate, &key, &facts)?;
    identity::forget_first_key(data, kind)?;
    Ok(facts)
}

/// Gets another certificate, for a new key, and keeps both.
pub(crate) async fn renew(
    url: &ServerUrl,
    channel: Channel,
    identity: &Identity,
    data: &Path,
) -> Result<Identity, LinkError> {
    let (key, request) = authority::request()?;
    let mut request = Request::new(RenewRequest { request });
    request.set_timeout(PATIENCE);
    let certificate = EnrolmentClient::new(channel).renew(request).await;
    let certificate = certificate.map_err(|status| refused(url, &status))?.into_inner();
    if certificate.authority != identity.authority().as_ref() {
        let message = "its certificate authority is another one now".to_owned();
        return Err(LinkError::Refused { url: url.to_string(), message });
    }
    let facts = Facts { issued: Time::now().0, expires: certificate.expires, ..identity.facts().clone() };
    keep((data, identity.kind()), &certificate, &key, &facts)
}

fn keep(
    place: (&Path, Kind),
    certificate: &Certificate,
    key: &KeyPair,
    facts: &Facts,
) -> Result<Identity, LinkError> {
    let authority = CertificateDer::from(certificate.authority.clone());
    let identity = Identity::save(place, &authority, (&certificate.certificate, key), facts)?;
    // A certificate that does not fit the key, or is none, shows now.
    identity.tls()?;
    Ok(identity)
}

/// What the server said, or what became of the connection meanwhile.
pub(crate) fn refused(url: &ServerUrl, status: &Status) -> LinkError {
    let url = url.to_string();
    match std::error::Error::source(status) {
        Some(error) => LinkError::Unreachable { url, detail: connect::cause(error) },
        None if status.code() == tonic::Code::Unavailable && status.message().is_empty() => {
            LinkError::Unreachable { url, detail: "the connection broke".to_owned() }
        }
        None => LinkError::Refused { url, message: status.message().to_owned() },
    }
}
