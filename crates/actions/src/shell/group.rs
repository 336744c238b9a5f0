//! A process group that belongs to an attempt: who is in it, is it still the one that was recorded, ending it.
//! Facts: proc(5); a group's number is not given to another process while the group has members.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process, kill_process_group, test_kill_process_group};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

/// How long members get between SIGTERM and SIGKILL.
pub(super) const GRACE: Duration = Duration::from_secs(3);
/// How long SIGKILL may take; longer means a process that the kernel cannot end.
const DEATH: Duration = Duration::from_secs(10);
/// Pause between two looks.
const LOOK: Duration = Duration::from_millis(20);
/// The variable that marks whoever descends from the attempt, also when it left the group.
pub(super) const MARK: &str = "RUNBOOK_PROCESS";

/// A process group, as the checkpoint has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Group {
    /// Of its leader, and of the group.
    pub(super) pid: u32,
    /// When the leader started, in clock ticks since boot; none where that cannot be read.
    started: Option<u64>,
    /// No process outlives its boot.
    boot_id: String,
    /// In another PID namespace the same number is another process.
    pid_space: String,
    /// The machine's name.
    host: String,
    /// Value of [`MARK`].
    pub(super) mark: String,
}

/// Why it cannot be proven that a group is dead.
#[derive(Debug, thiserror::Error)]
pub(super) enum Doubt {
    /// It ran elsewhere.
    #[error("it ran on `{0}`, and this is another machine or container")]
    Elsewhere(String),
    /// There is no way to look.
    #[error("this machine does not tell whose the processes of group {0} are")]
    Unreadable(u32),
    /// It does not die.
    #[error("{0} of its processes do not end")]
    Immortal(usize),
}

impl Group {
    /// The group of a process that was started as its leader.
    pub(super) fn of(pid: u32, mark: &str) -> Self {
        Self {
            pid,
            started: stat(pid).map(|stat| stat.started),
            boot_id: boot_id(),
            pid_space: pid_space(),
            host: host(),
            mark: mark.to_owned(),
        }
    }

    fn raw(&self) -> Option<Pid> {
        i32::try_from(self.pid).ok().and_then(Pid::from_raw)
    }

    /// Proves that no member is alive, ending those that are. Says how many there were.
    pub(super) async fn end(&self, grace: Duration) -> Result<u32, Doubt> {
        if self.boot_id != boot_id() && self.host == host() {
            return Ok(0);
        }
        if self.boot_id != boot_id() || self.pid_space != pid_space() {
            return Err(Doubt::Elsewhere(self.host.clone()));
        }
        if !Path::new("/proc/self/stat").exists() {
            return self.end_unseen();
        }
        let found = self.members();
        if found.is_empty() {
            return Ok(0);
        }
        self.signal(&found, Signal::TERM);
        if !self.gone_within(grace).await.is_empty() {
            let rest = self.members();
            self.signal(&rest, Signal::KILL);
            let rest = self.gone_within(DEATH).await;
            if !rest.is_empty() {
                return Err(Doubt::Immortal(rest.len()));
            }
        }
        Ok(u32::try_from(found.len()).unwrap_or(u32::MAX))
    }

    /// SIGKILL to whoever is there, without waiting: for an attempt that is dropped.
    pub(super) fn kill(&self) {
        self.signal(&self.members(), Signal::KILL);
    }

    /// Without `/proc` only a group that has no member at all is a proof.
    fn end_unseen(&self) -> Result<u32, Doubt> {
        match self.raw().map(test_kill_process_group) {
            Some(Err(rustix::io::Errno::SRCH)) | None => Ok(0),
            _ => Err(Doubt::Unreadable(self.pid)),
        }
    }

    async fn gone_within(&self, longest: Duration) -> BTreeSet<u32> {
        let end = Instant::now() + longest;
        loop {
            let rest = self.members();
            if rest.is_empty() || Instant::now() >= end {
                return rest;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    fn signal(&self, members: &BTreeSet<u32>, signal: Signal) {
        // The group at once, so that no member starts another in between; only while it is this very group.
        let own = members.iter().any(|&pid| stat(pid).is_some_and(|stat| stat.group == self.pid));
        if let Some(group) = self.raw().filter(|_| own) {
            ignore_gone(kill_process_group(group, signal));
        }
        for pid in members.iter().filter_map(|&pid| i32::try_from(pid).ok().and_then(Pid::from_raw)) {
            ignore_gone(kill_process(pid, signal));
        }
    }

    /// Who is alive of the group, and who carries the mark.
    fn members(&self) -> BTreeSet<u32> {
        // Another process with the leader's number proves that the group had ended before.
        let is_replaced = match (stat(self.pid), self.started) {
            (Some(now), Some(then)) => now.started != then,
            _ => false,
        };
        let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
        let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
        let wanted = format!("{MARK}={}", self.mark);
        pids.filter(|&pid| {
            let Some(stat) = stat(pid).filter(|stat| !stat.gone) else { return false };
            let in_group = !is_replaced && stat.group == self.pid;
            // Whoever is in the group began after its leader; a younger boot's clock is ruled out above.
            let young = self.started.is_none_or(|started| stat.started >= started);
            (in_group && young) || marked(pid, &wanted)
        })
        .collect()
    }
}

/// A process that is gone already needs no signal; one that may not be signalled is seen to live afterwards.
fn ignore_gone(signalled: rustix::io::Result<()>) {
    if let Err(error) = signalled {
        tracing::debug!(%error, "a process was not signalled");
    }
}

fn marked(pid: u32, wanted: &str) -> bool {
    let environ = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
    environ.split(|byte| *byte == 0).any(|pair| pair == wanted.as_bytes())
}

/// What `/proc/PID/stat` says.
struct Stat {
    group: u32,
    started: u64,
    /// Ended, and only waits for its parent to ask.
    gone: bool,
}

/// Fields 3 (state), 5 (group) and 22 (start). The name in field 2 may hold blanks and brackets, so the fields are
/// counted from the last bracket.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read(format!("/proc/{pid}/stat")).ok()?;
    let text = String::from_utf8_lossy(&text);
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    let group = fields.nth(1)?.parse().ok()?;
    let started = fields.nth(16)?.parse().ok()?;
    let threads = || fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
    Some(Stat { group, started, gone: matches!(state, "Z" | "X") && threads() <= 1 })
}

fn line(path: &str) -> String {
    fs::read_to_string(path).map(|text| text.trim().to_owned()).unwrap_or_default()
}

fn boot_id() -> String {
    line("/proc/sys/kernel/random/boot_id")
}

fn pid_space() -> String {
    fs::read_link("/proc/self/ns/pid").map(|link| link.to_string_lossy().into_owned()).unwrap_or_default()
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
