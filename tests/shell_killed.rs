//! Promise P4 for programs of this machine: a runner is killed while its script goes on; whoever resumes ends that
//! script first, and only then begins anew.

use std::path::Path;
use std::time::{Duration, Instant};

use crate::world::{Watched, World};

/// Says who lives beside it, then who it is, and goes on until somebody ends it or `go` is there.
const SCRIPT: &str = r#"
for old in $(cat "$FOLDER/pids" 2>/dev/null); do
  # One that ended and was not asked for yet (Z) does not live.
  state=$(sed 's/.*) //' "/proc/$old/stat" 2>/dev/null | cut -c1)
  case "$state" in ''|Z|X) ;; *) echo "$old $state" >> "$FOLDER/overlaps" ;; esac
done
sleep 600 &
echo $$ $! >> "$FOLDER/pids"
while ! [ -e "$FOLDER/go" ]; do sleep 0.02; done
echo done >> "$FOLDER/effects"
echo '{"ok": true}'
"#;

fn runbook(world: &World, idempotent: bool) -> String {
    world.write("runbooks/work.sh", SCRIPT);
    let folder = world.folder().display();
    world.runbook_file(&format!(
        "name: own\nkind: maintenance\nsteps:\n  - {{ id: work, uses: shell.run, with: {{ script: work.sh, \
         env: {{ FOLDER: \"{folder}\" }}, idempotent: {idempotent} }} }}\n"
    ))
}

/// The processes of the attempts that began, once there are so many.
#[expect(
    clippy::disallowed_methods,
    reason = "a script that runs in another process says it by a file alone"
)]
#[track_caller]
fn began(world: &World, attempts: usize) -> Vec<String> {
    let until = Instant::now() + Duration::from_secs(30);
    loop {
        let text = std::fs::read_to_string(world.folder().join("pids")).unwrap_or_default();
        if text.ends_with('\n') && text.lines().count() >= attempts {
            return text.split_whitespace().map(str::to_owned).collect();
        }
        assert!(Instant::now() < until, "the script did not begin: {text}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn lives(pid: &str) -> bool {
    let text = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat")).unwrap_or_default();
    let state = text.rsplit_once(") ").map_or("", |(_, rest)| &rest[..1]);
    !matches!(state, "" | "Z" | "X")
}

#[test]
fn a_script_that_outlives_its_runner_is_ended_before_it_is_repeated() {
    let world = World::with_data();
    let runbook = runbook(&world, true);
    let mut run = Watched::start(world.command(&["--json", "run", &runbook, "--env", "local", "--yes"]));
    let id = run.until(|line| line["run"].is_string())["run"].as_str().unwrap().to_owned();
    let first = began(&world, 1);
    run.kill();
    assert!(first.iter().all(|pid| lives(pid)), "the script goes on without its runner");

    let resumed = Watched::start(world.command(&["--json", "resume", &id, "--yes"]));
    began(&world, 2);
    assert!(!first.iter().any(|pid| lives(pid)), "nothing of the first attempt is left: {first:?}");
    world.write("go", "");
    let (_, status) = resumed.end();
    assert!(status.success());
    assert!(!world.folder().join("overlaps").exists(), "two attempts lived side by side");
    assert_eq!(std::fs::read_to_string(world.folder().join("effects")).unwrap(), "done\n");
    let fenced = world.records(&id).into_iter().find(|record| record["kind"] == "fenced").unwrap();
    // Between two waits the shell waits with nothing.
    let ended = fenced["ended"].as_u64().unwrap();
    assert!((2..=3).contains(&ended), "the shell, its child, and what it waited with: {fenced}");
    assert!(!began(&world, 2).iter().any(|pid| lives(pid)), "what the script left behind ended with it");
}

#[test]
fn a_script_that_nobody_declared_idempotent_is_ended_and_then_for_a_person() {
    let world = World::with_data();
    let runbook = runbook(&world, false);
    let mut run = Watched::start(world.command(&["--json", "run", &runbook, "--env", "local", "--yes"]));
    let id = run.until(|line| line["run"].is_string())["run"].as_str().unwrap().to_owned();
    let first = began(&world, 1);
    run.kill();
    let said = world.runbook(&["--json", "resume", &id, "--yes"]).ended(6);
    assert!(!first.iter().any(|pid| lives(pid)), "it is in doubt, and certainly over");
    let problem = said.last()["problems"][0].to_string();
    assert!(problem.contains("only its author knows"), "{problem}");
    world.write("go", "");
    world.runbook(&["resolve", &id, "work", "--again", "--reason", "it had not begun to write"]).ended(0);
    world.runbook(&["--json", "resume", &id, "--yes"]).ended(0);
    assert_eq!(std::fs::read_to_string(world.folder().join("effects")).unwrap(), "done\n");
}
