//! Answers of an app, through both sidecars and through an edge.

use crate::known::KNOWN;
use crate::table::{self, Case, Of};
use crate::world::{self, Way, World, settle};
use outrider_tests::raw::client::{self, Manner};
use outrider_tests::wait;

/// The table.
pub fn table() -> Vec<Case> {
    table::read(Of::Answers, include_str!("cases/answers.txt"))
}

#[tokio::test]
async fn malformed_answers_reach_no_client_and_spoil_no_other_answer() {
    let cases = table();
    assert!(cases.len() >= 60, "{} cases", cases.len());
    let world = World::start().await;
    let (mesh, edge) = tokio::join!(world.answer(Way::Mesh, &cases), world.answer(Way::Edge, &cases));
    settle("answers", &[(Way::Mesh, &mesh), (Way::Edge, &edge)], KNOWN);
    let metric = world.web.metric("outrider_malformed_messages_total", &["message=\"answer\""]);
    assert!(metric.await.unwrap() > 60.0, "malformed answers are counted");
}

/// Behind a whole answer, when the connection lies idle already.
#[tokio::test]
async fn what_an_app_says_on_an_idle_connection_answers_nobody() {
    let world = World::start().await;
    for (number, way) in [Way::Mesh, Way::Edge].into_iter().enumerate() {
        let names = world::names(number, way);
        world.script(
            &names,
            "HTTP/1.1 200 OK\\r\\ncontent-length: 5\\r\\n\\r\\nhello{pause}HTTP/1.1 200 OK\\r\\nx-echo: spoilt\\r\\ncontent-length: 0\\r\\n\\r\\n",
        );
        let before = world.recorder.performed();
        let ask = async |what: &str| {
            let request =
                format!("GET /{{id}}{what} HTTP/1.1\\r\\nHost: {{host}}\\r\\nConnection: close\\r\\n\\r\\n");
            let manner = Manner { methods: &[], answers: 1, by_byte: false, probe: None, bound: wait::BOUND };
            let heard = client::converse(world.at(way), &names.steps(&request), &manner).await;
            heard.answers.into_iter().next().expect("an answer")
        };
        assert_eq!(ask("").await.body, b"hello");
        wait::until("the app has said more", async || {
            if world.recorder.performed() > before { Ok(()) } else { Err("not yet".to_owned()) }
        })
        .await;
        // One of them at least meets the shard that has the connection.
        for _ in 0..8 {
            let answer = ask("-after").await;
            assert_eq!(answer.value("x-echo"), Some(&*format!("GET /{}-after", names.id)), "{}", way.name());
        }
    }
}
