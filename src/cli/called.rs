//! Whether a service takes the name that visitors call it by, asked when it is there, and what is done about it.

use std::time::Duration;

use super::args::{Expose, HostHeader};
use super::banner::UpstreamState;
use super::expose::state;
use super::output::Output;
use crate::app::Source;
use crate::upstream::{Answer, NameRefused, ask, refuses};

/// How often a service that was not there is asked whether it takes its name, and how often one that says nothing.
const AGAIN: Duration = Duration::from_secs(2);
const ASKED: u8 = 5;

/// Whether the service refuses that name, or what its pages ask for by it; `None` when it is not there, or says nothing yet.
pub(super) async fn asked(target: &str, host: &str) -> Option<Option<NameRefused>> {
    let answer = ask(target, host).await;
    let refused = refuses(target, host, &answer).await;
    match answer {
        Answer::Http { .. } => Some(refused),
        Answer::Silent => refused.map(Some),
        Answer::Other => None,
    }
}

/// The same for one that is started later: asked until it answers, at most `ASKED` times where it takes the question and says nothing.
pub(super) async fn asked_in_time(target: &str, host: &str) -> Option<NameRefused> {
    let mut silent = 0;
    while silent < ASKED {
        match asked(target, host).await {
            Some(refused) => return refused,
            None if is_there(target) => silent += 1,
            None => {}
        }
        tokio::time::sleep(AGAIN).await;
    }
    None
}

fn is_there(target: &str) -> bool {
    target
        .parse()
        .is_ok_and(|target| matches!(state(&target), UpstreamState::Up))
}

pub(super) fn say_refused(
    output: &Output,
    options: &Expose,
    source: &Source,
    refused: &NameRefused,
    host: &str,
) {
    match source {
        Source::Given(lead)
            if options.host_header == HostHeader::Auto && refused.opens_in_local_mode() =>
        {
            lead.call_local();
            let fact = refused.fact(host);
            output.say(&format!(
                "loopgate: {fact}; it is called localhost from now on"
            ));
        }
        Source::Given(_) | Source::Led(_) | Source::File(_) => {
            output.say(&format!("loopgate: {}", refused.sentence(host)));
        }
    }
}
