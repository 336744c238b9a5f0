//! `cargo xtask bench engine`: the engine beside bare SQLite, in one interleaved run. Prints every round and
//! the ratio of the medians, and how often each asked the disk to make something durable, which no machine
//! changes. Asserts nothing.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use super::stats::median;
use crate::shell::{Failure, cargo, root, run, say};

/// Rounds: enough for a median on a noisy machine, few enough to wait for.
const ROUNDS: usize = 7;
/// Steps of the runbook whose overhead is measured.
const STEPS: usize = 1_000;
/// Steps of the finished journal that is read again.
const STEPS_LONG: usize = 10_000;
/// The runbooks: their names, and those of their files.
const ONE: &str = "one";
const CHAIN: &str = "chain";
const PARALLEL: &str = "parallel";
const LONG: &str = "long";
/// How often the memory of a running process is looked at.
const SAMPLE_EVERY: Duration = Duration::from_millis(5);

struct Measured {
    seconds: f64,
    /// Peak resident memory in KiB, as far as it was seen.
    peak_kib: u64,
}

pub(super) fn engine() -> Result<(), Failure> {
    say("building with optimisation …");
    // One build for both: two would compile shared crates twice, with other features.
    let wanted = [
        "--package",
        "runbook-cli",
        "--package",
        "runbook-executor",
        "--bin",
        "runbook",
        "--example",
        "sqlite_floor",
    ];
    run(cargo().args(["build", "--release", "--locked"]).args(wanted))?;
    let bench = Bench::new()?;
    bench.rounds()?;
    bench.cold()?;
    bench.syncs()?;
    bench.long_journal()
}

struct Bench {
    folder: PathBuf,
    runbook: PathBuf,
    floor: PathBuf,
}

impl Bench {
    fn new() -> Result<Self, Failure> {
        let release = root().join("target/release");
        let folder = root().join("target/bench/engine");
        if folder.exists() {
            std::fs::remove_dir_all(&folder).map_err(|e| format!("clear `{}`: {e}", folder.display()))?;
        }
        let environments = folder.join("environments");
        std::fs::create_dir_all(&environments)
            .map_err(|e| format!("create `{}`: {e}", environments.display()))?;
        write(&environments.join("bench.yaml"), "name: bench\nkind: local\ndata: synthetic\n")?;
        for (name, steps, needs) in
            [(ONE, 1, ""), (CHAIN, STEPS, ""), (PARALLEL, STEPS, "    needs: []\n"), (LONG, STEPS_LONG, "")]
        {
            write(&folder.join(format!("{name}.yaml")), &runbook(name, steps, needs))?;
        }
        Ok(Self { folder, runbook: release.join("runbook"), floor: release.join("examples/sqlite_floor") })
    }

    /// Floor, chain and parallel steps by turns, the order changing each round.
    fn rounds(&self) -> Result<(), Failure> {
        let (mut floors, mut chains, mut parallels, mut peak) = (vec![], vec![], vec![], 0);
        for round in 0..ROUNDS {
            for turn in 0..3 {
                match (round + turn) % 3 {
                    0 => floors.push(self.floor(round)?),
                    1 => {
                        let chain = self.run(CHAIN, &format!("chain-{round}"))?;
                        peak = peak.max(chain.peak_kib);
                        chains.push(chain.seconds);
                    }
                    _ => parallels.push(self.run(PARALLEL, &format!("parallel-{round}"))?.seconds),
                }
            }
            let (floor, chain, parallel) = (floors[round], chains[round], parallels[round]);
            say(&format!(
                "round {}: floor {floor:.3} s; {STEPS} steps in a row {chain:.3} s, ratio {:.2}; in parallel \
                 {parallel:.3} s, ratio {:.2}",
                round + 1,
                floor / chain,
                floor / parallel
            ));
        }
        let floor = median(&floors);
        say(&format!("floor: {STEPS} steps of two durable commits, median of {ROUNDS}: {floor:.3} s"));
        for (what, times) in [("in a row", chains), ("in parallel", parallels)] {
            say(&format!(
                "engine, {STEPS} steps {what}: {:.3} s, ratio of medians {:.2} (1 = as fast as the floor)",
                median(&times),
                floor / median(&times)
            ));
        }
        say(&format!("peak memory, {STEPS} steps: {}", mebibytes(peak)));
        Ok(())
    }

    fn cold(&self) -> Result<(), Failure> {
        let times: Vec<f64> = (0..ROUNDS)
            .map(|round| Ok(self.run(ONE, &format!("cold-{round}"))?.seconds))
            .collect::<Result<_, Failure>>()?;
        say(&format!("cold run of 1 step, whole process: {}", milliseconds(&times)));
        Ok(())
    }

    /// How often the disk was asked to make something durable, counted by `strace` where there is one.
    fn syncs(&self) -> Result<(), Failure> {
        if Command::new("strace").arg("-V").stdout(Stdio::null()).stderr(Stdio::null()).status().is_err() {
            say("syncs a step: not counted, there is no `strace`");
            return Ok(());
        }
        let mut chain = self.command("syncs-chain");
        chain.arg("run").arg(self.folder.join(format!("{CHAIN}.yaml"))).args(["--env", "bench"]);
        let mut parallel = self.command("syncs-parallel");
        parallel.arg("run").arg(self.folder.join(format!("{PARALLEL}.yaml"))).args(["--env", "bench"]);
        let mut floor = Command::new(&self.floor);
        floor.arg(self.folder.join("syncs.db")).arg(STEPS.to_string());
        let per_step = |command: &Command| Ok::<_, Failure>(self.count_syncs(command)? as f64 / STEPS as f64);
        say(&format!(
            "syncs a step: floor {:.2}, in a row {:.2}, in parallel {:.2}",
            per_step(&floor)?,
            per_step(&chain)?,
            per_step(&parallel)?
        ));
        Ok(())
    }

    fn count_syncs(&self, command: &Command) -> Result<usize, Failure> {
        let log = self.folder.join("syncs.log");
        let mut traced = Command::new("strace");
        traced.args(["-f", "-q", "-e", "trace=fsync,fdatasync", "-o"]).arg(&log);
        traced.arg(command.get_program()).args(command.get_args());
        measure(&mut traced)?;
        let text =
            std::fs::read_to_string(&log).map_err(|error| format!("read `{}`: {error}", log.display()))?;
        // A call that another thread interrupted is told twice; its end has no bracket.
        Ok(text.lines().filter(|line| line.contains("sync(")).count())
    }

    fn floor(&self, round: usize) -> Result<f64, Failure> {
        let file = self.folder.join(format!("floor-{round}.db"));
        let mut command = Command::new(&self.floor);
        command.arg(file).arg(STEPS.to_string());
        Ok(measure(&mut command)?.seconds)
    }

    fn run(&self, runbook: &str, state: &str) -> Result<Measured, Failure> {
        let mut command = self.command(state);
        command.arg("run").arg(self.folder.join(format!("{runbook}.yaml"))).args(["--env", "bench"]);
        measure(&mut command)
    }

    fn long_journal(&self) -> Result<(), Failure> {
        let first = self.run(LONG, "long")?;
        say(&format!(
            "run of {STEPS_LONG} steps in a row: {:.1} s, peak memory {}",
            first.seconds,
            mebibytes(first.peak_kib)
        ));
        let again: Vec<Measured> = (0..ROUNDS)
            .map(|_| {
                let mut command = self.command("long");
                command.args(["resume", "last"]);
                measure(&mut command)
            })
            .collect::<Result<_, Failure>>()?;
        let times: Vec<f64> = again.iter().map(|m| m.seconds).collect();
        let peak = again.iter().map(|m| m.peak_kib).max().unwrap_or(0);
        say(&format!(
            "resume of that finished journal: {}, peak memory {}",
            milliseconds(&times),
            mebibytes(peak)
        ));
        Ok(())
    }

    fn command(&self, state: &str) -> Command {
        let mut command = Command::new(&self.runbook);
        command.args(["--quiet", "--state-dir"]).arg(self.folder.join(state)).args(["--actor", "bench"]);
        command
    }
}

/// Steps that do nothing; each waits for the one above, unless `needs` says otherwise.
fn runbook(name: &str, steps: usize, needs: &str) -> String {
    let mut text = format!("name: {name}\nkind: maintenance\nsteps:\n");
    for step in 0..steps {
        let _ = write!(text, "  - id: s{step}\n    uses: flow.noop\n{needs}");
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

fn milliseconds(times: &[f64]) -> String {
    format!("{:.0} ms (median of {})", median(times) * 1000.0, times.len())
}

fn mebibytes(kib: u64) -> String {
    format!("{:.1} MiB", kib as f64 / 1024.0)
}
