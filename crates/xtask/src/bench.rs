//! `cargo xtask bench engine`: the engine beside bare SQLite, in one interleaved run. Prints every round and
//! the ratio of the medians; asserts nothing.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::shell::{Failure, cargo, root, run, say};

/// Rounds: enough for a median on a noisy machine, few enough to wait for.
const ROUNDS: usize = 7;
/// Steps of the runbook whose overhead is measured.
const STEPS: usize = 1_000;
/// Steps of the finished journal that is read again.
const STEPS_LONG: usize = 10_000;
/// How often the memory of a running process is looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(5);

struct Measured {
    seconds: f64,
    /// Peak resident memory in KiB, as far as it was seen.
    peak_kib: u64,
}

pub(crate) fn engine() -> Result<(), Failure> {
    say("building with optimisation …");
    run(cargo().args(["build", "--release", "--locked", "--package", "runbook-cli"]))?;
    run(cargo().args([
        "build",
        "--release",
        "--locked",
        "--package",
        "runbook-executor",
        "--example",
        "sqlite_floor",
    ]))?;
    let bench = Bench::new()?;
    let (floors, engines) = bench.rounds()?;
    let cold: Vec<f64> = (0..ROUNDS)
        .map(|round| Ok(bench.run(1, &format!("cold-{round}"))?.seconds))
        .collect::<Result<_, Failure>>()?;
    say(&format!(
        "cold run of 1 step, whole process   {:.0} ms (median of {ROUNDS})",
        median(&cold) * 1000.0
    ));
    let peak = engines.iter().map(|m| m.peak_kib).max().unwrap_or(0);
    say(&format!("peak memory, {STEPS} steps             {:.1} MiB", peak as f64 / 1024.0));
    bench.long_journal()?;
    let ratio = median(&floors) / median(&engines.iter().map(|m| m.seconds).collect::<Vec<_>>());
    say(&format!("engine against the floor (1 = as fast as two bare commits a step): {ratio:.2}"));
    Ok(())
}

struct Bench {
    folder: PathBuf,
    runbook: PathBuf,
    floor: PathBuf,
}

impl Bench {
    fn new() -> Result<Self, Failure> {
        let release = root().join("target/release");
        let folder = root().join("target/bench");
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(|e| format!("clear `{}`: {e}", folder.display()))?;
        }
        let environments = folder.join("environments");
        std::fs::create_dir_all(&environments)
            .map_err(|e| format!("create `{}`: {e}", environments.display()))?;
        write(&environments.join("bench.yaml"), "name: bench\nkind: local\ndata: synthetic\n")?;
        for steps in [1, STEPS, STEPS_LONG] {
            write(&folder.join(format!("steps-{steps}.yaml")), &runbook(steps))?;
        }
        Ok(Self { folder, runbook: release.join("runbook"), floor: release.join("examples/sqlite_floor") })
    }

    /// Floor and engine by turns, the order changing each round.
    fn rounds(&self) -> Result<(Vec<f64>, Vec<Measured>), Failure> {
        let (mut floors, mut engines) = (Vec::new(), Vec::new());
        for round in 0..ROUNDS {
            if round % 2 == 0 {
                floors.push(self.floor(round)?);
                engines.push(self.run(STEPS, &format!("state-{round}"))?);
            } else {
                engines.push(self.run(STEPS, &format!("state-{round}"))?);
                floors.push(self.floor(round)?);
            }
            say(&format!(
                "round {}: floor {:.3} s, engine {:.3} s, ratio {:.2}",
                round + 1,
                floors[round],
                engines[round].seconds,
                floors[round] / engines[round].seconds
            ));
        }
        Ok((floors, engines))
    }

    fn floor(&self, round: usize) -> Result<f64, Failure> {
        let file = self.folder.join(format!("floor-{round}.db"));
        let mut command = Command::new(&self.floor);
        command.arg(file).arg(STEPS.to_string());
        Ok(measure(&mut command)?.seconds)
    }

    fn run(&self, steps: usize, state: &str) -> Result<Measured, Failure> {
        let mut command = self.command(state);
        command.arg("run").arg(self.folder.join(format!("steps-{steps}.yaml"))).args(["--env", "bench"]);
        measure(&mut command)
    }

    fn long_journal(&self) -> Result<(), Failure> {
        let first = self.run(STEPS_LONG, "long")?;
        say(&format!(
            "run of {STEPS_LONG} steps                {:.1} s, peak {:.1} MiB",
            first.seconds,
            first.peak_kib as f64 / 1024.0
        ));
        let again: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let mut command = self.command("long");
                command.args(["resume", "last"]);
                Ok(measure(&mut command)?.seconds)
            })
            .collect::<Result<_, Failure>>()?;
        say(&format!(
            "resume of that finished journal     {:.0} ms (median of {ROUNDS})",
            median(&again) * 1000.0
        ));
        Ok(())
    }

    fn command(&self, state: &str) -> Command {
        let mut command = Command::new(&self.runbook);
        command.args(["--quiet", "--state-dir"]).arg(self.folder.join(state)).args(["--actor", "bench"]);
        command
    }
}

/// A chain of steps that do nothing: each waits for the one above.
fn runbook(steps: usize) -> String {
    let mut text = format!("name: steps-{steps}\nkind: maintenance\nsteps:\n");
    for step in 0..steps {
        let _ = writeln!(text, "  - id: s{step}\n    uses: flow.noop");
    }
    text
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| format!("write `{}`: {error}", path.display()))
}

/// Runs to the end; success is demanded. Samples the high-water mark of memory while it runs.
fn measure(command: &mut Command) -> Result<Measured, Failure> {
    let program = command.get_program().to_string_lossy().into_owned();
    let begin = Instant::now();
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .map_err(|error| format!("start `{program}`: {error}"))?;
    let pid = child.id();
    let (send, receive) = mpsc::channel();
    let waiter = std::thread::spawn(move || wait(child, &send));
    let mut peak_kib = 0;
    let (status, end) = loop {
        match receive.recv_timeout(SAMPLE_EVERY) {
            Ok(ended) => break ended,
            Err(mpsc::RecvTimeoutError::Timeout) => peak_kib = peak_kib.max(high_water(pid)),
            Err(mpsc::RecvTimeoutError::Disconnected) => return Err(format!("lost sight of `{program}`")),
        }
    };
    waiter.join().map_err(|_| format!("waiting for `{program}` panicked"))?;
    let status = status.map_err(|error| format!("wait for `{program}`: {error}"))?;
    if !status.success() {
        return Err(format!("`{program}` ended with {status}"));
    }
    Ok(Measured { seconds: end.duration_since(begin).as_secs_f64(), peak_kib })
}

type Ended = (std::io::Result<std::process::ExitStatus>, Instant);

fn wait(mut child: Child, tell: &mpsc::Sender<Ended>) {
    let status = child.wait();
    // The other end is gone only when the chore itself is.
    let _ = tell.send((status, Instant::now()));
}

/// `VmHWM` of a process in KiB; 0 where there is no such thing.
fn high_water(pid: u32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|rest| rest.split_whitespace().next()).and_then(|kib| kib.parse().ok()).unwrap_or(0)
}

fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
