//! A second reader of HTTP/1.1, written for the fuzz targets from RFC 9110 and 9112 alone; it shares no line and no crate with the
//! gate. Strict where the standards are; what it reads has one reading.

/// One message head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Head {
    pub first: Vec<u8>,
    /// Names in lower case, values without the white space around them.
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A request, read whole.
#[derive(Clone, PartialEq, Eq)]
pub struct Request {
    pub method: Vec<u8>,
    pub target: Vec<u8>,
    pub minor: u8,
    pub fields: Vec<(Vec<u8>, Vec<u8>)>,
    pub framing: Framing,
    pub body: Vec<u8>,
    pub trailers: Vec<(Vec<u8>, Vec<u8>)>,
}

impl std::fmt::Debug for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        show(
            f,
            &[&self.method, &self.target],
            &[&self.fields, &self.trailers],
            &self.body,
        )
    }
}

/// Words, fields and a body as text, for those who look at a finding.
pub fn show(
    f: &mut std::fmt::Formatter<'_>,
    words: &[&[u8]],
    lists: &[&Fields],
    body: &[u8],
) -> std::fmt::Result {
    for word in words {
        write!(f, "`{}` ", word.escape_ascii())?;
    }
    for list in lists {
        write!(f, "{{ ")?;
        for (name, value) in list.iter() {
            write!(f, "`{}: {}` ", name.escape_ascii(), value.escape_ascii())?;
        }
        write!(f, "}} ")?;
    }
    write!(f, "`{}`", body.escape_ascii())
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Framing {
    None,
    Length(u64),
    Chunked,
    /// Until the connection ends; answers only.
    Close,
}

/// Why there is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Not {
    /// More bytes may make one.
    Yet,
    /// No bytes that follow can.
    Ever(&'static str),
}

type Fields = Vec<(Vec<u8>, Vec<u8>)>;
type Read<T> = Result<(T, usize), Not>;

/// One line up to CR LF, as its text and the length with the line end.
fn line(input: &[u8]) -> Read<&[u8]> {
    for (i, c) in input.iter().enumerate() {
        match c {
            b'\n' => return Err(Not::Ever("a bare LF")),
            b'\r' => {
                return match input.get(i + 1) {
                    None => Err(Not::Yet),
                    Some(b'\n') => Ok((&input[..i], i + 2)),
                    Some(_) => Err(Not::Ever("a bare CR")),
                };
            }
            _ => {}
        }
    }
    Err(Not::Yet)
}

fn tchar(c: u8) -> bool {
    matches!(
        c,
        b'!' | b'#'
            | b'$'
            | b'%'
            | b'&'
            | b'\''
            | b'*'
            | b'+'
            | b'-'
            | b'.'
            | b'^'
            | b'_'
            | b'`'
            | b'|'
            | b'~'
    ) || c.is_ascii_digit()
        || c.is_ascii_alphabetic()
}

pub fn token(text: &[u8]) -> bool {
    !text.is_empty() && text.iter().all(|c| tchar(*c))
}

fn field(line: &[u8]) -> Result<(Vec<u8>, Vec<u8>), Not> {
    let colon = line
        .iter()
        .position(|c| *c == b':')
        .ok_or(Not::Ever("a field line without a colon"))?;
    let (name, value) = (&line[..colon], &line[colon + 1..]);
    if !token(name) {
        return Err(Not::Ever("a field name that is no token"));
    }
    if value
        .iter()
        .any(|c| (*c < 0x20 && *c != b'\t') || *c == 0x7f)
    {
        return Err(Not::Ever("a control byte in a value"));
    }
    Ok((name.to_ascii_lowercase(), trim(value).to_vec()))
}

pub fn trim(mut text: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
        text = rest;
    }
    text
}

/// Lines of fields up to the empty one.
fn fields(input: &[u8]) -> Read<Vec<(Vec<u8>, Vec<u8>)>> {
    let (mut at, mut found) = (0, Vec::new());
    loop {
        let (text, n) = line(&input[at..])?;
        at += n;
        if text.is_empty() {
            return Ok((found, at));
        }
        found.push(field(text)?);
    }
}

pub fn head(input: &[u8]) -> Read<Head> {
    let (first, n) = line(input)?;
    if first.is_empty() {
        return Err(Not::Ever("an empty line where a message begins"));
    }
    let (fields, m) = fields(&input[n..])?;
    Ok((
        Head {
            first: first.to_vec(),
            fields,
        },
        n + m,
    ))
}

fn version(text: &[u8]) -> Result<u8, Not> {
    match text {
        b"HTTP/1.0" => Ok(0),
        b"HTTP/1.1" => Ok(1),
        _ => Err(Not::Ever("another version")),
    }
}

/// Everything that says how long the body is, in both spellings of the hyphen.
fn framing(fields: &[(Vec<u8>, Vec<u8>)], minor: u8) -> Result<Framing, Not> {
    let mut found = Framing::None;
    for (name, value) in fields {
        let name: Vec<u8> = name
            .iter()
            .map(|c| if *c == b'_' { b'-' } else { *c })
            .collect();
        let said = match &name[..] {
            b"content-length" => {
                if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
                    return Err(Not::Ever("a length that is no number"));
                }
                if value.len() > 1 && value[0] == b'0' {
                    return Err(Not::Ever("a length that may be octal"));
                }
                let text = std::str::from_utf8(value).map_err(|_| Not::Ever("a length"))?;
                match text.parse::<i64>() {
                    Ok(n) => Framing::Length(n.unsigned_abs()),
                    Err(_) => return Err(Not::Ever("a length that is too large")),
                }
            }
            b"transfer-encoding" if minor == 0 => return Err(Not::Ever("a coding in HTTP/1.0")),
            b"transfer-encoding" if value.to_ascii_lowercase() == b"chunked" => Framing::Chunked,
            b"transfer-encoding" => return Err(Not::Ever("another coding")),
            _ => continue,
        };
        if found != Framing::None {
            return Err(Not::Ever("two lengths"));
        }
        found = said;
    }
    Ok(found)
}

/// The head of a request: without its body, which may be anywhere.
pub fn request_head(input: &[u8]) -> Read<Request> {
    let (head, n) = head(input)?;
    let mut words = head.first.split(|c| *c == b' ');
    let (Some(method), Some(target), Some(minor), None) =
        (words.next(), words.next(), words.next(), words.next())
    else {
        return Err(Not::Ever("a request line without three words"));
    };
    if !token(method) {
        return Err(Not::Ever("a method that is no token"));
    }
    if target.is_empty() || target.iter().any(|c| *c <= b' ' || *c >= 0x7f) {
        return Err(Not::Ever("a target with other characters"));
    }
    let minor = version(minor)?;
    let framing = framing(&head.fields, minor)?;
    let (method, target) = (method.to_vec(), target.to_vec());
    let request = Request {
        method,
        target,
        minor,
        fields: head.fields,
        framing,
        body: Vec::new(),
        trailers: Vec::new(),
    };
    Ok((request, n))
}

/// A whole request.
pub fn request(input: &[u8]) -> Read<Request> {
    let (mut request, n) = request_head(input)?;
    let (body, trailers, m) = body(&input[n..], request.framing)?;
    (request.body, request.trailers) = (body, trailers);
    Ok((request, n + m))
}

/// The answer's status, whether it is final, and its body, to a request with this method.
pub fn answer(input: &[u8], to_head: bool, ended: bool) -> Read<(u16, Head, Framing, Vec<u8>)> {
    let (head, n) = head(input)?;
    let line = &head.first;
    if line.len() < 12 || line[8] != b' ' || line.get(12).is_some_and(|c| *c != b' ') {
        return Err(Not::Ever("a status line that is none"));
    }
    let minor = version(&line[..8])?;
    if line[12..]
        .iter()
        .any(|c| (*c < 0x20 && *c != b'\t') || *c == 0x7f)
    {
        return Err(Not::Ever("a control byte in a phrase"));
    }
    let digits = &line[9..12];
    if !digits.iter().all(u8::is_ascii_digit) {
        return Err(Not::Ever("a status that is no number"));
    }
    let status = digits
        .iter()
        .fold(0u16, |n, c| n * 10 + u16::from(c - b'0'));
    let said = framing(&head.fields, minor)?;
    let none = to_head || matches!(status, 100..=199 | 204 | 304);
    let framing = match said {
        _ if none => Framing::None,
        Framing::None => Framing::Close,
        said => said,
    };
    if framing == Framing::Close {
        return if ended {
            Ok(((status, head, framing, input[n..].to_vec()), input.len()))
        } else {
            Err(Not::Yet)
        };
    }
    let (body, _, m) = body(&input[n..], framing)?;
    Ok(((status, head, framing, body), n + m))
}

fn body(input: &[u8], framing: Framing) -> Result<(Vec<u8>, Fields, usize), Not> {
    match framing {
        Framing::None | Framing::Close => Ok((Vec::new(), Vec::new(), 0)),
        Framing::Length(n) => match usize::try_from(n).ok().filter(|n| *n <= input.len()) {
            Some(n) => Ok((input[..n].to_vec(), Vec::new(), n)),
            None => Err(Not::Yet),
        },
        Framing::Chunked => chunks(input),
    }
}

/// A chunked body with its trailers, and its length.
pub fn chunks(input: &[u8]) -> Result<(Vec<u8>, Fields, usize), Not> {
    let (data, at) = chunk_data(input)?;
    let (trailers, n) = fields(&input[at..])?;
    Ok((data, trailers, at + n))
}

/// The data of a chunked body, and where its trailers begin.
pub fn chunk_data(input: &[u8]) -> Read<Vec<u8>> {
    let (mut at, mut data) = (0, Vec::new());
    loop {
        let (text, n) = line(&input[at..])?;
        let size = chunk_size(text)?;
        at += n;
        if size == 0 {
            return Ok((data, at));
        }
        let end = usize::try_from(size)
            .ok()
            .and_then(|n| at.checked_add(n))
            .ok_or(Not::Yet)?;
        match input.get(end..) {
            None => return Err(Not::Yet),
            Some([]) | Some([b'\r']) => return Err(Not::Yet),
            Some([b'\r', b'\n', ..]) => {}
            Some(_) => return Err(Not::Ever("a chunk that goes on")),
        }
        data.extend_from_slice(&input[at..end]);
        at = end + 2;
    }
}

/// `1*HEXDIG *( ";" token [ "=" ( token / quoted-string ) ] )`, the string of visible characters without a backslash.
fn chunk_size(text: &[u8]) -> Result<u64, Not> {
    let count = text.iter().take_while(|c| c.is_ascii_hexdigit()).count();
    let (digits, mut rest) = text.split_at(count);
    if digits.is_empty() {
        return Err(Not::Ever("a chunk size that is no number"));
    }
    while !rest.is_empty() {
        let ext = rest
            .strip_prefix(b";")
            .ok_or(Not::Ever("a chunk size that goes on"))?;
        rest = after_token(ext)?;
        let Some(value) = rest.strip_prefix(b"=") else {
            continue;
        };
        rest = match value.strip_prefix(b"\"") {
            None => after_token(value)?,
            Some(quoted) => {
                let end = quoted.iter().position(|c| *c == b'"');
                let end = end.ok_or(Not::Ever("a quotation mark that is not closed"))?;
                let inner = &quoted[..end];
                if inner.iter().any(|c| !c.is_ascii_graphic() || *c == b'\\') {
                    return Err(Not::Ever("a chunk extension with other characters"));
                }
                &quoted[end + 1..]
            }
        };
    }
    let text = std::str::from_utf8(digits).map_err(|_| Not::Ever("a chunk size"))?;
    let size = i64::from_str_radix(text, 16);
    size.map(i64::unsigned_abs)
        .map_err(|_| Not::Ever("a chunk size that is too large"))
}

/// What follows a token, which must be there.
fn after_token(text: &[u8]) -> Result<&[u8], Not> {
    match text.iter().take_while(|c| tchar(**c)).count() {
        0 => Err(Not::Ever("no token in a chunk extension")),
        n => Ok(&text[n..]),
    }
}

/// The values of every field with this name.
pub fn values<'f>(fields: &'f [(Vec<u8>, Vec<u8>)], name: &str) -> Vec<&'f [u8]> {
    fields
        .iter()
        .filter(|(n, _)| n == name.as_bytes())
        .map(|(_, v)| &v[..])
        .collect()
}
