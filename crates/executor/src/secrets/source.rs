//! Reads one value from its source. Remembers nothing, and says nothing about a value but that it is missing,
//! empty, too long or not text.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::Read;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use runbook_core::environment::SecretSource;
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::AsyncReadExt;
use tokio::process::{Child, Command};
use zeroize::Zeroizing;

use crate::vault::VALUE_BYTES_MAX;

/// How long a command may take. A password manager that waits for a finger on a key needs some seconds; nobody
/// waits longer for one that hangs.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// Looks up an environment variable.
pub(super) type Variables = dyn Fn(&str) -> Option<OsString> + Send + Sync;

/// How this process reads variables and how patient it is.
pub(super) struct Sources {
    pub(super) variable: Box<Variables>,
    pub(super) command_timeout: Duration,
}

impl Sources {
    pub(super) fn of_process() -> Self {
        Self { variable: Box::new(|name| std::env::var_os(name)), command_timeout: COMMAND_TIMEOUT }
    }

    /// The value, or why there is none.
    pub(super) fn read(&self, source: &SecretSource) -> Result<Zeroizing<String>, String> {
        let (from, bytes) = match source {
            SecretSource::Env(name) => {
                let value = (self.variable)(name);
                let value = value.ok_or_else(|| format!("environment variable `{name}` is not set"))?;
                (format!("environment variable `{name}`"), Zeroizing::new(value.into_encoded_bytes()))
            }
            SecretSource::File(path) => (format!("file `{path}`"), without_newline(read_file(path)?)),
            SecretSource::Command(words) => {
                let (program, arguments) = words.split_first().ok_or("its command is empty")?;
                let output = run(program, arguments, self.command_timeout)?;
                (format!("command `{program}`"), without_newline(output))
            }
        };
        if bytes.is_empty() {
            return Err(format!("{from} gives an empty value"));
        }
        if bytes.len() > VALUE_BYTES_MAX {
            return Err(format!("{from} gives more than {VALUE_BYTES_MAX} bytes"));
        }
        let text =
            std::str::from_utf8(&bytes).map_err(|_| format!("{from} gives bytes that are no UTF-8 text"))?;
        Ok(Zeroizing::new(text.to_owned()))
    }
}

/// One newline, which editors and `echo` add. More of them, and blanks, may belong to the value.
fn without_newline(mut bytes: Zeroizing<Vec<u8>>) -> Zeroizing<Vec<u8>> {
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    }
    bytes
}

/// Room for what is one byte too long, with its newline, so that too long is seen as such. Never grows, since
/// that would leave copies behind.
fn buffer() -> Zeroizing<Vec<u8>> {
    Zeroizing::new(Vec::with_capacity(VALUE_BYTES_MAX + 64))
}

const READ_MAX: u64 = VALUE_BYTES_MAX as u64 + 3;

/// Only plain files: reading a pipe or a device may wait for ever.
fn read_file(path: &str) -> Result<Zeroizing<Vec<u8>>, String> {
    let failed = |error: std::io::Error| format!("file `{path}` cannot be read: {error}");
    if !fs::metadata(path).map_err(failed)?.is_file() {
        return Err(format!("`{path}` is not a plain file"));
    }
    let mut bytes = buffer();
    File::open(path).map_err(failed)?.take(READ_MAX).read_to_end(&mut bytes).map_err(failed)?;
    Ok(bytes)
}

/// Runs a program, without a shell, and takes its output. On a thread with a runtime of its own, because whoever
/// wants a secret may be inside of one, where nothing may block.
fn run(program: &str, arguments: &[String], timeout: Duration) -> Result<Zeroizing<Vec<u8>>, String> {
    let work = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("command `{program}` cannot be started: {error}"))?;
        runtime.block_on(output(program, arguments, timeout))
    };
    std::thread::scope(|scope| scope.spawn(work).join())
        .map_err(|_| format!("command `{program}`: this is a bug in runbook: its reader panicked"))?
}

async fn output(
    program: &str,
    arguments: &[String],
    timeout: Duration,
) -> Result<Zeroizing<Vec<u8>>, String> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        // It may hold the value, or part of it; the exit status has to do.
        .stderr(Stdio::null())
        // Its own group, so that what it starts can be ended with it.
        .process_group(0)
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| format!("command `{program}` cannot be started: {error}"))?;
    let group = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    let mut bytes = buffer();
    let ended = tokio::time::timeout(timeout, collect(&mut child, &mut bytes)).await;
    // Not reaped yet unless it ended by itself, so the number is still its own.
    if !matches!(ended, Ok(Ok(_))) {
        if let Some(group) = group {
            // Gone by itself in between: there is nothing left to end.
            let _gone = kill_process_group(group, Signal::KILL);
        }
        child.wait().await.map_err(|error| format!("command `{program}` cannot be ended: {error}"))?;
    }
    match ended {
        Err(_) => {
            Err(format!("command `{program}` was ended after {} s without an answer", timeout.as_secs_f32()))
        }
        Ok(Err(why)) => Err(format!("command `{program}` {why}")),
        Ok(Ok(status)) if !status.success() => Err(format!("command `{program}` failed ({status})")),
        Ok(Ok(_)) => Ok(bytes),
    }
}

/// Reads up to one byte too many, then waits for the end.
async fn collect(child: &mut Child, bytes: &mut Vec<u8>) -> Result<ExitStatus, String> {
    let stdout = child.stdout.take().ok_or("has no output")?;
    let read = stdout.take(READ_MAX).read_to_end(bytes).await;
    read.map_err(|error| format!("cannot be read: {error}"))?;
    if bytes.len() > VALUE_BYTES_MAX + 2 {
        return Err(format!("gives more than {VALUE_BYTES_MAX} bytes"));
    }
    child.wait().await.map_err(|error| format!("cannot be waited for: {error}"))
}
