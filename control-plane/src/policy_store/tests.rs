//! A change is taken whole or not at all, and what was good stays, also across a restart.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use ractor::{Actor as _, ActorRef};
use tempfile::TempDir;

use super::*;
use crate::authority::Authority;
use crate::authority::records::Seal;
use crate::metrics::Metrics;

fn mesh(domain: &str) -> String {
    format!(
        "apiVersion: outrider.mesh/v1alpha1\nkind: MeshConfig\nmetadata: {{name: mesh}}\nspec: {{trustDomain: {domain}}}\n"
    )
}

fn service(name: &str) -> String {
    format!(
        "apiVersion: outrider.mesh/v1alpha1\nkind: Service\nmetadata: {{name: {name}, namespace: shop}}\n\
         spec:\n  ports: [{{port: 80, appProtocol: http}}]\n  serviceAccount: {name}\n"
    )
}

/// Two directories: policy, and data.
struct Case {
    policy: TempDir,
    data: TempDir,
}

impl Case {
    fn new() -> Self {
        let case = Self { policy: tempfile::tempdir().unwrap(), data: tempfile::tempdir().unwrap() };
        case.write("mesh.yaml", &mesh("mesh.example"));
        case.write("orders.yaml", &service("orders"));
        case
    }

    fn write(&self, name: &str, text: &str) {
        let part = self.policy.path().join(format!(".{name}"));
        std::fs::write(&part, text).unwrap();
        std::fs::rename(part, self.policy.path().join(name)).unwrap();
    }

    /// What a start of the control plane reads.
    fn start(&self) -> anyhow::Result<(Revision, Vec<String>)> {
        first(&Store::open(self.data.path())?, self.policy.path())
    }

    fn parts(&self) -> Arc<Parts> {
        let store = Arc::new(Store::open(self.data.path()).unwrap());
        let (revision, problems) = first(&store, self.policy.path()).unwrap();
        let domain = revision.policy.mesh().trust_domain().clone();
        let authority = Authority::open(Arc::clone(&store), &domain, &Seal::None).unwrap();
        Arc::new(Parts {
            store,
            policy: ArcSwap::from_pointee(revision),
            problems: ArcSwap::from_pointee(problems),
            own: ArcSwap::new(authority.own_material().unwrap()),
            authority: ArcSwapOption::empty(),
            registry: ArcSwapOption::empty(),
            supervisor: ArcSwapOption::empty(),
            metrics: Metrics::default(),
        })
    }
}

async fn watching(parts: &Arc<Parts>, dir: &Path) -> ActorRef<Message> {
    let arguments = (Arc::clone(parts), dir.to_owned());
    PolicyStore::spawn(None, PolicyStore, arguments).await.unwrap().0
}

async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < end, "not within 20 s: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn the_same_documents_are_the_same_revision_after_a_restart() {
    let case = Case::new();
    let (one, problems) = case.start().unwrap();
    assert_eq!((one.revision, problems), (1, Vec::new()));
    let (again, _) = case.start().unwrap();
    assert_eq!((again.revision, again.hash), (1, one.hash));
    case.write("payments.yaml", &service("payments"));
    assert_eq!(case.start().unwrap().0.revision, 2);
}

#[test]
fn a_start_without_any_good_policy_is_refused_with_every_problem() {
    let case = Case::new();
    case.write("orders.yaml", &service("orders").replace("ports", "prots"));
    case.write("payments.yaml", "kind: Nothing\n");
    let error = case.start().err().unwrap().to_string();
    assert!(error.contains("orders.yaml:5") && error.contains("payments.yaml:1"), "{error}");
}

#[test]
fn a_start_with_a_broken_directory_goes_on_with_the_last_good_revision_and_says_what_is_wrong() {
    let case = Case::new();
    case.start().unwrap();
    case.write("orders.yaml", &service("orders").replace("ports", "prots"));
    let (revision, problems) = case.start().unwrap();
    assert_eq!(revision.revision, 1);
    assert!(revision.policy.service(&"shop/orders".parse().unwrap()).is_some());
    assert!(problems.iter().any(|problem| problem.contains("prots")), "{problems:?}");
    case.write("orders.yaml", &service("orders"));
    let (revision, problems) = case.start().unwrap();
    assert_eq!((revision.revision, problems), (1, Vec::new()));
}

#[test]
fn a_start_with_another_trust_domain_goes_on_with_the_old_one_and_says_what_to_do() {
    let case = Case::new();
    case.start().unwrap();
    case.write("mesh.yaml", &mesh("other.example"));
    let (revision, problems) = case.start().unwrap();
    assert_eq!(revision.policy.mesh().trust_domain().as_str(), "mesh.example");
    assert!(problems[0].contains("other.example") && problems[0].contains("--data-dir"), "{problems:?}");
}

#[test]
fn old_revisions_go_when_there_are_many() {
    let case = Case::new();
    let store = Store::open(case.data.path()).unwrap();
    for n in 1..=REVISIONS_MAX + 5 {
        let loaded = policy::load_dir(case.policy.path()).unwrap();
        accept(&store, n, loaded).unwrap();
    }
    let kept: Vec<(String, RevisionRecord)> = store.all(Kind::Revision).unwrap();
    let numbers: Vec<u64> = kept.iter().map(|(_, record)| record.revision).collect();
    assert_eq!(numbers, (6..=REVISIONS_MAX + 5).collect::<Vec<_>>());
    drop(store);
    assert_eq!(case.start().unwrap().0.revision, REVISIONS_MAX + 5);
}

#[actix_rt::test]
async fn a_change_of_the_directory_comes_into_force_and_a_wrong_one_leaves_everything_as_it_is() {
    let case = Case::new();
    let parts = case.parts();
    let store = watching(&parts, case.policy.path()).await;
    case.write("payments.yaml", &service("payments"));
    until("the second revision", || parts.policy.load().revision == 2).await;
    assert_eq!(parts.metrics.revision.get(), 2);

    case.write("payments.yaml", "kind: Nothing\n");
    case.write("orders.yaml", &service("orders").replace("ports", "prots"));
    until("both problems", || parts.problems.load().len() >= 2).await;
    let in_force = parts.policy.load_full();
    assert_eq!(in_force.revision, 2);
    assert!(in_force.policy.service(&"shop/payments".parse().unwrap()).is_some());
    let problems = i64::try_from(parts.problems.load().len()).unwrap();
    assert_eq!(parts.metrics.policy_problems.get(), problems);

    case.write("payments.yaml", &service("payments"));
    case.write("orders.yaml", &service("orders"));
    until("no problems", || parts.problems.load().is_empty()).await;
    assert_eq!(parts.policy.load().revision, 2);
    store.stop_and_wait(None, None).await.unwrap();
}

#[actix_rt::test]
async fn a_trust_domain_does_not_change_while_it_runs_either() {
    let case = Case::new();
    let parts = case.parts();
    let store = watching(&parts, case.policy.path()).await;
    case.write("mesh.yaml", &mesh("other.example"));
    until("the problem", || !parts.problems.load().is_empty()).await;
    assert_eq!(parts.policy.load().policy.mesh().trust_domain().as_str(), "mesh.example");
    store.stop_and_wait(None, None).await.unwrap();
}
