//! A request that was, judged again: `explain --id`.

use std::net::SocketAddr;

use super::Plan;
use super::explain::{Explained, Request, judge};
use crate::auth::Method;
use crate::base::host::{Authority, Host};
use crate::base::path::Path;
use crate::base::refusal::Reason;
use crate::observe::Past;

/// Judges a request that was by `plan`. `Err` when too little is known of it.
pub fn again(plan: &Plan, past: &Past) -> Result<Explained, String> {
    // What ended at its connection named nothing: it is judged as far as that goes.
    let stand_in = past.host.is_empty() || past.path.is_empty();
    let authority = match stand_in {
        true => Authority::parse("localhost"),
        false => Authority::parse(&past.host),
    };
    let authority = authority.map_err(|what| format!("its host is no host: {what}"))?;
    let path = if stand_in { "/" } else { &past.path };
    let path = Path::parse(path).map_err(|what| format!("its path is no path: {what}"))?;
    let sni = match &authority.host {
        Host::Name(name) => Some(name.clone().into_owned()),
        Host::Ip(_) => None,
    };
    let local = past.listener.map(|l| l.ip());
    let local = local.unwrap_or_else(|| match &authority.host {
        Host::Ip(address) if plan.site.table.is_own(*address) => *address,
        Host::Ip(_) | Host::Name(_) => [127, 0, 0, 1].into(),
    });
    let named = past.client.to_string();
    let peer = past.peer.unwrap_or(past.client);
    // Whom a certificate named stands in the log where nothing else said who it is; where the request passed, the one that was
    // needed was there.
    let user = past.user.as_deref();
    let by_certificate = past.auth.as_deref() == Some(Method::Certificate.word());
    let certificate = user.filter(|_| by_certificate || past.reason.is_none());
    let request = Request {
        from: peer,
        forwarded_for: Some(named.as_str()).filter(|_| peer != past.client),
        is_plain: false,
        listener: past.listener.map(|l| listed(plan, l)),
        sni: sni.as_deref(),
        authority,
        local,
        method: &past.method,
        path,
        user: user.filter(|_| !by_certificate),
        certificate,
    };
    judge(plan, &request)
}

/// The address as the plan has it: one that was connected to may be meant by "every address".
fn listed(plan: &Plan, local: SocketAddr) -> SocketAddr {
    let mut all = plan.listeners.iter().flat_map(|l| &l.addresses);
    let any = |at: &&SocketAddr| {
        at.ip().is_unspecified() && at.is_ipv4() == local.is_ipv4() && at.port() == local.port()
    };
    match all.clone().any(|at| *at == local) {
        true => local,
        false => all.find(any).copied().unwrap_or(local),
    }
}

/// What the decision cannot show, because it was found beside it: in the request itself, in the password, or at the service.
pub fn is_beside(reason: Reason) -> bool {
    match reason {
        Reason::NetworkDenied
        | Reason::HostUnknown
        | Reason::NoRoute
        | Reason::RouteNetworkDenied
        | Reason::CredentialsMissing
        | Reason::CertificateMissing
        | Reason::NotPermitted
        | Reason::MethodDenied => false,
        Reason::BadRequest
        | Reason::SniMismatch
        | Reason::CredentialsWrong
        | Reason::CertificateRefused
        | Reason::LockedOut
        | Reason::TooBusy
        | Reason::CrossSite
        | Reason::TooLarge
        | Reason::HeaderTooLarge
        | Reason::UpstreamExposed
        | Reason::UpstreamRefused
        | Reason::UpstreamBroken
        | Reason::UpstreamTimeout
        | Reason::Draining
        | Reason::RequestTimeout => true,
    }
}
