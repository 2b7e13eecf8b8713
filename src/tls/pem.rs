//! PEM, the writing half (RFC 7468).

use data_encoding::BASE64;

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
