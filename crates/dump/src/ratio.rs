//! Refuses data that grows out of all proportion when it is decompressed.

use crate::error::{DumpError, Place};

/// Output below this is never refused: small streams of zeros compress well and do no harm.
const FREE: u64 = 64 << 20;

/// Watches one decoder.
pub(crate) struct Ratio {
    limit: Option<u64>,
    output: u64,
}

impl Ratio {
    pub(crate) fn new(limit: Option<u64>) -> Self {
        Self { limit, output: 0 }
    }

    /// Adds `n` bytes of output that came from `input` bytes in all.
    pub(crate) fn check(&mut self, input: u64, n: usize, place: Place) -> Result<(), DumpError> {
        self.output += n as u64;
        match self.limit {
            Some(limit) if self.output > FREE && self.output / limit.max(1) > input => {
                Err(DumpError::TooLarge { what: "what is compressed, for each byte of it", place, limit })
            }
            _ => Ok(()),
        }
    }
}
