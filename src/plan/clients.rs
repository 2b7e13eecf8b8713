//! Whose client certificates a listener believes, from text.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use super::Kept;
use super::listener::told;
use crate::auth::certificate::Clients;
use crate::auth::certificate_file;
use crate::config::Problem;
use crate::config::raw::{self, CertificateUse, ClientName, ClientSource};
use crate::tls::{ClientAuthority, ClientCa, Tickets, TlsError};

/// Ticket keys of authorities that were believed once; one reload rarely adds more than one.
const MOST_TICKETS: usize = 32;

/// The keys of session tickets, one set for each authority for clients: whoever was let into a session without being asked for
/// a certificate of this authority does not come back to it.
#[derive(Debug, Default)]
pub(super) struct ClientTickets(Mutex<HashMap<[u8; 32], Tickets>>);

impl ClientTickets {
    fn of(&self, authority: &ClientAuthority) -> Tickets {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if map.len() >= MOST_TICKETS {
            map.clear();
        }
        map.entry(authority.id()).or_default().clone()
    }
}

impl Kept {
    /// Where the authority for clients and the list of its certificates lie.
    fn ca_dir(&self) -> PathBuf {
        self.state.join("ca")
    }

    /// The authority for client certificates, made on first use.
    pub fn client_authority(&self, now: SystemTime) -> Result<ClientCa, TlsError> {
        match self.may_write {
            true => ClientCa::open(&self.ca_dir(), now),
            false => ClientCa::imagine(&self.ca_dir(), now),
        }
    }

    /// The list of the certificates that it has signed.
    pub fn client_list(&self) -> PathBuf {
        self.ca_dir().join("clients.toml")
    }

    /// The files of the state directory that a plan rests on.
    pub fn files(&self, config: &raw::Config) -> Vec<PathBuf> {
        let asks = |listener: &raw::Listener| {
            let clients = listener.client_certificates.as_ref();
            clients.is_some_and(|c| matches!(c, raw::ClientCertificates::From { .. }))
        };
        let mut files = match config.listener.iter().any(asks) {
            true => vec![self.client_list(), self.ca_dir().join("clients.pem")],
            false => Vec::new(),
        };
        if config.route.iter().any(|r| r.upstream.starts_with("https")) {
            files.push(self.first_seen.path.clone());
        }
        files
    }
}

/// The clients of one listener, and the keys for its session tickets.
pub(super) fn compile(
    raw: &raw::Listener,
    key: &str,
    base: &Path,
    kept: &Kept,
    problems: &mut Vec<Problem>,
) -> (Option<Arc<Clients>>, Tickets) {
    let shared = kept.tickets.clone();
    let Some(clients) = &raw.client_certificates else {
        return (None, shared);
    };
    let at = format!("{key}.client_certificates");
    let plain = raw::Tls::From {
        from: raw::CertificateSource::None,
    };
    if raw.tls == plain {
        let problem = Problem::error(
            "client-certificates",
            at,
            "plain HTTP knows no certificates",
        );
        problems.push(problem.hint("write `tls = { from = \"local-ca\" }`, or remove this table"));
        return (None, shared);
    }
    let made = match clients {
        raw::ClientCertificates::From {
            from: ClientSource::LocalCa,
        } => local(&at, kept, problems),
        raw::ClientCertificates::Files { ca, crl, user } => {
            let crl = crl.as_ref().map(|path| base.join(path));
            files(&base.join(ca), crl.as_deref(), *user, &at, problems)
        }
    };
    match made {
        Some(clients) => {
            let tickets = kept.client_tickets.of(clients.authority());
            (Some(Arc::new(clients)), tickets)
        }
        None => (None, shared),
    }
}

fn local(at: &str, kept: &Kept, problems: &mut Vec<Problem>) -> Option<Clients> {
    let authority = kept.client_authority(SystemTime::now()).and_then(|ca| {
        ClientAuthority::new(
            ca.path(),
            std::slice::from_ref(ca.certificate()),
            Vec::new(),
        )
    });
    let authority = authority
        .map_err(|error| problems.push(Problem::error("client-certificates", at, told(&error))))
        .ok()?;
    let path = kept.client_list();
    let register = certificate_file::register(&path).map_err(|error| {
        problems.extend(error.problems.iter().map(|problem| {
            let message = super::people::told(&path, problem);
            Problem::error("client-certificates", at, message).hint(problem.hint.clone())
        }));
    });
    Some(Clients::new(
        authority,
        ClientName::CommonName,
        Some(register.ok()?),
    ))
}

fn files(
    ca: &Path,
    crl: Option<&Path>,
    user: ClientName,
    at: &str,
    problems: &mut Vec<Problem>,
) -> Option<Clients> {
    match ClientAuthority::load(ca, crl, SystemTime::now()) {
        Ok((authority, notes)) => {
            problems.extend(
                notes
                    .into_iter()
                    .map(|note| Problem::warning("client-certificates", at, note)),
            );
            Some(Clients::new(authority, user, None))
        }
        Err(error) => {
            problems.push(Problem::error("client-certificates", at, told(&error)));
            None
        }
    }
}

/// Routes that ask for certificates need a listener that does, and the other way round.
pub(super) fn agree(config: &raw::Config, problems: &mut Vec<Problem>) {
    let asking = config
        .listener
        .iter()
        .position(|l| l.client_certificates.is_some());
    let mut used = false;
    for (i, route) in config.route.iter().enumerate() {
        let raw::Access::Table(table) = &route.access else {
            continue;
        };
        if table.certificate == CertificateUse::Off {
            continue;
        }
        used = true;
        if asking.is_none() {
            let message = "no listener believes any client certificate";
            let problem = Problem::error(
                "client-certificates",
                format!("route[{i}].access.certificate"),
                message,
            );
            problems.push(
                problem.hint(
                    "add `client_certificates = { from = \"local-ca\" }` to the `[[listener]]`",
                ),
            );
        }
    }
    if let Some(i) = asking.filter(|_| !used) {
        let message =
            "this listener asks every client for a certificate, and no route has a use for one";
        let problem = Problem::warning(
            "client-certificates",
            format!("listener[{i}].client_certificates"),
            message,
        );
        problems.push(
            problem.hint(
                "write `access = { certificate = \"accepted\" }` or `\"required\"` at a route",
            ),
        );
    }
}
