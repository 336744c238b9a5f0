//! Checks, questions, statements, migrations and tests against a real PostgreSQL.

use serde_json::json;

use super::*;
use crate::testing::{Cluster, Database, World, cluster};
use crate::typed::Typed as _;
use runbook_core::action::{ActionError, Preview};

async fn stage() -> (Cluster, Database, World) {
    let cluster = cluster().await;
    let database = cluster.database("app").await;
    let world = World::new(cluster.folder.path(), None);
    (cluster, database, world)
}

fn params<T: serde::de::DeserializeOwned>(database: &Database, with: serde_json::Value) -> T {
    let mut with = with;
    with["connection"] = serde_json::to_value(&database.connection).unwrap();
    serde_json::from_value(with).unwrap()
}

#[tokio::test]
async fn a_check_says_what_was_expected_and_what_was_found() {
    let (_cluster, database, world) = stage().await;
    database
        .sql(
            "create table a (x int primary key); create table b (x int); alter table a enable row level security;
             insert into a values (1), (2); create policy p on a using (true);
             create function f() returns int language sql as 'select 1';
             alter table b add constraint positive check (x > 0) not valid",
        )
        .await;
    let ctx = world.at(1, "k");
    let all = json!({ "extensions": ["plpgsql", "nope"], "tables": ["public.a"], "functions": ["public.f", "public.g"],
        "policies": ["public.a.p"], "require_rls": ["public"], "min_rows": { "public.a": 2, "public.b": 1, "public.c": 0 }, "fail": false });
    let outputs = Check.run(&ctx, params(&database, all.clone())).await.unwrap().outputs;
    let failed: Vec<_> =
        outputs.checks.iter().filter(|c| !c.ok).map(|c| format!("{}: {}", c.name, c.observed)).collect();
    assert_eq!(
        failed,
        [
            "extension nope: missing",
            "function public.g: missing",
            "row-level security in public: off for public.b",
            "constraints: not validated: public.b positive",
            "rows of public.b: 0",
            "rows of public.c: no such table",
        ]
    );
    assert_eq!((outputs.failed, outputs.passed), (6, 6));
    let mut strict = all;
    strict["fail"] = json!(true);
    let error = Check.run(&ctx, params(&database, strict)).await.unwrap_err();
    assert_eq!(error.code, Some("check-failed"));
    let good = json!({ "tables": ["a"], "min_rows": { "a": 1 }, "valid": false });
    assert_eq!(Check.run(&ctx, params(&database, good)).await.unwrap().outputs.failed, 0);
}

#[tokio::test]
async fn a_question_is_answered_and_can_change_nothing() {
    let (_cluster, database, world) = stage().await;
    database.sql("create table a (z int, b uuid); insert into a select n, gen_random_uuid() from generate_series(1, 5) n").await;
    let ctx = world.at(1, "k");
    let ask = async |with: serde_json::Value| -> Result<QueryOutputs, ActionError> {
        Query.run(&ctx, params(&database, with)).await.map(|done| done.outputs)
    };
    let answer = ask(json!({ "sql": "select z, b from a where z > $1::int order by z;", "params": [3] }))
        .await
        .unwrap();
    assert_eq!((answer.row_count, &answer.value), (2, &json!(4)));
    assert_eq!(answer.rows[0]["z"], json!(4));
    assert!(ask(json!({ "sql": "select count(*) from a", "expect": { "equals": 5 } })).await.is_ok());
    let wrong =
        ask(json!({ "sql": "select count(*) from a", "expect": { "at_least": 6 } })).await.unwrap_err();
    assert_eq!(wrong.code, Some("expectation-failed"));
    for sql in [
        "delete from a returning z",
        "with d as (delete from a returning z) select * from d",
        "select 1) x; delete from a; --",
    ] {
        assert!(ask(json!({ "sql": sql })).await.is_err(), "{sql}");
    }
    assert_eq!(database.text("select count(*) || '' from a").await, "5");
}

#[tokio::test]
async fn statements_are_carried_out_once_for_a_key() {
    let (_cluster, database, world) = stage().await;
    database.sql("create table a (x int)").await;
    let run = async |key: &str, sql: &str| {
        let params = params(&database, json!({ "sql": sql }));
        Execute.run(&world.at(1, key), params).await.map(|done| done.outputs)
    };
    let insert = "insert into a values (1), (2); insert into a values (3)";
    let first = run("k1", insert).await.unwrap();
    let again = run("k1", insert).await.unwrap();
    assert_eq!((first.rows, first.repeated, again.rows, again.repeated), (3, false, 3, true));
    assert_eq!(run("k1", "delete from a").await.unwrap_err().code, Some("key-reused"));
    run("k2", insert).await.unwrap();
    assert!(run("k3", "delete from a; commit").await.is_err());
    assert!(run("k4", "delete from a; select 1 / 0").await.is_err());
    assert_eq!(database.text("select count(*) || '' from a").await, "6");
    run("k4", "delete from a").await.unwrap();
    assert_eq!(database.text("select count(*) || '' from a").await, "0");
}

#[tokio::test]
async fn migrations_are_applied_in_order_once_and_a_failing_one_takes_back_only_itself() {
    let (cluster, database, world) = stage().await;
    let folder = cluster.folder.path().join("migrations");
    std::fs::create_dir(&folder).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write(
        "20260101000000_first.sql",
        "create table a (x int);\ncreate function f() returns int language sql as $$ select 1; $$;\n",
    );
    write("20260102000000_second.sql", "begin;\ninsert into a values (1);\ncommit;\n");
    write("20260103000000_broken.sql", "insert into a values (2);\n\ninsert into nowhere values (3);\n");
    write("README.md", "");
    let ctx = world.at(1, "k");
    let with = json!({ "directory": "migrations" });
    let run = async |with: serde_json::Value| -> Result<MigrateOutputs, ActionError> {
        Migrate.run(&ctx, params(&database, with)).await.map(|done| done.outputs)
    };

    let Preview::Changes { lines, .. } = Migrate.plan(&ctx, params(&database, with.clone())).await.unwrap()
    else {
        panic!("a plan")
    };
    assert_eq!(lines.len(), 3, "{lines:?}");
    let error = run(with.clone()).await.unwrap_err();
    assert_eq!(error.code, Some("migration-failed"));
    assert!(error.attempted.contains("`20260103000000_broken.sql`, line 3"), "{error}");
    assert_eq!(database.text("select string_agg(x::text, ',') from a").await, "1");
    let noted = "select string_agg(version || ' ' || name || ' ' || cardinality(statements), ', ' order by version) from supabase_migrations.schema_migrations";
    assert_eq!(database.text(noted).await, "20260101000000 first 2, 20260102000000 second 3");

    write("20260103000000_broken.sql", "insert into a values (2);");
    write("20260104000000_later.sql", "insert into a values (4);");
    let outputs = run(json!({ "directory": "migrations", "to": "20260103000000" })).await.unwrap();
    assert_eq!(
        (outputs.applied.as_slice(), outputs.version.as_deref()),
        (&["20260103000000".to_string()][..], Some("20260103000000"))
    );
    write("20260104000000_later.sql", "create index concurrently i on a (x);");
    assert_eq!(run(with.clone()).await.unwrap_err().code, Some("not-transactional"));
    std::fs::remove_file(folder.join("20260104000000_later.sql")).unwrap();
    std::fs::remove_file(folder.join("20260102000000_second.sql")).unwrap();
    assert_eq!(run(with).await.unwrap_err().code, Some("migration-drift"));
    let outputs = run(json!({ "directory": "migrations", "allow_unknown": true })).await.unwrap();
    assert_eq!((outputs.applied.len(), outputs.unknown.as_slice()), (0, &["20260102000000".to_string()][..]));
    assert_eq!(database.text("select string_agg(x::text, ',') from a").await, "1,2");

    write("20260101120000_forgotten.sql", "insert into a values (5);");
    let outputs = run(json!({ "directory": "migrations", "allow_unknown": true })).await.unwrap();
    assert_eq!(
        (outputs.applied.as_slice(), outputs.version.as_deref()),
        (&["20260101120000".to_string()][..], Some("20260103000000"))
    );
}

#[tokio::test]
async fn tests_run_as_the_roles_they_name_and_leave_nothing_behind() {
    let (cluster, database, world) = stage().await;
    database
        .sql(
            "create role anon; create role authenticated; create table notes (owner text, body text);
             grant all on notes to anon, authenticated; alter table notes enable row level security;
             create policy own on notes using (owner = current_setting('request.jwt.claims', true)::json->>'sub');
             insert into notes values ('ann', 'hers')",
        )
        .await;
    let folder = cluster.folder.path().join("tests");
    std::fs::create_dir(&folder).unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.join(name), text).unwrap();
    write("1_anon.sql", "-- run as: anon\ndo $$ begin assert (select count(*) from notes) = 0; end $$;");
    write(
        "2_own.sql",
        "-- run as: authenticated {\"sub\": \"ann\"}\n-- run as: authenticated {\"sub\": \"bob\"}\n\ndo $$ begin assert (select count(*) from notes) = 1, 'sees hers'; end $$;",
    );
    write("3_write.sql", "insert into notes values ('x', 'y');");
    let ctx = world.at(1, "k");
    let with = json!({ "directory": "tests", "fail": false, "as": [{ "role": "anon" }] });
    let outputs = Test.run(&ctx, params(&database, with)).await.unwrap().outputs;
    assert_eq!((outputs.passed, outputs.failed), (2, 2), "{:#?}", outputs.results);
    let failed: Vec<_> = outputs.results.iter().filter_map(|r| r.error.clone()).collect();
    assert!(failed[0].starts_with("line 4: sees hers"), "{failed:?}");
    assert!(failed[1].contains("row-level security"), "{failed:?}");
    let own = json!({ "files": ["tests/3_write.sql"] });
    assert_eq!(Test.run(&ctx, params(&database, own)).await.unwrap().outputs.passed, 1);
    assert_eq!(database.text("select count(*) || '' from notes").await, "1");
    let strict = json!({ "directory": "tests" });
    assert_eq!(Test.run(&ctx, params(&database, strict)).await.unwrap_err().code, Some("test-failed"));
    assert!(Test.run(&ctx, params(&database, json!({}))).await.is_err(), "no test is no success");
    write("4_empty.sql", "-- run as: anon\n-- assert nothing\n");
    let empty = json!({ "files": ["tests/4_empty.sql"] });
    assert!(Test.run(&ctx, params(&database, empty)).await.is_err(), "a file without a statement");
}
