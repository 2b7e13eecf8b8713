//! Trailer sections: which fields may stand in one (RFC 9110, 6.5.1), read and written.

use http::{HeaderMap, HeaderName, HeaderValue};

use crate::http1::field::{Name, classify, is_token};

/// Whose trailers they are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Of {
    /// A client's: no field that this gate knows by name, and none that an application could read as one.
    Request,
    /// A service's: no field that frames, routes or authenticates. Claims and underscores mean nothing in this direction.
    Answer,
}

impl Of {
    fn may_have_name(self, name: &[u8]) -> bool {
        match (self, classify(name)) {
            (_, (Name::Other, false)) => true,
            (Self::Request, _) => false,
            (Self::Answer, (known, _)) => matches!(
                known,
                Name::Other
                    | Name::Claim
                    | Name::PathOverride
                    | Name::MethodOverride
                    | Name::XRequestId
            ),
        }
    }

    /// Whether every field of a trailer section that came over HTTP/2 may stand in one.
    pub fn may_have(self, map: &HeaderMap) -> bool {
        map.keys().all(|name| {
            let name = name.as_str().as_bytes();
            is_token(name) && self.may_have_name(name)
        })
    }

    /// Trailers of a chunked body as a map.
    pub fn trailers(self, raw: &[u8]) -> Result<HeaderMap, &'static str> {
        let mut space = [httparse::EMPTY_HEADER; 64];
        let Ok(httparse::Status::Complete((_, parsed))) = httparse::parse_headers(raw, &mut space)
        else {
            return Err("a trailer section that cannot be read");
        };
        let mut map = HeaderMap::with_capacity(parsed.len());
        for header in parsed {
            if !self.may_have_name(header.name.as_bytes()) {
                return Err("a trailer that no trailer section may have");
            }
            let name = HeaderName::from_bytes(header.name.as_bytes());
            let value = HeaderValue::from_bytes(header.value.trim_ascii());
            let (Ok(name), Ok(value)) = (name, value) else {
                return Err("a trailer that cannot be read");
            };
            map.append(name, value);
        }
        Ok(map)
    }
}

/// Writes trailers and the empty line that ends a chunked body.
pub fn write_trailers(map: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in map {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether a section with this field is read, over HTTP/1.1 and over HTTP/2.
    fn passes(of: Of, name: &str) -> bool {
        let raw = of.trailers(format!("{name}: b\r\n\r\n").as_bytes());
        let Ok(name) = HeaderName::from_bytes(name.as_bytes()) else {
            panic!("{name} is no name");
        };
        let map = HeaderMap::from_iter([(name, HeaderValue::from_static("b"))]);
        assert_eq!(raw.is_ok(), of.may_have(&map), "{map:?}");
        raw.is_ok_and(|raw| raw == map)
    }

    #[test]
    fn what_frames_routes_or_authenticates_is_in_no_trailer_section() {
        for name in [
            "A",
            "grpc-status",
            "grpc-status-details-bin",
            "Server-Timing",
        ] {
            assert!(passes(Of::Request, name), "{name}");
            assert!(passes(Of::Answer, name), "{name}");
        }
        for name in [
            "my_key",
            "X-Envoy-Upstream-Service-Time",
            "X-Forwarded-For",
            "X_Loopgate_User",
            "X-HTTP-Method-Override",
            "X-Original-URL",
            "X-Request-Id",
        ] {
            assert!(!passes(Of::Request, name), "{name}");
            assert!(passes(Of::Answer, name), "{name}");
        }
        for name in [
            "Content-Length",
            "content_length",
            "Content.Length",
            "Transfer-Encoding",
            "Connection",
            "Keep-Alive",
            "Upgrade",
            "TE",
            "Host",
            "Location",
            "Refresh",
            "Set-Cookie",
            "set_cookie",
            "Authorization",
            "Loopgate-Token",
            "Content-Type",
            "X-Loopgate-Hops",
        ] {
            assert!(!passes(Of::Request, name), "{name}");
            assert!(!passes(Of::Answer, name), "{name}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_no_trailer_section() {
        for raw in ["A : b\r\n\r\n", ": b\r\n\r\n", "A: b\r\n", "A: \0\r\n\r\n"] {
            assert!(Of::Answer.trailers(raw.as_bytes()).is_err(), "{raw:?}");
            assert!(Of::Request.trailers(raw.as_bytes()).is_err(), "{raw:?}");
        }
        let many = |n| "A: b\r\n".repeat(n) + "\r\n";
        assert_eq!(Of::Answer.trailers(many(64).as_bytes()).unwrap().len(), 64);
        assert!(Of::Answer.trailers(many(65).as_bytes()).is_err());
    }

    #[test]
    fn what_is_written_is_read_again() {
        let raw = b"a: b\r\nmy_key: c\r\na: d\r\n\r\n";
        let map = Of::Answer.trailers(raw).unwrap();
        let mut out = Vec::new();
        write_trailers(&map, &mut out);
        assert_eq!(Of::Answer.trailers(&out).unwrap(), map);
    }
}
