//! An app that records each byte of each connection, and answers as a script says.

use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

use super::message::{self, Message, Read};
use super::script::{PAUSE, Step};

/// What is done with a request that has come whole.
pub type Script = dyn Fn(&Message) -> Vec<Step> + Send + Sync;

/// What came on one connection, up to now.
type Log = Arc<Mutex<Vec<u8>>>;

/// See the module. It ends, connections and all, when it is dropped.
pub struct Recorder {
    address: SocketAddr,
    connections: Arc<Mutex<Vec<Log>>>,
    performed: Arc<AtomicUsize>,
    server: JoinHandle<()>,
}

/// A request, or what else came, in the order of its connection.
#[derive(Debug, Clone)]
pub struct Record {
    /// Which connection, in the order in which they were opened.
    pub connection: usize,
    pub read: Read,
    pub raw: Vec<u8>,
    /// Nothing came after it on its connection.
    pub last: bool,
}

impl Recorder {
    pub fn start(
        address: SocketAddr,
        script: impl Fn(&Message) -> Vec<Step> + Send + Sync + 'static,
    ) -> Self {
        let listener = listen(address);
        let address = listener.local_addr().expect("a bound socket has an address");
        let connections = Arc::<Mutex<Vec<Log>>>::default();
        let logs = Arc::clone(&connections);
        let performed = Arc::<AtomicUsize>::default();
        let count = Arc::clone(&performed);
        let script: Arc<Script> = Arc::new(script);
        let server = tokio::spawn(async move {
            // Dropped with the task, and every connection with it.
            let mut open = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                while open.try_join_next().is_some() {}
                let log = Log::default();
                logs.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&log));
                open.spawn(serve(stream, log, Arc::clone(&script), Arc::clone(&count)));
            }
        });
        Self { address, connections, performed, server }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Scripts gone through to their end: what they send lies in the other side's buffers.
    pub fn performed(&self) -> usize {
        self.performed.load(Ordering::Relaxed)
    }

    /// Everything that has come, message by message.
    pub fn records(&self) -> Vec<Record> {
        let connections = self.connections.lock().unwrap_or_else(PoisonError::into_inner);
        let mut records = Vec::new();
        for (connection, log) in connections.iter().enumerate() {
            let log = log.lock().unwrap_or_else(PoisonError::into_inner);
            let mut rest = &log[..];
            while !rest.is_empty() {
                let read = message::request(rest);
                let length = if let Read::Whole { length, .. } = read { length } else { rest.len() };
                let raw = rest[..length].to_vec();
                rest = &rest[length..];
                records.push(Record { connection, read, raw, last: rest.is_empty() });
            }
        }
        records
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.server.abort();
    }
}

/// The address belongs to the case; somebody who dials it before has at most a socket in `TIME_WAIT` there.
fn listen(address: SocketAddr) -> TcpListener {
    let socket = TcpSocket::new_v4().expect("a socket is to be had");
    socket.set_reuseaddr(true).expect("an option of every socket");
    socket.bind(address).expect("the address belongs to this case");
    socket.listen(1024).expect("a bound socket listens")
}

async fn serve(mut stream: TcpStream, log: Log, script: Arc<Script>, count: Arc<AtomicUsize>) {
    // A connection that ends badly is for the judge to see in what came of it.
    let _ = stream.set_nodelay(true);
    let mut answered = 0;
    let mut continued = None;
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = message::request(&bytes_from(&log, answered));
        match read {
            Read::Whole { message, length } => {
                answered += length;
                let performed = perform(&mut stream, script(&message)).await;
                count.fetch_add(1, Ordering::Relaxed);
                match performed {
                    Ok(true) => continue,
                    Ok(false) | Err(_) => break,
                }
            }
            // Nothing that follows can be answered.
            Read::Bad { .. } => break,
            Read::Partial { head: Some(head) } if continued != Some(answered) => {
                continued = Some(answered);
                let expects =
                    head.value("expect").is_some_and(|value| value.eq_ignore_ascii_case("100-continue"));
                if expects && stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_err() {
                    break;
                }
            }
            Read::Partial { .. } => {}
        }
        match stream.read(&mut buffer).await {
            Ok(0) | Err(_) => return,
            Ok(length) => append(&log, &buffer[..length]),
        }
    }
    // What still comes is recorded too, for as long as anybody sends: it should not have come.
    while let Ok(Ok(length)) = tokio::time::timeout(Duration::from_millis(50), stream.read(&mut buffer)).await
    {
        if length == 0 {
            return;
        }
        append(&log, &buffer[..length]);
    }
}

fn bytes_from(log: &Log, at: usize) -> Vec<u8> {
    log.lock().unwrap_or_else(PoisonError::into_inner)[at..].to_vec()
}

fn append(log: &Log, bytes: &[u8]) {
    log.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(bytes);
}

/// Whether the connection goes on.
async fn perform(stream: &mut TcpStream, steps: Vec<Step>) -> io::Result<bool> {
    for step in steps {
        match step {
            Step::Send(bytes) => stream.write_all(&bytes).await?,
            Step::Pause => tokio::time::sleep(PAUSE).await,
            Step::Fin | Step::Close => {
                stream.shutdown().await?;
                return Ok(false);
            }
            Step::Reset => {
                stream.set_zero_linger()?;
                return Ok(false);
            }
            Step::Await(bytes) => panic!("an app waits for a whole request, not for {bytes:?}"),
        }
    }
    Ok(true)
}
