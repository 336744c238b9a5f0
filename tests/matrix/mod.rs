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
//! known), `counted` (tables whose rows differ from run to run, so only their number is compared), `optional` (steps
//! with `continue_on_error`), `only` (some of the cases), `environment`.
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

use std::path::Path;
use std::sync::Mutex;

use serde_json::Value;

use crate::world::World;
use backends::Ender;
use end::{end_of, same};
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
    /// Brings the world to where the runbook starts.
    pub(crate) prepare: fn(&World),
    /// What a person says to a step that asks which: step, arguments of `runbook approve`.
    pub(crate) answers: &'static [(&'static str, &'static [&'static str])],
    /// Whether the effect of a step in doubt is there.
    pub(crate) look: fn(&Doubt<'_>) -> bool,
    /// Tables of which only the number of rows is compared.
    pub(crate) counted: &'static [&'static str],
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
            prepare: |_| {},
            answers: &[],
            look: journey::was_told,
            counted: &[],
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
                        same(name, &self.case(name, |world| run(&self, world)), &unbroken);
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
const SEEN: &[&str] = &["triage/deployment", "triage/identity", "triage/migration", "triage/rows"];
const SEEN_IN_B: &[&str] =
    &["path_b/triage/deployment", "path_b/triage/identity", "path_b/triage/migration", "path_b/triage/rows"];

matrix!(
    path_b,
    "runbooks/path-b.yaml",
    damage = "bad-migration",
    inputs = &["freeze_database=true"],
    optional = SEEN,
);
matrix!(
    restore_schema,
    "runbooks/restore.yaml",
    damage = "bad-migration",
    answers = &[("seen", &["--choose", "schema", "--reason", "a policy is gone"])],
    optional = SEEN_IN_B,
    only = &["killed", "contested"],
);
