//! A password as a guess: right at once when it is remembered, else it counts from its first moment and can lock out.

use std::net::IpAddr;
use std::time::Instant;

use super::state::Worker;
use crate::auth::client_net::ClientNet;
use crate::auth::verify::Outcome;
use crate::base::refusal::{Reason, Refusal};
use crate::base::secret::Secret;
use crate::limit::lockout::{Ban, Guess, Locked, Scope};
use crate::observe::Event;
use crate::observe::metrics::AuthResult;
use crate::plan::Plan;

/// Whether the password is remembered. It counts only where a guess would be listened to: otherwise a client that is locked
/// out could go on guessing at a password that another one has just used. `was_right`: on this connection it was right before,
/// so this is no guess.
pub fn by_heart(
    worker: &Worker,
    client: IpAddr,
    plan: &Plan,
    user: &str,
    password: &[u8],
    was_right: bool,
    method: &'static str,
) -> Result<bool, Refusal> {
    let now = Instant::now();
    let shared = &worker.shared;
    if shared
        .verifier
        .cached(&plan.users, user, password, now)
        .is_none()
    {
        worker.tally.remembered(false);
        return Ok(false);
    }
    if was_right || shared.lockout.listens(ClientNet::of(client), user, now) {
        worker.tally.remembered(true);
        worker.tally.login(method, AuthResult::Success);
        return Ok(true);
    }
    worker.tally.login(method, AuthResult::LockedOut);
    let locked = shared.lockout.look(ClientNet::of(client), user, now);
    Err(locked_out(locked.as_ref()))
}

/// Verifies a password that is not remembered, as a guess that counts from its first moment.
pub async fn verify(
    worker: &Worker,
    client: IpAddr,
    plan: &Plan,
    user: &str,
    password: Secret<Vec<u8>>,
    method: &'static str,
) -> Result<(), Refusal> {
    let shared = &worker.shared;
    let network = ClientNet::of(client);
    let credential = shared.verifier.credential(user, password.expose());
    let guess = shared
        .lockout
        .begin(network, user, credential, Instant::now())
        .map_err(|locked| {
            worker.tally.login(method, AuthResult::LockedOut);
            locked
                .ban
                .iter()
                .for_each(|ban| tell(worker, client, user, ban));
            locked_out(Some(&locked))
        })?;
    match shared
        .verifier
        .verify(&plan.users, user, password, network)
        .await
    {
        Outcome::Right => {
            guess.right(Instant::now());
            worker.tally.login(method, AuthResult::Success);
            Ok(())
        }
        Outcome::Busy => {
            guess.unjudged();
            worker.tally.login(method, AuthResult::TooBusy);
            Err(Refusal::new(
                Reason::TooBusy,
                "too many passwords wait to be verified",
            ))
        }
        Outcome::Wrong => {
            worker.tally.login(method, AuthResult::Failure);
            shared.log.event(
                Event::info("auth_failed")
                    .with("client", client)
                    .with("user", user)
                    .with("method", method),
            );
            for ban in guess.wrong(Instant::now()) {
                tell(worker, client, user, &ban);
            }
            Err(Refusal::new(
                Reason::CredentialsWrong,
                "the user or the password is wrong",
            ))
        }
    }
}

/// A link as a guess: it counts for the network, and for nobody else.
pub fn link<'w>(worker: &'w Worker, client: IpAddr, secret: &str) -> Result<Guess<'w>, Refusal> {
    let shared = &worker.shared;
    let credential = shared.verifier.credential("share:", secret.as_bytes());
    // No user has a colon in his name, and no two links have one name: nobody is locked out of the links of others.
    let name = format!("share:{credential:x}");
    let network = ClientNet::of(client);
    let guess = shared
        .lockout
        .begin(network, &name, credential, Instant::now());
    guess.map_err(|locked| {
        worker.tally.login("share", AuthResult::LockedOut);
        let client_bans = locked.ban.iter().filter(|ban| ban.scope == Scope::Client);
        client_bans.for_each(|ban| tell(worker, client, "share", ban));
        locked_out(Some(&locked))
    })
}

/// The link was wrong.
pub fn wrong_link(worker: &Worker, client: IpAddr, guess: Guess<'_>) {
    worker.tally.login("share", AuthResult::Failure);
    let event = Event::info("auth_failed").with("client", client);
    worker
        .shared
        .log
        .event(event.with("user", "share").with("method", "share"));
    let bans = guess.wrong(Instant::now());
    for ban in bans.into_iter().filter(|ban| ban.scope == Scope::Client) {
        tell(worker, client, "share", &ban);
    }
}

/// Says how long; to the log alone also whose lockout it is.
fn locked_out(locked: Option<&Locked>) -> Refusal {
    let detail = match locked.map(|locked| locked.scope) {
        Some(Scope::Client) => "too many failed logins from this network",
        Some(Scope::User) => "too many failed logins for this user",
        Some(Scope::Pair) => "too many failed logins for this user from this network",
        None => "too many failed logins from this network or for this user",
    };
    let refusal = Refusal::new(Reason::LockedOut, detail);
    match locked {
        Some(locked) => refusal.until(locked.retry),
        None => refusal,
    }
}

fn tell(worker: &Worker, client: IpAddr, user: &str, ban: &Ban) {
    let scope = match ban.scope {
        Scope::Client => "client",
        Scope::User => "user",
        Scope::Pair => "user_at_client",
    };
    let event = Event::warn("locked_out")
        .with("scope", scope)
        .with("client", client)
        .with("user", user)
        .with("seconds", ban.length.as_secs());
    worker.shared.log.event(event);
}
