//! Where some runbooks of the matrix start, and what only their world knows.

use crate::world::World;

/// Path A: two people who are gone, one who was changed.
pub(super) const ROWS: &[&str] = &[
    "table=public.profiles",
    r#"keys=["00000000-0000-4000-8000-000000000003", "00000000-0000-4000-8000-000000000007",
        "00000000-0000-4000-8000-000000000009"]"#,
    r#"update=["display_name", "bio"]"#,
];

/// The same through a database of its own.
pub(super) const ROWS_VIA_DATABASE: &[&str] = &[ROWS[0], ROWS[1], ROWS[2], "via=database"];

/// After a restore: one ticket is wanted.
pub(super) const FOLLOW_UP: &[&str] =
    &["title=Bad migration", r#"follow_ups=[{"id":"alarm","title":"Alarm earlier","body":"Why so late?"}]"#];

/// As a run that was given up after its triage leaves it.
pub(super) fn frozen(world: &World) {
    let start = ["--json", "run", "runbooks/triage.yaml", "--env", "local", "--yes", "--waive", "G06"];
    let inputs = ["--reason", "reopened next", "--input", "title=Gone", "--input", "freeze_database=true"];
    world.runbook(&[&start[..], &inputs].concat()).ended(0);
}

/// Something was deployed since the first deployment, so there is one to go back to.
pub(super) fn deployed_since(world: &World) {
    let deploy = world.runbook_file(
        "name: own\nkind: maintenance\nsteps:\n  - { id: ready, uses: http.check, tags: [validate], \
         with: { checks: [{ url: \"{{ vars.app_url }}/api/health\" }] } }\n  \
         - { id: deploy, uses: vercel.deploy, tags: [expose], with: {} }\n",
    );
    world.runbook(&["--json", "run", &deploy, "--env", "local", "--yes"]).ended(0);
}

pub(super) fn restored_project(world: &World) -> Vec<String> {
    vec![format!("restored_project={}", world.live())]
}

pub(super) fn live_project(world: &World) -> Vec<String> {
    let app = world.endpoints()["app_url"].as_str().unwrap().to_owned();
    vec![format!("project={}", world.live()), format!("app_url={app}")]
}
