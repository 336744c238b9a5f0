//! The pg_dump process of one attempt: started in a process group of its own, known by pid, start time and boot, so that
//! a successor can prove it dead (P4). Gets its password by environment, never as an argument.

use std::io::Read as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, ChildStderr, ChildStdout, Command, ExitStatus, Stdio};
use std::time::Duration;

use backon::{BackoffBuilder as _, ExponentialBuilder};
use runbook_core::action::{ActionError, Context};
use rustix::process::{Pid, Signal, getpgid, kill_process, kill_process_group};
use serde::{Deserialize, Serialize};

/// The name of the checkpoint.
const CHILD: &str = "pg_dump";
/// What is kept of what it says on standard error.
const SAID_BYTES_MAX: usize = 64 << 10;
/// How long a killed process may take to go.
const DIES_WITHIN: Duration = Duration::from_secs(30);

/// One process on one boot of one machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Known {
    pid: u32,
    /// In clock ticks since boot (field 22 of `/proc/PID/stat`).
    started: Option<u64>,
    boot_id: String,
    pid_space: String,
}

/// A pg_dump that ends with this value.
#[derive(Debug)]
pub(super) struct Running {
    child: Child,
    ended: bool,
}

impl Drop for Running {
    fn drop(&mut self) {
        if !self.ended {
            self.kill();
            // It is killed: this takes no time, and leaves no zombie.
            let _status = self.child.wait();
        }
    }
}

impl Running {
    /// Starts it, and notes down which process it is.
    pub(super) async fn start(ctx: &Context, mut command: Command) -> Result<Self, ActionError> {
        let program = command.get_program().to_string_lossy().into_owned();
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).process_group(0);
        let child = command
            .spawn()
            .map_err(|error| ActionError::refused(format!("start `{program}`")).because(error))?;
        let running = Self { child, ended: false };
        let known = Known {
            pid: running.child.id(),
            started: started(running.child.id()),
            boot_id: boot_id(),
            pid_space: pid_space(),
        };
        let value = serde_json::to_value(known)
            .map_err(|error| ActionError::unchanged("note down the process").because(error))?;
        ctx.checkpoints.save(CHILD, value).await?;
        Ok(running)
    }

    /// Its output, once.
    pub(super) fn streams(&mut self) -> Option<(ChildStdout, ChildStderr)> {
        Some((self.child.stdout.take()?, self.child.stderr.take()?))
    }

    /// Waits for its end. Blocks; its outputs must have ended or be read elsewhere.
    pub(super) fn wait(mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait();
        self.ended = status.is_ok();
        status
    }

    fn kill(&self) {
        if let Some(pid) = Pid::from_raw(i32::try_from(self.child.id()).unwrap_or(0)) {
            // Not there any more is what is wanted.
            let _gone = kill_process_group(pid, Signal::KILL);
        }
    }
}

/// The last of what it says on standard error. Blocks until that ends.
pub(super) fn listen(mut stderr: ChildStderr) -> String {
    let mut said = Vec::new();
    let mut buffer = [0; 4096];
    while let Ok(n) = stderr.read(&mut buffer) {
        if n == 0 {
            break;
        }
        said.extend_from_slice(&buffer[..n]);
        if said.len() > SAID_BYTES_MAX * 2 {
            said.drain(..said.len() - SAID_BYTES_MAX);
        }
    }
    let from = said.len().saturating_sub(SAID_BYTES_MAX);
    String::from_utf8_lossy(&said[from..]).into_owned()
}

/// Ends every pg_dump of older attempts of this step instance that lives on this machine, and waits until it is gone.
/// Says how many it ended.
pub(super) async fn fence(ctx: &Context) -> Result<u32, ActionError> {
    let mut ended = 0;
    for pid in old_ones(ctx) {
        let Some(target) = Pid::from_raw(i32::try_from(pid).unwrap_or(0)) else { continue };
        let leads = getpgid(Some(target)).is_ok_and(|group| group == target);
        let killed =
            if leads { kill_process_group(target, Signal::KILL) } else { kill_process(target, Signal::KILL) };
        if killed.is_ok() {
            ended += 1;
        }
        gone(pid).await?;
    }
    Ok(ended)
}

async fn gone(pid: u32) -> Result<(), ActionError> {
    let deadline = tokio::time::Instant::now() + DIES_WITHIN;
    let mut waits = ExponentialBuilder::default()
        .with_min_delay(Duration::from_millis(5))
        .with_max_delay(Duration::from_millis(500))
        .without_max_times()
        .build();
    let first = started(pid);
    // Another process with the same number has another start.
    while first.is_some() && started(pid) == first {
        if tokio::time::Instant::now() >= deadline {
            return Err(ActionError::unknown(format!(
                "end the old pg_dump (process {pid}): it still lives after {DIES_WITHIN:?}"
            )));
        }
        tokio::time::sleep(waits.next().unwrap_or(Duration::from_millis(500))).await;
    }
    Ok(())
}

/// The process that was noted down, and any that was started and not noted down any more: it carries the name of its
/// attempt in its environment.
fn old_ones(ctx: &Context) -> Vec<u32> {
    let mut found = Vec::new();
    let noted = ctx.checkpoints.get(CHILD).and_then(|value| serde_json::from_value::<Known>(value).ok());
    if let Some(known) = noted
        && known.boot_id == boot_id()
        && known.pid_space == pid_space()
        && known.started.is_some()
        && started(known.pid) == known.started
        && known.pid != std::process::id()
    {
        found.push(known.pid);
    }
    let prefix = format!("PGAPPNAME={}", ctx.session_prefix());
    let mine = format!("PGAPPNAME={}", ctx.session_name());
    for entry in std::fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else {
            continue;
        };
        // Processes of others cannot be read, and are none of ours.
        let Ok(environ) = std::fs::read(entry.path().join("environ")) else { continue };
        let is_old = environ.split(|byte| *byte == 0).any(|variable| {
            let epoch = variable.strip_prefix(prefix.as_bytes());
            variable != mine.as_bytes()
                && epoch.is_some_and(|e| !e.is_empty() && e.iter().all(u8::is_ascii_digit))
        });
        if is_old && pid != std::process::id() && !found.contains(&pid) {
            found.push(pid);
        }
    }
    found
}

/// When a process started; none when it is not there, or has ended and only waits for its parent to ask.
fn started(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in field 2 may hold blanks and brackets.
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    let started = fields.nth(18)?.parse().ok()?;
    (!matches!(state, "Z" | "X")).then_some(started)
}

fn boot_id() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned()
}

fn pid_space() -> String {
    std::fs::read_link("/proc/self/ns/pid")
        .map(|path| path.to_string_lossy().into_owned())
        .unwrap_or_default()
}
