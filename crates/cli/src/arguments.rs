//! The command line as data: every command, flag and help text. Decides nothing.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};

/// The whole command line.
#[derive(Debug, Parser)]
#[command(
    name = "runbook",
    version,
    about = "Restore procedures as programs: killed half way, resumed, nothing twice",
    after_help = "Start here:  runbook check FILE     what is wrong with a runbook\n             \
                  runbook plan FILE      what it would do, changing nothing\n             \
                  runbook run FILE       do it\n\n\
                  Exit status: 0 succeeded · 1 internal or I/O error · 2 wrong command line · 3 invalid runbook\n\
                  4 precondition, guard, approval or integrity check refused · 5 a step failed, resumable · 6 in doubt\n\
                  7 stopped, paused or waiting for a person · 8 somebody else holds the run"
)]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) global: Global,
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What every command takes.
#[derive(Debug, Clone, Args)]
pub(crate) struct Global {
    /// Where journals, artifacts, secrets and the sandbox live [default: runbook/ under the user's state folder]
    #[arg(long, global = true, env = "RUNBOOK_STATE_DIR", value_name = "DIR")]
    pub(crate) state_dir: Option<PathBuf>,
    /// Write one JSON object a line to standard output
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// When to colour
    #[arg(long, global = true, value_name = "WHEN", default_value = "auto")]
    pub(crate) color: When,
    /// Say less on standard error
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Your name in the journal [default: the user's name]
    #[arg(long, global = true, env = "RUNBOOK_ACTOR", value_name = "NAME")]
    pub(crate) actor: Option<String>,
}

/// When to do something that depends on a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum When {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start a run of a runbook
    Run(Run),
    /// Go on with a run that was killed, stopped, paused or failed
    Resume(Resume),
    /// Where a run stands, and what is still in force
    Status(RunArgument),
    /// All runs, newest first
    List(List),
    /// A run's records, oldest first
    Logs(Logs),
    /// Say yes to a step that asks
    Approve(Answer),
    /// Say no to a step that asks
    Deny(Answer),
    /// Add a note to a run's timeline
    Note(Note),
    /// Ask a live run to stop after the running steps
    Pause(Reasoned),
    /// Give a run up: nothing starts after it
    Cancel(Reasoned),
    /// Settle a step in doubt: did its effect happen?
    Resolve(Resolve),
    /// Undo the finished steps of a run, newest first
    Rollback(Rollback),
    /// Prove a run's journal: every record carries the hash of the one before
    Verify(RunArgument),
    /// Write a run's journal out, to be resumed on another machine
    Export(Export),
    /// Take in a run's journal that another machine wrote out
    Import(Import),
    /// Find every mistake in runbooks without running anything
    Check(Check),
    /// Show what a run would do to the real targets, changing nothing
    Plan(Plan),
    /// Draw a runbook's steps and what they need
    Graph(Graph),
    /// Write a new runbook to start from
    New(New),
    /// List the actions, or explain one
    Actions(Actions),
    /// Explain a guard (G03), a diagnostic (unknown-key) or an exit status (5)
    Explain(Explain),
    /// What the backup bucket holds, how far a backup can be trusted, what is inside it
    Backups(Backups),
    /// Prove, read-only, that this machine and an environment are ready
    #[command(
        after_help = "Exit status: 0 everything that the runbooks need is there · 4 something is missing, wrong or too old\n\
                            3 the environment file has mistakes. A scheduler may take anything but 0 for a reason to tell somebody."
    )]
    Doctor(Doctor),
    /// A private Postgres, S3, Supabase and Vercel to rehearse on
    Sandbox(Sandbox),
    /// Print a JSON Schema for editors and tools
    Schema(Schema),
    /// Print a completion script for a shell
    Completions(Completions),
}

/// A runbook file and what binds it.
#[derive(Debug, Clone, Args)]
pub(crate) struct Bound {
    /// The runbook
    #[arg(value_name = "FILE")]
    pub(crate) runbook: PathBuf,
    /// The environment: a file environments/NAME.yaml beside the runbook
    #[arg(long, short, value_name = "NAME")]
    pub(crate) env: String,
    /// An input; may be given many times
    #[arg(long, short, value_name = "NAME=VALUE")]
    pub(crate) input: Vec<String>,
    /// Waive a guard for this run; wants --reason
    #[arg(long, value_name = "GUARD", requires = "reason")]
    pub(crate) waive: Vec<String>,
    /// Why a guard is waived
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// `run`
#[derive(Debug, Args)]
pub(crate) struct Run {
    #[command(flatten)]
    pub(crate) bound: Bound,
    /// Answer what may be answered without a person; never an approval in production
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Run only if the plan has this digest (or begins with it)
    #[arg(long, value_name = "DIGEST")]
    pub(crate) plan: Option<String>,
    /// Give the approvals of exactly this plan in advance
    #[arg(long, value_name = "DIGEST")]
    pub(crate) approve: Option<String>,
    /// Where nobody can be asked: end with status 7 instead of waiting for an answer from elsewhere
    #[arg(long)]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) crash: Crash,
}

/// For rehearsing crashes.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Crash {
    /// Die by SIGKILL as soon as this record of the journal is durable
    #[arg(long, value_name = "RECORD", hide = true)]
    pub(crate) die_after: Option<u64>,
}

/// `resume`
#[derive(Debug, Args)]
pub(crate) struct Resume {
    #[command(flatten)]
    pub(crate) run: RunArgument,
    /// Say what would be kept, proven dead, probed, repeated or asked, and do nothing
    #[arg(long)]
    pub(crate) plan: bool,
    /// Answer what may be answered without a person; never an approval in production
    #[arg(long, short)]
    pub(crate) yes: bool,
    /// Where nobody can be asked: end with status 7 instead of waiting for an answer from elsewhere
    #[arg(long)]
    pub(crate) no_wait: bool,
    #[command(flatten)]
    pub(crate) crash: Crash,
}

/// A run by its id.
#[derive(Debug, Clone, Args)]
pub(crate) struct RunArgument {
    /// The run's id, or enough of its beginning; `last` is the newest
    #[arg(value_name = "RUN", default_value = "last")]
    pub(crate) run: String,
}

/// `list`
#[derive(Debug, Args)]
pub(crate) struct List {
    /// Only runs in this environment
    #[arg(long, short, value_name = "NAME")]
    pub(crate) env: Option<String>,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) limit: usize,
}

/// `logs`
#[derive(Debug, Args)]
pub(crate) struct Logs {
    #[command(flatten)]
    pub(crate) run: RunArgument,
    /// Only records of this step
    #[arg(long, value_name = "STEP")]
    pub(crate) step: Option<String>,
    /// Go on with new records until the run ends
    #[arg(long, short)]
    pub(crate) follow: bool,
}

/// `approve` and `deny`
#[derive(Debug, Args)]
pub(crate) struct Answer {
    /// The run's id, or enough of its beginning; `last` is the newest
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    /// The step that asks; the only one that does when left out
    #[arg(value_name = "STEP")]
    pub(crate) step: Option<String>,
    /// Why; for a manual step: the evidence
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// `note`
#[derive(Debug, Args)]
pub(crate) struct Note {
    /// The run's id, or enough of its beginning; `last` is the newest
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    /// The note
    #[arg(value_name = "TEXT")]
    pub(crate) text: String,
}

/// `pause` and `cancel`
#[derive(Debug, Args)]
pub(crate) struct Reasoned {
    #[command(flatten)]
    pub(crate) run: RunArgument,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// `resolve`
#[derive(Debug, Args)]
#[command(group(clap::ArgGroup::new("what").required(true).args(["done", "again"])))]
pub(crate) struct Resolve {
    /// The run's id, or enough of its beginning; `last` is the newest
    #[arg(value_name = "RUN")]
    pub(crate) run: String,
    /// The step in doubt
    #[arg(value_name = "STEP")]
    pub(crate) step: String,
    /// The effect happened: take the step as done
    #[arg(long)]
    pub(crate) done: bool,
    /// The effect did not happen: start the step again. Also runs a finished step again, with a reason
    #[arg(long)]
    pub(crate) again: bool,
    /// The step's outputs as a JSON object, with --done
    #[arg(long, value_name = "JSON", requires = "done")]
    pub(crate) outputs: Option<String>,
    /// How you know
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
}

/// `rollback`
#[derive(Debug, Args)]
pub(crate) struct Rollback {
    #[command(flatten)]
    pub(crate) run: RunArgument,
    /// Why
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: Option<String>,
    /// Do not ask before undoing
    #[arg(long, short)]
    pub(crate) yes: bool,
}

/// `export`
#[derive(Debug, Args)]
pub(crate) struct Export {
    #[command(flatten)]
    pub(crate) run: RunArgument,
    /// Where to; standard output when left out
    #[arg(long, value_name = "FILE")]
    pub(crate) to: Option<PathBuf>,
}

/// `import`
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The file that `runbook export` wrote
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

/// `check`
#[derive(Debug, Args)]
pub(crate) struct Check {
    /// The runbooks
    #[arg(value_name = "FILE", required = true)]
    pub(crate) runbooks: Vec<PathBuf>,
    /// Check against this environment too
    #[arg(long, short, value_name = "NAME")]
    pub(crate) env: Option<String>,
}

/// `plan`
#[derive(Debug, Args)]
pub(crate) struct Plan {
    #[command(flatten)]
    pub(crate) bound: Bound,
    /// Do not look at the real targets
    #[arg(long)]
    pub(crate) offline: bool,
}

/// `graph`
#[derive(Debug, Args)]
pub(crate) struct Graph {
    /// The runbook
    #[arg(value_name = "FILE")]
    pub(crate) runbook: PathBuf,
    /// The environment
    #[arg(long, short, value_name = "NAME")]
    pub(crate) env: Option<String>,
    /// The form
    #[arg(long, value_name = "FORM", default_value = "text")]
    pub(crate) format: GraphForm,
}

/// How a graph is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum GraphForm {
    /// For a terminal.
    Text,
    /// Graphviz.
    Dot,
    /// Mermaid.
    Mermaid,
}

/// `new`
#[derive(Debug, Args)]
pub(crate) struct New {
    /// The runbook's name; the file is NAME.yaml
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The folder
    #[arg(long, value_name = "DIR", default_value = "runbooks")]
    pub(crate) dir: PathBuf,
}

/// `actions`
#[derive(Debug, Args)]
pub(crate) struct Actions {
    /// One action: its fields, defaults, effect class, permissions, an example
    #[arg(value_name = "ACTION")]
    pub(crate) name: Option<String>,
}

/// `explain`
#[derive(Debug, Args)]
pub(crate) struct Explain {
    /// G01 to G09, a diagnostic's code, or an exit status
    #[arg(value_name = "CODE")]
    pub(crate) code: String,
}

/// `backups`
#[derive(Debug, Args)]
pub(crate) struct Backups {
    #[command(subcommand)]
    pub(crate) command: BackupsCommand,
}

/// What can be asked of the backup bucket.
#[derive(Debug, Subcommand)]
pub(crate) enum BackupsCommand {
    /// The dumps in the bucket, newest first: restore point, size, whether verified, age against the RPO
    List(BackupsList),
    /// Read a backup to its end and say how far it can be trusted (levels V0 to V2); status 4 when it cannot
    Verify(BackupsVerify),
    /// What is inside a backup, without a database: objects, tables, rows, sizes, the schema
    Inspect(BackupsInspect),
}

/// Whose backups.
#[derive(Debug, Clone, Args)]
pub(crate) struct BackupsPlace {
    /// The environment; the only one of the folder when left out
    #[arg(long, short, value_name = "NAME")]
    pub(crate) env: Option<String>,
    /// The folder that holds environments/
    #[arg(long, value_name = "DIR", default_value = "runbooks")]
    pub(crate) dir: PathBuf,
}

/// `backups list`
#[derive(Debug, Args)]
pub(crate) struct BackupsList {
    #[command(flatten)]
    pub(crate) place: BackupsPlace,
    /// How many at most
    #[arg(long, value_name = "N", default_value_t = 20)]
    pub(crate) limit: usize,
}

/// `backups verify`
#[derive(Debug, Args)]
pub(crate) struct BackupsVerify {
    /// The key, or enough of its end; `latest` is the newest verified one
    #[arg(value_name = "KEY", default_value = "latest")]
    pub(crate) key: String,
    #[command(flatten)]
    pub(crate) place: BackupsPlace,
    /// A table that it must hold; may be given many times
    #[arg(long, value_name = "SCHEMA.TABLE")]
    pub(crate) table: Vec<String>,
}

/// `backups inspect`
#[derive(Debug, Args)]
pub(crate) struct BackupsInspect {
    /// The key, or enough of its end; `latest` is the newest verified one
    #[arg(value_name = "KEY", default_value = "latest")]
    pub(crate) key: String,
    #[command(flatten)]
    pub(crate) place: BackupsPlace,
    /// Print the schema as SQL, and nothing else
    #[arg(long)]
    pub(crate) schema: bool,
    /// Count rows, also where the whole dump must be read for that
    #[arg(long)]
    pub(crate) rows: bool,
}

/// `doctor`
#[derive(Debug, Args)]
pub(crate) struct Doctor {
    /// The environment to look at
    #[arg(long, short, value_name = "NAME")]
    pub(crate) env: Option<String>,
    /// The folder of the runbooks, which holds environments/: what they use is what is looked at
    #[arg(long, value_name = "DIR", default_value = "runbooks")]
    pub(crate) dir: PathBuf,
}

/// `schema`
#[derive(Debug, Args)]
pub(crate) struct Schema {
    /// Which
    #[arg(value_name = "WHAT", default_value = "runbook")]
    pub(crate) what: SchemaKind,
}

/// The schemas there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SchemaKind {
    /// A runbook file.
    Runbook,
    /// An environment file.
    Environment,
    /// The lines of `--json`.
    Events,
}

/// `completions`
#[derive(Debug, Args)]
pub(crate) struct Completions {
    /// The shell
    #[arg(value_name = "SHELL")]
    pub(crate) shell: clap_complete::Shell,
}

/// `sandbox`
#[derive(Debug, Args)]
pub(crate) struct Sandbox {
    #[command(subcommand)]
    pub(crate) command: SandboxCommand,
}

/// The sandbox's commands.
#[derive(Debug, Subcommand)]
pub(crate) enum SandboxCommand {
    /// Start it in the background
    Start,
    /// Run it in the foreground until it is told to end
    Serve,
    /// Stop it; its state stays
    Stop,
    /// What runs, where, and what the sample application says
    Status {
        /// With --json: everything that the stand-ins know, secrets as digests
        #[arg(long)]
        all: bool,
    },
    /// Stop it and delete its state
    Reset,
    /// Fill the sample application's live database
    Seed {
        /// How much
        #[arg(long, value_name = "SIZE", default_value = "small")]
        size: SeedSize,
    },
    /// Take a backup of the live database into the sandbox's bucket
    Backup {
        /// What pg_dump writes
        #[arg(long, value_name = "FORMAT", default_value = "plain")]
        format: BackupFormat,
        /// Without the store's own checksum, as from an old uploader
        #[arg(long)]
        no_store_checksum: bool,
    },
    /// Break the live database the way incidents do
    Break {
        /// How
        #[arg(value_name = "DAMAGE", default_value = "bad-migration")]
        damage: Damage,
    },
    /// Make a service misbehave
    Fault(Fault),
}

/// How much sample data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum SeedSize {
    /// Some hundred rows.
    Small,
    /// Tens of megabytes.
    Demo,
}

/// What pg_dump writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum BackupFormat {
    /// Plain SQL in gzip.
    Plain,
    /// A custom-format archive.
    Custom,
}

/// How to break the live database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Damage {
    /// A migration that drops what it should not.
    BadMigration,
}

/// `sandbox fault`
#[derive(Debug, Args)]
pub(crate) struct Fault {
    /// supabase, storage, vercel, s3, app, hooks, paypal, paymongo, resend, sendgrid, prometheus, github, pagerduty or cloudflare
    #[arg(value_name = "SERVICE")]
    pub(crate) service: String,
    /// Only requests with this method
    #[arg(long, value_name = "METHOD")]
    pub(crate) method: Option<String>,
    /// Only requests whose path begins so
    #[arg(long, value_name = "PREFIX")]
    pub(crate) path: Option<String>,
    /// Answer with this status and do nothing
    #[arg(long, value_name = "STATUS")]
    pub(crate) status: Option<u16>,
    /// With --status 429 or 503: the Retry-After header in seconds
    #[arg(long, value_name = "SECONDS")]
    pub(crate) retry_after: Option<u64>,
    /// Wait this long before acting, in milliseconds
    #[arg(long, value_name = "MS")]
    pub(crate) delay: Option<u64>,
    /// Drop the connection: before acting, or after it, so that the effect happened and the answer is lost
    #[arg(long, value_name = "WHEN")]
    pub(crate) cut: Option<Cut>,
    /// How many requests
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub(crate) times: u32,
}

/// When a connection is cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Cut {
    /// Nothing happened.
    Before,
    /// It happened, and nobody is told.
    After,
}
