//! Keys of the e-mail provider: Resend or SendGrid. A provider without an API for keys is a person's work.

mod keys;
mod revoke;
mod rotate;

pub use revoke::RevokeKey;
pub use rotate::RotateKey;

#[cfg(test)]
mod tests;
