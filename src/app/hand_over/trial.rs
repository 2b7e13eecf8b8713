//! A gate without threads, for the tests of this room.

use std::sync::Arc;

use crate::flow::{Shared, trial};
use crate::net::Machine;
use crate::plan::{Kept, compile};

/// With one route that anyone may take.
pub(super) fn gate() -> Arc<Shared> {
    let dir = tempfile::tempdir().unwrap();
    let text = "[[listener]]\naddress = \"127.0.0.1:0\"\nnetworks = { allow = [\"loopback\"] }\n\
        [[route]]\nupstream = \"127.0.0.1:9\"\naccess = \"anyone\"\n";
    let raw = match crate::config::from_text("test", text) {
        Ok(loaded) => loaded.raw,
        Err(report) => panic!("{}", report.render(false, 120)),
    };
    let machine = Machine {
        names: vec!["localhost".into()],
        addresses: vec![[127, 0, 0, 1].into()],
        ..Machine::default()
    };
    let kept = Kept::new(dir.path().join("state"));
    let (plan, _) = compile(&raw, dir.path(), &machine, &kept, None, None).unwrap();
    trial::shared(plan).unwrap()
}
