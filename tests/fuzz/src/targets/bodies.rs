//! Chunked bodies: the same data whatever the cut, and the strict reader's.

use loopgate::http1::chunked::{Decoder, Step, write};

use crate::strict;

/// Data, trailer section and length of the body.
type Decoded = (Vec<u8>, Vec<u8>, usize);

/// `None`: more is needed.
fn decode(input: &[u8], cut: usize, most: usize) -> Result<Option<Decoded>, &'static str> {
    let (mut decoder, mut data) = (Decoder::default(), Vec::new());
    let (mut at, mut have) = (0, 0);
    loop {
        match decoder.step(&input[at..have])? {
            Step::More if have == input.len() => return Ok(None),
            Step::More => have = (have + cut).min(input.len()),
            Step::Skip(n) => {
                assert!(n > 0 && at + n <= have);
                at += n;
            }
            Step::Data(n) => {
                assert!(n > 0 && at + n <= have);
                let n = n.min(most);
                data.extend_from_slice(&input[at..at + n]);
                at += n;
                decoder.took(n);
            }
            Step::End(n) => {
                assert!(at + n <= have && decoder.is_done());
                return Ok(Some((data, input[at..at + n].to_vec(), at + n)));
            }
        }
    }
}

pub fn chunked(input: &[u8]) {
    let whole = decode(input, input.len().max(1), usize::MAX);
    for (cut, most) in [(1, usize::MAX), (2, 1), (3, 2), (5, usize::MAX)] {
        let got = decode(input, cut, most);
        // An error may show later in small pieces, never another reading.
        match (&whole, &got) {
            (Ok(Some(_)), _) | (_, Ok(Some(_))) => {
                assert_eq!(got, whole, "cut into pieces of {cut}")
            }
            (Ok(None), Err(why)) => panic!("cut into pieces of {cut}: {why}"),
            (Ok(None), Ok(None)) | (Err(_), _) => {}
        }
    }
    let Ok(Some((data, trailers, n))) = whole else {
        return;
    };
    let (strict, at) =
        strict::chunk_data(input).expect("the strict reader takes what the gate takes");
    assert_eq!(data, strict);
    // What the lines of the trailer section say is judged later; here it ends at its empty line.
    assert_eq!(&input[at..n], trailers);
    let inner = trailers.strip_suffix(b"\r\n").expect("an empty line");
    assert!(inner.is_empty() || inner.ends_with(b"\r\n"));
    assert!(!inner.starts_with(b"\r\n") && !inner.windows(4).any(|w| w == b"\r\n\r\n"));
    let mut again = Vec::new();
    for piece in data.chunks(1000) {
        write(piece, &mut again);
    }
    again.extend_from_slice(b"0\r\n\r\n");
    assert_eq!(
        strict::chunks(&again)
            .expect("what is written can be read")
            .0,
        data
    );
}
