//! How long a restore takes that was killed at nine tenths of its time and goes on: against the whole restore.

use std::fs::File;
use std::time::Duration;

use serde_json::Value;

use super::process::{Watched, measure};
use super::restore::{Arm, Setting, TARGET};
use super::stats::{paired, spread};
use crate::shell::{Failure, say};

/// The share of the whole restore's time after which the process is killed.
const KILL_AT: f64 = 0.9;
/// How many runs may be over before they can be killed.
const TRIES: usize = 3;

/// As many rounds as there are times of whole restores.
pub(super) fn resume(setting: &Setting, arm: Arm, whole: &[f64]) -> Result<(), Failure> {
    let mut times = Vec::new();
    for (round, seconds) in whole.iter().enumerate() {
        let state = format!("killed-{arm}-{round}");
        let (id, after) = killed_late(setting, arm, &state, *seconds)?;
        let mut command = setting.world.product(&state)?;
        command.args(["resume", &id, "--yes"]);
        let took = measure(&mut command).map_err(|error| setting.world.with_log(error))?;
        setting.check(true)?;
        say(&format!(
            "{arm}: killed after {after:.2?} of {seconds:.2} s, resumed in {:.2} s; equal",
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

/// A run that was killed at nine tenths, and after how long. One that is over by then, on a machine that has become
/// faster meanwhile, is its own measure for the next try.
fn killed_late(
    setting: &Setting,
    arm: Arm,
    state: &str,
    mut seconds: f64,
) -> Result<(String, Duration), Failure> {
    for _ in 0..TRIES {
        setting.server.gone(TARGET)?;
        let after = Duration::from_secs_f64(seconds * KILL_AT);
        match run_until_killed(setting, arm, state, after)? {
            Ended::Killed(id) => return Ok((id, after)),
            Ended::ByItself(took) => seconds = took,
        }
    }
    Err(format!("{TRIES} runs ended before they could be killed: take a larger size"))
}

/// How a run that is to be killed ended.
enum Ended {
    /// As it should; its id.
    Killed(String),
    /// It was over after so many seconds.
    ByItself(f64),
}

fn run_until_killed(setting: &Setting, arm: Arm, state: &str, after: Duration) -> Result<Ended, Failure> {
    let name = if arm == Arm::OursPlain { "plain" } else { "archive" };
    let events = setting.world.folder.join("killed.events");
    let failed = |error: std::io::Error| format!("keep what `runbook run` says: {error}");
    let mut command = setting.world.product(state)?;
    command.arg("--json").arg("run").arg(setting.world.folder.join(format!("{name}.yaml")));
    command.args(["--env", "bench"]).stdout(File::create(&events).map_err(failed)?);
    let (status, measured) = Watched::start(&mut command)?.ended(Some(after))?;
    if status.success() {
        return Ok(Ended::ByItself(measured.seconds));
    }
    let said = std::fs::read_to_string(&events).map_err(failed)?;
    let first: Value = serde_json::from_str(said.lines().next().unwrap_or_default())
        .map_err(|error| format!("read what `runbook run` says first: {error}"))?;
    first["run"]
        .as_str()
        .map(|id| Ended::Killed(id.to_owned()))
        .ok_or_else(|| "`runbook run` does not say which run it is".to_owned())
}
