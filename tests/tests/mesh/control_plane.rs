//! The control plane goes away, comes back, is misled: what callers see meanwhile, and after.

use std::time::Duration;

use http::Method;
use outrider_shared::api::{PolicyAnswer, QuotaAnswer, SidecarsAnswer};
use outrider_tests::app::Speaks;
use outrider_tests::call::Call;
use outrider_tests::loopback::port;
use outrider_tests::mesh::{Mesh, Pod};
use outrider_tests::process::Signal;
use outrider_tests::{policy, wait};
use serde_json::json;

const HOST: &str = "web.test:8080";

fn documents() -> String {
    policy::documents(&[policy::OPEN, &policy::http("caller", 8080), &policy::http("web", 8080)])
}

/// A caller and one instance of `web`, each sidecar and the control plane a process of its own.
async fn processes() -> (Mesh, Pod, Pod) {
    let mesh = Mesh::start_with_control_process(&documents()).await;
    let caller = mesh.pod("caller").in_process(&[]).start().await;
    let web = mesh.pod("web").app(port::APP, Speaks::Http1).in_process(&[]).start().await;
    caller.sidecar.sees("test/web", 1).await;
    for pod in [&caller, &web] {
        kept(pod).await;
    }
    (mesh, caller, web)
}

/// Waits until the snapshot in force lies on disk: it is written once it is in force.
async fn kept(pod: &Pod) {
    wait::until("the snapshot in force is on disk", async || {
        let in_force = pod.sidecar.snapshot().await?["snapshot"]["version"].clone();
        let path = pod.sidecar.data_dir().join("version.json");
        let text = std::fs::read(path).map_err(|error| error.to_string())?;
        let mark: serde_json::Value = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        if mark["version"] == in_force { Ok(()) } else { Err(format!("{mark}, and in force {in_force}")) }
    })
    .await;
}

#[track_caller]
fn status(from: &Pod) -> impl Future<Output = u16> {
    let outbound = from.outbound();
    async move { wait::bounded("an answer", Call::get(HOST, "/").send(outbound)).await.unwrap().status.as_u16() }
}

async fn connected(pod: &Pod, wanted: bool) {
    wait::until(&format!("the session is {}", if wanted { "up" } else { "down" }), async || {
        let view = pod.sidecar.snapshot().await?;
        if view["session"]["connected"] == wanted { Ok(()) } else { Err(view["session"].to_string()) }
    })
    .await;
}

#[tokio::test]
async fn a_crash_of_the_control_plane_is_not_seen_by_callers_and_what_changed_meanwhile_arrives_after() {
    let (mut mesh, caller, web) = processes().await;
    mesh.control.kill().await;
    connected(&caller, false).await;
    for _ in 0..20 {
        assert_eq!(status(&caller).await, 200);
    }
    assert_eq!(caller.sidecar.is_ready().await, Ok(()), "it is as ready as before");
    let refusing = mesh.control.policy().replace("AllowSameTrustDomain", "Deny");
    mesh.control.write_policy(&refusing);
    mesh.control.start_process().await;
    web.sidecar.has_revision(2).await;
    assert_eq!(status(&caller).await, 403);
    assert_eq!(caller.sidecar.endpoints("test/web").await, Ok(1), "no endpoint was lost on the way");
    let policy: PolicyAnswer = mesh.control.get("/v1/policy").await.unwrap();
    assert_eq!((policy.revision, policy.problems), (2, Vec::new()));
}

#[tokio::test]
async fn a_sidecar_that_was_killed_comes_back_from_disk_without_a_credential() {
    let (mesh, mut caller, mut web) = processes().await;
    let before: SidecarsAnswer = mesh.control.get("/v1/sidecars").await.unwrap();
    caller.sidecar.process().kill().await;
    caller.sidecar.start_again(None, &[]);
    caller.sidecar.ready().await;
    assert_eq!(status(&caller).await, 200);

    web.sidecar.process().kill().await;
    let answer = Call::get(HOST, "/").send(caller.outbound()).await.unwrap();
    assert_eq!(answer.refusal().flag, "UF", "the only endpoint is gone, and the caller is told so");
    web.sidecar.start_again(None, &[]);
    wait::until("requests are answered again", async || {
        let status = status(&caller).await;
        if status == 200 { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
    connected(&web, true).await;
    let after: SidecarsAnswer = mesh.control.get("/v1/sidecars").await.unwrap();
    let ids =
        |answer: &SidecarsAnswer| answer.sidecars.iter().map(|one| one.sidecar.clone()).collect::<Vec<_>>();
    assert_eq!(ids(&before), ids(&after), "they are who they were");
}

#[tokio::test]
async fn a_sidecar_starts_and_serves_while_the_control_plane_is_down() {
    let (mut mesh, mut caller, mut web) = processes().await;
    mesh.control.kill().await;
    for pod in [&mut caller, &mut web] {
        pod.sidecar.process().kill().await;
        pod.sidecar.start_again(None, &[]);
        pod.sidecar.ready().await;
    }
    assert_eq!(status(&caller).await, 200);
    assert_eq!(caller.sidecar.snapshot().await.unwrap()["session"]["connected"], false);
    mesh.control.start_process().await;
    connected(&caller, true).await;
    connected(&web, true).await;
    assert_eq!(status(&caller).await, 200);
}

#[tokio::test]
async fn an_endpoint_that_vanishes_fails_no_request_and_leaves_the_directory() {
    let (mesh, caller, web) = processes().await;
    let mut other = mesh.pod("web").app(port::APP, Speaks::Http1).in_process(&[]).start().await;
    caller.sidecar.sees("test/web", 2).await;
    other.sidecar.process().kill().await;
    for number in 0..40 {
        let method = if number % 2 == 0 { Method::GET } else { Method::POST };
        let answer = Call::new(method, HOST, "/").send(caller.outbound()).await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        assert!(answer.app().ends_with(&web.sidecar.ip().to_string()), "{answer:?}");
    }
    caller.sidecar.sees("test/web", 1).await;
}

#[tokio::test]
async fn a_new_instance_takes_over_the_address_of_one_that_was_removed() {
    let mesh = Mesh::start(&documents()).await;
    let caller = mesh.pod("caller").start().await;
    // As a container that is made anew: the same address, an empty disk, the same join secret.
    let secret = mesh.control.join_secret("test/web").await;
    let mut web =
        mesh.pod("web").app(port::APP, Speaks::Http1).in_process(&[]).start_with(Some(secret.clone()));
    caller.sidecar.sees("test/web", 1).await;
    let first = web.sidecar.snapshot().await.unwrap()["snapshot"]["sidecar"].clone();
    web.sidecar.process().kill().await;
    std::fs::remove_dir_all(web.sidecar.data_dir()).unwrap();
    web.sidecar.start_again(Some(secret), &[]);
    web.sidecar.ready().await;
    let second = web.sidecar.snapshot().await.unwrap()["snapshot"]["sidecar"].clone();
    assert_ne!(first, second, "it is another one");
    wait::until("callers reach the new one by its name", async || {
        let view = caller.sidecar.snapshot().await?;
        let directory = view["snapshot"]["directory"].as_array().ok_or("no directory")?;
        let entry = directory.iter().find(|one| one["service"] == "test/web").ok_or("no entry")?;
        let published = &entry["endpoints"][0]["sidecar"];
        if *published == second { Ok(()) } else { Err(entry.to_string()) }
    })
    .await;
    assert_eq!(status(&caller).await, 200);
    assert_eq!(caller.sidecar.endpoints("test/web").await, Ok(1));
}

#[tokio::test]
async fn a_used_token_lets_nobody_else_in() {
    let mesh = Mesh::start(&documents()).await;
    let caller = mesh.pod("caller").start().await;
    let token = mesh.control.token("test/web").await;
    let first = mesh.pod("web").app(port::APP, Speaks::Http1).start_with(Some(token.clone()));
    first.sidecar.ready().await;
    caller.sidecar.sees("test/web", 1).await;
    let second = mesh.pod("web").app(port::APP, Speaks::Http1).in_process(&[]).start_with(Some(token));
    wait::until("it says what to do", async || {
        let log = second.sidecar.log();
        if log.contains("outrider token create") { Ok(()) } else { Err(log) }
    })
    .await;
    assert!(second.sidecar.is_ready().await.is_err());
    let refused = Call::get(HOST, "/").send(second.outbound()).await;
    assert!(refused.is_err() || refused.unwrap().refusal().label == "not_ready");
    assert_eq!(caller.sidecar.endpoints("test/web").await, Ok(1));
    assert_eq!(status(&caller).await, 200);
    assert_eq!(second.app().begun(), 0);
}

#[tokio::test]
async fn a_token_is_good_for_its_own_service_alone() {
    let mesh = Mesh::start(&documents()).await;
    let token = mesh.control.token("test/caller").await;
    let thief = mesh.pod("web").app(port::APP, Speaks::Http1).in_process(&[]).start_with(Some(token));
    wait::until("it is refused", async || {
        let log = thief.sidecar.log();
        if log.contains("outrider token create") { Ok(()) } else { Err(log) }
    })
    .await;
    assert!(thief.sidecar.is_ready().await.is_err());
}

#[tokio::test]
async fn an_invalid_change_is_refused_whole_with_every_place_and_the_last_good_revision_stays() {
    let mesh = Mesh::start(&documents()).await;
    let caller = mesh.pod("caller").start().await;
    let web = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
    caller.sidecar.sees("test/web", 1).await;
    let good = mesh.control.policy();
    // One change that would be right, and two mistakes.
    let bad = good
        .replace("AllowSameTrustDomain", "Deny")
        .replace("egress:", "egres:")
        .replace("appProtocol: http", "appProtocol: htp");
    mesh.control.write_policy(&bad);
    let seen: PolicyAnswer = wait::until("the problems are shown", async || {
        let seen: PolicyAnswer = mesh.control.get("/v1/policy").await?;
        if seen.problems.is_empty() { Err("none yet".to_owned()) } else { Ok(seen) }
    })
    .await;
    let all = seen.problems.join("\n");
    assert!(all.contains("egres") && all.contains("htp"), "all at once: {all}");
    assert!(all.contains("case.yaml:8:3"), "with file, line and column: {all}");
    assert_eq!(seen.revision, 1);
    assert_eq!(status(&caller).await, 200, "nothing of it is in force");
    mesh.control.write_policy(&good.replace("AllowSameTrustDomain", "Deny"));
    web.sidecar.has_revision(2).await;
    assert_eq!(status(&caller).await, 403);
    let seen: PolicyAnswer = mesh.control.get("/v1/policy").await.unwrap();
    assert_eq!((seen.revision, seen.problems), (2, Vec::new()));
}

#[tokio::test]
async fn an_address_is_given_to_one_claimant_at_a_time() {
    let mesh = Mesh::start(&documents()).await;
    let caller = mesh.pod("caller").start().await;
    let web = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
    caller.sidecar.sees("test/web", 1).await;
    let secret = mesh.control.join_secret("test/web").await;
    let claimant = mesh
        .pod("web")
        .app(port::APP, Speaks::Http1)
        .advertise(web.sidecar.inbound())
        .start_with(Some(secret));
    let because = wait::until("it is refused", async || {
        let all: SidecarsAnswer = mesh.control.get("/v1/sidecars").await?;
        let view = claimant.sidecar.snapshot().await?;
        let listed = all.sidecars.iter().filter(|one| one.service.name() == "web" && !one.published).count();
        let error = view["session"]["last_error"].as_str().unwrap_or_default().to_owned();
        if listed == 1 || error.contains("address") { Ok(error) } else { Err(format!("{all:?} {error}")) }
    })
    .await;
    assert_eq!(caller.sidecar.endpoints("test/web").await, Ok(1), "{because}");
    for _ in 0..10 {
        assert_eq!(status(&caller).await, 200);
    }
    assert_eq!(claimant.app().begun(), 0, "all still goes to the first");
}

#[tokio::test]
async fn an_address_that_does_not_prove_the_identity_is_never_published() {
    let mesh = Mesh::start(&documents()).await;
    let caller = mesh.pod("caller").app(port::APP, Speaks::Http1).start().await;
    let secret = mesh.control.join_secret("test/web").await;
    // It says that it is where another service's sidecar is.
    let liar = mesh
        .pod("web")
        .app(port::APP, Speaks::Http1)
        .advertise(caller.sidecar.inbound())
        .start_with(Some(secret));
    liar.sidecar.ready().await;
    wait::until("it is seen why it is not published", async || {
        let all: SidecarsAnswer = mesh.control.get("/v1/sidecars").await?;
        let web = all.sidecars.iter().find(|one| one.service.name() == "web").ok_or("not there")?;
        if !web.published && web.unpublished_because.is_some() { Ok(()) } else { Err(format!("{web:?}")) }
    })
    .await;
    assert_eq!(caller.sidecar.endpoints("test/web").await, Ok(0));
}

#[tokio::test]
async fn a_snapshot_of_five_mebibytes_goes_through() {
    let mesh = Mesh::start(&documents()).await;
    let caller = mesh.pod("caller").start().await;
    let web = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
    caller.sidecar.sees("test/web", 1).await;
    // Header values are most of it: few documents, many bytes.
    let value = "x".repeat(4_000);
    for file in 0..6 {
        let mut parts = Vec::new();
        for number in 0..15 {
            let set: Vec<_> = (0..16).map(|name| format!("{{name: x-{name}, value: {value}}}")).collect();
            let rules = format!(
                "[{{matches: [{{path: {{type: PathPrefix, value: /big/{file}/{number}}}}}], \
                 filters: [{{type: RequestHeaderModifier, requestHeaderModifier: {{set: [{}]}}}}], \
                 backendRefs: [{{name: web, port: 8080}}]}}]",
                set.join(", ")
            );
            parts.push(policy::route(&format!("big-{file}-{number}"), "web", 8080, &rules));
        }
        let parts: Vec<_> = parts.iter().map(String::as_str).collect();
        mesh.control.write_file(&format!("big-{file}.yaml"), &policy::documents(&parts));
    }
    // Megabytes of YAML take an unoptimised build some seconds on an idle machine.
    let reading = Duration::from_mins(2);
    let policy: PolicyAnswer = wait::within(reading, "all files are in force", async || {
        let policy: PolicyAnswer = mesh.control.get("/v1/policy").await?;
        let files = policy.revision;
        if files > 1 && policy.problems.is_empty() { Ok(policy) } else { Err(format!("{policy:?}")) }
    })
    .await;
    assert!(policy.revision >= 2);
    let length = wait::within(reading, "the whole of it is in force", async || {
        let view = caller.sidecar.snapshot().await?;
        let length = view["snapshot"].to_string().len();
        if length > 5 << 20 { Ok(length) } else { Err(length.to_string()) }
    })
    .await;
    assert!(length > 5 << 20);
    let answer = Call::get(HOST, "/big/5/14").send(caller.outbound()).await.unwrap();
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(web.app().seen_one().header("x-15"), Some(value));
}

/// Requests, refusals and bytes that the control plane has counted from `caller` to `web`.
async fn quota(mesh: &Mesh) -> Result<(u64, u64, u64, u64), String> {
    let answer: QuotaAnswer = mesh.control.get("/v1/quota?service=test/web").await?;
    let row = answer.rows.iter().find(|row| row.peer == "spiffe://test.mesh/ns/test/sa/caller");
    Ok(row.map_or((0, 0, 0, 0), |row| (row.requests, row.refusals, row.bytes_received, row.bytes_sent)))
}

async fn quota_is(mesh: &Mesh, wanted: (u64, u64, u64, u64)) {
    wait::until(&format!("the quota is {wanted:?}"), async || {
        let now = quota(mesh).await?;
        // Passed is passed: that would not get better by waiting.
        assert!(now.0 <= wanted.0, "counted twice: {now:?}, not {wanted:?}");
        if now == wanted { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
}

#[tokio::test]
async fn quota_is_counted_exactly_once_across_reconnects_restarts_and_crashes() {
    let deny =
        policy::authorization("no", "web", "Enforce", "Deny", "[{to: [{http: {pathPrefixes: [/no]}}]}]");
    let mut mesh = Mesh::start_with_control_process(&policy::documents(&[&documents(), &deny])).await;
    let caller = mesh.pod("caller").start().await;
    let mut web = mesh.pod("web").app(port::APP, Speaks::Http1).in_process(&[]).start().await;
    caller.sidecar.sees("test/web", 1).await;
    let ask = async |count: u64| {
        for _ in 0..count {
            let answer =
                Call::post(HOST, "/", "12345").plan("bytes=11").send(caller.outbound()).await.unwrap();
            assert_eq!(answer.status, 200, "{answer:?}");
        }
    };
    ask(10).await;
    let refused = Call::get(HOST, "/no").send(caller.outbound()).await.unwrap();
    assert_eq!(refused.status, 403);
    let body = u64::try_from(refused.body.len()).unwrap();
    quota_is(&mesh, (11, 1, 50, 110 + body)).await;

    mesh.control.kill().await;
    ask(7).await;
    mesh.control.start_process().await;
    quota_is(&mesh, (18, 1, 85, 187 + body)).await;

    // A new run of the sidecar counts from nothing, and its drain tells the last of the old one.
    ask(3).await;
    web.sidecar.process().signal(Signal::Terminate);
    assert_eq!(web.sidecar.exited().await.code(), Some(0));
    web.sidecar.start_again(None, &[]);
    web.sidecar.ready().await;
    caller.sidecar.sees("test/web", 1).await;
    ask(5).await;
    quota_is(&mesh, (26, 1, 125, 275 + body)).await;
}

#[tokio::test]
async fn the_api_lets_in_operators_only() {
    let mesh = Mesh::start(&documents()).await;
    let api = mesh.control.api();
    let host = api.to_string();
    for path in ["/v1/stat", "/v1/sidecars", "/v1/upstreams", "/v1/quota", "/v1/policy"] {
        let answer = Call::get(&host, path).send(api).await.unwrap();
        assert_eq!(answer.status, 401, "{path}");
        let answer =
            Call::get(&host, path).header("authorization", "Bearer guessed").send(api).await.unwrap();
        assert_eq!(answer.status, 401, "{path}");
        mesh.control.get::<serde_json::Value>(path).await.unwrap();
    }
    let body = json!({"service": "test/web"}).to_string();
    let answer = Call::post(&host, "/v1/tokens", body.clone())
        .header("content-type", "application/json")
        .send(api)
        .await
        .unwrap();
    assert_eq!(answer.status, 401);
    let unknown = mesh.control.post("/v1/tokens", &json!({"service": "test/nobody"})).await;
    assert!(unknown.status.is_client_error(), "{unknown:?}");
    let answer = Call::get("evil.example", "/v1/stat").send(api).await.unwrap();
    assert_eq!(answer.status, 421, "another host may be a page's trick");
}

/// Certificates that live for a minute: half of it passes in a case.
fn short_lived() -> String {
    documents().replace("lifetime: 24h", "lifetime: 1m")
}

async fn serial(pod: &Pod) -> Result<String, String> {
    let text = pod.sidecar.get(port::HEALTH, "/metrics").await?.text();
    let line = text.lines().find(|line| line.starts_with("outrider_certificate_not_after_timestamp_seconds"));
    line.map(str::to_owned).ok_or_else(|| "no certificate is shown".to_owned())
}

#[tokio::test]
async fn certificates_are_renewed_at_half_of_their_life_without_a_failed_request() {
    let mesh = Mesh::start(&short_lived()).await;
    let caller = mesh.pod("caller").start().await;
    let web = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
    caller.sidecar.sees("test/web", 1).await;
    let before = (serial(&caller).await.unwrap(), serial(&web).await.unwrap());
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let outbound = caller.outbound();
    let load = tokio::spawn(async move {
        let mut count = 0_u64;
        while !*stopped.borrow() {
            let answer = Call::post(HOST, "/", "x").plan("delay=20,bytes=1000").send(outbound).await.unwrap();
            assert_eq!(answer.status, 200, "after {count}: {answer:?}");
            count += 1;
        }
        count
    });
    // Renewed at half of its life, give or take a tenth, and the connections of the old ones follow.
    wait::within(Duration::from_secs(50), "both have new certificates", async || {
        let now = (serial(&caller).await?, serial(&web).await?);
        if now.0 != before.0 && now.1 != before.1 { Ok(()) } else { Err(format!("{now:?}")) }
    })
    .await;
    stop.send_replace(true);
    assert!(wait::bounded("the load ends", load).await.expect("no request failed") > 20);
}

#[tokio::test]
async fn a_leaf_that_expired_while_the_control_plane_was_down_is_renewed_when_it_is_back() {
    let mut mesh = Mesh::start_with_control_process(&short_lived()).await;
    let caller = mesh.pod("caller").start().await;
    let _web = mesh.pod("web").app(port::APP, Speaks::Http1).start().await;
    caller.sidecar.sees("test/web", 1).await;
    assert_eq!(status(&caller).await, 200);
    mesh.control.kill().await;
    // Nothing of it is seen until the leaves have ended.
    wait::within(Duration::from_secs(80), "the leaves have expired", async || {
        let answer = Call::get(HOST, "/").send(caller.outbound()).await.unwrap();
        if answer.status == 200 {
            return Err("still answered".to_owned());
        }
        let refusal = answer.refusal();
        // Refused by the caller, or by the endpoint, whichever leaf ended first.
        assert!(["UF", "UC"].contains(&refusal.flag.as_str()), "{answer:?}");
        Ok(())
    })
    .await;
    mesh.control.start_process().await;
    wait::until("requests are answered again", async || {
        let status = status(&caller).await;
        if status == 200 { Ok(()) } else { Err(status.to_string()) }
    })
    .await;
}
