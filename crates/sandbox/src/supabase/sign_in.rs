//! The auth service of a project, as far as a smoke test needs it: signing in with a password against
//! `auth.users` of that project's own database, and asking who a token belongs to. Tokens are signed with the
//! signing key in use and hold until that key is revoked, as the real ones do.

use std::collections::HashMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use ring::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::keys::SigningKey;
use super::project::find;
use super::reply::Refusal;
use crate::shared::Ctx;

/// How long a token holds, as the auth settings of a new project say.
const LIFE_S: i64 = 3600;

/// A refusal in the shape of the auth service, which is not that of the Management API.
#[derive(Debug)]
pub(crate) struct Denied(pub(crate) StatusCode, pub(crate) &'static str, pub(crate) String);

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let body = json!({ "code": self.0.as_u16(), "error_code": self.1, "msg": self.2 });
        (self.0, Json(body)).into_response()
    }
}

impl From<Refusal> for Denied {
    fn from(Refusal(status, message): Refusal) -> Self {
        Self(status, "unexpected_failure", message)
    }
}

impl From<tokio_postgres::Error> for Denied {
    fn from(error: tokio_postgres::Error) -> Self {
        let said = error.as_db_error().map_or_else(|| error.to_string(), |said| said.message().to_owned());
        Self(StatusCode::INTERNAL_SERVER_ERROR, "unexpected_failure", said)
    }
}

#[derive(Deserialize)]
struct Credentials {
    email: String,
    password: String,
}

/// `POST /auth/v1/token?grant_type=password`
pub(super) async fn token(
    State(ctx): State<Ctx>,
    Path(reference): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    bytes: Bytes,
) -> Result<Response, Denied> {
    known_key(&ctx, &reference, &headers)?;
    if query.get("grant_type").map(String::as_str) != Some("password") {
        let message = "unsupported_grant_type".to_owned();
        return Err(Denied(StatusCode::BAD_REQUEST, "invalid_credentials", message));
    }
    let given: Credentials = serde_json::from_slice(&bytes)
        .map_err(|error| Denied(StatusCode::BAD_REQUEST, "bad_json", error.to_string()))?;
    Ok(Json(sign_in(&ctx, &reference, &given.email, &given.password).await?).into_response())
}

/// `GET /auth/v1/user`
pub(super) async fn user(
    State(ctx): State<Ctx>,
    Path(reference): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Denied> {
    known_key(&ctx, &reference, &headers)?;
    let claims = bearer(&headers).and_then(|token| claims(&ctx, &reference, token));
    let Some(claims) = claims else {
        let message = "invalid JWT: unable to parse or verify signature".to_owned();
        return Err(Denied(StatusCode::FORBIDDEN, "bad_jwt", message));
    };
    Ok(Json(json!({ "id": claims["sub"], "aud": "authenticated", "role": "authenticated", "email": claims["email"] }))
        .into_response())
}

/// The gateway in front of the services asks for one of the project's API keys.
fn known_key(ctx: &Ctx, reference: &str, headers: &HeaderMap) -> Result<(), Denied> {
    let given = headers.get("apikey").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let known = find(ctx, reference, |project| {
        project
            .api_keys
            .iter()
            .any(|key| key.value == given && (key.kind != "legacy" || project.legacy_enabled))
    })?;
    let message = if given.is_empty() { "No API key found in request" } else { "Invalid API key" };
    if known { Ok(()) } else { Err(Denied(StatusCode::UNAUTHORIZED, "no_authorization", message.to_owned())) }
}

/// The token of an `Authorization: Bearer` header.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")
}

/// Signs a person in: a session in the project's database, and a token.
pub(crate) async fn sign_in(
    ctx: &Ctx,
    reference: &str,
    email: &str,
    password: &str,
) -> Result<Value, Denied> {
    find(ctx, reference, |_| ())?;
    let client = ctx.cluster.admin(reference).await.map_err(Refusal::from)?;
    // The inner select keeps the slow hash from being computed for every row.
    let row = client
        .query_opt(
            "select id::text from (select id, encrypted_password from auth.users where email = $1 offset 0) u \
             where encrypted_password = extensions.crypt($2, encrypted_password)",
            &[&email, &password],
        )
        .await?;
    let Some(row) = row else {
        let message = "Invalid login credentials".to_owned();
        return Err(Denied(StatusCode::BAD_REQUEST, "invalid_credentials", message));
    };
    let (id, session, refresh): (String, String, String) =
        (row.get(0), Uuid::new_v4().to_string(), crate::disk::random_secret());
    client
        .execute(
            "with s as (insert into auth.sessions (id, user_id, created_at, updated_at, aal) \
                        values ($1::text::uuid, $2::text::uuid, now(), now(), 'aal1') returning id) \
             insert into auth.refresh_tokens (token, user_id, revoked, created_at, updated_at, session_id) \
             select $3, $2, false, now(), now(), s.id from s",
            &[&session, &id, &refresh],
        )
        .await?;
    let expires = Timestamp::now().as_second() + LIFE_S;
    let claims = json!({
        "sub": id, "aud": "authenticated", "role": "authenticated", "email": email,
        "session_id": session, "iat": expires - LIFE_S, "exp": expires,
    });
    let signed = find(ctx, reference, |project| {
        let key = project.signing_keys.iter().find(|key| key.status == "in_use");
        key.and_then(|key| sign(key, &claims))
    })?;
    let Some(token) = signed else {
        let message = "there is no signing key that the sandbox can sign with".to_owned();
        return Err(Denied(StatusCode::INTERNAL_SERVER_ERROR, "unexpected_failure", message));
    };
    Ok(json!({
        "access_token": token, "token_type": "bearer", "expires_in": LIFE_S, "expires_at": expires,
        "refresh_token": refresh,
        "user": { "id": id, "aud": "authenticated", "role": "authenticated", "email": email },
    }))
}

fn sign(key: &SigningKey, claims: &Value) -> Option<String> {
    let header = json!({ "alg": key.algorithm, "typ": "JWT", "kid": key.id }).to_string();
    let text = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims.to_string()));
    let signature = match key.algorithm.as_str() {
        "HS256" => {
            let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.private.as_bytes());
            ring::hmac::sign(&key, text.as_bytes()).as_ref().to_vec()
        }
        "ES256" => {
            let random = ring::rand::SystemRandom::new();
            let pkcs8 = STANDARD.decode(&key.private).ok()?;
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pkcs8, &random).ok()?;
            pair.sign(&random, text.as_bytes()).ok()?.as_ref().to_vec()
        }
        _ => return None,
    };
    Some(format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// What a token says, if a key of the project that is not revoked signed it and it has not ended.
pub(crate) fn claims(ctx: &Ctx, reference: &str, token: &str) -> Option<Value> {
    let (text, signature) = token.rsplit_once('.')?;
    let (head, body) = text.split_once('.')?;
    let decode = |part: &str| {
        let bytes = URL_SAFE_NO_PAD.decode(part).ok()?;
        serde_json::from_slice::<Value>(&bytes).ok()
    };
    let (head, claims) = (decode(head)?, decode(body)?);
    let signature = URL_SAFE_NO_PAD.decode(signature).ok()?;
    let holds = find(ctx, reference, |project| {
        let usable = |key: &&SigningKey| head["kid"] == key.id.as_str() && key.status != "revoked";
        project.signing_keys.iter().find(usable).is_some_and(|key| is_signed_by(key, text, &signature))
    });
    let alive = claims["exp"].as_i64().is_some_and(|exp| exp > Timestamp::now().as_second());
    (holds.ok()? && alive).then_some(claims)
}

fn is_signed_by(key: &SigningKey, text: &str, signature: &[u8]) -> bool {
    if key.algorithm == "HS256" {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, key.private.as_bytes());
        return ring::hmac::verify(&key, text.as_bytes(), signature).is_ok();
    }
    let point = key.public_jwk.as_ref().and_then(|jwk| {
        let part = |name: &str| URL_SAFE_NO_PAD.decode(jwk[name].as_str()?).ok();
        Some([vec![4], part("x")?, part("y")?].concat())
    });
    point.is_some_and(|point| {
        ring::signature::UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
            .verify(text.as_bytes(), signature)
            .is_ok()
    })
}
