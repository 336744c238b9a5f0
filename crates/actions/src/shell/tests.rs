//! Scripts, with real processes: what they get and give, how they end, and that nothing of them is left.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use runbook_core::action::{ActionError, Aftermath, Context};
use serde_json::{Value, json};

use super::Run;
use super::group::{Group, MARK};
use super::params::Outputs;
use crate::http::stand_in::World;
use crate::typed::{Done, Found, Typed as _};

async fn run(ctx: &Context, params: Value) -> Result<Done<Outputs>, ActionError> {
    Run.run(ctx, serde_json::from_value(params).unwrap()).await
}

async fn probe(ctx: &Context, params: Value) -> Found<Outputs> {
    Run.probe(ctx, serde_json::from_value(params).unwrap()).await.unwrap()
}

fn read(ctx: &Context, name: &str) -> String {
    std::fs::read_to_string(ctx.artifacts.join(name)).unwrap()
}

/// Waits until a file says something.
#[expect(
    clippy::disallowed_methods,
    reason = "a script that runs in another process says it by a file alone"
)]
fn said(path: &Path) -> String {
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let text = std::fs::read_to_string(path).unwrap_or_default();
        if text.ends_with('\n') {
            return text.trim().to_owned();
        }
        assert!(Instant::now() < until, "{} stays empty", path.display());
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Whether a process runs; one that ended and was not asked for yet does not.
fn lives(pid: &str) -> bool {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = text.rsplit_once(") ").map_or("", |(_, rest)| &rest[..1]);
    !matches!(state, "" | "Z" | "X")
}

#[tokio::test]
async fn inputs_go_in_and_outputs_come_out() {
    let world = World::new();
    let by_line = r#"read -r line; echo noise; echo "{\"got\": $line}""#;
    let done = run(&world.ctx, json!({ "run": by_line, "inputs": { "n": 7 } })).await.unwrap().outputs;
    assert_eq!(done.outputs, json!({ "got": { "n": 7 } }));
    assert!(done.tail.starts_with("noise\n"), "{}", done.tail);
    let by_file = r#"echo '{"from": "file"}' > "$RUNBOOK_OUTPUT"; echo not json; echo oops >&2"#;
    let done = run(&world.ctx, json!({ "run": by_file })).await.unwrap().outputs;
    assert_eq!(done.outputs, json!({ "from": "file" }));
    assert_eq!(
        (read(&world.ctx, "stdout.txt"), read(&world.ctx, "stderr.txt")),
        ("not json\n".into(), "oops\n".into())
    );
    let done = run(&world.ctx, json!({ "run": "exec < /dev/null; true" })).await.unwrap().outputs;
    assert_eq!(done.outputs, Value::Null);
}

#[tokio::test]
async fn a_script_file_runs_as_it_is_or_by_the_shell() {
    let world = World::new();
    let path = world.ctx.base.join("count.sh");
    std::fs::write(&path, "#!/bin/sh\necho \"[\\\"$0\\\", \\\"$RUNBOOK_STEP\\\"]\"\n").unwrap();
    for mode in [0o644, 0o755] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let done = run(&world.ctx, json!({ "script": "count.sh" })).await.unwrap().outputs;
        assert!(done.outputs[0].as_str().unwrap().ends_with("/count.sh"), "{}", done.outputs);
        assert_eq!(done.outputs[1], "step");
    }
}

#[tokio::test]
async fn secrets_come_by_environment_alone_and_are_written_nowhere() {
    let world = World::new();
    let script = r#"echo "$TOKEN" >&2; printf %s "$TOKEN" | base64; env; cat /proc/$$/cmdline | tr '\0' ' '; echo; echo "{\"t\": \"$TOKEN\"}""#;
    let params = json!({ "run": script, "env": { "TOKEN": "⟦secret:pw⟧", "PLAIN": "shown" } });
    let done = run(&world.ctx, params).await.unwrap().outputs;
    assert_eq!(done.outputs, json!({ "t": "•••" }));
    let all = format!("{}{}{}", read(&world.ctx, "stdout.txt"), read(&world.ctx, "stderr.txt"), done.tail);
    assert!(!all.contains("canary") && !all.contains("Y2FuYXJ5"), "{all}");
    assert!(all.contains("PLAIN=shown"));
    assert!(!all.contains("CARGO_MANIFEST_DIR"), "the variables of the runner are not handed on:\n{all}");
    for params in [
        json!({ "run": "echo ⟦secret:pw⟧" }),
        json!({ "run": "true", "env": { "RUNBOOK_RUN": "x" } }),
        json!({ "run": "true", "env": { "a b": "x" } }),
        json!({ "run": "true", "script": "x.sh" }),
        json!({ "script": "none.sh" }),
        json!({}),
    ] {
        assert_eq!(
            run(&world.ctx, params.clone()).await.unwrap_err().aftermath,
            Aftermath::Refused,
            "{params}"
        );
    }
}

#[tokio::test]
async fn how_it_ended_decides_what_is_known() {
    for (script, idempotent, expected) in [
        ("echo because >&2; exit 3", false, Aftermath::Unknown),
        ("exit 3", true, Aftermath::Unchanged { retry_after: None }),
        ("exit 75", false, Aftermath::Unchanged { retry_after: None }),
        ("kill -9 $$", false, Aftermath::Unknown),
        ("echo '{' > $RUNBOOK_OUTPUT", false, Aftermath::Unknown),
    ] {
        let world = World::new();
        let error = run(&world.ctx, json!({ "run": script, "idempotent": idempotent })).await.unwrap_err();
        assert_eq!(error.aftermath, expected, "{script}");
        let found = probe(&world.ctx, json!({ "run": script, "idempotent": idempotent })).await;
        assert_eq!(matches!(found, Found::Absent), idempotent, "{script}: {found:?}");
    }
    let world = World::new();
    let error = run(&world.ctx, json!({ "run": "echo because >&2; exit 3" })).await.unwrap_err();
    assert!(error.attempted.ends_with("it ended with status 3: because"), "{}", error.attempted);
}

#[tokio::test]
async fn an_end_that_was_not_told_is_found_by_the_probe() {
    let world = World::new();
    assert!(matches!(probe(&world.ctx, json!({ "run": "true" })).await, Found::Absent), "it never began");
    run(&world.ctx, json!({ "run": "echo 5" })).await.unwrap();
    let Found::Happened(done) = probe(&world.ctx, json!({ "run": "echo 5" })).await else {
        panic!("it ended")
    };
    assert_eq!(done.outputs.outputs, json!(5));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_to_stop_ends_the_whole_group() {
    let world = World::new();
    let told = world.ctx.base.join("pids");
    let script = "sleep 600 & echo $$ $! > pids; wait";
    let ctx = world.ctx.clone();
    let running = tokio::spawn(async move { run(&ctx, json!({ "run": script })).await });
    let pids = tokio::task::spawn_blocking(move || said(&told)).await.unwrap();
    world.stop.ask();
    let error = running.await.unwrap().unwrap_err();
    assert_eq!((error.code, error.aftermath), (Some("stopped"), Aftermath::Unknown));
    assert!(pids.split(' ').all(|pid| !lives(pid)), "{pids}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_script_leaves_behind_ends_with_it() {
    let world = World::new();
    let begun = Instant::now();
    let done = run(&world.ctx, json!({ "run": "sleep 600 & echo $!" })).await.unwrap().outputs;
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert!(!lives(&done.outputs.to_string()));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_is_dropped_leaves_nothing() {
    let world = World::new();
    let told = world.ctx.base.join("pids");
    let ctx = world.ctx.clone();
    let running =
        tokio::spawn(async move { run(&ctx, json!({ "run": "sleep 600 & echo $$ $! > pids; wait" })).await });
    let pids = tokio::task::spawn_blocking(move || said(&told)).await.unwrap();
    running.abort();
    assert!(running.await.unwrap_err().is_cancelled());
    Run.fence(&world.ctx, serde_json::from_value(json!({ "run": "true" })).unwrap()).await.unwrap();
    assert!(pids.split(' ').all(|pid| !lives(pid)), "{pids}");
}

/// Starts a group as a runner would that then dies: nobody is left who waits for it.
#[expect(clippy::zombie_processes, reason = "the runner that would wait for it is dead")]
fn orphan(folder: &Path, mark: &str, script: &str) -> u32 {
    use std::os::unix::process::CommandExt as _;
    let mut command = Command::new("sh");
    command.args(["-c", script]).current_dir(folder).env(MARK, mark).process_group(0);
    let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    child.id()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_fence_ends_a_group_that_does_not_heed_and_whoever_left_it() {
    let world = World::new();
    // One ignores SIGTERM, one has left the group and even the session.
    let script = "trap '' TERM; setsid sh -c 'echo $$ > left; exec sleep 600' & sleep 600 & echo $$ $! > pids; wait; sleep 600";
    let pid = orphan(&world.ctx.base, "mark-1", script);
    let pids = format!("{} {}", said(&world.ctx.base.join("pids")), said(&world.ctx.base.join("left")));
    assert!(pids.split(' ').all(lives), "{pids}");
    world.ctx.checkpoints.save("group", json!(Group::of(pid, "mark-1"))).await.unwrap();
    let params = || serde_json::from_value(json!({ "run": "true" })).unwrap();
    let ended = Run.fence(&world.ctx, params()).await.unwrap();
    assert_eq!(ended, 3);
    assert!(!pids.split(' ').any(lives), "{pids}");
    assert_eq!(Run.fence(&world.ctx, params()).await.unwrap(), 0, "twice is once");
}

#[tokio::test]
async fn the_fence_leaves_strangers_alone_and_says_when_it_cannot_tell() {
    let world = World::new();
    let pid = orphan(&world.ctx.base, "theirs", "echo $$ > pids; exec sleep 600");
    said(&world.ctx.base.join("pids"));
    let params = || serde_json::from_value(json!({ "run": "true" })).unwrap();
    let theirs = json!(Group::of(pid, "theirs"));
    for (field, value, expected) in [
        // The number was given to another process since.
        ("started", json!(1), Ok(0)),
        ("boot_id", json!("an earlier boot"), Ok(0)),
        ("pid_space", json!("pid:[1]"), Err(())),
    ] {
        let mut saved = theirs.clone();
        saved["mark"] = json!("ours");
        saved[field] = value;
        world.ctx.checkpoints.save("group", saved).await.unwrap();
        let fenced = Run.fence(&world.ctx, params()).await.map_err(|error| {
            assert_eq!(error.aftermath, Aftermath::Refused);
        });
        assert_eq!(fenced, expected, "{field}");
        assert!(lives(&pid.to_string()), "{field}");
    }
    world.ctx.checkpoints.save("group", theirs).await.unwrap();
    assert_eq!(Run.fence(&world.ctx, params()).await.unwrap(), 1);
}

#[test]
fn a_runner_that_dies_before_it_wrote_down_whose_process_it_is_runs_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut child = Command::new("/bin/sh")
        .args(["-c", super::run::GATE, "gate", "sh", "-c", "echo ran > ran"])
        .current_dir(folder.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdin.take());
    assert_eq!(child.wait().unwrap().code(), Some(125));
    assert!(!folder.path().join("ran").exists());
}
