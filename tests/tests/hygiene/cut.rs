//! Messages that are cut off, at each of their bytes.

use crate::known::KNOWN;
use crate::table::{Case, Of, Outcome};
use crate::world::{Way, World, settle};

const REQUESTS: [&str; 3] = [
    "GET /{id} HTTP/1.1\\r\\nHost: {host}\\r\\nX-A: 1\\r\\n\\r\\n",
    "POST /{id} HTTP/1.1\\r\\nHost: {host}\\r\\nContent-Length: 5\\r\\n\\r\\nhello",
    "POST /{id} HTTP/1.1\\r\\nHost: {host}\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n5;a=b\\r\\nhello\\r\\n0\\r\\nX-T: 1\\r\\n\\r\\n",
];

const ANSWERS: [&str; 2] = [
    "HTTP/1.1 200 OK\\r\\nx-app: 1\\r\\nContent-Length: 5\\r\\n\\r\\nhello",
    "HTTP/1.1 200 OK\\r\\nx-app: 1\\r\\nTransfer-Encoding: chunked\\r\\n\\r\\n5;a=b\\r\\nhello\\r\\n0\\r\\nX-T: 1\\r\\n\\r\\n",
];

/// Every beginning of a text but the whole of it, by bytes; what stands in braces is one.
fn beginnings(text: &str) -> Vec<String> {
    let mut beginnings = Vec::new();
    let mut at = 0;
    while at < text.len() {
        if at > 0 {
            beginnings.push(text[..at].to_owned());
        }
        at += match text.as_bytes()[at] {
            b'\\' => 2,
            b'{' => text[at..].find('}').expect("the texts above are whole") + 1,
            _ => 1,
        };
    }
    beginnings
}

fn cases(of: Of, texts: &[&str], ending: &str, right: &[Vec<Outcome>]) -> Vec<Case> {
    let cases = texts.iter().flat_map(|text| beginnings(text)).map(|beginning| Case {
        of,
        name: format!("cut off after {beginning}"),
        rfc: "RFC 9112, section 8: an incomplete message must not be taken for whole",
        bytes: format!("{beginning}{ending}"),
        right: right.to_vec(),
        ..Case::default()
    });
    cases.collect()
}

#[tokio::test]
async fn a_request_that_is_cut_off_anywhere_never_reaches_the_app_as_a_whole() {
    let world = World::start().await;
    let cases = cases(Of::Requests, &REQUESTS, "{fin}", &[vec![Outcome::CutOff]]);
    let (mesh, edge) = tokio::join!(world.ask(Way::Mesh, &cases), world.ask(Way::Edge, &cases));
    settle("cut requests", &[(Way::Mesh, &mesh), (Way::Edge, &edge)], KNOWN);
}

#[tokio::test]
async fn an_answer_that_is_cut_off_anywhere_is_never_taken_for_whole() {
    let world = World::start().await;
    let right =
        [vec![Outcome::Failed(vec![502, 503])], vec![Outcome::BrokenOff(200)], vec![Outcome::Dropped]];
    let mut cases = cases(Of::Answers, &ANSWERS, "{close}", &right);
    // A POST, so that nobody sends it again.
    for case in &mut cases {
        "POST /{id} HTTP/1.1\\r\\nHost: {host}\\r\\nContent-Length: 1\\r\\n\\r\\nx"
            .clone_into(&mut case.request);
    }
    let (mesh, edge) = tokio::join!(world.answer(Way::Mesh, &cases), world.answer(Way::Edge, &cases));
    settle("cut answers", &[(Way::Mesh, &mesh), (Way::Edge, &edge)], KNOWN);
}
