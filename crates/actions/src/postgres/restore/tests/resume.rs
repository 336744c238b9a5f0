//! A restore that was stopped or killed goes on, and no row is there twice.

use super::*;
use crate::testing::Fault;
use crate::typed::Typed as _;

/// An index that takes two seconds, on any machine.
const SLOW: &str = "create function slow(int) returns int language plpgsql immutable as \
    'begin perform pg_sleep(0.05); return $1; end';
    create table few (id int primary key); insert into few select generate_series(1, 40);
    create index few_slow on few (slow(id));";
/// Whether it is being built.
const BUILDS: &str = "select count(*) || '' from pg_stat_activity where state = 'active' \
    and query like '/* whole */%few_slow%' and pid <> pg_backend_pid()";

#[tokio::test]
async fn a_stopped_restore_goes_on_where_it_was() {
    for args in [&[][..], &["-Fc"], &["--inserts"]] {
        let stage = Stage::new().await;
        let params = stage.dumped(&stage.source.dump(args));
        let mut stops = 0;
        let outputs = loop {
            stage.world.stop.after_reports(2);
            match stage.restore(stops + 1, &params).await {
                Ok(outputs) => break outputs,
                Err(error) => assert_eq!(error.code, Some("stopped"), "{args:?}: {error:#?}"),
            }
            stage.world.stop.calm();
            stops += 1;
            assert!(stops < 30, "{args:?}: it gets nowhere");
        };
        assert!(stops >= 2, "{args:?}: stopped {stops} times");
        assert_eq!(outputs.rows, 500 + 30_003 + 2 + 100, "{args:?}");
        stage.assert_same(&format!("{args:?}, stopped {stops} times")).await;
    }
}

#[tokio::test]
async fn a_restore_whose_backend_is_killed_goes_on() {
    let stage = Stage::new().await;
    let params = stage.dumped(&stage.source.dump(&[]));
    let kill = async {
        stage.world.stop.reported().await;
        stage.source.text("select count(pg_terminate_backend(pid)) || '' from pg_stat_activity where application_name like 'runbook/0000aaaa/%'").await
    };
    let (broken, killed) = tokio::join!(stage.restore(1, &params), kill);
    assert_ne!(killed, "0");
    let broken = broken.unwrap_err();
    assert!(matches!(broken.aftermath, runbook_core::action::Aftermath::Unchanged { .. }), "{broken:#?}");
    stage.restore(2, &params).await.unwrap();
    stage.assert_same("killed once").await;
}

#[tokio::test]
async fn another_dump_does_not_go_on_where_one_was_left() {
    let stage = Stage::new().await;
    let params = stage.dumped(&stage.source.dump(&[]));
    stage.world.stop.after_reports(1);
    stage.restore(1, &params).await.unwrap_err();
    stage.world.stop.calm();

    let other = stage.dumped(&stage.source.dump(&["-Fc"]));
    assert_eq!(stage.restore(2, &other).await.unwrap_err().code, Some("other-backup"));
    let by_another = Restore.run(&stage.world.at(1, "k2"), params.clone()).await.unwrap_err();
    assert_eq!(by_another.code, Some("target-half-loaded"));
    // The object under the name is another one now: what was loaded of the old one cannot be completed.
    assert_eq!(stage.restore(2, &params).await.unwrap_err().code, Some("object-changed"));
    stage.assert_untouched("after the object changed").await;
}

#[tokio::test]
async fn half_a_restore_is_given_up_for_an_overwrite_by_another_step() {
    let stage = Stage::new().await;
    let mut params = stage.dumped(&stage.source.dump(&[]));
    stage.world.stop.after_reports(1);
    stage.restore(1, &params).await.unwrap_err();
    stage.world.stop.calm();
    params.overwrite = true;
    Restore.run(&stage.world.at(1, "k2"), params).await.unwrap();
    stage.assert_same("overwritten").await;
}

#[tokio::test]
async fn the_old_epochs_backend_is_ended_before_a_repeat() {
    let stage = Stage::new().await;
    let params = stage.dumped(&stage.source.dump(&[]));
    let old = crate::postgres::connect(&stage.world.at(1, "k1"), &params.into).await.unwrap();
    let busy = tokio::spawn(async move { old.client.batch_execute("select pg_sleep(600)").await });
    let other = crate::postgres::connect(&stage.world.at(3, "k1"), &params.into).await.unwrap();
    let sleeping = "select count(*) || '' from pg_stat_activity where query like 'select pg_sleep%' and state = 'active' and pid <> pg_backend_pid()";
    while stage.source.text(sleeping).await != "1" {
        tokio::task::yield_now().await;
    }
    let ended = Restore.fence(&stage.world.at(3, "k1"), params.clone()).await.unwrap();
    assert_eq!(ended, 1);
    assert!(busy.await.unwrap().is_err());
    other.client.batch_execute("select 1").await.unwrap();
    assert_eq!(stage.source.text(sleeping).await, "0");
    assert_eq!(Restore.fence(&stage.world.at(3, "k1"), params).await.unwrap(), 0);
}

#[tokio::test]
async fn a_build_outlives_its_restore_and_neither_it_nor_the_dump_is_needed_again() {
    for args in [&[][..], &["-Fc"]] {
        let stage = Stage::new().await;
        stage.source.sql(SLOW).await;
        let params = stage.dumped(&stage.source.dump(args));
        let kept = "select (to_regclass('_runbook.rests') is not null)::text";
        let at_work = async {
            while stage.source.text(BUILDS).await != "1" || stage.target.text(kept).await != "true" {
                tokio::task::yield_now().await;
            }
        };
        tokio::select! {
            ended = stage.restore(1, &params) => panic!("{args:?}: over too early: {ended:?}"),
            () = at_work => {}
        }
        assert_eq!(stage.source.text(BUILDS).await, "1", "{args:?}: the server goes on without the restore");
        Restore.fence(&stage.world.at(2, "k1"), params.clone()).await.unwrap();
        let file = "select coalesce(max(relfilenode::text), '0') from pg_class where relname = 'few_slow'";
        let built = stage.target.text(file).await;
        assert_ne!(built, "0", "{args:?}: it was waited for");

        stage.bucket.fails(Some(Fault::Failing { from: 0, times: u32::MAX }));
        let outputs = stage.restore(2, &params).await.unwrap();
        assert_eq!(outputs.rows, 500 + 30_003 + 2 + 100 + 40, "{args:?}");
        assert_eq!(stage.target.text(file).await, built, "{args:?}: it was not made again");
        stage.assert_same(&format!("{args:?}, killed in a build")).await;
    }
}

#[tokio::test]
async fn a_stop_ends_what_would_be_waited_for() {
    let stage = Stage::new().await;
    let params = stage.dumped(&stage.source.dump(&[]));
    let old = crate::postgres::connect(&stage.world.at(1, "k1"), &params.into).await.unwrap();
    let whole = "/* whole */ begin; create table few_slow (); select pg_sleep(600); commit";
    let busy = tokio::spawn(async move { old.client.batch_execute(whole).await });
    while stage.source.text(BUILDS).await != "1" {
        tokio::task::yield_now().await;
    }
    let fencing = "select count(*) || '' from pg_stat_activity where application_name = 'runbook/fence'";
    let ask = async {
        while stage.source.text(fencing).await != "1" {
            tokio::task::yield_now().await;
        }
        assert_eq!(stage.source.text(BUILDS).await, "1");
        stage.world.stop.ask();
    };
    let ctx = stage.world.at(3, "k1");
    let (ended, ()) = tokio::join!(Restore.fence(&ctx, params), ask);
    assert_eq!(ended.unwrap(), 1);
    assert!(busy.await.unwrap().is_err());
    stage.assert_untouched("ended").await;
}

#[tokio::test]
async fn two_restores_do_not_fill_one_database_side_by_side() {
    let stage = Stage::new().await;
    let params = stage.dumped(&stage.source.dump(&[]));
    stage.target.sql(&format!("select pg_advisory_lock({})", super::super::action::LOCK)).await;
    let error = stage.restore(1, &params).await.unwrap_err();
    assert_eq!(error.code, Some("target-busy"), "{error:#?}");
    stage.assert_untouched("busy").await;
}

#[tokio::test]
async fn chunks_that_came_from_other_bytes_are_not_built_upon() {
    let stage = Stage::new().await;
    let params = stage.dumped(&stage.source.dump(&[]));
    stage.world.stop.after_reports(3);
    stage.restore(1, &params).await.unwrap_err();
    stage.world.stop.calm();
    stage
        .target
        .sql("update _runbook.chunks set chunk = jsonb_set(chunk, '{sum}', '\"00\"') where seq = 1")
        .await;
    let error = stage.restore(2, &params).await.unwrap_err();
    assert_eq!(error.code, Some("checksum-mismatch"), "{error:#?}");
    stage.assert_untouched("other bytes").await;
}
