//! The authority on disk and in the eyes of its clients.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use super::*;

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

fn hosts() -> Vec<String> {
    ["mybox", "box.example.com", "my_box.example.org"]
        .map(str::to_owned)
        .to_vec()
}

fn place() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("state/ca");
    (dir, path)
}

fn open(dir: &Path) -> Result<LocalCa, TlsError> {
    LocalCa::open(dir, &hosts(), SystemTime::now())
}

fn subject(text: &str) -> Subject {
    Subject::parse(text).unwrap()
}

#[test]
fn is_made_once_and_read_afterwards() {
    let (_keep, dir) = place();
    assert!(!LocalCa::exists(&dir));
    let made = open(&dir).unwrap();
    assert_eq!(made.origin(), Origin::Made);
    assert!(LocalCa::exists(&dir));
    let read = LocalCa::open(&dir, &[], SystemTime::now()).unwrap();
    assert_eq!(read.origin(), Origin::Read);
    assert_eq!(made.fingerprint(), read.fingerprint());
    assert_eq!(made.constraints(), read.constraints());
    assert_eq!(made.fingerprint().len(), 32 * 3 - 1);

    let text = fs::read_to_string(store::file(&dir)).unwrap();
    assert_eq!(
        text.matches("PRIVATE KEY-----").count(),
        2,
        "one key, the intermediate's"
    );
    assert!(text.contains(made.root_pem()));
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&store::file(&dir)), 0o600);
    assert_eq!(mode(&dir), 0o700);
}

#[test]
fn clients_believe_inside_and_refuse_outside() {
    let (_keep, dir) = place();
    let authority = open(&dir).unwrap();
    let now = SystemTime::now();
    for (text, want) in [
        ("localhost", true),
        ("app.home.arpa", true),
        ("mybox", true),
        ("app.box.example.com", true),
        ("my_box.example.org", true),
        ("127.0.0.1", true),
        ("192.168.1.5", true),
        ("100.64.0.1", true),
        ("fe80::1", true),
        ("::1", true),
        ("www.example.com", false),
        ("evilhome.arpa", false),
        ("8.8.8.8", false),
        ("2001:db8::1", false),
    ] {
        let subject = subject(text);
        assert_eq!(authority.covers(&subject), want, "{text}");
        // Signed past the check, as somebody would who stole the key: the client is what holds.
        let stolen = authority.sign(&subject, now).unwrap();
        let believed = trial::believed(&authority.root, &stolen.key.cert, &subject, now);
        assert_eq!(believed.is_ok(), want, "{text}: {believed:?}");
        assert_eq!(authority.leaf(&subject, now).is_ok(), want, "{text}");
    }
    for text in ["*.lan", "*.home.arpa", "*.mybox"] {
        assert!(!authority.covers(&subject(text)), "{text}");
        let error = authority.leaf(&subject(text), now).unwrap_err();
        assert!(
            matches!(error, TlsError::Wildcard { .. }),
            "{text}: {error}"
        );
    }
    assert!(authority.leaf(&subject("*.app.lan"), now).is_ok());
}

#[test]
fn a_leaf_lives_thirty_days_and_is_renewed_after_two_thirds() {
    let (_keep, dir) = place();
    let authority = open(&dir).unwrap();
    let now = SystemTime::now();
    let name = subject("app.lan");
    let first = authority.leaf(&name, now).unwrap();
    let (_, validity) = authority.leaves()[0].clone();
    assert_eq!(
        validity.until.duration_since(validity.from).unwrap(),
        30 * DAY
    );
    assert!(Arc::ptr_eq(
        &first,
        &authority.leaf(&name, now + 18 * DAY).unwrap()
    ));
    let second = authority.leaf(&name, now + 20 * DAY).unwrap();
    assert!(!Arc::ptr_eq(&first, &second));
    assert_eq!(authority.leaves().len(), 1);
    // The clock was set back: a leaf from the future is not handed out.
    assert!(!Arc::ptr_eq(&second, &authority.leaf(&name, now).unwrap()));
}

#[test]
fn nothing_is_signed_beyond_the_end_of_the_authority() {
    let (_keep, dir) = place();
    let authority = open(&dir).unwrap();
    let until = authority.validity().until;
    let name = subject("app.lan");
    authority.leaf(&name, until - DAY).unwrap();
    assert_eq!(authority.leaves()[0].1.until, until);
    // The last leaf is kept to the end.
    let last = authority.leaf(&name, until - DAY / 24).unwrap();
    let again = authority.leaf(&name, until - DAY / 48).unwrap();
    assert!(Arc::ptr_eq(&last, &again));
    let error = authority.leaf(&name, until + DAY).unwrap_err();
    assert!(matches!(error, TlsError::AuthorityExpired { .. }));
    let error = LocalCa::open(&dir, &[], until + DAY)
        .unwrap_err()
        .to_string();
    assert!(error.contains("ca renew"), "{error}");
    let old = authority.fingerprint();
    let renewed = LocalCa::renew(&dir, &hosts(), until + DAY).unwrap();
    assert_ne!(renewed.fingerprint(), old);
    assert_eq!(fs::read_dir(&dir).unwrap().count(), 2, "file and lock");
}

#[test]
fn a_clock_that_runs_behind_serves_clients_whose_clock_is_right() {
    let (_keep, dir) = place();
    let now = SystemTime::now();
    let name = subject("app.lan");
    drop(open(&dir).unwrap());
    let authority = LocalCa::open(&dir, &[], now - 200 * DAY).unwrap();
    let key = authority.leaf(&name, now - 100 * DAY).unwrap();
    assert!(trial::believed(&authority.root, &key.cert, &name, now).is_ok());
    let again = authority.leaf(&name, now - 99 * DAY).unwrap();
    assert!(Arc::ptr_eq(&key, &again), "signed once");
}

#[test]
fn no_authority_is_made_by_a_clock_that_stands_still() {
    let (_keep, dir) = place();
    let error = LocalCa::open(&dir, &[], SystemTime::UNIX_EPOCH + 3 * DAY).unwrap_err();
    assert!(error.to_string().contains("1970-01-04"), "{error}");
    assert!(!LocalCa::exists(&dir));
}

#[test]
fn an_authority_open_to_others_is_refused_with_its_repair() {
    let (_keep, dir) = place();
    drop(open(&dir).unwrap());
    let file = store::file(&dir);
    let set = |path: &Path, mode| fs::set_permissions(path, PermissionsExt::from_mode(mode));
    for mode in [0o640, 0o604, 0o620, 0o644] {
        set(&file, mode).unwrap();
        let error = open(&dir).unwrap_err().to_string();
        assert!(
            error.contains(&format!("chmod 600 {}", file.display())),
            "{error}"
        );
        assert!(error.contains(&format!("{mode:04o}")), "{error}");
    }
    set(&file, 0o600).unwrap();
    set(&dir, 0o777).unwrap();
    let error = open(&dir).unwrap_err().to_string();
    assert!(error.contains("chmod 700"), "{error}");
    set(&dir, 0o755).unwrap();
    assert!(open(&dir).is_ok());
}

#[test]
fn a_damaged_file_is_refused_and_left_as_it_is() {
    let (_keep, dir) = place();
    let (whole, print) = {
        let made = open(&dir).unwrap();
        (fs::read(store::file(&dir)).unwrap(), made.fingerprint())
    };
    let cut = (0..whole.len() - 2)
        .step_by(37)
        .map(|n| whole[..n].to_vec());
    let third = whole[whole.len() / 3..].to_vec();
    for bytes in cut.chain([vec![b'x'; 300], vec![0xff; 300], third]) {
        fs::write(store::file(&dir), &bytes).unwrap();
        for found in [
            open(&dir),
            LocalCa::imagine(&dir, &hosts(), SystemTime::now()),
        ] {
            let error = found.unwrap_err();
            assert!(
                matches!(error, TlsError::AuthorityDamaged { .. }),
                "{error}"
            );
            let text = error.to_string();
            assert!(
                text.contains("backup") && text.contains("ca renew"),
                "{text}"
            );
        }
        assert_eq!(fs::read(store::file(&dir)).unwrap(), bytes);
    }
    fs::write(store::file(&dir), &whole).unwrap();
    assert_eq!(
        open(&dir).unwrap().fingerprint(),
        print,
        "a backup is as good"
    );
    fs::write(store::file(&dir), "").unwrap();
    let renewed = LocalCa::renew(&dir, &hosts(), SystemTime::now()).unwrap();
    assert_eq!(open(&dir).unwrap().fingerprint(), renewed.fingerprint());
    // What a killed process was still writing is never read.
    fs::remove_file(store::file(&dir)).unwrap();
    fs::write(dir.join(".local-ca.pem.new-0123"), &whole[..100]).unwrap();
    assert_eq!(open(&dir).unwrap().origin(), Origin::Made);
}

#[test]
fn who_only_looks_makes_nothing() {
    let (_keep, dir) = place();
    let now = SystemTime::now();
    assert!(LocalCa::find(&dir, now).unwrap().is_none());
    let imagined = LocalCa::imagine(&dir, &hosts(), now).unwrap();
    assert_eq!(imagined.origin(), Origin::Imagined);
    ClientCa::imagine(&dir, now).unwrap();
    assert!(!dir.exists());
    let made = open(&dir).unwrap();
    let seen = LocalCa::imagine(&dir, &hosts(), now).unwrap();
    assert_eq!(
        (seen.fingerprint(), seen.origin()),
        (made.fingerprint(), Origin::Read)
    );
}

/// Only root can give a file away.
#[test]
fn what_belongs_to_somebody_else_is_refused_with_its_repair() {
    let (_keep, dir) = place();
    drop(open(&dir).unwrap());
    let give = |path: &Path, uid| std::os::unix::fs::chown(path, Some(uid), Some(uid));
    if give(&store::file(&dir), 65534).is_err() {
        return;
    }
    let error = open(&dir).unwrap_err().to_string();
    assert!(
        error.contains("chown 0 ") && error.contains("65534"),
        "{error}"
    );
    give(&store::file(&dir), 0).unwrap();
    give(&dir, 65534).unwrap();
    let error = open(&dir).unwrap_err().to_string();
    assert!(error.contains("chown -R 0 "), "{error}");
    // The state of a service, that root looks after.
    give(&store::file(&dir), 65534).unwrap();
    give(dir.parent().unwrap(), 65534).unwrap();
    assert!(open(&dir).is_ok());
}

#[test]
fn parts_that_do_not_belong_together_are_refused() {
    let ((_a, one), (_b, two)) = (place(), place());
    drop((open(&one).unwrap(), open(&two).unwrap()));
    let parts = |dir: &Path| store::find(dir).unwrap().unwrap();
    let mut mixed = parts(&one);
    mixed.root = parts(&two).root;
    store::write(&one, &mixed).unwrap();
    let error = open(&one).unwrap_err();
    assert!(
        matches!(error, TlsError::AuthorityDamaged { .. }),
        "{error}"
    );
    let mut mixed = parts(&two);
    mixed.issuer = mixed.root.clone();
    store::write(&two, &mixed).unwrap();
    let error = open(&two).unwrap_err();
    assert!(
        matches!(error, TlsError::AuthorityDamaged { .. }),
        "{error}"
    );
}

#[test]
fn many_that_start_at_once_get_the_same_one() {
    let (_keep, dir) = place();
    let starters: Vec<_> = (0..8)
        .map(|_| {
            let dir = dir.clone();
            std::thread::spawn(move || {
                let authority = open(&dir).unwrap();
                (authority.fingerprint(), authority.origin())
            })
        })
        .collect();
    let all: Vec<_> = starters.into_iter().map(|t| t.join().unwrap()).collect();
    assert!(all.iter().all(|(print, _)| *print == all[0].0));
    let made = all.iter().filter(|(_, origin)| *origin == Origin::Made);
    assert_eq!(made.count(), 1);
}

#[test]
fn memory_of_leaves_is_bounded() {
    let (_keep, dir) = place();
    let authority = open(&dir).unwrap();
    let now = SystemTime::now();
    let held = authority.sign(&subject("app.lan"), now).unwrap();
    for n in 0..MOST_LEAVES + 50 {
        authority.keep(subject(&format!("n{n}.lan")), held.clone());
    }
    assert_eq!(authority.leaves().len(), MOST_LEAVES);
}

/// OpenSSL reads the constraints by itself and with other eyes.
#[test]
fn openssl_believes_inside_and_refuses_outside() {
    if Command::new("openssl").arg("version").output().is_err() {
        return;
    }
    let (_keep, dir) = place();
    let authority = open(&dir).unwrap();
    let now = SystemTime::now();
    let write = |name: &str, der: &[u8]| {
        let path = dir.join(name);
        fs::write(&path, pem::encode("CERTIFICATE", der)).unwrap();
        path
    };
    let root = write("root.pem", authority.root_der());
    for (text, want) in [
        ("app.home.arpa", true),
        ("*.app.lan", true),
        ("192.168.1.5", true),
        ("fe80::1", true),
        ("www.example.com", false),
        ("8.8.8.8", false),
        ("2001:db8::1", false),
    ] {
        let held = authority.sign(&subject(text), now).unwrap();
        let leaf = write("leaf.pem", &held.key.cert[0]);
        let issuer = write("issuer.pem", &held.key.cert[1]);
        let output = Command::new("openssl")
            .args(["verify", "-x509_strict", "-purpose", "sslserver", "-CAfile"])
            .args([&root, Path::new("-untrusted"), &issuer, &leaf])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), want, "{text}: {said}");
        assert!(
            want || said.contains("permitted subtree violation"),
            "{text}: {said}"
        );
    }
}
