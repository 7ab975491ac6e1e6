//! Requests, through both sidecars and through an edge.

use crate::known::KNOWN;
use crate::table::{self, Case, Of};
use crate::world::{Way, World, settle};

/// The tables, each with its name.
pub fn tables() -> Vec<(&'static str, Vec<Case>)> {
    let tables = [
        ("lengths", include_str!("cases/lengths.txt")),
        ("codings", include_str!("cases/codings.txt")),
        ("chunks", include_str!("cases/chunks.txt")),
        ("lines", include_str!("cases/lines.txt")),
        ("fields", include_str!("cases/fields.txt")),
        ("targets", include_str!("cases/targets.txt")),
        ("hosts", include_str!("cases/hosts.txt")),
        ("limits", include_str!("cases/limits.txt")),
        ("whole", include_str!("cases/whole.txt")),
    ];
    tables.map(|(name, text)| (name, table::read(Of::Requests, text))).to_vec()
}

#[tokio::test]
async fn malformed_requests_reach_no_app_and_whole_ones_reach_it_as_they_were_meant() {
    let tables = tables();
    let count: usize = tables.iter().map(|(_, cases)| cases.len()).sum();
    assert!(count >= 200, "{count} cases");
    let world = World::start().await;
    let cases: Vec<Case> = tables.into_iter().flat_map(|(_, cases)| cases).collect();
    let (mesh, edge) = tokio::join!(world.ask(Way::Mesh, &cases), world.ask(Way::Edge, &cases));
    settle("requests", &[(Way::Mesh, &mesh), (Way::Edge, &edge)], KNOWN);
    let refused: f64 = {
        let metric = world.web.metric("outrider_malformed_messages_total", &["message=\"request\""]);
        metric.await.unwrap()
    };
    let refusals = edge.iter().filter(|ended| ended.is_malformed()).count();
    assert!(refused >= f64::from(u32::try_from(refusals).unwrap()), "{refused} of {refusals} are counted");
}
