use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clap::Parser;
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde_json::Value;
use tokio::sync::mpsc;

use super::fault::{FaultArgs, Faults, Verdict};
use super::frontend::Frontend;
use super::orders::{Order, Orders};
use super::payments::{ChargeReply, ChargeRequest, Payments};
use super::serve::{App, Body, serve};
use super::{context, reply};
use crate::fetch::{Bounds, Fetcher};

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

#[derive(Parser)]
struct Flags {
    #[command(flatten)]
    fault: FaultArgs,
}

fn fault(line: &str) -> FaultArgs {
    Flags::try_parse_from(format!("test {line}").split_whitespace()).unwrap().fault
}

/// Starts an app; it ends with the test's runtime.
async fn started(app: impl App) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, app));
    address
}

async fn shop(payments_fault: &str) -> SocketAddr {
    let payments = started(Payments::new("p1".to_owned(), &fault(payments_fault))).await;
    let orders = orders_of(payments).await;
    frontend_of(orders).await
}

async fn orders_of(payments: SocketAddr) -> SocketAddr {
    let uri = format!("http://{payments}").parse().unwrap();
    started(Orders::new(uri, "o1".to_owned(), &fault("")).unwrap()).await
}

async fn frontend_of(orders: SocketAddr) -> SocketAddr {
    let link = Some("http://jaeger.example/trace/".parse().unwrap());
    started(Frontend::new(&format!("http://{orders}").parse().unwrap(), link, &fault("")).unwrap()).await
}

async fn call(at: SocketAddr, method: Method, path: &str, body: &'static str) -> (StatusCode, String) {
    let request = Request::builder()
        .method(method)
        .uri(format!("http://{at}{path}"))
        .header("traceparent", format!("00-{TRACE}-00f067aa0ba902b7-01"))
        .header("baggage", "user=1")
        .header("outrider-priority", "batch")
        .header("authorization", "not for others")
        .body(Full::new(Bytes::from_static(body.as_bytes())))
        .unwrap();
    let fetcher = Fetcher::new(Bounds { time_max: Duration::from_secs(20), body_bytes_max: 1 << 20 });
    let answer = fetcher.fetch(request).await.unwrap();
    (answer.status(), String::from_utf8(answer.body().to_vec()).unwrap())
}

async fn json(at: SocketAddr, method: Method, path: &str, body: &'static str) -> (StatusCode, Value) {
    let (status, body) = call(at, method, path, body).await;
    (status, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
}

#[tokio::test]
async fn an_order_is_paid_listed_and_readable_at_every_replica() {
    let payments = started(Payments::new("p1".to_owned(), &fault(""))).await;
    let (one, other) = (orders_of(payments).await, orders_of(payments).await);
    let (status, taken) = json(one, Method::POST, "/api/orders", r#"{"item":"tea","quantity":2}"#).await;
    assert_eq!(status, StatusCode::CREATED);
    assert_eq!(
        (&taken["amount_cents"], &taken["paid_by"], &taken["replica"]),
        (&900.into(), &"p1".into(), &"o1".into())
    );
    let (_, listed) = json(one, Method::GET, "/api/orders", "").await;
    assert_eq!(listed["orders"][0]["id"], taken["id"]);
    let path = format!("/api/orders/{}", taken["id"].as_str().unwrap());
    let (status, read) = json(other, Method::GET, &path, "").await;
    assert_eq!((status, &read["amount_cents"]), (StatusCode::OK, &900.into()));
}

#[tokio::test]
async fn a_payment_that_fails_is_an_answer_with_its_reason() {
    let (status, problem) = json(shop("--fail-ratio 1").await, Method::POST, "/api/orders", "").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("Unavailable: p1 lost the card network"), "{detail}");
}

#[tokio::test]
async fn payments_that_are_not_there_are_an_answer_too() {
    // Bound, so that nobody else gets the port, and not listening.
    let silent = tokio::net::TcpSocket::new_v4().unwrap();
    silent.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let orders = orders_of(silent.local_addr().unwrap()).await;
    let (status, problem) = json(orders, Method::POST, "/api/orders", "").await;
    assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE, "{problem}");
}

#[tokio::test]
async fn what_cannot_be_ordered_is_refused_with_what_can() {
    let shop = shop("").await;
    for body in
        [r#"{"item":"gold","quantity":1}"#, r#"{"item":"tea","quantity":0}"#, "{", r#"{"item":"tea"}"#]
    {
        let (status, problem) = json(shop, Method::POST, "/api/orders", body).await;
        assert_eq!(status, StatusCode::UNPROCESSABLE_ENTITY, "{body}: {problem}");
    }
    for path in ["/api/orders/gold-1-00000001", "/api/orders/tea-2-1", "/nothing", "/api/ordersx"] {
        assert_eq!(call(shop, Method::GET, path, "").await.0, StatusCode::NOT_FOUND, "{path}");
    }
}

#[tokio::test]
async fn the_pages_button_orders_and_the_page_links_to_its_trace() {
    let shop = shop("").await;
    assert_eq!(call(shop, Method::POST, "/orders", "").await.0, StatusCode::SEE_OTHER);
    let (status, page) = call(shop, Method::GET, "/", "").await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("taken by o1, paid by p1"), "{page}");
    assert!(page.contains(&format!("<a href=\"http://jaeger.example/trace/{TRACE}\">")), "{page}");
    assert!(!page.contains("{{"), "{page}");
}

#[tokio::test]
async fn the_page_is_there_when_orders_is_not_and_escapes_what_it_says() {
    struct Hostile;
    impl App for Hostile {
        async fn answer(self: Arc<Self>, _: Request<Incoming>) -> Response<Body> {
            reply::problem(StatusCode::BAD_GATEWAY, "no", "<script>alert('x')</script>".to_owned())
        }
    }
    let shop = frontend_of(started(Hostile).await).await;
    call(shop, Method::POST, "/orders", "").await;
    let (status, page) = call(shop, Method::GET, "/", "").await;
    assert_eq!(status, StatusCode::OK);
    assert!(page.contains("502 Bad Gateway: &lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"), "{page}");
    assert!(!page.contains("<script>"), "{page}");
}

#[tokio::test]
async fn trace_context_is_passed_on_and_nothing_else() {
    struct Recorder(mpsc::Sender<HeaderMap>);
    impl App for Recorder {
        async fn answer(self: Arc<Self>, request: Request<Incoming>) -> Response<Body> {
            self.0.try_send(request.headers().clone()).expect("the test has room for it");
            tonic::Status::ok("").into_http()
        }
    }
    let (send, mut receive) = mpsc::channel(4);
    let shop = frontend_of(orders_of(started(Recorder(send)).await).await).await;
    call(shop, Method::POST, "/api/orders", "").await;
    let seen = receive.recv().await.unwrap();
    assert_eq!(context::trace_id(&seen), Some(TRACE));
    assert_eq!(seen["baggage"], "user=1");
    assert_eq!(seen["outrider-priority"], "batch");
    assert!(!seen.contains_key("authorization"));
}

#[tokio::test]
async fn a_method_that_payments_does_not_have_is_unimplemented() {
    let payments = started(Payments::new("p1".to_owned(), &fault(""))).await;
    let channel = tonic::transport::Endpoint::new(format!("http://{payments}")).unwrap().connect_lazy();
    let mut client = tonic::client::Grpc::new(channel);
    client.ready().await.unwrap();
    let codec = tonic_prost::ProstCodec::<ChargeRequest, ChargeReply>::default();
    let path = http::uri::PathAndQuery::from_static("/shop.Payments/Steal");
    let status = client.unary(tonic::Request::new(ChargeRequest::default()), path, codec).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
}

#[test]
fn an_orders_id_says_everything_about_it() {
    let order = Order::new("honey", 3, 0xbeef).unwrap();
    assert_eq!(order.id, "honey-3-0000beef");
    assert_eq!(Order::from_id(&order.id), Some(order));
    for bad in
        ["", "honey", "honey-3", "honey-3-beef", "honey-03-0000beef", "honey-21-0000beef", "honey-3-0000BEEF"]
    {
        assert_eq!(Order::from_id(bad), None, "{bad}");
    }
}

#[test]
fn trace_ids_that_are_none_are_not_linked_to() {
    let id = |parent: &str| {
        let headers = HeaderMap::from_iter([("traceparent".parse().unwrap(), parent.parse().unwrap())]);
        context::trace_id(&headers).map(str::to_owned)
    };
    assert_eq!(id(&format!("00-{TRACE}-00f067aa0ba902b7-01")).as_deref(), Some(TRACE));
    for bad in [
        "00",
        "00-short-1-01",
        &format!("00-{}-1-01", "0".repeat(32)),
        &format!("00-{}-1-01", "Z".repeat(32)),
    ] {
        assert_eq!(id(bad), None, "{bad}");
    }
}

#[test]
fn the_same_seed_plants_the_same_faults() {
    let args = fault("--delay 60ms --jitter 240ms --fail-ratio 0.1");
    let draw = |args: &FaultArgs| {
        let faults = Faults::new(args);
        (0..2_000).map(|_| faults.draw()).collect::<Vec<_>>()
    };
    let planted = draw(&args);
    assert_eq!(planted, draw(&args));
    assert_ne!(planted, draw(&fault("--delay 60ms --jitter 240ms --fail-ratio 0.1 --fault-seed 15")));
    let bounds = Duration::from_millis(60)..=Duration::from_millis(300);
    assert!(planted.iter().all(|planted| bounds.contains(&planted.delay)));
    // 200 expected; a binomial of this size stays within 5 standard deviations, 67, but once in a million seeds.
    let failed = planted.iter().filter(|planted| planted.verdict == Verdict::Fail).count();
    assert!((133..=267).contains(&failed), "{failed}");
    let spread = Faults::new(&fault(""));
    assert!((0..100).all(|_| spread.draw().verdict == Verdict::Succeed));
}
