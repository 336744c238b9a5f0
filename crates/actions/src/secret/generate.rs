//! `secret.generate`: a random value. Once made it stays the same for its step, also after a crash.

use base64::Engine as _;
use ring::rand::{SecureRandom as _, SystemRandom};
use runbook_core::action::{ActionError, Context, Effect, Preview};
use runbook_core::secret::{Revealed, SecretText};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::typed::{About, Done, Typed};

/// Characters that need no quoting in URLs, shells and connection strings.
const URL_SAFE: &str = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
/// What is shorter than this in characters or bytes can be guessed.
const LENGTH_MIN: u32 = 12;
/// Longer is a mistake; Vercel and Supabase take values of a few kilobytes.
const LENGTH_MAX: u32 = 1024;
/// An alphabet of fewer characters is a mistake.
const ALPHABET_MIN: usize = 10;
/// The vault's name for the value.
const FIELD: &str = "value";

/// How random bytes are written.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Characters of `alphabet`; `length` counts characters.
    #[default]
    Password,
    /// Lower-case hex; `length` counts bytes, two digits each.
    Hex,
    /// Base64 with padding; `length` counts bytes.
    Base64,
}

/// Parameters of `secret.generate`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// Characters (`password`) or bytes (`hex`, `base64`).
    #[serde(default = "length")]
    #[schemars(default = "length", range(min = 12, max = 1024))]
    pub length: u32,
    /// How the value is written.
    #[serde(default)]
    pub format: Format,
    /// Characters of a password: at least 10 different ones. Letters, digits, `-` and `_` when left out.
    #[serde(default)]
    pub alphabet: Option<String>,
}

fn length() -> u32 {
    32
}

/// Outputs of `secret.generate`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct Outputs {
    /// The value.
    pub value: SecretText,
}

/// The action `secret.generate`.
pub struct Generate;

impl Typed for Generate {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About::new(
        "secret.generate",
        "Makes a random secret and keeps it in the run's vault.",
        Effect::Idempotent,
        r"id: password
uses: secret.generate
with:
  length: 32
",
    );

    async fn plan(&self, _ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let line = match params.format {
            Format::Password => format!("makes a random password of {} characters", params.length),
            Format::Hex => format!("makes {} random bytes, written in hex", params.length),
            Format::Base64 => format!("makes {} random bytes, written in base64", params.length),
        };
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let value = kept_or_made(ctx, &params)?;
        Ok(Done::new(Outputs { value }, "a random secret, kept in the vault"))
    }
}

/// A value that an earlier attempt made may be in use already, so it stays.
pub(super) fn kept_or_made(ctx: &Context, params: &Params) -> Result<SecretText, ActionError> {
    Ok(match ctx.secrets.kept(FIELD)? {
        Some(kept) => ctx.secrets.keep(FIELD, kept.expose())?,
        None => ctx.secrets.keep(FIELD, make(params)?.expose())?,
    })
}

fn make(params: &Params) -> Result<Revealed, ActionError> {
    if !(LENGTH_MIN..=LENGTH_MAX).contains(&params.length) {
        let text =
            format!("make a secret of length {}: {LENGTH_MIN} to {LENGTH_MAX} is allowed", params.length);
        return Err(ActionError::refused(text));
    }
    let length = usize::try_from(params.length).unwrap_or(usize::MAX);
    match params.format {
        Format::Hex => Ok(Revealed::new(hex::encode(random(length)?.as_slice()))),
        Format::Base64 => {
            Ok(Revealed::new(base64::engine::general_purpose::STANDARD.encode(random(length)?.as_slice())))
        }
        Format::Password => password(params.alphabet.as_deref().unwrap_or(URL_SAFE), length),
    }
}

fn random(length: usize) -> Result<Zeroizing<Vec<u8>>, ActionError> {
    let mut bytes = Zeroizing::new(vec![0; length]);
    SystemRandom::new()
        .fill(&mut bytes)
        .map_err(|_| ActionError::unchanged("make a secret: the system gives no random bytes"))?;
    Ok(bytes)
}

/// Every character is equally likely: bytes beyond the largest multiple of the alphabet are thrown away.
fn password(alphabet: &str, length: usize) -> Result<Revealed, ActionError> {
    let mut characters: Vec<char> = alphabet.chars().collect();
    characters.sort_unstable();
    characters.dedup();
    let count = characters.len();
    let printable = characters.iter().all(|c| c.is_ascii_graphic());
    if !printable || !(ALPHABET_MIN..=256).contains(&count) {
        return Err(ActionError::refused(format!(
            "make a secret of {count} different characters: at least {ALPHABET_MIN} printable ASCII ones are needed"
        )));
    }
    let fair = 256 - 256 % count;
    let mut value = Zeroizing::new(String::with_capacity(length));
    while value.len() < length {
        let bytes = random(length)?;
        let fits = bytes.iter().map(|b| usize::from(*b)).filter(|b| *b < fair);
        let missing = length - value.len();
        value.extend(fits.take(missing).map(|b| characters[b % count]));
    }
    Ok(Revealed::new(value.as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::stand_in::World;

    fn params(length: u32, format: Format, alphabet: Option<&str>) -> Params {
        Params { length, format, alphabet: alphabet.map(str::to_owned) }
    }

    #[test]
    fn a_value_has_the_length_and_the_characters_that_were_asked_for() {
        let password = make(&params(40, Format::Password, None)).unwrap();
        assert_eq!(password.expose().len(), 40);
        assert!(password.expose().chars().all(|c| URL_SAFE.contains(c)));
        let digits = make(&params(12, Format::Password, Some("0123456789"))).unwrap();
        assert!(digits.expose().bytes().all(|b| b.is_ascii_digit()) && digits.expose().len() == 12);
        assert_eq!(make(&params(16, Format::Hex, None)).unwrap().expose().len(), 32);
        assert_eq!(make(&params(32, Format::Base64, None)).unwrap().expose().len(), 44);
    }

    #[test]
    fn what_can_be_guessed_is_refused() {
        for bad in [
            params(8, Format::Password, None),
            params(2000, Format::Hex, None),
            params(32, Format::Password, Some("aaaaaaaaaaaaab")),
            params(32, Format::Password, Some("abcdefghijk é")),
        ] {
            assert!(make(&bad).is_err(), "{bad:?}");
        }
    }

    #[tokio::test]
    async fn a_repeat_gives_the_same_value() {
        let world = World::new();
        let first = Generate.run(&world.ctx, params(32, Format::Password, None)).await.unwrap();
        let again = Generate.run(&world.ctx, params(32, Format::Password, None)).await.unwrap();
        let value = |o: &Outputs| world.ctx.secrets.reveal(&o.value).unwrap().expose().to_owned();
        assert_eq!(value(&first.outputs), value(&again.outputs));
        assert!(!serde_json::to_string(&first.outputs).unwrap().contains(&value(&first.outputs)));
    }
}
