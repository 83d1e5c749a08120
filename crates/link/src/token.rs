//! Enrolment tokens: `luarm1.ID.SECRET.AUTHORITY`, and `luarm1-analyst.ID.SECRET.AUTHORITY` for analysts.
//!
//! The store knows the public part and a digest of the secret. The last part is the fingerprint of the server's certificate authority: by it the
//! host knows the server before it says anything.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD as BASE64};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::{LinkError, tls};

const PREFIX: &str = "luarm1";
/// So that whoever joins knows what as; the server goes by what it knows of the token.
const ANALYST: &str = "luarm1-analyst";

/// SHA-256 of a certificate in DER.
pub type Fingerprint = [u8; 32];

/// A token, secret included.
#[derive(Clone)]
pub struct Token {
    id: [u8; 9],
    secret: [u8; 32],
    authority: Fingerprint,
    analyst: bool,
}

impl Token {
    /// A new token for the authority of that fingerprint.
    pub fn new(authority: Fingerprint) -> Result<Self, LinkError> {
        let mut token = Token { id: [0; 9], secret: [0; 32], authority, analyst: false };
        tls::random(&mut token.id)?;
        tls::random(&mut token.secret)?;
        Ok(token)
    }

    /// The same, for an analyst.
    pub fn for_analyst(self) -> Self {
        Token { analyst: true, ..self }
    }

    /// Whether it is for an analyst.
    pub fn is_for_analyst(&self) -> bool {
        self.analyst
    }

    /// The public part.
    pub fn id(&self) -> String {
        BASE64.encode(self.id)
    }

    /// What a store keeps of the secret.
    pub fn hash(&self) -> String {
        hex(&Sha256::digest(self.secret))
    }

    /// Whether this is the secret that a store keeps the digest of. Takes the same time whatever differs.
    pub fn is(&self, hash: &str) -> bool {
        self.hash().as_bytes().ct_eq(hash.as_bytes()).into()
    }

    /// The fingerprint of the server's authority.
    pub fn authority(&self) -> Fingerprint {
        self.authority
    }
}

/// The whole token, secret included: what `luarm enroll token` prints.
impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [id, secret, authority] =
            [&self.id[..], &self.secret, &self.authority].map(|part| BASE64.encode(part));
        let prefix = if self.analyst { ANALYST } else { PREFIX };
        write!(f, "{prefix}.{id}.{secret}.{authority}")
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.id())
    }
}

impl FromStr for Token {
    type Err = LinkError;

    fn from_str(text: &str) -> Result<Self, LinkError> {
        let mut parts = text.trim().split('.');
        let analyst = match parts.next() {
            Some(PREFIX) => false,
            Some(ANALYST) => true,
            _ => return Err(LinkError::Token("it does not begin with luarm1")),
        };
        let (id, secret) = (part(parts.next())?, part(parts.next())?);
        let token = Token { id, secret, authority: part(parts.next())?, analyst };
        if parts.next().is_some() {
            return Err(LinkError::Token("something follows it"));
        }
        Ok(token)
    }
}

fn part<const N: usize>(text: Option<&str>) -> Result<[u8; N], LinkError> {
    let bytes = text.and_then(|text| BASE64.decode(text).ok());
    bytes.and_then(|bytes| bytes.try_into().ok()).ok_or(LinkError::Token("it is cut, or was changed"))
}

/// Bytes in hexadecimal.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_reads_back_and_hides_its_secret() {
        let token = Token::new([7; 32]).unwrap();
        let text = token.to_string();
        let same: Token = format!(" {text}\n").parse().unwrap();
        assert_eq!((same.id(), same.hash(), same.authority()), (token.id(), token.hash(), [7; 32]));
        assert!(same.is(&token.hash()));
        assert!(!same.is(&Token::new([7; 32]).unwrap().hash()) && !same.is(""));
        let analyst: Token = token.clone().for_analyst().to_string().parse().unwrap();
        assert!(analyst.is_for_analyst() && !same.is_for_analyst() && analyst.id() == token.id());
        assert!(!format!("{token:?}").contains(text.split('.').nth(2).unwrap()));
    }

    #[test]
    fn what_is_no_token_is_refused() {
        let text = Token::new([7; 32]).unwrap().to_string();
        for wrong in
            ["", "x", &text[1..], &text[..text.len() - 4], &format!("{text}.x"), &text.replace('.', "")]
        {
            assert!(wrong.parse::<Token>().is_err(), "{wrong}");
        }
    }
}
