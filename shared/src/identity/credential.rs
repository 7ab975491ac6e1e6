//! What a new sidecar shows first.

use std::fmt;
use std::str::FromStr;

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;

use crate::TrustDomain;

/// First part of the text form; its number changes with the form.
const VERSION: &str = "outrider1";
/// Longest id or secret, in characters. 32 random bytes take 43.
const PART_CHARS_MAX: usize = 128;

/// A join credential: whom to trust, and what to show. Written
/// `outrider1.<trust domain, base64url>.<SHA-256 of the root's SPKI, base64url>.<id>.<secret>`.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinCredential {
    pub trust_domain: TrustDomain,
    /// SHA-256 of the root's `SubjectPublicKeyInfo` in DER: the first contact is authenticated both ways.
    pub root_pin: [u8; 32],
    /// Names the credential in lists and logs; letters, digits, `-` and `_`.
    pub id: String,
    /// Letters, digits, `-` and `_`. Never logged.
    pub secret: String,
}

/// Why a text is no join credential. The text itself is a secret and is not quoted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a join credential {why}; mint one with `outrider token create` and pass it whole")]
pub struct BadCredential {
    pub why: &'static str,
}

impl FromStr for JoinCredential {
    type Err = BadCredential;

    fn from_str(given: &str) -> Result<Self, BadCredential> {
        let bad = |why| BadCredential { why };
        let parts: Vec<&str> = given.split('.').take(6).collect();
        let &[version, trust_domain, pin, id, secret] = parts.as_slice() else {
            return Err(bad("has five parts, with dots between"));
        };
        if version != VERSION {
            return Err(bad("begins with outrider1."));
        }
        let trust_domain = BASE64_URL_SAFE_NO_PAD
            .decode(trust_domain)
            .ok()
            .and_then(|bytes| String::from_utf8(bytes).ok())
            .and_then(|name| name.parse().ok())
            .ok_or(bad("has a trust domain in base64url as its second part"))?;
        let root_pin = BASE64_URL_SAFE_NO_PAD
            .decode(pin)
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or(bad("has 32 bytes in base64url as its third part"))?;
        let legal = |part: &str| {
            (1..=PART_CHARS_MAX).contains(&part.len())
                && part.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
        };
        if !legal(id) || !legal(secret) {
            return Err(bad("ends with an id and a secret of letters, digits, '-' and '_'"));
        }
        Ok(Self { trust_domain, root_pin, id: id.to_owned(), secret: secret.to_owned() })
    }
}

/// The text form, with the secret: for the one who minted it, never for a log.
impl fmt::Display for JoinCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let trust_domain = BASE64_URL_SAFE_NO_PAD.encode(self.trust_domain.as_str());
        let pin = BASE64_URL_SAFE_NO_PAD.encode(self.root_pin);
        write!(f, "{VERSION}.{trust_domain}.{pin}.{}.{}", self.id, self.secret)
    }
}

impl fmt::Debug for JoinCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("JoinCredential")
            .field("trust_domain", &self.trust_domain.as_str())
            .field("id", &self.id)
            .finish_non_exhaustive()
    }
}
