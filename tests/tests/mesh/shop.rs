//! The shop's policy as it stands: what it allows, and what it denies.

use http::Method;
use outrider_tests::app::Speaks;
use outrider_tests::call::{Answer, Call};
use outrider_tests::mesh::{Mesh, Pod};
use outrider_tests::wait;

/// Its apps listen where the policy says.
struct Shop {
    frontend: Pod,
    orders: Pod,
    payments: Pod,
    _mesh: Mesh,
}

impl Shop {
    async fn start() -> Self {
        let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/policy/shop.yaml");
        let mesh =
            Mesh::start(&std::fs::read_to_string(path).expect("the policy is part of the repository")).await;
        let frontend = mesh.pod_of("shop/frontend").app(8080, Speaks::Http1).start().await;
        let orders = mesh.pod_of("shop/orders").app(8080, Speaks::Http1).start().await;
        let payments = mesh.pod_of("shop/payments").app(50051, Speaks::Http2).start().await;
        for pod in [&frontend, &orders, &payments] {
            for service in ["frontend", "orders", "payments"] {
                pod.sidecar.sees(&format!("shop/{service}"), 1).await;
            }
        }
        Self { frontend, orders, payments, _mesh: mesh }
    }
}

/// The shop's routes have a patience of 600 ms, which the first connections of an unoptimised build may take on a loaded
/// machine: what is asked is whether a call is allowed, and not how soon.
async fn send(from: &Pod, call: impl Fn() -> Call) -> Answer {
    wait::until("an answer in the route's time", async || {
        let answer = wait::bounded("an answer", call().send(from.outbound())).await.unwrap();
        let is_late = answer.status == 504 || answer.header("proxy-status").contains("UT:");
        if is_late { Err(format!("{answer:?}")) } else { Ok(answer) }
    })
    .await
}

fn charge(method: &str) -> Call {
    Call::post("payments:50051", &format!("/shop.Payments/{method}"), vec![0, 0, 0, 0, 0])
        .http2()
        .header("content-type", "application/grpc")
        .header("te", "trailers")
        .plan("bytes=5,header=content-type:application/grpc,trailer=grpc-status:0")
}

#[tokio::test]
async fn outside_may_read_and_post_to_the_frontend_and_nothing_else() {
    let shop = Shop::start().await;
    let edge = shop.frontend.sidecar.at(14010);
    for (method, allowed) in [
        (Method::GET, true),
        (Method::POST, true),
        (Method::PUT, false),
        (Method::DELETE, false),
        (Method::HEAD, false),
    ] {
        let answer = Call::new(method.clone(), "shop.example", "/").send(edge).await.unwrap();
        assert_eq!(answer.status.as_u16(), if allowed { 200 } else { 403 }, "{method}: {answer:?}");
    }
    // The edge is a way to the frontend alone, whatever the request calls itself.
    let answer = Call::get("orders.shop:8080", "/api/orders").send(edge).await.unwrap();
    assert!(answer.app().starts_with("frontend@"), "{answer:?}");
    assert_eq!(shop.orders.app().begun(), 0);
}

#[tokio::test]
async fn each_service_may_call_what_the_policy_says() {
    let shop = Shop::start().await;
    for (method, host, path) in [
        (Method::GET, "orders:8080", "/api/orders"),
        (Method::GET, "orders.shop:8080", "/api/orders/17?full=1"),
        (Method::POST, "orders.shop.svc.cluster.local:8080", "/api/orders"),
    ] {
        let answer = send(&shop.frontend, || Call::new(method.clone(), host, path)).await;
        assert!(answer.status == 200 && answer.app().starts_with("orders@"), "{host}{path}: {answer:?}");
    }
    let answer = send(&shop.orders, || charge("Charge")).await;
    assert!(answer.status == 200 && answer.app().starts_with("payments@"), "{answer:?}");
    assert_eq!(answer.trailers["grpc-status"], "0");
}

#[tokio::test]
async fn everything_else_is_refused_and_says_by_which_rule() {
    let shop = Shop::start().await;
    // No route of orders matches these, so they never leave the caller's side.
    for (method, path) in [
        (Method::GET, "/admin"),
        (Method::POST, "/api/orders/17"),
        (Method::DELETE, "/api/orders"),
        (Method::GET, "/api/ordersx"),
    ] {
        let refusal = send(&shop.frontend, || Call::new(method.clone(), "orders:8080", path)).await.refusal();
        assert_eq!((refusal.status.as_u16(), refusal.label.as_str()), (404, "no_route"), "{method} {path}");
    }
    for (from, host, path, rule) in [
        (&shop.payments, "orders:8080", "/api/orders", "AuthorizationPolicy/orders-authz@r1"),
        (&shop.orders, "orders:8080", "/api/orders", "AuthorizationPolicy/orders-authz@r1"),
        (&shop.orders, "frontend", "/", "AuthorizationPolicy/frontend-authz@r1"),
    ] {
        let refusal = send(from, || Call::get(host, path)).await.refusal();
        assert_eq!((refusal.status.as_u16(), refusal.label.as_str()), (403, "not_allowed"));
        assert_eq!(refusal.rule, rule);
    }
    let refusal = send(&shop.frontend, || charge("Charge")).await.refusal();
    assert_eq!((refusal.grpc_status.as_str(), refusal.flag.as_str()), ("7", "UAEX"), "PERMISSION_DENIED");
    assert_eq!(refusal.rule, "AuthorizationPolicy/payments-authz@r1");
    let refusal = send(&shop.orders, || charge("Refund")).await.refusal();
    assert_eq!(refusal.grpc_status, "12", "UNIMPLEMENTED: no route matches");
    let refusal = send(&shop.frontend, || Call::get("example.com", "/")).await.refusal();
    assert_eq!((refusal.label.as_str(), refusal.rule.as_str()), ("unknown_host", "MeshConfig/shop@r1"));
    assert_eq!(shop.payments.app().begun() + shop.orders.app().begun() + shop.frontend.app().begun(), 0);
}
