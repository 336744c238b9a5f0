//! `postgres.restore`: decides what may be touched, keeps to it over crashes, and says success only for
//! verified bytes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use runbook_core::action::{Access, ActionError, Aftermath, Context, Effect, Preview};
use tokio::sync::{Semaphore, mpsc};

use crate::postgres::catalog::{Catalog, Held, holding, list_held};
use crate::postgres::mask::Masker;
use crate::postgres::session::{Session, connect, failed, fence, timed};
use crate::postgres::sql::{What, qualified};
use crate::s3::{Failure, Location, ObjectInfo, Tap, read};
use crate::typed::{About, Done, Typed};

use super::ahead::Choice;
use super::batch::CUTS;
use super::fault::{Stopped, dump_fault};
use super::lane::{LANES, Lane, Shared};
use super::load::{self, Loader, Tally};
use super::markers::{self, Status};
use super::params::{RestoreOutputs, RestoreParams, Skipped};
use super::phases::Phases;
use super::platform::{Decision, Ground, Profile, VERSION};
use super::proof::changed;
use super::reading::{Head, Origin};
use super::width::Width;
use super::{empty, feed, lanes, verify};

/// Chunks between the reading thread and the loader.
const QUEUE: usize = 4;
/// The advisory lock that a restore holds on its database; any number that nobody else uses.
pub(super) const LOCK: i64 = 7_236_283_640_821_776;
/// How long a restore waits for another one to be gone.
const LOCK_SECONDS: u64 = 15;
/// Text of rows that was read and is not on its way to the server yet: what all connections together may lag behind.
const ROWS_IN_FLIGHT_BYTES: usize = 48 << 20;
/// A store that takes longer for the beginning of an archive (8 MiB) gives it out about as fast as rows go in; then nothing
/// is read twice that nobody asked for.
const HEAD_TIME: Duration = Duration::from_millis(300);
/// A dump that is read twice in no time.
const SMALL_BYTES: u64 = 64 << 20;
/// Smallest and largest sensible chunk, in MiB.
const CHUNK_MIB: std::ops::RangeInclusive<u64> = 1..=256;

/// `postgres.restore`.
#[derive(Debug)]
pub struct Restore;

impl Typed for Restore {
    type Params = RestoreParams;
    type Outputs = RestoreOutputs;
    const ABOUT: About = About {
        targets: &[("into", Access::Restore)],
        permissions: &["CREATE on the database", "ownership of what it empties", "s3:GetObject"],
        has_plan: true,
        ..About::new(
            "postgres.restore",
            "Fills a database from a verified dump, exactly once, and compares what came of it.",
            Effect::Transactional,
            "- id: restore\n  uses: postgres.restore\n  with:\n    backup: \"{{ steps.backup }}\"\n    \
             into: \"{{ steps.database.connection }}\"\n    profile: supabase\n",
        )
    };

    async fn run(&self, ctx: &Context, params: RestoreParams) -> Result<Done<RestoreOutputs>, ActionError> {
        let outputs = Job::start(ctx, params).await?.run().await?;
        let masked = outputs
            .masked
            .as_ref()
            .map(|masked| format!(", {} columns masked (key {})", masked.columns.len(), masked.key_id));
        let summary = format!(
            "{} tables, {} rows, {} left out{}",
            outputs.tables,
            outputs.rows,
            outputs.skipped.len(),
            masked.unwrap_or_default()
        );
        Ok(Done::new(outputs, summary))
    }

    async fn plan(&self, ctx: &Context, params: RestoreParams) -> Result<Preview, ActionError> {
        Job::start(ctx, params).await?.preview().await
    }

    async fn fence(&self, ctx: &Context, params: RestoreParams) -> Result<u32, ActionError> {
        fence(ctx, &params.into).await
    }
}

/// One attempt, with everything known before it touches anything.
pub(super) struct Job<'a> {
    pub(super) ctx: &'a Context,
    pub(super) params: RestoreParams,
    pub(super) at: Location,
    /// sha256 of the dump, lower-case hex.
    pub(super) recorded: String,
    session: Session,
    server: i32,
    began: Instant,
    /// The beginning of an archive, when it was looked at.
    head: Option<Head>,
}

impl<'a> Job<'a> {
    async fn start(ctx: &'a Context, params: RestoreParams) -> Result<Self, ActionError> {
        let began = Instant::now();
        let url = &params.backup.url;
        let recorded = params.backup.sha256.as_deref().unwrap_or_default().to_ascii_lowercase();
        if recorded.len() != 64 || !recorded.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ActionError::refused(format!("restore `{url}`: no sha256 is recorded for it (G04)"))
                .code("unverified")
                .hint("Write its sha256 beside it as `NAME.sha256` when the backup is made."));
        }
        if params.chunk_mib.is_some_and(|mib| !CHUNK_MIB.contains(&mib)) {
            return Err(ActionError::refused("restore with such chunks: `chunk_mib` goes from 1 to 256"));
        }
        let at = Location::parse(url)?;
        let session = connect(ctx, &params.into).await?;
        let version =
            session.client.query_one("select pg_catalog.current_setting('server_version_num')", &[]);
        let version: String =
            timed(version, || format!("ask `{}` for its version", session.label)).await?.get(0);
        let server = version.parse().unwrap_or(0);
        Ok(Self { ctx, params, at, recorded, session, server, began, head: None })
    }

    fn ground<'b>(&self, before: &'b Catalog) -> Ground<'b> {
        Ground { profile: self.params.profile, before, server: self.server }
    }

    /// Long runs keep the order of the rows, which indexes are built faster from; a small dump is cut smaller, so that all
    /// connections have something to do and a kill costs little.
    fn chunk_bytes(&self, info: &ObjectInfo) -> u64 {
        let asked = self.params.chunk_mib.map(|mib| mib << 20);
        asked.unwrap_or_else(|| (info.size_bytes / 16).clamp(1 << 20, 16 << 20))
    }

    pub(super) fn source(&self) -> Option<&str> {
        self.params.backup.source.as_deref()
    }

    async fn read(&self, info: &ObjectInfo) -> Result<Tap, ActionError> {
        read(self.ctx, self.source(), &self.at, info).await
    }

    fn origin<'b>(&'b self, info: &'b ObjectInfo) -> Origin<'b> {
        Origin { ctx: self.ctx, source: self.source(), at: &self.at, info }
    }

    /// The masking that is asked for; rules and key are read, the dump is not.
    fn masking(&self, info: &ObjectInfo) -> Result<Option<Masker>, ActionError> {
        match (&self.params.mask, &self.params.mask_key) {
            (None, None) => Ok(None),
            (Some(rules), Some(key)) => Masker::new(self.ctx, rules, key, info.size_bytes).map(Some),
            _ => Err(ActionError::refused("mask the dump: `mask` and `mask_key` go together")),
        }
    }

    /// The same, with the dump looked through: foreign keys stand behind the rows that they are about.
    async fn masker(&self, info: &ObjectInfo) -> Result<Option<Masker>, ActionError> {
        let Some(mut masker) = self.masking(info)? else { return Ok(None) };
        let tap = self.read(info).await?;
        let source = tap.clone();
        let mut looking = tokio::task::spawn_blocking(move || Masker::look(source));
        let looked = tokio::select! {
            looked = &mut looking => looked,
            () = self.ctx.stop.wait() => {
                tap.cancel();
                return Err(self.unread(Failure::Cancelled));
            }
        };
        let look = looked
            .map_err(|error| ActionError::unchanged("look through the dump: its thread died").because(error))?
            .map_err(|error| dump_fault(tap.failure(), error).error);
        // Bytes that went wrong may look like a bad dump: they are judged by their hash first.
        if look.as_ref().map_or_else(|error| error.aftermath == Aftermath::Refused, |look| look.is_whole()) {
            let found = self.drain(&tap).await.map_err(|failure| self.unread(failure))?;
            if found != self.recorded {
                return Err(self.mismatch(&found));
            }
        } else {
            tap.cancel();
        }
        masker.saw(look?)?;
        Ok(Some(masker))
    }

    async fn held(&self) -> Result<Vec<Held>, ActionError> {
        let now = Catalog::read(&self.session).await?;
        holding(&self.session, |table| self.ground(&now).is_user_data(table)).await
    }

    async fn preview(&self) -> Result<Preview, ActionError> {
        let info = self.object().await?;
        let held = self.held().await?;
        if !held.is_empty() && !self.params.overwrite {
            return Err(self.not_empty(&held));
        }
        let proof = match self.proof(&info, &held) {
            "store" => "the store's own checksum equals the recorded one; it is read once",
            "first" => "it is read and hashed once before anything is touched",
            _ => "it is hashed while it is loaded; on a mismatch the target is emptied again",
        };
        let mut lines = vec![
            format!("reads {} ({} bytes): {proof}", self.at, info.size_bytes),
            format!("fills {}", self.session.label),
        ];
        if let (Some(masker), Some(rules)) = (self.masking(&info)?, &self.params.mask) {
            let key = masker.key_id();
            lines.push(format!("masks the rows on their way in by {rules} (key {key})"));
        }
        if let Some(taken_at) = self.params.backup.taken_at {
            lines.push(format!("the data is of {taken_at}"));
        }
        let destroys = (!held.is_empty()).then(|| {
            let rows: u64 = held.iter().map(|h| h.rows).sum();
            let tables = held.len();
            format!("{rows} rows in {tables} tables of {}: {}", self.session.label, list_held(&held))
        });
        Ok(Preview::Changes { lines, destroys })
    }

    fn not_empty(&self, held: &[Held]) -> ActionError {
        ActionError::refused(format!(
            "restore into `{}`: it holds data: {}",
            self.session.label,
            list_held(held)
        ))
        .code("target-not-empty")
        .hint("Restore into a fresh database, or set `overwrite: true` to lose what is there.")
    }

    async fn run(mut self) -> Result<RestoreOutputs, ActionError> {
        self.alone().await?;
        let known = markers::find(&self.session).await?;
        let mine = known.iter().find(|restore| restore.key == self.ctx.key).cloned();
        if let Some(mine) = &mine {
            self.same_dump(mine)?;
            if mine.status == Status::Done {
                return self.finished(mine);
            }
        }
        let info = self.object().await?;
        let masker = match (self.masker(&info).await, &mine) {
            (Err(error), Some(mine))
                if error.aftermath == Aftermath::Refused && mine.status == Status::Loading =>
            {
                return Err(self.take_back(mine, error).await);
            }
            (masker, _) => masker?,
        };
        let mask = masker.as_ref().map(Masker::fingerprint);
        let restore = match mine {
            Some(mine) if mine.status == Status::Loading => {
                if mine.etag != info.etag {
                    return Err(self.take_back(&mine, changed(&self.at)).await);
                }
                if mine.cuts != CUTS {
                    return Err(self.take_back(&mine, other_version(&self.at)).await);
                }
                if mine.mask != mask {
                    return Err(self.take_back(&mine, other_masking(&self.at)).await);
                }
                mine
            }
            Some(mine) => {
                // Emptying was begun by an attempt that died; what it was to lead to starts over.
                self.empty(&mine.before).await?;
                self.begin(&info, mask, Vec::new(), false).await?
            }
            None => {
                let half = known.iter().any(|restore| restore.status != Status::Done);
                let held = self.held().await?;
                if !self.params.overwrite && half {
                    return Err(ActionError::refused(format!(
                        "restore into `{}`: another restore has begun to fill it and is not done",
                        self.session.label
                    ))
                    .code("target-half-loaded")
                    .hint("Resume that run, or set `overwrite: true` to lose what it loaded."));
                }
                if !self.params.overwrite && !held.is_empty() {
                    return Err(self.not_empty(&held));
                }
                self.begin(&info, mask, held, half).await?
            }
        };
        let stopped = match self.load(&restore, &info, masker).await {
            Ok(outputs) => return Ok(outputs),
            Err(stopped) => stopped,
        };
        if stopped.spoiled {
            return Err(self.take_back(&restore, stopped.error).await);
        }
        Err(stopped.error)
    }

    /// Two restores never fill one database side by side, whatever their steps are. Waits a little: the server
    /// takes its time to notice that an attempt before this one has gone.
    async fn alone(&self) -> Result<(), ActionError> {
        let attempted = || format!("restore into `{}`: another restore is at work there", self.session.label);
        let lock = format!(
            "set lock_timeout = '{LOCK_SECONDS}s'; select pg_catalog.pg_advisory_lock({LOCK}); \
             select pg_catalog.pg_advisory_lock({LANES}); select pg_catalog.pg_advisory_unlock({LANES}); set lock_timeout = 0"
        );
        timed(self.session.client.batch_execute(&lock), attempted)
            .await
            .map_err(|error| error.code("target-busy"))
    }

    fn same_dump(&self, mine: &markers::Restore) -> Result<(), ActionError> {
        if mine.sha256 == self.recorded && mine.url == self.params.backup.url {
            return Ok(());
        }
        Err(ActionError::refused(format!(
            "go on restoring `{}` into `{}`: this step began with `{}` (sha256 {})",
            self.at, self.session.label, mine.url, mine.sha256
        ))
        .code("other-backup")
        .hint("Start a new run, with `overwrite: true` or into a fresh database."))
    }

    fn finished(&self, mine: &markers::Restore) -> Result<RestoreOutputs, ActionError> {
        let outputs = mine.outputs.clone().unwrap_or_default();
        serde_json::from_value(outputs).map_err(|error| {
            ActionError::refused(format!("read what the restore into `{}` came to", self.session.label))
                .because(error)
                .code("markers-damaged")
        })
    }

    /// Proves the bytes first where that is called for, empties a target that holds data or what another
    /// restore began (`half`), and writes the marker that says "loading".
    async fn begin(
        &mut self,
        info: &ObjectInfo,
        mask: Option<String>,
        held: Vec<Held>,
        half: bool,
    ) -> Result<markers::Restore, ActionError> {
        let proof = self.proof(info, &held);
        if proof == "first" {
            let tap = self.read(info).await?;
            let found = self.drain(&tap).await.map_err(|failure| self.unread(failure))?;
            if found != self.recorded {
                return Err(self.mismatch(&found));
            }
        }
        let mut restore = markers::Restore {
            key: self.ctx.key.clone(),
            url: self.params.backup.url.clone(),
            sha256: self.recorded.clone(),
            etag: info.etag.clone(),
            chunk_bytes: self.chunk_bytes(info),
            cuts: CUTS,
            first: Vec::new(),
            verified_by: proof.into(),
            status: Status::Emptying,
            before: Catalog::default(),
            outputs: None,
            mask,
        };
        let mut now = Catalog::read(&self.session).await?;
        if self.params.overwrite {
            let keep = self.ground(&now).keep(&now);
            if !held.is_empty() || half || now.relations.len() > keep.relations.len() {
                markers::forget(&self.session).await?;
                restore.before = keep.clone();
                markers::begin(&self.session, &restore).await?;
                self.empty(&keep).await?;
                now = Catalog::read(&self.session).await?;
            }
        }
        restore.first = self.first(info, &now).await?;
        restore.before = now;
        restore.status = Status::Loading;
        markers::begin(&self.session, &restore).await?;
        Ok(restore)
    }

    /// Which entries of an archive are read before their turn.
    async fn first(&mut self, info: &ObjectInfo, now: &Catalog) -> Result<Vec<u32>, ActionError> {
        let began = Instant::now();
        let Some(head) = self.origin(info).head().await? else { return Ok(Vec::new()) };
        let choice = Choice {
            toc: head.toc(),
            data_start: head.data_start(),
            size: info.size_bytes,
            priority: &self.priority(),
            fast: info.size_bytes < SMALL_BYTES || began.elapsed() < HEAD_TIME,
        };
        let ground = self.ground(now);
        let first = choice.ahead(|table| {
            let copy = What::Copy { table: table.to_owned() };
            ground.decide(&copy) == Decision::Run && !ground.was_there(table)
        });
        self.head = Some(head);
        Ok(first)
    }

    /// The tables that are wanted first, quoted.
    fn priority(&self) -> Vec<String> {
        self.params.priority.iter().map(|table| known_as(table)).collect()
    }

    async fn empty(&self, keep: &Catalog) -> Result<(), ActionError> {
        empty::empty(&self.session, &self.ground(keep), keep).await
    }

    async fn load(
        &mut self,
        restore: &markers::Restore,
        info: &ObjectInfo,
        masker: Option<Masker>,
    ) -> Result<RestoreOutputs, Stopped> {
        let rest = load::find(&self.session, &restore.key).await?;
        let (reading, meter) = match &rest {
            Some(_) => (None, self.origin(info).was_read()),
            None => {
                let head = match self.head.take() {
                    None if !restore.first.is_empty() => self.origin(info).head().await?,
                    head => head,
                };
                let (reading, meter) = self.origin(info).reading(head, &restore.first).await?;
                (Some(reading), meter)
            }
        };
        let there = markers::chunks(&self.session, &restore.key).await?;
        let lanes = lanes::open(self.ctx, &self.session, &self.params.into, self.params.jobs).await?;
        let width = Width::new(lanes.len(), self.params.jobs.is_some());
        let shared = Shared {
            ctx: self.ctx,
            ground: self.ground(&restore.before),
            masker,
            replica: self.may_replicate().await?,
        };
        let (send, items) = mpsc::channel(QUEUE);
        let chunk_bytes = usize::try_from(restore.chunk_bytes).unwrap_or(8 << 20);
        let memory = Arc::new(Semaphore::new(ROWS_IN_FLIGHT_BYTES));
        let (bound, runtime) = (Arc::clone(&memory), tokio::runtime::Handle::current());
        let reader = tokio::task::spawn_blocking(move || {
            if let Some(reading) = reading {
                feed::feed(reading, chunk_bytes, send, bound, runtime);
            }
        });
        let mut loader = Loader::new(&shared, &self.session, meter.clone(), width, self.priority());
        loader.tally.phases = Phases::since(self.began);
        if !shared.replica && !restore.before.relations.is_empty() {
            let left = Skipped {
                object: "turning triggers off".into(),
                reason: "the role may not: rows of the platform's tables go in under them".into(),
            };
            loader.tally.skipped.insert(left);
        }
        // What is kept already is not kept again, and masked rows are hashed anew by every attempt.
        let keeps = rest.is_none() && shared.masker.is_none();
        if let Some(rest) = rest {
            loader.take_up(rest, &there)?;
        }
        let proof = keeps.then(|| self.prove(&meter).boxed());
        let loaded = loader.run(items, there, lanes, proof).await;
        let tally = loader.tally;
        // A reader that waits for memory has nobody left to wait for.
        memory.close();
        let masker = shared.masker;
        reader
            .await
            .map_err(|error| ActionError::unchanged("read the dump: its thread died").because(error))?;
        let loaded = match loaded {
            Ok(_) if !tally.complete => {
                let error =
                    ActionError::refused(format!("restore `{}`: it does not say that it is whole", self.at));
                Err(Stopped { error: error.code("cut-off"), spoiled: true })
            }
            other => other,
        };
        // Bytes that went wrong may look like bad SQL: they are judged by their hash before by their text.
        let suspect = match &loaded {
            _ if tally.proven => false,
            Ok(_) => true,
            // A store that vouches for what it took in may still hand out something else.
            Err(stopped) => stopped.spoiled || stopped.error.aftermath == Aftermath::Refused,
        };
        if suspect && let Err(stopped) = self.prove(&meter).await {
            if !stopped.spoiled {
                drop(loaded?);
            }
            return Err(stopped);
        }
        self.conclude(restore, info, tally, masker, &loaded?).await.map_err(Stopped::from)
    }

    /// Whether triggers and foreign keys can be off while rows go into a table that the platform made;
    /// where they cannot, its rows go in under them.
    async fn may_replicate(&self) -> Result<bool, ActionError> {
        let client = &self.session.client;
        let may = client.batch_execute("begin; set local session_replication_role = replica").await.is_ok();
        let back = timed(client.batch_execute("rollback"), || format!("set up `{}`", self.session.label));
        back.await.map(|()| may)
    }

    /// Compares, then makes the outputs durable in the target.
    async fn conclude(
        &self,
        restore: &markers::Restore,
        info: &ObjectInfo,
        tally: Tally,
        masker: Option<Masker>,
        lanes: &[Lane],
    ) -> Result<RestoreOutputs, ActionError> {
        let label = &self.session.label;
        let reset = "reset all; set statement_timeout = 0; set row_security = off";
        let reset = self.session.client.batch_execute(reset).await;
        reset.map_err(|error| failed(format!("set up `{label}`"), error))?;
        for lane in lanes {
            lane.reset().await?;
        }
        verify::compare(&self.session, lanes, &tally.expected, &restore.before, &tally.rows).await?;
        // Before the outputs are durable: they name the file.
        let masked = masker.map(|masker| masker.finish(&self.ctx.artifacts)).transpose()?;
        let tables = tally.expected.table_count().max(tally.rows.len());
        let outputs = RestoreOutputs {
            connection: self.params.into.clone(),
            tables: tables as u64,
            rows: tally.rows.values().sum(),
            bytes: info.size_bytes,
            statements: tally.statements,
            skipped: tally.skipped.into_iter().collect(),
            profile_version: if self.params.profile == Profile::Supabase {
                VERSION.into()
            } else {
                "plain".into()
            },
            taken_at: self.params.backup.taken_at,
            seconds: self.began.elapsed().as_secs_f64(),
            phases: tally.phases.verified(),
            verified_by: restore.verified_by.clone(),
            masked,
        };
        let json = serde_json::to_value(&outputs)
            .map_err(|error| ActionError::refused("write down the outputs of the restore").because(error))?;
        markers::finish(&self.session, &restore.key, &json).await?;
        Ok(outputs)
    }

    /// Removes what was loaded and gives the error that made it necessary. What cannot be removed now is
    /// marked, and removed by the next attempt before it does anything else.
    async fn take_back(&self, restore: &markers::Restore, error: ActionError) -> ActionError {
        let removed = async {
            // The session may be lost, or in a state that the dump left it in; what it holds open would be
            // waited for.
            if let Err(error) = self.session.client.batch_execute("rollback").await {
                tracing::debug!(%error, "the loading session is lost");
            }
            let session = connect(self.ctx, &self.params.into).await?;
            markers::set_status(&session, &restore.key, Status::Emptying).await?;
            empty::empty(&session, &self.ground(&restore.before), &restore.before).await?;
            markers::forget(&session).await
        };
        let loaded = match removed.await {
            Ok(()) => "What had been loaded was removed; the target is as it was before.".to_owned(),
            Err(left) => format!(
                "What had been loaded is still in the target: could not {left}. Nothing may use it; the next attempt removes it first."
            ),
        };
        let hint = error.hint.as_ref().map_or_else(|| loaded.clone(), |hint| format!("{hint} {loaded}"));
        error.hint(hint)
    }
}

/// A table as a person writes it, `public.orders`, as it is known by.
fn known_as(table: &str) -> String {
    let (schema, name) = table.split_once('.').unwrap_or(("public", table));
    qualified(schema, name)
}

fn other_masking(at: &Location) -> ActionError {
    ActionError::refused(format!(
        "go on restoring `{at}`: it was begun with another masking key or other rules"
    ))
    .code("mask-changed")
    .hint("Run the step again: it starts over with these.")
}

fn other_version(at: &Location) -> ActionError {
    ActionError::refused(format!(
        "go on restoring `{at}`: another version of this program began it, and cuts dumps at other places"
    ))
    .code("other-version")
    .hint("Run the step again: it starts over.")
}
