//! Writes a key and its chain as PKCS#12 (RFC 7292), the form in which phones and browsers import a client certificate.
//!
//! Only writing, and only two forms: AES-256 with SHA-256, which is what OpenSSL 3 writes by itself, and 3DES with SHA-1 for
//! devices that know nothing else. The key derivation of neither is strong (some importers refuse many rounds), so the password
//! has to carry the strength: give it a generated one. Salts are 8 bytes and rounds 2048 because macOS refuses other lengths.

use std::num::NonZeroU32;

use aws_lc_rs::cipher::{AES_256, DecryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::{digest, hmac, pbkdf2};
use des::TdesEde3;
use des::cipher::{BlockCipherEncrypt, KeyInit};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use crate::base::id::random;

/// How the file is encrypted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Strength {
    /// AES-256 and SHA-256: everything of the last years.
    Modern,
    /// 3DES and SHA-1: iOS and macOS before their versions of 2022, Android before 12.
    Legacy,
}

const ROUNDS: u32 = 2048;

// Object identifiers, encoded.
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 1];
const ENCRYPTED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 7, 6];
const KEY_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1, 2];
const CERTIFICATE_BAG: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 10, 1, 3];
const X509: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 22, 1];
const FRIENDLY_NAME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 20];
const LOCAL_KEY_ID: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 21];
const PBES2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 13];
const PBKDF2: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 5, 12];
const HMAC_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 2, 9];
const AES_256_CBC: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 1, 42];
const SHA256: &[u8] = &[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1];
const SHA1: &[u8] = &[0x2b, 14, 3, 2, 26];
const SHA1_3DES: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 12, 1, 3];

const INTEGER: u8 = 2;
const OCTETS: u8 = 4;
const NULL: &[u8] = &[5, 0];
const OID: u8 = 6;
const BMP: u8 = 0x1e;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
/// `[0]`, around what is inside.
const TAGGED: u8 = 0xa0;
/// `[0]`, in place of the tag of octets.
const IMPLICIT: u8 = 0x80;

/// The file: `key` (PKCS#8) and `chain`, its own certificate first. `None` when the cryptography fails, which it does not.
pub fn write(
    key: &[u8],
    chain: &[CertificateDer<'_>],
    name: &str,
    password: &str,
    strength: Strength,
) -> Option<Zeroizing<Vec<u8>>> {
    let sealer = Sealer { password, strength };
    let own = chain.first()?;
    let id = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, own);
    // What ties the key to its certificate, and what a device shows in its list.
    let mut about = [
        attribute(FRIENDLY_NAME, &tlv(BMP, &[&bmp(name)])),
        attribute(LOCAL_KEY_ID, &tlv(OCTETS, &[id.as_ref()])),
    ];
    about.sort();
    let about = tlv(SET, &[&about.concat()]);

    let mut certificates = Vec::new();
    for certificate in chain {
        let octets = tlv(TAGGED, &[&tlv(OCTETS, &[certificate])]);
        let bag = tlv(SEQUENCE, &[&oid(X509), &octets]);
        let extra: &[u8] = if certificate == own { &about } else { &[] };
        certificates.extend(tlv(
            SEQUENCE,
            &[&oid(CERTIFICATE_BAG), &tlv(TAGGED, &[&bag]), extra],
        ));
    }
    let (algorithm, sealed) = sealer.seal(&tlv(SEQUENCE, &[&certificates]))?;
    let content = tlv(
        SEQUENCE,
        &[&oid(DATA), &algorithm, &tlv(IMPLICIT, &[&sealed])],
    );
    let encrypted = tlv(SEQUENCE, &[&tlv(INTEGER, &[&[0]]), &content]);
    let certificates = tlv(
        SEQUENCE,
        &[&oid(ENCRYPTED_DATA), &tlv(TAGGED, &[&encrypted])],
    );

    let (algorithm, sealed) = sealer.seal(key)?;
    let shrouded = tlv(SEQUENCE, &[&algorithm, &tlv(OCTETS, &[&sealed])]);
    let bag = tlv(
        SEQUENCE,
        &[&oid(KEY_BAG), &tlv(TAGGED, &[&shrouded]), &about],
    );
    let keys = data(&tlv(SEQUENCE, &[&bag]));

    let safe = tlv(SEQUENCE, &[&certificates, &keys]);
    let mac = sealer.mac(&safe)?;
    let whole = tlv(SEQUENCE, &[&tlv(INTEGER, &[&[3]]), &data(&safe), &mac]);
    Some(Zeroizing::new(whole))
}

struct Sealer<'a> {
    password: &'a str,
    strength: Strength,
}

impl Sealer<'_> {
    /// The algorithm with its parameters, and the encrypted bytes.
    fn seal(&self, clear: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        match self.strength {
            Strength::Modern => self.aes(clear),
            Strength::Legacy => self.triple_des(clear),
        }
    }

    /// PBES2 (RFC 8018, 6.2).
    fn aes(&self, clear: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        let salt = random::<8>();
        let mut key = Zeroizing::new([0; 32]);
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            NonZeroU32::new(ROUNDS)?,
            &salt,
            self.password.as_bytes(),
            &mut *key,
        );
        let key = UnboundCipherKey::new(&AES_256, &*key).ok()?;
        let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).ok()?;
        let mut bytes = clear.to_vec();
        let DecryptionContext::Iv128(iv) = key.encrypt(&mut bytes).ok()? else {
            return None;
        };
        let prf = tlv(SEQUENCE, &[&oid(HMAC_SHA256), NULL]);
        let derived = tlv(SEQUENCE, &[&tlv(OCTETS, &[&salt]), &rounds(), &prf]);
        let derived = tlv(SEQUENCE, &[&oid(PBKDF2), &derived]);
        let cipher = tlv(SEQUENCE, &[&oid(AES_256_CBC), &tlv(OCTETS, &[iv.as_ref()])]);
        let both = tlv(SEQUENCE, &[&derived, &cipher]);
        Some((tlv(SEQUENCE, &[&oid(PBES2), &both]), bytes))
    }

    /// pbeWithSHAAnd3-KeyTripleDES-CBC (RFC 7292, appendix C).
    fn triple_des(&self, clear: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
        const BLOCK: usize = 8;
        let salt = random::<8>();
        let key = self.derive(1, &salt, 24)?;
        let mut before = self.derive(2, &salt, BLOCK)?;
        let cipher = TdesEde3::new_from_slice(&key).ok()?;
        let pad = BLOCK - clear.len() % BLOCK;
        let mut bytes = clear.to_vec();
        bytes.resize(clear.len() + pad, pad as u8);
        for block in bytes.chunks_exact_mut(BLOCK) {
            for (byte, other) in block.iter_mut().zip(before.iter()) {
                *byte ^= other;
            }
            let block: &mut [u8; BLOCK] = block.try_into().ok()?;
            cipher.encrypt_block(block.into());
            before.copy_from_slice(block);
        }
        let parameters = tlv(SEQUENCE, &[&tlv(OCTETS, &[&salt]), &rounds()]);
        Some((tlv(SEQUENCE, &[&oid(SHA1_3DES), &parameters]), bytes))
    }

    /// The seal of the whole (RFC 7292, 4).
    fn mac(&self, safe: &[u8]) -> Option<Vec<u8>> {
        let (algorithm, name) = match self.strength {
            Strength::Modern => (hmac::HMAC_SHA256, SHA256),
            Strength::Legacy => (hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SHA1),
        };
        let salt = random::<8>();
        let key = self.derive(3, &salt, algorithm.digest_algorithm().output_len())?;
        let tag = hmac::sign(&hmac::Key::new(algorithm, &key), safe);
        let name = tlv(SEQUENCE, &[&oid(name), NULL]);
        let digest = tlv(SEQUENCE, &[&name, &tlv(OCTETS, &[tag.as_ref()])]);
        Some(tlv(SEQUENCE, &[&digest, &tlv(OCTETS, &[&salt]), &rounds()]))
    }

    /// The key derivation of PKCS#12 (RFC 7292, appendix B.2), for one block of digest or two.
    fn derive(&self, purpose: u8, salt: &[u8], length: usize) -> Option<Zeroizing<Vec<u8>>> {
        const BLOCK: usize = 64;
        let algorithm = match self.strength {
            Strength::Modern => &digest::SHA256,
            Strength::Legacy => &digest::SHA1_FOR_LEGACY_USE_ONLY,
        };
        let mut password = Zeroizing::new(bmp(self.password));
        password.extend([0, 0]);
        let filled = |text: &[u8]| {
            let length = text.len().div_ceil(BLOCK) * BLOCK;
            text.iter()
                .copied()
                .cycle()
                .take(length)
                .collect::<Vec<u8>>()
        };
        let mut input = Zeroizing::new([filled(salt), filled(&password)].concat());
        let mut out = Zeroizing::new(Vec::new());
        while out.len() < length {
            let first = [&[purpose; BLOCK][..], &input].concat();
            let mut digest = digest::digest(algorithm, &first);
            for _ in 1..ROUNDS {
                digest = digest::digest(algorithm, digest.as_ref());
            }
            out.extend_from_slice(digest.as_ref());
            let add: Vec<u8> = digest
                .as_ref()
                .iter()
                .copied()
                .cycle()
                .take(BLOCK)
                .collect();
            for block in input.chunks_exact_mut(BLOCK) {
                let mut carry = 1u16;
                for (byte, more) in block.iter_mut().zip(&add).rev() {
                    carry += u16::from(*byte) + u16::from(*more);
                    *byte = carry as u8;
                    carry >>= 8;
                }
            }
        }
        out.truncate(length);
        Some(out)
    }
}

fn rounds() -> Vec<u8> {
    tlv(INTEGER, &[&(ROUNDS as u16).to_be_bytes()])
}

/// ContentInfo of plain data.
fn data(bytes: &[u8]) -> Vec<u8> {
    let octets = tlv(TAGGED, &[&tlv(OCTETS, &[bytes])]);
    tlv(SEQUENCE, &[&oid(DATA), &octets])
}

fn attribute(name: &[u8], value: &[u8]) -> Vec<u8> {
    tlv(SEQUENCE, &[&oid(name), &tlv(SET, &[value])])
}

fn oid(bytes: &[u8]) -> Vec<u8> {
    tlv(OID, &[bytes])
}

fn bmp(text: &str) -> Vec<u8> {
    text.encode_utf16().flat_map(u16::to_be_bytes).collect()
}

/// Tag, length and content (X.690, 8.1.3).
fn tlv(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|p| p.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    let bytes = length.to_be_bytes();
    let used = &bytes[bytes.iter().take_while(|b| **b == 0).count()..];
    match length {
        0..128 => out.push(length as u8),
        _ => {
            out.push(0x80 | used.len() as u8);
            out.extend_from_slice(used);
        }
    }
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use rcgen::{CertificateParams, KeyPair};

    use super::*;

    /// OpenSSL reads what is written, with the password and without another one.
    #[test]
    fn openssl_reads_what_is_written() {
        let key = KeyPair::generate().unwrap();
        let made = CertificateParams::default().self_signed(&key).unwrap();
        let chain = [made.der().clone()];
        for (strength, word, length) in [
            (Strength::Modern, "AES-256-CBC", 1),
            (Strength::Modern, "AES-256-CBC", 200),
            (Strength::Legacy, "pbeWithSHA1And3-KeyTripleDES-CBC", 19),
        ] {
            let dir = tempfile::tempdir().unwrap();
            let file = dir.path().join("a.p12");
            let password = "é".repeat(length);
            let text = write(&key.serialize_der(), &chain, "jürgen", &password, strength);
            std::fs::write(&file, text.unwrap().as_slice()).unwrap();
            let read = |password: &str| {
                let openssl = Command::new("openssl")
                    .args(["pkcs12", "-info", "-nodes", "-in"])
                    .arg(&file)
                    .args(["-passin", &format!("pass:{password}")])
                    .output();
                let output = openssl.expect("openssl is installed");
                let told = String::from_utf8_lossy(&output.stderr).into_owned();
                (output, told)
            };
            let (output, told) = read(&password);
            assert!(output.status.success() && told.contains(word), "{told}");
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(text.contains("BEGIN PRIVATE KEY") && text.contains("BEGIN CERTIFICATE"));
            assert!(!read("other").0.status.success());
        }
    }
}
