//! `postgres.test`: runs SQL files as the roles that users have, and always takes everything back. A file
//! fails by raising: `assert` in a DO block, a division by zero, a permission error.

use std::path::{Path, PathBuf};

use runbook_core::action::{Access, ActionError, Context, Effect, Preview, Progress};
use runbook_core::types::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::session::{Session, connect, failed, timed};
use super::split::statements;
use super::sql::{ends_transaction, literal, quoted};
use crate::typed::{About, Done, Typed};

/// What one file may take.
const FILE_TIMEOUT: &str = "60s";

/// Parameters of `postgres.test`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TestParams {
    /// The database to test.
    pub connection: Connection,
    /// Folder whose `.sql` files are run in the order of their names, from the runbook's folder.
    #[serde(default)]
    pub directory: Option<PathBuf>,
    /// Files to run, from the runbook's folder.
    #[serde(default)]
    pub files: Vec<PathBuf>,
    /// Who to run each file as, where it does not say so itself with `-- run as: ROLE {claims}`. The connection's
    /// own role when empty.
    #[serde(default, rename = "as")]
    pub identities: Vec<Identity>,
    /// Whether a failed test fails the step; `false` to decide by the output `failed`.
    #[serde(default = "yes")]
    pub fail: bool,
}

fn yes() -> bool {
    true
}

/// Who runs a test.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Identity {
    /// `anon`, `authenticated`, `service_role`, or another role.
    pub role: String,
    /// Claims of the token, as `request.jwt.claims` holds them; `role` is added.
    #[serde(default)]
    pub claims: Map<String, Value>,
}

/// Outputs of `postgres.test`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct TestOutputs {
    /// How many passed.
    pub passed: u64,
    /// How many failed.
    pub failed: u64,
    /// Each of them.
    pub results: Vec<TestResult>,
}

/// One file under one identity.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct TestResult {
    /// Name of the file.
    pub file: String,
    /// Role it ran as.
    pub role: String,
    /// Whether it passed.
    pub ok: bool,
    /// What was raised, with its line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// `postgres.test`.
#[derive(Debug)]
pub struct Test;

impl Typed for Test {
    type Params = TestParams;
    type Outputs = TestOutputs;
    const ABOUT: About = About {
        targets: &[("connection", Access::Read)],
        permissions: &["membership in the roles that tests run as"],
        has_plan: true,
        ..About::new(
            "postgres.test",
            "Runs SQL test files as the roles that users have; everything is rolled back.",
            Effect::Read,
            "- id: smoke\n  uses: postgres.test\n  tags: [validate]\n  with:\n    \
             connection: \"{{ connections.live }}\"\n    \
             directory: \"{{ vars.rls_tests_dir }}\"\n",
        )
    };

    async fn run(&self, ctx: &Context, params: TestParams) -> Result<Done<TestOutputs>, ActionError> {
        let files = files(ctx, &params)?;
        let session = connect(ctx, &params.connection).await?;
        let mut results = Vec::new();
        let total = Some(files.len() as u64);
        for (done, path) in files.iter().enumerate() {
            let file = Script::read(path, &params.identities)?;
            ctx.progress.report(Progress {
                done: done as u64,
                total,
                unit: "files",
                message: file.name.clone(),
            });
            for identity in &file.identities {
                results.push(file.run(&session, identity.as_ref()).await?);
            }
        }
        let failed: Vec<_> = results.iter().filter(|result| !result.ok).collect();
        if params.fail && !failed.is_empty() {
            let told = failed
                .iter()
                .take(8)
                .map(|r| format!("{} as {}: {}", r.file, r.role, r.error.as_deref().unwrap_or_default()));
            let told: Vec<_> = told.collect();
            return Err(ActionError::refused(format!(
                "pass {} of {} tests on `{}`: {}",
                failed.len(),
                results.len(),
                session.label,
                told.join("; ")
            ))
            .code("test-failed"));
        }
        let failed = failed.len() as u64;
        let passed = results.len() as u64 - failed;
        let summary = format!("{passed} passed, {failed} failed");
        Ok(Done::new(TestOutputs { passed, failed, results }, summary))
    }

    async fn plan(&self, ctx: &Context, params: TestParams) -> Result<Preview, ActionError> {
        let mut lines = Vec::new();
        for path in files(ctx, &params)? {
            let file = Script::read(&path, &params.identities)?;
            lines.push(format!("runs {} {} times, and takes it back", file.name, file.identities.len()));
        }
        Ok(Preview::Changes { lines, destroys: None })
    }
}

fn files(ctx: &Context, params: &TestParams) -> Result<Vec<PathBuf>, ActionError> {
    let mut found: Vec<_> = params.files.iter().map(|file| ctx.base.join(file)).collect();
    if let Some(directory) = &params.directory {
        let folder = ctx.base.join(directory);
        let attempted = || format!("read the tests in `{}`", directory.display());
        let entries =
            std::fs::read_dir(&folder).map_err(|error| ActionError::refused(attempted()).because(error))?;
        let mut inside: Vec<_> = entries
            .map(|entry| entry.map(|entry| entry.path()))
            .collect::<Result<_, _>>()
            .map_err(|error| ActionError::refused(attempted()).because(error))?;
        inside.retain(|path| path.extension().is_some_and(|ending| ending == "sql"));
        inside.sort();
        found.extend(inside);
    }
    if found.is_empty() {
        // No test is not the same as every test passed.
        return Err(ActionError::refused("find tests to run: neither `directory` nor `files` names any"));
    }
    Ok(found)
}

/// One test file.
struct Script {
    name: String,
    statements: Vec<super::split::Statement>,
    identities: Vec<Option<Identity>>,
}

impl Script {
    fn read(path: &Path, given: &[Identity]) -> Result<Self, ActionError> {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let attempted = || format!("read the test `{name}`");
        let text = std::fs::read_to_string(path)
            .map_err(|error| ActionError::refused(attempted()).because(error))?;
        let own = text.lines().take_while(|line| line.trim().is_empty() || line.starts_with("--"));
        let own: Vec<Identity> = own
            .filter_map(|line| line.strip_prefix("-- run as:"))
            .map(|line| identity(line).map_err(|why| ActionError::refused(format!("{}: {why}", attempted()))))
            .collect::<Result<_, _>>()?;
        let identities = if own.is_empty() { given.to_vec() } else { own };
        let identities =
            if identities.is_empty() { vec![None] } else { identities.into_iter().map(Some).collect() };
        let statements = statements(&text)
            .map_err(|error| ActionError::refused(attempted()).because(error.to_string()))?;
        if statements.is_empty() {
            return Err(ActionError::refused(format!("{}: it tests nothing", attempted())));
        }
        for statement in &statements {
            if let Some(head) = ends_transaction(&statement.sql) {
                return Err(ActionError::refused(format!(
                    "{}: line {} has `{head}`, but a test is always taken back",
                    attempted(),
                    statement.line
                )));
            }
        }
        Ok(Self { name, statements, identities })
    }

    async fn run(&self, session: &Session, identity: Option<&Identity>) -> Result<TestResult, ActionError> {
        let role = identity.map_or("the connection's own role", |identity| identity.role.as_str());
        let attempted = || format!("run the test `{}` on `{}`", self.name, session.label);
        let mut begin =
            format!("begin; set local statement_timeout = '{FILE_TIMEOUT}'; set local lock_timeout = '10s'");
        if let Some(identity) = identity {
            let mut claims = identity.claims.clone();
            claims.entry("role").or_insert_with(|| json!(identity.role));
            let claims = literal(&Value::Object(claims.clone()).to_string());
            begin.push_str(&format!(
                "; select pg_catalog.set_config('request.jwt.claims', {claims}, true); set local role {}",
                quoted(&identity.role)
            ));
        }
        let mut raised = None;
        if let Err(error) = timed(session.client.batch_execute(&begin), attempted).await {
            raised = Some(told(0, error));
        }
        for statement in &self.statements {
            if raised.is_some() {
                break;
            }
            if let Err(error) = session.client.batch_execute(&statement.sql).await {
                if error.as_db_error().is_none() {
                    return Err(failed(attempted(), error));
                }
                raised = Some(told(statement.line, failed("", error)));
            }
        }
        let back = session.client.batch_execute("rollback; reset all");
        timed(back, attempted).await?;
        Ok(TestResult { file: self.name.clone(), role: role.into(), ok: raised.is_none(), error: raised })
    }
}

fn told(line: u64, error: ActionError) -> String {
    let cause = error.source.map(|source| source.to_string()).unwrap_or(error.attempted);
    if line > 0 { format!("line {line}: {cause}") } else { cause }
}

/// `authenticated {"sub": "…"}`.
fn identity(text: &str) -> Result<Identity, String> {
    let text = text.trim();
    let (role, claims) = text.split_once(char::is_whitespace).unwrap_or((text, "{}"));
    if role.is_empty() {
        return Err("`-- run as:` names no role".into());
    }
    let claims = serde_json::from_str(claims.trim())
        .map_err(|error| format!("the claims of `-- run as: {role}` are no JSON object ({error})"))?;
    Ok(Identity { role: role.into(), claims })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_line_names_who_runs_the_test() {
        let found = identity(" authenticated {\"sub\": \"a\"}").unwrap();
        assert_eq!((found.role.as_str(), &found.claims["sub"]), ("authenticated", &json!("a")));
        assert_eq!(identity("anon").unwrap().claims.len(), 0);
        assert!(identity(" ").is_err());
        assert!(identity("anon {").is_err());
    }
}
