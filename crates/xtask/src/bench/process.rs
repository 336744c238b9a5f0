//! Runs a program and says what it took: time, CPU, memory, bytes written to disk, its children's included. Reads
//! `/proc`; where there is none, only the time is known.

use std::collections::HashMap;
use std::fs;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::shell::{Failure, output};

/// How often a running program is looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(20);

/// What a program took.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Measured {
    pub(super) seconds: f64,
    /// User and system time of it and all its children.
    pub(super) cpu: f64,
    /// Peak resident memory in MiB of the largest of its processes.
    pub(super) peak_mib: f64,
    /// MiB that it, and its children that have ended, wrote to disk.
    pub(super) written_mib: f64,
}

/// A running program under observation.
pub(super) struct Watched {
    name: String,
    pid: u32,
    begin: Instant,
    cpu_before: f64,
    ended: mpsc::Receiver<(std::io::Result<ExitStatus>, Instant)>,
    waiter: JoinHandle<()>,
    seen: HashMap<u32, Seen>,
}

#[derive(Clone, Copy, Default)]
struct Seen {
    peak_kib: u64,
    written: u64,
}

impl Watched {
    /// Begins. No other program may be run beside it: CPU time is told for all children together.
    pub(super) fn start(command: &mut Command) -> Result<Self, Failure> {
        let name = command.get_program().to_string_lossy().into_owned();
        let cpu_before = cpu_of_children();
        let begin = Instant::now();
        let child =
            command.stdin(Stdio::null()).spawn().map_err(|error| format!("start `{name}`: {error}"))?;
        let pid = child.id();
        let (tell, ended) = mpsc::channel();
        let waiter = std::thread::spawn(move || wait(child, &tell));
        Ok(Self { name, pid, begin, cpu_before, ended, waiter, seen: HashMap::new() })
    }

    /// Waits for the end, whatever it is; after so long it is ended as a power cut would end it.
    pub(super) fn ended(mut self, at_latest: Option<Duration>) -> Result<(ExitStatus, Measured), Failure> {
        let mut left = at_latest;
        let (status, end) = loop {
            if left.is_some_and(|after| self.begin.elapsed() >= after) {
                output(Command::new("kill").arg("-9").arg(self.pid.to_string()))?;
                left = None;
            }
            match self.ended.recv_timeout(SAMPLE_EVERY) {
                Ok(ended) => break ended,
                Err(RecvTimeoutError::Timeout) => self.look(),
                Err(RecvTimeoutError::Disconnected) => return Err(format!("lost sight of `{}`", self.name)),
            }
        };
        self.waiter.join().map_err(|_| format!("waiting for `{}` panicked", self.name))?;
        let status = status.map_err(|error| format!("wait for `{}`: {error}", self.name))?;
        let peak = self.seen.values().map(|seen| seen.peak_kib).max().unwrap_or(0);
        // A child's bytes become its parent's when it ends.
        let written = self.seen.get(&self.pid).map_or(0, |seen| seen.written);
        let measured = Measured {
            seconds: end.duration_since(self.begin).as_secs_f64(),
            cpu: cpu_of_children() - self.cpu_before,
            peak_mib: peak as f64 / 1024.0,
            written_mib: written as f64 / f64::from(1 << 20),
        };
        Ok((status, measured))
    }

    fn look(&mut self) {
        let mut todo = vec![self.pid];
        while let Some(pid) = todo.pop() {
            let seen = self.seen.entry(pid).or_default();
            let number = |text: String, key: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(key).map(str::to_owned));
                line.and_then(|rest| rest.split_whitespace().next().and_then(|word| word.parse().ok()))
            };
            let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
            seen.peak_kib = number(read("status"), "VmHWM:").unwrap_or(seen.peak_kib).max(seen.peak_kib);
            seen.written = number(read("io"), "write_bytes:").unwrap_or(seen.written).max(seen.written);
            for task in fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten() {
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                todo.extend(children.split_whitespace().filter_map(|word| word.parse::<u32>().ok()));
            }
        }
    }
}

fn wait(mut child: Child, tell: &mpsc::Sender<(std::io::Result<ExitStatus>, Instant)>) {
    let status = child.wait();
    // The other end is gone only when the chore itself is.
    let _ = tell.send((status, Instant::now()));
}

/// Runs to the end; success is demanded.
pub(super) fn measure(command: &mut Command) -> Result<Measured, Failure> {
    let watched = Watched::start(command.stdout(Stdio::null()))?;
    let name = watched.name.clone();
    let (status, measured) = watched.ended(None)?;
    if status.success() { Ok(measured) } else { Err(format!("`{name}` ended with {status}")) }
}

/// CPU seconds of a process and of its children, those that still live included.
pub(super) fn cpu_of_family(pid: u32) -> f64 {
    let mut sum = ticks(&pid.to_string(), &[13, 14, 15, 16]);
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in children.split_whitespace() {
        sum += ticks(child, &[13, 14, 15, 16]);
    }
    sum
}

/// CPU seconds of the children of this process that have ended, with all theirs.
fn cpu_of_children() -> f64 {
    ticks("self", &[15, 16])
}

/// Some fields of `/proc/PID/stat`, counted from 0, in seconds.
fn ticks(process: &str, fields: &[usize]) -> f64 {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    // The name, in brackets, may hold anything.
    let Some((_, rest)) = text.rsplit_once(") ") else { return 0.0 };
    let words: Vec<&str> = rest.split_whitespace().collect();
    let value = |field: &usize| words.get(field - 2).and_then(|word| word.parse::<f64>().ok()).unwrap_or(0.0);
    fields.iter().map(value).sum::<f64>() / ticks_per_second()
}

fn ticks_per_second() -> f64 {
    static TICKS: std::sync::OnceLock<f64> = std::sync::OnceLock::new();
    *TICKS.get_or_init(|| {
        let told = output(Command::new("getconf").arg("CLK_TCK")).ok();
        told.and_then(|text| text.trim().parse().ok()).unwrap_or(100.0)
    })
}
