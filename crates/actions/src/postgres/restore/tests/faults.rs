//! Bytes that cannot be trusted leave nothing behind.

use super::*;

async fn refused(stage: &Stage, params: &RestoreParams, code: &str, case: &str) -> ActionError {
    let error = stage.restore(1, params).await.unwrap_err();
    assert_eq!(error.code, Some(code), "{case}: {error:#?}");
    stage.assert_untouched(case).await;
    error
}

#[tokio::test]
async fn bytes_that_are_not_the_recorded_ones_leave_a_fresh_target_empty() {
    let mut stage = Stage::new().await;
    for (n, args) in [&[][..], &["-Fc"], &["--inserts"]].into_iter().enumerate() {
        stage.target = stage.cluster.database(&format!("target_{n}")).await;
        let bytes = stage.source.dump(args);
        let params = stage.dumped(&bytes);
        let len = bytes.len();
        for at in [len / 2, len * 9 / 10] {
            let mut flipped = bytes.clone();
            flipped[at] ^= 1;
            stage.bucket.put("d", &flipped);
            refused(&stage, &params, "checksum-mismatch", &format!("{args:?} flipped at {at}")).await;
        }
        stage.bucket.put("d", &bytes[..len * 2 / 3]);
        refused(&stage, &params, "checksum-mismatch", &format!("{args:?} cut")).await;
        stage.bucket.put("d", &bytes);
        stage.restore(1, &params).await.unwrap();
        stage.assert_same("and the whole one goes in afterwards").await;
    }
}

#[tokio::test]
async fn a_dump_that_was_cut_off_before_it_was_hashed_is_refused() {
    let stage = Stage::new().await;
    for args in [&[][..], &["-Fc"], &["--inserts"]] {
        let bytes = stage.source.dump(args);
        for part in [50, 99] {
            let params = stage.dumped(&bytes[..bytes.len() * part / 100]);
            let error = stage.restore(1, &params).await.unwrap_err();
            assert!(matches!(error.code, Some("cut-off" | "dump-malformed")), "{args:?} {part}%: {error:#?}");
            stage.assert_untouched(&format!("{args:?} {part}%")).await;
        }
    }
}

#[tokio::test]
async fn a_psql_command_is_refused_and_not_carried_out() {
    let stage = Stage::new().await;
    let text = String::from_utf8(stage.source.dump(&["--no-comments"])).unwrap();
    let evil = text.replacen("CREATE INDEX messages_user", "\\! touch pwned\nCREATE INDEX messages_user", 1);
    assert_ne!(text, evil);
    let params = stage.dumped(evil.as_bytes());
    let error = refused(&stage, &params, "meta-command", "\\!").await;
    assert!(error.attempted.contains("\\!"), "{error}");
    assert!(!std::path::Path::new("pwned").exists());
}

#[tokio::test]
async fn a_backup_without_a_recorded_checksum_is_refused() {
    let stage = Stage::new().await;
    let mut params = stage.dumped(&stage.source.dump(&[]));
    params.backup.sha256 = None;
    refused(&stage, &params, "unverified", "none").await;
    params.backup.sha256 = Some("abc".into());
    refused(&stage, &params, "unverified", "no sum").await;
}

#[tokio::test]
async fn a_target_that_holds_data_is_not_touched_by_bytes_that_do_not_match() {
    let stage = Stage::new().await;
    let mut params = stage.dumped(&stage.source.dump(&[]));
    params.overwrite = true;
    stage.bucket.put("d", b"something else");
    stage.target.sql("create table precious (x int); insert into precious values (1)").await;
    let error = stage.restore(1, &params).await.unwrap_err();
    assert_eq!(error.code, Some("checksum-mismatch"));
    assert_eq!(stage.target.text("select count(*) from precious").await, "1");
    assert_eq!(stage.target.text("select to_regnamespace('_runbook')::text").await, "null");
}

#[tokio::test]
async fn another_object_than_the_selected_one_is_refused() {
    let stage = Stage::new().await;
    let mut params = stage.dumped(&stage.source.dump(&[]));
    params.backup.etag = Some("\"another\"".into());
    refused(&stage, &params, "object-changed", "etag").await;
    params.backup.etag = None;
    params.backup.store_sha256 = Some("0".repeat(64));
    refused(&stage, &params, "checksum-mismatch", "the store's sum").await;
}

#[tokio::test]
async fn a_statement_that_fails_is_named_with_its_line_and_nothing_is_called_restored() {
    let stage = Stage::new().await;
    let text = String::from_utf8(stage.source.dump(&[])).unwrap();
    let broken = text.replacen(
        "CREATE INDEX messages_user ON public.messages",
        "CREATE INDEX messages_user ON public.nowhere",
        1,
    );
    let line = broken.lines().position(|line| line.contains("public.nowhere")).unwrap() + 1;
    let params = stage.dumped(broken.as_bytes());
    let error = stage.restore(1, &params).await.unwrap_err();
    assert_eq!(error.code, Some("statement-failed"));
    assert!(
        error.attempted.contains(&format!("index public.messages_user on public.nowhere (line {line}")),
        "{error}"
    );
    assert!(error.source.unwrap().to_string().contains("42P01"));
}

#[tokio::test]
async fn what_is_lost_in_silence_is_found_by_the_comparison() {
    let stage = Stage::new().await;
    // Without an error, as a restorer with a fault of its own would lose them.
    let text = String::from_utf8(stage.source.dump(&[])).unwrap();
    let losing =
        "DROP VIEW public.loud;\nDELETE FROM public.parts_eu WHERE id = 2;\nCREATE INDEX messages_user";
    let losing = text.replacen("CREATE INDEX messages_user", losing, 1);
    let error = stage.restore(1, &stage.dumped(losing.as_bytes())).await.unwrap_err();
    assert_eq!(error.code, Some("catalog-mismatch"), "{error:#?}");
    assert!(error.attempted.contains("view public.loud is missing"), "{error}");
    assert!(error.attempted.contains("table public.parts_eu has 49 rows, 50 were loaded"), "{error}");
}
