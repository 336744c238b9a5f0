//! A value's stand-in. The key, the domain and the value decide it, nothing else: not the column, the row or the
//! run. So what was equal stays equal, and joins survive.

use ring::hmac::{Context, Key};
use serde::Deserialize;

/// The domain of stand-ins for e-mail addresses; nobody can own it (RFC 2606).
pub(super) const MAIL_DOMAIN: &str = "masked.invalid";
/// How stand-ins for phone numbers begin; no country has it.
pub(super) const PHONE_PREFIX: &str = "+999";

/// What a stand-in looks like.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Format {
    /// `u3f…@masked.invalid`
    Email,
    /// `Robin Vale 7c2e`
    Name,
    /// `+999` and twelve digits
    Phone,
    /// A UUID of version 8.
    Uuid,
    /// `m` and 24 hex digits: fits most checks of identifiers.
    Text,
    /// Each part of a path by itself; UUIDs and a short ending stay.
    Path,
}

impl Format {
    pub(super) const NAMES: [(&str, Self); 6] = [
        ("email", Self::Email),
        ("name", Self::Name),
        ("phone", Self::Phone),
        ("uuid", Self::Uuid),
        ("text", Self::Text),
        ("path", Self::Path),
    ];
}

const GIVEN: [&str; 16] = [
    "Alex", "Bao", "Casey", "Dana", "Eli", "Farah", "Gale", "Hana", "Ira", "Jules", "Kim", "Lou", "Mika",
    "Noor", "Robin", "Sam",
];
const FAMILY: [&str; 16] = [
    "Ash", "Brook", "Cove", "Dale", "Elm", "Field", "Grove", "Hill", "Isle", "Lake", "Marsh", "Reed",
    "Stone", "Vale", "Wick", "Wood",
];

/// The stand-in of a value. Empty stays empty.
pub(super) fn pseudonym(key: &Key, domain: &str, format: Format, value: &str) -> String {
    if value.is_empty() {
        return String::new();
    }
    if format == Format::Path {
        return path(key, domain, value);
    }
    let mac = mac(key, domain, &canonical(format, value));
    match format {
        Format::Email => format!("u{}@{MAIL_DOMAIN}", hex::encode(&mac[..10])),
        Format::Name => format!(
            "{} {} {}",
            GIVEN[usize::from(mac[0] % 16)],
            FAMILY[usize::from(mac[1] % 16)],
            hex::encode(&mac[2..6])
        ),
        Format::Phone => {
            let number = mac[..8].iter().fold(0u64, |n, byte| n << 8 | u64::from(*byte));
            format!("{PHONE_PREFIX}{:012}", number % 1_000_000_000_000)
        }
        Format::Uuid => {
            let mut bytes = [0; 16];
            bytes.copy_from_slice(&mac[..16]);
            uuid::Builder::from_custom_bytes(bytes).into_uuid().to_string()
        }
        Format::Text | Format::Path => format!("m{}", hex::encode(&mac[..12])),
    }
}

/// Bytes that stand for a value, for columns that are no text.
pub(super) fn bytes(key: &Key, domain: &str, value: &str) -> [u8; 32] {
    mac(key, domain, value)
}

fn mac(key: &Key, domain: &str, value: &str) -> [u8; 32] {
    let mut mac = Context::with_key(key);
    // The length first: no domain and value run into each other.
    mac.update(&(domain.len() as u64).to_be_bytes());
    mac.update(domain.as_bytes());
    mac.update(value.as_bytes());
    let mut out = [0; 32];
    out.copy_from_slice(mac.sign().as_ref());
    out
}

/// Spellings of one value that count as the same.
fn canonical(format: Format, value: &str) -> String {
    match format {
        Format::Email => value.trim().to_lowercase(),
        Format::Name => value.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase(),
        Format::Phone => {
            let digits: String = value.chars().filter(char::is_ascii_digit).collect();
            digits.trim_start_matches("00").to_owned()
        }
        Format::Uuid => value.trim().to_lowercase(),
        Format::Text | Format::Path => value.to_owned(),
    }
}

fn path(key: &Key, domain: &str, value: &str) -> String {
    let part = |part: &str| {
        if part.is_empty() || uuid::Uuid::try_parse(part).is_ok() {
            return part.to_owned();
        }
        let (stem, ending) = part.rsplit_once('.').unwrap_or((part, ""));
        let keeps = !stem.is_empty()
            && (1..=5).contains(&ending.len())
            && ending.bytes().all(|b| b.is_ascii_alphanumeric());
        let (stem, ending) = if keeps { (stem, format!(".{ending}")) } else { (part, String::new()) };
        format!("{}{ending}", pseudonym(key, domain, Format::Text, stem))
    };
    value.split('/').map(part).collect::<Vec<_>>().join("/")
}
