//! Sessions: begun, used, ended, kept over a restart.

use super::session_id::ID_LENGTH;
use super::*;

const A: &str = "$2y$10$WvxEgpQ8RNJKDyxOCCnlG.DT9q4OaALOaq3VmRpZ5QQOXtV4I1MGC";
const B: &str = "$5$abcd$BgCbKzckrgGdFcL/gWllSOkKJCXQV5rwJeTh9xnsJ1D";

fn users(text: &str) -> Users {
    Users::parse(text.as_bytes()).unwrap().users
}

fn table(per_user: usize, most: usize) -> (Sessions, Users, Instant) {
    let now = Instant::now();
    let settings = SessionSettings {
        per_user,
        most,
        ..SessionSettings::default()
    };
    (
        Sessions::new(settings, now),
        users(&format!("alice:{A}\nbob:{B}")),
        now,
    )
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn lives_until_it_is_idle_too_long_or_too_old() {
    let (sessions, users, now) = table(8, 64);
    let opened = sessions.open(users.find("alice").unwrap(), Origin::Login, now);
    let id = opened.id.expose();
    let alive = |at: Instant| {
        sessions
            .lookup(&users, id, at)
            .map(|found| found.user.name())
    };
    assert_eq!(alive(now), Some("alice"));
    let until = |at: Instant| sessions.look(&users, &opened.key, at).and_then(|f| f.until);
    assert_eq!(until(now + HOUR), Some(now + HOUR * 2), "idle");
    for hours in 1..12 {
        assert_eq!(alive(now + HOUR * hours), Some("alice"), "{hours}");
    }
    assert_eq!(until(now + HOUR * 11), Some(now + HOUR * 12), "too old");
    assert_eq!(
        alive(now + HOUR * 12),
        None,
        "used all the time, but too old"
    );
    let idle = sessions.open(users.find("alice").unwrap(), Origin::Login, now);
    assert!(
        sessions
            .lookup(&users, idle.id.expose(), now + HOUR * 2)
            .is_none()
    );
    assert_eq!(
        (sessions.sweep(&users, now + HOUR * 12), sessions.len()),
        (2, 0)
    );
}

#[test]
fn a_few_credentials_of_the_application_pass_and_then_no_other() {
    let (sessions, users, now) = table(8, 64);
    let key = sessions
        .open(users.find("alice").unwrap(), Origin::Login, now)
        .key;
    let passed = |from, to| (from..to).filter(|n| sessions.may_pass(&key, *n)).count();
    assert_eq!(passed(0, 3), 3);
    assert_eq!(passed(0, 1000), MOST_PASSED);
    assert_eq!(passed(0, 8), 8, "those that passed still do");
    let before = sessions.endings();
    assert!(sessions.close_key(&key) && sessions.endings() > before);
    assert_eq!(passed(0, 8), 0, "not without the session");
}

#[test]
fn refuses_ids_that_are_not_ours() {
    let (sessions, users, now) = table(8, 64);
    let opened = sessions.open(users.find("alice").unwrap(), Origin::Login, now);
    let id = opened.id.expose();
    assert_eq!(id.len(), ID_LENGTH);
    let other = if id.starts_with('A') { "B" } else { "A" };
    for wrong in [
        "",
        "x",
        &id[1..],
        &format!("{id}A"),
        &format!("{other}{}", &id[1..]),
        &"=".repeat(43),
    ] {
        assert!(sessions.lookup(&users, wrong, now).is_none(), "{wrong}");
    }
}

#[test]
fn ends_with_the_password_and_with_the_user() {
    let (sessions, before, now) = table(8, 64);
    let opened = sessions.open(before.find("alice").unwrap(), Origin::Basic, now);
    let alive = |users: &Users| sessions.look(users, &opened.key, now).is_some();
    assert!(alive(&before));
    assert!(!alive(&users(&format!("alice:{B}"))), "another hash");
    assert!(
        !alive(&users(&format!("bob:{A}"))),
        "gone, though another has the hash"
    );
    assert_eq!(sessions.sweep(&users(&format!("bob:{B}")), now), 1);
}

#[test]
fn one_or_all_are_closed_and_those_who_wait_are_told() {
    let (sessions, users, now) = table(8, 64);
    let open = |name| sessions.open(users.find(name).unwrap(), Origin::Login, now);
    let (a, b, c) = (open("alice"), open("alice"), open("bob"));
    let ended = sessions.ended();
    assert!(sessions.close(a.id.expose()) && !sessions.close(a.id.expose()));
    assert!(ended.has_changed().unwrap());
    let live = |opened: &Opened| sessions.look(&users, &opened.key, now).is_some();
    assert!(!live(&a) && live(&b) && live(&c));
    assert_eq!(
        (sessions.close_user("alice"), sessions.close_user("alice")),
        (1, 0)
    );
    assert!(!live(&b) && live(&c));
    assert_eq!(sessions.list(None, now).len(), 1);
    assert!(sessions.list(Some("alice"), now).is_empty());
}

#[test]
fn a_user_with_too_many_loses_the_one_idle_for_longest_of_the_same_origin() {
    let (sessions, users, now) = table(2, 64);
    let at = |s| now + Duration::from_secs(s);
    let open = |origin, s| sessions.open(users.find("alice").unwrap(), origin, at(s));
    let (person, first, second) = (
        open(Origin::Login, 0),
        open(Origin::Basic, 1),
        open(Origin::Basic, 2),
    );
    assert!(
        sessions.look(&users, &second.key, at(9)).is_some(),
        "a look is no use"
    );
    assert!(sessions.use_it(&users, &first.key, at(10)).is_some());
    let third = open(Origin::Basic, 11);
    let live = |opened: &Opened| sessions.look(&users, &opened.key, at(12)).is_some();
    assert!(live(&person) && live(&first) && !live(&second) && live(&third));
}

#[test]
fn a_full_table_ends_what_is_idle_for_longest() {
    let (sessions, users, now) = table(1000, 64);
    let at = |s| now + Duration::from_secs(s);
    let opened: Vec<_> = (0..65)
        .map(|n| sessions.open(users.find("alice").unwrap(), Origin::Login, at(n)))
        .collect();
    assert_eq!(sessions.len(), 64);
    assert!(sessions.look(&users, &opened[0].key, at(70)).is_none());
    assert!(sessions.look(&users, &opened[1].key, at(70)).is_some());
}
