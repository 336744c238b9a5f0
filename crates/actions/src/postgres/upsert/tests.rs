//! Upserts into a real PostgreSQL, and back.

use serde_json::{Value, json};

use super::*;
use crate::postgres::rows::file::CsvWriter;
use crate::testing::{Cluster, Database, World, cluster};
use crate::typed::Typed as _;
use runbook_core::action::{ActionError, Preview};

const SCHEMA: &str = r#"
create type mood as enum ('good', 'bad');
create table parents (id uuid primary key, name text);
create table notes (id bigint generated always as identity primary key, parent uuid references parents (id) on delete cascade,
  reply bigint references notes (id), body text, mood mood, data jsonb, size numeric(8,2), ok boolean,
  stamp timestamptz not null default '2026-01-01Z', upper text generated always as (upper(body)) stored, "Odd ""x" text default 'd');
create function touch() returns trigger language plpgsql as $$ begin new.stamp := now(); return new; end $$;
create trigger touched before update on notes for each row execute function touch();
insert into parents values ('00000000-0000-4000-8000-000000000001', 'ann');
insert into notes (parent, reply, body, mood, data, size, ok) overriding user value values
  ('00000000-0000-4000-8000-000000000001', null, 'one', 'good', '{"a": 1}', 1, true),
  (null, 1, 'two', 'bad', null, 2.5, false), (null, null, E'three\n"', null, '[]', null, null);
"#;

struct Stage {
    database: Database,
    world: World,
    cluster: Cluster,
}

impl Stage {
    async fn new() -> Self {
        let cluster = cluster().await;
        let database = cluster.database("app").await;
        database.sql(SCHEMA).await;
        let world = World::new(cluster.folder.path(), None);
        Self { database, world, cluster }
    }

    fn rows(&self, columns: &[&str], rows: &[&[Option<&str>]]) -> Value {
        let columns: Vec<String> = columns.iter().map(|c| (*c).to_owned()).collect();
        let folder = self.cluster.folder.path().join("in");
        let name = format!("{}.csv", uuid::Uuid::now_v7());
        let mut out = CsvWriter::create(&folder, &name, "public.notes", &columns).unwrap();
        for row in rows {
            out.row(&row.iter().map(|v| v.map(str::as_bytes)).collect::<Vec<_>>()).unwrap();
        }
        serde_json::to_value(out.finish().unwrap()).unwrap()
    }

    fn params(&self, rows: &Value, more: Value) -> UpsertParams {
        let mut with = json!({ "rows": rows, "conflict": "id", "update": "all", "connection": self.database.connection });
        with.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(with).unwrap()
    }

    async fn upsert(&self, key: &str, rows: &Value, more: Value) -> Result<UpsertOutputs, ActionError> {
        Upsert.run(&self.world.at(1, key), self.params(rows, more)).await.map(|done| done.outputs)
    }

    /// Every row, without what triggers set.
    async fn all(&self) -> String {
        self.database
            .text("select coalesce(string_agg((id, parent, reply, body, mood, data, size, ok, upper, \"Odd \"\"x\")::text, E'\\n' order by id), '') from notes")
            .await
    }
}

const COLUMNS: [&str; 8] = ["id", "parent", "reply", "body", "mood", "data", "size", "Odd \"x"];

fn lost<'a>() -> Vec<Vec<Option<&'a str>>> {
    vec![
        vec![
            Some("1"),
            Some("00000000-0000-4000-8000-000000000001"),
            None,
            Some("'; drop table notes; --\n\t\"\\N 🚀"),
            Some("good"),
            Some("{\"a\": 2}"),
            Some("1.00"),
            None,
        ],
        vec![Some("3"), None, None, Some("three\n\""), None, Some("[]"), None, Some("d")],
        vec![Some("40"), None, Some("41"), Some(""), Some("bad"), None, Some("0.5"), Some("x")],
        vec![Some("41"), None, Some("40"), Some("\\N"), None, None, None, Some("\\.")],
    ]
}

fn slices<'a>(rows: &'a [Vec<Option<&'a str>>]) -> Vec<&'a [Option<&'a str>]> {
    rows.iter().map(Vec::as_slice).collect()
}

#[tokio::test]
async fn rows_are_put_back_once_shown_before_and_taken_back_as_they_were() {
    let stage = Stage::new().await;
    let before = stage.all().await;
    let lost = lost();
    let rows = stage.rows(&COLUMNS, &slices(&lost));
    let with =
        json!({ "rows": rows, "conflict": "id", "update": "all", "connection": stage.database.connection });
    let ctx = stage.world.at(1, "d");
    let shown = Difference.run(&ctx, serde_json::from_value(with).unwrap()).await.unwrap().outputs;
    assert_eq!((shown.inserted, shown.changed, shown.unchanged), (2, 1, 1));
    assert_eq!(
        shown.text,
        "public.notes: 2 rows inserted, 1 changed (Odd \"x in 1, body in 1, data in 1), 1 left as they are; its triggers run: touched"
    );
    let file: Value = serde_json::from_slice(&std::fs::read(&shown.file).unwrap()).unwrap();
    assert_eq!(file["rows"][0]["columns"]["body"]["old"], "one");
    assert_eq!(file["rows"][2]["key"], json!({ "id": "40" }));
    let Preview::Changes { lines, .. } = Upsert.plan(&ctx, stage.params(&rows, json!({}))).await.unwrap()
    else {
        panic!("a plan")
    };
    assert!(lines[0].contains("2 rows inserted, 1 changed") && !lines.concat().contains("drop"), "{lines:?}");
    assert_eq!(stage.all().await, before, "nothing was written");

    let expected = json!({ "expected": shown.digest });
    let done = stage.upsert("k", &rows, expected.clone()).await.unwrap();
    assert_eq!((done.inserted, done.changed, done.unchanged, done.repeated), (2, 1, 1, false));
    assert_eq!(done.by_triggers, ["stamp"]);
    let after = stage.all().await;
    assert_eq!(stage.database.text("select body from notes where id = 1").await, lost[0][3].unwrap());
    assert_eq!(stage.database.text("select body || reply from notes where id = 41").await, "\\N40");
    let again = stage.upsert("k", &rows, expected.clone()).await.unwrap();
    assert_eq!((again.repeated, again.inserted, &again.after), (true, 2, &done.after));
    assert_eq!(stage.all().await, after);
    assert_eq!(
        stage.upsert("k", &rows, json!({ "update": "none" })).await.unwrap_err().code,
        Some("key-reused")
    );
    let error = stage.upsert("k2", &rows, expected).await.unwrap_err();
    assert_eq!(error.code, Some("difference-changed"), "what was approved is done already");

    let params = || stage.params(&rows, json!({}));
    let undone = Upsert.undo(&stage.world.at(2, "u"), params(), done.clone()).await.unwrap();
    assert_eq!(
        undone.summary,
        "public.notes: 1 rows have their old values, 2 are gone again; its triggers set stamp"
    );
    assert_eq!(stage.all().await, before);
    Upsert.undo(&stage.world.at(3, "u"), params(), done.clone()).await.unwrap();
    assert_eq!(stage.all().await, before);

    // By hand, with the file that is kept for that.
    let done = stage.upsert("k3", &rows, json!({})).await.unwrap();
    stage.database.sql(&std::fs::read_to_string(&done.undo_sql).unwrap()).await;
    assert_eq!(stage.all().await, before);

    // An attempt whose outcome was lost is found by its key.
    let ctx = stage.world.at(4, "k4");
    Upsert.run(&ctx, params()).await.unwrap();
    Upsert.undo_unfinished(&stage.world.at(5, "u4"), params()).await.unwrap();
    assert_eq!(stage.all().await, before);
}

#[tokio::test]
async fn rows_that_others_changed_or_refer_to_are_not_taken_back() {
    let stage = Stage::new().await;
    let rows = stage.rows(&["id", "body"], &[&[Some("1"), Some("new")], &[Some("50"), Some("fifty")]]);
    let params = || stage.params(&rows, json!({}));
    let done = stage.upsert("k", &rows, json!({})).await.unwrap();
    stage.database.sql("insert into notes (body, reply) values ('an answer', 50)").await;
    let error = Upsert.undo(&stage.world.at(2, "u"), params(), done.clone()).await.unwrap_err();
    assert_eq!(error.code, Some("referred-to"));
    stage.database.sql("delete from notes where reply = 50; update notes set ok = false where id = 1").await;
    let error = Upsert.undo(&stage.world.at(2, "u"), params(), done).await.unwrap_err();
    assert_eq!(error.code, Some("changed-since"));
    assert_eq!(
        stage.database.text("select string_agg(body, ',' order by id) from notes where id in (1, 50)").await,
        "new,fifty"
    );
}

#[tokio::test]
async fn what_does_not_fit_is_refused_before_anything_is_written_and_without_its_values() {
    let stage = Stage::new().await;
    let before = stage.all().await;
    let gone = "00000000-0000-4000-8000-0000000000ff";
    let cases: Vec<(Value, Value, Option<&str>, &str)> = vec![
        (
            stage.rows(&["id", "parent"], &[&[Some("70"), Some(gone)]]),
            json!({}),
            Some("parents-missing"),
            gone,
        ),
        (
            stage.rows(&["id", "reply"], &[&[Some("70"), Some("71")]]),
            json!({}),
            Some("parents-missing"),
            "public.notes (id): 71",
        ),
        (
            stage.rows(&["id", "old"], &[&[Some("70"), None]]),
            json!({}),
            Some("columns-missing"),
            "no column old",
        ),
        (
            stage.rows(&["id", "body"], &[&[Some("70"), None], &[Some("070"), None]]),
            json!({}),
            None,
            "more than once",
        ),
        (stage.rows(&["id", "body"], &[&[None, None]]), json!({}), None, "NULL"),
        (
            stage.rows(&["body"], &[&[Some("x")]]),
            json!({ "conflict": "body" }),
            Some("conflict-not-unique"),
            "body",
        ),
        (stage.rows(&["id", "stamp"], &[&[Some("70"), None]]), json!({}), Some("data-refused"), ""),
        (stage.rows(&["id", "size"], &[&[Some("70"), Some("sesame")]]), json!({}), Some("data-refused"), ""),
        (stage.rows(&["id", "body"], &[&[Some("70"), None]]), json!({ "update": ["nope"] }), None, "nope"),
        (
            stage.rows(&["id", "body"], &[&[Some("70"), None]]),
            json!({ "as_replica": true }),
            Some("not-approved"),
            "",
        ),
        (
            stage.rows(&["id", "body"], &[&[Some("70"), None]]),
            json!({ "undo_file": "../x" }),
            None,
            "undo_file",
        ),
        (
            stage.rows(&["id", "body"], &[&[Some("70"), None]]),
            json!({ "table": "public.nowhere" }),
            Some("no-such-table"),
            "",
        ),
    ];
    for (rows, more, code, says) in cases {
        let error = stage.upsert("k", &rows, more.clone()).await.unwrap_err();
        let text = format!("{error}: {:?}", error.source.as_ref().map(ToString::to_string));
        assert_eq!(error.code, code, "{more}: {text}");
        assert!(text.contains(says), "{text}");
        assert!(!text.contains("sesame"), "{text}");
        assert_eq!(stage.all().await, before);
    }
}

#[tokio::test]
async fn policies_hide_no_row_from_the_comparison() {
    let stage = Stage::new().await;
    stage
        .database
        .sql(
            "create role clerk login; grant all on all tables in schema public to clerk; grant create on database app to clerk;
             alter table notes enable row level security; create policy none on notes to clerk using (false) with check (true)",
        )
        .await;
    let rows = stage.rows(&["id", "body"], &[&[Some("1"), Some("new")]]);
    let clerk = stage.cluster.open("app", "clerk").await;
    let params = UpsertParams { connection: clerk.connection.clone(), ..stage.params(&rows, json!({})) };
    let error = Upsert.run(&stage.world.at(1, "k"), params).await.unwrap_err();
    assert!(error.source.unwrap().to_string().contains("row-level security"));
    assert_eq!(stage.database.text("select body from notes where id = 1").await, "one");
}
