//! `postgres.create_database` and `postgres.drop_database`: a database for a while. It carries the mark of the run that
//! made it from the moment it has its name, and nothing without that mark is ever dropped.

use runbook_core::action::{Access, ActionError, Context, Effect, Outcome, Preview};
use runbook_core::types::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::session::{Session, connect, failed, fence, timed};
use super::sql::{literal, quoted};
use crate::typed::{About, Done, Typed, nothing_to_undo};

/// What the comment of a database begins with that this action made; the run follows.
const MARK: &str = "made by runbook run ";
/// PostgreSQL cuts longer names.
const NAME_MAX: usize = 63;

/// Parameters of `postgres.create_database`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateParams {
    /// Any database of the server; nothing in it is touched.
    pub server: Connection,
    /// Name of the new database. One that is there and was not made by this run is left alone, and the step fails.
    pub name: String,
    /// The database that it is a copy of.
    #[serde(default = "template")]
    pub template: String,
}

fn template() -> String {
    "template1".into()
}

/// Outputs of `postgres.create_database`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct CreatedDatabase {
    /// How to reach it.
    pub connection: Connection,
    /// Its name.
    pub name: String,
}

/// Parameters of `postgres.drop_database`.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DropParams {
    /// Any other database of the server; nothing in it is touched.
    pub server: Connection,
    /// Name of the database. One that is not there is dropped already; one that no run made is never dropped.
    pub name: String,
    /// Also drop one that another run made and left behind.
    #[serde(default)]
    pub of_any_run: bool,
}

/// Outputs of `postgres.drop_database`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct DropOutputs {
    /// Its name.
    pub name: String,
    /// Whether it was there.
    pub was_there: bool,
}

/// `postgres.create_database`.
#[derive(Debug)]
pub struct CreateDatabase;

/// `postgres.drop_database`.
#[derive(Debug)]
pub struct DropDatabase;

impl Typed for CreateDatabase {
    type Params = CreateParams;
    type Outputs = CreatedDatabase;
    const ABOUT: About = About {
        targets: &[("server", Access::Read)],
        permissions: &["CREATEDB"],
        has_undo: true,
        has_plan: true,
        ..About::new(
            "postgres.create_database",
            "Creates a database for a while, marked as this run's own.",
            Effect::Idempotent,
            "- id: temporary\n  uses: postgres.create_database\n  with:\n    server: \"{{ connections.live }}\"\n    \
             name: polaris_temp_restore\n- id: gone\n  uses: postgres.drop_database\n  with:\n    \
             server: \"{{ connections.live }}\"\n    name: \"{{ steps.temporary.name }}\"\n",
        )
    };

    async fn run(&self, ctx: &Context, params: CreateParams) -> Result<Done<CreatedDatabase>, ActionError> {
        let session = connect(ctx, &params.server).await?;
        create(ctx, &session, &params).await?;
        let CreateParams { server, name, .. } = params;
        let key = force_key(&server, &name);
        let connection =
            Connection { database: name.clone(), identity: None, name: None, live: false, ..server };
        let text = format!("the temporary database {name} exists");
        Ok(Done::new(CreatedDatabase { connection, name }, text.clone()).in_force(key, text))
    }

    async fn plan(&self, ctx: &Context, params: CreateParams) -> Result<Preview, ActionError> {
        let session = connect(ctx, &params.server).await?;
        let line = match owner(&session, &params.name).await? {
            None => format!("creates the database {} beside {}", params.name, session.label),
            Some(_) => format!("fails: a database {} is there, and this run did not make it", params.name),
        };
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn undo(
        &self,
        ctx: &Context,
        params: CreateParams,
        _: CreatedDatabase,
    ) -> Result<Outcome, ActionError> {
        self.undo_unfinished(ctx, params).await
    }

    async fn undo_unfinished(&self, ctx: &Context, params: CreateParams) -> Result<Outcome, ActionError> {
        let session = connect(ctx, &params.server).await?;
        let was_there = match owner(&session, &params.name).await? {
            // A run that never got so far has nothing to lose in somebody else's database.
            Some(mark) if mark != mark_of(ctx) => false,
            _ => remove(ctx, &session, &params.name, false).await?,
        };
        if !was_there {
            return Ok(nothing_to_undo());
        }
        let released = vec![force_key(&params.server, &params.name)];
        let summary = format!("the temporary database {} is gone", params.name);
        Ok(Outcome { summary, released, ..Outcome::default() })
    }

    async fn fence(&self, ctx: &Context, params: CreateParams) -> Result<u32, ActionError> {
        fence(ctx, &params.server).await
    }
}

impl Typed for DropDatabase {
    type Params = DropParams;
    type Outputs = DropOutputs;
    const ABOUT: About = About {
        targets: &[("server", Access::Read)],
        permissions: &["ownership of the database"],
        has_plan: true,
        ..About::new(
            "postgres.drop_database",
            "Drops a database that `postgres.create_database` made, and no other.",
            Effect::Idempotent,
            "- id: gone\n  uses: postgres.drop_database\n  with:\n    server: \"{{ connections.live }}\"\n    \
             name: polaris_temp_restore\n",
        )
    };

    async fn run(&self, ctx: &Context, params: DropParams) -> Result<Done<DropOutputs>, ActionError> {
        let session = connect(ctx, &params.server).await?;
        let was_there = remove(ctx, &session, &params.name, params.of_any_run).await?;
        let key = force_key(&params.server, &params.name);
        let name = params.name;
        let text = if was_there { format!("{name} is gone") } else { format!("{name} was gone") };
        Ok(Done::new(DropOutputs { name, was_there }, text).released(key))
    }

    async fn plan(&self, ctx: &Context, params: DropParams) -> Result<Preview, ActionError> {
        let session = connect(ctx, &params.server).await?;
        let line = match owner(&session, &params.name).await? {
            None => format!("nothing to do: {} is not there", params.name),
            Some(mark) if may_drop(ctx, &mark, params.of_any_run) => {
                format!("drops the database {}", params.name)
            }
            Some(_) => format!("fails: this run did not make the database {}", params.name),
        };
        Ok(Preview::Changes { lines: vec![line], destroys: None })
    }

    async fn fence(&self, ctx: &Context, params: DropParams) -> Result<u32, ActionError> {
        fence(ctx, &params.server).await
    }
}

fn force_key(server: &Connection, name: &str) -> String {
    format!("postgres.database/{}:{}/{name}", server.host, server.port)
}

fn mark_of(ctx: &Context) -> String {
    format!("{MARK}{}", ctx.run)
}

fn may_drop(ctx: &Context, mark: &str, of_any_run: bool) -> bool {
    mark == mark_of(ctx) || (of_any_run && mark.starts_with(MARK))
}

/// The comment of a database; none when there is no such database.
async fn owner(session: &Session, name: &str) -> Result<Option<String>, ActionError> {
    let sql = "select coalesce(pg_catalog.shobj_description(oid, 'pg_database'), '') from pg_catalog.pg_database \
               where datname = $1";
    let row = timed(session.client.query_opt(sql, &[&name]), || {
        format!("look for the database `{name}` beside `{}`", session.label)
    })
    .await?;
    Ok(row.map(|row| row.get(0)))
}

/// A database cannot be made and marked in one transaction. So it is made under a name that only this step knows, and
/// gets its mark and its real name together: there is no moment in which it has the name and not the mark.
async fn create(ctx: &Context, session: &Session, params: &CreateParams) -> Result<(), ActionError> {
    let name = &params.name;
    let attempted = || format!("create the database `{name}` beside `{}`", session.label);
    if name.is_empty() || name.len() > NAME_MAX || name.chars().any(char::is_control) {
        return Err(ActionError::refused(format!("{}: a name has 1 to {NAME_MAX} bytes", attempted())));
    }
    match owner(session, name).await? {
        Some(mark) if mark == mark_of(ctx) => return Ok(()),
        Some(_) => return Err(taken(attempted())),
        None => {}
    }
    let working = working_name(ctx, name);
    if owner(session, &working).await?.is_none() {
        let make = format!("create database {} template {}", quoted(&working), quoted(&params.template));
        // Copying a template takes as long as it is large.
        session.client.batch_execute(&make).await.map_err(|error| failed(attempted(), error))?;
    }
    let rename = format!(
        "begin; comment on database {0} is {1}; alter database {0} rename to {2}; commit",
        quoted(&working),
        literal(&mark_of(ctx)),
        quoted(name)
    );
    let Err(error) = session.client.batch_execute(&rename).await else { return Ok(()) };
    let exists = error.code() == Some(&tokio_postgres::error::SqlState::DUPLICATE_DATABASE);
    timed(session.client.batch_execute("rollback"), attempted).await?;
    if !exists {
        return Err(failed(attempted(), error));
    }
    let clean = format!("drop database if exists {} with (force)", quoted(&working));
    session.client.batch_execute(&clean).await.map_err(|error| failed(attempted(), error))?;
    Err(taken(attempted()))
}

fn taken(attempted: String) -> ActionError {
    ActionError::refused(format!("{attempted}: it is there, and this run did not make it"))
        .code("database-exists")
        .hint("Another run may be using it. Choose another name, or drop what was left behind with `postgres.drop_database` and `of_any_run: true`.")
}

/// The name under which it is made: of this run and this name, and nobody else's.
fn working_name(ctx: &Context, name: &str) -> String {
    use sha2::Digest as _;
    let sum = sha2::Sha256::digest(format!("{} {name}", ctx.run));
    format!("runbook_{}", hex::encode(&sum[..16]))
}

/// Drops it; whether it was there.
async fn remove(ctx: &Context, session: &Session, name: &str, of_any_run: bool) -> Result<bool, ActionError> {
    let attempted = || format!("drop the database `{name}` beside `{}`", session.label);
    let mut was_there = false;
    if let Some(mark) = owner(session, name).await? {
        if !may_drop(ctx, &mark, of_any_run) {
            return Err(ActionError::refused(format!("{}: this run did not make it", attempted()))
                .code("not-ours")
                .hint(
                    "Only what `postgres.create_database` made is dropped, and only by the run that made it.",
                ));
        }
        was_there = true;
    }
    for name in [name.to_owned(), working_name(ctx, name)] {
        let drop = format!("drop database if exists {} with (force)", quoted(&name));
        session.client.batch_execute(&drop).await.map_err(|error| failed(attempted(), error))?;
    }
    Ok(was_there)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{World, cluster};

    #[tokio::test]
    async fn a_database_is_made_once_and_only_its_maker_drops_it() {
        let cluster = cluster().await;
        let database = cluster.database("app").await;
        database.sql("create database somebodys").await;
        let world = World::new(cluster.folder.path(), None);
        let ctx = world.at(1, "k");
        let other = Context { run: "other".into(), ..world.at(1, "k") };
        let params = |name: &str| CreateParams {
            server: database.connection.clone(),
            name: name.into(),
            template: "template1".into(),
        };
        let dropping = |name: &str, of_any_run| DropParams {
            server: database.connection.clone(),
            name: name.into(),
            of_any_run,
        };
        let names =
            "select string_agg(datname, ',' order by datname) from pg_database where datname !~ '^template'";

        // What an attempt left that died between making and naming is taken up again.
        let working = working_name(&ctx, "temp\"x");
        database.sql(&format!("create database {}", quoted(&working))).await;
        let made = CreateDatabase.run(&ctx, params("temp\"x")).await.unwrap();
        assert_eq!((made.in_force.len(), made.outputs.connection.database.as_str()), (1, "temp\"x"));
        CreateDatabase.run(&ctx, params("temp\"x")).await.unwrap();
        assert_eq!(database.text(names).await, "app,postgres,somebodys,temp\"x");

        let error = CreateDatabase.run(&other, params("temp\"x")).await.unwrap_err();
        assert_eq!(error.code, Some("database-exists"));
        let error = CreateDatabase.run(&ctx, params("somebodys")).await.unwrap_err();
        assert_eq!(error.code, Some("database-exists"));
        for (ctx, name, any) in
            [(&other, "temp\"x", false), (&ctx, "somebodys", true), (&ctx, "postgres", true)]
        {
            let error = DropDatabase.run(ctx, dropping(name, any)).await.unwrap_err();
            assert_eq!(error.code, Some("not-ours"), "{name}");
        }
        assert!(CreateDatabase.undo_unfinished(&other, params("temp\"x")).await.unwrap().released.is_empty());
        assert_eq!(database.text(names).await, "app,postgres,somebodys,temp\"x");

        // Somebody who is connected does not keep it.
        let _guest = cluster.open("temp\"x", "postgres").await;
        let gone = DropDatabase.run(&other, dropping("temp\"x", true)).await.unwrap();
        assert_eq!(
            (gone.outputs.was_there, gone.released, database.text(names).await.as_str()),
            (true, made.in_force.into_iter().map(|f| f.key).collect(), "app,postgres,somebodys")
        );
        assert!(!DropDatabase.run(&ctx, dropping("temp\"x", false)).await.unwrap().outputs.was_there);
        CreateDatabase.run(&ctx, params("again")).await.unwrap();
        assert_eq!(CreateDatabase.undo_unfinished(&ctx, params("again")).await.unwrap().released.len(), 1);
        assert_eq!(database.text(names).await, "app,postgres,somebodys");
    }
}
