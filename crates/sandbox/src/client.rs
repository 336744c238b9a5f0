//! For those outside the daemon: start and stop it, and talk to its control API. Speaks just enough
//! HTTP for that: one request on one connection, the answer read to its end.

use std::fs::File;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};

use crate::backup::{BackupOptions, StoredBackup};
use crate::endpoints::{Endpoints, Layout, Status};
use crate::error::SandboxError;
use crate::postgres::{Place, end_orphan};
use crate::providers::Metric;
use crate::providers::payment::{Paid, Payment, PaymentProvider};
use crate::seed::{Damage, SeedSize};
use crate::shared::Timing;
use crate::web::Fault;

/// How often a daemon that starts or stops is looked at.
const POLL: Duration = Duration::from_millis(50);
/// An answer of the control API is at most so long.
const ANSWER_BYTES_MAX: u64 = 64 * 1024 * 1024;
/// One stand-in waits so long for another.
const FETCH_WAIT: Duration = Duration::from_secs(10);

/// The sandbox of a state directory, started when it does not run. `exe` is the `runbook` program; it
/// is started apart as `exe sandbox serve` with `RUNBOOK_STATE_DIR` set. Waits until the sandbox
/// answers or the daemon has ended, not for a time.
///
/// # Errors
///
/// When the daemon cannot be started or ends before it is ready; the error holds the end of its log.
pub async fn ensure_started(state_dir: &Path, exe: &Path) -> Result<Endpoints, SandboxError> {
    if let Some(status) = status(state_dir).await? {
        return Ok(status.endpoints);
    }
    let layout = Layout::of(state_dir);
    crate::disk::private_dir(layout.root())?;
    // A daemon that was killed a moment ago may still hold lock and ports; one that starts will answer.
    let mut daemon = None;
    loop {
        if let Some(status) = status(state_dir).await? {
            return Ok(status.endpoints);
        }
        match &mut daemon {
            None if is_free(&layout)? => daemon = Some(spawn(&layout, state_dir, exe)?),
            None => {}
            Some(child) => {
                let ended = child.try_wait().map_err(SandboxError::disk("wait for", exe))?;
                // When the lock is taken, another process was quicker, and its daemon is the one.
                if let Some(status) = ended
                    && is_free(&layout)?
                {
                    let (status, log) = (status.to_string(), crate::disk::tail(&layout.log(), 2000));
                    return Err(SandboxError::DaemonDied { status, log });
                }
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

fn spawn(layout: &Layout, state_dir: &Path, exe: &Path) -> Result<Child, SandboxError> {
    let log = File::create(layout.log()).map_err(SandboxError::disk("make", layout.log()))?;
    let mut command = Command::new(exe);
    command.args(["sandbox", "serve"]).env("RUNBOOK_STATE_DIR", state_dir);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).process_group(0);
    command.spawn().map_err(SandboxError::disk("run", exe))
}

/// How the sandbox stands, or none when it does not run.
///
/// # Errors
///
/// When its files cannot be read.
pub async fn status(state_dir: &Path) -> Result<Option<Status>, SandboxError> {
    let Some(endpoints) = Endpoints::load(&Layout::of(state_dir))? else { return Ok(None) };
    let answer: Result<Value, _> = call(&endpoints, "GET", "status", &()).await;
    let Ok(answer) = answer else { return Ok(None) };
    let number = |name: &str| answer[name].as_u64().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let backups = answer["backups"].as_array().into_iter().flatten();
    Ok(Some(Status {
        projects: number("projects"),
        seeded: answer["seeded"] == true,
        damaged: answer["damaged"] == true,
        backups: backups.filter_map(|key| key.as_str().map(str::to_owned)).collect(),
        faults: number("faults"),
        endpoints: serde_json::from_value(answer["endpoints"].clone())
            .map_err(|source| SandboxError::Damaged { path: Layout::of(state_dir).endpoints(), source })?,
    }))
}

/// Stops the daemon and its PostgreSQL, and waits until both are gone. A server that an unlucky daemon
/// left behind is ended, too. Nothing happens when nothing runs.
///
/// # Errors
///
/// When PostgreSQL cannot be stopped.
pub async fn stop(state_dir: &Path) -> Result<(), SandboxError> {
    let layout = Layout::of(state_dir);
    if !layout.root().exists() {
        return Ok(());
    }
    if let Some(endpoints) = Endpoints::load(&layout)? {
        let asked: Result<Value, _> = call(&endpoints, "POST", "stop", &()).await;
        if asked.is_err() && !is_free(&layout)? {
            // It lives (it holds the lock) and does not answer: the signal is heard all the same.
            let pid = i32::try_from(endpoints.pid).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                rustix::process::kill_process(pid, rustix::process::Signal::TERM)
                    .map_err(|e| SandboxError::disk("end the daemon of", layout.root())(e.into()))?;
            }
        }
    }
    while !is_free(&layout)? {
        tokio::time::sleep(POLL).await;
    }
    match Place::known(&layout)? {
        Some(place) => end_orphan(&place).await,
        None => Ok(()),
    }
}

/// Stops the sandbox and removes everything that it made, for `reset` and for tests.
///
/// # Errors
///
/// When something cannot be stopped or removed.
pub async fn destroy(state_dir: &Path) -> Result<(), SandboxError> {
    stop(state_dir).await?;
    let layout = Layout::of(state_dir);
    if !layout.root().exists() {
        return Ok(());
    }
    if let Some(place) = Place::known(&layout)? {
        std::fs::remove_dir_all(&place.folder).map_err(SandboxError::disk("remove", &place.folder))?;
    }
    std::fs::remove_dir_all(layout.root()).map_err(SandboxError::disk("remove", layout.root()))
}

/// Fills the live project.
///
/// # Errors
///
/// When it is seeded already, or the sandbox does not run.
pub async fn seed(endpoints: &Endpoints, size: SeedSize) -> Result<(), SandboxError> {
    call::<Value>(endpoints, "POST", "seed", &size).await.map(drop)
}

/// Backs the live project up into the bucket.
///
/// # Errors
///
/// When `pg_dump` fails, or the sandbox does not run.
pub async fn backup(endpoints: &Endpoints, options: BackupOptions) -> Result<StoredBackup, SandboxError> {
    call(endpoints, "POST", "backup", &options).await
}

/// Damages the live project.
///
/// # Errors
///
/// When it is not seeded, or the sandbox does not run.
pub async fn break_with(endpoints: &Endpoints, damage: Damage) -> Result<(), SandboxError> {
    call::<Value>(endpoints, "POST", "break", &damage).await.map(drop)
}

/// Makes a stand-in misbehave.
///
/// # Errors
///
/// When the sandbox does not run.
pub async fn fault(endpoints: &Endpoints, fault: &Fault) -> Result<(), SandboxError> {
    call::<Value>(endpoints, "POST", "fault", fault).await.map(drop)
}

/// Makes a payment happen at a payment provider. The application may or may not hear of it.
///
/// # Errors
///
/// When the amount is none, or the sandbox does not run.
pub async fn pay(
    endpoints: &Endpoints,
    provider: PaymentProvider,
    payment: &Payment,
) -> Result<Paid, SandboxError> {
    let mut body = serde_json::json!(payment);
    body["provider"] = serde_json::json!(provider);
    call(endpoints, "POST", "pay", &body).await
}

/// Takes all faults back.
///
/// # Errors
///
/// When the sandbox does not run.
pub async fn clear_faults(endpoints: &Endpoints) -> Result<(), SandboxError> {
    call::<Value>(endpoints, "DELETE", "fault", &()).await.map(drop)
}

/// Changes how long slow things take.
///
/// # Errors
///
/// When the sandbox does not run.
pub async fn timing(endpoints: &Endpoints, timing: Timing) -> Result<(), SandboxError> {
    call::<Value>(endpoints, "POST", "timing", &timing).await.map(drop)
}

/// Sets a series of the Prometheus stand-in, `name` or `name{label="value"}`, or takes it away.
///
/// # Errors
///
/// When the name cannot be read, or the sandbox does not run.
pub async fn metric(endpoints: &Endpoints, name: &str, value: Option<f64>) -> Result<(), SandboxError> {
    let metric = Metric { name: name.to_owned(), value };
    call::<Value>(endpoints, "POST", "metric", &metric).await.map(drop)
}

/// Everything the stand-ins know, secrets as digests: for tests.
///
/// # Errors
///
/// When the sandbox does not run.
pub async fn inspect(endpoints: &Endpoints) -> Result<Value, SandboxError> {
    call(endpoints, "GET", "state", &()).await
}

/// What the sample application answers at a path, whatever its status.
///
/// # Errors
///
/// When it does not answer, or not in JSON.
pub async fn application(endpoints: &Endpoints, path: &str) -> Result<Value, SandboxError> {
    let host = endpoints.app_url.trim_start_matches("http://");
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    let answer = exchange(host, &request)
        .await
        .map_err(|source| SandboxError::NotRunning { address: endpoints.app_url.clone(), source })?;
    let (_head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    serde_json::from_str(body)
        .map_err(|source| SandboxError::Damaged { path: endpoints.app_url.clone().into(), source })
}

/// Whether no daemon holds the lock.
fn is_free(layout: &Layout) -> Result<bool, SandboxError> {
    let path = layout.lock();
    match File::options().write(true).open(&path) {
        Ok(file) => match file.try_lock_shared() {
            Ok(()) => Ok(true),
            Err(std::fs::TryLockError::WouldBlock) => Ok(false),
            Err(std::fs::TryLockError::Error(error)) => Err(SandboxError::disk("lock", path)(error)),
        },
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Ok(true),
        Err(e) => Err(SandboxError::disk("open", path)(e)),
    }
}

async fn call<T: DeserializeOwned>(
    endpoints: &Endpoints,
    method: &str,
    path: &str,
    body: &impl Serialize,
) -> Result<T, SandboxError> {
    let token_file = endpoints.layout().secret("control_token");
    let token = std::fs::read_to_string(&token_file).map_err(SandboxError::disk("read", token_file))?;
    let damaged = |source| SandboxError::Damaged { path: endpoints.control_url.clone().into(), source };
    let body = serde_json::to_string(body).map_err(damaged)?;
    let host = endpoints.control_url.trim_start_matches("http://");
    let request = format!(
        "{method} /_sandbox/{path} HTTP/1.1\r\nhost: {host}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        token.trim_end(),
        body.len(),
    );
    let answer = exchange(host, &request)
        .await
        .map_err(|source| SandboxError::NotRunning { address: endpoints.control_url.clone(), source })?;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
    let status = head.split(' ').nth(1).unwrap_or_default();
    let value: Value = serde_json::from_str(body).map_err(damaged)?;
    if status.starts_with('2') {
        return serde_json::from_value(value).map_err(damaged);
    }
    Err(SandboxError::Refused { message: value["error"].as_str().unwrap_or(body).to_owned() })
}

/// The daemon answers with a content length, never in chunks, so the rest of the stream is the body.
async fn exchange(host: &str, request: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(host).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.take(ANSWER_BYTES_MAX).read_to_string(&mut answer).await?;
    if answer.is_empty() {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(answer)
}

/// An answer, whole.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) status: u16,
    pub(crate) content_type: String,
    pub(crate) body: Vec<u8>,
}

/// One request of one stand-in to another, on a connection of its own. Both ends are ours: answers have a
/// content length and are never in chunks.
pub(crate) async fn fetch(
    method: &str,
    url: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Fetched> {
    let invalid = |why: &str| std::io::Error::new(std::io::ErrorKind::InvalidInput, why);
    let rest = url.strip_prefix("http://").ok_or_else(|| invalid("the address is not http"))?;
    let (host, path) = rest.split_once('/').unwrap_or((rest, ""));
    let mut head = format!(
        "{method} /{path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    let texts = headers.iter().map(|(_, value)| *value).chain([path, host]);
    if texts.into_iter().any(|text| text.contains(char::is_control)) || path.contains(' ') {
        return Err(invalid("the request holds characters that it must not"));
    }
    head.push_str("\r\n");
    let work = async {
        let mut stream = TcpStream::connect(host).await?;
        stream.write_all(head.as_bytes()).await?;
        stream.write_all(body).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let late = |_| std::io::Error::from(std::io::ErrorKind::TimedOut);
    let answer = tokio::time::timeout(FETCH_WAIT, work).await.map_err(late)??;
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let end = end.ok_or_else(|| std::io::Error::from(std::io::ErrorKind::UnexpectedEof))?;
    let head = String::from_utf8_lossy(&answer[..end]).into_owned();
    let field = |wanted: &str| {
        let lines = head.lines().filter_map(|line| line.split_once(':'));
        lines.filter(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.trim()).next()
    };
    let body = answer[end + 4..].to_vec();
    if field("content-length").and_then(|n| n.parse().ok()).is_some_and(|length: usize| length != body.len())
    {
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    let status = head.split(' ').nth(1).and_then(|text| text.parse().ok()).unwrap_or(0);
    Ok(Fetched { status, content_type: field("content-type").unwrap_or_default().to_owned(), body })
}
