//! A control plane of one room: it lets sidecars in by a secret, and says over the session what a test tells it to.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, UNIX_EPOCH};

use actix_web::dev::ServerHandle;
use actix_web::web::{self, Data, Json, Payload};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use actix_ws::Message;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use outrider_shared::authorization::DefaultAuthorization;
use outrider_shared::identity::{JoinCredential, Material, TrustBundle, control_server_config};
use outrider_shared::join::{JoinAnswer, JoinRequest, Leaf, Problem, RENEW_CONTEXT, RenewRequest};
use outrider_shared::session::framing::{Assembler, frames};
use outrider_shared::session::{FromControlPlane, FromSidecar};
use outrider_shared::snapshot::{
    Egress, Forwarded, LocalService, Mesh, PathNormalization, SIGNING_CONTEXT, SignedSnapshot, Snapshot,
    Tracing, Version,
};
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer, DnType, IsCa,
    KeyPair, KeyUsagePurpose, PublicKeyData, SanType, SigningKey, date_time_ymd,
};
use rustls_pki_types::{CertificateDer, CertificateSigningRequestDer, PrivatePkcs8KeyDer};
use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

pub const DOMAIN: &str = "mesh.test";
pub const SIDECAR: &str = "ab12";
const ORDERS: &str = "spiffe://mesh.test/ns/shop/sa/orders";
const CONTROL_PLANE: &str = "spiffe://mesh.test/ns/outrider-system/sa/control-plane";
/// What a test may leave unread.
const SAID_MAX: usize = 1_024;

/// Seconds before and after now that a leaf is valid for; after a negative `for_s` it is not any more.
#[derive(Debug, Clone, Copy)]
pub struct Validity {
    pub since_s: u64,
    pub for_s: i64,
}

pub const LONG: Validity = Validity { since_s: 60, for_s: 86_400 };

/// The mesh's keys. Outlives a control plane, as its data directory does.
pub struct Keys {
    root: CertifiedIssuer<'static, KeyPair>,
    intermediate: CertifiedIssuer<'static, KeyPair>,
    signer: (CertificateDer<'static>, KeyPair),
}

impl Keys {
    pub fn new() -> Arc<Self> {
        let ca = |name: &str| {
            let mut params = bare(name);
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
            params
        };
        let root = CertifiedIssuer::self_signed(ca("root"), key()).expect("a root");
        let intermediate = CertifiedIssuer::signed_by(ca("intermediate"), key(), &root).expect("a CA");
        let key = key();
        let der = leaf(CONTROL_PLANE, LONG).signed_by(&key, &intermediate).expect("a leaf").der().clone();
        Arc::new(Self { root, intermediate, signer: (der, key) })
    }

    pub fn credential(&self) -> JoinCredential {
        JoinCredential {
            trust_domain: DOMAIN.parse().expect("a name"),
            root_pin: Sha256::digest(self.root.key().subject_public_key_info()).into(),
            id: "token-1".to_owned(),
            secret: "secret".to_owned(),
        }
    }

    /// A leaf over `public_key` for the one service of these tests.
    pub fn leaf(&self, public_key: &impl PublicKeyData, validity: Validity) -> Leaf {
        self.leaf_named(ORDERS, public_key, validity)
    }

    fn leaf_named(&self, name: &str, public_key: &impl PublicKeyData, validity: Validity) -> Leaf {
        let der =
            leaf(name, validity).signed_by(public_key, &self.intermediate).expect("a leaf").der().clone();
        Leaf {
            chain: vec![BASE64_STANDARD.encode(&der), BASE64_STANDARD.encode(self.intermediate.der())],
            bundle: vec![BASE64_STANDARD.encode(self.root.der())],
            not_after_unix_s: 0,
        }
    }

    pub fn sign(&self, body: String) -> SignedSnapshot {
        let message = [SIGNING_CONTEXT, body.as_bytes()].concat();
        SignedSnapshot {
            body,
            signature: BASE64_STANDARD.encode(self.signer.1.sign(&message).expect("a signature")),
            signer: vec![
                BASE64_STANDARD.encode(&self.signer.0),
                BASE64_STANDARD.encode(self.intermediate.der()),
            ],
        }
    }

    pub fn push(&self, snapshot: &Snapshot) -> FromControlPlane {
        FromControlPlane::Push(self.sign(serde_json::to_string(snapshot).expect("plain data")))
    }

    fn material(&self) -> Material {
        let roots = vec![self.root.der().clone()];
        let bundle = TrustBundle::new(DOMAIN.parse().expect("a name"), roots).expect("a bundle");
        let chain = vec![self.signer.0.clone(), self.intermediate.der().clone(), self.root.der().clone()];
        let key = PrivatePkcs8KeyDer::from(self.signer.1.serialize_der());
        Material::from_der(chain, key, Arc::new(bundle)).expect("material")
    }
}

pub fn snapshot(sequence: u64) -> Snapshot {
    Snapshot {
        version: Version { epoch: 1, sequence },
        revision: 1,
        sidecar: SIDECAR.parse().expect("an id"),
        mesh: Mesh {
            id: "MeshConfig/default".parse().expect("an id"),
            trust_domain: DOMAIN.parse().expect("a name"),
            default_authorization: DefaultAuthorization::Deny,
            egress: Egress::RegistryOnly,
            path_normalization: PathNormalization::Base,
            forwarded: Forwarded::default(),
        },
        local: LocalService {
            traffic: None,
            service: "shop/orders".parse().expect("an id"),
            identity: ORDERS.parse().expect("an id"),
            ports: Vec::new(),
            edges: Vec::new(),
            authorization: Vec::new(),
            upstreams: Vec::new(),
        },
        directory: Vec::new(),
        routes: Vec::new(),
        tracing: Tracing::default(),
    }
}

/// What the handlers share; a test changes it while they run.
pub struct Room {
    keys: Arc<Keys>,
    /// Validity of the next leaves.
    pub validity: Validity,
    /// Identity of the next leaves.
    pub identity: &'static str,
    /// What each join and renewal is answered with instead, while it is set.
    pub problem: Option<u16>,
    pub joins: usize,
    pub renewals: usize,
    /// SPKI of each sidecar's instance key.
    instance_keys: BTreeMap<String, Vec<u8>>,
    /// Sent at the begin of each session.
    pub at_once: Vec<FromControlPlane>,
    session: Option<mpsc::Sender<FromControlPlane>>,
    said: mpsc::Sender<FromSidecar>,
}

pub struct ControlPlane {
    pub address: SocketAddr,
    pub room: Arc<Mutex<Room>>,
    said: mpsc::Receiver<FromSidecar>,
    server: ServerHandle,
}

impl ControlPlane {
    pub fn start(keys: &Arc<Keys>) -> Self {
        let (sender, said) = mpsc::channel(SAID_MAX);
        let room = Arc::new(Mutex::new(Room {
            keys: keys.clone(),
            validity: LONG,
            identity: ORDERS,
            problem: None,
            joins: 0,
            renewals: 0,
            instance_keys: BTreeMap::new(),
            at_once: Vec::new(),
            session: None,
            said: sender,
        }));
        let data = Data::new(room.clone());
        let tls = control_server_config(&keys.material());
        let server = HttpServer::new(move || {
            App::new()
                .app_data(data.clone())
                .route("/v1/join", web::post().to(join))
                .route("/v1/renew", web::post().to(renew))
                .route("/v1/session", web::get().to(session))
        })
        .workers(1)
        .disable_signals()
        .shutdown_timeout(0)
        .bind_rustls_0_23(("127.0.0.1", 0), tls.as_ref().clone())
        .expect("a free port");
        let address = server.addrs()[0];
        let server = server.run();
        let handle = server.handle();
        actix_rt::spawn(server);
        Self { address, room, said, server: handle }
    }

    pub async fn stop(self) {
        self.server.stop(false).await;
    }

    pub fn room<T>(&self, look: impl FnOnce(&mut Room) -> T) -> T {
        look(&mut self.room.lock().expect("no handler panicked"))
    }

    /// Says something in the session that is open.
    pub fn say(&self, message: FromControlPlane) {
        let session = self.room(|room| room.session.clone()).expect("a session is open");
        session.try_send(message).expect("the session takes it");
    }

    /// The same, where the session may just have ended: another one then begins with a hello.
    pub fn offer(&self, message: FromControlPlane) {
        let session = self.room(|room| room.session.clone());
        drop(session.map(|session| session.try_send(message)));
    }

    /// The next message of a sidecar that is no report.
    pub async fn hear(&mut self) -> FromSidecar {
        loop {
            match self.hear_any().await {
                FromSidecar::Report(_) => {}
                other => return other,
            }
        }
    }

    pub async fn hear_any(&mut self) -> FromSidecar {
        tokio::time::timeout(Duration::from_secs(20), self.said.recv())
            .await
            .expect("a sidecar says something in time")
            .expect("the server lives")
    }
}

fn problem(status: u16) -> HttpResponse {
    let status = actix_web::http::StatusCode::from_u16(status).expect("a status");
    let problem = Problem {
        kind: "about:blank".to_owned(),
        title: "this token is spent".to_owned(),
        status: status.as_u16(),
        detail: None,
    };
    HttpResponse::build(status)
        .content_type("application/problem+json")
        .body(serde_json::to_string(&problem).expect("plain data"))
}

fn public_key_of(csr: &str) -> CertificateSigningRequestParams {
    let der = CertificateSigningRequestDer::from(BASE64_STANDARD.decode(csr).expect("base64"));
    CertificateSigningRequestParams::from_der(&der).expect("a CSR whose signature holds")
}

async fn join(room: Data<Arc<Mutex<Room>>>, request: Json<JoinRequest>) -> HttpResponse {
    let mut room = room.lock().expect("no handler panicked");
    room.joins += 1;
    if let Some(status) = room.problem {
        return problem(status);
    }
    let credential = room.keys.credential();
    if (&request.credential_id, &request.secret) != (&credential.id, &credential.secret) {
        return problem(403);
    }
    let instance_key = BASE64_STANDARD.decode(&request.instance_key).expect("base64");
    room.instance_keys.insert(SIDECAR.to_owned(), instance_key);
    HttpResponse::Ok().json(JoinAnswer {
        sidecar: SIDECAR.parse().expect("an id"),
        instance_credential: "instance".to_owned(),
        leaf: room.keys.leaf_named(room.identity, &public_key_of(&request.csr).public_key, room.validity),
    })
}

async fn renew(room: Data<Arc<Mutex<Room>>>, request: Json<RenewRequest>) -> HttpResponse {
    let mut room = room.lock().expect("no handler panicked");
    room.renewals += 1;
    if let Some(status) = room.problem {
        return problem(status);
    }
    let spki = room.instance_keys.get(request.sidecar.as_str()).cloned().unwrap_or_default();
    // A P-256 key's SPKI ends with its point, 65 bytes uncompressed.
    let point = &spki[spki.len().saturating_sub(65)..];
    let csr = BASE64_STANDARD.decode(&request.csr).expect("base64");
    let proof = BASE64_STANDARD.decode(&request.proof).expect("base64");
    let proved = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, point)
        .verify(&[RENEW_CONTEXT, &csr].concat(), &proof);
    if request.instance_credential != "instance" || proved.is_err() {
        return problem(403);
    }
    HttpResponse::Ok().json(room.keys.leaf_named(
        room.identity,
        &public_key_of(&request.csr).public_key,
        room.validity,
    ))
}

async fn session(
    room: Data<Arc<Mutex<Room>>>,
    request: HttpRequest,
    body: Payload,
) -> actix_web::Result<HttpResponse> {
    let (answer, mut socket, mut messages) = actix_ws::handle(&request, body)?;
    let (sender, mut to_say) = mpsc::channel(SAID_MAX);
    let (said, at_once) = {
        let mut room = room.lock().expect("no handler panicked");
        room.session = Some(sender);
        (room.said.clone(), room.at_once.clone())
    };
    actix_rt::spawn(async move {
        let mut assembler = Assembler::new(1 << 20);
        for frame in at_once.iter().flat_map(frames) {
            if socket.binary(frame).await.is_err() {
                return;
            }
        }
        loop {
            tokio::select! {
                message = messages.recv() => match message {
                    Some(Ok(Message::Binary(frame))) => {
                        if let Some(message) = assembler.take(&frame).expect("a message of ours") {
                            said.try_send(message).expect("the test listens");
                        }
                    }
                    Some(Ok(Message::Ping(payload))) => {
                        if socket.pong(&payload).await.is_err() {
                            return;
                        }
                    }
                    Some(Ok(_)) => {}
                    Some(Err(_)) | None => return,
                },
                message = to_say.recv() => {
                    // Another session took the place of this one.
                    let Some(message) = message else { return };
                    for frame in frames(&message) {
                        if socket.binary(frame).await.is_err() {
                            return;
                        }
                    }
                }
            }
        }
    });
    Ok(answer)
}

pub fn key() -> KeyPair {
    KeyPair::generate().expect("a key")
}

fn leaf(uri: &str, validity: Validity) -> CertificateParams {
    let mut params = bare("leaf");
    params.subject_alt_names = vec![SanType::URI(uri.try_into().expect("ASCII"))];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    let now = date_time_ymd(1970, 1, 1) + UNIX_EPOCH.elapsed().expect("after 1970");
    params.not_before = now - Duration::from_secs(validity.since_s);
    let distance = Duration::from_secs(validity.for_s.unsigned_abs());
    params.not_after = if validity.for_s < 0 { now - distance } else { now + distance };
    params
}

fn bare(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.use_authority_key_identifier_extension = true;
    params.not_before = date_time_ymd(2000, 1, 1);
    params.not_after = date_time_ymd(2200, 1, 1);
    params
}
