//! Heads of both directions: one reading however they are cut, and the strict reader's.

use loopgate::http1::framing::{self, Body};
use loopgate::http1::head::{self, Field, Version};

use crate::strict::{self, Framing};

/// Where the head ends, when the bytes come in pieces of `n`.
fn end(data: &[u8], n: usize) -> Result<Option<usize>, head::HeadError> {
    let (mut seen, mut have) = (0, 0);
    loop {
        have = (have + n).min(data.len());
        match head::end(&data[..have], &mut seen) {
            Ok(None) if have < data.len() => {}
            found => return found,
        }
    }
}

fn whole(data: &[u8]) -> Option<&[u8]> {
    let found = end(data, data.len().max(1));
    for n in [1, 2, 3, 7] {
        assert_eq!(end(data, n), found, "cut into pieces of {n}");
    }
    let head = &data[..found.ok().flatten()?];
    assert!(head.ends_with(b"\r\n"));
    Some(head)
}

/// The fields as the strict reader has them.
fn read(head: &[u8], fields: &[Field]) -> Vec<(Vec<u8>, Vec<u8>)> {
    fields
        .iter()
        .map(|f| (f.name(head).to_ascii_lowercase(), f.value(head).to_vec()))
        .collect()
}

fn part<'h>(head: &'h [u8], range: &std::ops::Range<u32>) -> &'h [u8] {
    &head[range.start as usize..range.end as usize]
}

fn same(body: Body) -> Framing {
    match body {
        Body::None => Framing::None,
        Body::Length(n) => Framing::Length(n),
        Body::Chunked => Framing::Chunked,
        Body::Close => Framing::Close,
    }
}

pub fn request(data: &[u8]) {
    let Some(head) = whole(data) else { return };
    let mut fields = Vec::new();
    let Ok(read_head) = head::request(head, &mut fields, 128) else {
        return;
    };
    let Ok((body, keep)) = framing::of_request(head, &fields, read_head.version) else {
        return;
    };
    // Targets with such bytes are refused a step later, for both protocols (`flow/intake`).
    let target = part(head, &read_head.target);
    if !target.iter().all(u8::is_ascii_graphic) {
        return;
    }
    let (strict, n) =
        strict::request_head(head).expect("the strict reader takes what the gate takes");
    assert_eq!(n, head.len());
    assert_eq!(part(head, &read_head.method), strict.method);
    assert_eq!(part(head, &read_head.target), strict.target);
    assert_eq!(read_head.version == Version::Http11, strict.minor == 1);
    assert_eq!(read(head, &fields), strict.fields);
    assert_eq!(same(body), strict.framing);
    assert!(!keep || strict.minor == 1);
    if let Some(protocol) = framing::asked_upgrade(head, &fields, read_head.version, body) {
        assert!(body.is_empty() && strict.minor == 1);
        assert_eq!(strict::values(&strict.fields, "upgrade"), [protocol]);
        let lower = protocol.to_ascii_lowercase();
        assert!(
            !lower.starts_with(b"h2c") && !lower.starts_with(b"http") && !lower.contains(&b',')
        );
    }
}

pub fn response(data: &[u8]) {
    let Some((first, data)) = data.split_first() else {
        return;
    };
    let to_head = *first == b'H';
    let Some(head) = whole(data) else { return };
    let mut fields = Vec::new();
    let Ok(read_head) = head::response(head, &mut fields, 256) else {
        return;
    };
    let framed = framing::of_response(head, &fields, read_head.version, read_head.status, to_head);
    let Ok((body, keep)) = framed else { return };
    // Only the head is there: whatever needs more is not read by the strict reader.
    match strict::answer(head, to_head, true) {
        Ok(((status, strict, framing, _), _)) => {
            assert_eq!(read_head.status, status);
            assert_eq!(read(head, &fields), strict.fields);
            assert_eq!(same(body), framing);
            assert!(!keep || body != Body::Close);
        }
        Err(strict::Not::Yet) => assert!(!body.is_empty(), "a body that the gate does not see"),
        Err(strict::Not::Ever(why)) => {
            panic!("the gate takes what the strict reader does not: {why}")
        }
    }
}
