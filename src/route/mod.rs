//! Host and path to a route: the most specific host, then the longest path, by whole segments.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use crate::base::fold;
use crate::base::host::Host;
use crate::base::path::Path;
use crate::base::refusal::{Reason, Refusal};

mod compile;

pub use compile::compile;

/// The names and addresses that a route without `hosts` answers to.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// Names in lower case; `*.example.com` stands for one label.
    pub names: HashSet<String>,
    /// The addresses of this machine's interfaces.
    pub addresses: HashSet<IpAddr>,
}

/// All routes, ready to be looked up.
#[derive(Clone, Debug, Default)]
pub struct Table {
    own: Own,
    named: HashMap<String, Paths>,
    addressed: HashMap<IpAddr, Paths>,
    general: Paths,
}

/// The routes of one host, longest prefix first.
#[derive(Clone, Debug, Default)]
struct Paths {
    list: Vec<Prefix>,
}

#[derive(Clone, Debug)]
struct Prefix {
    path: String,
    /// As it is compared with what a loose application may read.
    folded: String,
    /// Folded it is another one, so that a plain path may be taken for it.
    is_odd: bool,
    /// The index of the route.
    route: usize,
}

impl Own {
    /// Whether the host is this machine. `local` is the address that the client connected to.
    pub fn has(&self, host: &Host<'_>, local: IpAddr) -> bool {
        match host {
            Host::Ip(address) => *address == local || self.addresses.contains(address),
            Host::Name(name) => {
                let wild = || {
                    name.split_once('.')
                        .is_some_and(|(_, rest)| self.names.contains(format!("*.{rest}").as_str()))
                };
                self.names.contains(name.as_ref()) || wild()
            }
        }
    }
}

impl Table {
    /// Whether the address is one of this machine's.
    pub fn is_own(&self, address: IpAddr) -> bool {
        self.own.addresses.contains(&address)
    }

    /// Whether some route could answer to the host; the question that TLS asks for a name.
    pub fn knows(&self, host: &Host<'_>, local: IpAddr) -> bool {
        let named = match host {
            Host::Name(name) => self.named.contains_key(name.as_ref()),
            Host::Ip(address) => self.addressed.contains_key(address),
        };
        named || (!self.general.list.is_empty() && self.own.has(host, local))
    }

    /// Whether the host has rules by path.
    pub fn is_by_path(&self, host: &Host<'_>, local: IpAddr) -> bool {
        let named = match host {
            Host::Name(name) => self.named.get(name.as_ref()),
            Host::Ip(address) => self.addressed.get(address),
        };
        let is_own = || self.own.has(host, local);
        named.is_some_and(Paths::is_by_path) || (self.general.is_by_path() && is_own())
    }

    /// Every host and path that a route is written for, and its index. What needs no host of its own has an empty one.
    pub fn places(&self) -> impl Iterator<Item = ((String, &str), usize)> {
        let named = self.named.iter().map(|(name, paths)| (name.clone(), paths));
        let addressed = self
            .addressed
            .iter()
            .map(|(at, paths)| (at.to_string(), paths));
        let general = std::iter::once((String::new(), &self.general));
        let all = named.chain(addressed).chain(general);
        all.flat_map(|(host, paths)| {
            let list = paths.list.iter();
            list.map(move |prefix| ((host.clone(), &*prefix.path), prefix.route))
        })
    }

    /// The index of the route for a host and path.
    ///
    /// # Errors
    /// `host-unknown`, `no-route`, and `bad-request` when the host has rules by path and the path has two readings.
    pub fn find(&self, host: &Host<'_>, local: IpAddr, path: &Path<'_>) -> Result<usize, Refusal> {
        let named = match host {
            Host::Name(name) => self.named.get(name.as_ref()),
            Host::Ip(address) => self.addressed.get(address),
        };
        let general =
            Some(&self.general).filter(|g| !g.list.is_empty() && self.own.has(host, local));
        if named.is_none() && general.is_none() {
            return Err(Refusal::new(
                Reason::HostUnknown,
                "no route names this host, and it is none of this machine's names",
            ));
        }
        let by_path = [named, general]
            .into_iter()
            .flatten()
            .any(Paths::is_by_path);
        if let Some(doubt) = path.doubt.filter(|_| by_path) {
            return Err(Refusal::bad(doubt));
        }
        let found = |path: &Path<'_>| {
            let mut hosts = [named, general].into_iter().flatten();
            hosts.find_map(|paths| paths.find(path))
        };
        let route = found(path);
        let mut again = path.again().filter(|_| by_path);
        while let Some(deeper) = again {
            if found(&deeper) != route {
                return Err(Refusal::bad(
                    "the path is another one once it is decoded twice",
                ));
            }
            again = deeper.again();
        }
        if by_path {
            let leads_there = |reading: &str| {
                let mut hosts = [named, general].into_iter().flatten();
                let found = hosts.find_map(|paths| paths.may_mean(reading, route));
                found.unwrap_or(route.is_none())
            };
            let mut prefixes = [named, general].into_iter().flatten().flat_map(|p| &p.list);
            let has_odd = prefixes.any(|prefix| prefix.is_odd);
            let readings = path.readings().map_err(Refusal::bad)?;
            // Its own only reading may still be what a prefix folds to.
            let own = match has_odd && readings.is_empty() {
                true => std::str::from_utf8(&path.decoded).ok(),
                false => None,
            };
            let mut all = readings.iter().map(String::as_str).chain(own);
            if !all.all(leads_there) {
                return Err(Refusal::bad(
                    "the path is another one where case, dots and spaces at the end, or look-alikes do not count",
                ));
            }
        }
        route.ok_or(Refusal::new(Reason::NoRoute, "no route has this path"))
    }
}

impl Paths {
    fn find(&self, path: &Path<'_>) -> Option<usize> {
        let mut list = self.list.iter();
        let found = list.find(|prefix| path.is_under(&prefix.path));
        found.map(|prefix| prefix.route)
    }

    fn is_by_path(&self) -> bool {
        self.list.iter().any(|prefix| prefix.path != "/")
    }

    /// Whether what a loose application reads leads to this route here; `None` when it leads to none. Prefixes that are alike for
    /// it were written down as different ones, so either is right.
    fn may_mean(&self, reading: &str, route: Option<usize>) -> Option<bool> {
        let covering = || {
            self.list
                .iter()
                .filter(|prefix| fold::covers(&prefix.folded, reading))
        };
        let longest = covering().map(|prefix| prefix.folded.len()).max()?;
        Some(
            covering()
                .filter(|prefix| prefix.folded.len() == longest)
                .any(|prefix| Some(prefix.route) == route),
        )
    }

    /// Adds a prefix; false when it is there already.
    fn add(&mut self, prefix: &str, route: usize) -> bool {
        let at = self
            .list
            .partition_point(|p| (p.path.len(), prefix) > (prefix.len(), &*p.path));
        if self.list.get(at).is_some_and(|p| p.path == prefix) {
            return false;
        }
        let (path, folded) = (prefix.to_owned(), fold::folded(prefix));
        let prefix = Prefix {
            is_odd: path != folded && path != "/",
            path,
            folded,
            route,
        };
        self.list.insert(at, prefix);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::default();
        table.own.names = ["box".to_owned(), "*.box.lan".to_owned()].into();
        table.own.addresses = ["192.168.1.5".parse().unwrap()].into();
        for (i, (host, path)) in [
            ("app.lan", "/"),
            ("app.lan", "/admin"),
            ("app.lan", "/admin/deep"),
            ("api.lan", "/v1"),
            ("", "/only"),
            ("case.lan", "/"),
            ("case.lan", "/Shop"),
            ("case.lan", "/shop"),
            ("case.lan", "/Stra\u{df}e"),
        ]
        .iter()
        .enumerate()
        {
            let paths = if host.is_empty() {
                &mut table.general
            } else {
                table.named.entry((*host).to_owned()).or_default()
            };
            assert!(paths.add(path, i) && !paths.add(path, i));
        }
        table
    }

    #[test]
    fn finds_the_most_specific_host_then_the_longest_path() {
        let table = table();
        for (host, path, want) in [
            ("app.lan", "/", Ok(0)),
            ("app.lan", "/admin", Ok(1)),
            ("app.lan", "/admin/deep/er", Ok(2)),
            ("app.lan", "/administrator", Ok(0)),
            ("app.lan", "/%61dmin", Ok(1)),
            ("app.lan", "/x/../admin", Err(Reason::BadRequest)),
            ("app.lan", "/x%2f..%2fadmin", Err(Reason::BadRequest)),
            ("app.lan", "/%2561dmin", Err(Reason::BadRequest)),
            ("app.lan", "/%252561dmin", Err(Reason::BadRequest)),
            ("app.lan", "/100%2525", Ok(0)),
            ("app.lan", "//admin", Err(Reason::BadRequest)),
            ("app.lan", "/ADMIN", Err(Reason::BadRequest)),
            ("app.lan", "/Admin/x", Err(Reason::BadRequest)),
            ("app.lan", "/admin/DEEP", Err(Reason::BadRequest)),
            ("app.lan", "/admin/Deeper", Ok(1)),
            ("app.lan", "/admin.", Err(Reason::BadRequest)),
            ("app.lan", "/admin%20", Err(Reason::BadRequest)),
            ("app.lan", "/admin.%20.", Err(Reason::BadRequest)),
            ("app.lan", "/admin%2520", Err(Reason::BadRequest)),
            ("app.lan", "/admin::$DATA", Err(Reason::BadRequest)),
            ("app.lan", "/%EF%BD%81dmin", Err(Reason::BadRequest)),
            (
                "app.lan",
                "/x%EF%BC%8F..%EF%BC%8Fadmin",
                Err(Reason::BadRequest),
            ),
            (
                "app.lan",
                "/x/%EF%BC%8E%EF%BC%8E/admin",
                Err(Reason::BadRequest),
            ),
            ("app.lan", "/%25EF%25BD%2581dmin", Err(Reason::BadRequest)),
            ("app.lan", "/50%EF%BC%85/1%EF%BC%8F2%EF%BC%9F", Ok(0)),
            ("app.lan", "/Files/Report.PDF", Ok(0)),
            ("app.lan", "/%E6%97%A5%E6%9C%AC", Ok(0)),
            ("app.lan", "/ad%E2%83%90min", Err(Reason::BadRequest)),
            ("app.lan", "/ad%E3%85%A4min/x", Err(Reason::BadRequest)),
            ("app.lan", "/admin/%E3%85%A4x", Ok(1)),
            ("app.lan", "/%2525252561dmin", Err(Reason::BadRequest)),
            ("case.lan", "/Shop/x", Ok(6)),
            ("case.lan", "/shop/x", Ok(7)),
            ("case.lan", "/strasse/x", Err(Reason::BadRequest)),
            ("case.lan", "/strass", Ok(5)),
            ("case.lan", "/SHOP/x", Err(Reason::BadRequest)),
            ("case.lan", "/Stra%C3%9Fe", Ok(8)),
            ("case.lan", "/STRASSE", Err(Reason::BadRequest)),
            ("api.lan", "/V1/x", Err(Reason::BadRequest)),
            ("api.lan", "/v1/X", Ok(3)),
            ("app.lan", "/only", Ok(0)),
            ("api.lan", "/v1/x", Ok(3)),
            ("api.lan", "/v2", Err(Reason::NoRoute)),
            ("api.lan", "/only", Err(Reason::NoRoute)),
            ("box", "/only", Ok(4)),
            ("x.box.lan", "/only", Ok(4)),
            ("y.x.box.lan", "/only", Err(Reason::HostUnknown)),
            ("192.168.1.5", "/only", Ok(4)),
            ("10.0.0.9", "/only", Ok(4)),
            ("10.0.0.8", "/only", Err(Reason::HostUnknown)),
            ("evil.example", "/only", Err(Reason::HostUnknown)),
            ("box", "/", Err(Reason::NoRoute)),
        ] {
            let found = table.find(
                &Host::parse(host).unwrap(),
                "10.0.0.9".parse().unwrap(),
                &Path::parse(path).unwrap(),
            );
            assert_eq!(found.map_err(|r| r.reason), want, "{host} {path}");
        }
    }
}
