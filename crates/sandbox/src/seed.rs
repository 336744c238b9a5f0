//! Fills the live project with the sample application's schema and made-up rows, and breaks it again.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, Transaction};

use crate::disk;
use crate::endpoints::Layout;
use crate::error::SandboxError;
use crate::postgres::connect;
use crate::shared::Ctx;
use crate::supabase::storage;

macro_rules! sample {
    ($path:literal) => {
        ($path, include_str!(concat!("../../../examples/polaris/", $path)))
    };
}

/// The sample application's migrations, oldest first.
const MIGRATIONS: [(&str, &str); 6] = [
    sample!("supabase/migrations/20260105090000_profiles.sql"),
    sample!("supabase/migrations/20260112090000_drills.sql"),
    sample!("supabase/migrations/20260126090000_messages.sql"),
    sample!("supabase/migrations/20260209090000_entitlements.sql"),
    sample!("supabase/migrations/20260223090000_ledger.sql"),
    sample!("supabase/migrations/20260302090000_reactions.sql"),
];
/// So many are there before any backup; the rest comes after.
const SEEDED: usize = 5;
const RLS_TESTS: [(&str, &str); 4] = [
    sample!("supabase/tests/rls/anon.sql"),
    sample!("supabase/tests/rls/member.sql"),
    sample!("supabase/tests/rls/member_writes.sql"),
    sample!("supabase/tests/rls/service_role.sql"),
];
const MASKING: (&str, &str) = sample!("masking.yaml");
const BAD_MIGRATION: (&str, &str) = sample!("damage/20260309090000_tidy_profiles.sql");
const DELETED_ROWS: (&str, &str) = sample!("damage/deleted_rows.sql");

/// Whom smoke tests sign in as.
pub(crate) const SMOKE_EMAIL: &str = "pilot00001@example.test";
/// The secret that holds that account's password.
pub(crate) const SMOKE_PASSWORD: &str = "smoke_password";
/// The salt of its hash: the same password gives the same row.
const SMOKE_SALT: &str = "$2a$06$polarisSmokeUserSalt..";

/// How many rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SeedSize {
    /// Some hundreds: for tests.
    Small,
    /// Tens of megabytes of dump: enough to watch a restore.
    Demo,
}

impl SeedSize {
    /// Users, drills, attempts, messages.
    fn rows(self) -> [(&'static str, u32); 4] {
        let (users, drills, attempts, messages) = match self {
            Self::Small => (40, 25, 200, 600),
            Self::Demo => (2_000, 200, 20_000, 150_000),
        };
        [(":users", users), (":drills", drills), (":attempts", attempts), (":messages", messages)]
    }
}

/// What can be done to the live project.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damage {
    /// The last migration, and then one that drops a column, rows and a policy, and breaks a function.
    BadMigration,
    /// Files of some objects vanish while their rows stay, some objects vanish altogether, one has other bytes.
    LostFiles,
    /// Two people's profiles are deleted with all that hangs on them, and a third one's is changed.
    DeletedRows,
}

/// Writes migrations, tests and masking rules of the sample application beside the sandbox, for runbooks to use.
pub(crate) fn unpack(layout: &Layout) -> Result<(), SandboxError> {
    for (path, text) in MIGRATIONS.iter().chain(&RLS_TESTS).chain([&MASKING]) {
        let target = layout.polaris().join(path);
        if let Some(folder) = target.parent() {
            disk::private_dir(folder)?;
        }
        disk::write_private(&target, text.as_bytes())?;
    }
    Ok(())
}

/// Applies the first migrations and fills the tables, in one transaction.
pub(crate) async fn seed(ctx: &Ctx, size: SeedSize) -> Result<(), SandboxError> {
    if ctx.look(|world| world.seeded.is_some()) {
        return Err(SandboxError::Refused {
            message: "seed the live project: it is seeded already; begin anew with `runbook sandbox reset`"
                .to_owned(),
        });
    }
    let (reference, mut client) = live(ctx).await?;
    let failed = |source| SandboxError::database("seed", &reference)(source);
    let transaction = client.transaction().await.map_err(failed)?;
    transaction
        .batch_execute(
            "create schema supabase_migrations; \
             create table supabase_migrations.schema_migrations \
             (version text not null primary key, statements text[], name text)",
        )
        .await
        .map_err(failed)?;
    for migration in &MIGRATIONS[..SEEDED] {
        migrate(&transaction, migration, &reference).await?;
    }
    let mut rows = include_str!("../sql/seed.sql").to_owned();
    for (place, count) in size.rows() {
        rows = rows.replace(place, &count.to_string());
    }
    transaction.batch_execute(&rows).await.map_err(failed)?;
    storage::plant(ctx, &transaction, &reference).await?;
    give_password(ctx, &transaction).await?;
    transaction.commit().await.map_err(failed)?;
    client.batch_execute("analyze").await.map_err(failed)?;
    ctx.change(|world| world.seeded = Some(Timestamp::now()))
}

/// Nobody knows the passwords of the made-up accounts, save for the one that smoke tests sign in as. A server
/// without pgcrypto cannot hash it, and nobody can sign in there.
async fn give_password(ctx: &Ctx, transaction: &Transaction<'_>) -> Result<(), SandboxError> {
    let password = disk::remembered(&ctx.layout.secret(SMOKE_PASSWORD), disk::random_secret)?;
    let failed = |source| SandboxError::database("give a password to", SMOKE_EMAIL)(source);
    let known = "select exists (select 1 from pg_extension where extname = 'pgcrypto')";
    if !transaction.query_one(known, &[]).await.map_err(failed)?.get::<_, bool>(0) {
        return Ok(());
    }
    transaction
        .execute(
            "update auth.users set encrypted_password = extensions.crypt($1, $2) where email = $3",
            &[&password, &SMOKE_SALT, &SMOKE_EMAIL],
        )
        .await
        .map(drop)
        .map_err(failed)
}

/// Breaks the live project.
pub(crate) async fn break_with(ctx: &Ctx, damage: Damage) -> Result<(), SandboxError> {
    match damage {
        Damage::BadMigration | Damage::DeletedRows => damage_rows(ctx, damage).await?,
        Damage::LostFiles => storage::lose(ctx).await?,
    }
    ctx.change(|world| world.damaged = Some(Timestamp::now()))
}

async fn damage_rows(ctx: &Ctx, damage: Damage) -> Result<(), SandboxError> {
    let (reference, mut client) = live(ctx).await?;
    let failed = |source| SandboxError::database("break", &reference)(source);
    let transaction = client.transaction().await.map_err(failed)?;
    if damage == Damage::DeletedRows {
        transaction.batch_execute(DELETED_ROWS.1).await.map_err(failed)?;
    } else {
        for migration in MIGRATIONS[SEEDED..].iter().chain([&BAD_MIGRATION]) {
            if !is_applied(&transaction, migration, &reference).await? {
                migrate(&transaction, migration, &reference).await?;
            }
        }
    }
    transaction.commit().await.map_err(failed)
}

pub(crate) async fn live(ctx: &Ctx) -> Result<(String, Client), SandboxError> {
    let found =
        ctx.look(|world| world.projects.get(&world.live).map(|p| (p.reference.clone(), p.db_pass.clone())));
    let Some((reference, password)) = found else {
        return Err(SandboxError::Refused { message: "find the live project: it was deleted".to_owned() });
    };
    let client = connect(ctx.cluster.port, &format!("postgres.{reference}"), &password, &reference).await?;
    Ok((reference, client))
}

/// `20260105090000` and `profiles` of `…/20260105090000_profiles.sql`.
fn version_and_name(path: &str) -> (&str, &str) {
    let file = path.rsplit('/').next().unwrap_or(path).trim_end_matches(".sql");
    file.split_once('_').unwrap_or((file, ""))
}

async fn is_applied(
    transaction: &Transaction<'_>,
    (path, _): &(&str, &str),
    reference: &str,
) -> Result<bool, SandboxError> {
    let (version, _) = version_and_name(path);
    let row = transaction
        .query_one(
            "select exists (select 1 from supabase_migrations.schema_migrations where version = $1)",
            &[&version],
        )
        .await
        .map_err(SandboxError::database("read the migrations (is it seeded?)", reference))?;
    Ok(row.get(0))
}

async fn migrate(
    transaction: &Transaction<'_>,
    (path, sql): &(&str, &str),
    reference: &str,
) -> Result<(), SandboxError> {
    let failed = SandboxError::database("migrate", reference);
    let (version, name) = version_and_name(path);
    transaction.batch_execute(sql).await.map_err(failed)?;
    transaction
        .execute(
            "insert into supabase_migrations.schema_migrations (version, statements, name) values ($1, array[$2::text], $3)",
            &[&version, sql, &name],
        )
        .await
        .map(drop)
        .map_err(SandboxError::database("record a migration", reference))
}
