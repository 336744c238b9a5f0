//! Masks what a restore loads: rows reach the target masked, and the hashes of what they were are kept. A resumed
//! restore reads the whole dump again and so hashes every row again, also those that are in the target already.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use bytes::Bytes;
use runbook_core::action::{ActionError, Context};
use runbook_core::secret::SecretText;
use sha2::{Digest as _, Sha256};

use super::columns;
use super::copy::{RowError, decode, encode, fields};
use super::keys::Keys;
use super::output::Masked;
use super::plan::{Op, Place, Plan, TablePlan, decide};
use super::rules::{self, Rules};
use super::scan::{Scanned, copy_columns, scan};
use super::taint::Taint;
use super::value::{apply, sources};
use crate::postgres::session::Session;
use crate::postgres::sql::plain;
use crate::postgres::words::{Token, Words};
use crate::s3::Tap;

/// Masks the rows of one restore.
pub(in crate::postgres) struct Masker {
    rules: Rules,
    keys: Arc<Keys>,
    scanned: Scanned,
    plan: OnceLock<Arc<Plan>>,
    taint: Arc<Mutex<Taint>>,
}

impl Masker {
    /// Reads rules and key. `bytes` is the size of the dump.
    pub(in crate::postgres) fn new(
        ctx: &Context,
        file: &str,
        key: &SecretText,
        bytes: u64,
    ) -> Result<Self, ActionError> {
        let rules = rules::load(ctx, file)?;
        let keys = Keys::reveal(ctx, key)?;
        let taint = Arc::new(Mutex::new(Taint::new(&keys, bytes)));
        Ok(Self { rules, keys: Arc::new(keys), scanned: Scanned::default(), plan: OnceLock::new(), taint })
    }

    /// The name of the key.
    pub(in crate::postgres) fn key_id(&self) -> &str {
        &self.rules.key_id
    }

    /// What decides how a value is masked: a restore that was begun with other rules cannot go on with these.
    pub(in crate::postgres) fn fingerprint(&self) -> String {
        let parts = [&self.rules.sha256, self.rules.defaults, &self.rules.key_id, &self.keys.check];
        hex::encode(Sha256::digest(parts.join("\n").as_bytes()))
    }

    /// Looks through the dump. Blocks.
    pub(in crate::postgres) fn look(tap: Tap) -> Result<Look, runbook_dump::DumpError> {
        scan(tap).map(Look)
    }

    /// Takes what the look found; refuses a dump whose rows cannot be masked on their way in.
    pub(in crate::postgres) fn saw(&mut self, look: Look) -> Result<(), ActionError> {
        self.scanned = look.0;
        match &self.scanned.inserts {
            Some(table) => Err(self.inserts(table)),
            None => Ok(()),
        }
    }

    fn inserts(&self, table: &str) -> ActionError {
        ActionError::refused(format!(
            "mask the rows of {}: the dump holds them as INSERT, and only COPY is masked on the way in",
            plain(table)
        ))
        .code("mask-inserts")
        .hint("Make the dump without `--inserts`, `--column-inserts` and `--rows-per-insert`.")
    }

    /// Finds a rule for each column, once the dump's tables are in the target and before any row is.
    pub(in crate::postgres) async fn settle(
        &self,
        session: &Session,
        is_loaded: impl Fn(&str) -> bool,
    ) -> Result<(), ActionError> {
        if self.plan.get().is_some() {
            return Ok(());
        }
        let tables = columns::read(session, "rp").await?;
        let mut references = columns::references(session).await?;
        references.extend(self.scanned.references.iter().cloned());
        let wanted: BTreeSet<String> =
            self.scanned.tables.iter().filter(|table| is_loaded(table)).cloned().collect();
        let plan = decide(&self.rules, &tables, &references, &wanted, Place::Stream)?;
        self.plan.get_or_init(|| Arc::new(plan));
        Ok(())
    }

    /// Whether the rows of a table are left out.
    pub(in crate::postgres) fn drops(&self, table: &str) -> bool {
        self.plan.get().is_some_and(|plan| plan.tables.get(table) == Some(&TablePlan::Dropped))
    }

    /// Whether large objects are loaded; refuses where the rules do not say.
    pub(in crate::postgres) fn keeps_large_objects(&self) -> Result<bool, ActionError> {
        self.rules.large_objects.ok_or_else(|| {
            ActionError::refused(
                "mask: the dump holds large objects, and the rules do not say what becomes of them",
            )
            .code("unclassified")
            .hint("Add `large_objects: drop` to the rules, or `keep`: nothing looks into them.")
        })
    }

    /// Masks rows of a COPY and remembers what they were; with `write` false it only remembers.
    pub(in crate::postgres) async fn rows(
        &self,
        copy: &str,
        table: &str,
        data: Bytes,
        write: bool,
    ) -> Result<Bytes, ActionError> {
        let attempted = || format!("mask rows of {}", plain(table));
        let plan = self.plan.get().cloned().unwrap_or_default();
        let ops = match plan.tables.get(table) {
            Some(TablePlan::Masked(ops)) => ops.clone(),
            _ => {
                return Err(ActionError::refused(format!(
                    "{}: no rule was found for the table",
                    attempted()
                ))
                .code("unclassified"));
            }
        };
        if ops.is_empty() {
            return Ok(data);
        }
        let listed = copy_columns(copy).ok_or_else(|| {
            ActionError::refused(format!("{}: its COPY has options, or lists no columns", attempted()))
                .code("dump-malformed")
        })?;
        let line = Line::new(&listed, ops);
        let (keys, taint) = (self.keys.clone(), self.taint.clone());
        let masked = tokio::task::spawn_blocking(move || line.rows(&keys, &taint, &data, write));
        masked
            .await
            .map_err(|error| {
                ActionError::unchanged(format!("{}: its thread died", attempted())).because(error)
            })?
            .map_err(|(row, error)| {
                ActionError::refused(format!("{}: row {row} of a chunk", attempted()))
                    .because(error)
                    .code("dump-malformed")
            })
    }

    /// Writes the hashes down, and says what was done.
    pub(in crate::postgres) fn finish(&self, artifacts: &Path) -> Result<Masked, ActionError> {
        let taint = self.taint.lock().unwrap_or_else(PoisonError::into_inner);
        let plan = self.plan.get().cloned().unwrap_or_default();
        Ok(describe(&self.rules, &self.keys, &plan, taint.save(artifacts)?))
    }
}

/// What a step says that masked.
pub(super) fn describe(rules: &Rules, keys: &Keys, plan: &Plan, taint: super::output::TaintFile) -> Masked {
    Masked {
        key_id: rules.key_id.clone(),
        key_check: keys.check.clone(),
        rules_sha256: rules.sha256.clone(),
        defaults: rules.defaults.to_owned(),
        columns: plan.columns(),
        dropped: plan.dropped(),
        taint,
    }
}

/// What a look through a dump found.
#[derive(Debug)]
pub(in crate::postgres) struct Look(Scanned);

impl Look {
    /// A plain dump was read to its end; of an archive the beginning is enough.
    pub(in crate::postgres) fn is_whole(&self) -> bool {
        self.0.is_whole
    }
}

/// The fields of a COPY's lines that change.
struct Line {
    fields: Vec<Option<Op>>,
}

impl Line {
    fn new(listed: &[String], ops: Vec<Op>) -> Self {
        let of = |name: &String| ops.iter().find(|op| op.column == *name).cloned();
        Self { fields: listed.iter().map(of).collect() }
    }

    fn rows(
        &self,
        keys: &Keys,
        taint: &Mutex<Taint>,
        data: &[u8],
        write: bool,
    ) -> Result<Bytes, (usize, RowError)> {
        let mut taint = taint.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = Vec::with_capacity(if write { data.len() } else { 0 });
        for (at, line) in data.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let line = line.strip_suffix(b"\n").unwrap_or(line);
            self.row(keys, &mut taint, line, write, &mut out).map_err(|error| (at + 1, error))?;
        }
        Ok(out.into())
    }

    fn row(
        &self,
        keys: &Keys,
        taint: &mut Taint,
        line: &[u8],
        write: bool,
        out: &mut Vec<u8>,
    ) -> Result<(), RowError> {
        let mut count = 0;
        for field in fields(line) {
            if write && count > 0 {
                out.push(b'\t');
            }
            match self.fields.get(count).and_then(Option::as_ref).zip(decode(field)) {
                Some((op, value)) => {
                    let encoding = |_| RowError::Encoding { column: op.column.clone() };
                    let shape = |_| RowError::Shape { column: op.column.clone() };
                    let value = std::str::from_utf8(&value).map_err(encoding)?;
                    sources(&op.rule, &op.kind, value, &mut |source| taint.add(source)).map_err(shape)?;
                    if write {
                        let made = apply(&keys.pseudonym, &op.rule, &op.kind, value).map_err(shape)?;
                        encode(made.as_deref(), out);
                    }
                }
                None if write => out.extend_from_slice(field),
                None => {}
            }
            count += 1;
        }
        if write {
            out.push(b'\n');
        }
        let wanted = self.fields.len();
        if count == wanted { Ok(()) } else { Err(RowError::Fields { found: count, wanted }) }
    }
}

/// Whether a statement restores statistics (PostgreSQL 18), which quote values of columns.
pub(in crate::postgres) fn is_statistics(sql: &str) -> bool {
    let mut words = Words::new(sql).take(8);
    matches!(words.next(), Some(Token::Word(word)) if word == "select")
        && words.any(|token| {
            matches!(token, Token::Word(word) if word.starts_with("pg_restore_") && word.ends_with("_stats"))
        })
}
