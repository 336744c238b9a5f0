//! API keys and signing keys: how they are made and shown.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::disk;
use crate::error::SandboxError;

/// Ten years, as the legacy keys have.
const LEGACY_LIFE_S: i64 = 10 * 365 * 24 * 3600;

/// An API key of a project.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct ApiKey {
    pub(crate) id: String,
    pub(crate) name: String,
    /// `legacy`, `publishable` or `secret`.
    pub(crate) kind: String,
    pub(crate) value: String,
    pub(crate) description: Option<String>,
    pub(crate) inserted_at: Timestamp,
}

impl ApiKey {
    /// A new-style key.
    pub(super) fn made(name: &str, kind: &str, description: Option<String>, now: Timestamp) -> Self {
        let value = format!("sb_{kind}_{}", &disk::random_secret()[..32]);
        Self {
            id: Uuid::now_v7().to_string(),
            name: name.into(),
            kind: kind.into(),
            value,
            description,
            inserted_at: now,
        }
    }

    /// Anybody may know this one.
    fn is_public(&self) -> bool {
        self.kind == "publishable" || self.id == "anon"
    }

    pub(super) fn show(&self, reveal: bool) -> Value {
        let value = if reveal || self.is_public() {
            self.value.clone()
        } else {
            format!("{}···", self.value.chars().take(16).collect::<String>())
        };
        let hash = URL_SAFE_NO_PAD.encode(Sha256::digest(&self.value));
        let mut shown = json!({
            "name": self.name, "api_key": value, "id": self.id, "type": self.kind,
            "hash": hash, "prefix": hash[..5], "description": self.description,
        });
        if self.kind != "legacy" {
            shown["inserted_at"] = json!(self.inserted_at.to_string());
            shown["updated_at"] = json!(self.inserted_at.to_string());
        }
        shown
    }
}

/// The `anon` and `service_role` JWTs of a new project, and its first keys in the new style.
pub(super) fn legacy_keys(reference: &str, jwt_secret: &str, now: Timestamp) -> Vec<ApiKey> {
    let legacy = |role: &str| {
        let issued = now.as_second();
        let claims = json!({ "iss": "supabase", "ref": reference, "role": role, "iat": issued, "exp": issued + LEGACY_LIFE_S });
        ApiKey {
            id: role.to_owned(),
            name: role.to_owned(),
            kind: "legacy".to_owned(),
            value: sign_hs256(&claims, jwt_secret),
            description: Some(format!("Legacy {role} API key")),
            inserted_at: now,
        }
    };
    vec![
        legacy("anon"),
        legacy("service_role"),
        ApiKey::made("default", "publishable", None, now),
        ApiKey::made("default", "secret", None, now),
    ]
}

pub(super) fn sign_hs256(claims: &Value, secret: &str) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let text = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.to_string()));
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
    let signature = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, text.as_bytes()));
    format!("{text}.{signature}")
}

/// A key that access tokens are signed with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SigningKey {
    pub(crate) id: String,
    pub(crate) algorithm: String,
    /// `in_use`, `standby`, `previously_used` or `revoked`.
    pub(crate) status: String,
    /// None for HS256, whose key is secret altogether.
    pub(crate) public_jwk: Option<Value>,
    /// PKCS #8 in base64, the given JWK, or the legacy secret; never shown.
    pub(crate) private: String,
    pub(crate) legacy: bool,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

impl SigningKey {
    /// The legacy JWT secret as a key, as a new project has it.
    pub(super) fn legacy(jwt_secret: &str, now: Timestamp) -> Self {
        Self::with("HS256", "previously_used", None, jwt_secret.to_owned(), now).into_legacy()
    }

    fn into_legacy(mut self) -> Self {
        self.legacy = true;
        self
    }

    /// A new key pair.
    pub(super) fn made(algorithm: &str, status: &str, now: Timestamp) -> Result<Self, SandboxError> {
        let failed = |_| SandboxError::Refused { message: format!("make a {algorithm} key") };
        let random = SystemRandom::new();
        let (jwk, private) = match algorithm {
            "ES256" => {
                let kind = &ECDSA_P256_SHA256_FIXED_SIGNING;
                let pkcs8 = EcdsaKeyPair::generate_pkcs8(kind, &random).map_err(failed)?;
                let pair = EcdsaKeyPair::from_pkcs8(kind, pkcs8.as_ref(), &random)
                    .map_err(|_| SandboxError::Refused { message: format!("read a {algorithm} key") })?;
                // An uncompressed point: 0x04, then x and y of 32 bytes each.
                let point = pair.public_key().as_ref();
                let (x, y) = point[1..].split_at(32);
                let jwk = json!({ "kty": "EC", "crv": "P-256", "x": URL_SAFE_NO_PAD.encode(x), "y": URL_SAFE_NO_PAD.encode(y) });
                (Some(jwk), STANDARD.encode(pkcs8.as_ref()))
            }
            "EdDSA" => {
                let pkcs8 = Ed25519KeyPair::generate_pkcs8(&random).map_err(failed)?;
                let pair = Ed25519KeyPair::from_pkcs8(pkcs8.as_ref())
                    .map_err(|_| SandboxError::Refused { message: format!("read a {algorithm} key") })?;
                let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
                (Some(json!({ "kty": "OKP", "crv": "Ed25519", "x": x })), STANDARD.encode(pkcs8.as_ref()))
            }
            "HS256" => (None, disk::random_secret()),
            other => {
                let message = format!(
                    "make a {other} key: the sandbox makes ES256, EdDSA and HS256, and takes RS256 as private_jwk"
                );
                return Err(SandboxError::Refused { message });
            }
        };
        Ok(Self::with(algorithm, status, jwk, private, now))
    }

    /// A key that the caller brings.
    pub(super) fn imported(
        algorithm: &str,
        status: &str,
        jwk: &Value,
        now: Timestamp,
    ) -> Result<Self, String> {
        let (kty, public): (&str, &[&str]) = match algorithm {
            "ES256" => ("EC", &["kty", "crv", "x", "y"]),
            "EdDSA" => ("OKP", &["kty", "crv", "x"]),
            "RS256" => ("RSA", &["kty", "n", "e"]),
            _ => ("oct", &[]),
        };
        if jwk["kty"] != kty {
            return Err(format!("private_jwk.kty must be {kty} for {algorithm}"));
        }
        let secret = if kty == "oct" { "k" } else { "d" };
        for part in public.iter().chain([&secret]) {
            if !jwk[*part].is_string() {
                return Err(format!("private_jwk.{part} is required"));
            }
        }
        let shown: serde_json::Map<String, Value> =
            public.iter().map(|p| ((*p).to_owned(), jwk[*p].clone())).collect();
        let shown = (!shown.is_empty()).then_some(Value::Object(shown));
        let mut key = Self::with(algorithm, status, shown, jwk.to_string(), now);
        if let Some(kid) = jwk["kid"].as_str() {
            let kid = Uuid::parse_str(kid).map_err(|_| "private_jwk.kid must be a UUID".to_owned())?;
            key.id = kid.to_string();
            if let Some(public) = &mut key.public_jwk {
                public["kid"] = json!(key.id);
            }
        }
        Ok(key)
    }

    fn with(algorithm: &str, status: &str, jwk: Option<Value>, private: String, now: Timestamp) -> Self {
        let id = Uuid::now_v7().to_string();
        let public_jwk = jwk.map(|mut jwk| {
            jwk["kid"] = json!(id);
            jwk["alg"] = json!(algorithm);
            jwk["use"] = json!("sig");
            jwk["key_ops"] = json!(["verify"]);
            jwk["ext"] = json!(true);
            jwk
        });
        let (algorithm, status) = (algorithm.to_owned(), status.to_owned());
        Self { id, algorithm, status, public_jwk, private, legacy: false, created_at: now, updated_at: now }
    }

    pub(super) fn show(&self) -> Value {
        json!({
            "id": self.id, "algorithm": self.algorithm, "status": self.status, "public_jwk": self.public_jwk,
            "created_at": self.created_at.to_string(), "updated_at": self.updated_at.to_string(),
        })
    }
}
