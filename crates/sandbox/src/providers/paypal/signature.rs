//! How PayPal signs what it delivers: RSA over `transmission id|time|webhook id|CRC-32 of the body`.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::signature::{
    KeyPair as _, RSA_PKCS1_2048_8192_SHA256, RSA_PKCS1_SHA256, RsaKeyPair, UnparsedPublicKey,
};

use crate::error::SandboxError;

/// See `keys/README.md`.
const KEY: &[u8] = include_bytes!("../../../keys/paypal.pk8");
/// The certificate of that key.
pub(super) const CERTIFICATE: &str = include_str!("../../../keys/paypal.crt");
/// By which the certificate is fetched.
pub(super) const CERTIFICATE_NAME: &str = "CERT-360caa42-fca2a594-5edc0ebc";
/// What mock events are signed for: no webhook has this id, so that they never pass.
pub(super) const MOCK_WEBHOOK: &str = "WEBHOOK_ID";
/// The only algorithm.
pub(super) const ALGORITHM: &str = "SHA256withRSA";

/// What travels in the headers of a delivery.
pub(crate) struct Signed<'a> {
    /// `PAYPAL-TRANSMISSION-ID`
    pub(crate) transmission_id: &'a str,
    /// `PAYPAL-TRANSMISSION-TIME`
    pub(crate) time: &'a str,
    /// Whose delivery it is.
    pub(crate) webhook_id: &'a str,
    /// The body, byte by byte.
    pub(crate) body: &'a [u8],
}

impl Signed<'_> {
    fn text(&self) -> String {
        format!("{}|{}|{}|{}", self.transmission_id, self.time, self.webhook_id, crc32(self.body))
    }

    /// The signature in base64.
    pub(super) fn sign(&self) -> Result<String, SandboxError> {
        let failed = |what: &str| SandboxError::Refused { message: format!("{what} of the PayPal stand-in") };
        let key = RsaKeyPair::from_pkcs8(KEY).map_err(|_| failed("read the key"))?;
        let mut signature = vec![0; key.public().modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), self.text().as_bytes(), &mut signature)
            .map_err(|_| failed("sign an event"))?;
        Ok(STANDARD.encode(signature))
    }

    /// Whether a signature is the stand-in's over exactly this.
    pub(crate) fn is_signed_by(&self, signature: &str) -> bool {
        let Ok(key) = RsaKeyPair::from_pkcs8(KEY) else { return false };
        let Ok(signature) = STANDARD.decode(signature) else { return false };
        UnparsedPublicKey::new(&RSA_PKCS1_2048_8192_SHA256, key.public_key().as_ref())
            .verify(self.text().as_bytes(), &signature)
            .is_ok()
    }
}

/// CRC-32 as zlib has it.
fn crc32(bytes: &[u8]) -> u32 {
    let step =
        |crc: u32, byte: &u8| {
            (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
                if crc & 1 == 1 { (crc >> 1) ^ 0xedb8_8320 } else { crc >> 1 }
            })
        };
    !bytes.iter().fold(u32::MAX, step)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_holds_for_what_was_signed_and_nothing_else() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
        let signed = |webhook_id, body| Signed {
            transmission_id: "t-1",
            time: "2026-01-01T00:00:00Z",
            webhook_id,
            body,
        };
        let signature = signed("W1", b"{}").sign().unwrap();
        assert!(signed("W1", b"{}").is_signed_by(&signature));
        assert!(!signed("W2", b"{}").is_signed_by(&signature));
        assert!(!signed("W1", b"{ }").is_signed_by(&signature));
        assert!(!signed("W1", b"{}").is_signed_by("not base64"));
    }
}
