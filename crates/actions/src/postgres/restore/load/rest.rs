//! What is left of a restore when its dump was read to the end and all rows are in: statements. Kept in the target, so
//! that a resume needs the dump no more. Written once, after the bytes were proven; what is done of it, the markers say.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use futures_util::future::BoxFuture;
use runbook_core::action::ActionError;
use serde::{Deserialize, Serialize};

use crate::postgres::catalog::MARKERS;
use crate::postgres::session::{Session, timed};
use crate::postgres::sql::{What, literal};

use super::super::batch::Line;
use super::super::fault::Stopped;
use super::super::lane::Load;
use super::super::locks::Needs;
use super::super::markers;
use super::super::params::Skipped;
use super::super::pass::same;
use super::super::phases::Phase;
use super::super::verify::Expected;
use super::{Loader, Part, Tally};

/// A rest with more text than this is not kept, since a slow connection would not take it in time: the dump is read again.
const TEXT_BYTES_MAX: usize = 4 << 20;

/// Everything that a restore has to know once its rows are in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(in super::super) struct Rest {
    /// The dump's settings.
    pub(super) settings: Vec<String>,
    /// What was not done yet, in its order.
    pub(super) parts: Vec<Left>,
    /// What the whole dump said would be there.
    pub(super) expected: Expected,
    /// All tables that the dump has rows for, if only none, quoted.
    pub(super) tables: BTreeSet<String>,
    pub(super) statements: u64,
    pub(super) skipped: BTreeSet<Skipped>,
}

/// A part of a restore that is statements and nothing else.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Left {
    pub(super) seq: u64,
    pub(super) lines: Arc<[Line]>,
    pub(super) made: markers::Chunk,
    /// How many of the settings hold for it.
    pub(super) settings: usize,
    pub(super) phase: Phase,
    pub(super) needs: Needs,
    pub(super) weight: u64,
}

impl Rest {
    /// Its text; none when that is too long to be kept.
    fn text(&self) -> Option<String> {
        let sql: usize =
            self.parts.iter().flat_map(|part| part.lines.iter()).map(|line| line.sql.len()).sum();
        if sql > TEXT_BYTES_MAX {
            return None;
        }
        serde_json::to_string(self).ok().filter(|text| text.len() <= 2 * TEXT_BYTES_MAX)
    }
}

impl Part {
    /// As it can be kept; none for what is not statements.
    pub(super) fn left(&self, needs: &Needs, weight: u64) -> Option<Left> {
        let Self { seq, load: Load::Lines(lines), made, settings, phase, .. } = self else { return None };
        let (seq, settings, phase) = (*seq, *settings, *phase);
        Some(Left {
            seq,
            lines: Arc::clone(lines),
            made: made.clone(),
            settings,
            phase,
            needs: needs.clone(),
            weight,
        })
    }
}

impl Loader<'_> {
    /// Takes up what is left of a dump that was read to its end by an earlier attempt.
    pub(in super::super) fn take_up(
        &mut self,
        rest: Rest,
        there: &BTreeMap<u64, markers::Chunk>,
    ) -> Result<(), Stopped> {
        let Rest { settings, parts, expected, tables, statements, skipped } = rest;
        self.settings = settings;
        self.tally.expected = expected;
        self.tally.rows = tables.into_iter().map(|table| (table, 0)).collect();
        self.tally.statements = statements;
        self.tally.skipped.extend(skipped);
        self.tally.complete = true;
        for Left { seq, lines, made, settings, phase, needs, weight } in parts {
            if let Some(marked) = there.get(&seq) {
                same(seq, &marked.sum, &made.sum)?;
                self.forget(&lines, marked);
            } else {
                let from = self.meter.bytes_read();
                let part = Part { seq, load: Load::Lines(lines), made, settings, phase, from };
                self.queue.push(needs, weight, part);
            }
        }
        Ok(())
    }

    /// What is left, when everything was read and all rows are in.
    pub(super) fn rest(&self) -> Option<Rest> {
        let mut parts = Vec::new();
        for under_way in &self.under_way {
            parts.push(under_way.left.clone()?);
        }
        for (part, needs, weight) in self.queue.parts() {
            parts.push(part.left(needs, weight)?);
        }
        let Tally { rows, statements, skipped, expected, complete, .. } = &self.tally;
        let is_data = |line: &Line| matches!(line.what, What::Insert { .. } | What::LargeObject);
        if !complete || parts.is_empty() || parts.iter().any(|part| part.lines.iter().any(is_data)) {
            return None;
        }
        Some(Rest {
            settings: self.settings.clone(),
            parts,
            expected: expected.clone(),
            tables: rows.keys().cloned().collect(),
            statements: *statements,
            skipped: skipped.clone(),
        })
    }

    /// Keeps what is left, after the bytes that it comes from were proven.
    pub(super) async fn keep(
        &mut self,
        rest: Rest,
        proof: BoxFuture<'_, Result<(), Stopped>>,
    ) -> Result<(), Stopped> {
        proof.await?;
        self.tally.proven = true;
        Ok(keep(self.session, &self.shared.ctx.key, &rest).await?)
    }
}

/// Keeps it in the target, durably, and with it all that is there.
async fn keep(session: &Session, key: &str, rest: &Rest) -> Result<(), ActionError> {
    let Some(text) = rest.text() else { return Ok(()) };
    let key = literal(key);
    let sql = format!(
        "begin; set local synchronous_commit = on; \
         create table if not exists {MARKERS}.rests (step_key text primary key, rest text not null); \
         delete from {MARKERS}.rests where step_key = {key}; \
         insert into {MARKERS}.rests (step_key, rest) values ({key}, {}); commit",
        literal(&text)
    );
    let attempted = || format!("keep in `{}` what is left to do", session.label);
    timed(session.client.batch_execute(&sql), attempted).await
}

/// What is kept. None as well where another version of this program wrote it in its own way: then the dump is read again.
pub(in super::super) async fn find(session: &Session, key: &str) -> Result<Option<Rest>, ActionError> {
    let attempted = || format!("read from `{}` what is left to do", session.label);
    let there = format!("select pg_catalog.to_regclass('{MARKERS}.rests') is not null");
    if !timed(session.client.query_one(&there, &[]), attempted).await?.get::<_, bool>(0) {
        return Ok(None);
    }
    let kept = format!("select rest from {MARKERS}.rests where step_key = $1");
    let Some(row) = timed(session.client.query_opt(&kept, &[&key]), attempted).await? else {
        return Ok(None);
    };
    Ok(serde_json::from_str(row.get(0))
        .inspect_err(|error| tracing::debug!(%error, "what is left of the restore cannot be read: the dump is read again"))
        .ok())
}

#[cfg(test)]
mod tests {
    use super::super::super::locks::Mode;
    use super::*;

    #[test]
    fn what_is_left_is_read_as_it_was_written_unless_it_is_too_long() {
        let line = |sql: String, what| Line { sql, line: 7, object: Some("INDEX i".into()), what };
        let made = [
            "CREATE INDEX \"i'\\x\" ON public.t USING gin (a)",
            "CREATE MATERIALIZED VIEW public.m AS SELECT 1",
            "ALTER TABLE ONLY public.t ADD CONSTRAINT k PRIMARY KEY (id)",
            "GRANT SELECT ON TABLE public.t TO anon",
            "REFRESH MATERIALIZED VIEW public.m",
        ];
        let mut lines: Vec<Line> =
            made.iter().map(|sql| line((*sql).into(), crate::postgres::sql::what(sql))).collect();
        let check = What::Validate { table: "t".into(), name: "f".into(), parent: "p".into() };
        lines.push(line("ALTER TABLE t VALIDATE CONSTRAINT f".into(), check));
        let mut expected = Expected::default();
        for line in &lines {
            expected.note(&line.what, &line.sql);
        }
        let part = |seq, lines: Vec<Line>, needs| Left {
            seq,
            lines: lines.into(),
            made: markers::Chunk { sum: "5a".into(), ..markers::Chunk::default() },
            settings: 1,
            phase: Phase::Indexes,
            needs,
            weight: u64::MAX,
        };
        let mut rest = Rest {
            settings: vec!["SET search_path = ''".into()],
            parts: vec![
                part(3, lines, Needs::lock("t", Mode::Share)),
                part(4, Vec::new(), Needs::Everything),
            ],
            expected,
            tables: ["public.t".to_owned()].into(),
            statements: 9,
            skipped: BTreeSet::new(),
        };
        let text = rest.text().expect("it is short");
        assert_eq!(serde_json::from_str::<Rest>(&text).unwrap(), rest);
        let long = line("x".repeat(TEXT_BYTES_MAX + 1), What::Other);
        rest.parts.push(part(5, vec![long], Needs::Everything));
        assert_eq!(rest.text(), None);
    }
}
