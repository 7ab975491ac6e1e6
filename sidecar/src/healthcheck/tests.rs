use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread::JoinHandle;
use std::time::Instant;

use socket2::{Domain, Socket, Type};

use super::{TIME_MAX, Unhealthy, healthcheck};

/// Answers one connection with these bytes, and returns the request that it read.
fn answers_once(answer: &'static [u8]) -> (u16, JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = listener.local_addr().expect("the listener is bound").port();
    let server = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a client connects");
        let mut request = Vec::new();
        let mut byte = [0];
        while !request.ends_with(b"\r\n\r\n") {
            stream.read_exact(&mut byte).expect("the client sends a whole head");
            request.push(byte[0]);
        }
        stream.write_all(answer).expect("the client still reads");
        String::from_utf8(request).expect("the head is ASCII")
    });
    (port, server)
}

#[test]
fn a_200_is_healthy_and_the_path_that_was_given_is_asked() {
    let (port, server) = answers_once(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    healthcheck(&format!("http://localhost:{port}/ready?verbose")).expect("200 is healthy");
    let request = server.join().expect("the server ended");
    assert!(request.starts_with("GET /ready?verbose HTTP/1.1\r\n"), "{request}");
    assert!(request.contains(&format!("Host: localhost:{port}\r\n")), "{request}");
}

#[test]
fn any_other_status_is_unhealthy_by_name() {
    let (port, server) = answers_once(b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
    let answer = healthcheck(&format!("http://127.0.0.1:{port}/ready"));
    assert!(matches!(answer, Err(Unhealthy::Status { status: 503, .. })), "{answer:?}");
    server.join().expect("the server ended");
}

#[test]
fn what_is_not_http_is_unhealthy() {
    for garbage in [b"SSH-2.0-OpenSSH_9".as_slice(), b"HTTP/1.1 \xff\xfe\xfd OK\r\n\r\n"] {
        let (port, server) = answers_once(garbage);
        let answer = healthcheck(&format!("http://127.0.0.1:{port}/"));
        assert!(matches!(answer, Err(Unhealthy::NotHttp { .. })), "{answer:?}");
        server.join().expect("the server ended");
    }
}

#[test]
fn a_short_answer_is_unreachable() {
    let (port, server) = answers_once(b"HTTP/1.1");
    let answer = healthcheck(&format!("http://127.0.0.1:{port}/"));
    assert!(matches!(answer, Err(Unhealthy::Unreachable { .. })), "{answer:?}");
    server.join().expect("the server ended");
}

#[test]
fn a_closed_port_is_unreachable() {
    // Bound, so that nobody else gets the port, and not listening.
    let bound = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    bound.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("loopback has a free port");
    let address = bound.local_addr().ok().and_then(|it| it.as_socket()).expect("the socket is bound");
    let answer = healthcheck(&format!("http://{address}/"));
    assert!(matches!(answer, Err(Unhealthy::Unreachable { .. })), "{answer:?}");
}

#[test]
fn a_server_that_stays_silent_is_given_up_in_time() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = silent.local_addr().expect("the listener is bound").port();
    let start = Instant::now();
    let answer = healthcheck(&format!("http://127.0.0.1:{port}/"));
    assert!(matches!(answer, Err(Unhealthy::Unreachable { .. })), "{answer:?}");
    assert!(start.elapsed() < TIME_MAX * 4, "took {:?}", start.elapsed());
}

#[test]
fn urls_that_it_cannot_ask_are_refused() {
    for given in ["", "localhost:80/ready", "https://localhost:1/", "http://localhost/", "http://"] {
        assert!(matches!(healthcheck(given), Err(Unhealthy::Url { .. })), "{given:?}");
    }
}
