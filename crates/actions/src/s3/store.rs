//! The environment's backup bucket: lists, reads small objects, asks for checksums. Read-only; `write` adds the rest.

use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region, RequestChecksumCalculation};
use aws_sdk_s3::config::{ResponseChecksumValidation, retry::RetryConfig};
use aws_sdk_s3::error::{DisplayErrorContext, SdkError};
use aws_sdk_s3::primitives::{ByteStream, ByteStreamError};
use aws_sdk_s3::types::{ChecksumMode, ChecksumType};
use aws_smithy_http_client::tls::{Provider, rustls_provider::CryptoMode};
use base64::Engine as _;
use jiff::Timestamp;
use runbook_core::action::{ActionError, Context};
use runbook_core::environment::Backups;

use super::source::ObjectInfo;

/// A listing that goes beyond this is a mistaken prefix, not a backup archive.
const OBJECTS_MAX: usize = 500_000;
/// Each request, without the body of a big one; a store that says nothing for so long is not there.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(60);

/// One object of a listing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    /// Key.
    pub key: String,
    /// Size in bytes.
    pub size_bytes: u64,
    /// When it was written.
    pub last_modified: Option<Timestamp>,
}

/// A bucket, with what it takes to talk to it.
#[derive(Debug, Clone)]
pub struct Store {
    pub(super) client: Client,
    pub(super) bucket: String,
}

/// The settings of one of the environment's `backup_sources`, or of its own `backups`.
pub(crate) fn settings<'a>(ctx: &'a Context, source: Option<&str>) -> Result<&'a Backups, ActionError> {
    let environment = &ctx.environment;
    let Some(name) = source else {
        return environment.backups.as_ref().ok_or_else(|| {
            ActionError::refused(format!(
                "reach the backups of environment `{}`: it names no bucket",
                environment.name
            ))
            .hint("Add `backups: { bucket: … }` to the environment file.")
        });
    };
    environment.backup_sources.get(name).ok_or_else(|| {
        let known = environment.backup_sources.keys().map(String::as_str);
        ActionError::refused(format!(
            "reach the backups of `{name}`: environment `{}` has no such source; it has {}",
            environment.name,
            runbook_core::suggest::list_of(known)
        ))
        .hint("Add it under `backup_sources` in the environment file.")
    })
}

impl Store {
    /// The bucket that the environment names under `backups`.
    pub async fn of(ctx: &Context) -> Result<Self, ActionError> {
        Self::of_source(ctx, None).await
    }

    /// Another bucket of the same store.
    pub async fn bucket(ctx: &Context, bucket: &str) -> Result<Self, ActionError> {
        Self::bucket_of(ctx, None, bucket).await
    }

    /// The bucket of one of the environment's `backup_sources`; its own `backups` without a name.
    pub async fn of_source(ctx: &Context, source: Option<&str>) -> Result<Self, ActionError> {
        let bucket = settings(ctx, source)?.bucket.clone();
        Self::bucket_of(ctx, source, &bucket).await
    }

    /// A bucket, reached with the settings of a source.
    pub async fn bucket_of(ctx: &Context, source: Option<&str>, bucket: &str) -> Result<Self, ActionError> {
        let settings = settings(ctx, source)?;
        let region = settings.region.clone().unwrap_or_else(|| "us-east-1".into());
        let http = aws_smithy_http_client::Builder::new()
            .tls_provider(Provider::Rustls(CryptoMode::Ring))
            .build_https();
        let mut config = match (&settings.access_key_id, &settings.secret_access_key) {
            (Some(id), Some(secret)) => {
                let (id, secret) = (ctx.secrets.reveal(id)?, ctx.secrets.reveal(secret)?);
                aws_sdk_s3::Config::builder()
                    .behavior_version(BehaviorVersion::v2026_01_12())
                    .http_client(http)
                    .credentials_provider(Credentials::new(
                        id.expose(),
                        secret.expose(),
                        None,
                        None,
                        "runbook",
                    ))
            }
            (None, None) => {
                let chain = aws_config::defaults(BehaviorVersion::v2026_01_12())
                    .http_client(http)
                    .region(Region::new(region.clone()))
                    .load()
                    .await;
                aws_sdk_s3::config::Builder::from(&chain)
            }
            _ => {
                return Err(ActionError::refused(
                    "log in to the backup store: `access_key_id` and `secret_access_key` go together",
                ));
            }
        }
        .region(Region::new(region))
        .force_path_style(settings.path_style)
        // Stores that are not AWS answer unknown checksum headers with an error.
        .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
        .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
        .retry_config(RetryConfig::standard().with_max_attempts(4))
        .timeout_config(
            TimeoutConfig::builder()
                .connect_timeout(Duration::from_secs(10))
                .operation_attempt_timeout(REQUEST_TIMEOUT)
                .build(),
        );
        if let Some(endpoint) = &settings.endpoint {
            config = config.endpoint_url(endpoint);
        }
        Ok(Self { client: Client::from_conf(config.build()), bucket: bucket.into() })
    }

    /// The bucket's name.
    pub fn name(&self) -> &str {
        &self.bucket
    }

    /// Everything under a prefix, page by page, in key order.
    pub async fn list(&self, prefix: &str) -> Result<Vec<Listed>, ActionError> {
        let attempted = || format!("list `s3://{}/{prefix}`", self.bucket);
        let mut found = Vec::new();
        let mut pages =
            self.client.list_objects_v2().bucket(&self.bucket).prefix(prefix).into_paginator().send();
        let mut more = false;
        while let Some(page) = pages.next().await {
            let page = page.map_err(|error| failed(attempted(), &error))?;
            more = page.is_truncated() == Some(true);
            for object in page.contents() {
                let Some(key) = object.key() else { continue };
                found.push(Listed {
                    key: key.into(),
                    size_bytes: object.size().and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
                    last_modified: object.last_modified().and_then(|t| timestamp(*t)),
                });
            }
            if found.len() > OBJECTS_MAX {
                return Err(ActionError::refused(format!(
                    "{}: it holds more than {OBJECTS_MAX} objects",
                    attempted()
                )));
            }
        }
        if more {
            // Without it, objects would be taken for missing that are there.
            return Err(ActionError::unchanged(format!(
                "{}: the store ended the list before its end",
                attempted()
            )));
        }
        Ok(found)
    }

    /// A small object as text; none when it is not there. More than `limit` bytes is an error.
    pub async fn text(&self, key: &str, limit: usize) -> Result<Option<String>, ActionError> {
        let Some(bytes) = self.small(key, limit).await? else { return Ok(None) };
        match String::from_utf8(bytes) {
            Ok(text) => Ok(Some(text)),
            Err(_) => {
                let attempted = format!("read `s3://{}/{key}`: it is not text", self.bucket);
                Err(ActionError::refused(attempted))
            }
        }
    }

    /// The bytes of a small object, by one request; none when it is not there. More than `limit` is an error with the
    /// code `too-large`.
    pub(crate) async fn small(&self, key: &str, limit: usize) -> Result<Option<Vec<u8>>, ActionError> {
        let attempted = || format!("read `s3://{}/{key}`", self.bucket);
        let too_large = || {
            ActionError::refused(format!("{}: it is larger than {limit} bytes", attempted()))
                .code("too-large")
        };
        let answer = match self.client.get_object().bucket(&self.bucket).key(key).send().await {
            Ok(answer) => answer,
            Err(error) if status(&error) == Some(404) => return Ok(None),
            Err(error) => return Err(failed(attempted(), &error)),
        };
        if answer.content_length().is_some_and(|n| n > i64::try_from(limit).unwrap_or(i64::MAX)) {
            return Err(too_large());
        }
        let body = tokio::time::timeout(REQUEST_TIMEOUT, up_to(answer.body, limit));
        match body.await {
            Ok(Ok(Some(bytes))) => Ok(Some(bytes)),
            Ok(Ok(None)) => Err(too_large()),
            Ok(Err(error)) => Err(ActionError::unchanged(attempted()).because(error)),
            Err(_) => Err(ActionError::unchanged(format!(
                "{}: it did not end within {REQUEST_TIMEOUT:?}",
                attempted()
            ))),
        }
    }

    /// Puts an object of which the store keeps the sha256.
    #[cfg(test)]
    pub(crate) async fn put_with_sum(&self, key: &str, bytes: &[u8]) {
        use sha2::Digest as _;
        let sum = base64::engine::general_purpose::STANDARD.encode(sha2::Sha256::digest(bytes));
        let put = self.client.put_object().bucket(&self.bucket).key(key).body(bytes.to_vec().into());
        put.checksum_sha256(sum).send().await.expect("the store takes it");
    }

    /// Size, ETag and the store's own full-object sha256; none when it is not there.
    pub async fn head(&self, key: &str) -> Result<Option<ObjectInfo>, ActionError> {
        let request = self.client.head_object().bucket(&self.bucket).key(key);
        let answer = match request.checksum_mode(ChecksumMode::Enabled).send().await {
            Ok(answer) => answer,
            Err(error) if status(&error) == Some(404) => return Ok(None),
            Err(error) => return Err(failed(format!("ask for `s3://{}/{key}`", self.bucket), &error)),
        };
        // A multipart object has a checksum of checksums, `…-N`: it says nothing about the whole.
        let store_sha256 = answer
            .checksum_sha256()
            .filter(|_| answer.checksum_type() != Some(&ChecksumType::Composite))
            .filter(|text| !text.contains('-'))
            .and_then(|text| base64::engine::general_purpose::STANDARD.decode(text).ok())
            .filter(|digest| digest.len() == 32)
            .map(hex::encode);
        Ok(Some(ObjectInfo {
            size_bytes: answer.content_length().and_then(|n| u64::try_from(n).ok()).unwrap_or(0),
            etag: answer.e_tag().map(Into::into),
            store_sha256,
            last_modified: answer.last_modified().and_then(|t| timestamp(*t)),
        }))
    }
}

/// The whole of a body; none when it goes beyond the limit, whatever its headers say.
pub(super) async fn up_to(mut body: ByteStream, limit: usize) -> Result<Option<Vec<u8>>, ByteStreamError> {
    let mut bytes = Vec::new();
    while let Some(piece) = body.try_next().await? {
        if bytes.len() + piece.len() > limit {
            return Ok(None);
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(Some(bytes))
}

/// The HTTP status of a failed request, when there was an answer.
pub(super) fn status<E>(error: &SdkError<E>) -> Option<u16> {
    error.raw_response().map(|answer| answer.status().as_u16())
}

/// What failed, with the store's words as the cause. Trying again helps unless the store said 4xx.
pub(super) fn failed<E: std::error::Error + Send + Sync + 'static>(
    attempted: String,
    error: &SdkError<E>,
) -> ActionError {
    let refused = matches!(status(error), Some(400..=499)) && !matches!(status(error), Some(408 | 429));
    let made = if refused { ActionError::refused(attempted) } else { ActionError::unchanged(attempted) };
    made.because(DisplayErrorContext(error).to_string())
}

pub(super) fn timestamp(at: aws_smithy_types::DateTime) -> Option<Timestamp> {
    Timestamp::from_second(at.secs()).ok()
}
