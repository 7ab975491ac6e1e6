//! To another service's sidecar.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Instant;

use http::{HeaderMap, Response};
use http_body::Body as _;

use super::{Deadline, Failure, Forwarded, Underway, after_head, commit, over_h2, within};
use crate::leg::body::Body;
use crate::leg::interim::Interim;
use crate::mesh::{CONNECT_MAX, ConnectError};
use crate::pipeline::accept::WAY;
use crate::pipeline::accept::wire::{never_reached_app, was_shed};
use crate::pipeline::choose::{Chosen, Tried};
use crate::pipeline::judge::{self, Answered, By, Ended, Trailers};
use crate::pipeline::matching::Protocol;
use crate::pipeline::record::Record;
use crate::pipeline::rejection::Rejection;
use crate::pipeline::route::Routed;
use crate::pipeline::urgency::RETRIED;
use crate::pipeline::{headers, upgrade, way};
use crate::shard::Shard;
use crate::upstream::attempt::Whose;
use crate::upstream::connect::NoConnection;
use crate::upstream::share::Share;

/// The head of an answer from an endpoint, before anything of it is passed on: the request may still be sent again.
pub struct Reply {
    response: Response<Body>,
    underway: Underway,
    chosen: Chosen,
    deadline: Option<Deadline>,
    sent_at: Instant,
    /// Who made it.
    by: By,
}

/// To an endpoint of another service. An answer of its sidecar that says "never reached the app" counts as never ran
/// only where the request can still go elsewhere: otherwise it is the answer.
pub async fn to_peer(
    shard: &Shard,
    routed: &mut Routed<'_>,
    mut chosen: Chosen,
    tried: &Tried,
    interim: &Interim,
) -> Result<Reply, Failure> {
    let began_at = Instant::now();
    let deadline = routed.deadline(began_at);
    if let Some(over) = deadline.as_ref().filter(|deadline| deadline.at <= began_at) {
        return Err(Failure::Final(over.rejection.clone()));
    }
    let share = Rc::clone(&routed.share);
    let address = chosen.address();
    let answered = {
        // Pinned here, so that `within` has no copy of it: a future is as large as everything that it may hold.
        let attempt = std::pin::pin!(async {
            // What a new connection takes says nothing about the next request.
            let sent_at = Cell::new(began_at);
            let (lane, endpoint) = (routed.outgoing.lane(), chosen.attempt.endpoint());
            let connect = async || {
                let connection = share.connection(endpoint, lane).await;
                sent_at.set(Instant::now());
                connection.map_err(|error| rejection_of(&error, &share))
            };
            let reset = Rejection::UpstreamReset { endpoint: address };
            let answered = over_h2(connect, &routed.outgoing, &mut routed.body, reset, interim).await?;
            Ok((answered, sent_at.get()))
        });
        within(attempt, deadline.as_ref()).await
    };
    let now = Instant::now();
    let ((response, underway), sent_at) = match answered {
        Ok(answered) => answered,
        Err(failure) => {
            let ended = failure.ended();
            if matches!(ended, Ended::AttemptTimedOut | Ended::RequestTimedOut | Ended::Reset) {
                // It took at least so long, and gave nothing.
                let whose = deadline.as_ref().map_or(Whose::Routes, |deadline| deadline.whose);
                chosen.attempt.gave_up(now.saturating_duration_since(began_at), whose, now);
            }
            chosen.attempt.end(ended, now);
            return Err(failure);
        }
    };
    let never_ran = never_reached_app(response.headers());
    let by = if was_shed(response.headers()) { By::Shed } else { By::Backend };
    if never_ran || by == By::Shed {
        chosen.attempt.was_refused(now);
    } else {
        chosen.attempt.answered(now.saturating_duration_since(sent_at), now);
    }
    if never_ran && may_go_elsewhere(shard, routed, address, tried) {
        chosen.attempt.end(if by == By::Shed { Ended::Declined } else { Ended::ConnectFailed }, now);
        return Err(Failure::NeverRan(Rejection::UpstreamReset { endpoint: address }));
    }
    Ok(Reply { response, underway, chosen, deadline, sent_at, by })
}

impl Reply {
    pub fn address(&self) -> SocketAddr {
        self.chosen.address()
    }

    pub fn fields(&self) -> &HeaderMap {
        self.response.headers()
    }

    /// As policy for retries looks at it.
    pub fn ended(&self, protocol: Protocol) -> Ended {
        let (status, by) = (self.response.status(), self.by);
        let trailers =
            if self.response.body().is_end_stream() { Trailers::Over(None) } else { Trailers::ToCome };
        let grpc =
            (protocol == Protocol::Grpc).then(|| judge::grpc(status, self.fields(), trailers)).flatten();
        Ended::Answered(Answered { status, grpc, by })
    }

    /// Retries were spent behind it.
    pub fn was_retried(&self) -> bool {
        self.fields().contains_key(&RETRIED)
    }

    /// It is given up for another attempt.
    pub fn drop_for_retry(self, ended: Ended) {
        self.chosen.attempt.end(ended, Instant::now());
    }

    /// It is the answer.
    pub fn settle(
        self,
        routed: &mut Routed<'_>,
        tried: &Tried,
        record: &mut Record,
    ) -> Result<Forwarded, Failure> {
        let head = self.ended(record.protocol());
        // How a call of gRPC ended is in its trailers.
        let says_enough = record.protocol() == Protocol::Http
            || matches!(head, Ended::Answered(Answered { grpc: Some(_), .. }));
        let Self { mut response, mut underway, mut chosen, deadline, sent_at, by } = self;
        if says_enough && opened_or_streams(&response) {
            chosen.attempt.goes_on(&head);
        }
        commit(&mut routed.body, &mut underway);
        let opened = upgrade::is_opened(&response);
        let fields = response.headers_mut();
        let inner_way = fields.remove(&WAY);
        headers::remove_hop_by_hop(fields);
        headers::strip_reserved(fields);
        routed.rule.response_headers.apply(fields);
        routed.backend.response_headers.apply(fields);
        if routed.explain {
            fields.insert(&WAY, way::outbound(routed, &chosen, tried, sent_at, inner_way.as_ref()));
        }
        if let Some(tunnel) = routed.outgoing.tunnel {
            upgrade::settle(&mut response, tunnel, opened, routed.form).map_err(Failure::Final)?;
        }
        if by == By::Shed {
            record.was_shed();
        }
        let Chosen { permit, attempt } = chosen;
        underway.held.permit = Some(after_head(permit, &response));
        underway.held.attempt = Some(attempt);
        // A tunnel is open for as long as its ends want it to be.
        let deadline = deadline.map(|deadline| deadline.at).filter(|_| !opened);
        Ok(Forwarded { response, held: underway.held, deadline })
    }
}

/// Whether more is to come of it, for however long.
fn opened_or_streams(response: &Response<Body>) -> bool {
    upgrade::is_opened(response) || !response.body().is_end_stream()
}

fn may_go_elsewhere(shard: &Shard, routed: &Routed<'_>, address: SocketAddr, tried: &Tried) -> bool {
    let mut tried = tried.clone();
    tried.push(address);
    routed.can_go_elsewhere(shard, &tried)
}

fn rejection_of(error: &NoConnection, share: &Share) -> Rejection {
    let NoConnection::Connect(error) = error else {
        return Rejection::ConcurrencyLimit { limit: share.upstream.leases.limit() };
    };
    match &**error {
        ConnectError::NoIdentity => Rejection::NotReady,
        ConnectError::Tcp { address, .. } => Rejection::ConnectFailed { endpoint: *address },
        ConnectError::TcpTimeout { address } => {
            Rejection::ConnectTimeout { endpoint: *address, limit: CONNECT_MAX }
        }
        ConnectError::Peer { address, source } => {
            Rejection::PeerIdentity { endpoint: *address, refusal: Box::new(source.clone()) }
        }
        ConnectError::Tls { address, .. }
        | ConnectError::HandshakeTimeout { address }
        | ConnectError::Http2 { address, .. } => Rejection::TlsFailed { endpoint: *address },
    }
}
