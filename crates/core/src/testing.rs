//! What core's tests share: a registry of actions that do nothing, steps made by hand, files in memory.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::action::{
    Access, Action, ActionError, BoxFuture, Context, Description, Effect, Outcome, Preview, Probed, Registry,
    Target,
};
use crate::compile::{Compiled, Loader, Request, Waiver, compile};
use crate::diagnostic::{SourceId, Span};
use crate::document::Kind;
use crate::environment::{Backups, DataKind, Environment, EnvironmentKind, Place, SecretSource};
use crate::secret::SecretText;
use crate::types::{Backup, Connection, Tls};
use crate::workflow::{ForEach, Phase, Retry, Step, StepPath, Template, Undo, Work, Workflow};

pub(crate) fn step(path: &str, scope: &str) -> Step {
    Step {
        path: StepPath::new(path),
        scope: scope.to_owned(),
        work: Work::Action { name: "test.read".to_owned() },
        phase: Phase::Main,
        title: path.to_owned(),
        why: None,
        if_it_fails: None,
        with: BTreeMap::new(),
        needs: Vec::new(),
        condition: None,
        preconditions: Vec::new(),
        postconditions: Vec::new(),
        for_each: None,
        timeout: None,
        retry: Retry::default(),
        idempotency_key: None,
        probe: None,
        approval: None,
        continue_on_error: false,
        undo: Undo::Auto,
        point_of_no_return: false,
        tags: Vec::new(),
        expect_duration: None,
        span: Span { source: SourceId(0), start: 0, end: 0 },
    }
}

pub(crate) fn each(items: Value) -> ForEach {
    ForEach {
        items: Template(items),
        as_name: "item".to_owned(),
        key: Template(json!("{{ item }}")),
        max_parallel: 1,
    }
}

pub(crate) fn workflow(steps: Vec<Step>) -> Workflow {
    Workflow {
        name: "test".to_owned(),
        title: "test".to_owned(),
        kind: Kind::Maintenance,
        rpo: None,
        rto: None,
        deadline: None,
        inputs: BTreeMap::new(),
        steps,
        outputs: BTreeMap::new(),
        digest: String::new(),
    }
}

/// An action that is only described.
struct Fake(Description);

impl Action for Fake {
    fn description(&self) -> &Description {
        &self.0
    }
    fn plan<'a>(&'a self, _: &'a Context, _: Value) -> BoxFuture<'a, Result<Preview, ActionError>> {
        Box::pin(async { Err(ActionError::refused("plan a fake")) })
    }
    fn run<'a>(&'a self, _: &'a Context, _: Value) -> BoxFuture<'a, Result<Outcome, ActionError>> {
        Box::pin(async { Err(ActionError::refused("run a fake")) })
    }
    fn probe<'a>(&'a self, _: &'a Context, _: Value) -> BoxFuture<'a, Result<Probed, ActionError>> {
        Box::pin(async { Err(ActionError::refused("probe a fake")) })
    }
    fn undo<'a>(&'a self, _: &'a Context, _: Value, _: Value) -> BoxFuture<'a, Result<Outcome, ActionError>> {
        Box::pin(async { Err(ActionError::refused("undo a fake")) })
    }
    fn fence<'a>(&'a self, _: &'a Context, _: Value) -> BoxFuture<'a, Result<u32, ActionError>> {
        Box::pin(async { Ok(0) })
    }
}

pub(crate) struct Actions(Vec<Fake>);

impl Registry for Actions {
    fn get(&self, name: &str) -> Option<&dyn Action> {
        self.0.iter().find(|fake| fake.0.name == name).map(|fake| fake as &dyn Action)
    }
    fn descriptions(&self) -> Vec<&Description> {
        self.0.iter().map(|fake| &fake.0).collect()
    }
}

fn schema_of<T: schemars::JsonSchema>() -> Value {
    schemars::generate::SchemaSettings::draft2020_12()
        .with(|settings| settings.inline_subschemas = true)
        .into_generator()
        .into_root_schema_for::<T>()
        .to_value()
}

fn object(fields: Value, required: &[&str]) -> Value {
    json!({ "type": "object", "properties": fields, "required": required, "additionalProperties": false })
}

fn describe(name: &'static str, effect: Effect, params: Value, outputs: Value) -> Description {
    Description {
        name,
        summary: "A fake.",
        effect,
        params,
        outputs,
        targets: Vec::new(),
        exposes: false,
        asks: false,
        chooses: false,
        permissions: &[],
        example: "",
        has_probe: false,
        has_undo: false,
        has_plan: false,
    }
}

/// A handful of actions with the shapes of real ones.
pub(crate) fn actions() -> Actions {
    Actions(databases().into_iter().chain(others()).map(Fake).collect())
}

/// Those that touch a database.
fn databases() -> Vec<Description> {
    let text = json!({ "type": "string" });
    let connection = schema_of::<Connection>();
    let sql = object(json!({ "connection": connection, "sql": text }), &["connection"]);
    let restore = object(
        json!({ "backup": schema_of::<Backup>(), "into": connection, "overwrite": { "type": "boolean" },
                "mask": { "type": ["string", "null"] }, "mask_key": secret(),
                "jobs": { "type": ["integer", "null"], "minimum": 1, "maximum": 64 },
                "profile": { "enum": ["plain", "supabase"] } }),
        &["backup", "into"],
    );
    let key = object(json!({ "connection": connection, "rules": text, "key": secret() }), &["connection"]);
    let rows = json!({ "failed": { "type": "integer" }, "rows": { "type": "array", "items": text } });
    let on =
        |param, access, description| Description { targets: vec![Target { param, access }], ..description };
    let none = || object(json!({}), &[]);
    vec![
        on("connection", Access::Destroy, describe("postgres.drop", Effect::Idempotent, sql.clone(), none())),
        on(
            "connection",
            Access::Write,
            describe("postgres.execute", Effect::Transactional, sql.clone(), none()),
        ),
        on("connection", Access::Read, describe("postgres.query", Effect::Read, sql, object(rows, &[]))),
        on(
            "connection",
            Access::Write,
            describe("postgres.mask", Effect::Transactional, key.clone(), none()),
        ),
        on("connection", Access::Read, describe("postgres.leak_check", Effect::Read, key, none())),
        on("into", Access::Restore, describe("postgres.restore", Effect::Transactional, restore, none())),
    ]
}

fn secret() -> Value {
    json!({ "type": "string", "format": "secret" })
}

fn others() -> Vec<Description> {
    let text = json!({ "type": "string" });
    let secret = secret();
    let none = || object(json!({}), &[]);
    let prompt = object(json!({ "prompt": text }), &["prompt"]);
    let select = object(
        json!({ "at_or_before": text, "source": text, "require_checksum": { "type": "boolean" } }),
        &[],
    );
    let chat = object(json!({ "text": text, "fields": { "type": "object" } }), &["text"]);
    let project = json!({ "ref": text, "connection": schema_of::<Connection>(), "api_url": text });
    let create = object(json!({ "name": text, "token": secret }), &["name"]);
    let set = object(json!({ "set": { "type": "object", "additionalProperties": secret } }), &["set"]);
    let anything = object(json!({ "a": true }), &[]);
    let ok = object(json!({ "ok": { "type": "boolean" } }), &[]);
    vec![
        Description { asks: true, ..describe("approval", Effect::Idempotent, prompt, none()) },
        describe("backup.select", Effect::Read, select, schema_of::<Backup>()),
        describe("notify.chat", Effect::Once, chat, none()),
        describe("supabase.create_project", Effect::Once, create, object(project, &[])),
        describe("supabase.rotate", Effect::Once, none(), object(json!({ "jwt": secret }), &[])),
        describe(
            "secret.distribute",
            Effect::Idempotent,
            object(json!({ "secret": text, "value": secret }), &["secret", "value"]),
            none(),
        ),
        describe(
            "secret.rotate",
            Effect::Idempotent,
            object(json!({ "secret": text }), &["secret"]),
            object(json!({ "value": secret }), &[]),
        ),
        describe("flow.noop", Effect::Read, object(json!({ "value": true }), &[]), none()),
        describe("test.read", Effect::Read, anything, ok),
        Description { exposes: true, ..describe("vercel.env", Effect::Idempotent, set, none()) },
    ]
}

/// An environment with a live database `main` and an empty one, `scratch`.
pub(crate) fn environment(kind: EnvironmentKind) -> Environment {
    let connection = |host: &str, live| Connection {
        host: host.to_owned(),
        port: 5432,
        user: "postgres".to_owned(),
        database: "postgres".to_owned(),
        password: SecretText::reference("db_password"),
        tls: Tls::Auto,
        ca: None,
        identity: None,
        name: None,
        live,
    };
    Environment {
        region: Some("eu-central-1".to_owned()),
        connections: [
            ("main", connection("db.example.org", true)),
            ("scratch", connection("scratch.example.org", false)),
        ]
        .into_iter()
        .map(|(name, connection)| (name.to_owned(), connection))
        .collect(),
        places: BTreeMap::from([("jwt".to_owned(), vec![Place::VercelEnv("JWT".to_owned())])]),
        backup_sources: [("production", None), ("made_up", Some(DataKind::Synthetic))]
            .into_iter()
            .map(|(name, data)| (name.to_owned(), backups(data)))
            .collect(),
        secrets: ["db_password", "token"]
            .into_iter()
            .map(|name| (name.to_owned(), SecretSource::Env(name.to_uppercase())))
            .collect(),
        vars: BTreeMap::from([("site".to_owned(), json!("example.org")), ("retries".to_owned(), json!(3))]),
        ..Environment::new("prod", kind, DataKind::Production)
    }
}

fn backups(data: Option<DataKind>) -> Backups {
    Backups {
        bucket: "backups".to_owned(),
        prefix: None,
        storage_prefix: None,
        data,
        endpoint: None,
        region: None,
        path_style: false,
        access_key_id: None,
        secret_access_key: None,
    }
}

/// Files in memory.
pub(crate) struct Files<'a>(pub(crate) &'a [(&'a str, &'a str)]);

impl Loader for Files<'_> {
    fn read(&self, path: &str) -> Result<String, String> {
        let found = self.0.iter().find(|(name, _)| *name == path);
        found.map(|(_, text)| (*text).to_owned()).ok_or_else(|| "no such file".to_owned())
    }
}

/// Compiles files, of which the first is the root, for production.
pub(crate) fn compile_files(files: &[(&str, &str)], waivers: &[Waiver]) -> Compiled {
    compile_in(EnvironmentKind::Production, files, waivers)
}

/// The same for another kind of environment.
pub(crate) fn compile_in(kind: EnvironmentKind, files: &[(&str, &str)], waivers: &[Waiver]) -> Compiled {
    let environment = environment(kind);
    let request = Request {
        runbook: files[0].0,
        environment: Some(&environment),
        inputs: None,
        registry: &actions(),
        waivers,
    };
    compile(&request, &Files(files))
}

/// A runbook around steps.
pub(crate) fn runbook(steps: &str) -> String {
    if steps.starts_with("name:") {
        return steps.to_owned();
    }
    if steps.contains("steps:") {
        return format!("name: test\nkind: maintenance\n{steps}");
    }
    format!("name: test\nkind: maintenance\nsteps:\n{steps}")
}

/// `CODE place: message` of each mistake in one file of steps.
pub(crate) fn mistakes(steps: &str) -> Vec<String> {
    shown(&compile_files(&[("test.yaml", &runbook(steps))], &[]))
}

/// The same for another kind of environment.
pub(crate) fn mistakes_in(kind: EnvironmentKind, steps: &str) -> Vec<String> {
    shown(&compile_in(kind, &[("test.yaml", &runbook(steps))], &[]))
}

pub(crate) fn shown(compiled: &Compiled) -> Vec<String> {
    let show = |d: &crate::diagnostic::Diagnostic| {
        let place = d.span.map_or("", |span| {
            let text = &compiled.sources.get(span.source).text;
            text.get(span.start..span.end).unwrap_or("?").lines().next().unwrap_or("")
        });
        let help = d.help.as_deref().map(|help| format!(" ({help})")).unwrap_or_default();
        format!("{} at `{place}`: {}{help}", d.code, d.message)
    };
    compiled.diagnostics.iter().map(show).collect()
}
