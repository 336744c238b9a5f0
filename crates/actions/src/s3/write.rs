//! Writing to a bucket: an object is made once and never replaced, in one request or in parts. Deleting is here too.
//! Which object may be deleted, and when, is decided elsewhere.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_s3::config::timeout::TimeoutConfig;
use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart, ObjectLockLegalHoldStatus, ObjectLockMode};
use base64::Engine as _;
use bytes::Bytes;
use jiff::Timestamp;
use runbook_core::action::ActionError;

use super::store::{Store, failed, status, timestamp};

/// One part, or one object that is sent whole.
const PART_TIMEOUT: Duration = Duration::from_secs(600);
/// Uploads of one key that were begun and not ended; more are somebody else's trouble.
const UNFINISHED_MAX: usize = 1000;

/// An object that is not there yet.
#[derive(Debug, Clone)]
pub(crate) struct NewObject {
    /// Its key.
    pub(crate) key: String,
    /// Its content type.
    pub(crate) content_type: &'static str,
    /// User metadata: names in lower case, values in ASCII.
    pub(crate) metadata: BTreeMap<String, String>,
}

/// What became of an attempt to make an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Put {
    /// It was not there and is now.
    Created,
    /// Something is there under that key, and was left as it is.
    Exists,
}

/// A part that the store has.
pub(crate) type Part = CompletedPart;

/// User metadata may be ASCII only.
pub(crate) fn ascii(text: &str) -> String {
    text.chars().map(|c| if c.is_ascii_graphic() || c == ' ' { c } else { '_' }).collect()
}

impl Store {
    /// Sends an object whole, with its sha256 for the store to check and keep.
    pub(crate) async fn put_new(
        &self,
        new: &NewObject,
        bytes: Bytes,
        sha256: &str,
    ) -> Result<Put, ActionError> {
        let attempted = || format!("write `s3://{}/{}`", self.bucket, new.key);
        let sum = hex::decode(sha256).map(|sum| base64::engine::general_purpose::STANDARD.encode(sum));
        let sum = sum.map_err(|error| ActionError::refused(attempted()).because(error))?;
        let mut once = true;
        let mut with_sum = true;
        loop {
            let mut request = self.client.put_object().bucket(&self.bucket).key(&new.key);
            request = request.content_type(new.content_type).body(bytes.clone().into());
            for (name, value) in &new.metadata {
                request = request.metadata(name, value);
            }
            if once {
                request = request.if_none_match("*");
            }
            if with_sum {
                request = request.checksum_sha256(&sum);
            }
            let sent = request.customize().config_override(patient()).send().await;
            match sent {
                Ok(_) => return Ok(Put::Created),
                Err(error) if status(&error) == Some(412) => return Ok(Put::Exists),
                // A store that knows neither conditions nor checksums says so without acting.
                Err(error) if once && not_known(&error) => {
                    if self.head(&new.key).await?.is_some() {
                        return Ok(Put::Exists);
                    }
                    once = false;
                }
                Err(error) if with_sum && not_known(&error) => with_sum = false,
                Err(error) => return Err(raced(failed(attempted(), &error), &error)),
            }
        }
    }

    /// Whether the store refuses to write a small object over the same one: some ignore the condition.
    pub(crate) async fn refuses_a_second(&self, key: &str, text: &str) -> Result<bool, ActionError> {
        let request = self.client.put_object().bucket(&self.bucket).key(key).content_type("text/plain");
        let request = request.if_none_match("*").body(text.as_bytes().to_vec().into());
        match request.send().await {
            Ok(_) => Ok(false),
            Err(error) if status(&error) == Some(412) => Ok(true),
            Err(error) if not_known(&error) => Ok(false),
            Err(error) => {
                let attempted = format!("ask whether the store keeps `s3://{}/{key}` as it is", self.bucket);
                Err(failed(attempted, &error))
            }
        }
    }

    /// Begins an upload in parts; gives its id.
    pub(crate) async fn begin(&self, new: &NewObject) -> Result<String, ActionError> {
        let attempted = || format!("begin to write `s3://{}/{}`", self.bucket, new.key);
        let mut request = self.client.create_multipart_upload().bucket(&self.bucket).key(&new.key);
        request = request.content_type(new.content_type);
        for (name, value) in &new.metadata {
            request = request.metadata(name, value);
        }
        let answer = request.send().await.map_err(|error| failed(attempted(), &error))?;
        let id = answer.upload_id().map(str::to_owned);
        id.ok_or_else(|| ActionError::unchanged(format!("{}: the store gave no upload id", attempted())))
    }

    /// Sends one part, numbered from 1. Twice is once.
    pub(crate) async fn part(
        &self,
        key: &str,
        id: &str,
        number: i32,
        bytes: Bytes,
    ) -> Result<Part, ActionError> {
        let attempted = || format!("write part {number} of `s3://{}/{key}`", self.bucket);
        let request = self.client.upload_part().bucket(&self.bucket).key(key).upload_id(id);
        let request = request.part_number(number).body(bytes.into());
        let sent = request.customize().config_override(patient()).send().await;
        let answer = sent.map_err(|error| failed(attempted(), &error))?;
        Ok(CompletedPart::builder().part_number(number).set_e_tag(answer.e_tag).build())
    }

    /// Makes one object of the parts, unless something is there by now.
    pub(crate) async fn complete(&self, key: &str, id: &str, parts: &[Part]) -> Result<Put, ActionError> {
        let attempted = || format!("put `s3://{}/{key}` together of its parts", self.bucket);
        let mut once = true;
        loop {
            let parts = CompletedMultipartUpload::builder().set_parts(Some(parts.to_vec())).build();
            let mut request = self.client.complete_multipart_upload().bucket(&self.bucket).key(key);
            request = request.upload_id(id).multipart_upload(parts);
            if once {
                request = request.if_none_match("*");
            }
            match request.customize().config_override(patient()).send().await {
                Ok(_) => return Ok(Put::Created),
                Err(error) if status(&error) == Some(412) => return Ok(Put::Exists),
                Err(error) if once && not_known(&error) => {
                    if self.head(key).await?.is_some() {
                        return Ok(Put::Exists);
                    }
                    once = false;
                }
                Err(error) => return Err(raced(failed(attempted(), &error), &error)),
            }
        }
    }

    /// Gives up an upload in parts. One that is gone already is given up.
    pub(crate) async fn abort(&self, key: &str, id: &str) -> Result<(), ActionError> {
        let request = self.client.abort_multipart_upload().bucket(&self.bucket).key(key).upload_id(id);
        match request.send().await {
            Ok(_) => Ok(()),
            Err(error) if status(&error) == Some(404) => Ok(()),
            Err(error) => {
                Err(failed(format!("give up the unfinished upload of `s3://{}/{key}`", self.bucket), &error))
            }
        }
    }

    /// Ids of uploads in parts of this key that were begun and not ended; none when the store cannot say.
    pub(crate) async fn unfinished(&self, key: &str) -> Result<Option<Vec<String>>, ActionError> {
        let attempted = || format!("list unfinished uploads of `s3://{}/{key}`", self.bucket);
        let request = self.client.list_multipart_uploads().bucket(&self.bucket).prefix(key);
        let answer = match request.send().await {
            Ok(answer) => answer,
            Err(error) if not_known(&error) || matches!(status(&error), Some(403..=405)) => {
                return Ok(None);
            }
            Err(error) => return Err(failed(attempted(), &error)),
        };
        let of_key = answer.uploads().iter().filter(|upload| upload.key() == Some(key));
        let ids = of_key.filter_map(|upload| upload.upload_id().map(str::to_owned));
        Ok(Some(ids.take(UNFINISHED_MAX).collect()))
    }

    /// Deletes an object. One that is not there is deleted.
    pub(crate) async fn delete(&self, key: &str) -> Result<(), ActionError> {
        match self.client.delete_object().bucket(&self.bucket).key(key).send().await {
            Ok(_) => Ok(()),
            Err(error) if status(&error) == Some(404) => Ok(()),
            Err(error) => Err(failed(format!("delete `s3://{}/{key}`", self.bucket), &error)),
        }
    }

    /// What the store says about an object beside its bytes; none when it is not there.
    pub(crate) async fn about(&self, key: &str) -> Result<Option<AboutObject>, ActionError> {
        let answer = match self.client.head_object().bucket(&self.bucket).key(key).send().await {
            Ok(answer) => answer,
            Err(error) if status(&error) == Some(404) => return Ok(None),
            Err(error) => return Err(failed(format!("ask for `s3://{}/{key}`", self.bucket), &error)),
        };
        let until = answer.object_lock_retain_until_date().and_then(|at| timestamp(*at));
        let mut lock = None;
        if answer.object_lock_legal_hold_status() == Some(&ObjectLockLegalHoldStatus::On) {
            lock = Some("a legal hold".to_owned());
        } else if let (Some(mode), Some(until)) = (answer.object_lock_mode(), until)
            && until > Timestamp::now()
        {
            lock = Some(format!("{} until {until}", mode_word(mode)));
        }
        Ok(Some(AboutObject {
            metadata: answer.metadata().cloned().unwrap_or_default().into_iter().collect(),
            lock,
        }))
    }
}

/// What the store says about an object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AboutObject {
    /// User metadata.
    pub(crate) metadata: BTreeMap<String, String>,
    /// Why the store would not delete it: `a legal hold`.
    pub(crate) lock: Option<String>,
}

fn mode_word(mode: &ObjectLockMode) -> String {
    format!("retention in mode {}", mode.as_str())
}

/// Bodies of many megabytes take longer than questions.
fn patient() -> aws_sdk_s3::config::Builder {
    aws_sdk_s3::config::Config::builder()
        .timeout_config(TimeoutConfig::builder().operation_attempt_timeout(PART_TIMEOUT).build())
}

/// Whether the store says that it does not know something that was asked for.
fn not_known<E: ProvideErrorMetadata>(error: &SdkError<E>) -> bool {
    let code = error.code().unwrap_or_default();
    status(error) == Some(501) || matches!(code, "NotImplemented" | "InvalidArgument" | "XNotImplemented")
}

/// Two writers of one key at once: the store wants the loser to try again.
fn raced<E>(made: ActionError, error: &SdkError<E>) -> ActionError {
    if status(error) != Some(409) {
        return made;
    }
    let mut again = ActionError::unchanged(made.attempted);
    again.source = made.source;
    again
}
