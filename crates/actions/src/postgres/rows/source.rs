//! Which bytes of a dump are read, and what makes them trusted (P9): the store's own checksum of the whole object with
//! the ETag pinned, a checksum of the one table in an index that is itself covered by one, or the sha256 of the whole
//! object, all of which was read. Nothing that is picked out exists under its name before that.

use std::io::Cursor;
use std::ops::Range;
use std::time::Duration;

use runbook_core::action::{ActionError, Context, Progress};
use runbook_core::types::Backup;
use runbook_dump::{
    ArchiveReader, CutPart, Cuts, DataOffset, DumpError, Limits, QualifiedName, Schema, block_ranges,
    push_copy_field,
};

use super::index::{Index, IndexedTable};
use super::pick::{Halt, Picked, Picker, Want, shown};
use super::scan::{Seen, block, learn, part_of_block, scan, table_of};
use crate::s3::{Failure, Location, ObjectInfo, Tap, inspect, read, read_range};

/// A table of contents is read in pieces that grow from this.
const HEAD_BYTES: u64 = 256 << 10;
/// Beyond this a table of contents is read with everything else.
const HEAD_BYTES_MAX: u64 = 64 << 20;

/// A dump, with what is known of it before it is read.
pub(super) struct Source<'a> {
    ctx: &'a Context,
    /// Which of the environment's `backup_sources` it is in.
    store: Option<String>,
    at: Location,
    info: ObjectInfo,
    recorded: String,
    /// The store's own checksum of the whole object is the recorded one.
    by_store: bool,
    pub(super) bytes_read: u64,
}

/// What was picked out, and what proved it.
pub(super) struct Proven {
    pub(super) picked: Vec<Picked>,
    pub(super) schema: Schema,
    pub(super) verified_by: &'static str,
}

impl<'a> Source<'a> {
    /// Looks at the object; refuses one without a recorded checksum, and one that is not the one that was selected.
    pub(super) async fn find(ctx: &'a Context, backup: &Backup) -> Result<Self, ActionError> {
        let url = &backup.url;
        let recorded = backup.sha256.as_deref().unwrap_or_default().to_ascii_lowercase();
        if recorded.len() != 64 || !recorded.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(ActionError::refused(format!(
                "extract rows from `{url}`: no sha256 is recorded for it (G04)"
            ))
            .code("unverified")
            .hint("Write its sha256 beside it as `NAME.sha256` when the backup is made."));
        }
        let at = Location::parse(url)?;
        let info = inspect(ctx, backup.source.as_deref(), &at).await?;
        if backup.etag.is_some() && backup.etag != info.etag {
            return Err(ActionError::refused(format!(
                "extract rows from `{at}`: another object is there than the one that was selected"
            ))
            .code("object-changed"));
        }
        let by_store = info.store_sha256.as_deref() == Some(&recorded);
        let source = Self { ctx, store: backup.source.clone(), at, info, recorded, by_store, bytes_read: 0 };
        match &source.info.store_sha256 {
            Some(stored) if !by_store => Err(source.mismatch(stored)),
            _ => Ok(source),
        }
    }

    /// What will be read and why it can be trusted, in a sentence.
    pub(super) fn proof(&self) -> String {
        let size = self.info.size_bytes;
        if self.by_store {
            format!(
                "reads {} ({size} bytes) as far as needed: the store's own checksum equals the recorded one",
                self.at
            )
        } else {
            format!("reads {} ({size} bytes) to its end and compares its sha256", self.at)
        }
    }

    fn mismatch(&self, found: &str) -> ActionError {
        ActionError::refused(format!(
            "trust `{}`: its recorded sha256 is {}, its bytes have {found}",
            self.at, self.recorded
        ))
        .code("checksum-mismatch")
        .hint("The dump or its .sha256 was altered. Pick an earlier restore point and find out why.")
    }

    /// Picks rows out, by the cheapest way that can be trusted.
    pub(super) async fn pick(&mut self, wants: Vec<Want>, parents: bool) -> Result<Proven, ActionError> {
        if let Some(head) = self.head().await? {
            let index =
                Index::find(self.ctx, self.store.as_deref(), &self.at, &self.recorded, self.info.size_bytes)
                    .await?;
            self.bytes_read += index.as_ref().map_or(0, |index| index.bytes);
            if let (Some(index), [want], false) =
                (index.as_ref().filter(|i| i.covered), wants.as_slice(), parents)
                && let Some(proven) = self.by_parts(&head, index, want).await?
            {
                return Ok(proven);
            }
            if self.by_store {
                if let Some(proven) = self.by_offsets(&head, index.as_ref(), &wants).await? {
                    return Ok(proven);
                }
            } else if let (Some(index), [want], false) =
                (index.filter(|i| i.covered), wants.as_slice(), parents)
                && let Some(proven) = self.by_index(&head, &index, want).await?
            {
                return Ok(proven);
            }
        }
        self.by_reading(wants, parents).await
    }

    /// Header and table of contents of an archive that is not packed as a whole.
    async fn head(&mut self) -> Result<Option<Vec<u8>>, ActionError> {
        let size = self.info.size_bytes;
        let mut wanted = HEAD_BYTES.min(size);
        loop {
            let (bytes, _) = self.range(0..wanted).await?;
            if !bytes.starts_with(b"PGDMP") {
                return Ok(None);
            }
            match ArchiveReader::new(Cursor::new(&bytes), Limits::default()) {
                Ok(_) => return Ok(Some(bytes)),
                Err(DumpError::CutOff { .. }) if wanted < size.min(HEAD_BYTES_MAX) => {
                    wanted = (wanted * 4).min(size);
                }
                // Whoever reads it whole says what is wrong with it, after its sha256 was compared.
                Err(_) => return Ok(None),
            }
        }
    }

    /// Some bytes, and their sha256.
    async fn range(&mut self, range: Range<u64>) -> Result<(Vec<u8>, String), ActionError> {
        let tap = read_range(self.ctx, self.store.as_deref(), &self.at, &self.info, range).await?;
        let reader = tap.clone();
        let read = self
            .watched(&tap, move || {
                let mut bytes = Vec::new();
                std::io::Read::read_to_end(&mut reader.clone(), &mut bytes)
                    .map_err(|source| Halt::Dump(DumpError::Read { source }))?;
                Ok((bytes, reader.finish()))
            })
            .await?;
        let (bytes, sum) = read.map_err(|halt| self.halted(halt, &tap))?;
        Ok((bytes, sum.map_err(|failure| self.unread(failure))?))
    }

    /// The store vouches for every byte: only the tables' own blocks are read. None when nobody says where they are.
    async fn by_offsets(
        &mut self,
        head: &[u8],
        index: Option<&Index>,
        wants: &[Want],
    ) -> Result<Option<Proven>, ActionError> {
        let reader = self.opened(head)?;
        let schema = learn(&reader).map_err(|halt| self.said(halt))?;
        let ranges = block_ranges(reader.toc(), self.info.size_bytes);
        let mut places = Vec::new();
        for entry in reader.toc().iter().filter(|entry| entry.is_table_data() && entry.had_dumper) {
            let table = table_of(entry);
            if !wants.iter().any(|want| schema.is_part_of(&table, &want.table)) {
                continue;
            }
            let range = match entry.offset {
                DataOffset::At(_) => ranges.get(&entry.dump_id).cloned(),
                _ => index
                    .and_then(|index| index.table(table.schema.as_deref(), &table.name))
                    .map(|place| place.offset..place.offset + place.length),
            };
            let Some(range) = range else { return Ok(None) };
            places.push((entry.dump_id, range));
        }
        let mut pickers: Vec<_> = wants.iter().cloned().map(Picker::new).collect();
        for (dump_id, range) in places {
            if pickers.iter().all(Picker::is_done) {
                break;
            }
            let (back, _) = self.block(head, (dump_id, range), schema.clone(), pickers, false).await?;
            pickers = back;
        }
        let picked = pickers.into_iter().map(Picker::finish).collect::<Result<_, _>>()?;
        Ok(Some(Proven { picked, schema, verified_by: "store" }))
    }

    /// Where the index has the one table whose rows are wanted, and the number of its entry; none when the archive does not
    /// say the same, or the table's rows are those of others too.
    fn placed(
        &self,
        head: &[u8],
        index: &Index,
        want: &Want,
    ) -> Result<Option<(IndexedTable, Schema, u32)>, ActionError> {
        let Some(place) = index.table(want.table.schema.as_deref(), &want.table.name).cloned() else {
            return Ok(None);
        };
        let reader = self.opened(head)?;
        let Ok(schema) = learn(&reader) else { return Ok(None) };
        let mut entries = reader.toc().iter().filter(|entry| {
            entry.is_table_data() && entry.had_dumper && schema.is_part_of(&table_of(entry), &want.table)
        });
        let (Some(entry), None) = (entries.next(), entries.next()) else { return Ok(None) };
        let columns = entry.copy().and_then(|copy| copy.columns);
        if table_of(entry) != want.table || columns.as_ref() != Some(&place.columns) {
            return Ok(None);
        }
        let dump_id = entry.dump_id;
        Ok(Some((place, schema, dump_id)))
    }

    /// The index says which parts of the table may have the keys, and has a checksum for each. Keys are compared byte by
    /// byte, and one that is not found is looked for again without the parts.
    async fn by_parts(
        &mut self,
        head: &[u8],
        index: &Index,
        want: &Want,
    ) -> Result<Option<Proven>, ActionError> {
        let Some((place, schema, _)) = self.placed(head, index, want)? else { return Ok(None) };
        let Some(parts) = place.cuts.as_ref().and_then(|cuts| wanted_parts(cuts, want)) else {
            return Ok(None);
        };
        let mut picker = Picker::new(Want { exact: true, ..want.clone() });
        picker.begin(&place.columns, schema.table(&want.table))?;
        for part in parts {
            if picker.is_done() {
                break;
            }
            let Some(back) = self.part(head, &place, part, picker).await? else { return Ok(None) };
            picker = back;
        }
        if !picker.has_all() {
            return Ok(None);
        }
        Ok(Some(Proven { picked: vec![picker.finish()?], schema, verified_by: "index" }))
    }

    /// Reads one part of a table; none when it is not what the index says.
    async fn part(
        &mut self,
        head: &[u8],
        place: &IndexedTable,
        part: CutPart,
        mut picker: Picker,
    ) -> Result<Option<Picker>, ActionError> {
        let from = part.begin.as_ref().map_or(place.offset, |landmark| landmark.offset);
        let end = place.offset + place.length;
        if !(place.offset..part.upto).contains(&from) || part.upto > end {
            return Ok(None);
        }
        let range = from..part.upto;
        let tap = read_range(self.ctx, self.store.as_deref(), &self.at, &self.info, range).await?;
        let (source, head, block) = (tap.clone(), head.to_vec(), place.offset);
        let read = self
            .watched(&tap, move || {
                let reader = ArchiveReader::new(&head[..], Limits::default())?;
                let found = part_of_block(reader, source, block, &part, &mut picker)?;
                Ok(found.then_some(picker))
            })
            .await?;
        match read {
            Ok(picker) => Ok(picker),
            Err(halt) if tap.failure().is_some() => Err(self.halted(halt, &tap)),
            // The index may be wrong; whoever reads without it says what is wrong with the dump.
            Err(_) => Ok(None),
        }
    }

    /// The index has a checksum for the one table. What else the archive says is not trusted: keys are compared byte
    /// by byte, and a key that is not found is looked for again in the whole.
    async fn by_index(
        &mut self,
        head: &[u8],
        index: &Index,
        want: &Want,
    ) -> Result<Option<Proven>, ActionError> {
        let Some((place, schema, dump_id)) = self.placed(head, index, want)? else { return Ok(None) };
        let picker = Picker::new(Want { exact: true, unique: false, ..want.clone() });
        let range = place.offset..place.offset + place.length;
        let Ok((mut pickers, sum)) =
            self.block(head, (dump_id, range), schema.clone(), vec![picker], true).await
        else {
            return Ok(None);
        };
        let (Some(picker), true) =
            (pickers.pop(), sum.is_some_and(|sum| sum.eq_ignore_ascii_case(&place.sha256)))
        else {
            return Ok(None);
        };
        if !picker.has_all() {
            return Ok(None);
        }
        Ok(Some(Proven { picked: vec![picker.finish()?], schema, verified_by: "index" }))
    }

    fn opened<'h>(&self, head: &'h [u8]) -> Result<ArchiveReader<&'h [u8]>, ActionError> {
        ArchiveReader::new(head, Limits::default()).map_err(|error| self.said(error.into()))
    }

    /// Reads the block of one entry by its range; the pickers, and, when wanted, the sha256 of its rows if all were read.
    async fn block(
        &mut self,
        head: &[u8],
        (dump_id, range): (u32, Range<u64>),
        schema: Schema,
        mut pickers: Vec<Picker>,
        hashed: bool,
    ) -> Result<(Vec<Picker>, Option<String>), ActionError> {
        let tap = read_range(self.ctx, self.store.as_deref(), &self.at, &self.info, range.clone()).await?;
        let (source, head) = (tap.clone(), head.to_vec());
        let read = self
            .watched(&tap, move || {
                let reader = ArchiveReader::new(&head[..], Limits::default())?;
                let mut reader = reader.at_block(source, range.start);
                match block(&mut reader, &mut pickers, &schema, hashed)? {
                    Some(found) if found.dump_id == dump_id => Ok((pickers, found.sha256)),
                    _ => {
                        Err(DumpError::Unsupported { what: "a block that is another table's".into() }.into())
                    }
                }
            })
            .await?;
        read.map_err(|halt| self.halted(halt, &tap))
    }

    /// Reads from the beginning until all is found. Where the store does not vouch, the rest is only hashed: that is
    /// many times as fast as unpacking it.
    async fn by_reading(&mut self, wants: Vec<Want>, parents: bool) -> Result<Proven, ActionError> {
        let tap = read(self.ctx, self.store.as_deref(), &self.at, &self.info).await?;
        let (source, may_stop) = (tap.clone(), !parents);
        let mut pickers: Vec<_> = wants.into_iter().map(Picker::new).collect();
        let by_store = self.by_store;
        let read = self
            .watched(&tap, move || {
                let scanned: Result<Seen, Halt> = scan(source.clone(), &mut pickers, may_stop);
                let early = matches!(&scanned, Ok(seen) if !seen.whole);
                // What is wrong with a dump is told only of the dump that was meant.
                let sum = if by_store && (early || scanned.is_err()) { None } else { Some(source.finish()) };
                Ok((scanned, sum, pickers))
            })
            .await?;
        let (scanned, sum, pickers) = read.map_err(|halt| self.halted(halt, &tap))?;
        let verified_by = if sum.is_some() { "whole" } else { "store" };
        match sum {
            Some(Ok(found)) if found != self.recorded => return Err(self.mismatch(&found)),
            Some(Err(failure)) => return Err(self.unread(failure)),
            _ => {}
        }
        let seen = scanned.map_err(|halt| self.halted(halt, &tap))?;
        let picked = pickers.into_iter().map(Picker::finish).collect::<Result<_, _>>()?;
        Ok(Proven { picked, schema: seen.schema, verified_by })
    }

    /// Lets a thread that may block read, tells of it, and stops it when the run shall stop.
    async fn watched<T: Send + 'static>(
        &mut self,
        tap: &Tap,
        work: impl FnOnce() -> Result<T, Halt> + Send + 'static,
    ) -> Result<Result<T, Halt>, ActionError> {
        let mut reading = tokio::task::spawn_blocking(work);
        let mut tick = tokio::time::interval(Duration::from_millis(500));
        let mut stopped = false;
        let read = loop {
            tokio::select! {
                read = &mut reading => break read,
                () = self.ctx.stop.wait(), if !stopped => {
                    stopped = true;
                    tap.cancel();
                }
                _ = tick.tick() => {
                    let (done, total) = (tap.bytes_read(), Some(tap.size_bytes()));
                    self.ctx.progress.report(Progress { done, total, unit: "bytes", message: "dump".into() });
                }
            }
        };
        self.bytes_read += tap.bytes_read();
        read.map_err(|error| ActionError::unchanged(format!("read `{}`", self.at)).because(error))
    }

    fn halted(&self, halt: Halt, tap: &Tap) -> ActionError {
        match tap.failure() {
            Some(failure) => self.unread(failure),
            None => self.said(halt),
        }
    }

    fn said(&self, halt: Halt) -> ActionError {
        match halt {
            Halt::Refused(error) => *error,
            Halt::Dump(error) => {
                ActionError::refused(format!("read the dump `{}`", self.at)).because(error).code("bad-dump")
            }
        }
    }

    fn unread(&self, failure: Failure) -> ActionError {
        match failure {
            Failure::Changed => {
                ActionError::refused(format!("read `{}`: another object is there now", self.at))
                    .code("object-changed")
            }
            Failure::Broken(_) => {
                ActionError::unchanged(format!("read `{}` to its end", self.at)).because(failure)
            }
            Failure::Cancelled => {
                ActionError::unchanged(format!("read `{}`: a stop was asked for", self.at)).code("stopped")
            }
        }
    }
}

/// The parts that may have one of the keys; none when the index does not note the values of the key's column.
fn wanted_parts(cuts: &Cuts, want: &Want) -> Option<Vec<CutPart>> {
    let [column] = want.wanted.columns.as_slice() else { return None };
    let at = cuts.keys.iter().position(|key| key == column).filter(|_| !want.all)?;
    let keys: Vec<Vec<u8>> = want
        .wanted
        .values
        .iter()
        .flatten()
        .map(|value| {
            let mut text = Vec::new();
            push_copy_field(Some(value.as_bytes()), &mut text);
            text
        })
        .collect();
    let may = |part: &&CutPart| part.values.get(at).is_none_or(|v| keys.iter().any(|key| v.may_have(key)));
    Some(cuts.parts.iter().filter(may).cloned().collect())
}

/// Refuses a name that is not `schema.table`; a table's name may hold dots.
pub(crate) fn table_name(text: &str) -> Result<QualifiedName, ActionError> {
    match text.split_once('.') {
        Some((schema, name)) if !schema.is_empty() && !name.is_empty() => {
            Ok(QualifiedName { schema: Some(schema.into()), name: name.into() })
        }
        _ => Err(ActionError::refused(format!("read `{text}` as a table: write `schema.table`"))),
    }
}

/// `public.a`, as [`table_name`] reads it.
pub(super) fn text_of(table: &QualifiedName) -> String {
    shown(table)
}
