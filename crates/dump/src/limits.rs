//! How much of anything a reader takes before it refuses. Numbers only.

/// Bounds that keep memory flat whatever the bytes say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Longest statement in bytes. 64 MiB: a row of `--inserts` with a large literal still fits.
    pub statement_bytes: usize,
    /// Longest COPY row in bytes. 1 GiB: PostgreSQL cannot hold a longer field.
    pub row_bytes: usize,
    /// How many bytes of whole rows are handed out at once, unless one row is longer. 256 KiB.
    pub rows_bytes: usize,
    /// Hand a row that is longer than `rows_bytes` out in parts, so that memory does not grow with it. Off: whoever
    /// reads rows one by one wants them whole.
    pub parts: bool,
    /// Most bytes of an archive's table of contents, and so of any text in it. 1 GiB.
    pub toc_bytes: u64,
    /// Most entries of an archive's table of contents. 16 million: some 60 bytes each is the least they take.
    pub toc_entries: u64,
    /// Most dependencies of one entry. One million.
    pub dependencies: usize,
    /// Longest chunk of an archive in bytes. 1 GiB: an uncompressed archive has one chunk a row.
    pub chunk_bytes: u64,
    /// Most output bytes for one input byte of a compressed layer, counted from the first 64 MiB of output on;
    /// `None` for no bound. 20,000: deflate cannot pass 1,032, and a real zstd dump stays far below.
    pub ratio: Option<u64>,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            statement_bytes: 64 << 20,
            row_bytes: 1 << 30,
            rows_bytes: 256 << 10,
            parts: false,
            toc_bytes: 1 << 30,
            toc_entries: 16 << 20,
            dependencies: 1_000_000,
            chunk_bytes: 1 << 30,
            ratio: Some(20_000),
        }
    }
}
