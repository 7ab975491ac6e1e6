//! A collector in the test's process: it decodes real OTLP, over HTTP and over gRPC, and can be away, silent or back.

use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::trace::v1::{ResourceSpans, Span};
use prost::Message;
use socket2::{Domain, Socket, Type};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::TlsAcceptor;

use crate::telemetry::Protocol;

/// A port that is ours, and that nobody answers until [`Collector::listen`].
pub(super) struct Collector {
    socket: Socket,
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<Received>>>,
}

/// What one export brought.
#[derive(Debug, Clone)]
pub(super) struct Received {
    pub path: String,
    pub headers: HeaderMap,
    pub spans: Vec<ResourceSpans>,
}

impl Collector {
    pub fn away() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into()).unwrap();
        let address = socket.local_addr().unwrap().as_socket().unwrap();
        Self { socket, address, received: Arc::default() }
    }

    /// The system completes connections, and nobody ever reads from them.
    pub fn silent() -> Self {
        let collector = Self::away();
        collector.socket.listen(16).unwrap();
        collector
    }

    /// From now on it answers.
    pub fn listen(&self, protocol: Protocol) {
        self.accept(protocol, None);
    }

    /// From now on it answers, over TLS.
    pub fn listen_with_tls(&self, protocol: Protocol, mut config: rustls::ServerConfig) {
        let spoken: &[u8] = match protocol {
            Protocol::HttpProtobuf => b"http/1.1",
            Protocol::Grpc => b"h2",
        };
        config.alpn_protocols = vec![spoken.to_vec()];
        self.accept(protocol, Some(TlsAcceptor::from(Arc::new(config))));
    }

    fn accept(&self, protocol: Protocol, tls: Option<TlsAcceptor>) {
        self.socket.listen(16).unwrap();
        self.socket.set_nonblocking(true).unwrap();
        let listener = tokio::net::TcpListener::from_std(self.socket.try_clone().unwrap().into()).unwrap();
        let received = Arc::clone(&self.received);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let received = Arc::clone(&received);
                let tls = tls.clone();
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, protocol, received).await,
                        // An exporter that does not believe it, or whom it does not know, is no matter of its own.
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, protocol, received).await;
                            }
                        }
                    }
                });
            }
        });
    }

    pub fn answering(protocol: Protocol) -> Self {
        let collector = Self::away();
        collector.listen(protocol);
        collector
    }

    pub fn requests(&self) -> Vec<Received> {
        self.received.lock().unwrap().clone()
    }

    pub fn spans(&self) -> Vec<Span> {
        let resources = self.requests().into_iter().flat_map(|request| request.spans);
        resources.flat_map(|resource| resource.scope_spans).flat_map(|scope| scope.spans).collect()
    }
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    protocol: Protocol,
    received: Arc<Mutex<Vec<Received>>>,
) {
    let answer = service_fn(move |request| answer(request, protocol, Arc::clone(&received)));
    let stream = TokioIo::new(stream);
    // The exporter leaving is no matter of the collector's.
    let _ = match protocol {
        Protocol::HttpProtobuf => {
            hyper::server::conn::http1::Builder::new().serve_connection(stream, answer).await
        }
        Protocol::Grpc => {
            let builder = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
            builder.serve_connection(stream, answer).await
        }
    };
}

async fn answer(
    request: Request<Incoming>,
    protocol: Protocol,
    received: Arc<Mutex<Vec<Received>>>,
) -> Result<Response<http_body_util::combinators::BoxBody<Bytes, Infallible>>, Infallible> {
    let (head, body) = request.into_parts();
    let mut body = body.collect().await.expect("the exporter sends whole bodies").to_bytes();
    if protocol == Protocol::Grpc {
        // One message: a byte that says whether it is compressed, and its length.
        assert_eq!((body.get_u8(), usize::try_from(body.get_u32()).unwrap()), (0, body.len()));
    }
    let decoded = ExportTraceServiceRequest::decode(body).expect("the exporter sends legal protobuf");
    received.lock().unwrap().push(Received {
        path: head.uri.path().to_owned(),
        headers: head.headers,
        spans: decoded.resource_spans,
    });
    let (media_type, body) = match protocol {
        Protocol::HttpProtobuf => ("application/x-protobuf", Full::new(Bytes::new()).boxed()),
        Protocol::Grpc => {
            let trailers = HeaderMap::from_iter([("grpc-status".parse().unwrap(), "0".parse().unwrap())]);
            let empty_message = Full::new(Bytes::from_static(&[0; 5]));
            ("application/grpc", empty_message.with_trailers(async { Some(Ok(trailers)) }).boxed())
        }
    };
    Ok(Response::builder().header("content-type", media_type).body(body).unwrap())
}
