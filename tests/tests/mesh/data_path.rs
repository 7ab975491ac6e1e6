//! Requests from app to app: every pair of HTTP versions, methods, trailers, ends half way.

use std::collections::HashSet;

use http::{HeaderMap, Method, Version};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use outrider_tests::app::Speaks;
use outrider_tests::call::{Answer, Call, CallError, Connection};
use outrider_tests::loopback::port;
use outrider_tests::mesh::{Mesh, Pod};
use outrider_tests::{policy, wait};
use tokio::sync::mpsc;

pub const BOTH: [Speaks; 2] = [Speaks::Http1, Speaks::Http2];

/// A caller without an app, and one instance each of `web` (HTTP/1.1) and `web2` (HTTP/2), on port 8080.
pub struct Pair {
    pub caller: Pod,
    pub web: Pod,
    pub web2: Pod,
    // Last: it outlives what runs in it.
    pub mesh: Mesh,
}

impl Pair {
    pub async fn start() -> Self {
        let policy = policy::documents(&[
            policy::OPEN,
            &policy::http("caller", 8080),
            &policy::http("web", 8080),
            &policy::http2("web2", 8080),
        ]);
        let mesh = Mesh::start(&policy).await;
        let caller = mesh.pod("caller").start().await;
        let web = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
        let web2 = mesh.pod("web2").app(port::APP, Speaks::Http2).start().await;
        caller.sidecar.sees("test/web", 1).await;
        caller.sidecar.sees("test/web2", 1).await;
        Self { caller, web, web2, mesh }
    }

    /// The app that speaks this, with its host.
    pub fn app(&self, speaks: Speaks) -> (&Pod, &'static str) {
        match speaks {
            Speaks::Http1 => (&self.web, "web.test:8080"),
            Speaks::Http2 => (&self.web2, "web2.test:8080"),
        }
    }

    pub async fn send(&self, call: Call) -> Result<Answer, CallError> {
        wait::bounded("an answer", call.send(self.caller.outbound())).await
    }
}

#[tokio::test]
async fn a_request_and_its_answer_pass_unchanged_between_every_pair_of_http_versions() {
    let pair = Pair::start().await;
    for client in BOTH {
        for app in BOTH {
            let (pod, host) = pair.app(app);
            let before = pod.app().seen().len();
            let call = Call::post(host, "/a/b?c=d%20e", "hello")
                .speaks(client)
                .header("x-one", "1")
                .header("cookie", "a=b")
                .plan("status=201,header=x-two:2,header=x-two:3,header=set-cookie:k=v");
            let answer = pair.send(call).await.unwrap();
            let context = format!("{client:?} to {app:?}: {answer:?}");
            assert_eq!((answer.status.as_u16(), answer.text().as_str()), (201, "hello"), "{context}");
            assert_eq!(
                (answer.header("x-two").as_str(), answer.header("set-cookie").as_str()),
                ("2, 3", "k=v"),
                "{context}"
            );
            let version = if client == Speaks::Http1 { Version::HTTP_11 } else { Version::HTTP_2 };
            assert_eq!(answer.version, version, "{context}");

            let seen = pod.app().seen().remove(before);
            let context = format!("{client:?} to {app:?}: {seen:?}");
            assert_eq!(seen.method, Method::POST, "{context}");
            assert_eq!(seen.uri.path_and_query().unwrap().as_str(), "/a/b?c=d%20e", "{context}");
            assert_eq!(seen.body, "hello", "{context}");
            assert_eq!(seen.header("x-one").as_deref(), Some("1"), "{context}");
            assert_eq!(seen.header("cookie").as_deref(), Some("a=b"), "{context}");
            match app {
                Speaks::Http1 => {
                    assert_eq!(seen.version, Version::HTTP_11, "{context}");
                    assert_eq!(seen.header("host").as_deref(), Some(host), "{context}");
                    assert_eq!(seen.header("content-length").as_deref(), Some("5"), "{context}");
                }
                Speaks::Http2 => {
                    assert_eq!(seen.version, Version::HTTP_2, "{context}");
                    assert_eq!(seen.uri.authority().unwrap().as_str(), host, "{context}");
                }
            }
        }
    }
}

#[tokio::test]
async fn answers_without_a_body_have_none_in_every_pair_of_http_versions() {
    let pair = Pair::start().await;
    for client in BOTH {
        for app in BOTH {
            let (_, host) = pair.app(app);
            // All on one connection: a body that should not be there would be taken for the next answer.
            let mut connection = Connection::open(pair.caller.outbound(), client).await.unwrap();
            for (method, plan, status, length) in [
                (Method::HEAD, "bytes=1000", 200, "1000"),
                (Method::GET, "status=204", 204, ""),
                (Method::GET, "status=304", 304, ""),
                (Method::DELETE, "bytes=0", 200, "0"),
                (Method::OPTIONS, "bytes=0", 200, "0"),
            ] {
                let call = Call::new(method.clone(), host, "/").speaks(client).plan(plan);
                let answer = wait::bounded("an answer", connection.send(call)).await.unwrap();
                let context = format!("{client:?} to {app:?}, {method} {plan}: {answer:?}");
                assert_eq!(answer.status.as_u16(), status, "{context}");
                assert_eq!(answer.pattern.length, 0, "{context}");
                assert!(["", length].contains(&answer.header("content-length").as_str()), "{context}");
            }
            let call = Call::get(host, "/").speaks(client).plan("bytes=3");
            assert_eq!(connection.send(call).await.unwrap().pattern.length, 3);
        }
    }
}

#[tokio::test]
async fn trailers_pass_both_ways() {
    let pair = Pair::start().await;
    for client in BOTH {
        for app in BOTH {
            let (pod, host) = pair.app(app);
            let before = pod.app().seen().len();
            let trailers: HeaderMap =
                [("x-sum".parse().unwrap(), "42".parse().unwrap())].into_iter().collect();
            let (send, receive) = mpsc::channel(2);
            send.send(Frame::data(bytes::Bytes::from_static(b"sum me"))).await.unwrap();
            send.send(Frame::trailers(trailers)).await.unwrap();
            drop(send);
            let call = Call::post(host, "/", "")
                .body(StreamBody::new(Received(receive)))
                .speaks(client)
                .header("te", "trailers")
                .header("trailer", "x-sum")
                .plan("bytes=10,trailer=x-done:yes");
            let answer = pair.send(call).await.unwrap();
            let context = format!("{client:?} to {app:?}: {answer:?}");
            assert_eq!(answer.pattern.length, 10, "{context}");
            assert_eq!(
                answer.trailers.get("x-done").map(http::HeaderValue::as_bytes),
                Some(&b"yes"[..]),
                "{context}"
            );
            let seen = pod.app().seen().remove(before);
            assert_eq!(
                seen.trailers.get("x-sum").map(http::HeaderValue::as_bytes),
                Some(&b"42"[..]),
                "{client:?} to {app:?}: {seen:?}"
            );
        }
    }
}

#[tokio::test]
async fn a_stream_in_both_directions_holds_nothing_back() {
    let pair = Pair::start().await;
    for app in BOTH {
        let (_, host) = pair.app(app);
        let (send, receive) = mpsc::channel::<Frame<bytes::Bytes>>(1);
        let body = StreamBody::new(Received(receive));
        let call = Call::post(host, "/", "").body(body).http2().plan("echo");
        let mut connection = Connection::open(pair.caller.outbound(), Speaks::Http2).await.unwrap();
        let begun = wait::bounded("the answer's head", connection.begin(call)).await.unwrap();
        let mut answer = begun.into_body();
        for round in 0..50_u8 {
            send.send(Frame::data(vec![round; 100].into())).await.unwrap();
            let mut got = Vec::new();
            while got.len() < 100 {
                let frame = wait::bounded("the piece comes back", answer.frame()).await.unwrap().unwrap();
                got.extend_from_slice(&frame.into_data().unwrap());
            }
            assert_eq!(got, [round; 100], "{app:?}");
        }
        drop(send);
        let rest = wait::bounded("the end comes back", answer.collect()).await.unwrap();
        assert!(rest.to_bytes().is_empty());
    }
}

/// A channel as a stream of frames.
pub struct Received(pub mpsc::Receiver<Frame<bytes::Bytes>>);

impl futures_util::Stream for Received {
    type Item = Result<Frame<bytes::Bytes>, std::convert::Infallible>;
    fn poll_next(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Self::Item>> {
        self.0.poll_recv(cx).map(|frame| frame.map(Ok))
    }
}

#[tokio::test]
async fn an_answer_that_breaks_off_breaks_off_for_the_caller_and_never_looks_complete() {
    let pair = Pair::start().await;
    for client in BOTH {
        for app in BOTH {
            let (_, host) = pair.app(app);
            // With a length and without: in both it must show.
            for plan in ["bytes=3000000,broken-at=200000", "bytes=3000000,broken-at=200000,trailer=x-t:1"] {
                let call = Call::get(host, "/").speaks(client).plan(plan);
                let error = pair.send(call).await.expect_err("it broke off");
                let CallError::Broken { length, .. } = error else {
                    panic!("{client:?} to {app:?}, {plan}: {error:?}")
                };
                assert!(length < 3_000_000, "{client:?} to {app:?}, {plan}: {length}");
            }
        }
    }
}

#[tokio::test]
async fn a_request_that_breaks_off_is_broken_off_for_the_app() {
    let pair = Pair::start().await;
    for client in BOTH {
        for app in BOTH {
            let (pod, host) = pair.app(app);
            let before = pod.app().seen().len();
            let (send, receive) = mpsc::channel(1);
            let call = Call::post(host, "/", "").body(StreamBody::new(Received(receive))).speaks(client);
            let mut connection = Connection::open(pair.caller.outbound(), client).await.unwrap();
            let begun = pod.app().begun();
            let under_way = tokio::spawn(async move { connection.begin(call).await.map(drop) });
            send.send(Frame::data(bytes::Bytes::from_static(b"half"))).await.unwrap();
            wait::until("the request reaches the app", async || {
                if pod.app().begun() > begun { Ok(()) } else { Err("not yet".into()) }
            })
            .await;
            // The connection is closed, as by a client that crashed.
            under_way.abort();
            let seen = wait::until("the app sees its end", async || {
                pod.app().seen().get(before).cloned().ok_or("not yet".into())
            })
            .await;
            assert!(seen.broken, "{client:?} to {app:?}: {seen:?}");
            assert_eq!(seen.body, "half", "{client:?} to {app:?}");
        }
    }
}

#[tokio::test]
async fn an_app_may_answer_before_it_has_read_the_request() {
    let pair = Pair::start().await;
    for client in BOTH {
        for app in BOTH {
            let (_, host) = pair.app(app);
            let body = outrider_tests::pattern::Pattern::new(50_000_000);
            let call = Call::post(host, "/", "").body(body).speaks(client).plan("early,status=413");
            let mut connection = Connection::open(pair.caller.outbound(), client).await.unwrap();
            let answer = wait::bounded("an answer", connection.begin(call)).await;
            assert_eq!(answer.unwrap().status(), 413, "{client:?} to {app:?}");
        }
    }
}

#[tokio::test]
async fn many_requests_at_once_are_all_answered_and_share_connections() {
    let pair = Pair::start().await;
    for app in BOTH {
        let (pod, host) = pair.app(app);
        let mut calls = tokio::task::JoinSet::new();
        let outbound = pair.caller.outbound();
        for number in 0..200 {
            let host = host.to_owned();
            calls.spawn(async move {
                let speaks = BOTH[number % 2];
                Call::post(&host, &format!("/{number}"), format!("body {number}"))
                    .speaks(speaks)
                    .send(outbound)
                    .await
            });
        }
        let mut bodies = HashSet::new();
        while let Some(answer) = wait::bounded("an answer", calls.join_next()).await {
            let answer = answer.unwrap().unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
            bodies.insert(answer.text());
        }
        assert_eq!(bodies.len(), 200, "each caller got its own answer");

        let before = pod.app().connections();
        for _ in 0..20 {
            pair.send(Call::get(host, "/").plan("bytes=1")).await.unwrap();
        }
        let opened = pod.app().connections() - before;
        assert!(opened <= 2, "20 requests one after the other opened {opened} connections to the app");
    }
}
