//! `loopgate onboard`: opens the page that helps a phone to trust the local authority.

use std::time::Duration;

use clap::Args;

use super::args::WhichGate;
use super::control::{failure, gates, one};
use super::output::{Output, plain};
use super::{Code, Failure, qr};
use crate::app::control::{Verb, ask};
use crate::config::unit::{parse_duration, write_duration};

const PATIENCE: Duration = Duration::from_secs(10);

/// `loopgate onboard`.
#[derive(Debug, Args)]
#[group(skip)]
pub struct Onboard {
    /// How long the page is open, at most 24h
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_duration, default_value = "10m")]
    pub duration: Duration,
    /// Close the page now
    #[arg(long, conflicts_with = "duration")]
    pub close: bool,
    #[command(flatten)]
    pub which: WhichGate,
    /// For programs
    #[arg(long)]
    pub json: bool,
}

pub(super) fn onboard(output: &Output, asked: &Onboard) -> Result<(), Failure> {
    let gates = gates(&asked.which)?;
    let gate = one(&gates, "onboard")?;
    let seconds = match asked.close {
        true => 0,
        false => asked.duration.as_secs(),
    };
    if seconds == 0 && !asked.close {
        let what = "`--for` is at least a second; `--close` closes the page";
        return Err(Failure::new(Code::Usage, what));
    }
    let done = ask(&gate.path, &Verb::Onboard { seconds }, PATIENCE).map_err(failure)?;
    if asked.json {
        return output.print(&done.to_string()).map_err(Failure::failed);
    }
    if asked.close {
        let what = match done["was_open"].as_bool() {
            Some(true) => "the page is closed",
            Some(false) | None => "the page was not open",
        };
        return output.print(what).map_err(Failure::failed);
    }
    let mut text = qr::links(&done["urls"], "Open", 13, output);
    let paint = output.paint();
    let fingerprint = plain(done["fingerprint_sha256"].as_str().unwrap_or_default()).into_owned();
    let (first, rest) = fingerprint
        .split_at_checked(48)
        .unwrap_or((&fingerprint, ""));
    text += &format!("\n  {:<13}{first}\n  {:<13}{rest}\n", "Fingerprint", "");
    text += &paint.soft("  The browser warns once: that is what the page is for. Compare this fingerprint with the one that the\n  device shows before it trusts the certificate.\n");
    text += &format!(
        "\n  Closes after {}, or with `loopgate onboard --close`.\n",
        write_duration(asked.duration)
    );
    output.print(&text).map_err(Failure::failed)
}
