//! The handshake's arithmetic, and what each client is told.

use super::*;

#[test]
fn the_key_of_the_rfc_has_the_answer_of_the_rfc() {
    let key = HeaderValue::from_static("dGhlIHNhbXBsZSBub25jZQ==");
    assert_eq!(accept(&key), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[test]
fn an_app_that_does_not_know_the_key_is_not_believed() {
    let mut fields = HeaderMap::new();
    let handshake = Handshake::with_http1(&mut fields, &mut rand::rng());
    let key = fields.remove(SEC_WEBSOCKET_KEY).expect("a key of ours");
    let mut answer = HeaderMap::new();
    answer.insert(SEC_WEBSOCKET_ACCEPT, accept(&key));
    handshake.finish(&mut answer).expect("it has answered it");
    assert!(answer.is_empty(), "the client has sent no key");
    let handshake = Handshake::with_http1(&mut HeaderMap::new(), &mut rand::rng());
    let mut answer = HeaderMap::from_iter([(SEC_WEBSOCKET_ACCEPT, HeaderValue::from_static("x"))]);
    assert_eq!(handshake.finish(&mut answer), Err(Rejection::UpgradeRefused));
}

#[test]
fn a_client_over_http2_is_never_told_of_success_without_a_tunnel() {
    let tunnel = Tunnel::Upgrade("websocket");
    let told = |opened, client, status: u16| {
        let mut answer = Response::new(Body::empty());
        *answer.status_mut() = StatusCode::from_u16(status).unwrap();
        settle(&mut answer, tunnel, opened, client).map(|()| answer.status().as_u16())
    };
    assert_eq!(told(true, Form::Http11, 200), Ok(101));
    assert_eq!(told(true, Form::Http2, 101), Ok(200));
    assert_eq!(told(false, Form::Http11, 200), Ok(200), "an app may ignore an upgrade");
    assert_eq!(told(false, Form::Http2, 200), Err(Rejection::UpgradeRefused));
    assert_eq!(told(false, Form::Http2, 403), Ok(403));
}
