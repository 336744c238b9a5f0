//! A slow line: hands bytes from a client to a server at full speed, and back at a rate that all connections share.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::shell::Failure;

/// Bytes handed on at a time.
const PIECE: usize = 32 << 10;
/// So much may come at once after a silence: a real line's buffers.
const BURST: Duration = Duration::from_millis(5);

/// How fast, for all connections together.
struct Line {
    bytes_per_second: f64,
    /// When all that was let through will have passed.
    free_at: Mutex<Instant>,
}

impl Line {
    /// Waits until so many bytes may pass.
    #[expect(clippy::disallowed_methods, reason = "the delay is what this is for")]
    fn pass(&self, bytes: usize) {
        let until = {
            let mut free_at = self.free_at.lock().unwrap_or_else(PoisonError::into_inner);
            let now = Instant::now();
            let from = (*free_at).max(now.checked_sub(BURST).unwrap_or(now));
            *free_at = from + Duration::from_secs_f64(bytes as f64 / self.bytes_per_second);
            free_at.saturating_duration_since(now)
        };
        std::thread::sleep(until);
    }
}

/// Opens a line to a server that ends with this process; its address.
pub(super) fn open(server: SocketAddr, bytes_per_second: f64) -> Result<SocketAddr, Failure> {
    let failed = |error: io::Error| format!("open a slow line to {server}: {error}");
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let line = Arc::new(Line { bytes_per_second, free_at: Mutex::new(Instant::now()) });
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let line = Arc::clone(&line);
            // A connection that breaks is its client's to notice.
            std::thread::spawn(move || drop(serve(client, server, &line)));
        }
    });
    Ok(address)
}

fn serve(client: TcpStream, server: SocketAddr, line: &Line) -> io::Result<()> {
    let upstream = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    upstream.set_nodelay(true)?;
    let (mut from_client, mut to_server) = (client.try_clone()?, upstream.try_clone()?);
    let sending = std::thread::spawn(move || {
        let copied = io::copy(&mut from_client, &mut to_server);
        // The server may be gone first.
        let _ = to_server.shutdown(Shutdown::Write);
        copied
    });
    let received = receive(upstream, &client, line);
    // Ends the other direction too.
    let _ = client.shutdown(Shutdown::Both);
    drop(sending.join());
    received
}

fn receive(mut from: TcpStream, mut to: &TcpStream, line: &Line) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    loop {
        let n = from.read(&mut piece)?;
        if n == 0 {
            return to.flush();
        }
        line.pass(n);
        to.write_all(&piece[..n])?;
    }
}
