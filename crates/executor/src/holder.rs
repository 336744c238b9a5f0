//! Who holds a lease, and whether that process still lives. Only looks; signals nobody.

use std::fs;
use std::path::Path;

use rustix::process::{Pid, test_kill_process};
use serde::{Deserialize, Serialize};

/// One process on one boot of one machine: enough to tell, later, whether it is still the same one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// The machine's name.
    pub host: String,
    /// The process.
    pub pid: u32,
    /// When the process started, in clock ticks since boot (field 22 of `/proc/PID/stat`, see proc(5)). `None`
    /// where that cannot be read. A number that was given to another process has another start.
    pub started: Option<u64>,
    /// The kernel's boot id, or empty where there is none. No process outlives it.
    pub boot_id: String,
    /// The PID namespace, or empty. In another one (a container) the same number is another process.
    #[serde(default)]
    pub pid_space: String,
    /// Who is at the keyboard.
    pub actor: String,
}

/// Whether a process lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Liveness {
    /// Seen.
    Alive,
    /// Proven gone.
    Dead,
    /// This machine cannot tell.
    Unknown,
}

impl Holder {
    /// This process, on behalf of `actor`.
    pub fn me(actor: &str) -> Self {
        let pid = std::process::id();
        Self {
            host: host(),
            pid,
            started: stat(pid).map(|stat| stat.started),
            boot_id: boot_id(),
            pid_space: pid_space(),
            actor: actor.to_owned(),
        }
    }

    /// Whether this process still lives, as far as this machine can tell. Dead is a proof, never a guess: who
    /// is said to be dead loses the run at once.
    pub fn alive(&self) -> Liveness {
        if self.host != host() {
            return Liveness::Unknown;
        }
        let boot = boot_id();
        if self.boot_id.is_empty() || boot.is_empty() {
            return self.alive_by_number();
        }
        if self.boot_id != boot {
            return Liveness::Dead;
        }
        if self.pid_space != pid_space() {
            return Liveness::Unknown;
        }
        match (stat(self.pid), self.started) {
            (Some(stat), _) if stat.gone => Liveness::Dead,
            (Some(stat), Some(started)) if stat.started == started => Liveness::Alive,
            (Some(_), Some(_)) => Liveness::Dead,
            (Some(_), None) => Liveness::Unknown,
            (None, _) => self.alive_by_number(),
        }
    }

    /// Without `/proc`, or where it hides the processes of others, only the number can be asked about: none
    /// with this number is a proof of death; one that has it may be another.
    fn alive_by_number(&self) -> Liveness {
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Liveness::Unknown;
        };
        match test_kill_process(pid) {
            Err(rustix::io::Errno::SRCH) => Liveness::Dead,
            _ => Liveness::Unknown,
        }
    }
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} (process {} on {})", self.actor, self.pid, self.host)
    }
}

/// What `/proc/PID/stat` says.
struct Stat {
    /// Ticks since boot.
    started: u64,
    /// Ended, and only waits for its parent to ask.
    gone: bool,
}

/// Reads field 3 (state) and field 22 (start time). The name in field 2 may hold blanks and brackets, so the
/// fields are counted from the last bracket.
fn stat(pid: u32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let mut fields = text.get(text.rfind(')')? + 1..)?.split_ascii_whitespace();
    let state = fields.next()?;
    let started = fields.nth(18)?.parse().ok()?;
    Some(Stat { started, gone: matches!(state, "Z" | "X") && threads(pid) <= 1 })
}

/// A first thread that ended is shown as a zombie while others of the process go on.
fn threads(pid: u32) -> usize {
    fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count)
}

fn host() -> String {
    read_line("/proc/sys/kernel/hostname")
        .or_else(|| std::env::var("HOSTNAME").ok().filter(|name| !name.is_empty()))
        .unwrap_or_else(|| "localhost".to_owned())
}

fn boot_id() -> String {
    read_line("/proc/sys/kernel/random/boot_id").unwrap_or_default()
}

fn pid_space() -> String {
    fs::read_link("/proc/self/ns/pid").map(|path| path.to_string_lossy().into_owned()).unwrap_or_default()
}

fn read_line(path: impl AsRef<Path>) -> Option<String> {
    let text = fs::read_to_string(path).ok()?;
    let line = text.trim();
    (!line.is_empty()).then(|| line.to_owned())
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    fn holder_of(pid: u32) -> Holder {
        Holder { pid, started: stat(pid).map(|stat| stat.started), ..Holder::me("ada") }
    }

    #[test]
    fn this_process_is_alive() {
        let me = Holder::me("ada");
        assert_eq!(me.alive(), Liveness::Alive);
        assert_eq!(me.pid, std::process::id());
        assert!(me.to_string().starts_with("ada (process "), "{me}");
        let text = serde_json::to_string(&me).unwrap();
        assert_eq!(serde_json::from_str::<Holder>(&text).unwrap(), me);
    }

    #[test]
    fn a_child_is_alive_until_it_is_killed() {
        let mut child = Command::new("sleep").arg("600").stdin(Stdio::null()).spawn().unwrap();
        let holder = holder_of(child.id());
        assert_eq!(holder.alive(), Liveness::Alive);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(holder.alive(), Liveness::Dead);
    }

    #[test]
    fn one_that_ended_and_was_not_asked_for_is_dead() {
        let mut child = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let holder = holder_of(child.id());
        assert_eq!(holder.alive(), Liveness::Alive);
        drop(child.stdin.take());
        // Its output ends when it does; from then on it only waits for `wait`.
        std::io::copy(child.stdout.as_mut().unwrap(), &mut std::io::sink()).unwrap();
        let start = std::time::Instant::now();
        while holder.alive() == Liveness::Alive && start.elapsed().as_secs() < 20 {
            std::thread::yield_now();
        }
        assert_eq!(holder.alive(), Liveness::Dead);
        child.wait().unwrap();
    }

    #[test]
    fn another_process_with_the_same_number_is_not_the_same() {
        let me = Holder::me("ada");
        let other = Holder { started: me.started.map(|ticks| ticks + 1), ..me };
        assert_eq!(other.alive(), Liveness::Dead);
    }

    #[test]
    fn what_cannot_be_seen_from_here_is_unknown() {
        let me = Holder::me("ada");
        let unknown = [
            Holder { host: "elsewhere".to_owned(), ..me.clone() },
            Holder { pid_space: "pid:[1]".to_owned(), ..me.clone() },
            Holder { started: None, ..me.clone() },
            Holder { boot_id: String::new(), ..me.clone() },
        ];
        for holder in unknown {
            assert_eq!(holder.alive(), Liveness::Unknown, "{holder:?}");
        }
        assert_eq!(Holder { boot_id: "earlier".to_owned(), ..me }.alive(), Liveness::Dead);
    }
}
