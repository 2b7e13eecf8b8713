//! The TLS side of one listener: TLS 1.2 and 1.3, HTTP/2 before HTTP/1.1, tickets that every core can open, no early data.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use arc_swap::ArcSwap;
use rustls::server::NoServerSessionStorage;
use rustls::version::{TLS12, TLS13};
use rustls::{ServerConfig, SupportedProtocolVersion};

use super::files::Loaded;
use super::resolver::Resolver;
use super::{ClientAuthority, LocalCa, Names, Subject, Tickets, TlsError, provider};

/// What is spoken, on both sides.
pub(super) static VERSIONS: &[&SupportedProtocolVersion] = &[&TLS13, &TLS12];

/// Local addresses with a configuration of their own. A machine has a few; privacy addresses (RFC 8981) come and go, so when
/// full the map starts anew.
const MOST_ADDRESSES: usize = 256;

/// One for the page and one for the WebSocket or event stream beside it: clients use a TLS 1.3 ticket once (RFC 8446, C.4),
/// and each one costs a seal and some 250 bytes in every full handshake.
const TICKETS: usize = 2;

/// Where a listener's certificates come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// Signed here, for each name and each local address.
    LocalCa(Arc<LocalCa>),
    /// Always this one.
    Files(Arc<Loaded>),
}

/// The TLS side of one listener, made at compile and dropped with its plan.
#[derive(Debug)]
pub struct ServerTls {
    source: Source,
    names: Arc<Names>,
    fallback: Subject,
    /// For addresses without a leaf of their own, and for all of them where the certificate comes from files.
    common: Arc<ServerConfig>,
    by_address: ArcSwap<HashMap<IpAddr, Arc<ServerConfig>>>,
}

impl ServerTls {
    /// `names` get a certificate each; a client that asks for another gets that of `default_name`, or of `localhost` where the
    /// authority may not sign for it ([`LocalCa::covers`] says so beforehand). Signs nothing yet. With `clients`, a client is
    /// asked for a certificate of theirs; then `tickets` are not shared with listeners that ask otherwise.
    pub fn new(
        source: Source,
        names: Names,
        default_name: &str,
        tickets: Tickets,
        clients: Option<&ClientAuthority>,
    ) -> Self {
        let fallback = Subject::parse(default_name)
            .ok()
            .filter(|subject| match &source {
                Source::LocalCa(authority) => authority.covers(subject),
                Source::Files(_) => true,
            })
            .unwrap_or_else(|| Subject::Name("localhost".to_owned()));
        let names = Arc::new(names);
        let resolver = Resolver {
            source: source.clone(),
            names: Arc::clone(&names),
            fallback: fallback.clone(),
            local: None,
        };
        let config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(VERSIONS)
            .expect("the provider has suites for both versions");
        let config = match clients {
            Some(clients) => config.with_client_cert_verifier(clients.possession()),
            None => config.with_no_client_auth(),
        };
        let mut config = config.with_cert_resolver(Arc::new(resolver));
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        // Early data could be replayed before anybody has been asked who they are.
        config.max_early_data_size = 0;
        config.ticketer = tickets.ticketer();
        config.send_tls13_tickets = TICKETS;
        // Tickets carry all state: no map that every core would lock.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Self {
            source,
            names,
            fallback,
            common: Arc::new(config),
            by_address: ArcSwap::default(),
        }
    }

    /// The configuration for a connection that came in on `local`: without SNI its client gets the leaf for that address.
    /// Cheap enough to be asked for every connection.
    pub fn config(&self, local: IpAddr) -> Arc<ServerConfig> {
        let local = local.to_canonical();
        if let Some(config) = self.by_address.load().get(&local) {
            return Arc::clone(config);
        }
        let subject = Subject::Ip(local);
        match &self.source {
            Source::LocalCa(authority) if authority.covers(&subject) => {}
            Source::LocalCa(_) | Source::Files(_) => return Arc::clone(&self.common),
        }
        let mut config = ServerConfig::clone(&self.common);
        config.cert_resolver = Arc::new(Resolver {
            source: self.source.clone(),
            names: Arc::clone(&self.names),
            fallback: self.fallback.clone(),
            local: Some(subject),
        });
        let config = Arc::new(config);
        self.by_address.rcu(|map| {
            let mut map = HashMap::clone(map);
            if map.len() >= MOST_ADDRESSES {
                map.clear();
            }
            map.insert(local, Arc::clone(&config));
            map
        });
        config
    }

    /// The authority that signs for it; `None` where the certificate comes from files.
    pub fn authority(&self) -> Option<&Arc<LocalCa>> {
        match &self.source {
            Source::LocalCa(authority) => Some(authority),
            Source::Files(_) => None,
        }
    }

    /// The certificates in use, each with its last moment and whether we sign it: for metrics and `loopgate status`.
    pub fn certificates(&self) -> Vec<(String, SystemTime, bool)> {
        match &self.source {
            Source::LocalCa(authority) => {
                let root = ("local-ca".to_owned(), authority.validity().until, true);
                let leaves = authority.leaves().into_iter();
                let leaves = leaves.map(|(subject, v)| (subject.to_string(), v.until, true));
                std::iter::once(root).chain(leaves).collect()
            }
            Source::Files(loaded) => {
                let address = || loaded.ips().next().map(|ip| ip.to_string());
                let name = loaded.names().next().map(str::to_owned).or_else(address);
                let name = name.unwrap_or_else(|| "file".into());
                vec![(name, loaded.not_after(), false)]
            }
        }
    }

    /// Signs what will be asked for: the default, every name, and the given local addresses. Call it before the listener opens
    /// and once a day, and no handshake waits for a signature. Subjects outside the authority are passed over.
    pub fn warm(&self, locals: &[IpAddr], now: SystemTime) -> Result<(), TlsError> {
        let Source::LocalCa(authority) = &self.source else {
            return Ok(());
        };
        let locals: Vec<Subject> = locals.iter().map(|address| (*address).into()).collect();
        let all = [&self.fallback].into_iter();
        for subject in all.chain(self.names.subjects()).chain(&locals) {
            if authority.covers(subject) {
                authority.leaf(subject, now)?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
