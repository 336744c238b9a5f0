//! A real S3 server on a folder, in this process.

use std::path::PathBuf;

use axum::extract::Request;
use runbook_core::environment::Backups;
use runbook_core::secret::SecretText;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

/// A bucket; files in its folder are its objects.
pub(crate) struct Bucket {
    folder: TempDir,
    server: tokio::task::JoinHandle<()>,
    endpoint: String,
}

impl Drop for Bucket {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Bucket {
    /// Starts a server with one bucket, `backups`.
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder");
        std::fs::create_dir(folder.path().join("backups")).expect("a bucket");
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).expect("a folder"));
        builder.set_auth(SimpleAuth::from_single("id", "secret"));
        let service = builder.build();
        let router = axum::Router::new().fallback(move |request: Request| {
            let service = service.clone();
            async move {
                let answer = service.call(request.map(s3s::Body::http_body_unsync)).await;
                answer.map(|answer| answer.map(axum::body::Body::new)).map_err(|error| format!("{error:?}"))
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves");
        });
        Self { folder, server, endpoint }
    }

    /// How an environment names it.
    pub(crate) fn settings(&self) -> Backups {
        Backups {
            bucket: "backups".into(),
            prefix: None,
            storage_prefix: None,
            data: None,
            endpoint: Some(self.endpoint.clone()),
            region: Some("us-east-1".into()),
            path_style: true,
            access_key_id: Some(SecretText::reference("id")),
            secret_access_key: Some(SecretText::reference("secret")),
        }
    }

    /// Where an object's bytes are.
    pub(crate) fn path(&self, key: &str) -> PathBuf {
        self.folder.path().join("backups").join(key)
    }

    /// Puts an object there.
    pub(crate) fn put(&self, key: &str, bytes: &[u8]) {
        let path = self.path(key);
        std::fs::create_dir_all(path.parent().expect("a key has a folder")).expect("a folder");
        std::fs::write(path, bytes).expect("a file");
    }

    /// Puts a dump there, with its `.sha256`; gives the sum.
    pub(crate) fn put_dump(&self, key: &str, bytes: &[u8]) -> String {
        let sum = hex::encode(Sha256::digest(bytes));
        self.put(key, bytes);
        self.put(
            &format!("{key}.sha256"),
            format!("{sum}  {}\n", key.rsplit('/').next().unwrap_or(key)).as_bytes(),
        );
        sum
    }
}
