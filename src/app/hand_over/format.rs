//! What is said in a hand-over, word for word: of two versions each has to understand the other, or to refuse it. A sample is never
//! changed to make a test pass: what an earlier version says stays as it is, and what is new is added with a default.

use std::collections::BTreeSet;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::talk::{News, VERSION, Visits, line};
use super::trial::gate;
use super::{Last, Offer, READY, TAKEN};
use crate::app::control::{PROTOCOL, Verb};

/// What the old one has. The key hides nobody: it is zeros.
const OFFER: &str = r#"{"admin":[{"address":"127.0.0.1:9095","name":"127.0.0.1:9095","sockets":1}],"listeners":[{"address":"127.0.0.1:0","name":"127.0.0.1:8443","sockets":2}],"lockouts":LOCKOUTS,"manager":{"socket":"/run/systemd/notify","watchdog":30000000},"pid":4711}"#;

const LOCKOUTS: &str = r#"{"clients":[[11,-60,840,-60,2,1,0]],"pairs":[[13,-5,-5,-5,1,0,3]],"secret":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"taken":1796000000,"users":[[12,-60,840,-60,2,1,0]]}"#;

/// What it says last before it stops.
const LAST: &str = r#"{"has_lock":true,"lockouts":LOCKOUTS,"visits":{"links":[LINK],"says_over":true,"sessions":[SESSION],"version":1}}"#;

const SESSION: &str = r#"{"age":60000,"idle":1000,"key":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","origin":"login","stored":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","user":"alice"}"#;

const LINK: &str = r#"{"ends":1796003600,"host":"app.lan","id":"abcdefgh","left":3600000,"link":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","path":"/photos","session":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA","used":1796000000}"#;

/// What either says to the other afterwards.
const NEWS: [&str; 6] = [
    r#"{"session":{"began":SESSION}}"#,
    r#"{"session":{"ended":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}}"#,
    r#"{"link-ended":"abcdefgh"}"#,
    r#""lost-track""#,
    r#"{"last":{"has_lock":false,"lockouts":LOCKOUTS}}"#,
    r#""over""#,
];

fn whole(sample: &str) -> String {
    let with = [("LOCKOUTS", LOCKOUTS), ("SESSION", SESSION), ("LINK", LINK)];
    with.iter().fold(sample.to_owned(), |text, (name, part)| {
        text.replace(name, part)
    })
}

fn value(sample: &str) -> Value {
    serde_json::from_str(&whole(sample)).unwrap()
}

/// What is read and written again; an error when it is not read.
fn again<T: Serialize + DeserializeOwned>(told: Value) -> Result<Value, String> {
    let read: T = serde_json::from_value(told).map_err(|error| error.to_string())?;
    Ok(serde_json::to_value(read).unwrap())
}

/// With another field.
fn with(mut told: Value, at: &str, field: Value) -> Value {
    let (place, name) = at.rsplit_once('/').unwrap();
    let place = told.pointer_mut(place).unwrap().as_object_mut().unwrap();
    place.insert(name.into(), field);
    told
}

/// Without one.
fn without(mut told: Value, at: &str) -> Value {
    let (place, name) = at.rsplit_once('/').unwrap();
    let place = told.pointer_mut(place).unwrap().as_object_mut().unwrap();
    assert!(place.remove(name).is_some(), "{at}");
    told
}

/// The names of all fields, and of what kind each is; of a list what is in it.
fn shape(told: &Value) -> Value {
    match told {
        Value::Object(fields) => fields.iter().map(|(k, v)| (k.clone(), shape(v))).collect(),
        Value::Array(all) => all.first().map_or(json!([]), |one| json!([shape(one)])),
        Value::Null => json!("none"),
        Value::Bool(_) => json!("bool"),
        Value::Number(_) => json!("number"),
        Value::String(_) => json!("text"),
    }
}

#[test]
fn what_is_said_today_is_what_was_said_before() {
    // The line of the control socket has its version beside it (`app/control/words`).
    assert_eq!(json!(Verb::TakeOver), json!({ "do": "take-over" }));
    assert_eq!(PROTOCOL, 1);
    assert_eq!((READY, TAKEN, VERSION), ("ready\n", "taken\n", 1));
    assert_eq!(again::<Offer>(value(OFFER)), Ok(value(OFFER)));
    assert_eq!(again::<Last>(value(LAST)), Ok(value(LAST)));
    let visits = value(LAST)["visits"].take();
    assert_eq!(again::<Visits>(visits.clone()), Ok(visits));
    for sample in NEWS.map(whole) {
        let news: News = serde_json::from_str(&sample).unwrap();
        let told = line(&news).unwrap();
        assert_eq!(told.find('\n'), Some(told.len() - 1));
        assert_eq!(value(&told), value(&sample));
    }
}

#[test]
fn what_is_really_told_has_the_shape_of_the_samples() {
    use std::time::{Duration, Instant, SystemTime};

    use crate::auth::session::Origin;
    use crate::auth::share::Limits;
    use crate::auth::users::Users;

    let (gate, now, wall) = (gate(), Instant::now(), SystemTime::now());
    let hash = "$2y$10$WvxEgpQ8RNJKDyxOCCnlG.DT9q4OaALOaq3VmRpZ5QQOXtV4I1MGC";
    let users = Users::parse(format!("alice:{hash}").as_bytes())
        .unwrap()
        .users;
    let alice = users.find("alice").unwrap();
    drop(gate.sessions.open(alice, Origin::Login, now));
    let limits = Limits {
        host: Some("app.lan".into()),
        path: "/photos".into(),
    };
    let life = Duration::from_secs(3600);
    let (_, secret) = gate.shares.open(limits, life, now, wall).unwrap();
    gate.shares.redeem(secret.expose(), now, wall).unwrap();
    let (visits, _following) = Visits::of(&gate).unwrap();
    let told = serde_json::to_value(visits).unwrap();
    assert_eq!(shape(&told), shape(&value(LAST)["visits"]));
    let lockouts = serde_json::to_value(gate.lockout.snapshot(now, wall)).unwrap();
    let names = |told: &Value| told.as_object().unwrap().keys().cloned().collect();
    let [told, sample]: [BTreeSet<String>; 2] = [&lockouts, &value(LOCKOUTS)].map(names);
    assert_eq!(told, sample);
}

#[test]
fn what_earlier_versions_say_is_understood() {
    // The first one knew of no manager and of no sessions; the next did not say when it is over.
    let read: Offer = serde_json::from_value(without(value(OFFER), "/manager")).unwrap();
    assert!(read.manager.is_none() && read.listeners[0].sockets == 2);
    let read: Last = serde_json::from_value(without(value(LAST), "/visits")).unwrap();
    assert!(read.visits.is_none() && read.has_lock && read.lockouts.is_some());
    let told = without(value(LAST)["visits"].take(), "/says_over");
    let visits = Visits::read(told).unwrap().unwrap();
    assert!(!visits.says_over());
}

#[test]
fn what_a_later_version_may_say_is_understood_or_refused() {
    let more = json!({ "of": "tomorrow" });
    // Nobody gets more by it than he had.
    for at in [
        "/more",
        "/listeners/0/more",
        "/admin/0/more",
        "/manager/more",
    ] {
        let told = with(value(OFFER), at, more.clone());
        assert_eq!(again::<Offer>(told), Ok(value(OFFER)), "{at}");
    }
    let told = with(value(LAST), "/more", more.clone());
    assert_eq!(again::<Last>(told), Ok(value(LAST)));
    // Who is locked out must not be let in for something that is not known here.
    let told = with(value(OFFER), "/lockouts/more", more.clone());
    let why = again::<Offer>(told).unwrap_err();
    assert!(why.contains("unknown field `more`"), "{why}");
    let told = with(value(LAST), "/lockouts/more", more.clone());
    assert!(again::<Last>(told).is_err());
    // Something is missing, or something else than it was.
    for at in [
        "/pid",
        "/listeners",
        "/admin",
        "/lockouts",
        "/listeners/0/sockets",
    ] {
        let why = again::<Offer>(without(value(OFFER), at)).unwrap_err();
        assert!(why.contains("missing field"), "{at}: {why}");
        assert!(
            again::<Offer>(with(value(OFFER), at, json!("x"))).is_err(),
            "{at}"
        );
    }
    assert!(again::<Last>(without(value(LAST), "/has_lock")).is_err());
}

#[test]
fn sessions_and_links_of_a_later_version_are_left_behind() {
    let told = value(LAST)["visits"].take();
    assert!(matches!(Visits::read(told.clone()), Ok(Some(_))));
    // Whatever a later one looks like.
    for later in [
        json!({ "version": 2 }),
        json!({ "version": 9, "sessions": { "a": 1 } }),
    ] {
        assert!(matches!(Visits::read(later.clone()), Ok(None)), "{later}");
    }
    for broken in [
        json!({}),
        json!([]),
        json!({ "version": 1 }),
        json!({ "version": -1 }),
    ] {
        assert!(Visits::read(broken.clone()).is_err(), "{broken}");
    }
    // A field that is not known may be what limits it.
    let gate = gate();
    let take = |told: Value| Visits::read(told).unwrap().unwrap().take(&gate);
    let mut limited = told.clone();
    for at in ["/links/0/more", "/sessions/0/more"] {
        limited = with(limited, at, json!(["GET"]));
    }
    assert_eq!(take(limited), (0, 0));
    // There is no such user here.
    assert_eq!(take(told), (0, 1), "but the link is good");
}
