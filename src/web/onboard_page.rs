//! How a device comes to trust the local authority: the certificate, how to compare it, and what to tap on each system.

use aws_lc_rs::digest::{SHA256, digest};
use data_encoding::{BASE64, HEXUPPER};
use fast_qr::{ECL, QRBuilder};
use maud::{Markup, PreEscaped, html};

use super::html::{Frame, page};
use super::{ONBOARD_CRT, ONBOARD_PROFILE};

/// What the page shows.
#[derive(Clone, Copy, Debug)]
pub struct OnboardPage<'a> {
    /// Which gate this is.
    pub realm: &'a str,
    /// The fingerprint of the authority, as devices show it.
    pub fingerprint: &'a str,
    /// Where this page is, for another device.
    pub url: &'a str,
}

/// The page.
pub fn onboard_page(shown: &OnboardPage<'_>) -> String {
    let title = "Trust this gate";
    page(
        Frame {
            is_wide: true,
            ..Frame::new(title, shown.realm)
        },
        html! {
            h1 { (title) }
            p {
                "This gate has certificates of its own authority. A device that trusts the authority opens its addresses without a \
                 warning, and notices a stranger who answers in its place. The authority can sign for private names and addresses only."
            }
            div.row {
                a.button href=(ONBOARD_CRT) { "Certificate (.crt)" }
                a.button.plain href=(ONBOARD_PROFILE) { "Profile for iPhone, iPad (.mobileconfig)" }
            }
            h2 { "Compare before you trust it" }
            p {
                "Until then nothing proves that this page is the real one. Look at the fingerprint (SHA-256) that " strong { "your device" }
                " shows for the certificate, and at the one in the terminal where " code { "loopgate onboard" } " or "
                code { "loopgate ca show" } " runs. They must be the same. This page says:"
            }
            p { code { (shown.fingerprint) } }
            (steps())
            h2 { "Another device" }
            p.soft { code { (shown.url) } }
            @if let Some(code) = code(shown.url) { (code) }
        },
        html! { p { "Protected by loopgate. This page is open for a short time only." } },
    )
}

/// What to do on each system. Names of menus as they are in the current versions.
fn steps() -> Markup {
    let systems: [(&str, &[&str]); 6] = [
        (
            "iPhone, iPad",
            &[
                "Open this page in Safari, tap the profile, allow the download.",
                "Settings, General, VPN & Device Management: tap the profile, More Details, compare the fingerprint, Install.",
                "Settings, General, About, Certificate Trust Settings: switch the authority on. Without this step nothing changes.",
            ],
        ),
        (
            "Android",
            &[
                "Tap the certificate to download it.",
                "Settings: search for “CA certificate” (Security, Encryption & credentials, Install a certificate), choose it, confirm the warning.",
                "Trusted credentials, User: tap it and compare the fingerprint; remove it when it is another one.",
                "Chrome trusts it now. Firefox: Settings, About Firefox, tap the logo five times, then Secret Settings, Use third party CA certificates.",
            ],
        ),
        (
            "Windows",
            &[
                "Open the downloaded certificate. Details, Thumbprint shows SHA-1: compare with certutil -hashfile loopgate-ca.crt SHA256.",
                "General, Install Certificate, Current User, Place in the following store, Trusted Root Certification Authorities.",
            ],
        ),
        (
            "macOS",
            &[
                "Open the downloaded certificate: Keychain Access adds it to the login keychain.",
                "Open it there, compare SHA-256 under Details, then Trust, When using this certificate: Always Trust.",
            ],
        ),
        (
            "Linux (Debian, Ubuntu)",
            &[
                "Compare: openssl x509 -inform der -in loopgate-ca.crt -noout -fingerprint -sha256",
                "sudo sh -c 'openssl x509 -inform der -in loopgate-ca.crt > /usr/local/share/ca-certificates/loopgate-ca.crt && update-ca-certificates'; Chromium has its own list: Settings, Certificates.",
            ],
        ),
        (
            "Firefox on a computer",
            &[
                "It asks the system on Windows and macOS. Elsewhere: Settings, Certificates, View Certificates, Authorities, Import.",
                "View shows the fingerprint; tick “Trust this CA to identify websites”.",
            ],
        ),
    ];
    html! {
        @for (name, steps) in systems {
            h2 { (name) }
            ol { @for step in steps { li { (step) } } }
        }
    }
}

/// A QR code as a picture: one path, with the quiet zone that scanners need. `None` for what no code can hold.
fn code(text: &str) -> Option<Markup> {
    const QUIET: usize = 4;
    let code = QRBuilder::new(text).ecl(ECL::M).build().ok()?;
    let side = code.size + 2 * QUIET;
    let mut path = String::new();
    for row in 0..code.size {
        for column in (0..code.size).filter(|column| code[row][*column].value()) {
            path += &format!("M{} {}h1v1h-1z", column + QUIET, row + QUIET);
        }
    }
    Some(html! {
        svg role="img" aria-label="QR code of this address" width="220" height="220" viewBox=(format!("0 0 {side} {side}"))
            shape-rendering="crispEdges" {
            rect width=(side) height=(side) fill="#fff";
            path d=(PreEscaped(path)) fill="#000";
        }
    })
}

/// The certificate as a configuration profile of iOS and macOS: unsigned, for trust and nothing else. The same authority has the
/// same identifiers, so that it replaces itself.
pub fn profile(certificate: &[u8], fingerprint: &str) -> String {
    let short = fingerprint.get(..11).unwrap_or(fingerprint);
    let payload = uuid(certificate, b"certificate");
    let whole = uuid(certificate, b"profile");
    let data = BASE64.encode(certificate);
    format!(
        r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0">
<dict>
  <key>PayloadContent</key>
  <array>
    <dict>
      <key>PayloadCertificateFileName</key><string>loopgate-ca.crt</string>
      <key>PayloadContent</key><data>{data}</data>
      <key>PayloadDescription</key><string>The authority of a loopgate; it can sign for private names and addresses only.</string>
      <key>PayloadDisplayName</key><string>loopgate authority {short}</string>
      <key>PayloadIdentifier</key><string>loopgate.ca.{payload}</string>
      <key>PayloadType</key><string>com.apple.security.root</string>
      <key>PayloadUUID</key><string>{payload}</string>
      <key>PayloadVersion</key><integer>1</integer>
    </dict>
  </array>
  <key>PayloadDescription</key><string>SHA-256 {fingerprint}: compare it with the terminal of the gate before you install this.</string>
  <key>PayloadDisplayName</key><string>loopgate authority {short}</string>
  <key>PayloadIdentifier</key><string>loopgate.profile.{whole}</string>
  <key>PayloadRemovalDisallowed</key><false/>
  <key>PayloadType</key><string>Configuration</string>
  <key>PayloadUUID</key><string>{whole}</string>
  <key>PayloadVersion</key><integer>1</integer>
</dict>
</plist>
"#
    )
}

/// A name-based identifier (RFC 9562, 5.8) of this certificate.
fn uuid(certificate: &[u8], of: &[u8]) -> String {
    let hash = digest(&SHA256, &[of, certificate].concat());
    let mut bytes = [0u8; 16];
    bytes.copy_from_slice(&hash.as_ref()[..16]);
    bytes[6] = bytes[6] & 0x0f | 0x80;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = HEXUPPER.encode(&bytes);
    [
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    ]
    .join("-")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shows_what_to_compare_and_where_the_files_are() {
        let text = onboard_page(&OnboardPage {
            realm: "<b>",
            fingerprint: "AB:CD",
            url: "https://app.lan:8443/.loopgate/onboard",
        });
        for part in [
            "AB:CD",
            "href=\"/.loopgate/onboard/loopgate-ca.crt\"",
            "href=\"/.loopgate/onboard/loopgate-ca.mobileconfig\"",
            "Certificate Trust Settings",
            "&lt;b&gt;",
            "viewBox=\"0 0 ",
        ] {
            assert!(text.contains(part), "{part}\n{text}");
        }
        // Nothing that the policy of our pages would refuse.
        for part in ["<script", "style=\"", "src="] {
            assert!(!text.contains(part), "{part}");
        }
    }

    #[test]
    fn the_code_is_the_address() {
        let url = "https://192.168.178.120:8443/.loopgate/onboard";
        let drawn = code(url).expect("a code").into_string();
        let Ok(code) = QRBuilder::new(url).ecl(ECL::M).build() else {
            panic!("a code")
        };
        let dark = (0..code.size * code.size)
            .filter(|at| code[at / code.size][at % code.size].value())
            .count();
        assert_eq!(drawn.matches("h1v1h-1z").count(), dark);
        assert!(super::code(&"a".repeat(4000)).is_none());
    }

    #[test]
    fn a_profile_holds_the_certificate_and_names_itself_alike() {
        let one = profile(b"\x30\x03abc", "AB:CD:EF:01:23");
        assert!(one.contains("<data>MANhYmM=</data>"));
        assert!(one.contains("com.apple.security.root"));
        assert_eq!(one, profile(b"\x30\x03abc", "AB:CD:EF:01:23"));
        assert_ne!(one, profile(b"\x30\x03abd", "AB:CD:EF:01:23"));
        let id = uuid(b"a", b"b");
        assert_eq!(id.len(), 36);
        assert_eq!(&id[14..15], "8");
    }
}
