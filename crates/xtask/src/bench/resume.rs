//! How long a restore takes that was killed at nine tenths of its dump and goes on: against the whole restore.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use serde_json::Value;

use super::process::{Watched, measure};
use super::restore::{Arm, Setting, TARGET};
use super::stats::{paired, spread};
use crate::shell::{Failure, say};

/// The share of the dump after which the process is killed.
const KILL_AT: f64 = 0.9;

/// As many rounds as there are times of whole restores.
pub(super) fn resume(setting: &Setting, arm: Arm, whole: &[f64]) -> Result<(), Failure> {
    let mut times = Vec::new();
    for round in 0..whole.len() {
        let state = format!("killed-{arm}-{round}");
        setting.server.gone(TARGET)?;
        let (id, at, after) = run_until_killed(setting, arm, &state)?;
        let mut command = setting.world.product(&state)?;
        command.args(["resume", &id, "--yes"]);
        let took = measure(&mut command).map_err(|error| setting.world.with_log(error))?;
        setting.check(true)?;
        say(&format!(
            "{arm}: killed at {:.0} % of the dump after {after:.2} s, resumed in {:.2} s; equal",
            at * 100.0,
            took.seconds
        ));
        times.push(took.seconds);
    }
    say(&format!(
        "{arm}: resume {} s, to the whole restore {}",
        spread(&times, 2),
        spread(&paired(&times, whole), 2)
    ));
    Ok(())
}

/// Runs with events as JSON lines; kills the process at the share, and says at which it was, and after how long.
fn run_until_killed(setting: &Setting, arm: Arm, state: &str) -> Result<(String, f64, f64), Failure> {
    let name = if arm == Arm::OursPlain { "plain" } else { "archive" };
    let mut command = setting.world.product(state)?;
    command.arg("--json").arg("run").arg(setting.world.folder.join(format!("{name}.yaml")));
    command.args(["--env", "bench"]).stdout(Stdio::piped());
    let (watched, stdout) = Watched::start(&mut command)?;
    let stdout = stdout.ok_or("`runbook run` has no output")?;
    let (mut id, mut killed) = (None, None);
    for line in BufReader::new(stdout).lines() {
        let line = line.map_err(|error| format!("read from `runbook run`: {error}"))?;
        let event: Value = serde_json::from_str(&line).map_err(|error| format!("read `{line}`: {error}"))?;
        if id.is_none() {
            id = event.get("run").and_then(Value::as_str).map(str::to_owned);
        }
        let number = |key: &str| event.get(key).and_then(Value::as_f64);
        if let (Some(done), Some(total), None) = (number("done"), number("total"), killed)
            && event.get("step").and_then(Value::as_str) == Some("restore")
            && total > 0.0
            && done / total >= KILL_AT
        {
            watched.kill()?;
            killed = Some(done / total);
        }
    }
    let (status, took) = watched.ended()?;
    match (id, killed) {
        (Some(id), Some(at)) if !status.success() => Ok((id, at, took.seconds)),
        _ => Err("the run ended before it could be killed: take a larger size".to_owned()),
    }
}
