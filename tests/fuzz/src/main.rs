//! Fuzz targets, all in one program: `FUZZ_TARGET` names the one that is run, `FUZZ_TARGET=list` prints their names.
#![no_main]

mod gate;
mod service;
mod strict;
mod targets;

use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;

fuzz_target!(init: { chosen(); }, |data: &[u8]| chosen()(data));

fn chosen() -> fn(&[u8]) {
    static CHOSEN: OnceLock<fn(&[u8])> = OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let name = std::env::var("FUZZ_TARGET").unwrap_or_default();
        if name == "list" {
            for (name, _) in targets::ALL {
                println!("{name}");
            }
            std::process::exit(0);
        }
        let found = targets::ALL.iter().find(|(known, _)| *known == name);
        match found {
            Some((_, target)) => *target,
            None => {
                eprintln!(
                    "FUZZ_TARGET is `{name}`, which is no target; `FUZZ_TARGET=list` prints them"
                );
                std::process::exit(2);
            }
        }
    })
}
