//! A real S3 server on a folder, in this process.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use axum::body::Body;
use axum::extract::Request;
use axum::http::{Method, StatusCode, header::RANGE};
use axum::response::IntoResponse as _;
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
    fault: Arc<Mutex<Option<Fault>>>,
}

/// What goes wrong with ranged GETs.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// Those that begin at this byte give this byte of theirs altered.
    Altered { from: u64, at: usize },
    /// Those that begin at this byte or behind it fail, so many times.
    Failing { from: u64, times: u32 },
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
        let fault = Arc::new(Mutex::new(None));
        let faults = fault.clone();
        let router = axum::Router::new().fallback(move |request: Request| {
            let (service, wrong) = (service.clone(), wrong(&faults, &request));
            async move {
                if let Some(Fault::Failing { .. }) = wrong {
                    return Ok((StatusCode::INTERNAL_SERVER_ERROR, Body::empty()).into_response());
                }
                let answer = service.call(request.map(s3s::Body::http_body_unsync)).await;
                let answer = answer.map_err(|error| format!("{error:?}"))?.map(Body::new);
                let Some(Fault::Altered { at, .. }) = wrong else { return Ok(answer) };
                let (head, body) = answer.into_parts();
                let mut bytes =
                    axum::body::to_bytes(body, usize::MAX).await.map_err(|error| error.to_string())?.to_vec();
                bytes[at] ^= 1;
                Ok::<_, String>(axum::response::Response::from_parts(head, Body::from(bytes)))
            }
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let endpoint = format!("http://{}", listener.local_addr().expect("it is bound"));
        let server = tokio::spawn(async move {
            axum::serve(listener, router).await.expect("it serves");
        });
        Self { folder, server, endpoint, fault }
    }

    /// From now on something goes wrong, or nothing does.
    pub(crate) fn fails(&self, fault: Option<Fault>) {
        *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = fault;
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

/// What is to go wrong with a request.
fn wrong(faults: &Mutex<Option<Fault>>, request: &Request) -> Option<Fault> {
    let range = request.headers().get(RANGE)?.to_str().ok()?.strip_prefix("bytes=")?;
    let start: u64 = range.split('-').next()?.parse().ok()?;
    let mut faults = faults.lock().unwrap_or_else(PoisonError::into_inner);
    let fault = faults.as_mut().filter(|_| request.method() == Method::GET)?;
    match fault {
        Fault::Altered { from, .. } => (*from == start).then_some(*fault),
        Fault::Failing { from, times } => {
            let now = start >= *from && *times > 0;
            *times -= u32::from(now);
            now.then_some(*fault)
        }
    }
}
