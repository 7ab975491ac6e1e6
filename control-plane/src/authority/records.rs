//! What the authority keeps on disk. Secrets are kept as digests, private keys sealed where there is a key to seal with.

use std::ffi::OsString;
use std::path::Path;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use openssl::pkey::PKey;
use openssl::symm::Cipher;
use openssl::x509::X509;
use outrider_shared::{ServiceId, SidecarId};
use serde::{Deserialize, Serialize};

use super::pki::Issuer;

/// A join credential.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CredentialRecord {
    /// A token; otherwise a join secret.
    pub once: bool,
    pub service: ServiceId,
    pub secret: Digest,
    pub expires_unix_s: Option<i64>,
    /// The last sidecar that joined with it.
    pub used_by: Option<SidecarId>,
    pub revoked: bool,
}

impl CredentialRecord {
    /// Nobody can join with it any more.
    pub fn is_void(&self, now_unix_s: i64) -> bool {
        let spent = self.once && self.used_by.is_some();
        spent || self.revoked || self.expires_unix_s.is_some_and(|at| at <= now_unix_s)
    }
}

/// An instance credential that was not used for so long is void. 30 days: a laptop that slept over a holiday.
pub const INSTANCE_IDLE_S: i64 = 30 * 86_400;

/// A sidecar that has joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InstanceRecord {
    pub service: ServiceId,
    pub credential: Digest,
    /// SPKI, DER, base64.
    pub key: String,
    pub used_unix_s: i64,
}

impl InstanceRecord {
    pub fn is_void(&self, now_unix_s: i64) -> bool {
        now_unix_s.saturating_sub(self.used_unix_s) > INSTANCE_IDLE_S
    }
}

/// One thing that the authority did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditRecord {
    pub number: u64,
    pub unix_s: i64,
    pub what: String,
    pub whom: String,
}

/// SHA-256 in base64url, of a secret with so much entropy that a slow hash adds nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Digest(String);

impl Digest {
    pub fn as_bytes(&self) -> &[u8] {
        self.0.as_bytes()
    }
}

pub fn digest(secret: &[u8]) -> Digest {
    Digest(super::token(&openssl::sha::sha256(secret)))
}

/// `bytes` random bytes as text, of OpenSSL's source.
pub fn random_secret(bytes: usize) -> String {
    let mut random = vec![0; bytes];
    openssl::rand::rand_bytes(&mut random).expect("OpenSSL's random source is seeded by the kernel");
    super::token(&random)
}

/// Environment variable that holds the key for keys at rest, for those who keep secrets out of files.
pub const KEY_VARIABLE: &str = "OUTRIDER_KEY";

/// What private keys are sealed with at rest.
pub enum Seal {
    /// AES-256 by a passphrase, PKCS#8.
    Passphrase(Vec<u8>),
    /// Not at all: the file's mode alone protects them.
    None,
}

impl Seal {
    /// From a file, where one is named, or from [`KEY_VARIABLE`]'s value; not from both.
    pub fn of(file: Option<&Path>, variable: Option<OsString>) -> anyhow::Result<Self> {
        let (text, source) = match (file, variable) {
            (None, None) => return Ok(Self::None),
            (Some(file), Some(_)) => anyhow::bail!(
                "the key for keys at rest is given twice, by {} and by {KEY_VARIABLE}: give it once",
                file.display()
            ),
            (Some(file), None) => {
                let text = std::fs::read_to_string(file)
                    .with_context(|| format!("reading the key for keys at rest from {}", file.display()))?;
                (text, file.display().to_string())
            }
            (None, Some(text)) => match text.into_string() {
                Ok(text) => (text, KEY_VARIABLE.to_owned()),
                Err(_) => anyhow::bail!("{KEY_VARIABLE} is not UTF-8"),
            },
        };
        let passphrase = text.trim().as_bytes().to_vec();
        anyhow::ensure!(passphrase.len() >= 16, "{source} holds fewer than 16 characters");
        Ok(Self::Passphrase(passphrase))
    }
}

/// A certificate with its key.
#[derive(Debug, Serialize, Deserialize)]
pub struct KeyRecord {
    certificate: String,
    key: String,
    sealed: bool,
}

impl KeyRecord {
    pub fn of(issuer: &Issuer, seal: &Seal) -> anyhow::Result<Self> {
        let (key, sealed) = match seal {
            Seal::Passphrase(passphrase) => {
                let pem =
                    issuer.key.private_key_to_pem_pkcs8_passphrase(Cipher::aes_256_cbc(), passphrase)?;
                (String::from_utf8(pem)?, true)
            }
            Seal::None => (BASE64_STANDARD.encode(issuer.key.private_key_to_pkcs8()?), false),
        };
        Ok(Self { certificate: BASE64_STANDARD.encode(issuer.certificate.to_der()?), key, sealed })
    }

    pub fn is_sealed(&self) -> bool {
        self.sealed
    }

    pub fn open(&self, seal: &Seal) -> anyhow::Result<Issuer> {
        let certificate = X509::from_der(&BASE64_STANDARD.decode(&self.certificate)?)?;
        let key = match (self.sealed, seal) {
            (true, Seal::Passphrase(passphrase)) => PKey::private_key_from_pem_passphrase(
                self.key.as_bytes(),
                passphrase,
            )
            .context(
                "opening the sealed keys: is the key of --key-file or OUTRIDER_KEY the one that sealed them?",
            )?,
            (true, Seal::None) => {
                anyhow::bail!("the keys at rest are sealed: give the key with --key-file or OUTRIDER_KEY")
            }
            (false, _) => PKey::private_key_from_pkcs8(&BASE64_STANDARD.decode(&self.key)?)?,
        };
        Ok(Issuer { certificate, key })
    }
}
