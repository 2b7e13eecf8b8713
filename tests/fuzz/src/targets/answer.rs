//! The bytes of a service: a client gets the answer that the strict reader finds in them, or sees that there is none.

use crate::gate::{self, Protocol};
use crate::service::Script;
use crate::strict;

const LONGEST: usize = 8 << 10;

pub fn run(data: &[u8]) {
    let Some((first, text)) = data.split_first().filter(|(_, text)| text.len() <= LONGEST) else {
        return;
    };
    let to_head = *first == b'H';
    let method = if to_head { "HEAD" } else { "POST" };
    let request = format!("{method} / HTTP/1.1\r\nHost: app.lan\r\n\r\n");
    let outcome = gate::converse(
        Protocol::Http1,
        None,
        &[request.as_bytes()],
        Script::Once(text.into()),
    );
    let mut rest = &outcome.answers[..];
    let mut got = None;
    while !rest.is_empty() {
        match strict::answer(rest, to_head, true) {
            Ok(((status, ..), n)) if (100..200).contains(&status) => {
                assert_ne!(status, 101, "nobody asked for a tunnel");
                rest = &rest[n..];
            }
            Ok((found, n)) => {
                assert!(
                    got.is_none(),
                    "two answers: {:?}",
                    String::from_utf8_lossy(&outcome.answers)
                );
                got = Some(found);
                rest = &rest[n..];
            }
            // Cut: the client sees it.
            Err(strict::Not::Yet) => break,
            Err(strict::Not::Ever(why)) => {
                panic!("{why} in {:?}", String::from_utf8_lossy(&outcome.answers))
            }
        }
    }
    let Some((status, head, framing, body)) = got else {
        return;
    };
    let mut said = text;
    let found = loop {
        match strict::answer(said, to_head, true) {
            Ok(((status, ..), n)) if (100..200).contains(&status) && status != 101 => {
                said = &said[n..]
            }
            found => break found,
        }
    };
    // Our own refusal.
    if status >= 502 && !strict::values(&head.fields, "x-content-type-options").is_empty() {
        return;
    }
    match found {
        Ok(((told, _, _, whole), _)) => {
            assert_eq!(status, told);
            assert_eq!(body, whole, "{framing:?}");
        }
        Err(why) => panic!(
            "an answer of {status} made from {why:?}: {:?}",
            String::from_utf8_lossy(text)
        ),
    }
}
