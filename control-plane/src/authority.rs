//! Who may have a certificate: roots, leaves, join credentials, instance credentials.
//!
//! ```text
//! Mint ─▶ a token (once) or a join secret      kept hashed, shown once
//! Join ─▶ credential spent, durably ─▶ instance recorded ─▶ leaf
//! Renew ─▶ instance credential and proof by the instance key ─▶ leaf, with or without a valid one
//! Sign ─▶ a snapshot's signature
//! ```
//!
//! A token is marked as spent before its leaf is handed out, in the same transaction that records the instance, by an
//! actor that does one thing at a time: it cannot be spent twice, nor be spent for nothing that is on disk.

pub mod actor;
mod issuers;
pub mod pki;
pub mod records;
mod refused;

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use openssl::x509::X509;
use outrider_shared::api::{MintAnswer, MintRequest};
use outrider_shared::identity::{JoinCredential, Material, TrustBundle};
use outrider_shared::join::{JoinAnswer, JoinRequest, Leaf, RENEW_CONTEXT, RenewRequest};
use outrider_shared::policy::Policy;
use outrider_shared::snapshot::{SIGNING_CONTEXT, SignedSnapshot};
use outrider_shared::{ServiceId, SidecarId, SpiffeId, TrustDomain};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer};
use subtle::ConstantTimeEq as _;

use crate::store::{Change, Kind, Store, StoreError};
pub use issuers::seal_at_rest;
use issuers::{signer_chain, stored_issuer};
use pki::{Issuer, PkiError};
use records::{AuditRecord, CredentialRecord, InstanceRecord, KeyRecord, digest, random_secret};
pub use refused::Refused;

/// The control plane's own leaf. 30 days, renewed at half of it.
pub const OWN_LEAF_S: i64 = 30 * 86_400;
/// A token's life where the request names none.
const TOKEN_TTL_S: u64 = 3_600;
/// Longest life that may be asked for: a year.
const TTL_MAX_S: u64 = 365 * 86_400;
/// Records of who was given what; the oldest go first.
const AUDIT_RECORDS_MAX: usize = 10_000;
/// Credentials that are kept, spent ones included; those that are void go when there is no room.
const CREDENTIALS_MAX: usize = 10_000;
/// Sidecars that have joined and may renew: twice as many as have a session at once. Those that are void go first.
const INSTANCES_MAX: usize = 20_000;

/// What kind of credential is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mint {
    Token,
    JoinSecret,
}

/// The authority of one trust domain.
pub struct Authority {
    store: Arc<Store>,
    domain: TrustDomain,
    root: X509,
    intermediate: Issuer,
    signer: Issuer,
    signer_chain: Vec<String>,
    audit_next: u64,
    instances: usize,
}

impl Authority {
    /// Loads the authority, or makes one for `domain` at first start.
    pub fn open(store: Arc<Store>, domain: &TrustDomain, seal: &records::Seal) -> anyhow::Result<Self> {
        let now = now_unix_s();
        if store.get::<KeyRecord>(Kind::Meta, "intermediate")?.is_none() {
            let root = pki::new_root(domain, now)?;
            let intermediate = pki::new_intermediate(&root, domain, now)?;
            let signer = pki::new_signer(&intermediate, &SpiffeId::of_control_plane(domain), now)?;
            store.apply(&[
                Change::put(Kind::Meta, "trust_domain", domain),
                Change::put(Kind::Meta, "root", &KeyRecord::of(&root, seal)?),
                Change::put(Kind::Meta, "intermediate", &KeyRecord::of(&intermediate, seal)?),
                Change::put(Kind::Meta, "signer", &KeyRecord::of(&signer, seal)?),
            ])?;
            tracing::info!(%domain, "made a root for the trust domain");
        }
        let kept: Option<TrustDomain> = store.get(Kind::Meta, "trust_domain")?;
        if kept.as_ref() != Some(domain) {
            anyhow::bail!(
                "the data directory is of trust domain {}, and the policy says {domain}: a trust domain cannot change; \
                 use a new --data-dir, or set MeshConfig.spec.trustDomain back",
                kept.map_or_else(|| "none".to_owned(), |kept| kept.to_string())
            );
        }
        let issuer = |key: &str| stored_issuer(&store, key, seal);
        let (root, intermediate, signer) =
            (issuer("root")?.certificate, issuer("intermediate")?, issuer("signer")?);
        let signer_chain = signer_chain(&signer, &intermediate)?;
        let last = store.last::<AuditRecord>(Kind::Audit)?.map_or(0, |(_, record)| record.number);
        let instances = store.all::<InstanceRecord>(Kind::Instance)?.len();
        Ok(Self {
            store,
            domain: domain.clone(),
            root,
            intermediate,
            signer,
            signer_chain,
            audit_next: last + 1,
            instances,
        })
    }

    pub fn domain(&self) -> &TrustDomain {
        &self.domain
    }

    /// A fresh identity for the control plane itself; its chain includes the root, by which joining sidecars know it.
    pub fn own_material(&self) -> anyhow::Result<Arc<Material>> {
        let identity = SpiffeId::of_control_plane(&self.domain);
        let leaf = pki::new_leaf(&self.intermediate, &identity, now_unix_s(), OWN_LEAF_S)?;
        let chain = [&leaf.certificate, &self.intermediate.certificate, &self.root]
            .map(|certificate| certificate.to_der().map(CertificateDer::from));
        let chain = chain.into_iter().collect::<Result<Vec<_>, _>>()?;
        let root = CertificateDer::from(self.root.to_der()?);
        let bundle = Arc::new(TrustBundle::new(self.domain.clone(), vec![root])?);
        let key = PrivatePkcs8KeyDer::from(leaf.key.private_key_to_pkcs8()?);
        Ok(Arc::new(Material::from_der(chain, key, bundle)?))
    }

    /// Signs a snapshot's body.
    pub fn sign(&self, body: String) -> Result<SignedSnapshot, PkiError> {
        let signature = pki::signature(&self.signer.key, &[SIGNING_CONTEXT, body.as_bytes()])?;
        Ok(SignedSnapshot {
            body,
            signature: BASE64_STANDARD.encode(signature),
            signer: self.signer_chain.clone(),
        })
    }

    /// Makes a join credential, which is shown this once.
    pub fn mint(
        &mut self,
        kind: Mint,
        request: &MintRequest,
        policy: &Policy,
    ) -> Result<MintAnswer, Refused> {
        if policy.service(&request.service).is_none() {
            return Err(Refused::UndeclaredService(request.service.clone()));
        }
        let now = now_unix_s();
        let ttl_s = match (kind, request.ttl_s) {
            (_, Some(ttl_s)) if ttl_s == 0 || ttl_s > TTL_MAX_S => {
                return Err(Refused::Malformed("ttl_s is between 1 and a year"));
            }
            (_, Some(ttl_s)) => Some(ttl_s),
            (Mint::Token, None) => Some(TOKEN_TTL_S),
            (Mint::JoinSecret, None) => None,
        };
        self.make_room_for_credential(now)?;
        let expires_unix_s = ttl_s.map(|ttl_s| now.saturating_add_unsigned(ttl_s));
        let (id, secret) = (random_secret(9), random_secret(32));
        let record = CredentialRecord {
            once: kind == Mint::Token,
            service: request.service.clone(),
            secret: digest(secret.as_bytes()),
            expires_unix_s,
            used_by: None,
            revoked: false,
        };
        let credential = JoinCredential {
            trust_domain: self.domain.clone(),
            root_pin: self.root_pin()?,
            id: id.clone(),
            secret,
        };
        let audit = self.audit("mint", &format!("{kind:?} {id} for {}", request.service));
        self.apply([Change::put(Kind::Credential, id.clone(), &record)], audit)?;
        Ok(MintAnswer { credential: credential.to_string(), id, expires_unix_s })
    }

    /// Voids a join credential. Sidecars that joined with it stay.
    pub fn revoke(&mut self, id: &str) -> Result<(), Refused> {
        let record: Option<CredentialRecord> = self.store.get(Kind::Credential, id)?;
        let record = record.ok_or(Refused::NoCredential)?;
        let audit = self.audit("revoke", &format!("credential {id} of {}", record.service));
        let revoked = CredentialRecord { revoked: true, ..record };
        self.apply([Change::put(Kind::Credential, id, &revoked)], audit)
    }

    /// Takes a new sidecar in.
    pub fn join(&mut self, request: &JoinRequest, policy: &Policy) -> Result<JoinAnswer, Refused> {
        let record: Option<CredentialRecord> = self.store.get(Kind::Credential, &request.credential_id)?;
        let record = record.ok_or(Refused::UnknownCredential)?;
        if !bool::from(digest(request.secret.as_bytes()).as_bytes().ct_eq(record.secret.as_bytes())) {
            return Err(Refused::UnknownCredential);
        }
        if record.revoked {
            return Err(Refused::Revoked);
        }
        if let (true, Some(by)) = (record.once, &record.used_by) {
            return Err(Refused::TokenUsed { by: by.clone() });
        }
        if record.expires_unix_s.is_some_and(|at| at <= now_unix_s()) {
            return Err(Refused::Expired);
        }
        if record.service != request.service {
            return Err(Refused::OtherService { bound: record.service, asked: request.service.clone() });
        }
        let instance_key = BASE64_STANDARD
            .decode(&request.instance_key)
            .map_err(|_| Refused::Malformed("instance_key is no base64"))?;
        if !pki::is_instance_key(&instance_key) {
            return Err(Refused::Malformed("instance_key is no public key of P-256, P-384 or Ed25519"));
        }
        let sidecar: SidecarId =
            format!("{:032x}", rand::random::<u128>()).parse().expect("32 lower-case hex digits");
        let leaf = self.leaf(&request.service, &sidecar, &request.csr, policy)?;
        self.make_room_for_instance(now_unix_s())?;
        let credential = random_secret(32);
        let instance = InstanceRecord {
            service: request.service.clone(),
            credential: digest(credential.as_bytes()),
            key: request.instance_key.clone(),
            used_unix_s: now_unix_s(),
        };
        let used = CredentialRecord { used_by: Some(sidecar.clone()), ..record };
        let what = format!("{sidecar} of {} by credential {}", request.service, request.credential_id);
        let audit = self.audit("join", &what);
        self.apply(
            [
                Change::put(Kind::Credential, request.credential_id.clone(), &used),
                Change::put(Kind::Instance, sidecar.as_str(), &instance),
            ],
            audit,
        )?;
        self.instances += 1;
        Ok(JoinAnswer { sidecar, instance_credential: credential, leaf })
    }

    /// Gives a sidecar its next leaf, whatever became of the last one.
    pub fn renew(&mut self, request: &RenewRequest, policy: &Policy) -> Result<Leaf, Refused> {
        let instance: Option<InstanceRecord> = self.store.get(Kind::Instance, request.sidecar.as_str())?;
        let instance = instance.ok_or(Refused::UnknownInstance)?;
        let shown = digest(request.instance_credential.as_bytes());
        if !bool::from(shown.as_bytes().ct_eq(instance.credential.as_bytes())) {
            return Err(Refused::UnknownCredential);
        }
        let now = now_unix_s();
        if instance.is_void(now) {
            return Err(Refused::InstanceExpired);
        }
        let malformed = |_| Refused::Malformed("csr or proof is no base64");
        let csr = BASE64_STANDARD.decode(&request.csr).map_err(malformed)?;
        let proof = BASE64_STANDARD.decode(&request.proof).map_err(malformed)?;
        let key = BASE64_STANDARD.decode(&instance.key).map_err(malformed)?;
        if !pki::proves(&key, &[RENEW_CONTEXT, &csr], &proof) {
            return Err(Refused::BadProof);
        }
        let leaf = self.leaf(&instance.service, &request.sidecar, &request.csr, policy)?;
        let used = InstanceRecord { used_unix_s: now, ..instance };
        self.store.put(Kind::Instance, request.sidecar.as_str(), &used)?;
        Ok(leaf)
    }

    /// The service of a sidecar that has joined.
    pub fn service_of(&self, sidecar: &SidecarId) -> Result<Option<ServiceId>, StoreError> {
        let instance: Option<InstanceRecord> = self.store.get(Kind::Instance, sidecar.as_str())?;
        Ok(instance.map(|instance| instance.service))
    }

    /// Who was given what, the newest last.
    pub fn audited(&self) -> Result<Vec<AuditRecord>, StoreError> {
        Ok(self.store.all(Kind::Audit)?.into_iter().map(|(_, record)| record).collect())
    }

    fn leaf(
        &self,
        service: &ServiceId,
        sidecar: &SidecarId,
        csr: &str,
        policy: &Policy,
    ) -> Result<Leaf, Refused> {
        let declared = policy.service(service).ok_or_else(|| Refused::UndeclaredService(service.clone()))?;
        let csr = BASE64_STANDARD.decode(csr).map_err(|_| Refused::Malformed("csr is no base64"))?;
        let now = now_unix_s();
        let life_s = i64::try_from(policy.mesh().certificate_lifetime().as_secs()).unwrap_or(OWN_LEAF_S);
        let holder = pki::Holder { identity: declared.identity(), sidecar };
        let leaf = pki::leaf_for_request(&self.intermediate, &csr, &holder, now, life_s)?;
        let text = |certificate: &X509| certificate.to_der().map(|der| BASE64_STANDARD.encode(der));
        let encoded = || -> Result<Leaf, openssl::error::ErrorStack> {
            Ok(Leaf {
                chain: vec![text(&leaf)?, text(&self.intermediate.certificate)?],
                bundle: vec![text(&self.root)?],
                not_after_unix_s: now + life_s,
            })
        };
        Ok(encoded().map_err(PkiError::from)?)
    }

    fn make_room_for_credential(&self, now_unix_s: i64) -> Result<(), Refused> {
        let kept: Vec<(String, CredentialRecord)> = self.store.all(Kind::Credential)?;
        if kept.len() < CREDENTIALS_MAX {
            return Ok(());
        }
        let void = kept.iter().filter(|(_, record)| record.is_void(now_unix_s));
        let void: Vec<Change> = void.map(|(id, _)| Change::Remove(Kind::Credential, id.clone())).collect();
        if void.is_empty() {
            return Err(Refused::TooMany(kept.len()));
        }
        Ok(self.store.apply(&void)?)
    }

    fn make_room_for_instance(&mut self, now_unix_s: i64) -> Result<(), Refused> {
        if self.instances < INSTANCES_MAX {
            return Ok(());
        }
        let kept: Vec<(String, InstanceRecord)> = self.store.all(Kind::Instance)?;
        let void = kept.iter().filter(|(_, record)| record.is_void(now_unix_s));
        let void: Vec<Change> = void.map(|(id, _)| Change::Remove(Kind::Instance, id.clone())).collect();
        if void.is_empty() {
            return Err(Refused::TooManyInstances(kept.len()));
        }
        self.instances = kept.len() - void.len();
        Ok(self.store.apply(&void)?)
    }

    fn root_pin(&self) -> Result<[u8; 32], PkiError> {
        let spki = self.root.public_key()?.public_key_to_der()?;
        Ok(openssl::sha::sha256(&spki))
    }

    /// A record of what is about to happen, with those that it pushes out.
    fn audit(&mut self, what: &str, whom: &str) -> Vec<Change> {
        let number = self.audit_next;
        self.audit_next += 1;
        let record =
            AuditRecord { number, unix_s: now_unix_s(), what: what.to_owned(), whom: whom.to_owned() };
        tracing::info!(what, whom, "issued");
        let mut changes = vec![Change::put(Kind::Audit, format!("{number:020}"), &record)];
        if let Some(oldest) = number.checked_sub(AUDIT_RECORDS_MAX as u64) {
            changes.push(Change::Remove(Kind::Audit, format!("{oldest:020}")));
        }
        changes
    }

    fn apply<const N: usize>(&self, changes: [Change; N], audit: Vec<Change>) -> Result<(), Refused> {
        Ok(self.store.apply(&changes.into_iter().chain(audit).collect::<Vec<_>>())?)
    }
}

/// Seconds since 1970.
pub fn now_unix_s() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Random text for ids and secrets.
pub(crate) fn token(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}

#[cfg(test)]
mod tests;
