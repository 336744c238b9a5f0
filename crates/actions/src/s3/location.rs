//! Where an object is: `s3://bucket/key` or `file:///path`. Text in, text out; no network.

use std::fmt;
use std::path::PathBuf;

use runbook_core::action::ActionError;

/// Where an object is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Location {
    /// In the store of the environment's `backups`.
    S3 {
        /// Bucket name.
        bucket: String,
        /// Key, as it stands: nothing is decoded.
        key: String,
    },
    /// A file of this machine.
    File(PathBuf),
}

impl Location {
    /// Reads a URL. Refuses any other scheme, an empty bucket and an empty key.
    pub fn parse(url: &str) -> Result<Self, ActionError> {
        if let Some(rest) = url.strip_prefix("s3://") {
            if let Some((bucket, key)) = rest.split_once('/')
                && !bucket.is_empty()
                && !key.is_empty()
            {
                return Ok(Self::S3 { bucket: bucket.into(), key: key.into() });
            }
        } else if let Some(path) = url.strip_prefix("file://")
            && path.starts_with('/')
        {
            return Ok(Self::File(path.into()));
        }
        Err(ActionError::refused(format!("read `{url}` as the address of a backup"))
            .hint("Write `s3://bucket/key` or `file:///absolute/path`."))
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::S3 { bucket, key } => write!(f, "s3://{bucket}/{key}"),
            Self::File(path) => write!(f, "file://{}", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_says_the_same_after_reading() {
        for url in ["s3://b/db/production/a b.sql.gz", "file:///srv/x.dump"] {
            assert_eq!(Location::parse(url).unwrap().to_string(), url);
        }
    }

    #[test]
    fn an_address_without_bucket_key_or_known_scheme_is_refused() {
        for url in ["", "s3://", "s3://b", "s3://b/", "s3:///k", "file://x", "https://h/x"] {
            assert!(Location::parse(url).is_err(), "{url}");
        }
    }
}
