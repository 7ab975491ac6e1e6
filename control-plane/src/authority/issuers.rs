//! The keys that sign: how they lie at rest, and how the next ones come.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use outrider_shared::SpiffeId;

use super::Authority;
use super::pki::{self, Issuer, PkiError};
use super::records::{KeyRecord, Seal};
use crate::store::{Change, Kind, Store};

impl Authority {
    /// Makes the next intermediate and signer where either is past half of its life; says whether it did. Leaves and
    /// snapshots of before carry the ones that signed them, and hold until they end.
    pub fn renew_issuers(&mut self, seal: &Seal, now_unix_s: i64) -> anyhow::Result<bool> {
        let certificates = [&self.intermediate.certificate, &self.signer.certificate];
        let due = certificates.map(|certificate| pki::is_past_half(certificate, now_unix_s));
        if !due.into_iter().collect::<Result<Vec<_>, _>>()?.contains(&true) {
            return Ok(false);
        }
        let root = stored_issuer(&self.store, "root", seal)?;
        let intermediate = pki::new_intermediate(&root, &self.domain, now_unix_s)?;
        let signer = pki::new_signer(&intermediate, &SpiffeId::of_control_plane(&self.domain), now_unix_s)?;
        let chain = signer_chain(&signer, &intermediate)?;
        let mut changes = vec![
            Change::put(Kind::Meta, "intermediate", &KeyRecord::of(&intermediate, seal)?),
            Change::put(Kind::Meta, "signer", &KeyRecord::of(&signer, seal)?),
        ];
        changes.extend(self.audit("renew", "intermediate and snapshot signer"));
        self.store.apply(&changes)?;
        (self.intermediate, self.signer, self.signer_chain) = (intermediate, signer, chain);
        Ok(true)
    }
}

/// Seals the keys that lie unsealed, where there is something to seal with; says whether there were any. Their old bytes
/// are in the file until it is compacted.
pub fn seal_at_rest(store: &Store, seal: &Seal) -> anyhow::Result<bool> {
    if matches!(seal, Seal::None) {
        return Ok(false);
    }
    let mut changes = Vec::new();
    for key in ["root", "intermediate", "signer"] {
        let record: Option<KeyRecord> = store.get(Kind::Meta, key)?;
        if let Some(record) = record.filter(|record| !record.is_sealed()) {
            changes.push(Change::put(Kind::Meta, key, &KeyRecord::of(&record.open(seal)?, seal)?));
        }
    }
    store.apply(&changes)?;
    Ok(!changes.is_empty())
}

pub(super) fn stored_issuer(store: &Store, key: &str, seal: &Seal) -> anyhow::Result<Issuer> {
    let record: Option<KeyRecord> = store.get(Kind::Meta, key)?;
    record.ok_or_else(|| anyhow::anyhow!("the store has no {key}"))?.open(seal)
}

/// In base64, as it goes with each snapshot.
pub(super) fn signer_chain(signer: &Issuer, intermediate: &Issuer) -> Result<Vec<String>, PkiError> {
    let chain = [&signer.certificate, &intermediate.certificate]
        .map(|certificate| certificate.to_der().map(|der| BASE64_STANDARD.encode(der)));
    Ok(chain.into_iter().collect::<Result<Vec<_>, _>>()?)
}
