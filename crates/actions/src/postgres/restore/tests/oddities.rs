//! Dumps that pg_dump does not write by itself, and targets that are not what they seem.

use super::*;
use crate::typed::Typed as _;

/// Statements as a dump that ends where it should.
fn dump_of(sql: &str) -> Vec<u8> {
    format!("--\n-- PostgreSQL database dump\n--\n\n{sql}\n--\n-- PostgreSQL database dump complete\n--\n\n")
        .into_bytes()
}

#[tokio::test]
async fn a_statement_that_takes_a_chunk_back_is_refused() {
    let stage = Stage::new().await;
    for word in ["ROLLBACK", "ABORT", "PREPARE TRANSACTION 'x'"] {
        let sql = format!("CREATE TYPE public.mood AS ENUM ('a');\n{word};\nSELECT 1;");
        let error = stage.restore(1, &stage.dumped(&dump_of(&sql))).await.unwrap_err();
        assert_eq!(error.code, Some("dump-malformed"), "{word}: {error:#?}");
        assert!(error.attempted.contains("on line 6"), "{error}");
        stage.assert_untouched(word).await;
    }
}

#[tokio::test]
async fn rows_of_tables_that_inherit_are_counted_once() {
    let stage = Stage::new().await;
    let source = stage.cluster.database("family").await;
    source
        .sql(
            "create table parent (id int primary key); create table child (extra int) inherits (parent); \
             create table refers (id int references parent); insert into parent values (1), (2); \
             insert into child values (3, 4); insert into refers values (1)",
        )
        .await;
    let outputs = stage.restore(1, &stage.dumped(&source.dump(&[]))).await.unwrap();
    assert_eq!(outputs.rows, 4);
}

#[tokio::test]
async fn a_foreign_key_to_a_partitioned_table_is_checked_as_a_whole() {
    for (row, code) in [("150", None), ("999", Some("orphans"))] {
        let stage = Stage::new().await;
        stage
            .target
            .sql(
                "create table p (id int primary key) partition by range (id); \
                 create table p1 partition of p for values from (0) to (100); \
                 create table p2 partition of p for values from (100) to (200); \
                 create table c (id int references p) partition by list (id); \
                 create table c1 partition of c default",
            )
            .await;
        let sql = format!(
            "SET session_replication_role = replica;\nCOPY public.p1 (id) FROM stdin;\n1\n\\.\n\
             COPY public.p2 (id) FROM stdin;\n150\n\\.\nCOPY public.c (id) FROM stdin;\n1\n{row}\n\\.\n"
        );
        let restored = stage.restore(1, &stage.dumped(&dump_of(&sql))).await;
        assert_eq!(restored.as_ref().err().and_then(|error| error.code), code, "{row}: {restored:#?}");
    }
}

#[tokio::test]
async fn a_foreign_key_that_the_dump_made_and_did_not_enforce_is_checked() {
    let off = ["SET session_replication_role = replica", "ALTER TABLE public.b DISABLE TRIGGER ALL"];
    for off in off {
        let stage = Stage::new().await;
        let sql = format!(
            "CREATE TABLE public.a (id integer NOT NULL PRIMARY KEY);\n\
             CREATE TABLE public.b (id integer REFERENCES public.a);\n{off};\n\
             COPY public.b (id) FROM stdin;\n7\n\\.\n"
        );
        let error = stage.restore(1, &stage.dumped(&dump_of(&sql))).await.unwrap_err();
        assert_eq!(error.code, Some("orphans"), "{off}: {error:#?}");
        assert!(error.attempted.contains("1 rows of public.b"), "{error}");
    }
}

#[tokio::test]
async fn an_overwritten_restore_that_was_half_done_does_not_come_back() {
    let stage = Stage::new().await;
    let broken = stage.dumped(&dump_of("CREATE TABLE nowhere.a (id integer);"));
    let other = Restore.run(&stage.world.at(1, "k2"), broken.clone()).await.unwrap_err();
    assert_eq!(other.code, Some("statement-failed"), "{other:#?}");
    let mut params = stage.dumped(&stage.source.dump(&[]));
    params.overwrite = true;
    stage.restore(1, &params).await.unwrap();
    assert_eq!(stage.target.text("select string_agg(step_key, ',') from _runbook.restores").await, "k1");
    stage.assert_same("over what another restore began").await;
}

#[tokio::test]
async fn rows_that_a_policy_hides_are_not_taken_for_none() {
    let stage = Stage::new().await;
    stage
        .target
        .sql(
            "create role hider login; alter schema public owner to hider; create table precious (x int); \
             insert into precious values (1); alter table precious owner to hider; \
             alter table precious enable row level security; alter table precious force row level security; \
             create policy none on precious using (false)",
        )
        .await;
    let mut params = stage.dumped(&stage.source.dump(&[]));
    params.overwrite = true;
    params.into.user = "hider".into();
    let error = stage.restore(1, &params).await.unwrap_err();
    assert!(error.attempted.contains("count the rows of public.precious"), "{error:#?}");
    assert_eq!(stage.target.text("select count(*) || '' from precious").await, "1");
}
