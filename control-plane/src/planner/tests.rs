//! What a plan holds, and that it depends on nothing but its inputs.

use std::net::SocketAddr;
use std::sync::LazyLock;

use outrider_shared::policy::load;
use outrider_shared::snapshot::SNAPSHOT_BYTES_MAX;
use proptest::prelude::*;

use super::*;

static SHOP: LazyLock<Policy> = LazyLock::new(|| {
    let text = include_str!("../../../deploy/policy/shop.yaml");
    load(vec![("shop.yaml".to_owned(), text.to_owned())]).unwrap().policy
});

fn id(text: &str) -> ServiceId {
    text.parse().unwrap()
}

fn endpoint(n: u32) -> Endpoint {
    // The longest that an address and a sidecar's id get.
    let sidecar = format!("{n:032x}").parse().unwrap();
    let address = format!("[2001:db8:ffff:ffff:ffff:ffff:{:x}:{:x}]:65535", n >> 16, n & 0xffff);
    Endpoint { sidecar, address: address.parse::<SocketAddr>().unwrap() }
}

fn plan_for(service: &str, registry: &[(ServiceId, Vec<Endpoint>)]) -> Result<Snapshot, PlanError> {
    let version = Version { epoch: 1, sequence: 7 };
    plan(&SHOP, 12, registry, &"ab".parse().unwrap(), &id(service), version)
}

fn bytes(snapshot: &Snapshot) -> String {
    serde_json::to_string(snapshot).unwrap()
}

#[test]
fn a_snapshot_holds_the_authorization_of_the_local_service_alone() {
    let snapshot = plan_for("shop/orders", &[]).unwrap();
    let ids: Vec<&str> = snapshot.local.authorization.iter().map(|policy| policy.id.as_str()).collect();
    assert_eq!(ids, ["AuthorizationPolicy/orders-authz"]);
    assert!(!bytes(&snapshot).contains("payments-authz"));
}

#[test]
fn a_port_without_app_protocol_anywhere_needs_a_sidecar_that_can_tell() {
    let text = |port: &str| {
        let service = |name: &str, port: &str| {
            format!(
                "apiVersion: outrider.mesh/v1alpha1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
                 spec: {{ports: [{port}]}}\n---\n"
            )
        };
        service("caller", "{port: 80, appProtocol: http}") + &service("called", port)
    };
    let needs_of = |port: &str| {
        let policy = load(vec![("a.yaml".to_owned(), text(port))]).unwrap().policy;
        let version = Version { epoch: 1, sequence: 1 };
        needs(&plan(&policy, 1, &[], &"ab".parse().unwrap(), &id("shop/caller"), version).unwrap())
    };
    assert_eq!(needs_of("{port: 80, appProtocol: tcp}"), [feature::AUTHORIZATION]);
    assert_eq!(needs_of("{port: 80}"), [feature::AUTHORIZATION, feature::DETECTION]);
}

#[test]
fn the_directory_lists_services_without_endpoints_too() {
    let snapshot = plan_for("shop/orders", &[(id("shop/payments"), vec![endpoint(1)])]).unwrap();
    let listed: Vec<(String, usize)> =
        snapshot.directory.iter().map(|entry| (entry.service.to_string(), entry.endpoints.len())).collect();
    let expected = [("shop/frontend", 0), ("shop/orders", 0), ("shop/payments", 1)];
    assert_eq!(listed, expected.map(|(name, count)| (name.to_owned(), count)));
}

#[test]
fn a_policy_is_refused_whose_largest_snapshot_no_sidecar_would_read() {
    let of = |service: &str| {
        let (nobody, version) = ("0".repeat(32), Version { epoch: u64::MAX, sequence: u64::MAX });
        plan(&SHOP, u64::MAX, &[], &nobody.parse().unwrap(), &id(service), version).unwrap()
    };
    let sizes = ["shop/frontend", "shop/orders", "shop/payments"].map(|name| (bytes(&of(name)).len(), name));
    let (largest, name) = sizes.into_iter().max().unwrap();
    assert_eq!(check_size(&SHOP, largest), Ok(()));
    let refused = check_size(&SHOP, largest - 1).unwrap_err();
    assert_eq!((refused.service, refused.got), (id(name), largest));
}

#[test]
fn a_sidecar_of_an_undeclared_service_gets_no_snapshot() {
    let error = plan_for("shop/billing", &[]).unwrap_err();
    assert_eq!(error, PlanError::UndeclaredService { service: id("shop/billing"), revision: 12 });
}

#[test]
fn endpoints_of_undeclared_services_are_left_out() {
    let with = plan_for("shop/orders", &[(id("shop/billing"), vec![endpoint(1)])]).unwrap();
    assert_eq!(with, plan_for("shop/orders", &[]).unwrap());
}

#[test]
fn what_has_no_effect_yet_is_told_to_the_sidecar() {
    let snapshot = plan_for("shop/frontend", &[]).unwrap();
    let payments = snapshot.directory.iter().find(|service| service.service.name() == "payments");
    let traffic = payments.and_then(|service| service.traffic.as_ref()).expect("a policy names payments");
    assert_eq!(traffic.breaker.consecutive_failures, Some(7));
}

#[test]
fn an_endpoint_takes_at_most_200_bytes() {
    const COUNT: u32 = 1_000;
    let some: Vec<Endpoint> = (0..COUNT).map(endpoint).collect();
    let without = bytes(&plan_for("shop/orders", &[]).unwrap()).len();
    let with = bytes(&plan_for("shop/orders", &[(id("shop/payments"), some)]).unwrap()).len();
    let each = (with - without) / COUNT as usize;
    assert!(each <= 200, "{each} bytes an endpoint");
    assert!(50_000 * each < SNAPSHOT_BYTES_MAX);
}

/// Endpoints of some of the shop's services, each service perhaps in several entries, an endpoint perhaps twice.
fn registries() -> impl Strategy<Value = Vec<(ServiceId, Vec<Endpoint>)>> {
    let service = prop::sample::select(vec!["shop/frontend", "shop/orders", "shop/payments", "shop/none"]);
    let entry = (service.prop_map(id), prop::collection::vec((0..40_u32).prop_map(endpoint), 0..8));
    prop::collection::vec(entry, 0..8)
}

proptest! {
    #[test]
    fn equal_inputs_in_any_order_give_equal_bytes(registry in registries(), turn in 0..8_usize) {
        let mut turned = registry.clone();
        if !turned.is_empty() {
            let by = turn % turned.len();
            turned.rotate_left(by);
        }
        for (_, some) in &mut turned {
            some.reverse();
        }
        let (a, b) = (plan_for("shop/orders", &registry).unwrap(), plan_for("shop/orders", &turned).unwrap());
        prop_assert_eq!(bytes(&a), bytes(&b));
    }

    #[test]
    fn every_service_that_is_referred_to_is_in_the_directory(registry in registries()) {
        let snapshot = plan_for("shop/frontend", &registry).unwrap();
        let listed = |service: &ServiceId| snapshot.directory.iter().any(|entry| entry.service == *service);
        prop_assert!(snapshot.local.upstreams.iter().all(listed));
        for route in &snapshot.routes {
            prop_assert!(listed(&route.service));
            let backends = route.rules.iter().flat_map(|rule| &rule.backends);
            prop_assert!(backends.map(|backend| &backend.service).all(listed));
        }
    }

    #[test]
    fn every_endpoint_of_the_registry_is_listed_once_and_in_order(registry in registries()) {
        let snapshot = plan_for("shop/orders", &registry).unwrap();
        for entry in &snapshot.directory {
            let of_service = registry.iter().filter(|(service, _)| *service == entry.service);
            let mut expected: Vec<(SidecarId, SocketAddr)> =
                of_service.flat_map(|(_, some)| some).map(|e| (e.sidecar.clone(), e.address)).collect();
            expected.sort();
            expected.dedup();
            let got: Vec<(SidecarId, SocketAddr)> =
                entry.endpoints.iter().map(|e| (e.sidecar.clone(), e.address)).collect();
            prop_assert_eq!(got, expected);
        }
    }

    #[test]
    fn a_snapshot_survives_its_way_through_json(registry in registries()) {
        let snapshot = plan_for("shop/payments", &registry).unwrap();
        let back: Snapshot = serde_json::from_str(&bytes(&snapshot)).unwrap();
        prop_assert_eq!(back, snapshot);
    }
}
