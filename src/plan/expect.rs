//! The `[[test]]` tables: a request that nobody sent, and the decision that its author expects.

use super::Plan;
use super::explain::{Question, explain};
use crate::config::Problem;
use crate::config::raw::{self, Expect};

/// Runs the `[[test]]` tables; each that ends otherwise is a mistake of the file.
pub(super) fn run(plan: &Plan, config: &raw::Config, problems: &mut Vec<Problem>) {
    for (i, test) in config.test.iter().enumerate() {
        let (method, url) = test
            .request
            .split_once(' ')
            .unwrap_or(("GET", &test.request));
        let question = Question {
            from: test.from,
            forwarded_for: test.forwarded_for.as_deref(),
            user: test.user.as_deref(),
            certificate: test.certificate.as_deref(),
            method,
            url: url.trim(),
        };
        let told = match explain(plan, config, &question) {
            Ok(told) => told,
            Err(what) => {
                problems.push(Problem::error(
                    "bad-test",
                    format!("test[{i}].request"),
                    what,
                ));
                continue;
            }
        };
        let want = match test.expect {
            Expect::Allowed => "allowed",
            Expect::Refused(reason) => reason.word(),
        };
        if told.word() != want {
            let last = told.steps.last().map_or("", |step| step.found.as_str());
            let message = format!("the decision is `{}`, not `{want}`: {last}", told.word());
            let option = |name, value: &Option<String>| {
                let value = value.as_ref();
                value.map(|v| format!(" --{name} {v}")).unwrap_or_default()
            };
            let user = option("user", &test.user) + &option("certificate", &test.certificate);
            let through = test
                .forwarded_for
                .as_ref()
                .map(|list| format!(" --forwarded-for '{list}'"))
                .unwrap_or_default();
            let hint = format!(
                "see every step with `loopgate explain --from {}{through}{user} {}`, then correct the file or the test",
                test.from, test.request
            );
            problems.push(
                Problem::error("test-failed", format!("test[{i}].expect"), message).hint(hint),
            );
        }
    }
}
