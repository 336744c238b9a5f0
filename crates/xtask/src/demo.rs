//! `cargo xtask demo`: Path B on the sandbox, killed half way and resumed, told in a dozen lines. Drives
//! the real binary as a person would; takes nothing from its insides.

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::shell::{Failure, cargo, output, root, run, say, target};

/// The share of the dump after which the process is killed.
const KILL_AT: f64 = 0.2;

pub(crate) fn demo(keep: bool) -> Result<(), Failure> {
    crate::postgres::ensure()?;
    say("Building …");
    run(cargo().args(["build", "--quiet", "--locked", "--package", "runbook-cli"]))?;
    let demo = Demo::new()?;
    let told = demo.tell();
    if !keep || told.is_err() {
        demo.quietly(&["sandbox", "stop"])?;
    }
    told?;
    if keep {
        say(&format!("The sandbox is still there. End it: {} sandbox stop", demo.shown()));
    }
    Ok(())
}

struct Demo {
    binary: PathBuf,
    state: PathBuf,
}

impl Demo {
    /// A new state directory: an earlier demo's sandbox is stopped first.
    fn new() -> Result<Self, Failure> {
        let target = target();
        let demo = Self { binary: target.join("debug/runbook"), state: target.join("demo") };
        if demo.state.exists() {
            demo.quietly(&["sandbox", "reset"])?;
            std::fs::remove_dir_all(&demo.state)
                .map_err(|error| format!("clear `{}`: {error}", demo.state.display()))?;
        }
        Ok(demo)
    }

    fn tell(&self) -> Result<(), Failure> {
        say("");
        say(
            "1. A sandbox: PostgreSQL laid out like a Supabase project, S3, Supabase and Vercel stand-ins, an app.",
        );
        self.quietly(&["sandbox", "start"])?;
        self.quietly(&["sandbox", "seed", "--size", "demo"])?;
        say(&format!("2. The sample application serves {}.", self.application()?));
        let backup = self.json(&["sandbox", "backup"])?;
        say(&format!("3. Last night's backup: {}, with its sha256 beside it.", backup_line(&backup)));
        self.quietly(&["sandbox", "break", "bad-migration"])?;
        say(&format!(
            "4. A bad migration hits the live database. The application now: {}.",
            self.application()?
        ));

        say("5. runbook run runbooks/path-b.yaml --env local");
        let (id, at) = self.run_until_killed()?;
        say(&format!(
            "6. SIGKILL in the middle of the restore, {:.0} % through the dump. Run {id} is dead.",
            at * 100.0
        ));
        say(&format!("7. runbook resume {id}"));
        say(&format!("   {}", self.resume(&id)?));
        let status = self.json(&["status", &id])?;
        say(&format!("8. The run {}. {}", text(&status, "/state"), twice(&status)));
        say(&format!("9. The application serves {}.", self.application()?));
        say(&format!("10. Each row is there once: {}.", self.rows()?));
        say(&format!(
            "11. Measured: RPO {} (objective {}), RTO {} (objective {}).",
            seconds(&status, "/measured/rpo_seconds"),
            seconds(&status, "/objectives/rpo_seconds"),
            seconds(&status, "/measured/rto_seconds"),
            seconds(&status, "/objectives/rto_seconds"),
        ));
        say("12. Try next:");
        for command in [
            format!("status {id}"),
            format!("logs {id}"),
            format!("verify {id}"),
            "actions postgres.restore".to_owned(),
        ] {
            say(&format!("      {} {command}", self.shown()));
        }
        Ok(())
    }

    /// Starts Path B and kills it with SIGKILL inside the restore; gives the run's id and how far it was.
    fn run_until_killed(&self) -> Result<(String, f64), Failure> {
        let mut command = self.command();
        command
            .args(["run", "runbooks/path-b.yaml", "--env", "local", "--yes", "--json"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command.spawn().map_err(|error| format!("start `runbook run`: {error}"))?;
        let reached = self.watch(&mut child);
        // Kill is SIGKILL: no handler runs, nothing is tidied up.
        child.kill().map_err(|error| format!("kill `runbook run`: {error}"))?;
        child.wait().map_err(|error| format!("wait for `runbook run`: {error}"))?;
        reached
    }

    fn watch(&self, child: &mut Child) -> Result<(String, f64), Failure> {
        let stdout = child.stdout.take().ok_or("`runbook run` has no output")?;
        let mut id = None;
        for line in BufReader::new(stdout).lines() {
            let line = line.map_err(|error| format!("read from `runbook run`: {error}"))?;
            let event: Value =
                serde_json::from_str(&line).map_err(|error| format!("read `{line}`: {error}"))?;
            if id.is_none() {
                id = event.get("run").and_then(Value::as_str).map(str::to_owned);
            }
            let (done, total) = (number(&event, "/done"), number(&event, "/total"));
            let restoring = event.get("step").and_then(Value::as_str) == Some("restore");
            if let (true, Some(done), Some(total), Some(id)) = (restoring, done, total, &id)
                && total > 0.0
                && done / total >= KILL_AT
            {
                return Ok((id.clone(), done / total));
            }
        }
        Err("the run ended before the restore was half way".to_owned())
    }

    /// Resumes to the end; gives in words what was kept and where the restore went on.
    fn resume(&self, id: &str) -> Result<String, Failure> {
        let plan = output(self.command().args(["--quiet", "--json", "resume", id, "--plan"]))?;
        let kept = plan.lines().filter(|line| line.contains("\"what\":\"keep\"")).count();
        let lines =
            output(self.command().args(["--quiet", "--json", "resume", id, "--yes"]).stdin(Stdio::null()))?;
        let events: Vec<Value> = lines.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        let restoring = |event: &&Value| text(event, "/step") == "restore";
        let fenced = events.iter().filter(restoring).find_map(|event| number(event, "/ended"));
        let mut parts = vec![format!("{kept} finished steps are kept")];
        match fenced {
            Some(0.0) => parts.push("no database session of the dead attempt is left".to_owned()),
            Some(ended) => {
                parts.push(format!("{ended:.0} database session of the dead attempt is ended and gone"))
            }
            None => {}
        }
        parts.push("the restore goes on with the first chunk that is missing".to_owned());
        Ok(parts.join("; "))
    }

    /// What the sample application says of itself, in words.
    fn application(&self) -> Result<String, Failure> {
        let status = self.json(&["sandbox", "status"])?;
        let health = status.pointer("/app/ok").and_then(Value::as_bool).unwrap_or(false);
        let messages = number(&status, "/app/messages");
        Ok(match (health, messages) {
            (true, Some(messages)) => {
                format!("{messages} messages from database {}", text(&status, "/app/database"))
            }
            _ => format!("\"{}\"", text(&status, "/app/error")),
        })
    }

    fn rows(&self) -> Result<String, Failure> {
        let status = self.json(&["sandbox", "status"])?;
        let (all, distinct) = (number(&status, "/app/messages"), number(&status, "/app/messages_distinct"));
        match (all, distinct) {
            (Some(all), Some(distinct)) if all == distinct => {
                Ok(format!("{all} messages, {distinct} different ids"))
            }
            _ => Err(format!("rows are missing or doubled: {all:?} messages, {distinct:?} different ids")),
        }
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command.current_dir(root()).env("RUNBOOK_STATE_DIR", &self.state).env("RUNBOOK_ACTOR", "demo");
        command
    }

    fn quietly(&self, arguments: &[&str]) -> Result<(), Failure> {
        output(self.command().arg("--quiet").args(arguments)).map(drop)
    }

    /// The last line of JSON that a command wrote.
    fn json(&self, arguments: &[&str]) -> Result<Value, Failure> {
        let text = output(self.command().args(["--quiet", "--json"]).args(arguments))?;
        let line = text.lines().last().unwrap_or_default();
        serde_json::from_str(line).map_err(|error| format!("read `{line}`: {error}"))
    }

    /// How a person calls the binary with this state.
    fn shown(&self) -> String {
        let short = |path: &PathBuf| path.strip_prefix(root()).unwrap_or(path).display().to_string();
        format!("RUNBOOK_STATE_DIR={} {}", short(&self.state), short(&self.binary))
    }
}

fn backup_line(backup: &Value) -> String {
    let mib = number(backup, "/size_bytes").unwrap_or(0.0) / 1024.0 / 1024.0;
    format!("{} ({mib:.1} MiB)", text(backup, "/key"))
}

/// How many attempts the restore took, from the journal.
fn twice(status: &Value) -> String {
    let steps = status.pointer("/steps").and_then(Value::as_array);
    let restore = steps.into_iter().flatten().find(|step| text(step, "/step") == "restore");
    restore.map_or_else(String::new, |step| {
        let attempts = number(step, "/attempts").unwrap_or(0.0);
        format!("The restore took {attempts} attempts; every other step ran once.")
    })
}

fn number(value: &Value, pointer: &str) -> Option<f64> {
    value.pointer(pointer).and_then(Value::as_f64)
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("?")
}

fn seconds(value: &Value, pointer: &str) -> String {
    match number(value, pointer) {
        None => "none".to_owned(),
        Some(seconds) if seconds < 120.0 => format!("{seconds:.0}s"),
        Some(seconds) if seconds < 7200.0 => format!("{:.0}m", seconds / 60.0),
        Some(seconds) => format!("{:.0}h", seconds / 3600.0),
    }
}
