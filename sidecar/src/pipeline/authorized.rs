//! The stage that asks [`super::authorize`], counts what audited policies would have done, and lets through or refuses.

use super::authorize::Would;
use super::find::FoundPort;
use super::record::Record;
use super::refused::Refused;

/// A request that may reach the app.
pub struct Authorized<'t> {
    pub(super) found: FoundPort<'t>,
}

pub fn authorize<'t>(found: FoundPort<'t>, record: &mut Record) -> Result<Authorized<'t>, Refused> {
    let identified = &found.identified;
    let view = identified.accepted.view();
    let verdict = found.table.authorization().authorize(&identified.principal, &view);
    for audit in &verdict.audits {
        if audit.would == Would::Refuse {
            record.audited(audit.id);
        }
    }
    match verdict.decision.check(&identified.principal) {
        Ok(()) => {
            if verdict.decision.rule() == found.table.mesh() {
                record.allowed_by_default();
            }
            Ok(Authorized { found })
        }
        Err(rejection) => {
            if let Some(notes) = &mut record.notes {
                notes.request(identified.accepted.authority.as_str(), &view);
                notes.caller(&identified.principal);
                notes.policies(found.table.authorization());
            }
            Err(Refused {
                rejection,
                rule: Some((verdict.decision.rule().clone(), found.table.revision())),
                target: Some((*found.local.name).into()),
            })
        }
    }
}
