//! An upstream that is the gate itself. One request there would become a request without end, until descriptors do.

use std::net::SocketAddr;
use std::path::Path;

use crate::base::loopback::{LoopbackAddr, Target};
use crate::config::{Problem, raw};

/// Refuses routes that lead to a listener of this plan, open or closed for now, or to its admin address.
pub(super) fn refuse(
    config: &raw::Config,
    listeners: &[SocketAddr],
    admin: Option<&LoopbackAddr>,
    problems: &mut Vec<Problem>,
) {
    for (i, route) in config.route.iter().enumerate() {
        let Ok(target) = route.upstream.parse::<Target>() else {
            continue;
        };
        let key = format!("route[{i}].upstream");
        let written = &route.upstream;
        if let Some(listener) = listeners.iter().find(|l| answers(**l, &target.address)) {
            let message = format!(
                "`{written}` is this gate itself, which listens on {listener}: a request would go round without end"
            );
            problems.push(Problem::error("own-upstream", key, message).hint(
                "write the port of the service; where it is the same one, let the gate listen on another (`address`, `-l`)",
            ));
        } else if admin.is_some_and(|admin| is_same(admin, &target.address)) {
            let message = format!(
                "`{written}` is the admin address of this gate, which has no login and is for this machine alone"
            );
            problems.push(Problem::error("own-upstream", key, message).hint(
                "write the address of the service, or ask the admin address on this machine",
            ));
        }
    }
}

/// Whether dialling the upstream can reach this listener. A port that the kernel chooses is not known yet.
fn answers(listener: SocketAddr, upstream: &LoopbackAddr) -> bool {
    let ip = listener.ip().to_canonical();
    upstream.sockets().any(|to| {
        let reached = ip == to.ip() || (ip.is_unspecified() && ip.is_ipv4() == to.is_ipv4());
        listener.port() != 0 && to.port() == listener.port() && reached
    })
}

fn is_same(admin: &LoopbackAddr, upstream: &LoopbackAddr) -> bool {
    // What is not there yet is known by its folder.
    let real = |path: &Path| {
        let folder = path.parent().and_then(|f| std::fs::canonicalize(f).ok());
        let named = folder.zip(path.file_name()).map(|(f, name)| f.join(name));
        let named = named.unwrap_or_else(|| path.to_owned());
        std::fs::canonicalize(&named).unwrap_or(named)
    };
    match (admin.unix(), upstream.unix()) {
        (Some(admin), Some(upstream)) => real(admin) == real(upstream),
        (None, None) => admin.sockets().any(|at| answers(at, upstream)),
        (Some(_), None) | (None, Some(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(listener: &str, admin: Option<&str>, upstream: &str) -> bool {
        let config = raw::Config {
            route: vec![raw::Route::new(upstream)],
            ..raw::Config::default()
        };
        let admin = admin.map(|text| text.parse::<Target>().unwrap().address);
        let mut problems = Vec::new();
        let listeners = [listener.parse().unwrap()];
        refuse(&config, &listeners, admin.as_ref(), &mut problems);
        !problems.is_empty()
    }

    #[test]
    fn a_gate_is_no_upstream_of_itself() {
        for (listener, upstream, want) in [
            ("0.0.0.0:8443", "127.0.0.1:8443", true),
            ("0.0.0.0:8443", "https://127.0.0.1:8443", true),
            ("0.0.0.0:8443", "127.9.9.9:8443", true),
            ("0.0.0.0:8443", "localhost:8443", true),
            ("0.0.0.0:8443", "8443", true),
            ("[::]:8443", "localhost:8443", true),
            ("[::]:8443", "[::1]:8443", true),
            ("127.0.0.1:8443", "h2c://127.0.0.1:8443", true),
            ("[::ffff:127.0.0.1]:8443", "127.0.0.1:8443", true),
            ("0.0.0.0:8443", "127.0.0.1:8444", false),
            ("0.0.0.0:8443", "[::1]:8443", false),
            ("[::]:8443", "127.0.0.1:8443", false),
            ("192.168.1.5:3000", "127.0.0.1:3000", false),
            ("127.0.0.2:3000", "127.0.0.1:3000", false),
            ("0.0.0.0:0", "127.0.0.1:3000", false),
            ("0.0.0.0:8443", "unix:/run/app.sock", false),
        ] {
            assert_eq!(
                refused(listener, None, upstream),
                want,
                "{listener} {upstream}"
            );
        }
    }

    #[test]
    fn nor_is_its_admin_address() {
        for (admin, upstream, want) in [
            ("127.0.0.1:9095", "127.0.0.1:9095", true),
            ("localhost:9095", "[::1]:9095", true),
            ("unix:/run/admin.sock", "unix:/run/../run/admin.sock", true),
            ("unix:/run/admin.sock", "unix:/run/app.sock", false),
            ("127.0.0.1:9095", "127.0.0.1:9096", false),
            ("127.0.0.1:9095", "unix:/run/app.sock", false),
        ] {
            assert_eq!(
                refused("0.0.0.0:1", Some(admin), upstream),
                want,
                "{admin} {upstream}"
            );
        }
    }
}
