//! A shard's connections to the endpoints of an upstream.

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::endpoint::Endpoint;
use super::machine::Input;
use super::share::Share;
use crate::leg::h2_client::{H2Connection, Lane};
use crate::mesh::{self, ConnectError};

/// HTTP/2 connections from one shard to one endpoint. 8: with 1,024 streams each, more than an upstream's permits.
const CONNECTIONS_MAX: usize = 8;
/// A shard leaves an endpoint out on its own after a failure for this long; by then the actor has published.
const AVOIDED: Duration = Duration::from_millis(500);

/// Why no connection was to be had.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NoConnection {
    #[error("connecting to an endpoint")]
    Connect(#[source] Arc<ConnectError>),
    /// All connections to the endpoint are full.
    #[error("{CONNECTIONS_MAX} connections to the endpoint have no stream left")]
    Full,
}

impl Share {
    /// A connection to `endpoint` with room for a request.
    pub async fn connection(
        self: &Rc<Self>,
        endpoint: &Rc<Endpoint>,
        lane: Lane,
    ) -> Result<H2Connection, NoConnection> {
        match endpoint.usable(lane) {
            Some(connection) => Ok(connection),
            // Boxed: rare, and large.
            None => Box::pin(self.new_connection(endpoint, lane)).await,
        }
    }

    /// Several callers share one attempt, which none of them can
    /// cancel.
    async fn new_connection(
        self: &Rc<Self>,
        endpoint: &Rc<Endpoint>,
        lane: Lane,
    ) -> Result<H2Connection, NoConnection> {
        let seen = endpoint.attempts.get();
        loop {
            if let Some(connection) = endpoint.usable(lane) {
                return Ok(connection);
            }
            if endpoint.attempts.get() != seen
                && let Some(failure) = endpoint.failure.borrow().clone()
            {
                return Err(NoConnection::Connect(failure));
            }
            let changed = endpoint.changed.notified();
            if !endpoint.connecting.get() {
                endpoint.connections.borrow_mut().retain(|c| c.is_open());
                // Also where others have used up, or closed, as many while this one waited.
                let meanwhile = endpoint.attempts.get() - seen;
                if endpoint.connections.borrow().len() >= CONNECTIONS_MAX
                    || meanwhile >= CONNECTIONS_MAX as u64
                {
                    return Err(NoConnection::Full);
                }
                endpoint.connecting.set(true);
                actix_rt::spawn(connect(Rc::clone(self), Rc::clone(endpoint), lane));
            }
            changed.await;
        }
    }

    /// Retires connections whose certificates are about to end, that are old, or that nobody uses. Called by the shard each second.
    pub fn sweep(&self, now: Instant) {
        for endpoint in self.endpoints().iter() {
            endpoint.connections.borrow_mut().retain(|connection| {
                if connection.is_due(now) {
                    connection.retire();
                }
                connection.is_open()
            });
            endpoint.count_connections();
        }
    }

    /// All connections take no new requests: the upstream is no longer in use.
    pub fn retire(&self) {
        for endpoint in self.endpoints.borrow().iter() {
            endpoint.connections.take().iter().for_each(H2Connection::retire);
        }
    }
}

/// One attempt, in a task of its own: whoever began it may be cancelled.
async fn connect(share: Rc<Share>, endpoint: Rc<Endpoint>, lane: Lane) {
    let identity = share.identity.borrow().clone();
    let connected = mesh::connect(&share.dialer, endpoint.address, identity.as_ref(), lane).await;
    match connected {
        Ok(connection) => {
            endpoint.failure.take();
            endpoint.connections.borrow_mut().push(connection);
            endpoint.count_connections();
            share.upstream.tell(Input::Connected { address: endpoint.address });
        }
        Err(error) => {
            let cause = crate::error_chain(&error);
            tracing::warn!(upstream = %share.upstream.key, address = %endpoint.address, cause, "cannot connect to an endpoint");
            endpoint.stats.connect_failures.increment();
            endpoint.avoided_until.set(Some(Instant::now() + AVOIDED));
            share.upstream.tell(Input::ConnectFailed { address: endpoint.address, cause });
            endpoint.failure.replace(Some(Arc::new(error)));
        }
    }
    endpoint.attempts.set(endpoint.attempts.get() + 1);
    endpoint.connecting.set(false);
    endpoint.changed.notify_waiters();
}
