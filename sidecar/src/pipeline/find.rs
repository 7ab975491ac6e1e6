//! Which rule a request is for, found once; nothing after this stage matches again.

use outrider_shared::snapshot::{AppProtocol, Egress, Mtls};

use super::accept::Accepted;
use super::identify::{AppConnection, Identified, InboundConnection, WayIn};
use super::matching::{LocalTarget, Rule, Table};
use super::record::Record;
use super::refused::Refused;
use super::rejection::Rejection;
use super::upgrade::{self, Tunnel};

/// Outbound: the route rule that applies.
pub struct Found<'t> {
    pub(super) accepted: Accepted,
    pub(super) rule: &'t Rule,
}

/// Outbound: a host that is no service of the mesh, where policy lets apps call such hosts.
pub struct Outside {
    pub(super) accepted: Accepted,
}

/// What an app asks for.
pub enum Asked<'t> {
    Service(Found<'t>),
    Outside(Outside),
}

/// Inbound: the port of the app that is asked for.
pub struct FoundPort<'t> {
    pub(super) identified: Identified,
    pub(super) table: &'t Table,
    pub(super) local: &'t LocalTarget,
}

/// By the listener's own upstream, or else by Host.
pub fn service<'t>(
    app: &AppConnection,
    table: &'t Table,
    accepted: Accepted,
    record: &mut Record,
) -> Result<Asked<'t>, Refused> {
    let view = accepted.view();
    if let Some(notes) = &mut record.notes {
        notes.request(accepted.authority.as_str(), &view);
    }
    let destination = match &app.upstream {
        Some((service, port)) => table.outbound_to(service, Some(*port)),
        None => table.outbound(accepted.authority.as_str()),
    };
    if matches!(destination, Err(Rejection::UnknownHost { .. })) && table.egress() == Egress::Allow {
        return Ok(Asked::Outside(Outside { accepted }));
    }
    let destination = destination.map_err(|rejection| {
        if let Some(notes) = &mut record.notes {
            notes.services(table);
        }
        Refused { rejection, rule: Some((table.mesh().clone(), table.revision())), target: None }
    })?;
    let rule = destination.route(&view).map_err(|rejection| {
        if let Some(notes) = &mut record.notes {
            notes.rules(destination, &view);
        }
        Refused { rejection, rule: None, target: Some((*destination.target.name).into()) }
    })?;
    Ok(Asked::Service(Found { accepted, rule }))
}

/// By what the peer asks for, or in plaintext by Host, which must be declared here, or by the edge that the client came to.
pub fn port<'t>(
    from: &InboundConnection,
    table: &'t Table,
    identified: Identified,
    record: &mut Record,
) -> Result<FoundPort<'t>, Refused> {
    let local = match from.way_in() {
        WayIn::Edge { port, .. } => table.edge(port).ok_or(Rejection::NotReady)?,
        WayIn::Mesh => {
            let asked = identified.accepted.asked.as_ref().ok_or(Rejection::MalformedTarget)?;
            table.inbound(asked)?
        }
        WayIn::Plaintext { .. } => {
            let local = table.plaintext(identified.accepted.authority.as_str())?;
            if local.mtls == Mtls::Strict {
                return Err(Refused {
                    rejection: Rejection::MtlsRequired { port: local.port },
                    rule: Some((table.mesh().clone(), table.revision())),
                    target: Some((*local.name).into()),
                });
            }
            local
        }
    };
    upgrade::fits(identified.accepted.tunnel, local.app_protocol)?;
    if identified.accepted.tunnel == Some(Tunnel::Connect) && local.app_protocol == AppProtocol::Detect {
        if from.way_in() != WayIn::Mesh {
            return Err(
                Rejection::MalformedRequest { why: "from outside of the mesh, HTTP alone is taken" }.into()
            );
        }
        if identified.accepted.ahead {
            record.is_ahead();
        }
    }
    record.comes_from(&from.peer_stats(local.port));
    if let Some(trace) = &mut record.trace {
        trace.serves(&local.name);
    }
    Ok(FoundPort { identified, table, local })
}
