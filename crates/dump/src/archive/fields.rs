//! The primitive encodings of an archive, each with the bound beyond which it is refused.

use std::io::Read;

use crate::error::{DumpError, Place};
use crate::window::Window;

/// Reads primitives from where the window stands.
pub(crate) struct Fields<'a, R> {
    pub(crate) window: &'a mut Window<R>,
    pub(crate) int_size: usize,
    pub(crate) offset_size: usize,
    /// No byte at or beyond this place is read.
    pub(crate) end_max: u64,
    /// What is being read, for messages.
    pub(crate) part: &'static str,
}

impl<R: Read> Fields<'_, R> {
    pub(crate) fn place(&self) -> Place {
        Place::Byte(self.window.offset())
    }

    pub(crate) fn malformed(&self, what: impl Into<String>) -> DumpError {
        DumpError::malformed(self.place(), what)
    }

    fn bytes<const N: usize>(&mut self, n: usize) -> Result<[u8; N], DumpError> {
        self.room(n as u64)?;
        self.window.fill_to(n)?;
        let Some(found) = self.window.bytes().get(..n) else {
            let end = Place::Byte(self.window.offset() + self.window.bytes().len() as u64);
            return Err(DumpError::cut_off(end, format!("inside {}", self.part)));
        };
        let mut bytes = [0; N];
        bytes[..n].copy_from_slice(found);
        self.window.consume(n);
        Ok(bytes)
    }

    fn room(&self, n: u64) -> Result<(), DumpError> {
        if n > self.end_max.saturating_sub(self.window.offset()) {
            return Err(DumpError::TooLarge { what: self.part, place: self.place(), limit: self.end_max });
        }
        Ok(())
    }

    pub(crate) fn byte(&mut self) -> Result<u8, DumpError> {
        self.bytes::<1>(1).map(|[byte]| byte)
    }

    /// A sign octet and a little-endian magnitude.
    pub(crate) fn int(&mut self) -> Result<i64, DumpError> {
        let negative = match self.byte()? {
            0 => false,
            1 => true,
            other => return Err(self.malformed(format!("a number with the sign octet {other}"))),
        };
        let size = self.int_size;
        let magnitude = u64::from_le_bytes(self.bytes(size)?);
        let value = i64::try_from(magnitude).map_err(|_| self.malformed("a number beyond 63 bits"))?;
        Ok(if negative { -value } else { value })
    }

    pub(crate) fn int_in(
        &mut self,
        what: &str,
        range: std::ops::RangeInclusive<i64>,
    ) -> Result<i64, DumpError> {
        let value = self.int()?;
        if range.contains(&value) { Ok(value) } else { Err(self.malformed(format!("{what} is {value}"))) }
    }

    pub(crate) fn flag(&mut self, what: &str) -> Result<bool, DumpError> {
        Ok(self.int_in(what, 0..=1)? == 1)
    }

    /// Text as bytes: its encoding is not known yet. None is NULL.
    pub(crate) fn text(&mut self) -> Result<Option<Vec<u8>>, DumpError> {
        let mut left = match self.int()? {
            -1 => return Ok(None),
            n => usize::try_from(n).map_err(|_| self.malformed(format!("text of the length {n}")))?,
        };
        self.room(left as u64)?;
        let mut text = Vec::new();
        while left > 0 {
            if self.window.bytes().is_empty() && !self.window.fill()? {
                return Err(DumpError::cut_off(self.place(), format!("inside {}", self.part)));
            }
            let n = left.min(self.window.bytes().len());
            text.extend_from_slice(&self.window.bytes()[..n]);
            self.window.consume(n);
            left -= n;
        }
        if memchr::memchr(0, &text).is_some() {
            return Err(self.malformed("text with a NUL byte"));
        }
        Ok(Some(text))
    }

    /// A flag octet and a little-endian position.
    pub(crate) fn position(&mut self) -> Result<(u8, u64), DumpError> {
        let flag = self.byte()?;
        let size = self.offset_size;
        let position = u64::from_le_bytes(self.bytes(size)?);
        if position > i64::MAX as u64 {
            return Err(self.malformed("an offset beyond 63 bits"));
        }
        Ok((flag, position))
    }
}
