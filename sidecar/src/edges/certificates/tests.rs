//! What is read, what is refused, and that a bad pair changes nothing.

use std::fs;

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;

use super::*;

fn pair() -> (String, String) {
    let key = KeyPair::generate().unwrap();
    let certificate =
        CertificateParams::new(vec!["www.example".to_owned()]).unwrap().self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

fn files(folder: &TempDir) -> EdgeCertificate {
    let at = |name| folder.path().join(name);
    EdgeCertificate { name: "www".to_owned(), certificate: at("tls.crt"), key: at("tls.key") }
}

fn write(files: &EdgeCertificate, (certificate, key): &(String, String)) {
    fs::write(&files.certificate, certificate).unwrap();
    fs::write(&files.key, key).unwrap();
}

fn label(error: &CertificateError) -> &'static str {
    match error {
        CertificateError::Read { .. } => "read",
        CertificateError::TooLarge { .. } => "too large",
        CertificateError::Pem { .. } => "pem",
        CertificateError::NoCertificate { .. } => "no certificate",
        CertificateError::Malformed { .. } => "malformed",
        CertificateError::Unusable { .. } => "unusable",
    }
}

#[test]
fn a_pair_that_cannot_be_used_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder);
    let refused = || label(&Certificates::load(std::slice::from_ref(&files)).unwrap_err());
    assert_eq!(refused(), "read");
    let (certificate, key) = pair();
    write(&files, &(String::new(), key.clone()));
    assert_eq!(refused(), "no certificate");
    write(&files, &(certificate.clone(), "not a key".to_owned()));
    assert_eq!(refused(), "pem");
    write(&files, &(certificate.clone(), pair().1));
    assert_eq!(refused(), "unusable");
    let garbled = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".to_owned();
    write(&files, &(garbled, key.clone()));
    assert_eq!(refused(), "malformed");
    let long = certificate.clone() + &" ".repeat(usize::try_from(FILE_BYTES_MAX).unwrap());
    write(&files, &(long, key.clone()));
    assert_eq!(refused(), "too large");
    write(&files, &(certificate, key));
    assert!(Certificates::load(&[files]).is_ok());
}

#[test]
fn a_new_pair_is_taken_over_and_a_bad_one_changes_nothing_and_is_counted_once() {
    let folder = tempfile::tempdir().unwrap();
    let files = files(&folder);
    let (first, second) = (pair(), pair());
    write(&files, &first);
    let certificates = Certificates::load(std::slice::from_ref(&files)).unwrap();
    let shown = || certificates.current("www").unwrap().cert.clone();
    let before = shown();
    let mut said = vec![None];
    assert_eq!(certificates.look(&mut said), <[String; 0]>::default(), "nothing has changed");

    // Half of a renewal: the certificate is there, its key is not.
    fs::write(&files.certificate, &second.0).unwrap();
    assert_eq!(certificates.look(&mut said), <[String; 0]>::default());
    assert_eq!(certificates.look(&mut said), <[String; 0]>::default());
    assert_eq!(shown(), before);
    fs::remove_file(&files.certificate).unwrap();
    assert_eq!(certificates.look(&mut said), <[String; 0]>::default());
    assert_eq!(shown(), before);

    write(&files, &second);
    assert_eq!(certificates.look(&mut said), ["www"]);
    assert_ne!(shown(), before);
    assert_eq!(certificates.look(&mut said), <[String; 0]>::default());
    let view = certificates.view();
    assert_eq!((view[0].loaded, view[0].refused), (1, 2), "two complaints, each counted once");
    assert!(certificates.current("other").is_none());
}
