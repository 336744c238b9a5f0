//! Signs a request for the bucket (AWS Signature Version 4, payload unsigned), so that what the sandbox
//! stores itself goes through the same door as everything else.

use axum::http::{HeaderMap, HeaderName, HeaderValue};
use jiff::Timestamp;
use ring::hmac;
use sha2::{Digest, Sha256};

/// Every S3-compatible store takes this one.
pub(crate) const REGION: &str = "us-east-1";

/// Adds date, payload mark and authorization. `host` is there already; the path holds only characters
/// that need no escape, and there is no query.
pub(crate) fn sign(
    headers: &mut HeaderMap,
    (key_id, secret): (&str, &str),
    (method, path): (&str, &str),
    now: Timestamp,
) -> Result<(), axum::http::header::InvalidHeaderValue> {
    let stamp = now.strftime("%Y%m%dT%H%M%SZ").to_string();
    let day = &stamp[..8];
    headers.insert("x-amz-date", HeaderValue::from_str(&stamp)?);
    headers.insert("x-amz-content-sha256", HeaderValue::from_static("UNSIGNED-PAYLOAD"));
    let mut signed: Vec<(&HeaderName, &HeaderValue)> =
        headers.iter().filter(|(name, _)| *name == "host" || name.as_str().starts_with("x-amz-")).collect();
    signed.sort_by_key(|(name, _)| name.as_str());
    let lines: String = signed
        .iter()
        .map(|(name, value)| format!("{name}:{}\n", String::from_utf8_lossy(value.as_bytes()).trim()))
        .collect();
    let names = signed.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(";");
    let canonical = format!("{method}\n{path}\n\n{lines}\n{names}\nUNSIGNED-PAYLOAD");
    let scope = format!("{day}/{REGION}/s3/aws4_request");
    let text = format!("AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{}", hex::encode(Sha256::digest(canonical)));
    let mut key = mac(format!("AWS4{secret}").as_bytes(), day.as_bytes());
    for part in [REGION, "s3", "aws4_request", text.as_str()] {
        key = mac(key.as_ref(), part.as_bytes());
    }
    let signature = hex::encode(key.as_ref());
    let authorization =
        format!("AWS4-HMAC-SHA256 Credential={key_id}/{scope}, SignedHeaders={names}, Signature={signature}");
    headers.insert("authorization", HeaderValue::from_str(&authorization)?);
    Ok(())
}

fn mac(key: &[u8], text: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text)
}
