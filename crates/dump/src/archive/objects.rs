//! The contents of large objects, out of an archive.

use std::io::Read;

use crate::archive::chunks::{Chunks, Shape};
use crate::archive::codec::Codec;
use crate::archive::payload::Payload;
use crate::error::DumpError;
use crate::ratio::Ratio;
use crate::window::Window;

/// The next thing in a block of large objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LargeObjectEvent<'a> {
    /// The contents of this object follow.
    Start {
        /// The object's OID.
        oid: u32,
    },
    /// Some of its bytes.
    Bytes(&'a [u8]),
    /// There are no more of them.
    End,
}

/// Where a block of large objects stands.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Progress {
    /// The object whose contents are being read.
    pub(crate) within: Option<Chunks>,
    pub(crate) ended: bool,
}

/// Large objects, one after the other. Dropping it early passes over the rest.
pub struct LargeObjects<'a, R> {
    pub(crate) window: &'a mut Window<R>,
    pub(crate) progress: &'a mut Progress,
    pub(crate) codec: &'a mut Codec,
    pub(crate) shape: Shape,
    pub(crate) ratio: Ratio,
    pub(crate) input: u64,
    pub(crate) buf: Vec<u8>,
}

impl<R: Read> LargeObjects<'_, R> {
    /// The next thing; none after the last object's end.
    ///
    /// # Errors
    /// When the block is cut off or malformed.
    pub fn next_event(&mut self) -> Result<Option<LargeObjectEvent<'_>>, DumpError> {
        if self.progress.ended {
            return Ok(None);
        }
        if self.progress.within.is_none() {
            let Some(oid) = next_object(self.window, self.progress, &self.shape)? else { return Ok(None) };
            self.codec.restart()?;
            return Ok(Some(LargeObjectEvent::Start { oid }));
        }
        match self.decode()? {
            0 => {
                self.progress.within = None;
                Ok(Some(LargeObjectEvent::End))
            }
            n => Ok(Some(LargeObjectEvent::Bytes(&self.buf[..n]))),
        }
    }

    fn decode(&mut self) -> Result<usize, DumpError> {
        let Some(chunks) = &mut self.progress.within else { return Ok(0) };
        let ratio = std::mem::replace(&mut self.ratio, Ratio::new(None));
        let mut payload = Payload {
            window: &mut *self.window,
            chunks,
            shape: self.shape,
            codec: &mut *self.codec,
            ratio,
            input: self.input,
            landmarks: Vec::new(),
        };
        let made = payload.decode(&mut self.buf);
        (self.ratio, self.input) = (payload.ratio, payload.input);
        made
    }
}

/// Goes to the next object's contents; none at the end of the block.
pub(crate) fn next_object<R: Read>(
    window: &mut Window<R>,
    progress: &mut Progress,
    shape: &Shape,
) -> Result<Option<u32>, DumpError> {
    // OIDs above 2^31 are written through a signed number: sign and magnitude of its two's complement.
    let range = i64::from(i32::MIN)..=i64::from(u32::MAX);
    let number = shape.fields(window).int_in("a large object's number", range)?;
    if number == 0 {
        progress.ended = true;
        return Ok(None);
    }
    progress.within = Some(Chunks::default());
    let oid = if number < 0 { number + (1 << 32) } else { number };
    Ok(Some(u32::try_from(oid).unwrap_or(u32::MAX)))
}
