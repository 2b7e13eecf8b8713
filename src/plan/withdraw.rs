//! Users, tokens and revocations on their own. While the rest of the configuration has a mistake, what was withdrawn in these files
//! must not wait until somebody repairs it.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use super::{Kept, Listener, Plan, clients, people};
use crate::auth::users::Users;
use crate::config::{Problem, Severity};

/// The plan in force with the people of now.
#[derive(Debug)]
pub struct Withdrawal {
    /// It, to be put in force.
    pub plan: Plan,
    /// What is different, for the log; `None` when nothing is known to be.
    pub change: Option<String>,
    /// The files with a mistake: they count as they did before.
    pub problems: Vec<Problem>,
}

impl Plan {
    /// This plan with the users, tokens and revocations that its files have now. Each file is taken whole or not at all: one with a
    /// broken line may lack anybody's line.
    pub fn with_people_of_now(&self, base: &Path, kept: &Kept) -> Withdrawal {
        let mut problems = Vec::new();
        let mut plan = self.clone();
        let raw = Arc::clone(&self.written);
        if let Some(users) = good(&mut problems, |list| people::users(&raw.auth, base, list)) {
            let groups = people::groups(&raw.group, &users, &mut Vec::new());
            plan.people = people::people(&users, &groups);
            plan.users = Arc::new(users);
        }
        if let Some(tokens) = good(&mut problems, |list| people::tokens(&raw.auth, base, list)) {
            plan.tokens = tokens;
        }
        for (i, (listener, raw)) in plan.listeners.iter_mut().zip(&raw.listener).enumerate() {
            let key = format!("listener[{i}]");
            let read = |list: &mut Vec<Problem>| clients::compile(raw, &key, base, kept, list).0;
            if let Some(Some(clients)) = good(&mut problems, read) {
                *listener = Arc::new(Listener {
                    clients: Some(clients),
                    ..Listener::clone(listener)
                });
            }
        }
        Withdrawal {
            change: change(self, &plan),
            plan,
            problems,
        }
    }
}

/// What was read, when nothing is wrong with it.
fn good<T>(all: &mut Vec<Problem>, read: impl FnOnce(&mut Vec<Problem>) -> T) -> Option<T> {
    let mut problems = Vec::new();
    let found = read(&mut problems);
    problems.retain(|problem| problem.severity == Severity::Error);
    let is_good = problems.is_empty();
    all.append(&mut problems);
    is_good.then_some(found)
}

/// How many users and tokens are gone, changed and new.
fn change(before: &Plan, after: &Plan) -> Option<String> {
    let users = |users: &Users| -> HashMap<_, _> {
        let all = users.iter();
        all.map(|u| (u.name().to_owned(), u.fingerprint()))
            .collect()
    };
    let tokens = |plan: &Plan| -> HashMap<_, _> {
        let all = plan.tokens.iter();
        all.map(|t| (t.id.clone(), t.clone())).collect()
    };
    let told: Vec<String> = [
        differs("users", &users(&before.users), &users(&after.users)),
        differs("tokens", &tokens(before), &tokens(after)),
    ]
    .into_iter()
    .flatten()
    .collect();
    (!told.is_empty()).then(|| told.join("; "))
}

fn differs<V: PartialEq>(
    what: &str,
    before: &HashMap<String, V>,
    after: &HashMap<String, V>,
) -> Option<String> {
    let gone = before.keys().filter(|key| !after.contains_key(*key));
    let new = after.keys().filter(|key| !before.contains_key(*key));
    let other = after
        .iter()
        .filter(|(key, value)| before.get(*key).is_some_and(|old| old != *value));
    let (gone, other, new) = (gone.count(), other.count(), new.count());
    (gone + other + new > 0)
        .then(|| format!("{what}: {gone} removed, {other} changed, {new} added"))
}
