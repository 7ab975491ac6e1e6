//! A sidecar as the control plane sees one: it joins, serves its mesh port, and holds a session.

use std::net::SocketAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use awc::ws::{Codec, Frame, Message};
use awc::{BoxedSocket, Client, Connector};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures_util::{SinkExt as _, StreamExt as _};
use outrider_control_plane::authority::records::{KeyRecord, Seal};
use outrider_control_plane::authority::{now_unix_s, pki};
use outrider_control_plane::store::{Kind, Store};
use outrider_shared::identity::{
    JoinCredential, Material, TrustBundle, control_client_config, join_client_config, mesh_server_config,
    verify_snapshot,
};
use outrider_shared::join::{JoinAnswer, JoinRequest, Leaf, Problem, RENEW_CONTEXT, RenewRequest};
use outrider_shared::names::FEATURES;
use outrider_shared::session::framing::{Assembler, MESSAGE_BYTES_MAX, PART_BYTES_MAX, frames};
use outrider_shared::session::{FromControlPlane, FromSidecar, Hello, PROTOCOL, Report};
use outrider_shared::snapshot::Snapshot;
use outrider_shared::{ServiceId, SidecarId};
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _, SigningKey as _};
use rustls_pki_types::{CertificateDer, PrivatePkcs8KeyDer, UnixTime};

use crate::world::{WAIT_MAX, World};

pub struct Sidecar {
    pub id: SidecarId,
    pub service: ServiceId,
    pub material: Arc<Material>,
    pub credential: String,
    pub address: SocketAddr,
    instance: KeyPair,
    /// What the mesh port shows.
    shown: Arc<ArcSwap<rustls::ServerConfig>>,
}

fn csr(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

fn ders(texts: &[String]) -> Vec<CertificateDer<'static>> {
    texts.iter().map(|text| CertificateDer::from(BASE64_STANDARD.decode(text).unwrap())).collect()
}

fn material(domain: &outrider_shared::TrustDomain, leaf: &Leaf, key: &KeyPair) -> Arc<Material> {
    let bundle = Arc::new(TrustBundle::new(domain.clone(), ders(&leaf.bundle)).unwrap());
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    Arc::new(Material::from_der(ders(&leaf.chain), key, bundle).unwrap())
}

fn client(tls: Arc<rustls::ClientConfig>) -> Client {
    Client::builder().connector(Connector::new().rustls_0_23(tls)).timeout(WAIT_MAX).finish()
}

/// Asks the control port; a refusal is its problem document.
async fn post<T: serde::de::DeserializeOwned>(
    world: &World,
    tls: Arc<rustls::ClientConfig>,
    path: &str,
    request: &impl serde::Serialize,
) -> Result<T, Problem> {
    let request = client(tls)
        .post(format!("https://control-plane{path}"))
        .address(world.running().control_addr)
        .send_json(request);
    let mut answer = request.await.unwrap();
    let body = answer.body().await.unwrap();
    if answer.status().is_success() {
        Ok(serde_json::from_slice(&body).unwrap())
    } else {
        Err(serde_json::from_slice(&body).unwrap())
    }
}

impl Sidecar {
    pub async fn join(world: &World, credential: &JoinCredential, service: &str) -> Result<Self, Problem> {
        let (instance, leaf_key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let request = JoinRequest {
            credential_id: credential.id.clone(),
            secret: credential.secret.clone(),
            service: service.parse().unwrap(),
            instance_key: BASE64_STANDARD.encode(instance.subject_public_key_info()),
            csr: BASE64_STANDARD.encode(csr(&leaf_key)),
        };
        let joined: JoinAnswer = post(world, join_client_config(credential), "/v1/join", &request).await?;
        let material = material(&credential.trust_domain, &joined.leaf, &leaf_key);
        material.verify(UnixTime::now()).unwrap();
        let shown = Arc::new(ArcSwap::new(mesh_server_config(&material)));
        Ok(Self {
            id: joined.sidecar,
            service: request.service,
            address: serve(Arc::clone(&shown)).await,
            shown,
            material,
            credential: joined.instance_credential,
            instance,
        })
    }

    /// Joins by a fresh token.
    pub async fn of(world: &World, service: &str) -> Self {
        let token = world.mint("tokens", service).await;
        Self::join(world, &token, service).await.map_err(|problem| format!("{problem:?}")).unwrap()
    }

    /// Without a client certificate, as when the leaf has expired.
    pub async fn renew(&mut self, world: &World) -> Result<(), Problem> {
        let key = KeyPair::generate().unwrap();
        let csr = csr(&key);
        let request = RenewRequest {
            sidecar: self.id.clone(),
            instance_credential: self.credential.clone(),
            proof: BASE64_STANDARD.encode(self.instance.sign(&[RENEW_CONTEXT, &csr].concat()).unwrap()),
            csr: BASE64_STANDARD.encode(csr),
        };
        let tls = control_client_config(&self.material.bundle, None);
        let leaf: Leaf = post(world, tls, "/v1/renew", &request).await?;
        self.material = material(self.material.bundle.trust_domain(), &leaf, &key);
        self.shown.store(mesh_server_config(&self.material));
        Ok(())
    }

    /// Takes a leaf that the stopped control plane of `world` would have issued, and that ends in `life_s` seconds.
    pub fn take_leaf_of(&mut self, world: &World, life_s: i64) {
        let record: KeyRecord =
            Store::open(world.data.path()).unwrap().get(Kind::Meta, "intermediate").unwrap().unwrap();
        let intermediate = record.open(&Seal::None).unwrap();
        let key = KeyPair::generate().unwrap();
        let holder = pki::Holder { identity: &self.material.identity, sidecar: &self.id };
        let leaf = pki::leaf_for_request(&intermediate, &csr(&key), &holder, now_unix_s(), life_s).unwrap();
        let chain = [leaf, intermediate.certificate].map(|c| CertificateDer::from(c.to_der().unwrap()));
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        let bundle = Arc::clone(&self.material.bundle);
        self.material = Arc::new(Material::from_der(chain.to_vec(), key, bundle).unwrap());
        self.shown.store(mesh_server_config(&self.material));
    }

    pub fn hello(&self) -> Hello {
        Hello {
            protocol: PROTOCOL,
            sidecar: self.id.clone(),
            boot: format!("boot-{}", self.id),
            build: "0.0.0".to_owned(),
            service: self.service.clone(),
            address: Some(self.address),
            inbound_port: self.address.port(),
            serving: true,
            features: FEATURES.iter().map(ToString::to_string).collect(),
            version: None,
        }
    }

    pub fn report(&self) -> Report {
        Report { boot: self.hello().boot, ..Report::default() }
    }

    /// A connection that has said nothing yet.
    pub async fn connect(&self, world: &World) -> Session {
        let client = client(control_client_config(&self.material.bundle, Some(&*self.material)));
        let socket = client
            .ws("https://control-plane/v1/session")
            .address(world.running().control_addr)
            .max_frame_size(PART_BYTES_MAX + 1)
            .connect();
        let (_, socket) = socket.await.unwrap();
        let bundle = Arc::clone(&self.material.bundle);
        Session { socket, assembler: Assembler::new(MESSAGE_BYTES_MAX), bundle }
    }

    pub async fn session(&self, world: &World) -> Session {
        let mut session = self.connect(world).await;
        session.say(FromSidecar::Hello(self.hello())).await;
        session
    }
}

/// The mesh port: whoever connects is shown the leaf.
async fn serve(shown: Arc<ArcSwap<rustls::ServerConfig>>) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    actix_rt::spawn(async move {
        while let Ok((tcp, _)) = listener.accept().await {
            let acceptor = tokio_rustls::TlsAcceptor::from(shown.load_full());
            actix_rt::spawn(async move { acceptor.accept(tcp).await.map(drop) });
        }
    });
    address
}

pub struct Session {
    socket: actix_codec::Framed<BoxedSocket, Codec>,
    assembler: Assembler,
    bundle: Arc<TrustBundle>,
}

impl Session {
    pub async fn say(&mut self, message: FromSidecar) {
        for frame in frames(&message) {
            self.socket.send(Message::Binary(frame)).await.unwrap();
        }
    }

    /// `None`: the session has ended.
    pub async fn hear(&mut self) -> Option<FromControlPlane> {
        let next = async {
            loop {
                match self.socket.next().await? {
                    Ok(Frame::Binary(frame)) => {
                        if let Some(message) = self.assembler.take(&frame).unwrap() {
                            return Some(message);
                        }
                    }
                    Ok(Frame::Close(_)) | Err(_) => return None,
                    Ok(_) => {}
                }
            }
        };
        actix_rt::time::timeout(WAIT_MAX, next).await.expect("the control plane says something in time")
    }

    /// The next snapshot, verified and acknowledged.
    pub async fn snapshot(&mut self) -> Snapshot {
        let Some(FromControlPlane::Push(signed)) = self.hear().await else { panic!("no push") };
        let snapshot = verify_snapshot(&signed, &self.bundle, UnixTime::now()).unwrap();
        self.say(FromSidecar::Ack { version: snapshot.version }).await;
        snapshot
    }

    /// Snapshots until one fits.
    pub async fn snapshot_with(&mut self, fits: impl Fn(&Snapshot) -> bool) -> Snapshot {
        loop {
            let snapshot = self.snapshot().await;
            if fits(&snapshot) {
                return snapshot;
            }
        }
    }

    /// Why the control plane ended it.
    pub async fn goodbye(&mut self) -> String {
        loop {
            match self.hear().await {
                Some(FromControlPlane::Goodbye { reason }) => return reason,
                Some(_) => {}
                None => panic!("the session ended without a reason"),
            }
        }
    }
}

/// How many endpoints of a service a snapshot lists.
pub fn endpoints(snapshot: &Snapshot, service: &str) -> usize {
    let entry = snapshot.directory.iter().find(|entry| entry.service.to_string() == service);
    entry.map_or(0, |entry| entry.endpoints.len())
}
