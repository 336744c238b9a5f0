//! `run`, `resume` and `rollback`: everything that drives. Starting is writing the first record; the rest is
//! one path.

use std::sync::Arc;

use jiff::Timestamp;
use runbook_core::environment::EnvironmentKind;
use runbook_core::workflow::StepPath;
use runbook_executor::driver::{
    DriveOptions, Engine, Loaded, NewRun, Problem, Rehearsal, RunEnd, RunOutcome, Stop,
};
use runbook_executor::event::Reporter;
use runbook_executor::machine::State;
use runbook_executor::record::{Choice, Waived};
use runbook_executor::store::{Journal as _, SqliteJournal};

use crate::arguments::{Crash, Global, Rehearse, Resume, Rollback, Run};
use crate::command::bound::{self, Bounded};
use crate::command::journal;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::project;
use crate::screen::{self, DieAfter, DieAtNew, JsonLines, Lines, Live};
use crate::ui::Ui;

/// How one sitting is driven.
#[derive(Clone, Copy)]
struct Driving {
    yes: bool,
    /// The plan whose approvals were given in advance.
    consented: bool,
    /// Ends when only people can move the run on.
    no_wait: bool,
    crash: Crash,
}

pub(crate) fn run(ui: &Ui, global: &Global, given: &Run) -> Result<Exit, Failure> {
    let registry = runbook_actions::registry();
    let runtime = super::runtime()?;
    let Some(bounded) = runtime.block_on(bound::bind(ui, global, &given.bound, &registry))? else {
        return Ok(Exit::Invalid);
    };
    same_plan(&bounded, given.plan.as_deref(), "--plan")?;
    same_plan(&bounded, given.approve.as_deref(), "--approve")?;
    let opened = open(&project::state_dir(global)?)?;
    let actor = project::actor(global);
    let files = &bounded.environment_files;
    let environment_files = [Some(files.file), files.base]
        .into_iter()
        .flatten()
        .map(|id| files.sources.get(id))
        .map(|file| (file.path.clone(), file.text.clone()))
        .collect();
    let waivers = bounded.waivers.iter().map(|waiver| Waived {
        guard: waiver.guard.clone(),
        by: waiver.by.clone(),
        reason: waiver.reason.clone(),
    });
    let id = opened.engine.start(NewRun {
        workflow: &bounded.workflow,
        sources: &bounded.sources,
        runbook: bounded.runbook.clone(),
        base: bounded.base.clone(),
        environment: &bounded.environment,
        environment_files,
        inputs: bounded.inputs.clone(),
        waivers: waivers.collect(),
        actor: actor.clone(),
    })?;
    let driving = Driving {
        yes: given.yes,
        consented: given.approve.is_some(),
        no_wait: given.no_wait,
        crash: given.crash,
    };
    runtime.block_on(drive(ui, &opened, &id, actor, driving))
}

/// Refuses a plan that is not the one that a person has seen.
fn same_plan(bounded: &Bounded, wanted: Option<&str>, flag: &str) -> Result<(), Failure> {
    let digest = &bounded.workflow.digest;
    match wanted {
        Some(wanted) if wanted.len() < 8 || !digest.starts_with(wanted) => Err(Failure::new(
            Exit::Refused,
            format!("this plan is {}, not the {wanted} of {flag}", &digest[..digest.len().min(12)]),
        )
        .note("Nothing was changed.")
        .hint("look at it again with `runbook plan`; give at least 8 characters of its digest")),
        _ => Ok(()),
    }
}

pub(crate) fn resume(ui: &Ui, global: &Global, given: &Resume) -> Result<Exit, Failure> {
    let opened = open(&project::state_dir(global)?)?;
    let row = journal::find(opened.journal.as_ref(), &given.run.run)?;
    if given.plan {
        return resume_plan(ui, &opened.engine, &row.id);
    }
    let driving = Driving { yes: given.yes, consented: false, no_wait: given.no_wait, crash: given.crash };
    super::runtime()?.block_on(drive(ui, &opened, &row.id, project::actor(global), driving))
}

fn resume_plan(ui: &Ui, engine: &Engine, run: &str) -> Result<Exit, Failure> {
    let lines = engine.resume_plan(run)?;
    let widest = lines.iter().map(|line| line.step.as_str().chars().count()).max().unwrap_or(0);
    for line in &lines {
        if ui.json {
            let what = serde_json::json!({ "v": 1, "kind": "resume_plan", "run": run, "line": line });
            ui.line(&what.to_string());
        } else {
            let what = format!("{:?}", line.what);
            ui.line(&format!("{:widest$}  {what:18}  {}", line.step.as_str(), line.why));
        }
    }
    ui.remark(&format!("\nNothing was done. next: runbook resume {}", run.get(..8).unwrap_or(run)));
    Ok(Exit::Succeeded)
}

pub(crate) fn rollback(ui: &Ui, global: &Global, given: &Rollback) -> Result<Exit, Failure> {
    let opened = open(&project::state_dir(global)?)?;
    let row = journal::find(opened.journal.as_ref(), &given.run.run)?;
    let actor = project::actor(global);
    if !given.yes && opened.engine.load(&row.id)?.machine.rolling_back().is_none() {
        let question = format!("Undo the finished steps of run {} in {}? [y/N]", row.id, row.environment);
        match ui.ask(&question).as_deref() {
            Some("y" | "yes") => {}
            Some(_) => return Err(Failure::new(Exit::Refused, "nothing was undone")),
            None => {
                return Err(Failure::new(Exit::Refused, "there is nobody to ask; nothing was undone")
                    .hint("say --yes to undo without a question"));
            }
        }
    }
    if opened.engine.load(&row.id)?.machine.rolling_back().is_none() {
        opened.engine.rollback(&row.id, &actor, given.reason.clone())?;
    }
    let driving = Driving { yes: false, consented: false, no_wait: true, crash: Crash::default() };
    super::runtime()?.block_on(drive(ui, &opened, &row.id, actor, driving))?;
    let end = RunEnd::of(&opened.engine.load(&row.id)?);
    Ok(if end.outcome == RunOutcome::RolledBack { Exit::Succeeded } else { exit(&end) })
}

/// Brings a cancelled run that nobody works on to its end; that it is cancelled is the success.
pub(crate) fn end_cancelled(ui: &Ui, opened: &Opened, run: &str, actor: String) -> Result<Exit, Failure> {
    let driving = Driving { yes: false, consented: false, no_wait: true, crash: Crash::default() };
    let exit = super::runtime()?.block_on(drive(ui, opened, run, actor, driving))?;
    let outcome = RunEnd::of(&opened.engine.load(run)?).outcome;
    Ok(if outcome == RunOutcome::Cancelled { Exit::Succeeded } else { exit })
}

/// Drives a run until it ends or cannot go on here, asking at the terminal when there is one.
async fn drive(
    ui: &Ui,
    opened: &Opened,
    run: &str,
    actor: String,
    driving: Driving,
) -> Result<Exit, Failure> {
    let stop = Stop::new();
    let listening = tokio::spawn(listen(stop.clone()));
    let interactive = ui.live && std::io::IsTerminal::is_terminal(&std::io::stdin());
    let result = loop {
        let options = DriveOptions {
            actor: actor.clone(),
            stop: stop.clone(),
            yes: driving.yes,
            waits_for_people: !interactive && !driving.no_wait && !driving.consented,
            rehearsal: driving.crash.rehearse.map(rehearsal),
        };
        let mut reporters = reporters(ui, driving.crash);
        if driving.crash.rehearse == Some(Rehearse::Die) {
            reporters.push(Box::new(DieAtNew::after(&opened.journal.read(run, 0)?)));
        }
        let end = opened.engine.drive(run, options, reporters).await?;
        let waits = end.outcome == RunOutcome::Waiting && !stop.is_wanted();
        if waits && driving.consented && consent(&opened.engine, &end, &actor)? {
            continue;
        }
        if waits && interactive && answer(ui, &opened.engine, &end, &actor)? {
            continue;
        }
        break end;
    };
    listening.abort();
    tell(ui, opened, &result)
}

fn rehearsal(wanted: Rehearse) -> Rehearsal {
    match wanted {
        Rehearse::Hurry | Rehearse::Die => Rehearsal::Hurry,
        Rehearse::Fail => Rehearsal::Fail,
        Rehearse::Refuse => Rehearsal::Refuse,
        Rehearse::Twice => Rehearsal::Twice,
    }
}

fn reporters(ui: &Ui, crash: Crash) -> Vec<Box<dyn Reporter>> {
    let mut reporters: Vec<Box<dyn Reporter>> = Vec::new();
    if ui.json {
        reporters.push(Box::<JsonLines>::default());
    } else if ui.live && !ui.quiet {
        reporters.push(Box::new(Live::new(ui.color, ui.width)));
    } else {
        reporters.push(Box::new(Lines::new(ui.quiet)));
    }
    reporters.extend(crash.die_after.map(|seq| Box::new(DieAfter(seq)) as Box<dyn Reporter>));
    reporters
}

/// Ctrl-C once: stop where it is safe. Twice: stop now. SIGTERM is the first kind.
async fn listen(stop: Stop) {
    use tokio::signal::unix::{SignalKind, signal};
    let (Ok(mut interrupt), Ok(mut terminate)) =
        (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
    else {
        return;
    };
    loop {
        tokio::select! {
            Some(()) = interrupt.recv() => {}
            Some(()) = terminate.recv() => {}
            else => return,
        }
        if stop.is_wanted() { stop.now() } else { stop.gentle() }
    }
}

/// Gives what was consented to with the plan's digest; whether there was something to give.
fn consent(engine: &Engine, end: &RunEnd, actor: &str) -> Result<bool, Failure> {
    // What to choose was not consented to with the plan.
    let loaded = engine.load(&end.run)?;
    let asked = end.problems.iter().filter(|problem| problem.state == State::Asked);
    let asked: Vec<_> = asked.filter(|problem| options(&loaded, &problem.step).is_empty()).collect();
    for problem in &asked {
        engine.approve(
            &end.run,
            &problem.step,
            actor,
            Some("--approve with this plan's digest".to_owned()),
        )?;
    }
    Ok(!asked.is_empty())
}

/// Asks at the terminal what the run asks; whether there was an answer. A destructive step in production
/// wants the name of the environment, typed.
fn answer(ui: &Ui, engine: &Engine, end: &RunEnd, actor: &str) -> Result<bool, Failure> {
    let loaded = engine.load(&end.run)?;
    let mut answered = false;
    for problem in end.problems.iter().filter(|problem| problem.state == State::Asked) {
        ui.error(&format!("\nstep {} asks: {}", problem.step, screen::safe(&problem.message)));
        let options = options(&loaded, &problem.step);
        if !options.is_empty() {
            answered |= choose(ui, engine, end, &problem.step, actor, options)?;
            continue;
        }
        let production = loaded.environment.kind == EnvironmentKind::Production;
        let yes = if production { loaded.environment.name.as_str() } else { "y" };
        let question = if production {
            format!("Type `{yes}` to say yes, `no` to say no, Enter to leave it open:")
        } else {
            "Yes or no? [y/n, Enter leaves it open]".to_owned()
        };
        match ui.ask(&question).as_deref() {
            Some(answer) if answer == yes => {
                engine.approve(&end.run, &problem.step, actor, None)?;
                answered = true;
            }
            Some("n" | "no") => {
                engine.deny(&end.run, &problem.step, actor, None)?;
                answered = true;
            }
            _ => {}
        }
    }
    Ok(answered)
}

/// What the open question of a step lets choose from.
fn options<'r>(loaded: &'r Loaded, step: &StepPath) -> &'r [Choice] {
    let asked = loaded.machine.instance(step).and_then(|instance| instance.approval.as_ref());
    asked.map_or(&[], |asked| &asked.request.options)
}

/// Lists the options and takes one of them, with a reason; whether one was taken.
fn choose(
    ui: &Ui,
    engine: &Engine,
    end: &RunEnd,
    step: &StepPath,
    actor: &str,
    options: &[Choice],
) -> Result<bool, Failure> {
    let widest = options.iter().map(|option| option.name.chars().count()).max().unwrap_or(0);
    for option in options {
        ui.error(&format!("  {:widest$}  {}", screen::safe(&option.name), screen::safe(&option.text)));
    }
    let chosen = ui.ask("Which? [its name, Enter leaves it open]").unwrap_or_default();
    if options.iter().all(|option| option.name != chosen) {
        return Ok(false);
    }
    let reason = ui.ask("Why? [Enter leaves it open]").filter(|reason| !reason.is_empty());
    let Some(reason) = reason else { return Ok(false) };
    engine.choose(&end.run, step, actor, reason, &chosen)?;
    Ok(true)
}

fn tell(ui: &Ui, opened: &Opened, end: &RunEnd) -> Result<Exit, Failure> {
    let loaded: Loaded = opened.engine.load(&end.run)?;
    let lease = opened.journal.lease(&end.run)?;
    let exit = exit(end);
    if ui.json {
        ui.line(&screen::end_line(&loaded, end, lease.as_ref(), exit.status()).to_string());
    } else {
        ui.block(&screen::end(&loaded, end, lease.as_ref(), Timestamp::now()));
    }
    Ok(exit)
}

/// Codes of failures that are refusals: of bytes that cannot be trusted (P9, G04), of a live database by another
/// name (G02), of data that is not masked (G03).
const REFUSALS: [&str; 8] = [
    "unverified",
    "checksum-mismatch",
    "cut-off",
    "meta-command",
    "dump-malformed",
    "live-target",
    "unclassified",
    "leak",
];

/// The status of the command that drove a run there. A step that would not take bytes that cannot be trusted
/// was refused, and did not fail: trying again cannot help.
pub(crate) fn exit(end: &RunEnd) -> Exit {
    let is_refusal = |problem: &Problem| problem.code.as_deref().is_some_and(|code| REFUSALS.contains(&code));
    match end.outcome.exit_status() {
        0 => Exit::Succeeded,
        5 if end.problems.iter().any(is_refusal) => Exit::Refused,
        4 => Exit::Refused,
        5 => Exit::Failed,
        6 => Exit::InDoubt,
        _ => Exit::Stopped,
    }
}

/// The journal, and the engine that works on it.
pub(crate) struct Opened {
    /// For finding runs and who holds them.
    pub(crate) journal: Arc<SqliteJournal>,
    /// For everything else.
    pub(crate) engine: Engine,
}

/// Opens the state directory.
pub(crate) fn open(state_dir: &std::path::Path) -> Result<Opened, Failure> {
    let journal = journal::open(state_dir)?;
    let paths = runbook_executor::driver::StatePaths { root: state_dir.to_owned() };
    let engine = Engine::new(journal.clone(), Arc::new(runbook_actions::registry()), paths)
        .with_redactor(crate::log::redactor());
    Ok(Opened { journal, engine })
}
