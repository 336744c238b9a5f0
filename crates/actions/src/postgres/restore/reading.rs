//! A dump on its way in: read once from front to back, which is what its sha256 is of; tables that are wanted before
//! their turn are read by their ranges too, and what came of them has to be the same bytes.

use runbook_core::action::{ActionError, Context};
use runbook_dump::{ArchiveReader, Limits, block_ranges};

use crate::s3::{Failure, Location, ObjectInfo, Tap, read, read_range};

/// How much of an archive is looked at for its table of contents; one that is longer is read from front to back.
const HEAD_BYTES: u64 = 8 << 20;

/// The beginning of an archive, which can read its blocks by range.
pub(super) type Head = Box<ArchiveReader<Tap>>;

/// Where a dump comes from.
#[derive(Clone, Copy)]
pub(super) struct Origin<'a> {
    pub(super) ctx: &'a Context,
    pub(super) source: Option<&'a str>,
    pub(super) at: &'a Location,
    pub(super) info: &'a ObjectInfo,
}

/// What a reading thread reads.
pub(super) struct Reading {
    pub(super) whole: Tap,
    pub(super) ahead: Option<Ahead>,
}

/// Blocks that are read before their turn.
pub(super) struct Ahead {
    pub(super) head: Head,
    pub(super) blocks: Vec<AheadBlock>,
}

/// One of them.
pub(super) struct AheadBlock {
    pub(super) dump_id: u32,
    /// Where it begins in the archive, in bytes.
    pub(super) from: u64,
    pub(super) tap: Tap,
}

/// What can be told of a [`Reading`] from outside.
#[derive(Clone)]
pub(super) struct Meter {
    size_bytes: u64,
    /// None for a dump that an earlier attempt read to its end, and proved.
    pub(super) whole: Option<Tap>,
    pub(super) blocks: Vec<Tap>,
}

impl Meter {
    /// Bytes of the dump that were read; what is read twice counts once.
    pub(super) fn bytes_read(&self) -> u64 {
        let Some(whole) = &self.whole else { return self.size_bytes };
        let ahead: u64 = self.blocks.iter().map(Tap::bytes_read).sum();
        ahead + whole.bytes_read().saturating_sub(whole.watched_bytes())
    }

    /// Size of the dump.
    pub(super) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Why reading failed, when it did.
    pub(super) fn failure(&self) -> Option<Failure> {
        self.blocks.iter().chain(&self.whole).find_map(Tap::failure)
    }
}

impl Origin<'_> {
    /// The beginning of an archive that is not packed as a whole; none for anything else. Whoever reads the whole says
    /// what is wrong with it.
    pub(super) async fn head(self) -> Result<Option<Head>, ActionError> {
        let end = self.info.size_bytes.min(HEAD_BYTES);
        let tap = read_range(self.ctx, self.source, self.at, self.info, 0..end).await?;
        let source = tap.clone();
        let looking = tokio::task::spawn_blocking(move || {
            ArchiveReader::new(source, Limits { parts: true, ..Limits::default() }).ok().map(Box::new)
        });
        tokio::select! {
            head = looking => head.map_err(|error| self.unlooked("its thread died").because(error)),
            () = self.ctx.stop.wait() => {
                tap.cancel();
                Err(self.unlooked("a stop was asked for").code("stopped"))
            }
        }
    }

    /// For what was read before.
    pub(super) fn was_read(self) -> Meter {
        Meter { size_bytes: self.info.size_bytes, whole: None, blocks: Vec::new() }
    }

    /// With the blocks of the entries `first` before all others.
    pub(super) async fn reading(
        self,
        head: Option<Head>,
        first: &[u32],
    ) -> Result<(Reading, Meter), ActionError> {
        let Self { ctx, source, at, info } = self;
        let whole = read(ctx, source, at, info).await?;
        let mut meter = Meter { whole: Some(whole.clone()), ..self.was_read() };
        if first.is_empty() {
            return Ok((Reading { whole, ahead: None }, meter));
        }
        let Some(head) = head else { return Err(self.unlooked("it could not be read")) };
        let ranges = block_ranges(head.toc(), info.size_bytes);
        let mut ahead = Vec::new();
        for dump_id in first {
            let range = ranges.get(dump_id).cloned();
            let range = range.ok_or_else(|| self.unlooked("a table is not where it was"))?;
            let tap = read_range(ctx, source, at, info, range.clone()).await?;
            whole.watch([range.clone()]);
            meter.blocks.push(tap.clone());
            ahead.push(AheadBlock { dump_id: *dump_id, from: range.start, tap });
        }
        Ok((Reading { whole, ahead: Some(Ahead { head, blocks: ahead }) }, meter))
    }

    fn unlooked(self, why: &str) -> ActionError {
        ActionError::unchanged(format!("look at the beginning of `{}`: {why}", self.at))
    }
}
