//! Who may use the API, how it refuses, and what it says.

use awc::http::{Method, StatusCode};
use outrider_shared::api::PolicyAnswer;
use serde_json::json;

use crate::world::{World, problem, until};

const ROUTES: [&str; 6] =
    ["/v1/stat", "/v1/sidecars", "/v1/upstreams", "/v1/quota", "/v1/policy", "/v1/audit"];

#[actix_rt::test]
async fn every_question_needs_a_credential() {
    let world = World::started().await;
    for path in ROUTES {
        let (status, refused) = problem(world.bare(Method::GET, path).send()).await;
        assert_eq!(status, 401, "{path}");
        assert!(refused.detail.unwrap().contains("operator-token"));
        let wrong = world.bare(Method::GET, path).bearer_auth("guessed").send();
        assert_eq!(problem(wrong).await.0, 401, "{path}");
        for token in [&world.running().operator_token, &world.running().read_token] {
            let answer = world.bare(Method::GET, path).bearer_auth(token).send().await.unwrap();
            assert_eq!(answer.status(), StatusCode::OK, "{path}");
        }
    }
}

#[actix_rt::test]
async fn the_credential_that_reads_mints_nothing_and_revokes_nothing() {
    let world = World::started().await;
    let token = &world.running().read_token;
    for path in ["/v1/tokens", "/v1/join-secrets"] {
        let request = world.bare(Method::POST, path).bearer_auth(token);
        let (status, refused) = problem(request.send_json(&json!({ "service": "shop/orders" }))).await;
        assert_eq!(status, 403);
        assert!(refused.detail.unwrap().contains("operator-token"));
    }
    let request = world.bare(Method::DELETE, "/v1/join-secrets/x").bearer_auth(token);
    assert_eq!(problem(request.send()).await.0, 403);
}

#[actix_rt::test]
async fn credentials_are_files_that_only_their_owner_reads_and_stay_as_they_are() {
    use std::os::unix::fs::PermissionsExt as _;
    let mut world = World::started().await;
    let tokens = |world: &World| (world.running().operator_token.clone(), world.running().read_token.clone());
    let before = tokens(&world);
    assert_ne!(before.0, before.1);
    for name in ["operator-token", "read-token", "store.redb"] {
        let mode = std::fs::metadata(world.data.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    world.stop().await;
    world.start().await;
    assert_eq!(tokens(&world), before);
}

#[actix_rt::test]
async fn requests_for_another_host_or_from_another_origin_are_refused() {
    let world = World::started().await;
    let own = world.running().api_addr;
    let foreign = world.operator(Method::GET, "/v1/stat").insert_header(("host", "evil.example"));
    assert_eq!(problem(foreign.send()).await.0, 421);
    for origin in ["http://evil.example", "null", "https://127.0.0.1:1"] {
        let foreign = world.operator(Method::GET, "/v1/stat").insert_header(("origin", origin));
        assert_eq!(problem(foreign.send()).await.0, 403, "{origin}");
    }
    for host in [own.to_string(), format!("localhost:{}", own.port())] {
        let request = world.operator(Method::GET, "/v1/stat").insert_header(("host", host.as_str()));
        let answer = request.insert_header(("origin", format!("http://{host}"))).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK, "{host}");
    }
    // A probe comes by whatever address the machine has.
    for path in ["/live", "/ready"] {
        let probe = world.bare(Method::GET, path).insert_header(("host", "10.1.2.3:14100"));
        assert_eq!(probe.send().await.unwrap().status(), StatusCode::OK);
    }
}

#[actix_rt::test]
async fn what_is_no_request_of_this_api_is_refused_as_a_problem() {
    let world = World::started().await;
    let post = |path| world.operator(Method::POST, path);
    let json = ("content-type", "application/json");
    assert_eq!(problem(world.operator(Method::GET, "/v2/stat").send()).await.0, 404);
    assert_eq!(problem(world.operator(Method::GET, "/v1/quota?service=x").send()).await.0, 400);
    assert_eq!(problem(post("/v1/stat").send()).await.0, 405);
    assert_eq!(problem(world.operator(Method::GET, "/v1/tokens").send()).await.0, 405);
    let body = json!({ "service": "shop/orders" }).to_string();
    for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
        let form = post("/v1/tokens").insert_header(("content-type", kind));
        assert_eq!(problem(form.send_body(body.clone())).await.0, 415, "{kind}");
    }
    for body in ["{", "{}", r#"{"service":"shop/orders","unknown":1}"#, r#"{"service":"Not A Service"}"#] {
        let malformed = post("/v1/tokens").insert_header(json).send_body(body.to_owned());
        assert_eq!(problem(malformed).await.0, 400, "{body}");
    }
    let long = post("/v1/tokens").insert_header(json).send_body(" ".repeat(64 << 10));
    assert_eq!(problem(long).await.0, 413);
    let nobody = post("/v1/tokens").send_json(&json!({ "service": "shop/nobody" }));
    assert_eq!(problem(nobody).await.0, 404);
    let forever = post("/v1/tokens").send_json(&json!({ "service": "shop/orders", "ttl_s": u64::MAX }));
    assert_eq!(problem(forever).await.0, 400);
}

#[actix_rt::test]
async fn a_credential_that_was_minted_is_recorded_and_can_be_revoked() {
    let world = World::started().await;
    let secret = world.mint("join-secrets", "shop/orders").await;
    let revoke = |id: &str| world.operator(Method::DELETE, &format!("/v1/join-secrets/{id}")).send();
    assert_eq!(revoke(&secret.id).await.unwrap().status(), StatusCode::NO_CONTENT);
    let (status, _) = problem(revoke("nothing")).await;
    assert_eq!(status, 404);
    let refused = crate::sidecar::Sidecar::join(&world, &secret, "shop/orders").await.err().unwrap();
    assert_eq!(refused.status, 401);
    let audit: serde_json::Value = world.get("/v1/audit").await;
    let what: Vec<&str> =
        audit["records"].as_array().unwrap().iter().map(|record| record["what"].as_str().unwrap()).collect();
    assert_eq!(what, ["mint", "revoke"]);
    assert!(!audit.to_string().contains(&secret.secret));
}

#[actix_rt::test]
async fn a_refused_change_of_the_policy_is_shown_with_every_problem_and_its_place() {
    let world = World::started().await;
    let before: PolicyAnswer = world.get("/v1/policy").await;
    assert_eq!((before.revision, before.problems.len()), (1, 0));
    world.write("wrong.yaml", "kind: Nothing\n");
    until("the problem is shown", async || {
        let answer: PolicyAnswer = world.get("/v1/policy").await;
        answer.problems.iter().any(|problem| problem.contains("wrong.yaml:1"))
    })
    .await;
    let after: PolicyAnswer = world.get("/v1/policy").await;
    assert_eq!((after.revision, after.hash), (before.revision, before.hash));
}

#[actix_rt::test]
async fn the_metrics_are_a_whole_page_of_numbers_with_known_names() {
    let world = World::started().await;
    let mut answer = world.bare(Method::GET, "/metrics").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let kind = answer.headers().get("content-type").unwrap().to_str().unwrap().to_owned();
    assert!(kind.starts_with("application/openmetrics-text"), "{kind}");
    let page = String::from_utf8(answer.body().await.unwrap().to_vec()).unwrap();
    assert!(page.ends_with("# EOF\n"));
    for line in page.lines().filter(|line| !line.starts_with('#')) {
        let (name, value) = line.rsplit_once(' ').unwrap();
        assert!(name.starts_with("outrider_"), "{line}");
        value.parse::<f64>().unwrap();
    }
    assert!(page.contains("outrider_policy_revision 1\n"), "{page}");
    assert!(page.contains("outrider_policy_problems 0\n"), "{page}");
}

#[actix_rt::test]
async fn the_page_has_no_script_and_no_style_but_its_own_files() {
    let world = World::started().await;
    let mut answer = world.bare(Method::GET, "/").send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::OK);
    let policy = answer.headers().get("content-security-policy").unwrap().to_str().unwrap();
    assert!(policy.contains("script-src 'self'") && policy.contains("style-src 'self'"), "{policy}");
    assert!(!policy.contains("unsafe"), "{policy}");
    let page = String::from_utf8(answer.body().await.unwrap().to_vec()).unwrap();
    assert!(!page.contains("<style") && !page.contains("style="), "{page}");
    for (path, kind) in [("/page.js", "text/javascript"), ("/page.css", "text/css")] {
        assert!(page.contains(path), "{page}");
        let file = world.bare(Method::GET, path).send().await.unwrap();
        assert_eq!(file.status(), StatusCode::OK, "{path}");
        let got = file.headers().get("content-type").unwrap().to_str().unwrap();
        assert!(got.starts_with(kind), "{path}: {got}");
    }
}
