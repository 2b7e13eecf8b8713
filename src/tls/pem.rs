//! PEM (RFC 7468): written, and its mistakes in words.

use std::borrow::Cow;

use data_encoding::BASE64;
use rustls::pki_types::pem::Error;

/// DER as PEM, 64 characters a line.
pub(super) fn encode(label: &str, der: &[u8]) -> String {
    let mut text = String::with_capacity(der.len() / 48 * 65 + 128);
    text.push_str(&format!("-----BEGIN {label}-----\n"));
    for line in der.chunks(48) {
        BASE64.encode_append(line, &mut text);
        text.push('\n');
    }
    text.push_str(&format!("-----END {label}-----\n"));
    text
}

/// What is wrong with a PEM text. The library shows bytes as numbers, and may show a line that belongs to a key.
pub fn fault(error: &Error) -> Cow<'static, str> {
    match error {
        Error::MissingSectionEnd { end_marker } => {
            let label = end_marker.iter().map(|c| match c {
                b' '..=b'~' => char::from(*c),
                _ => '?',
            });
            let label: String = label.take(64).collect();
            format!("it breaks off: the line `-----END {label}-----` is missing").into()
        }
        Error::IllegalSectionStart { .. } => {
            "a line that begins with `-----BEGIN ` does not end with `-----`".into()
        }
        Error::Base64Decode(_) => "between its lines of dashes stands what is no base64".into(),
        Error::NoItemsFound => "it has none of the sections that are meant".into(),
        other => other.to_string().into(),
    }
}

#[cfg(test)]
mod tests {
    use rustls::pki_types::CertificateDer;
    use rustls::pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn what_is_wrong_is_said_in_words() {
        for (text, want) in [
            (
                "-----BEGIN CERTIFICATE-----\nAAAA\n",
                "it breaks off: the line `-----END CERTIFICATE-----` is missing",
            ),
            (
                "-----BEGIN CERTIFICATE\nAAAA\n-----END CERTIFICATE-----\n",
                "a line that begins with `-----BEGIN ` does not end with `-----`",
            ),
            (
                "-----BEGIN CERTIFICATE-----\n!!!!\n-----END CERTIFICATE-----\n",
                "between its lines of dashes stands what is no base64",
            ),
        ] {
            let error = CertificateDer::from_pem_slice(text.as_bytes()).unwrap_err();
            assert_eq!(fault(&error), want, "{text}");
        }
    }
}
