//! Where routes lead, from text: the upstream, the certificate that it may have, and what is sent to it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject;

use super::{Kept, Plan, Route};
use crate::access::Rule;
use crate::base::loopback::{Scheme, Target};
use crate::base::secret::Secret;
use crate::config::Problem;
use crate::config::raw::{self, ExposedUpstream, HostHeader, UpstreamCert};
use crate::disk;
use crate::observe::metrics::Slot;
use crate::tls::{Fingerprint, pem};
use crate::upstream::{Trust, Upstream, first_seen};

/// What routes are made with, one after the other.
pub(super) struct Making<'a> {
    /// Those of the plan before, and those of this one, by target.
    open: HashMap<(String, bool), Arc<Upstream>>,
    /// What the routes so far say of the certificate of each target.
    certs: HashMap<String, &'a UpstreamCert>,
    /// Read when the first one needs it.
    seen: Option<first_seen::List>,
    kept: &'a Kept,
    base: &'a Path,
    is_file: bool,
}

impl<'a> Making<'a> {
    pub fn new(before: Option<&Plan>, kept: &'a Kept, base: &'a Path, is_file: bool) -> Self {
        let routes = before.iter().flat_map(|plan| &plan.routes);
        let open = routes.map(|r| (key_of(&r.upstream), Arc::clone(&r.upstream)));
        Self {
            open: open.collect(),
            certs: HashMap::new(),
            seen: None,
            kept,
            base,
            is_file,
        }
    }

    /// One route; `None` when something is wrong with it.
    pub fn route(
        &mut self,
        raw: &'a raw::Route,
        key: &str,
        rule: &Rule,
        problems: &mut Vec<Problem>,
    ) -> Option<Route> {
        let bad =
            |message: String| Problem::error("bad-upstream", format!("{key}.upstream"), message);
        let target = match raw.upstream.parse::<Target>() {
            Ok(target) => target,
            Err(error) => {
                problems.push(bad(error.to_string()).hint(error.repair()));
                return None;
            }
        };
        if target.scheme == Scheme::H2c && target.address.unix().is_some() {
            problems.push(bad("a Unix socket is spoken to in HTTP/1.1".into()));
            return None;
        }
        let secret = raw.upstream_secret.as_ref();
        let secret = match secret.map(|s| read_secret(s, self.base)).transpose() {
            Ok(secret) => secret,
            Err(what) => {
                let at = format!("{key}.upstream_secret");
                problems.push(Problem::error("bad-secret", at, what));
                return None;
            }
        };
        let trust = match self.trust(raw, &target, key, problems) {
            Ok(trust) => trust,
            Err(problem) => {
                problems.push(problem);
                return None;
            }
        };
        if self.is_file && raw.exposed_upstream == ExposedUpstream::Warn {
            let what =
                "the service is served even while it can be reached without passing this gate";
            problems.push(
                Problem::warning("exposed-upstream", format!("{key}.exposed_upstream"), what)
                    .hint("bind the service to 127.0.0.1 and leave `exposed_upstream` out"),
            );
        }
        let host = raw.hosts.first().map_or("*", String::as_str);
        Some(Route {
            label: format!("{host}{}", raw.path).into(),
            former: Arc::default(),
            slot: Slot::NONE,
            upstream: self.upstream(
                target,
                trust,
                raw.exposed_upstream == ExposedUpstream::Refuse,
            ),
            local_mode: raw.host_header == HostHeader::Upstream,
            by_method: rule.methods.is_some(),
            secret,
        })
    }

    /// The one that is there, when it may be trusted as this plan says; connections of one that may not are not used again.
    fn upstream(&mut self, target: Target, trust: Trust, refuses: bool) -> Arc<Upstream> {
        let name = (target.to_string(), refuses);
        if let Some(there) = self.open.get(&name).filter(|u| u.pin().is_as(&trust)) {
            return Arc::clone(there);
        }
        let news = &self.kept.first_seen.news;
        let looks = &self.kept.looks;
        let made = Arc::new(Upstream::new(target, (trust, news), refuses, looks));
        self.open.insert(name, Arc::clone(&made));
        made
    }

    /// Which certificate it may have.
    fn trust(
        &mut self,
        raw: &'a raw::Route,
        target: &Target,
        key: &str,
        problems: &mut Vec<Problem>,
    ) -> Result<Trust, Problem> {
        let at = format!("{key}.upstream_cert");
        let (name, written) = (target.to_string(), &raw.upstream_cert);
        if target.scheme != Scheme::Https {
            if self.is_file && *written != UpstreamCert::default() {
                let what = format!("{name} has no certificate: it is not spoken to over TLS");
                return Err(Problem::error("upstream-cert", at, what)
                    .hint("write `https://` before the address, or take the key out"));
            }
            return Ok(Trust::Any);
        }
        // One service has one certificate: what two routes lead to is looked at, dialled and pooled as one.
        if *self.certs.entry(name.clone()).or_insert(written) != written {
            let what = format!("another route says something else about the certificate of {name}");
            return Err(Problem::error("upstream-cert", at, what)
                .hint("write the same `upstream_cert` in both"));
        }
        let wrong = |what: String| {
            Problem::error("upstream-cert", at.clone(), what).hint(
                "write `first-seen`, `any`, `sha256:` and the fingerprint of the certificate, or `{ file = \"service.pem\" }`",
            )
        };
        match written {
            UpstreamCert::Word(word) if word == "any" => {
                if self.is_file {
                    let what = format!(
                        "whoever takes the port of {name} while the service is down is believed"
                    );
                    problems.push(
                        Problem::warning("upstream-cert-any", at, what)
                            .hint("leave `upstream_cert` out: the certificate that is seen first is remembered"),
                    );
                }
                Ok(Trust::Any)
            }
            UpstreamCert::Word(word) if word == "first-seen" => {
                let list = match &mut self.seen {
                    Some(list) => list,
                    none => none.insert(
                        first_seen::load(&self.kept.first_seen.path)
                            .map_err(|e| Problem::error("upstream-certs", at, e.to_string()))?,
                    ),
                };
                Ok(Trust::FirstSeen(list.get(&name).copied()))
            }
            UpstreamCert::Word(word) => match word.parse::<Fingerprint>() {
                Ok(one) => Ok(Trust::Only(vec![one])),
                Err(what) if word.starts_with("sha256") => Err(wrong(what.into())),
                Err(_) => Err(wrong(format!("`{word}` is none of the words for it"))),
            },
            UpstreamCert::File { file } => listed(&self.base.join(file)).map_err(wrong),
        }
    }
}

/// Two routes that differ in what an exposure means to them have an upstream each.
fn key_of(upstream: &Upstream) -> (String, bool) {
    (upstream.target().to_string(), upstream.refuses_exposed())
}

/// The largest file of a certificate or a secret.
const LARGEST: u64 = 1 << 20;

/// The certificates of a file: a service may have any of them, so that a new one can be written beside the old.
fn listed(path: &Path) -> Result<Trust, String> {
    let told = |what: &dyn std::fmt::Display| format!("{}: {what}", path.display());
    let bytes = disk::read(path, LARGEST).map_err(|e| told(&e))?;
    let mut list = Vec::new();
    for one in CertificateDer::pem_slice_iter(&bytes) {
        list.push(Fingerprint::of(&one.map_err(|e| told(&pem::fault(&e)))?));
    }
    match list.is_empty() {
        true => Err(told(&"there is no PEM certificate in it")),
        false => Ok(Trust::Only(list)),
    }
}

fn read_secret(secret: &raw::Secret, base: &Path) -> Result<Secret<String>, String> {
    let text = match secret {
        raw::Secret::Plain(text) => text.expose().clone(),
        raw::Secret::File(path) => {
            let path = base.join(path);
            let failed = |e: &dyn std::fmt::Display| format!("cannot read {}: {e}", path.display());
            let bytes = disk::read(&path, LARGEST).map_err(|e| failed(&e))?;
            let text = String::from_utf8(bytes).map_err(|e| failed(&e))?;
            text.trim_end().to_owned()
        }
        raw::Secret::Env(name) => std::env::var(name)
            .map_err(|_| format!("the environment variable `{name}` is not set"))?,
        raw::Secret::Credential(_) => secret
            .read("", &|name| std::env::var_os(name))
            .map_err(|problem| problem.message)?
            .expose()
            .clone(),
    };
    match text.is_empty() || text.bytes().any(|c| !(b'!'..=b'~').contains(&c)) {
        true => Err("a secret is visible ASCII without spaces, and not empty".into()),
        false => Ok(Secret::new(text)),
    }
}
