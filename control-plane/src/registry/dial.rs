//! Dials a sidecar's mesh port, to see that whoever registered it is who answers there.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use outrider_shared::SpiffeId;
use outrider_shared::identity::{Material, mesh_client_config, peer_refusal_of_io};
use rustls_pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// Connect and handshake. 3 s: longer than any that a caller would wait for.
const DIAL_MAX: Duration = Duration::from_secs(3);

/// `Ok` where the handshake has shown `expected`; otherwise why not, in words.
pub async fn dial(own: Arc<Material>, address: SocketAddr, expected: SpiffeId) -> Result<(), String> {
    let config = mesh_client_config(&own, &expected);
    let shaken = async {
        let tcp = TcpStream::connect(address).await.map_err(|error| format!("{address}: {error}"))?;
        let name = ServerName::IpAddress(address.ip().into());
        match TlsConnector::from(config).connect(name, tcp).await {
            Ok(_) => Ok(()),
            Err(error) => Err(match peer_refusal_of_io(&error) {
                Some(refusal) => format!("{address}: {refusal}"),
                None => format!("{address}: the handshake failed: {error}"),
            }),
        }
    };
    tokio::time::timeout(DIAL_MAX, shaken)
        .await
        .unwrap_or_else(|_| Err(format!("{address} does not answer within {DIAL_MAX:?}")))
}
