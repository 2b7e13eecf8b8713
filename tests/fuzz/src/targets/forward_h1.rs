//! A client's bytes over HTTP/1.1: what the service gets are requests that the strict reader finds in those bytes, in their
//! order, and nothing else.

use super::clean::{self, Asked};
use crate::gate::{self, Outcome, Protocol};
use crate::service::Script;
use crate::strict::{self, Not, Request};

/// More is for the chunk and the head targets.
const LONGEST: usize = 8 << 10;

pub fn run(data: &[u8]) {
    let Some((cut, input)) = data
        .split_first()
        .filter(|(_, input)| input.len() <= LONGEST)
    else {
        return;
    };
    let outcome = gate::converse(Protocol::Http1, None, &gate::cut(*cut, input), Script::Ok);
    let (whole, begun) = asked(input);
    forwarded(&outcome, &whole, begun.as_ref());
    answered(&outcome, &whole, begun.as_ref());
}

/// Every whole request of the bytes, and the one that has begun when they end.
fn asked(mut input: &[u8]) -> (Vec<Asked>, Option<Asked>) {
    let mut whole = Vec::new();
    loop {
        match strict::request(input) {
            Ok((request, n)) => {
                whole.push(of(request));
                input = &input[n..];
            }
            // A body may be broken far behind its head: what came before may have been passed on.
            Err(Not::Yet | Not::Ever(_)) => {
                return (whole, strict::request_head(input).ok().map(|(r, _)| of(r)));
            }
        }
    }
}

fn of(request: Request) -> Asked {
    let target = match request.target.windows(3).position(|w| w == b"://") {
        Some(at) if !request.target.starts_with(b"/") => {
            let rest = &request.target[at + 3..];
            match rest.iter().position(|c| *c == b'/') {
                Some(slash) => rest[slash..].to_vec(),
                None => b"/".to_vec(),
            }
        }
        _ => request.target.clone(),
    };
    let host = strict::values(&request.fields, "host")
        .first()
        .map(|h| h.to_vec())
        .unwrap_or_default();
    Asked {
        method: request.method,
        target,
        host,
        fields: request.fields,
        body: request.body,
        trailers: request.trailers,
    }
}

fn forwarded(outcome: &Outcome, whole: &[Asked], begun: Option<&Asked>) {
    let cookie = gate::world().cookie();
    let mut next = 0;
    for conversation in &outcome.conversations {
        assert_eq!(conversation.bad, None, "{conversation:?}");
        for request in &conversation.requests {
            clean::alone(request, &cookie);
            let found = whole[next..]
                .iter()
                .position(|asked| clean::is_head_of(request, asked));
            let Some(found) = found else {
                panic!("nobody asked for {request:?}; asked were {whole:?} and {begun:?}")
            };
            clean::compare(request, &whole[next + found]);
            next += found + 1;
        }
        if !conversation.rest.is_empty() {
            let (request, _) = strict::request_head(&conversation.rest).expect("a whole head");
            clean::alone(&request, &cookie);
            let known = whole[next.min(whole.len())..]
                .iter()
                .chain(begun)
                .any(|asked| clean::is_head_of(&request, asked));
            assert!(
                known,
                "nobody began {request:?}; asked were {whole:?} and {begun:?}"
            );
        }
    }
}

/// The client reads whole answers, one a request, up to the refusal that ends the connection.
fn answered(outcome: &Outcome, whole: &[Asked], begun: Option<&Asked>) {
    let (mut rest, mut answers, mut good) = (&outcome.answers[..], 0, 0);
    while !rest.is_empty() {
        let asked = whole.iter().chain(begun).nth(answers);
        let to_head = asked.is_some_and(|asked| asked.method == b"HEAD");
        match strict::answer(rest, to_head, true) {
            Ok(((status, head, _, body), n)) => {
                assert!((200..600).contains(&status), "{status}");
                answers += 1;
                // A page of ours says so.
                if status == 200
                    && strict::values(&head.fields, "x-content-type-options").is_empty()
                {
                    good += 1;
                    assert!(to_head || body == b"ok");
                }
                let closes = strict::values(&head.fields, "connection")
                    .iter()
                    .any(|v| v.eq_ignore_ascii_case(b"close"));
                if closes {
                    assert!(rest.len() == n || to_head, "bytes behind the last answer");
                    break;
                }
                rest = &rest[n..];
            }
            Err(why) => panic!(
                "{why:?} in the answers {:?}",
                String::from_utf8_lossy(&outcome.answers)
            ),
        }
    }
    let passed: usize = outcome.conversations.iter().map(|c| c.requests.len()).sum();
    assert!(good <= passed, "{good} good answers to {passed} requests");
    assert!(
        answers <= whole.len() + 1,
        "{answers} answers to {} requests",
        whole.len()
    );
}
