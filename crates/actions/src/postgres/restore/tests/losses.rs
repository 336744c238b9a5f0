//! The store or the server goes away in the middle, with several connections at work.

use runbook_core::action::Aftermath;

use super::*;
use crate::testing::Fault;

/// More than one part of the store's and some chunks.
const ROWS: &str = "create table long (id int primary key, body text);
    insert into long select n, repeat(md5(n::text), 4) from generate_series(1, 40000) n;";

async fn staged(args: &[&str]) -> (Stage, RestoreParams) {
    let stage = Stage::new().await;
    stage.source.sql(ROWS).await;
    let mut params = stage.dumped(&stage.source.dump(args));
    params.jobs = Some(4);
    (stage, params)
}

#[tokio::test]
async fn a_part_that_fails_now_and_then_is_fetched_again() {
    for args in [&[][..], &["-Fc", "-Z0"]] {
        let (stage, params) = staged(args).await;
        stage.bucket.fails(Some(Fault::Failing { from: 1 << 20, times: 3 }));
        stage.restore(1, &params).await.unwrap();
        stage.assert_same("some parts twice").await;
    }
}

#[tokio::test]
async fn a_server_that_loses_power_takes_chunks_and_markers_back_together() {
    for args in [&[][..], &["-Fc"]] {
        let (mut stage, params) = staged(args).await;
        let mut crashes = 0;
        loop {
            let crash = async {
                for _ in 0..3 {
                    stage.world.stop.reported().await;
                }
                stage.cluster.crash();
            };
            let done = {
                let mut restore = std::pin::pin!(stage.restore(crashes + 1, &params));
                tokio::select! {
                    outcome = &mut restore => outcome,
                    () = crash => restore.await,
                }
            };
            match done {
                Ok(_) => break,
                Err(error) => assert!(matches!(error.aftermath, Aftermath::Unchanged { .. }), "{error:#?}"),
            }
            stage.cluster.start_again().await;
            crashes += 1;
            assert!(crashes < 60, "it gets nowhere");
        }
        assert!(crashes >= 2, "crashed {crashes} times");
        stage.source = stage.cluster.open("source", "postgres").await;
        stage.target = stage.cluster.open("target", "postgres").await;
        stage.assert_same(&format!("{args:?}, crashed {crashes} times")).await;
    }
}
