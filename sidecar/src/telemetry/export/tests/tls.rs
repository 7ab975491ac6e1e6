//! Sentences about TLS to a collector: a real one, with certificates made for the test.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};
use rustls::RootCertStore;
use rustls::crypto::aws_lc_rs;
use rustls::server::WebPkiClientVerifier;
use rustls_pki_types::PrivateKeyDer;

use super::*;
use crate::telemetry::{ClientFiles, TlsFiles};

const BOTH: [Protocol; 2] = [Protocol::Grpc, Protocol::HttpProtobuf];

type Issuer = CertifiedIssuer<'static, KeyPair>;

fn authority(name: &str) -> Issuer {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// A certificate for 127.0.0.1, and its key.
fn leaf(issuer: &Issuer) -> (rcgen::Certificate, KeyPair) {
    let mut params = CertificateParams::default();
    params.subject_alt_names = vec![SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into())];
    let key = KeyPair::generate().unwrap();
    (params.signed_by(&key, issuer).unwrap(), key)
}

/// Of a collector; `asks`: it lets in only whom this authority knows.
fn server(issuer: &Issuer, asks: Option<&Issuer>) -> rustls::ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = rustls::ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match asks {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(authority.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            builder.with_client_cert_verifier(verifier.build().unwrap())
        }
    };
    let (certificate, key) = leaf(issuer);
    let key = PrivateKeyDer::Pkcs8(key.serialize_der().into());
    builder.with_single_cert(vec![certificate.der().clone()], key).unwrap()
}

fn write(folder: &Path, name: &str, pem: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, pem).unwrap();
    path
}

fn over_tls(collector: &Collector, protocol: Protocol, files: TlsFiles) -> ExportSettings {
    let plain = settings_for(collector, protocol);
    ExportSettings {
        endpoint: plain.endpoint.replacen("http://", "https://", 1),
        tls: Some(files),
        // Long enough for a handshake on a machine that does much else.
        timeout: WAIT_MAX / 2,
        ..plain
    }
}

#[tokio::test]
async fn a_span_arrives_whole_over_tls_by_the_root_that_is_given() {
    let (folder, issuer) = (tempfile::tempdir().unwrap(), authority("root"));
    let roots = Some(write(folder.path(), "roots.pem", &issuer.pem()));
    for protocol in BOTH {
        let collector = Collector::away();
        collector.listen_with_tls(protocol, server(&issuer, None));
        let files = TlsFiles { roots: roots.clone(), client: None };
        let tracer = Tracer::start(over_tls(&collector, protocol, files)).unwrap();
        tracer.submit(a_span(0));
        until("the span", || !collector.spans().is_empty()).await;
        assert_is_the_span(&collector.spans()[0]);
        assert_eq!(collector.requests()[0].headers["x-tenant"], "shop");
    }
}

#[tokio::test]
async fn a_collector_that_no_root_vouches_for_gets_nothing() {
    let (folder, issuer) = (tempfile::tempdir().unwrap(), authority("root"));
    let roots = Some(write(folder.path(), "others.pem", &authority("another root").pem()));
    for protocol in BOTH {
        let collector = Collector::away();
        collector.listen_with_tls(protocol, server(&issuer, None));
        let files = TlsFiles { roots: roots.clone(), client: None };
        let tracer = Tracer::start(over_tls(&collector, protocol, files)).unwrap();
        tracer.submit(a_span(0));
        until("the loss", || tracer.counts().dropped_export_failed == 1).await;
        assert!(collector.requests().is_empty());
    }
}

#[tokio::test]
async fn a_collector_that_asks_who_exports_is_shown_the_certificate() {
    let (folder, issuer, known) = (tempfile::tempdir().unwrap(), authority("root"), authority("known"));
    let roots = Some(write(folder.path(), "roots.pem", &issuer.pem()));
    let (certificate, key) = leaf(&known);
    let client = ClientFiles {
        chain: write(folder.path(), "client.pem", &certificate.pem()),
        key: write(folder.path(), "client-key.pem", &key.serialize_pem()),
    };
    for protocol in BOTH {
        let collector = Collector::away();
        collector.listen_with_tls(protocol, server(&issuer, Some(&known)));
        let nameless = TlsFiles { roots: roots.clone(), client: None };
        let tracer = Tracer::start(over_tls(&collector, protocol, nameless)).unwrap();
        tracer.submit(a_span(0));
        until("the loss", || tracer.counts().dropped_export_failed == 1).await;
        assert!(collector.requests().is_empty());
        let named = TlsFiles { roots: roots.clone(), client: Some(client.clone()) };
        let tracer = Tracer::start(over_tls(&collector, protocol, named)).unwrap();
        tracer.submit(a_span(0));
        until("the span", || !collector.spans().is_empty()).await;
    }
}

#[tokio::test]
async fn files_that_cannot_be_used_end_the_start_and_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let issuer = authority("root");
    let good = write(folder.path(), "roots.pem", &issuer.pem());
    let empty = write(folder.path(), "empty.pem", "");
    let absent = folder.path().join("absent.pem");
    let (certificate, _) = leaf(&issuer);
    let client = |key: &Path| ClientFiles {
        chain: write(folder.path(), "client.pem", &certificate.pem()),
        key: key.to_owned(),
    };
    let others_key = write(folder.path(), "key.pem", &KeyPair::generate().unwrap().serialize_pem());
    for (files, named) in [
        (TlsFiles { roots: Some(absent.clone()), client: None }, "absent.pem"),
        (TlsFiles { roots: Some(empty.clone()), client: None }, "empty.pem"),
        (TlsFiles { roots: Some(good.clone()), client: Some(client(&absent)) }, "absent.pem"),
        (TlsFiles { roots: Some(good.clone()), client: Some(client(&empty)) }, "empty.pem"),
        (TlsFiles { roots: Some(good.clone()), client: Some(client(&others_key)) }, "client.pem"),
    ] {
        let settings = over_tls(&Collector::away(), Protocol::Grpc, files);
        let refused = crate::error_chain(&Tracer::start(settings).expect_err(named));
        assert!(refused.contains(named), "{refused}");
    }
}
