//! What a claim on an idempotency key comes to. Pure, so that every store decides alike.

use serde_json::Value;

use super::journal::KeyClaim;

/// A key that somebody claimed.
#[derive(Debug, Clone)]
pub(super) struct Claimed {
    pub(super) params_digest: String,
    pub(super) run: String,
    pub(super) step: String,
    /// None until it is finished.
    pub(super) outputs: Option<Value>,
}

impl Claimed {
    /// Answers who asks for a key that is already claimed. Other parameters are a mistake even from the step
    /// that claimed it, and even when it is done: the same name cannot mean two effects.
    pub(super) fn answer(self, params_digest: &str, run: &str, step: &str) -> KeyClaim {
        if self.params_digest != params_digest {
            return KeyClaim::Mismatch { run: self.run, step: self.step };
        }
        match self.outputs {
            Some(outputs) => KeyClaim::DoneBy { run: self.run, step: self.step, outputs },
            None if self.run == run && self.step == step => KeyClaim::Mine,
            None => KeyClaim::InFlightBy { run: self.run, step: self.step },
        }
    }
}
