//! The fault matrix (DESIGN section 13): one suite that every runbook gets with one line below. Whatever goes
//! wrong on the way, the end is the one of an unbroken run.
//!
//! To add a runbook, write a line:
//!
//! ```text
//! matrix!(path_b, "runbooks/path-b.yaml", damage = "bad-migration", inputs = &["title=Gone"]);
//! ```
//!
//! The name becomes the test `matrix::path_b`. Everything after the file may be left out, and is a field of [`Case`]:
//! `damage` (of `runbook sandbox break`), `inputs` (`name=value`), `prepare` (a function that brings the world
//! to where the runbook starts), `answers` (what a person says to a step that asks which: step, arguments of `runbook
//! approve`), `look` (how a person finds out whether the effect of a step in doubt is there; chat messages are
//! known), `counted` (tables whose rows differ from run to run, so only their number is compared), `grows` (tables and requests
//! of which each try makes more), `measures` (messages hold measurements), `optional` (steps
//! with `continue_on_error`), `only` (some of the cases), `environment`, `with` (inputs that only the world knows),
//! `waived` (guards), `gives_up` (a failure for good ends the run, and a person starts another one).
//! A runbook under `runbooks/` that has no line fails `every_runbook_has_its_line`.
//!
//! What each runbook goes through, each time in a fresh world:
//!
//! | case | how | what it shows |
//! | --- | --- | --- |
//! | twice | the first outcome of each step is lost after its action succeeded | a repeated action has one effect |
//! | fails | the first attempt of each step fails, each request is answered 503 the first time | retries get through |
//! | refused | the first attempt of each step fails for good, each request is answered 403 the first time | the run pauses with 5, and `resume` goes on |
//! | killed | SIGKILL after the first record of each kind of each step, checkpoints by name | P1 |
//! | lost | the answer of each request is lost after it acted the first time, each database session is ended once | P3, P4 |
//! | contested | two processes resume the run at once | P6 |
//!
//! What is compared: everything the stand-ins know (ids, times and digests of random values made alike), the schema and
//! the rows of every database, the files in the bucket, what the run gives and leaves in force. And each
//! step is done once, and the chain of the journal holds.

#![expect(clippy::print_stdout, reason = "a case that fails is to say which one it was")]

mod backends;
mod end;
mod journey;
mod names;
mod places;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Mutex;

use serde_json::Value;

use crate::world::World;
use backends::Ender;
use end::{end_of, however_often, same};
use journey::Journey;

/// Brings a run to its end in some way; gives its id.
type Way = fn(&Case, &World) -> String;

/// Cases of a runbook at once.
const AT_ONCE: usize = 3;

/// A runbook and what it needs to run on the sandbox.
#[derive(Clone, Copy)]
pub(crate) struct Case {
    /// From the root of the workspace.
    pub(crate) file: &'static str,
    /// Where it runs.
    pub(crate) environment: &'static str,
    /// What is broken before it runs; nothing when empty.
    pub(crate) damage: &'static str,
    /// `name=value`
    pub(crate) inputs: &'static [&'static str],
    /// Inputs that only the world knows, `name=value`.
    pub(crate) with: fn(&World) -> Vec<String>,
    /// Guards that are waived: for a runbook that is a part of others.
    pub(crate) waived: &'static [&'static str],
    /// What fails for good ends the run (`on_exhausted: fail`), and a person starts another one.
    pub(crate) gives_up: bool,
    /// Brings the world to where the runbook starts.
    pub(crate) prepare: fn(&World),
    /// What a person says to a step that asks which: step, arguments of `runbook approve`.
    pub(crate) answers: &'static [(&'static str, &'static [&'static str])],
    /// Whether the effect of a step in doubt is there.
    pub(crate) look: fn(&Doubt<'_>) -> bool,
    /// Tables of which only the number of rows is compared.
    pub(crate) counted: &'static [&'static str],
    /// Tables, requests (by how they begin) and counters of stand-ins (`/where/it/is`) that grow with every try, such as sign-ins: not compared.
    pub(crate) grows: &'static [&'static str],
    /// What it tells people holds measurements, which no two runs share: only the first line is compared.
    pub(crate) measures: bool,
    /// Steps with `continue_on_error`: when they fail for good nobody is asked, and the end is another one in them.
    pub(crate) optional: &'static [&'static str],
    /// The cases to go through; all when empty. For a runbook whose parts go through all of them by themselves.
    pub(crate) only: &'static [&'static str],
}

/// A step in doubt, for a person who looks.
pub(crate) struct Doubt<'a> {
    /// Where to look.
    pub(crate) world: &'a World,
    /// What the attempt was called with.
    pub(crate) params: &'a Value,
    /// The journal so far.
    pub(crate) records: &'a [Value],
}

impl Case {
    /// A runbook that needs nothing.
    pub(crate) fn of(file: &'static str) -> Self {
        Self {
            file,
            environment: "local",
            damage: "",
            inputs: &[],
            with: |_| Vec::new(),
            waived: &[],
            gives_up: false,
            prepare: |_| {},
            answers: &[],
            look: journey::was_told,
            counted: &[],
            grows: &[],
            measures: false,
            optional: &[],
            only: &[],
        }
    }

    /// All cases, each compared with an unbroken run.
    #[track_caller]
    pub(crate) fn hold(self) {
        assert!(crate::world::root().join(self.file).is_file(), "there is no {}", self.file);
        let unbroken = self.case("unbroken", |world| Journey::of(&self, world).unbroken());
        let cases: [(&str, Way); 6] = [
            ("twice", |case, world| Journey::of(case, world).rehearse("twice").arrive()),
            ("fails", fails),
            ("refused", refused),
            ("killed", |case, world| Journey::of(case, world).rehearse("die").arrive()),
            ("lost", lost),
            ("contested", |case, world| Journey::of(case, world).contested()),
        ];
        // A case mostly waits, for servers that start and for polls; so several go at once.
        let wanted = |(name, _): &(&str, _)| self.only.is_empty() || self.only.contains(name);
        let open = Mutex::new(cases.into_iter().filter(wanted));
        std::thread::scope(|scope| {
            for _ in 0..AT_ONCE {
                scope.spawn(|| {
                    loop {
                        let next = open.lock().unwrap().next();
                        let Some((name, run)) = next else { return };
                        let reached = self.case(name, |world| run(&self, world));
                        if self.gives_up && name == "refused" {
                            same(name, &however_often(reached), &however_often(unbroken.clone()));
                        } else {
                            same(name, &reached, &unbroken);
                        }
                    }
                });
            }
        });
    }

    fn case(&self, name: &str, run: impl FnOnce(&World) -> String) -> Value {
        let begun = std::time::Instant::now();
        let world = World::with_backup();
        world.hurry();
        if !self.damage.is_empty() {
            world.runbook(&["sandbox", "break", self.damage]).ended(0);
        }
        (self.prepare)(&world);
        println!("case {name} of {} in {}", self.file, Path::new(&world.state()).display());
        let run = run(&world);
        world.clear_faults();
        let end = end_of(&world, &run, self);
        println!("case {name} took {:.1} s", begun.elapsed().as_secs_f64());
        end
    }
}

fn fails(case: &Case, world: &World) -> String {
    // With its wish, a 503 says that nothing was done; without one it leaves a doubt, which is another case.
    world.fault(&["all", "--each", "--status", "503", "--retry-after", "0"]);
    Journey::of(case, world).rehearse("fail").arrive()
}

fn refused(case: &Case, world: &World) -> String {
    world.fault(&["all", "--each", "--status", "403"]);
    if case.gives_up {
        return Journey::of(case, world).rehearse("refuse").anew();
    }
    let mut journey = Journey::of(case, world).rehearse("refuse");
    let run = journey.arrive();
    let steps = journey::attempted(&world.records(&run), case.optional);
    assert!(
        journey.failed >= steps,
        "each of {steps} steps stops the run once, {} sittings ended with 5",
        journey.failed
    );
    run
}

fn lost(case: &Case, world: &World) -> String {
    world.fault(&["all", "--each", "--cut", "after"]);
    let ender = Ender::start(world);
    let run = Journey::of(case, world).rehearse("hurry").arrive();
    println!("database sessions ended: {}", ender.end());
    run
}

/// One runbook, one line.
macro_rules! matrix {
    ($name:ident, $file:literal $(, $field:ident = $value:expr)* $(,)?) => {
        #[test]
        fn $name() {
            Case { $($field: $value,)* ..Case::of($file) }.hold();
        }
    };
}

/// What triage looks at, and goes on without.
const SEEN: &[&str] =
    &["triage/deployment", "triage/errors", "triage/identity", "triage/migration", "triage/rows"];
const SEEN_IN_B: &[&str] = &[
    "path_b/triage/deployment",
    "path_b/triage/errors",
    "path_b/triage/identity",
    "path_b/triage/migration",
    "path_b/triage/rows",
];
/// Rows of what payment providers tell have their random ids.
const PAID: &[&str] = &["public.ledger", "public.entitlements"];
/// Rows with pseudonyms by the masking key, which each world has of its own. That the same key gives the same rows is for
/// `staging_refresh::killed_after_every_record_a_refresh_comes_to_the_same_end`.
const PSEUDONYMS: &[&str] = &[
    "auth.identities",
    "auth.users",
    "public.entitlements",
    "public.ledger",
    "public.profiles",
    "storage.objects",
];
/// Who signs in again has another session.
const SIGN_INS: &[&str] = &["auth.sessions", "auth.refresh_tokens"];
/// And whose attempt at a drill was taken away begins another one.
const TRIES: &[&str] =
    &["auth.sessions", "auth.refresh_tokens", "app POST /api/attempts/", "app DELETE /api/attempts/"];
/// Rows that the application, Auth and Storage write by themselves while path D looks at what it built.
const REBUILT: &[&str] = &["public.ledger", "public.entitlements", "storage.objects"];
/// And what it asks for anew when it was cut.
const REBUILDING: &[&str] = &[
    "auth.sessions",
    "auth.refresh_tokens",
    "storage POST ",
    "storage PATCH ",
    "/providers/resend/sent",
    "/providers/paymongo/intents",
];
/// For runbooks whose parts go through all cases elsewhere: what is left is whether this order of them
/// survives a process that dies.
const ORDER: &[&str] = &["killed", "contested"];

// Where everybody starts. A path that `restore` may take gets a line here for the way through it, and one of
// its own below.
matrix!(
    restore_schema,
    "runbooks/restore.yaml",
    damage = "bad-migration",
    answers = &[("seen", &["--choose", "schema", "--reason", "a policy is gone"])],
    optional = SEEN_IN_B,
    only = ORDER,
);

// The paths: all six cases each.
matrix!(path_a, "runbooks/path-a.yaml", damage = "deleted-rows", inputs = places::ROWS, optional = SEEN,);
// What path_a does not meet is the temporary database: made, filled and dropped.
matrix!(
    path_a_via_database,
    "runbooks/path-a.yaml",
    damage = "deleted-rows",
    inputs = places::ROWS_VIA_DATABASE,
    optional = SEEN,
    only = &["twice", "killed", "lost"],
);
matrix!(
    path_b,
    "runbooks/path-b.yaml",
    damage = "bad-migration",
    inputs = &["freeze_database=true"],
    optional = SEEN,
);
// An upload whose process dies while it is answered has acted and is not counted; what is there is proven, byte by
// byte, by the runbook itself.
matrix!(
    path_c,
    "runbooks/path-c.yaml",
    damage = "lost-files",
    counted = &["storage.objects"],
    grows = &["storage POST ", "storage PATCH "],
);

// B and C in one, then rotate_secrets, each of which goes through all cases. `tests/path_d.rs` kills it again and again.
matrix!(
    path_d,
    "runbooks/path-d.yaml",
    damage = "bad-migration",
    inputs = &["signer=Ana Cruz"],
    optional = SEEN,
    counted = REBUILT,
    grows = REBUILDING,
    only = &["contested"],
);

// What comes around a path. `triage` and `reopen` go through all cases in path_b; alone, a person waives the guard that
// wants both.
matrix!(
    triage,
    "runbooks/triage.yaml",
    inputs = &["title=Gone", "freeze_database=true"],
    waived = &["G06"],
    optional = &["deployment", "errors", "identity", "migration", "rows"],
    only = ORDER,
);
matrix!(
    reopen,
    "runbooks/reopen.yaml",
    prepare = places::frozen,
    inputs = &["freeze_database=true"],
    only = ORDER
);
matrix!(
    validation,
    "runbooks/validation.yaml",
    counted = &["public.attempts", "public.entitlements", "public.ledger", "storage.objects"],
    grows = TRIES,
);
matrix!(
    post_restore,
    "runbooks/post-restore.yaml",
    inputs = places::FOLLOW_UP,
    measures = true,
    counted = PAID,
    grows = &["/providers/paymongo/intents"],
);
// Not `refused`: what may fail for good there are its two measurements, which are all that is optional.
matrix!(
    rollback,
    "runbooks/rollback.yaml",
    prepare = places::deployed_since,
    inputs = &["reason=it is slow", "dns_content=old.polaris.example"],
    with = places::restored_project,
    measures = true,
    optional = &["errors-before", "errors-after"],
    only = &["twice", "fails", "killed", "lost", "contested"],
);

// What is done without an incident.
matrix!(backup, "runbooks/backup.yaml", gives_up = true);
matrix!(
    prune,
    "runbooks/prune.yaml",
    prepare = |world| crate::prune::fill(world, 12),
    inputs = &["daily=5", "monthly=0"],
    gives_up = true,
);
matrix!(
    rotate_secrets,
    "runbooks/rotate-secrets.yaml",
    with = places::live_project,
    counted = PAID,
    // An intent that nobody paid costs nothing, and PayMongo knows no key for it.
    grows = &["/providers/resend/sent", "/providers/paymongo/intents"],
);
// Restores like path_b and gives up like backup; what is its own is that nothing of it is left. `tests/drill.rs` has the
// failures that it must tell of.
matrix!(drill, "runbooks/drill.yaml", only = &["killed", "lost"]);
// Path B with a mask on the way in, so the cases that cut the restore.
matrix!(staging_refresh, "runbooks/staging-refresh.yaml", counted = PSEUDONYMS, only = &["killed", "lost"],);
// The steps of path_b in another order, with a decision before them.
matrix!(
    production_restore,
    "runbooks/production-restore.yaml",
    damage = "bad-migration",
    optional = SEEN,
    grows = SIGN_INS,
    measures = true,
    only = ORDER
);

/// Runbooks without a line, and why.
const WITHOUT: [(&str, &str); 0] = [];

#[test]
fn every_runbook_has_its_line() {
    let own = include_str!("mod.rs");
    let kept: BTreeSet<String> = std::fs::read_dir(crate::world::root().join("runbooks"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.ends_with(".yaml"))
        .collect();
    let missing: Vec<&String> = kept
        .iter()
        .filter(|name| !WITHOUT.iter().any(|(known, _)| known == name))
        .filter(|name| {
            !own.contains(&format!("\n    \"runbooks/{name}\""))
                && !own.contains(&format!(", \"runbooks/{name}\""))
        })
        .collect();
    assert!(missing.is_empty(), "the fault matrix has no line for {missing:?}: see tests/matrix/mod.rs");
}
