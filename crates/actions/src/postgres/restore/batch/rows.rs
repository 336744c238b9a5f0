//! Cuts the rows of a COPY into chunks, and hands them over while they are still being read.

use std::sync::Arc;

use bytes::Bytes;
use memchr::memchr;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, mpsc};

use super::{Batcher, Chunk, Halt, Item, Piece, Rows};

/// Rows are handed over in pieces of this size, so that a row of any width needs no more memory than this.
pub(super) const PIECE_BYTES: usize = 256 << 10;

/// A COPY that is being read.
pub(super) struct OpenCopy {
    copy: Arc<str>,
    table: Arc<str>,
    line: u64,
    first: bool,
    chunk: Option<OpenChunk>,
}

/// A chunk of rows that is being read and may be on its way already.
struct OpenChunk {
    to: mpsc::UnboundedSender<Piece>,
    hash: Sha256,
    buffer: Vec<u8>,
    bytes: usize,
    count: u64,
}

impl Batcher {
    /// A COPY begins, with the line of its first row.
    pub(in crate::postgres::restore) fn copy_start(
        &mut self,
        copy: &str,
        table: &str,
        line: u64,
    ) -> Result<(), Halt> {
        self.builds()?;
        let table: Arc<str> = table.into();
        self.send(Item::Table(table.clone()))?;
        let copy = copy.trim().trim_end_matches(';').into();
        let first = !self.loaded.contains_key(&table);
        self.filled(&table, 0);
        self.copy = Some(OpenCopy { copy, table, line, first, chunk: None });
        Ok(())
    }

    /// Rows, each ended by LF; the last one may still go on with the next call.
    pub(in crate::postgres::restore) fn copy_rows(&mut self, mut rows: &[u8]) -> Result<(), Halt> {
        while self.copy.is_some() && !rows.is_empty() {
            let have = self.open_chunk()?;
            let wanted = self.chunk_bytes.saturating_sub(have + 1);
            // The first line end at which the chunk has its size; without one, all of it.
            let end = rows.get(wanted..).and_then(|tail| memchr(b'\n', tail)).map(|at| wanted + at + 1);
            let (taken, rest) = rows.split_at(end.unwrap_or(rows.len()));
            self.add(taken)?;
            rows = rest;
            if end.is_some() {
                self.end_chunk()?;
            }
        }
        Ok(())
    }

    /// Bytes in the open chunk; one is opened, and handed over, when there is none.
    fn open_chunk(&mut self) -> Result<usize, Halt> {
        let Some(open) = &mut self.copy else { return Ok(0) };
        if let Some(chunk) = &open.chunk {
            return Ok(chunk.bytes);
        }
        let (to, pieces) = mpsc::unbounded_channel();
        let mut hash = Sha256::new();
        hash.update(open.copy.as_bytes());
        hash.update([0]);
        open.chunk = Some(OpenChunk { to, hash, buffer: Vec::new(), bytes: 0, count: 0 });
        let first = std::mem::take(&mut open.first);
        let rows =
            Rows { copy: open.copy.clone(), table: open.table.clone(), line: open.line, first, pieces };
        self.chunk(Chunk::Rows(rows), 0)?;
        Ok(0)
    }

    fn add(&mut self, mut text: &[u8]) -> Result<(), Halt> {
        let Some(open) = &mut self.copy else { return Ok(()) };
        let Some(chunk) = &mut open.chunk else { return Ok(()) };
        *self.loaded.entry(open.table.clone()).or_default() += text.len() as u64;
        chunk.hash.update(text);
        chunk.bytes += text.len();
        chunk.count += memchr::memchr_iter(b'\n', text).count() as u64;
        while !text.is_empty() {
            if chunk.buffer.capacity() == 0 {
                chunk.buffer.reserve_exact(PIECE_BYTES);
            }
            let (now, rest) = text.split_at(text.len().min(PIECE_BYTES - chunk.buffer.len()));
            chunk.buffer.extend_from_slice(now);
            text = rest;
            if chunk.buffer.len() == PIECE_BYTES {
                chunk.send(&self.memory, &self.runtime)?;
            }
        }
        Ok(())
    }

    fn end_chunk(&mut self) -> Result<(), Halt> {
        let Some(open) = &mut self.copy else { return Ok(()) };
        let Some(mut chunk) = open.chunk.take() else { return Ok(()) };
        if !chunk.buffer.is_empty() {
            chunk.send(&self.memory, &self.runtime)?;
        }
        open.line += chunk.count;
        let end = Piece::End { count: chunk.count, sum: hex::encode(chunk.hash.finalize()) };
        chunk.to.send(end).map_err(|_| Halt::Unheard)
    }

    /// The COPY is over.
    pub(in crate::postgres::restore) fn copy_end(&mut self) -> Result<(), Halt> {
        self.end_chunk()?;
        self.copy = None;
        Ok(())
    }
}

impl OpenChunk {
    fn send(&mut self, memory: &Arc<Semaphore>, runtime: &tokio::runtime::Handle) -> Result<(), Halt> {
        let text = Bytes::from(std::mem::take(&mut self.buffer));
        let size = u32::try_from(text.len()).unwrap_or(u32::MAX);
        let permit = runtime.block_on(Arc::clone(memory).acquire_many_owned(size));
        // Closed when the restore stopped for another reason.
        let permit = permit.map_err(|_| Halt::Unheard)?;
        self.to.send(Piece::Text(text, permit)).map_err(|_| Halt::Unheard)
    }
}
