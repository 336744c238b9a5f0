//! An LZ4 frame, decoded piece by piece: header, blocks, end mark, checksums. Memory is bounded by two blocks, the
//! largest of which has 4 MiB, and the 64 KiB that a block may refer back to.

use std::hash::Hasher as _;
use std::io;

use twox_hash::XxHash32;

use crate::error::DumpError;

const MAGIC: [u8; 4] = [0x04, 0x22, 0x4D, 0x18];
/// How far back a block may refer.
const HISTORY: usize = 64 << 10;

/// Decodes one frame.
#[derive(Default)]
pub(crate) struct Lz4 {
    state: State,
    /// What has come of the part that `state` waits for.
    part: Vec<u8>,
    frame: Frame,
    /// What was decoded and not handed out yet is behind `served`.
    block: Vec<u8>,
    served: usize,
    history: Vec<u8>,
    output: u64,
    sum: XxHash32,
}

/// What comes next.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum State {
    /// The magic number and the two bytes of flags.
    #[default]
    Begin,
    /// The rest of the header, of so many bytes.
    Header(usize),
    BlockSize,
    Block {
        size: usize,
        packed: bool,
    },
    ContentSum,
    End,
}

/// What the header says.
#[derive(Clone, Copy, Default)]
struct Frame {
    linked: bool,
    block_sums: bool,
    content_sum: bool,
    content_size: Option<u64>,
    block_max: usize,
}

impl Lz4 {
    /// Turns some of `input` into some of `output`; says how much of each, and whether the frame has ended.
    pub(crate) fn decode(
        &mut self,
        input: &[u8],
        output: &mut [u8],
    ) -> Result<(usize, usize, bool), DumpError> {
        let mut taken = 0;
        loop {
            if self.served < self.block.len() {
                let n = output.len().min(self.block.len() - self.served);
                output[..n].copy_from_slice(&self.block[self.served..self.served + n]);
                self.served += n;
                return Ok((taken, n, self.state == State::End && self.served == self.block.len()));
            }
            if self.state == State::End {
                return Ok((taken, 0, true));
            }
            let wanted = self.wanted();
            let n = (wanted - self.part.len()).min(input.len() - taken);
            self.part.extend_from_slice(&input[taken..taken + n]);
            taken += n;
            if self.part.len() < wanted {
                return Ok((taken, 0, false));
            }
            self.state = self.step()?;
        }
    }

    /// Length of the part that comes next.
    fn wanted(&self) -> usize {
        match self.state {
            // Magic and flags; the rest of the header counts from behind the magic, flags included.
            State::Begin => 6,
            State::Header(rest) => 6 + rest,
            State::BlockSize | State::ContentSum => 4,
            State::Block { size, .. } => size + if self.frame.block_sums { 4 } else { 0 },
            State::End => 0,
        }
    }

    /// Takes the part that is complete.
    fn step(&mut self) -> Result<State, DumpError> {
        let next = match self.state {
            State::Begin => return self.flags(),
            State::Header(_) => self.header()?,
            State::BlockSize => {
                let word = number(&self.part);
                let size = usize::try_from(word & 0x7FFF_FFFF).unwrap_or(usize::MAX);
                match (word, size > self.frame.block_max) {
                    (0, _) if self.frame.content_sum => State::ContentSum,
                    (0, _) => State::End,
                    (_, true) => return Err(corrupt("a block that is longer than its frame allows")),
                    (_, false) => State::Block { size, packed: word >> 31 == 0 },
                }
            }
            State::Block { size, packed } => {
                self.unpack(size, packed)?;
                State::BlockSize
            }
            State::ContentSum => {
                if self.sum.finish() != u64::from(number(&self.part)) {
                    return Err(corrupt("another checksum of the whole than the frame has"));
                }
                State::End
            }
            State::End => State::End,
        };
        self.part.clear();
        if next == State::End && self.frame.content_size.is_some_and(|size| size != self.output) {
            return Err(corrupt("another size than the frame says"));
        }
        Ok(next)
    }

    /// The two bytes that say what else the header holds.
    fn flags(&mut self) -> Result<State, DumpError> {
        let (flags, sizes) = (self.part[4], self.part[5]);
        if self.part[..4] != MAGIC {
            return Err(corrupt("no LZ4 frame"));
        }
        if flags >> 6 != 1 || flags & 2 != 0 || sizes & 0x8F != 0 {
            return Err(corrupt("a frame of another version"));
        }
        if flags & 1 != 0 {
            return Err(corrupt("a frame that needs a dictionary"));
        }
        let block_max = match sizes >> 4 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            _ => return Err(corrupt("a frame with blocks of an unknown size")),
        };
        self.frame = Frame {
            linked: flags & 0x20 == 0,
            block_sums: flags & 0x10 != 0,
            content_sum: flags & 4 != 0,
            // Filled in when it has come.
            content_size: (flags & 8 != 0).then_some(0),
            block_max,
        };
        Ok(State::Header(if self.frame.content_size.is_some() { 9 } else { 1 }))
    }

    fn header(&mut self) -> Result<State, DumpError> {
        let (fields, sum) = self.part[4..].split_at(self.part.len() - 5);
        if sum != [XxHash32::oneshot(0, fields).to_le_bytes()[1]] {
            return Err(corrupt("another checksum of the header than the frame has"));
        }
        if let Some(size) = self.frame.content_size.as_mut() {
            let mut bytes = [0; 8];
            bytes.copy_from_slice(&fields[2..10]);
            *size = u64::from_le_bytes(bytes);
        }
        Ok(State::BlockSize)
    }

    fn unpack(&mut self, size: usize, packed: bool) -> Result<(), DumpError> {
        let (bytes, sum) = self.part.split_at(size);
        if self.frame.block_sums && XxHash32::oneshot(0, bytes) != number(sum) {
            return Err(corrupt("another checksum of a block than the frame has"));
        }
        self.served = 0;
        if packed {
            self.block.resize(self.frame.block_max, 0);
            let made = lz4_flex::block::decompress_into_with_dict(bytes, &mut self.block, &self.history);
            let made =
                made.map_err(|source| DumpError::Corrupt { layer: "lz4", source: io::Error::other(source) })?;
            self.block.truncate(made);
        } else {
            self.block.clear();
            self.block.extend_from_slice(bytes);
        }
        self.output += self.block.len() as u64;
        if self.frame.content_sum {
            self.sum.write(&self.block);
        }
        if self.frame.linked {
            let keep = HISTORY.saturating_sub(self.block.len());
            self.history.drain(..self.history.len().saturating_sub(keep));
            self.history.extend_from_slice(&self.block[self.block.len().saturating_sub(HISTORY)..]);
        }
        Ok(())
    }
}

fn number(bytes: &[u8]) -> u32 {
    bytes.iter().take(4).rev().fold(0, |all, byte| all << 8 | u32::from(*byte))
}

fn corrupt(what: &'static str) -> DumpError {
    DumpError::Corrupt { layer: "lz4", source: io::Error::new(io::ErrorKind::InvalidData, what) }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

    use super::*;

    fn text() -> Vec<u8> {
        (0..40_000_u32).flat_map(|n| format!("row {} of {n}\n", n % 977).into_bytes()).collect()
    }

    fn packed(info: FrameInfo, bytes: &[u8]) -> Vec<u8> {
        let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    /// Decodes by pieces of both sides; what came, and whether the frame ended.
    fn decode(bytes: &[u8], piece: usize, room: usize) -> Result<(Vec<u8>, bool), DumpError> {
        let (mut lz4, mut all, mut ended) = (Lz4::default(), Vec::new(), false);
        let mut output = vec![0; room];
        for piece in bytes.chunks(piece) {
            let mut rest = piece;
            loop {
                let (taken, made, end) = lz4.decode(rest, &mut output)?;
                all.extend_from_slice(&output[..made]);
                (rest, ended) = (&rest[taken..], end);
                if ended || (rest.is_empty() && made == 0) {
                    break;
                }
            }
        }
        Ok((all, ended))
    }

    #[test]
    fn frames_of_every_make_come_back() {
        let text = text();
        for mode in [BlockMode::Linked, BlockMode::Independent] {
            for size in [BlockSize::Max64KB, BlockSize::Max256KB, BlockSize::Max1MB, BlockSize::Max4MB] {
                for sums in [false, true] {
                    let info = FrameInfo::new()
                        .block_mode(mode)
                        .block_size(size)
                        .block_checksums(sums)
                        .content_checksum(sums)
                        .content_size(sums.then_some(text.len() as u64));
                    let bytes = packed(info, &text);
                    let found = decode(&bytes, 4096, 10_000).unwrap();
                    assert!(found == (text.clone(), true), "{mode:?} {size:?} {sums}");
                }
            }
        }
    }

    #[test]
    fn a_frame_is_cut_or_turned_at_no_byte_unnoticed() {
        let info = FrameInfo::new().block_checksums(true).content_checksum(true);
        let bytes = packed(info, b"one\ntwo\none\ntwo\none\ntwo\nthree\n");
        assert!(decode(&bytes, 1, 1).unwrap().1);
        for cut in 0..bytes.len() {
            assert!(!decode(&bytes[..cut], 3, 5).is_ok_and(|(_, ended)| ended), "cut at {cut}");
        }
        for at in 0..bytes.len() {
            let mut turned = bytes.clone();
            turned[at] ^= 1;
            let found = decode(&turned, 3, 5);
            assert!(!found.is_ok_and(|(_, ended)| ended), "turned at {at}");
        }
    }
}
