//! `runbook doctor`: proves, read-only, that this machine and an environment have what the runbooks of a folder will need,
//! before the incident. Everything is asked at once, each with a deadline; nothing is changed, nothing is posted.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use runbook_actions::backup::catalog::catalog;
use runbook_actions::postgres::tool_for;
use runbook_actions::ready::{Proof, System, probe};
use runbook_core::action::{ActionError, Context};
use runbook_core::document::Kind;
use runbook_core::workflow::StepPath;
use runbook_executor::record::Final;
use runbook_executor::store::Journal as _;
use serde_json::json;
use tokio::task::JoinSet;

use crate::arguments::{Doctor, Global};
use crate::command::needs::{self, Needs};
use crate::command::{check, journal, plan, sandbox};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::project;
use crate::reading::Reading;
use crate::screen::safe;
use crate::ui::Ui;
use crate::words::{count, duration, list};

/// What one system may take to answer.
const DEADLINE: Duration = Duration::from_secs(40);
/// Runs that are looked at for the last drill.
const RUNS_READ_MAX: usize = 500;

/// How one thing was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Good,
    /// There, as far as a read can tell.
    Unproven,
    Bad,
}

/// One thing that was looked at.
struct Finding {
    what: String,
    state: State,
    said: String,
    hint: Option<String>,
}

impl Finding {
    fn new(what: impl Into<String>, state: State, said: impl Into<String>) -> Self {
        Self { what: what.into(), state, said: said.into(), hint: None }
    }
    fn good(what: impl Into<String>, said: impl Into<String>) -> Self {
        Self::new(what, State::Good, said)
    }
    fn bad(what: impl Into<String>, said: impl Into<String>) -> Self {
        Self::new(what, State::Bad, said)
    }
    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

pub(crate) fn doctor(ui: &Ui, global: &Global, given: &Doctor) -> Result<Exit, Failure> {
    let state_dir = project::state_dir(global)?;
    let mut findings = vec![state(&state_dir)];
    if let Some(name) = &given.env {
        match environment(ui, global, given, name, &state_dir)? {
            None => return Ok(Exit::Invalid),
            Some(found) => findings.extend(found),
        }
    }
    for finding in &findings {
        show(ui, finding);
    }
    let bad = findings.iter().filter(|finding| finding.state == State::Bad).count();
    let unproven = findings.iter().filter(|finding| finding.state == State::Unproven).count();
    let open =
        if unproven == 0 { String::new() } else { format!(", {unproven} cannot be proven by looking") };
    if bad == 0 {
        ui.remark(&format!("\nready: {} looked at{open}", count(findings.len(), "thing")));
        return Ok(Exit::Succeeded);
    }
    ui.remark(&format!("\nnot ready: {} to mend{open}", count(bad, "thing")));
    Ok(Exit::Refused)
}

fn show(ui: &Ui, finding: &Finding) {
    if ui.json {
        let line = json!({
            "v": 1, "kind": "doctor", "what": finding.what, "ok": finding.state != State::Bad,
            "proven": finding.state == State::Good, "said": finding.said, "hint": finding.hint,
        });
        ui.line(&line.to_string());
        return;
    }
    let sign = match finding.state {
        State::Good => "✓ ok      ",
        State::Unproven => "· unproven",
        State::Bad => "✗ not ok  ",
    };
    ui.line(&format!("{sign}  {}: {}", finding.what, safe(&finding.said)));
    if let Some(hint) = &finding.hint {
        ui.line(&format!("            hint: {}", safe(hint)));
    }
}

fn state(state_dir: &Path) -> Finding {
    let what = format!("state directory {}", state_dir.display());
    match journal::open(state_dir).and_then(|journal| Ok(journal.runs()?.len())) {
        Ok(runs) => Finding::good(what, count(runs, "run")),
        Err(failure) => Finding::bad(what, failure.text()),
    }
}

fn environment(
    ui: &Ui,
    global: &Global,
    given: &Doctor,
    name: &str,
    state_dir: &Path,
) -> Result<Option<Vec<Finding>>, Failure> {
    let runtime = super::runtime()?;
    if project::wants_sandbox(&given.dir, name) {
        runtime.block_on(sandbox::ensure(ui, state_dir))?;
    }
    let loaded = project::environment(&given.dir, name, state_dir)?;
    if check::tell(ui, &given.dir, &loaded.diagnostics, &loaded.sources) {
        return Ok(None);
    }
    let Some(environment) = loaded.environment else { return Ok(None) };
    let needs = needs::look(&given.dir, Some(&environment));
    let reading = Reading::new(environment, &given.dir, state_dir, &project::actor(global))?;
    let mut findings = vec![Finding::good(format!("environment {name}"), "it has no mistakes")];
    findings.push(runbooks(&needs));
    let missing = reading.missing_secrets();
    findings.push(match missing.as_slice() {
        [] => Finding::good(
            "secrets",
            format!("{} have a value", count(reading.environment().secrets.len(), "secret")),
        ),
        missing => {
            let all = missing.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
            Finding::bad("secrets", all).hint("each names where its value is looked for: put it there")
        }
    });
    findings.extend(runtime.block_on(systems(&reading, &needs)));
    findings.push(drills(&reading, &needs, name, state_dir));
    Ok(Some(findings))
}

fn runbooks(needs: &Needs) -> Finding {
    if needs.broken.is_empty() {
        return Finding::good("runbooks", format!("{} read", count(needs.runbooks, "runbook")));
    }
    let said: Vec<String> = needs.broken.iter().map(|(name, why)| format!("{name}: {why}")).collect();
    Finding::bad("runbooks", said.join("; ")).hint("`runbook check` shows each mistake at its line")
}

/// Asks every system that the environment names for what is always needed, and every one that a runbook uses.
async fn systems(reading: &Reading, needs: &Needs) -> Vec<Finding> {
    let environment = reading.environment();
    let context = reading.context(&StepPath::new("doctor"));
    let mut wanted: BTreeSet<System> =
        environment.connections.keys().map(|name| System::Database(name.clone())).collect();
    wanted.extend(environment.backup_sources.keys().map(|name| System::Source(name.clone())));
    wanted.extend(needs.systems.keys().cloned());
    let always = [System::Bucket, System::Supabase, System::Vercel];
    wanted.extend(always.into_iter().filter(|system| system.is_named(&context)));
    let mut asked = JoinSet::new();
    for system in wanted {
        let context = context.clone();
        asked.spawn(async move {
            let probed = tokio::time::timeout(DEADLINE, probe(&context, &system)).await;
            let probed = probed.unwrap_or_else(|_| {
                Err(ActionError::unchanged(format!("hear from {} within {DEADLINE:?}", system.label())))
            });
            (system, probed)
        });
    }
    let (mut answers, mut findings) = (Vec::new(), Vec::new());
    while let Some(answer) = asked.join_next().await {
        match answer {
            Ok(answer) => answers.push(answer),
            Err(error) => {
                findings.push(Finding::bad("the doctor itself", format!("a probe ended early: {error}")))
            }
        }
    }
    answers.sort_by(|(a, _), (b, _)| a.cmp(b));
    findings.extend(answers.iter().map(|(system, probed)| told(reading, needs, system, probed)));
    if needs.dumps {
        findings.extend(tools(reading, &answers).await);
    }
    if environment.backups.is_some() {
        findings.push(freshness(reading, needs, &context).await);
    }
    findings
}

fn told(reading: &Reading, needs: &Needs, system: &System, probed: &Result<Proof, ActionError>) -> Finding {
    let what = system.label();
    match probed {
        Ok(proof) => {
            let state = if proof.proven { State::Good } else { State::Unproven };
            Finding::new(what, state, reading.redact(&proof.said))
        }
        Err(error) => {
            let users: Vec<String> = needs.systems.get(system).into_iter().flatten().cloned().collect();
            let mut said = reading.redact(&format!("could not {}", plan::chain(error)));
            if !users.is_empty() {
                said.push_str(&format!(" (needed by {})", list(&users)));
            }
            let finding = Finding::bad(what, said);
            match &error.hint {
                Some(hint) => finding.hint(reading.redact(hint)),
                None => finding,
            }
        }
    }
}

/// A pg_dump for each server that answered.
async fn tools(reading: &Reading, answers: &[(System, Result<Proof, ActionError>)]) -> Vec<Finding> {
    let servers: BTreeSet<u32> = answers
        .iter()
        .filter(|(system, _)| matches!(system, System::Database(_)))
        .filter_map(|(_, probed)| probed.as_ref().ok()?.server_major)
        .collect();
    let mut findings = Vec::new();
    for major in servers {
        let what = format!("pg_dump for PostgreSQL {major}");
        findings.push(match tool_for(major).await {
            Ok(tool) => Finding::good(what, format!("{} at {}", tool.version, tool.path.display())),
            Err(error) => {
                let finding =
                    Finding::bad(what, reading.redact(&format!("could not {}", plan::chain(&error))));
                match error.hint {
                    Some(hint) => finding.hint(hint),
                    None => finding,
                }
            }
        });
    }
    findings
}

/// The newest verified backup against the RPO.
async fn freshness(reading: &Reading, needs: &Needs, context: &Context) -> Finding {
    let what = "age of the newest backup";
    let rpo = reading.environment().readiness.rpo.or(needs.rpo);
    let catalog = match tokio::time::timeout(DEADLINE, catalog(context)).await {
        Ok(Ok(catalog)) => catalog,
        Ok(Err(error)) => {
            return Finding::bad(what, reading.redact(&format!("could not {}", plan::chain(&error))));
        }
        Err(_) => return Finding::bad(what, format!("the bucket said nothing within {DEADLINE:?}")),
    };
    let Some(newest) = catalog.newest_verified() else {
        return Finding::bad(what, "there is no verified backup").hint("runbook run runbooks/backup.yaml");
    };
    let age = Timestamp::now().duration_since(newest.taken_at);
    let age = Duration::try_from(age).unwrap_or_default();
    match rpo {
        None => Finding::new(
            what,
            State::Unproven,
            format!("{} old; no RPO is set to compare with", duration(age)),
        )
        .hint("set `readiness: { rpo: 24h }` in the environment file"),
        Some(rpo) if age <= rpo => {
            Finding::good(what, format!("{} old, RPO {}", duration(age), duration(rpo)))
        }
        Some(rpo) => Finding::bad(what, format!("{} old, over the RPO of {}", duration(age), duration(rpo)))
            .hint("take one now: `runbook run runbooks/backup.yaml`; then look why the schedule did not"),
    }
}

/// The last passing drill against its cadence.
fn drills(reading: &Reading, needs: &Needs, env: &str, state_dir: &Path) -> Finding {
    let what = "last passing drill";
    let wanted = reading.environment().readiness.drill_every;
    let last = match last_drill(env, state_dir) {
        Ok(last) => last,
        Err(failure) => return Finding::bad(what, failure.text()),
    };
    let age = last.map(|at| Duration::try_from(Timestamp::now().duration_since(at)).unwrap_or_default());
    let name = needs.drills.iter().next().map_or("drill", String::as_str);
    let hint = format!("rehearse: `runbook run runbooks/{name}.yaml`");
    match (age, wanted) {
        (Some(age), Some(wanted)) if age <= wanted => {
            Finding::good(what, format!("{} ago, one every {}", duration(age), duration(wanted)))
        }
        (Some(age), Some(wanted)) => {
            Finding::bad(what, format!("{} ago, one every {} is wanted", duration(age), duration(wanted)))
                .hint(hint)
        }
        (None, Some(wanted)) => {
            Finding::bad(what, format!("none in this journal, one every {} is wanted", duration(wanted)))
                .hint(hint)
        }
        (age, None) => {
            let said = age.map_or("none in this journal".into(), |age| format!("{} ago", duration(age)));
            Finding::new(what, State::Unproven, format!("{said}; no cadence is set to compare with"))
                .hint("set `readiness: { drill_every: 31d }` in the environment file")
        }
    }
}

/// When the newest drill of an environment succeeded.
fn last_drill(env: &str, state_dir: &Path) -> Result<Option<Timestamp>, Failure> {
    let opened = super::run::open(state_dir)?;
    let rows = opened.journal.runs()?.into_iter().filter(|row| row.environment == env);
    for row in rows.take(RUNS_READ_MAX) {
        // A run of an older version that cannot be read any more proves nothing, and hides nothing newer.
        let Ok(loaded) = opened.engine.load(&row.id) else { continue };
        if loaded.workflow.kind == Kind::Drill && loaded.machine.finished() == Some(Final::Succeeded) {
            return Ok(loaded.records.last().map(|(at, _)| *at));
        }
    }
    Ok(None)
}
