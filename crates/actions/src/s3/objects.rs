//! Writing objects: whole with a checksum that the store holds us to, or in parts that become an object at once
//! or not at all. Never overwrites by itself and never deletes an object.

use aws_sdk_s3::types::{CompletedMultipartUpload, CompletedPart};
use base64::Engine as _;
use bytes::Bytes;
use runbook_core::action::ActionError;

use super::store::{Store, failed};

impl Store {
    /// Stores a small object. The store computes the sha256 anew and refuses other bytes.
    pub(crate) async fn put(&self, key: &str, bytes: Bytes, sha256: &[u8]) -> Result<(), ActionError> {
        let sum = base64::engine::general_purpose::STANDARD.encode(sha256);
        let put = self.client.put_object().bucket(&self.bucket).key(key).checksum_sha256(sum);
        match put.body(bytes.into()).send().await {
            Ok(_) => Ok(()),
            Err(error) => Err(failed(format!("write `s3://{}/{key}`", self.bucket), &error)),
        }
    }

    /// Begins an object that is sent in parts.
    pub(crate) async fn put_in_parts(&self, key: &str) -> Result<PartedUpload, ActionError> {
        let begun = self.client.create_multipart_upload().bucket(&self.bucket).key(key).send().await;
        let begun =
            begun.map_err(|error| failed(format!("begin to write `s3://{}/{key}`", self.bucket), &error))?;
        let id = begun.upload_id().unwrap_or_default().to_owned();
        Ok(PartedUpload { store: self.clone(), key: key.into(), id, parts: Vec::new() })
    }
}

/// An object on its way. Not there before [`PartedUpload::complete`].
pub(crate) struct PartedUpload {
    store: Store,
    key: String,
    id: String,
    parts: Vec<CompletedPart>,
}

impl PartedUpload {
    fn attempted(&self, what: &str) -> String {
        format!("{what} `s3://{}/{}`", self.store.bucket, self.key)
    }

    /// Sends the next part; every one but the last has at least 5 MiB.
    pub(crate) async fn part(&mut self, bytes: Bytes) -> Result<(), ActionError> {
        let number = i32::try_from(self.parts.len() + 1).unwrap_or(i32::MAX);
        let store = &self.store;
        let sent = store.client.upload_part().bucket(&store.bucket).key(&self.key).upload_id(&self.id);
        let sent = sent.part_number(number).body(bytes.into()).send().await;
        let sent =
            sent.map_err(|error| failed(self.attempted(&format!("write part {number} of")), &error))?;
        let part = CompletedPart::builder().part_number(number).set_e_tag(sent.e_tag().map(Into::into));
        self.parts.push(part.build());
        Ok(())
    }

    /// Makes the object of its parts.
    pub(crate) async fn complete(self) -> Result<(), ActionError> {
        let parts = CompletedMultipartUpload::builder().set_parts(Some(self.parts.clone())).build();
        let store = &self.store;
        let done = store.client.complete_multipart_upload().bucket(&store.bucket).key(&self.key);
        let done = done.upload_id(&self.id).multipart_upload(parts).send().await;
        done.map(drop).map_err(|error| failed(self.attempted("finish"), &error))
    }

    /// Throws the parts away. What cannot be thrown away costs space until the bucket's rules remove it.
    pub(crate) async fn abandon(self) {
        let store = &self.store;
        let gone = store.client.abort_multipart_upload().bucket(&store.bucket).key(&self.key);
        if let Err(error) = gone.upload_id(&self.id).send().await {
            tracing::warn!(key = self.key, %error, "parts of an upload stay behind");
        }
    }
}
