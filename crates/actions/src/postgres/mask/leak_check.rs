//! `postgres.leak_check`: proves that nothing of what masking replaced is left in a database. Reads every column that
//! can hold it, in one snapshot; says tables, columns and numbers, never a value.

use std::collections::{BTreeMap, BTreeSet};

use futures_util::StreamExt as _;
use runbook_core::action::{Access, ActionError, Context, Effect, Preview, Progress};
use runbook_core::secret::SecretText;
use runbook_core::types::Connection;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::columns::{self, Column, Kind};
use super::copy::{decode, fields};
use super::detect::{Finding, shapes};
use super::keys::Keys;
use super::output::Masked;
use super::rules::{self, Rules};
use super::taint::Taint;
use super::value::texts;
use crate::postgres::session::{Session, connect, failed, timed};
use crate::postgres::sql::{plain, quoted};
use crate::typed::{About, Done, Typed};

/// Findings named in an error.
const NAMED_MAX: usize = 20;
/// Rows between two pieces of news.
const NEWS_ROWS: u64 = 20_000;
/// A shorter canary would be found everywhere.
const CANARY_CHARS_MIN: usize = 4;

/// Parameters of `postgres.leak_check`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeakCheckParams {
    /// The database to search.
    pub connection: Connection,
    /// The rules that it was masked by: their `canaries` are searched for, their `allow` is kept to.
    pub rules: String,
    /// The key that it was masked with.
    pub key: SecretText,
    /// How it was masked: `masked` of `postgres.restore` or of `postgres.mask`.
    pub masked: Masked,
    /// More values that must not be there, each a secret.
    #[serde(default)]
    pub canaries: Vec<SecretText>,
}

/// Outputs of `postgres.leak_check`.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub struct LeakCheckOutputs {
    /// Tables and materialized views that were read.
    pub tables: u64,
    /// Columns that were searched.
    pub columns: u64,
    /// Rows that were read.
    pub rows: u64,
    /// Values that looked like a leak and are allowed by the rules.
    pub allowed: u64,
    /// Source values that were searched for.
    pub values: u64,
    /// How often an innocent value would be taken for a source value.
    pub false_positive_rate: f64,
    /// Tables that the role may not read, and so were not searched.
    pub unread: Vec<String>,
}

/// `postgres.leak_check`.
#[derive(Debug)]
pub struct LeakCheck;

impl Typed for LeakCheck {
    type Params = LeakCheckParams;
    type Outputs = LeakCheckOutputs;
    const ABOUT: About = About {
        targets: &[("connection", Access::Read)],
        permissions: &["SELECT on what was masked"],
        has_plan: true,
        ..About::new(
            "postgres.leak_check",
            "Searches a masked database for what masking replaced, and fails by table, column and number.",
            Effect::Read,
            "- id: leaks\n  uses: postgres.leak_check\n  with:\n    connection: \"{{ steps.database.connection }}\"\n    \
             rules: ../examples/polaris/masking.yaml\n    key: \"{{ secrets.masking_key }}\"\n    \
             masked: \"{{ steps.restore.masked }}\"\n",
        )
    };

    async fn run(
        &self,
        ctx: &Context,
        params: LeakCheckParams,
    ) -> Result<Done<LeakCheckOutputs>, ActionError> {
        let rules = rules::load(ctx, &params.rules)?;
        let keys = Keys::reveal(ctx, &params.key)?;
        if keys.check != params.masked.key_check {
            return Err(ActionError::refused(format!(
                "search for leaks: this is not the key `{}` that it was masked with",
                params.masked.key_id
            ))
            .code("mask-key"));
        }
        let taint = Taint::load(&params.masked.taint, &keys)?;
        let canaries = canaries(ctx, &rules, &params.canaries)?;
        let session = connect(ctx, &params.connection).await?;
        let mut search = Search {
            ctx,
            session: &session,
            taint,
            canaries,
            rules: &rules,
            found: BTreeMap::new(),
            allowed: 0,
        };
        let outputs = search.run(&params.masked).await?;
        let unread = match outputs.unread.len() {
            0 => String::new(),
            n => format!(", {n} tables could not be read"),
        };
        let summary = format!(
            "nothing of {} source values in {} columns of {} tables, {} rows{unread}",
            outputs.values, outputs.columns, outputs.tables, outputs.rows
        );
        Ok(Done::new(outputs, summary))
    }

    async fn plan(&self, ctx: &Context, params: LeakCheckParams) -> Result<Preview, ActionError> {
        rules::load(ctx, &params.rules)?;
        let label = params.connection.label();
        Ok(Preview::Changes { lines: vec![format!("reads every table of {label}")], destroys: None })
    }
}

fn canaries(ctx: &Context, rules: &Rules, more: &[SecretText]) -> Result<Vec<String>, ActionError> {
    let mut all: Vec<String> = rules.canaries.iter().map(|text| text.trim().to_lowercase()).collect();
    for secret in more {
        let value = ctx.secrets.reveal(secret)?.expose().trim().to_lowercase();
        if value.chars().count() < CANARY_CHARS_MIN {
            return Err(ActionError::refused(format!(
                "search for a canary of less than {CANARY_CHARS_MIN} characters"
            )));
        }
        all.push(value);
    }
    Ok(all)
}

struct Search<'a> {
    ctx: &'a Context,
    session: &'a Session,
    taint: Taint,
    /// In lower case.
    canaries: Vec<String>,
    rules: &'a Rules,
    /// Numbers by place.
    found: BTreeMap<(String, Finding), u64>,
    allowed: u64,
}

impl Search<'_> {
    fn attempted(&self) -> String {
        format!("search `{}` for leaks", self.session.label)
    }

    async fn run(&mut self, masked: &Masked) -> Result<LeakCheckOutputs, ActionError> {
        // A row that a policy hides is there all the same: rather an error.
        let begin = "set statement_timeout = 0; set row_security = off; \
                     begin transaction isolation level repeatable read read only";
        timed(self.session.client.batch_execute(begin), || self.attempted()).await?;
        let (readable, unread) = self.readable().await?;
        let unread: Vec<String> = unread.iter().map(|table| plain(table)).collect();
        let lost = unread.iter().find(|table| {
            let start = format!("{table}.");
            masked.columns.iter().any(|column| column.starts_with(&start))
        });
        if let Some(table) = lost {
            return Err(ActionError::refused(format!(
                "{}: {table} was masked and may not be read",
                self.attempted()
            )));
        }
        let (mut columns, mut rows) = (0, 0);
        for (table, (of_table, is_table)) in &readable {
            columns += of_table.len() as u64;
            rows += self.table(table, of_table, *is_table).await?;
        }
        self.statistics().await?;
        self.words_of_the_schema().await?;
        timed(self.session.client.batch_execute("rollback"), || self.attempted()).await?;
        if !self.found.is_empty() {
            return Err(self.leak());
        }
        Ok(LeakCheckOutputs {
            tables: readable.len() as u64,
            columns,
            rows,
            allowed: self.allowed,
            values: masked.taint.values,
            false_positive_rate: self.taint.false_positive_rate(),
            unread,
        })
    }

    fn leak(&self) -> ActionError {
        let mut all: Vec<String> = self
            .found
            .iter()
            .map(|((place, finding), count)| format!("{place}: {count} values {}", finding.words()))
            .collect();
        let more = all.len().saturating_sub(NAMED_MAX);
        all.truncate(NAMED_MAX);
        if more > 0 {
            all.push(format!("and {more} more"));
        }
        ActionError::refused(format!("find `{}` masked: {}", self.session.label, all.join("; ")))
            .code("leak")
            .hint(
                "Mask the column, or allow what is right there: `allow: { schema.table.column: [taint] }` in the \
                 rules. Then restore again.",
            )
    }

    /// Tables and materialized views with the columns that are searched, and those that may not be read.
    async fn readable(
        &self,
    ) -> Result<(BTreeMap<String, (Vec<Column>, bool)>, BTreeSet<String>), ActionError> {
        let may = self.session.client.query(
            "select n.nspname, c.relname, c.relkind = 'r' from pg_catalog.pg_class c \
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
             where c.relkind in ('r', 'm') and pg_catalog.has_table_privilege(c.oid, 'select') \
               and pg_catalog.has_schema_privilege(n.oid, 'usage')",
            &[],
        );
        let may: BTreeMap<String, bool> = timed(may, || self.attempted())
            .await?
            .iter()
            .map(|row| (crate::postgres::sql::qualified(row.get(0), row.get(1)), row.get(2)))
            .collect();
        let (mut readable, mut unread) = (BTreeMap::new(), BTreeSet::new());
        for (table, columns) in columns::read(self.session, "rm").await? {
            match may.get(&table) {
                Some(is_table) => {
                    let searched = columns.into_iter().filter(|column| column.searched).collect();
                    readable.insert(table, (searched, *is_table));
                }
                None => {
                    unread.insert(table);
                }
            }
        }
        Ok((readable, unread))
    }

    async fn table(&mut self, table: &str, columns: &[Column], is_table: bool) -> Result<u64, ActionError> {
        if columns.is_empty() {
            return Ok(0);
        }
        let attempted = || format!("search {} for leaks", plain(table));
        let names: Vec<_> = columns.iter().map(|column| format!("{}::text", quoted(&column.name))).collect();
        // Whoever inherits is read by itself.
        let only = if is_table { "only " } else { "" };
        let sql = format!("copy (select {} from {only}{table}) to stdout", names.join(", "));
        let stream = self.session.client.copy_out(&*sql).await.map_err(|error| failed(attempted(), error))?;
        futures_util::pin_mut!(stream);
        let places: Vec<String> =
            columns.iter().map(|column| format!("{}.{}", plain(table), plain(&column.name))).collect();
        let (mut rows, mut open) = (0, Vec::new());
        while let Some(piece) = stream.next().await {
            open.extend_from_slice(&piece.map_err(|error| failed(attempted(), error))?);
            let Some(end) = memchr::memrchr(b'\n', &open) else { continue };
            for line in open[..end].split(|byte| *byte == b'\n') {
                for ((field, column), place) in fields(line).zip(columns).zip(&places) {
                    if let Some(value) = decode(field) {
                        self.value(place, &column.kind, &String::from_utf8_lossy(&value));
                    }
                }
                rows += 1;
                if rows % NEWS_ROWS == 0 {
                    let message = plain(table);
                    self.ctx.progress.report(Progress { done: rows, total: None, unit: "rows", message });
                    if self.ctx.stop.requested() {
                        return Err(ActionError::unchanged(format!("{}: a stop was asked for", attempted()))
                            .code("stopped"));
                    }
                }
            }
            open.drain(..=end);
        }
        Ok(rows)
    }

    /// One value; counts each kind of finding in it once.
    fn value(&mut self, place: &str, kind: &Kind, value: &str) {
        let mut found = BTreeSet::new();
        let is_text = kind.is_text_like();
        texts(kind, value, &mut |text| {
            if self.taint.is_in(text) {
                found.insert(Finding::Taint);
            }
            if is_text {
                found.extend(shapes(text));
            }
        });
        self.canary(value, &mut found);
        self.count(place, found);
    }

    fn canary(&self, text: &str, found: &mut BTreeSet<Finding>) {
        if !self.canaries.is_empty() {
            let lower = text.to_lowercase();
            if self.canaries.iter().any(|canary| lower.contains(canary)) {
                found.insert(Finding::Canary);
            }
        }
    }

    fn count(&mut self, place: &str, found: BTreeSet<Finding>) {
        let column = place.split(" (").next().unwrap_or(place);
        let allowed = self.rules.allow.get(column);
        for finding in found {
            if allowed.is_some_and(|allowed| allowed.contains(&finding)) {
                self.allowed += 1;
            } else {
                *self.found.entry((place.to_owned(), finding)).or_default() += 1;
            }
        }
    }

    /// The planner's statistics quote values, also such as are gone from the table.
    async fn statistics(&mut self) -> Result<(), ActionError> {
        let asked = self.session.client.query(
            "select schemaname || '.' || tablename || '.' || attname, most_common_vals::text, \
               histogram_bounds::text, most_common_elems::text from pg_catalog.pg_stats \
             where schemaname !~ '^pg_' and schemaname not in ('information_schema', '_runbook')",
            &[],
        );
        let array = Kind::Array(Box::new(Kind::Text(None)));
        for row in timed(asked, || self.attempted()).await? {
            let place = format!("{} (statistics)", plain(row.get(0)));
            for at in 1..=3 {
                if let Some(values) = row.get::<_, Option<&str>>(at) {
                    let mut each = Vec::new();
                    texts(&array, values, &mut |text| each.push(text.to_owned()));
                    for text in each {
                        let mut found = BTreeSet::new();
                        if self.taint.is_in(&text) {
                            found.insert(Finding::Taint);
                        }
                        self.canary(&text, &mut found);
                        self.count(&place, found);
                    }
                }
            }
        }
        Ok(())
    }

    /// Comments and the labels of enums are data of a kind too.
    async fn words_of_the_schema(&mut self) -> Result<(), ActionError> {
        let asked = self.session.client.query(
            "select n.nspname || '.' || c.relname, d.description from pg_catalog.pg_description d \
             join pg_catalog.pg_class c on c.oid = d.objoid and d.classoid = 'pg_class'::regclass \
             join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
             where n.nspname !~ '^pg_' and n.nspname not in ('information_schema', '_runbook') \
             union all \
             select n.nspname || '.' || t.typname, e.enumlabel from pg_catalog.pg_enum e \
             join pg_catalog.pg_type t on t.oid = e.enumtypid \
             join pg_catalog.pg_namespace n on n.oid = t.typnamespace",
            &[],
        );
        for row in timed(asked, || self.attempted()).await? {
            let text: String = row.get(1);
            let mut found = BTreeSet::new();
            if self.taint.is_in(&text) {
                found.insert(Finding::Taint);
            }
            self.canary(&text, &mut found);
            self.count(&format!("{} (comments and labels)", plain(row.get(0))), found);
        }
        Ok(())
    }
}
