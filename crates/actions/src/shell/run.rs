//! `shell.run`: one program, its inputs and outputs as JSON.

use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use runbook_core::action::{ActionError, Aftermath, Context, Effect, Preview};
use runbook_core::secret::{Revealed, holds_marker};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, Command};

use super::capture::{Captured, Needles, capture, keep};
use super::group::{GRACE, Group, MARK};
use super::params::{Outputs, Params};
use crate::typed::{About, Done, Found, Typed};

/// Waits for the word on its standard input, then becomes the program. A runner that dies before it has written
/// down whose process this is leaves a gate that ends by itself.
pub(super) const GATE: &str = r#"IFS= read -r word && [ "$word" = go ] && exec "$@"; exit 125"#;
/// Variables of `runbook` itself that a program gets too. None of them holds a secret.
const PASSED_ON: [&str; 9] =
    ["PATH", "HOME", "USER", "LOGNAME", "LANG", "LC_ALL", "TZ", "TMPDIR", "SSL_CERT_FILE"];
/// `EX_TEMPFAIL` of sysexits: the script says that it changed nothing and may be run again.
const TRY_AGAIN: i32 = 75;
/// Largest outputs, as JSON.
const OUTPUT_BYTES_MAX: u64 = 128 << 10;
/// As much of the output as becomes `tail`, and as an error repeats.
const TAIL_BYTES: usize = 4 << 10;
const SAID_CHARS: usize = 300;
/// How long the streams of a program that ended may stay open, held by something that left its group.
const DRAIN: Duration = Duration::from_secs(1);

/// The action `shell.run`.
pub struct Run;

impl Typed for Run {
    type Params = Params;
    type Outputs = Outputs;
    const ABOUT: About = About {
        permissions: &["whatever the script needs on this machine and beyond"],
        has_probe: true,
        has_plan: true,
        ..About::new(
            "shell.run",
            "Runs a script of the team; inputs and outputs are JSON, secrets come by environment variables.",
            Effect::Once,
            r#"id: count
uses: shell.run
with:
  run: |
    inputs=$(cat)
    echo "counting" >&2
    echo "{\"bytes\": $(printf %s "$inputs" | wc -c)}"
  inputs: { table: messages }
  env: { API_TOKEN: "{{ secrets.cron_secret }}" }
  idempotent: true
timeout: 1m
"#,
        )
    };

    async fn plan(&self, ctx: &Context, params: Params) -> Result<Preview, ActionError> {
        let program = Program::new(ctx, &params).await?;
        let again = if params.idempotent { "declared idempotent" } else { "not repeated by itself" };
        Ok(Preview::Unknown(format!(
            "runs {} ({again}); what a script does cannot be told before",
            program.label
        )))
    }

    async fn run(&self, ctx: &Context, params: Params) -> Result<Done<Outputs>, ActionError> {
        let program = Program::new(ctx, &params).await?;
        let mut secrets = Vec::new();
        let mut variables = Vec::new();
        for (name, text) in &params.env {
            check_name(name)?;
            let clear = ctx.secrets.reveal(text)?;
            variables.push((name, Revealed::new(clear.expose())));
            if holds_marker(text.marked()) {
                secrets.push(clear);
            }
        }
        let needles = Needles::new(&secrets);
        let mark = uuid::Uuid::now_v7().to_string();
        let (folder, output) = (ctx.artifacts.clone(), output_file(ctx, &mark));
        private_folder(&folder).await?;
        let mut command = program.command(ctx, &output);
        command.env(MARK, &mark);
        for (name, value) in &variables {
            command.env(name, value.expose());
        }
        let child = command
            .spawn()
            .map_err(|error| ActionError::refused(format!("start {}", program.label)).because(error))?;
        drop((command, variables));
        let attempt = Attempt { ctx, program: &program, idempotent: params.idempotent };
        let (status, captured) = attempt.carry_out(child, &mark, &json!(params.inputs)).await?;
        let [stdout, stderr] = captured.map(|captured| captured.clean(&needles));
        keep(&folder, "stdout.txt", &stdout).await?;
        keep(&folder, "stderr.txt", &stderr).await?;
        attempt.judge(status, &stderr, &stdout).await?;
        let outputs = Outputs {
            outputs: outputs(&output, &stdout, &needles).await?,
            tail: last(&stdout, TAIL_BYTES).to_owned(),
            artifacts: folder.display().to_string(),
        };
        ctx.checkpoints.save("ended", json!({ "outputs": outputs })).await?;
        Ok(Done::new(outputs, format!("{} ended well", program.label)))
    }

    async fn probe(&self, ctx: &Context, params: Params) -> Result<Found<Outputs>, ActionError> {
        if let Some(outputs) = ctx
            .checkpoints
            .get("ended")
            .and_then(|ended| serde_json::from_value(ended.get("outputs")?.clone()).ok())
        {
            return Ok(Found::Happened(Done::new(outputs, "had ended well")));
        }
        // The author's word, given with the step: twice is once.
        if params.idempotent || ctx.checkpoints.get("group").is_none() {
            return Ok(Found::Absent);
        }
        let ended = ctx.checkpoints.get("ended").and_then(|v| v.get("status")?.as_str().map(str::to_owned));
        let how = ended.unwrap_or_else(|| "was cut off".to_owned());
        Ok(Found::Unclear(format!("the script {how}, and only its author knows what that leaves")))
    }

    async fn fence(&self, ctx: &Context, _params: Params) -> Result<u32, ActionError> {
        let Some(saved) = ctx.checkpoints.get("group") else { return Ok(0) };
        let group: Group = serde_json::from_value(saved).map_err(|error| {
            ActionError::refused("read whose processes an earlier attempt started").because(error)
        })?;
        group.end(GRACE).await.map_err(|doubt| {
            ActionError::refused(format!(
                "prove that process group {} of an earlier attempt is dead",
                group.pid
            ))
            .because(doubt)
            .hint("Look at that machine, end what is left of the script, and resume there.")
        })
    }
}

/// What is started.
struct Program {
    /// The words after the gate.
    words: Vec<String>,
    /// How people know it.
    label: String,
}

impl Program {
    async fn new(ctx: &Context, params: &Params) -> Result<Self, ActionError> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        match (&params.script, &params.run) {
            (None, Some(text)) if !text.trim().is_empty() => {
                if holds_marker(text) {
                    return Err(ActionError::refused("run the script: a secret belongs into `env`"));
                }
                let digest = hex::encode(&Sha256::digest(text.as_bytes())[..6]);
                Ok(Self {
                    words: words(&["sh", "-euc", text, "script"]),
                    label: format!("a script ({digest})"),
                })
            }
            (Some(file), None) => {
                let path = ctx.base.join(file);
                let failed =
                    |error| ActionError::refused(format!("read script `{}`", path.display())).because(error);
                let bytes = tokio::fs::read(&path).await.map_err(failed)?;
                let mode = tokio::fs::metadata(&path).await.map_err(failed)?;
                let path = tokio::fs::canonicalize(&path).await.map_err(failed)?;
                let path = path.to_string_lossy().into_owned();
                let executable = std::os::unix::fs::PermissionsExt::mode(&mode.permissions()) & 0o111 != 0;
                let label = format!("`{file}` (sha256 {})", hex::encode(&Sha256::digest(&bytes)[..6]));
                let words = if executable { words(&[&path]) } else { words(&["sh", &path]) };
                Ok(Self { words, label })
            }
            _ => Err(ActionError::refused("find the script: give `script` or `run`, and not both")),
        }
    }

    fn command(&self, ctx: &Context, output: &std::path::Path) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", GATE, "gate"]).args(&self.words);
        command.current_dir(&ctx.base).env_clear();
        for name in PASSED_ON {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command
            .env("RUNBOOK_RUN", &ctx.run)
            .env("RUNBOOK_STEP", ctx.step.as_str())
            .env("RUNBOOK_KEY", &ctx.key)
            .env("RUNBOOK_ENVIRONMENT", &ctx.environment.name)
            .env("RUNBOOK_OUTPUT", output)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        command
    }
}

/// Ends a group whose attempt is dropped, which no waiting can do.
struct Leash(Option<Group>);

impl Drop for Leash {
    fn drop(&mut self) {
        if let Some(group) = &self.0 {
            group.kill();
        }
    }
}

/// One attempt, under way.
struct Attempt<'a> {
    ctx: &'a Context,
    program: &'a Program,
    idempotent: bool,
}

impl Attempt<'_> {
    /// What is known of the world when the script did not come to its end.
    fn aftermath(&self) -> Aftermath {
        if self.idempotent { Aftermath::Unchanged { retry_after: None } } else { Aftermath::Unknown }
    }

    /// Writes down whose process it is, lets it through the gate, and waits for its end.
    async fn carry_out(
        &self,
        mut child: Child,
        mark: &str,
        inputs: &Value,
    ) -> Result<(ExitStatus, [Captured; 2]), ActionError> {
        let label = &self.program.label;
        let lost = |what: &str| ActionError::unchanged(format!("{what} {label}"));
        let pid = child.id().ok_or_else(|| lost("keep hold of"))?;
        let group = Group::of(pid, mark);
        let mut leash = Leash(Some(group.clone()));
        self.ctx.checkpoints.save("ended", Value::Null).await?;
        self.ctx.checkpoints.save("group", json!(group)).await?;
        let (streams, input) = ([Mutex::default(), Mutex::default()], format!("go\n{inputs}\n"));
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let (Some(mut stdin), Some(stdout), Some(stderr)) = (stdin, stdout, stderr) else {
            return Err(lost("talk to"));
        };
        let feed = async move {
            // A script that does not read its inputs is no mistake.
            if let Err(error) = stdin.write_all(input.as_bytes()).await {
                tracing::debug!(%error, "the script did not read all of its inputs");
            }
            drop(stdin);
        };
        let mut talk = std::pin::pin!(async {
            tokio::join!(feed, capture(stdout, &streams[0]), capture(stderr, &streams[1]));
        });
        let mut talked = false;
        let status = loop {
            tokio::select! {
                biased;
                () = self.ctx.stop.wait() => return Err(self.stopped(&group).await),
                ended = child.wait() => break ended,
                () = &mut talk, if !talked => talked = true,
            }
        };
        let status = status.map_err(|error| {
            ActionError::new(format!("wait for {label}"), self.aftermath()).because(error)
        })?;
        // What it left behind in its group is ended with it: the step is over.
        let left = group.end(GRACE).await;
        if !talked {
            // Something that left the group may hold the streams; nobody waits for that.
            let _ended_or_not = tokio::time::timeout(DRAIN, talk).await;
        }
        left.map_err(|doubt| {
            ActionError::new(format!("end what {label} left running"), self.aftermath()).because(doubt)
        })?;
        leash.0 = None;
        let taken = |stream: &Mutex<Captured>| {
            std::mem::take(&mut *stream.lock().unwrap_or_else(std::sync::PoisonError::into_inner))
        };
        Ok((status, [taken(&streams[0]), taken(&streams[1])]))
    }

    async fn stopped(&self, group: &Group) -> ActionError {
        let text = format!("finish {}: the run was asked to stop, and it was ended", self.program.label);
        let error = ActionError::new(text, self.aftermath()).code("stopped");
        match group.end(GRACE).await {
            Ok(_) => error,
            Err(doubt) => error.because(doubt),
        }
    }

    /// Whether it ended well.
    async fn judge(&self, status: ExitStatus, stderr: &str, stdout: &str) -> Result<(), ActionError> {
        if status.success() {
            return Ok(());
        }
        let how = match (status.code(), std::os::unix::process::ExitStatusExt::signal(&status)) {
            (Some(code), _) => format!("ended with status {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "ended in an unknown way".to_owned(),
        };
        self.ctx.checkpoints.save("ended", json!({ "status": how })).await?;
        let aftermath = match status.code() {
            Some(TRY_AGAIN) => Aftermath::Unchanged { retry_after: None },
            _ => self.aftermath(),
        };
        let said = [stderr, stdout].into_iter().map(str::trim).find(|text| !text.is_empty());
        let said = said.map_or(String::new(), |text| {
            let skip = text.chars().count().saturating_sub(SAID_CHARS);
            let end: String = text.chars().skip(skip).collect();
            format!(": {}", end.escape_debug().to_string().replace("\\n", " / "))
        });
        Err(ActionError::new(format!("run {}: it {how}{said}", self.program.label), aftermath)
            .code("script-failed")
            .hint(format!("All that it said is in {}", self.ctx.artifacts.display())))
    }
}

/// Names that the shell understands, and not those that say whose the process is.
fn check_name(name: &str) -> Result<(), ActionError> {
    let plain = name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let first = name.bytes().next().is_some_and(|b| !b.is_ascii_digit());
    if plain && first && !name.starts_with("RUNBOOK_") {
        return Ok(());
    }
    Err(ActionError::refused(format!("set variable `{}` for the script", name.escape_debug()))
        .hint("Letters, digits and `_`, not beginning with a digit or with `RUNBOOK_`."))
}

/// One for each attempt: a script that survives its attempt writes into nobody else's.
fn output_file(ctx: &Context, mark: &str) -> PathBuf {
    ctx.artifacts.join(format!(".output-{mark}"))
}

async fn private_folder(folder: &std::path::Path) -> Result<(), ActionError> {
    let failed = |error| ActionError::refused(format!("make `{}`", folder.display())).because(error);
    let folder = folder.to_owned();
    let made = tokio::task::spawn_blocking(move || {
        use std::os::unix::fs::DirBuilderExt as _;
        std::fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)
    });
    made.await.map_err(|error| failed(std::io::Error::other(error)))?.map_err(failed)
}

/// What the script gives: the file that it was told of, else its last line.
async fn outputs(file: &std::path::Path, stdout: &str, secrets: &Needles) -> Result<Value, ActionError> {
    let refuse = |why: String| {
        ActionError::unknown(format!("read the script's outputs: {why}"))
            .hint("The script has run; what it gave cannot be used.")
    };
    match tokio::fs::metadata(file).await {
        Ok(found) if found.len() > OUTPUT_BYTES_MAX => {
            return Err(refuse(format!("{} bytes, {OUTPUT_BYTES_MAX} are allowed", found.len())));
        }
        Ok(_) => {
            let text = tokio::fs::read_to_string(file).await.map_err(|error| refuse(error.to_string()))?;
            tokio::fs::remove_file(file).await.map_err(|error| refuse(error.to_string()))?;
            return serde_json::from_str(&secrets.redact(&text)).map_err(|error| refuse(error.to_string()));
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(refuse(error.to_string())),
    }
    let line = stdout.trim_end().lines().next_back().unwrap_or_default();
    let small = u64::try_from(line.len()).is_ok_and(|len| len <= OUTPUT_BYTES_MAX);
    Ok(if small { serde_json::from_str(line).unwrap_or(Value::Null) } else { Value::Null })
}

/// The end of a text, at a character.
fn last(text: &str, bytes_max: usize) -> &str {
    let from = text.len().saturating_sub(bytes_max);
    let at = (from..=text.len()).find(|&at| text.is_char_boundary(at)).unwrap_or(text.len());
    &text[at..]
}
