//! `loopgate cert client|revoke|list`: client certificates. The file has a password that is shown once; the key is kept nowhere.

use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use super::args::Cert;
use super::control::enforce;
use super::output::{Output, plain};
use super::password::fresh_password;
use super::serve::{Ground, ground};
use super::table::Table;
use super::{Code, Failure};
use crate::auth::certificate_file::{self, CertificateFileError, Entry};
use crate::auth::users::name_problem;
use crate::disk::rewrite;
use crate::tls::TlsError;
use crate::tls::pkcs12::{self, Strength};

pub(super) fn cert(output: &Output, act: Cert) -> Result<(), Failure> {
    let ground = ground()?;
    match act {
        Cert::Client {
            name,
            duration,
            out,
            legacy,
        } => {
            let out = out.unwrap_or_else(|| file_name(&name));
            let strength = match legacy {
                true => Strength::Legacy,
                false => Strength::Modern,
            };
            client(output, &ground, &name, duration, &out, strength)
        }
        Cert::Revoke { which } => revoke(output, &ground, &which),
        Cert::List { json } => {
            let list = certificate_file::load(&ground.kept.client_list())
                .map_err(|e| failure(e.into()))?;
            output
                .print(show(output, &list, json).trim_end())
                .map_err(Failure::failed)
        }
    }
}

/// Signs, lists, writes. A certificate that is not listed is let in nowhere, so one whose file could not be written is taken
/// from the list again.
fn client(
    output: &Output,
    ground: &Ground,
    name: &str,
    life: Duration,
    out: &Path,
    strength: Strength,
) -> Result<(), Failure> {
    if let Some(problem) = name_problem(name) {
        return Err(Failure::new(Code::Usage, problem));
    }
    let now = SystemTime::now();
    let authority = ground.kept.client_authority(now).map_err(Failure::failed)?;
    let issued = authority
        .issue(name, life, now)
        .map_err(|error| match error {
            TlsError::ClientName { .. } => Failure::new(Code::Usage, error.to_string()),
            error => Failure::failed(error),
        })?;
    let password = fresh_password();
    let bytes = pkcs12::write(
        &issued.key,
        &issued.chain,
        &format!("loopgate {name}"),
        password.expose(),
        strength,
    )
    .ok_or_else(|| Failure::failed("the certificate could not be encrypted"))?;
    let list = ground.kept.client_list();
    let entry = Entry {
        name: name.to_owned(),
        serial: issued.serial.clone(),
        issued: seconds(now),
        expires: seconds(issued.until),
        revoked: None,
    };
    certificate_file::add(&list, entry).map_err(failure)?;
    let written = rewrite(out, |old| match old {
        None => Ok(Some(bytes.to_vec())),
        Some(_) => Err(io::Error::other(
            "it is there already; remove it, or choose another one with `--out`",
        )),
    });
    if let Err(error) = written {
        let undone = certificate_file::forget(&list, &issued.serial);
        let rest = undone.map_or_else(|e| format!("; {e}"), |()| String::new());
        return Err(Failure::failed(format!(
            "cannot write {}: {error}{rest}",
            out.display()
        )));
    }
    output.say(&format!(
        "wrote {}: the certificate {} for `{}`, good until {}.\nImport it on the device with this password, which is shown only now, then delete the file.\nIt counts where a listener has `client_certificates = {{ from = \"local-ca\" }}`, a route `certificate`, and the users file `{}`.",
        out.display(),
        issued.serial,
        plain(name),
        day(seconds(issued.until)),
        plain(name),
    ));
    output.print(password.expose()).map_err(Failure::failed)?;
    // Whoever imports it at once finds it known.
    enforce(output, |_| true)
}

/// Marks it in the list, and has the running gates read the list at once.
fn revoke(output: &Output, ground: &Ground, which: &str) -> Result<(), Failure> {
    let now = seconds(SystemTime::now());
    let gone = certificate_file::revoke(&ground.kept.client_list(), which, now).map_err(failure)?;
    for entry in gone {
        output.say(&format!(
            "the certificate {} of `{}` is revoked",
            entry.serial,
            plain(&entry.name)
        ));
    }
    enforce(output, |_| true)
}

fn show(output: &Output, list: &[Entry], as_json: bool) -> String {
    let now = seconds(SystemTime::now());
    let state = |entry: &Entry| match entry.revoked {
        Some(_) => "revoked",
        None if entry.expires <= now => "expired",
        None => "good",
    };
    if as_json {
        let row = |e: &Entry| json!({ "name": e.name, "serial": e.serial, "issued": e.issued, "expires": e.expires, "revoked": e.revoked, "state": state(e) });
        return json!(list.iter().map(row).collect::<Vec<_>>()).to_string();
    }
    let mut table = Table::new(["NAME", "STATE", "UNTIL", "SERIAL"]);
    for entry in list {
        let until = day(entry.revoked.unwrap_or(entry.expires));
        table.row([&*plain(&entry.name), state(entry), &until, &entry.serial]);
    }
    table.render(output.width, output.paint())
}

/// `NAME.p12` here, whatever the name is.
fn file_name(name: &str) -> PathBuf {
    let is_plain = |c: char| c.is_alphanumeric() || "-_@.".contains(c);
    let name: String = name
        .chars()
        .map(|c| if is_plain(c) { c } else { '_' })
        .collect();
    format!("{}.p12", name.trim_start_matches('.')).into()
}

fn day(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds)
        .map(|t| t.strftime("%Y-%m-%d %H:%M").to_string())
        .unwrap_or_default()
}

fn seconds(at: SystemTime) -> i64 {
    at.duration_since(UNIX_EPOCH)
        .map_or(0, |d| i64::try_from(d.as_secs()).unwrap_or(i64::MAX))
}

fn failure(error: CertificateFileError) -> Failure {
    let lines = match &error {
        CertificateFileError::Mistakes(found) => {
            let lines = found.problems.iter();
            lines
                .map(|p| format!("line {}: {}", p.line, p.message))
                .collect()
        }
        CertificateFileError::NotThere(_)
        | CertificateFileError::Already(_)
        | CertificateFileError::Time
        | CertificateFileError::File(_) => Vec::new(),
    };
    Failure::failed([vec![error.to_string()], lines].concat().join("\n"))
}
