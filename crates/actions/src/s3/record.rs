//! Puts one small document into the bucket: evidence. Dumps and files go another way.

use runbook_core::action::ActionError;

use super::store::{Store, failed};

impl Store {
    /// Stores JSON under a key; the same bytes again change nothing.
    pub(crate) async fn put_record(&self, key: &str, bytes: &[u8]) -> Result<(), ActionError> {
        let put = self.client.put_object().bucket(&self.bucket).key(key).content_type("application/json");
        let sent = put.body(bytes.to_vec().into()).send().await;
        sent.map(drop).map_err(|error| failed(format!("write `s3://{}/{key}`", self.bucket), &error))
    }
}
