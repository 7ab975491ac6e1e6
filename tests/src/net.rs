//! Servers that misbehave below HTTP.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinHandle;

/// A listener whose queue is full, so that whoever connects hears nothing: what a firewall that drops packets looks like.
#[derive(Debug)]
pub struct Saturated {
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl Saturated {
    pub async fn start(address: SocketAddr) -> Self {
        let socket = TcpSocket::new_v4().expect("a socket is to be had");
        socket.bind(address).expect("the address belongs to this case");
        let listener = socket.listen(0).expect("a bound socket listens");
        let mut queued = Vec::new();
        // A connect on loopback takes microseconds, or waits for the SYN to be sent again after a second.
        while let Ok(connected) =
            tokio::time::timeout(Duration::from_millis(300), TcpStream::connect(address)).await
        {
            queued.push(connected.expect("the queue has room"));
            assert!(queued.len() < 64, "a queue of 0 is small");
        }
        Self { _listener: listener, _queued: queued }
    }
}

/// Answers whatever comes first on a connection with `answer`, and nothing after it.
pub async fn babbles(address: SocketAddr, answer: &'static [u8]) -> JoinHandle<()> {
    let listener = TcpListener::bind(address).await.expect("the address belongs to this case");
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            // It may have gone already: a probe of the port.
            if stream.read(&mut [0; 1024]).await.is_ok_and(|length| length > 0) {
                let _ = stream.write_all(answer).await;
                open.push(stream);
            }
        }
    })
}

/// Speaks first: `greeting` to whoever connects.
pub async fn greets(address: SocketAddr, greeting: &'static [u8]) -> JoinHandle<()> {
    let listener = TcpListener::bind(address).await.expect("the address belongs to this case");
    tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((mut stream, _)) = listener.accept().await {
            // It may have gone already: a probe of the port.
            let _ = stream.write_all(greeting).await;
            open.push(stream);
        }
    })
}

/// Sends back what comes, and closes its half when the other has closed theirs.
pub async fn echo(address: SocketAddr) -> JoinHandle<()> {
    let listener = TcpListener::bind(address).await.expect("the address belongs to this case");
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                tokio::io::copy(&mut read, &mut write).await?;
                write.shutdown().await
            });
        }
    })
}

/// Keeps what comes on each connection, and says nothing.
#[derive(Debug)]
pub struct Keeper {
    connections: Arc<Mutex<Vec<Vec<u8>>>>,
    _server: JoinHandle<()>,
}

impl Keeper {
    /// Of the connections on which anything came, in the order in which they were opened.
    pub fn kept(&self) -> Vec<Vec<u8>> {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        connections.iter().filter(|bytes| !bytes.is_empty()).cloned().collect()
    }
}

/// See [`Keeper`].
pub async fn keeps(address: SocketAddr) -> Keeper {
    let listener = TcpListener::bind(address).await.expect("the address belongs to this case");
    let connections = Arc::<Mutex<Vec<Vec<u8>>>>::default();
    let all = Arc::clone(&connections);
    let server = tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let lock = || all.lock().unwrap_or_else(PoisonError::into_inner);
            let at = lock().len();
            lock().push(Vec::new());
            let all = Arc::clone(&all);
            tokio::spawn(async move {
                let mut buffer = [0; 1024];
                while let Ok(length @ 1..) = stream.read(&mut buffer).await {
                    let mut all = all.lock().unwrap_or_else(PoisonError::into_inner);
                    all[at].extend_from_slice(&buffer[..length]);
                }
            });
        }
    });
    Keeper { connections, _server: server }
}
