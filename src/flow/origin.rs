//! Where a request comes from: the client and its scheme, as the connection and, behind a trusted proxy, the request's fields say.

use super::intake::Line;
use super::state::Conn;
use crate::base::refusal::Refusal;
use crate::gate::{Client, Told};
use crate::http1::field::Name;
use crate::plan::Plan;

/// Where a request comes from, as far as it is believed.
#[derive(Clone, Debug)]
pub struct Origin {
    /// The client, and the proxies that it came through.
    pub client: Client,
    /// What the client spoke: `https` or `http`.
    pub scheme: &'static str,
}

impl Origin {
    /// Reads it. Refused when a trusted proxy has written what is no address, or no scheme.
    pub fn find<'l>(
        conn: &Conn,
        plan: &Plan,
        lines: impl Iterator<Item = Line<'l>>,
    ) -> Result<Self, Refusal> {
        let client = Client::of_connection(conn.peer.ip(), conn.source);
        let direct = Self {
            client,
            scheme: conn.scheme(),
        };
        let gate = plan
            .rules(conn.listener, conn.local)
            .map(|listener| &listener.gate)
            .filter(|gate| plan.has_proxies && gate.trusts(conn.source));
        match gate {
            None => Ok(direct),
            Some(gate) => {
                let (told, scheme) = read(lines)?;
                Ok(Self {
                    client: gate.client(direct.client, &told)?,
                    scheme: scheme.unwrap_or(direct.scheme),
                })
            }
        }
    }

    /// Whether the client's side is encrypted: only then does a browser keep our cookie.
    pub fn is_secure(&self) -> bool {
        self.scheme == "https"
    }
}

/// The fields of a trusted proxy. A spelling with an underscore is nobody's but the client's.
fn read<'l>(
    lines: impl Iterator<Item = Line<'l>>,
) -> Result<(Told<'l>, Option<&'static str>), Refusal> {
    let (mut told, mut scheme) = (Told::default(), None);
    for line in lines.filter(|line| line.known == Name::Claim && !line.underscore) {
        let is = |name: &str| line.name.eq_ignore_ascii_case(name.as_bytes());
        if is("X-Forwarded-For") {
            told.forwarded_for.push(line.value);
        } else if is("Forwarded") {
            told.forwarded.push(line.value);
        } else if is("X-Forwarded-Proto") {
            let value = match line.value {
                v if v.eq_ignore_ascii_case(b"https") => "https",
                v if v.eq_ignore_ascii_case(b"http") => "http",
                _ => return Err(Refusal::bad("X-Forwarded-Proto is neither https nor http")),
            };
            if scheme.replace(value).is_some() {
                return Err(Refusal::bad("two X-Forwarded-Proto fields"));
            }
        }
    }
    Ok((told, scheme))
}
