//! Connections of the own app to an upstream whose policy does not say what is spoken there.

use std::rc::Rc;

use outrider_shared::ServiceId;
use tokio::net::TcpStream;
use tokio::sync::watch;

use super::{Shard, authority_of, serve_http1};
use crate::leg::detect::client::{self, Told};
use crate::leg::opaque;
use crate::listen::turned;
use crate::pipeline::AppConnection;

impl Shard {
    /// Serves it as what its first bytes turn out to be. A drain does not wait for a first byte.
    pub(super) async fn serve_detected(
        self: Rc<Self>,
        tcp: TcpStream,
        upstream: (ServiceId, u16),
        finish: watch::Receiver<bool>,
    ) {
        let limits = self.node.config.limits.of_app();
        let authority = authority_of(&upstream);
        let ahead = AppConnection::ahead(Rc::clone(&self), upstream.clone());
        let (told, found) = {
            let told = Box::pin(client::tell(&tcp, authority.clone(), &ahead, &limits));
            tokio::select! {
                told = told => told,
                () = turned(finish.clone()) => return,
            }
        };
        self.stats.shard().found(found, &format!("{}:{}", upstream.0, upstream.1));
        let connection = AppConnection::new(Rc::clone(&self), Some(upstream));
        let ended = match told {
            Told::Http1 => return serve_http1(tcp, finish, limits, connection).await,
            Told::Http2 => return Box::pin(self.serve_http2(tcp, finish, limits, connection)).await,
            Told::Tunnel(ahead) => match (anew(tcp), Box::pin(ahead.opened()).await) {
                (Ok(tcp), Some((giver, answer))) => Box::pin(opaque::join(tcp.into(), giver, answer)).await,
                // Asked for in earnest, so that its refusal is counted.
                (Ok(tcp), None) => Box::pin(opaque::serve(tcp.into(), authority, connection)).await,
                (Err(error), _) => Err(error.into()),
            },
            Told::Listener(ahead) => match (anew(tcp), Box::pin(ahead.opened()).await) {
                (Ok(tcp), Some((giver, answer))) => Box::pin(opaque::join(tcp.into(), giver, answer)).await,
                (Ok(_), None) => return,
                (Err(error), _) => Err(error.into()),
            },
            Told::Nothing => return,
        };
        if let Err(error) = ended {
            tracing::debug!(error = crate::error_chain(&error), "an opaque connection of the app ended");
        }
    }
}

/// The same connection, of which the runtime asks the kernel anew whether there is something to read: bytes that were looked
/// at, and not enough, were told to it as read.
fn anew(tcp: TcpStream) -> std::io::Result<TcpStream> {
    TcpStream::from_std(tcp.into_std()?)
}
