//! Everything that a user can see, over real sockets: the whole program in process, one file a subject.

#![allow(
    clippy::type_complexity,
    reason = "a table of cases is read row by row"
)]

#[path = "../support/mod.rs"]
mod support;

mod absent;
mod certificates;
mod connections;
mod floods;
mod h2c;
mod judgement;
mod limits;
mod observe;
mod onboard;
mod people;
mod policies;
mod proxies;
mod reload;
mod share;
mod standing;
mod traffic;
mod upstream_certs;
mod wire_answers;
mod wire_fuzz;
mod wire_h1;
mod wire_h2;
mod wire_h2_states;
mod wire_hosts;
mod wire_paths;
mod wire_upgrade;
