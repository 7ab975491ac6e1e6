//! Whole handshakes in memory, by the settings that both ends really use.

use std::sync::Arc;

use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, NamedGroup, ProtocolVersion, ServerConfig,
    ServerConnection,
};
use rustls_pki_types::ServerName;

use super::authority::{Authority, CONTROL_PLANE, DOMAIN, ORDERS, PAYMENTS, ca, key, leaf};
use crate::identity::{
    JoinCredential, Material, PeerRefusal, control_client_config, control_server_config, join_client_config,
    mesh_client_config, mesh_server_config, peer_refusal, peer_refusal_of_io, verified_peer,
};

/// How a handshake ended at each end.
struct Ended {
    client: Result<ClientConnection, rustls::Error>,
    server: Result<ServerConnection, rustls::Error>,
}

/// Carries bytes back and forth until neither end has more to say or one has failed.
fn shake_hands(client: Arc<ClientConfig>, server: Arc<ServerConfig>) -> Ended {
    let name = ServerName::try_from("127.0.0.1").expect("an address");
    let mut client = ClientConnection::new(client, name).expect("a client");
    let mut server = ServerConnection::new(server).expect("a server");
    let (mut client_error, mut server_error) = (None, None);
    for _ in 0..10 {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).expect("a Vec takes everything");
        }
        let mut unread = wire.as_slice();
        while !unread.is_empty() && server_error.is_none() {
            server.read_tls(&mut unread).expect("a slice");
            server_error = server.process_new_packets().err();
        }
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).expect("a Vec takes everything");
        }
        let mut unread = wire.as_slice();
        while !unread.is_empty() && client_error.is_none() {
            client.read_tls(&mut unread).expect("a slice");
            client_error = client.process_new_packets().err();
        }
    }
    assert!(
        !client.is_handshaking() || client_error.is_some() || server_error.is_some(),
        "a handshake hangs"
    );
    Ended { client: client_error.map_or(Ok(client), Err), server: server_error.map_or(Ok(server), Err) }
}

fn refusal<C>(end: Result<C, rustls::Error>) -> PeerRefusal {
    match end {
        Ok(_) => panic!("the peer was let in"),
        Err(error) => {
            let refusal = peer_refusal(&error);
            assert_eq!(refusal, peer_refusal_of_io(&std::io::Error::other(error.clone())));
            refusal.unwrap_or_else(|| panic!("no refusal of ours: {error}"))
        }
    }
}

fn pair(authority: &Authority) -> (Material, Material) {
    (authority.material(authority.issue(&leaf(ORDERS))), authority.material(authority.issue(&leaf(PAYMENTS))))
}

#[test]
fn two_sidecars_of_a_mesh_know_each_other_over_tls_1_3_with_a_post_quantum_exchange() {
    let authority = Authority::new();
    let (orders, payments) = pair(&authority);
    let ended = shake_hands(mesh_client_config(&orders, &payments.identity), mesh_server_config(&payments));
    let (client, server) = (ended.client.expect("let in"), ended.server.expect("let in"));
    let peer = verified_peer(client.peer_certificates()).expect("a peer");
    assert_eq!((peer.identity, peer.not_after), (payments.identity, payments.not_after));
    assert_eq!(verified_peer(server.peer_certificates()).expect("a peer").identity, orders.identity);
    assert_eq!(client.alpn_protocol(), Some(&b"outrider/1"[..]));
    assert_eq!(client.protocol_version(), Some(ProtocolVersion::TLSv1_3));
    let group = client.negotiated_key_exchange_group().expect("a group").name();
    assert_eq!(group, NamedGroup::X25519MLKEM768);
    assert_eq!(server.server_name(), None);
}

#[test]
fn no_connection_is_resumed_and_no_ticket_is_sent() {
    let authority = Authority::new();
    let (orders, payments) = pair(&authority);
    let client = mesh_client_config(&orders, &payments.identity);
    let server = mesh_server_config(&payments);
    for _ in 0..2 {
        let ended = shake_hands(client.clone(), server.clone());
        let client = ended.client.expect("let in");
        assert_eq!(client.handshake_kind(), Some(HandshakeKind::Full));
        assert_eq!(client.tls13_tickets_received(), 0);
    }
}

#[test]
fn a_server_that_is_another_member_than_expected_is_refused() {
    let authority = Authority::new();
    let (orders, payments) = pair(&authority);
    let ended = shake_hands(mesh_client_config(&orders, &orders.identity), mesh_server_config(&payments));
    let expected = PeerRefusal::UnexpectedIdentity { expected: orders.identity, got: payments.identity };
    assert_eq!(refusal(ended.client), expected);
    assert!(ended.server.is_err());
}

#[test]
fn a_client_of_another_mesh_is_refused_by_the_server_with_the_reason() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let (orders, payments) = pair(&ours);
    let stranger = theirs.material(theirs.issue(&leaf(ORDERS)));
    let config = mesh_client_config(&Material { bundle: ours.bundle(), ..stranger }, &payments.identity);
    let ended = shake_hands(config, mesh_server_config(&payments));
    assert_eq!(refusal(ended.server), PeerRefusal::UnknownIssuer);
    let ended = shake_hands(mesh_client_config(&orders, &payments.identity), mesh_server_config(&payments));
    assert!(ended.server.is_ok());
}

#[test]
fn an_expired_client_is_refused_by_the_server_with_the_reason() {
    let authority = Authority::new();
    let (_, payments) = pair(&authority);
    let mut params = leaf(ORDERS);
    params.not_after = rcgen::date_time_ymd(2001, 1, 1);
    let expired = authority.material(authority.issue(&params));
    let ended = shake_hands(mesh_client_config(&expired, &payments.identity), mesh_server_config(&payments));
    assert_eq!(refusal(ended.server).label(), "expired");
}

#[test]
fn a_client_without_a_certificate_is_refused_between_sidecars_and_let_in_by_the_control_plane() {
    let authority = Authority::new();
    let (orders, _) = pair(&authority);
    let control_plane = authority.control_plane();
    let mut config = control_client_config(&authority.bundle(), None).as_ref().clone();
    let ended = shake_hands(Arc::new(config.clone()), control_server_config(&control_plane));
    assert_eq!(ended.client.expect("let in").alpn_protocol(), Some(&b"http/1.1"[..]));
    assert!(ended.server.expect("let in").peer_certificates().is_none());

    config.alpn_protocols.clear();
    let ended = shake_hands(Arc::new(config), mesh_server_config(&control_plane));
    assert_eq!(refusal(ended.server), PeerRefusal::NoCertificate);

    let config = control_client_config(&authority.bundle(), Some(&orders));
    let ended = shake_hands(config, control_server_config(&control_plane));
    let peer = verified_peer(ended.server.expect("let in").peer_certificates()).expect("a peer");
    assert_eq!(peer.identity, orders.identity);
}

#[test]
fn a_sidecar_that_plays_the_control_plane_is_refused() {
    let authority = Authority::new();
    let (orders, _) = pair(&authority);
    let ended = shake_hands(control_client_config(&authority.bundle(), None), control_server_config(&orders));
    assert_eq!(refusal(ended.client).label(), "unexpected_identity");
}

fn credential(pin: [u8; 32]) -> JoinCredential {
    JoinCredential {
        trust_domain: DOMAIN.parse().expect("a name"),
        root_pin: pin,
        id: "a".to_owned(),
        secret: "b".to_owned(),
    }
}

#[test]
fn who_joins_trusts_the_control_plane_below_the_pinned_root() {
    let authority = Authority::new();
    let ended = shake_hands(
        join_client_config(&credential(authority.pin())),
        control_server_config(&authority.control_plane()),
    );
    let peer = verified_peer(ended.client.expect("let in").peer_certificates()).expect("a peer");
    assert_eq!(peer.identity.as_str(), CONTROL_PLANE);
}

#[test]
fn a_bundle_has_the_pins_of_its_own_roots() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    assert!(ours.bundle().has_pin(&ours.pin()));
    assert!(!ours.bundle().has_pin(&theirs.pin()));
}

#[test]
fn who_joins_refuses_another_root_and_a_chain_that_only_carries_the_pinned_one() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let join = || join_client_config(&credential(ours.pin()));
    let ended = shake_hands(join(), control_server_config(&theirs.control_plane()));
    assert_eq!(refusal(ended.client), PeerRefusal::PinNotFound);

    // The pinned root is public: showing it proves nothing.
    let mut impostor = theirs.control_plane();
    let mut certified = impostor.certified_key.as_ref().clone();
    certified.cert.push(ours.root.der().clone());
    impostor.certified_key = Arc::new(certified);
    let ended = shake_hands(join(), control_server_config(&impostor));
    assert_eq!(refusal(ended.client).label(), "unknown_issuer");

    let ended = shake_hands(join(), control_server_config(&ours.material(ours.issue(&leaf(ORDERS)))));
    assert_eq!(refusal(ended.client), PeerRefusal::PinNotFound);
}

#[test]
fn who_joins_refuses_a_member_that_is_not_the_control_plane() {
    let authority = Authority::new();
    let mut member = authority.material(authority.issue(&leaf(ORDERS)));
    let mut certified = member.certified_key.as_ref().clone();
    certified.cert.push(authority.root.der().clone());
    member.certified_key = Arc::new(certified);
    let ended = shake_hands(join_client_config(&credential(authority.pin())), control_server_config(&member));
    assert_eq!(refusal(ended.client).label(), "unexpected_identity");
}

#[test]
fn a_pinned_key_that_is_no_ca_vouches_for_nobody() {
    let mut params = ca("root");
    params.is_ca = rcgen::IsCa::ExplicitNoCa;
    params.key_usages.clear();
    let root = rcgen::CertifiedIssuer::self_signed(params, key()).expect("a certificate");
    let intermediate = rcgen::CertifiedIssuer::signed_by(ca("intermediate"), key(), &root).expect("a CA");
    let unfit = Authority { root, intermediate };
    let ended = shake_hands(
        join_client_config(&credential(unfit.pin())),
        control_server_config(&unfit.control_plane()),
    );
    assert_eq!(refusal(ended.client).label(), "bad_certificate");
}
