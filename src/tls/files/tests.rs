//! Mistakes that people make with certificate files, each with the sentence that they read.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, CertifiedIssuer, Issuer, KeyPair};

use super::*;

/// A file of mode 0600.
pub(in crate::tls) fn private_file(path: &Path, text: &str) {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    let mut file = options.open(path).unwrap();
    file.write_all(text.as_bytes()).unwrap();
}

struct Case {
    dir: tempfile::TempDir,
}

impl Case {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
        }
    }

    fn paths(&self) -> (PathBuf, PathBuf) {
        (
            self.dir.path().join("site.pem"),
            self.dir.path().join("site.key"),
        )
    }

    fn load(&self, chain: &str, private: &str) -> Result<Loaded, String> {
        let (chain_path, key_path) = self.paths();
        fs::write(&chain_path, chain).unwrap();
        private_file(&key_path, private);
        load(&chain_path, &key_path, SystemTime::now()).map_err(|error| error.to_string())
    }
}

fn pair(names: &[&str], days: i64) -> (String, String) {
    let mut params =
        CertificateParams::new(names.iter().map(ToString::to_string).collect::<Vec<_>>()).unwrap();
    let day = time::Duration::days(1);
    params.not_after = time::OffsetDateTime::now_utc() + day * (days as i32);
    params.not_before = params.not_after - day * 30;
    let key = KeyPair::generate().unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (certificate.pem(), key.serialize_pem())
}

#[test]
fn a_pair_that_fits_is_loaded_with_its_names() {
    let (chain, key) = pair(&["app.example", "*.app.example", "10.0.0.1"], 10);
    let loaded = Case::new().load(&chain, &key).unwrap();
    assert_eq!(
        loaded.names().collect::<Vec<_>>(),
        ["app.example", "*.app.example"]
    );
    assert_eq!(
        loaded.ips().collect::<Vec<_>>(),
        ["10.0.0.1".parse::<IpAddr>().unwrap()]
    );
    for (text, want) in [
        ("app.example", true),
        ("x.app.example", true),
        ("10.0.0.1", true),
        ("x.y.app.example", false),
        ("example", false),
        ("10.0.0.2", false),
    ] {
        assert_eq!(
            loaded.covers(&Subject::parse(text).unwrap()),
            want,
            "{text}"
        );
    }
    let days = loaded
        .not_after()
        .duration_since(SystemTime::now())
        .unwrap();
    assert!(days < Duration::from_secs(10 * 86400 + 1) && days > Duration::from_secs(9 * 86400));
    // Key and chain in one file, the key first.
    let both = format!("{key}{chain}");
    assert!(Case::new().load(&both, &both).is_ok());
}

#[test]
fn every_mistake_has_its_own_sentence() {
    let (chain, key) = pair(&["app.example"], 10);
    let (other_chain, other_key) = pair(&["other.example"], 10);
    let locked =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let old_locked = "-----BEGIN EC PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,00\n\nMIIB\n-----END EC PRIVATE KEY-----\n";
    let broken = chain.replace('M', "!");
    let no_certificate = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
    let no_key = "-----BEGIN PRIVATE KEY-----\nMIIB\n-----END PRIVATE KEY-----\n";
    let request = "-----BEGIN CERTIFICATE REQUEST-----\nMIIB\n-----END CERTIFICATE REQUEST-----\n";
    let last_first = format!("{other_chain}{chain}");
    for (chain, private, want) in [
        (chain.as_str(), other_key.as_str(), "does not belong"),
        (&last_first, &key, "belongs to certificate 2"),
        (
            &key,
            &chain,
            "site.pem has no certificate, but a private key",
        ),
        (
            &chain,
            &chain,
            "site.key has no private key, but a certificate",
        ),
        ("", &key, "site.pem is empty"),
        (&chain, " \n", "site.key is empty"),
        ("hello", &key, "no PEM text at all"),
        (request, &key, "a request for one"),
        (&chain, "hello", "no PEM text at all"),
        (&chain, locked, "passphrase"),
        (&chain, old_locked, "passphrase"),
        (locked, &key, "wrong way round"),
        (
            &broken,
            &key,
            "site.pem cannot be read: its PEM text is damaged",
        ),
        (no_certificate, &key, "it is no X.509 certificate"),
        (&chain, no_key, "of no kind that we can use"),
    ] {
        let said = Case::new().load(chain, private).expect_err(want);
        assert!(said.contains(want), "{said}");
    }
}

#[test]
fn dates_are_named() {
    let (chain, key) = pair(&["app.example"], -1);
    let said = Case::new().load(&chain, &key).unwrap_err();
    let day = x509::date(SystemTime::now() - Duration::from_secs(86400));
    assert!(said.contains(&format!("expired on {day}")), "{said}");
    let (chain, key) = pair(&["app.example"], 40);
    let said = Case::new().load(&chain, &key).unwrap_err();
    assert!(said.contains("valid only from"), "{said}");
}

#[test]
fn a_key_that_others_may_read_is_refused_with_its_repair() {
    let case = Case::new();
    let (chain, private) = pair(&["app.example"], 10);
    case.load(&chain, &private).unwrap();
    let (chain, key) = case.paths();
    for (mode, want) in [
        (0o600, true),
        (0o400, true),
        (0o644, false),
        (0o604, false),
        (0o660, false),
        (0o640, false),
    ] {
        fs::set_permissions(&key, PermissionsExt::from_mode(mode)).unwrap();
        let got = load(&chain, &key, SystemTime::now()).map_err(|error| error.to_string());
        assert_eq!(got.is_ok(), want, "{mode:o}");
        let repair = format!("chmod 600 {}", key.display());
        assert!(got.map_or_else(|said| said.contains(&repair), |_| true));
    }
}

#[test]
fn what_others_may_do_with_a_key_is_said_as_it_is() {
    for (mode, want) in [
        (0o644, "lets others read it"),
        (0o660, "lets others read and change it"),
        (0o602, "lets others change it"),
        (0o601, "lets others execute it"),
    ] {
        let path = "tls.key".into();
        let said = TlsError::KeyReadable { path, mode }.to_string();
        assert!(said.contains(want), "{said}");
    }
}

/// Only root can give a file away.
#[test]
fn a_key_of_another_user_is_refused_and_a_certificate_is_not() {
    let case = Case::new();
    let (chain, private) = pair(&["app.example"], 10);
    case.load(&chain, &private).unwrap();
    let (chain, key) = case.paths();
    let give = |path: &Path, owner| std::os::unix::fs::chown(path, Some(owner), None);
    if give(&chain, 65534).is_err() {
        return;
    }
    assert!(load(&chain, &key, SystemTime::now()).is_ok());
    give(&key, 65534).unwrap();
    let said = load(&chain, &key, SystemTime::now())
        .unwrap_err()
        .to_string();
    assert!(
        said.contains("(65534)") && said.contains("chown 0 "),
        "{said}"
    );
    // Whom the folder belongs to makes no difference: it is no state of ours.
    give(key.parent().unwrap(), 65534).unwrap();
    assert!(load(&chain, &key, SystemTime::now()).is_err());
}

#[test]
fn a_missing_file_and_a_huge_one_are_told_apart() {
    let case = Case::new();
    let (chain, key) = case.paths();
    let said = load(&chain, &key, SystemTime::now()).unwrap_err();
    assert!(
        matches!(&said, TlsError::Io { path, .. } if *path == chain),
        "{said}"
    );
    fs::write(&chain, vec![b'x'; 2 * 1024 * 1024]).unwrap();
    let said = load(&chain, &key, SystemTime::now()).unwrap_err();
    assert!(matches!(said, TlsError::TooLarge { .. }), "{said}");
}

#[test]
fn a_chain_with_its_intermediate_is_kept_whole() {
    let mut above = CertificateParams::default();
    above.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let above = CertifiedIssuer::self_signed(above, KeyPair::generate().unwrap()).unwrap();
    let issuer: &Issuer<'_, KeyPair> = &above;
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(["app.example".to_owned()]).unwrap();
    let leaf = params.signed_by(&key, issuer).unwrap();
    let chain = format!("{}{}", leaf.pem(), above.pem());
    let loaded = Case::new().load(&chain, &key.serialize_pem()).unwrap();
    assert_eq!(loaded.key().cert.len(), 2);
}
