//! The keys of masking, all derived from one secret, so that the file of hashes says nothing about pseudonyms and
//! none says anything without the secret.

use ring::hmac::{HMAC_SHA256, Key, sign};
use runbook_core::action::{ActionError, Context};
use runbook_core::secret::SecretText;

/// A shorter secret could be tried out.
const SECRET_BYTES_MIN: usize = 16;

/// The derived keys.
#[derive(Debug)]
pub(super) struct Keys {
    pub(super) pseudonym: Key,
    pub(super) taint: Key,
    /// Tells keys apart without telling what they are.
    pub(super) check: String,
}

impl Keys {
    /// From the secret of a step's parameters.
    pub(super) fn reveal(ctx: &Context, secret: &SecretText) -> Result<Self, ActionError> {
        let revealed = ctx.secrets.reveal(secret)?;
        Self::of(revealed.expose().trim().as_bytes()).ok_or_else(|| {
            ActionError::refused(format!("mask with a key of less than {SECRET_BYTES_MIN} bytes"))
                .hint("Make a random one of 32 bytes or more, keep it as a secret, and give it a `key_id`.")
        })
    }

    pub(super) fn of(secret: &[u8]) -> Option<Self> {
        if secret.len() < SECRET_BYTES_MIN {
            return None;
        }
        let root = Key::new(HMAC_SHA256, secret);
        let derived = |label: &str| sign(&root, label.as_bytes());
        Some(Self {
            pseudonym: Key::new(HMAC_SHA256, derived("runbook/mask/pseudonym/v1").as_ref()),
            taint: Key::new(HMAC_SHA256, derived("runbook/mask/taint/v1").as_ref()),
            check: hex::encode(&derived("runbook/mask/check/v1").as_ref()[..8]),
        })
    }
}
