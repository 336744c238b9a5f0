//! Reads ahead on a thread of its own, so that taking off compression and reading what is inside go side by side. Bounded:
//! the thread waits while nobody takes what it has read, and ends when its other half is dropped.

use std::io::{self, Cursor, Read};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

use crate::open::Source;

/// Pieces of this size, and how many of them wait.
const PIECE_BYTES: usize = 256 << 10;
const PIECES_WAITING: usize = 4;

/// What was read ahead.
struct Ahead {
    pieces: Receiver<io::Result<Vec<u8>>>,
    current: Cursor<Vec<u8>>,
    ended: bool,
}

/// Lets a thread read from `source`.
///
/// # Errors
/// When the system gives no thread.
pub(crate) fn ahead(source: Source) -> io::Result<Source> {
    let (to, pieces) = sync_channel(PIECES_WAITING);
    std::thread::Builder::new().name("dump-unpack".to_owned()).spawn(move || feed(source, &to))?;
    Ok(Box::new(Ahead { pieces, current: Cursor::new(Vec::new()), ended: false }))
}

/// Reads to the end or the first error, which is handed over in its place; an empty piece is the end.
fn feed(mut source: Source, to: &SyncSender<io::Result<Vec<u8>>>) {
    loop {
        let mut piece = vec![0; PIECE_BYTES];
        let read = source.read(&mut piece).map(|n| {
            piece.truncate(n);
            piece
        });
        let again = matches!(&read, Err(error) if error.kind() == io::ErrorKind::Interrupted);
        let last = read.as_ref().map_or(!again, Vec::is_empty);
        // Nobody listens when the dump is not read on.
        if !again && to.send(read).is_err() || last {
            return;
        }
    }
}

impl Read for Ahead {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        loop {
            let n = self.current.read(buf)?;
            if n > 0 || buf.is_empty() || self.ended {
                return Ok(n);
            }
            match self.pieces.recv() {
                Ok(Ok(piece)) if piece.is_empty() => self.ended = true,
                Ok(Ok(piece)) => self.current = Cursor::new(piece),
                Ok(Err(error)) => return Err(error),
                // It sends an end or an error before it goes, unless it died.
                Err(_) => return Err(io::Error::other("the thread that unpacks the dump is gone")),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_bytes_come_in_their_order_and_an_error_in_its_place() {
        let bytes: Vec<u8> = (0..3_000_000_u32).flat_map(u32::to_le_bytes).collect();
        let mut read = Vec::new();
        ahead(Box::new(Cursor::new(bytes.clone()))).unwrap().read_to_end(&mut read).unwrap();
        assert_eq!(read, bytes);

        struct Broken;
        impl Read for Broken {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                Err(io::Error::other("broken"))
            }
        }
        let mut read = Vec::new();
        let source = Cursor::new(vec![7; 1000]).chain(Broken);
        let error = ahead(Box::new(source)).unwrap().read_to_end(&mut read).unwrap_err();
        assert_eq!((read, error.to_string().as_str()), (vec![7; 1000], "broken"));
    }

    #[test]
    fn the_thread_ends_when_nobody_listens() {
        struct Endless {
            _alive: std::sync::mpsc::Sender<()>,
        }
        impl Read for Endless {
            fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
                Ok(buf.len())
            }
        }
        let (alive, gone) = std::sync::mpsc::channel();
        let mut source = ahead(Box::new(Endless { _alive: alive })).unwrap();
        source.read_exact(&mut [0; 1000]).unwrap();
        drop(source);
        assert!(gone.recv().is_err(), "the thread has let go of its source");
    }
}
