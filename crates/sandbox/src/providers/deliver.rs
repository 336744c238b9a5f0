//! Posts an event to a webhook's URL, as a payment provider does. Only to this machine: whatever points
//! elsewhere is not reached, and its event stays undelivered.

use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A receiver that takes longer has not received.
const DEADLINE: Duration = Duration::from_secs(10);
/// Only the status line of the answer counts.
const ANSWER_BYTES_MAX: u64 = 16 * 1024;

/// Host with port, and path, of a URL on this machine.
pub(super) fn loopback(url: &str) -> Option<(&str, &str)> {
    let rest = url.strip_prefix("http://")?;
    let (host, path) = rest.find('/').map_or((rest, "/"), |at| rest.split_at(at));
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    matches!(name, "127.0.0.1" | "localhost").then_some((host, path))
}

/// Whether a provider would take it as the URL of a webhook: `https`, or this machine.
pub(super) fn is_webhook_url(url: &str) -> bool {
    let plain = url.bytes().all(|byte| byte.is_ascii_graphic());
    let secure = url.strip_prefix("https://").is_some_and(|rest| !rest.is_empty() && !rest.starts_with('/'));
    plain && url.len() <= 2048 && (secure || loopback(url).is_some())
}

/// Posts JSON; the status that came back, none when nobody answered.
pub(super) async fn post(url: &str, headers: &[(&str, String)], body: &str) -> Option<u16> {
    let (host, path) = loopback(url)?;
    let mut request = format!(
        "POST {path} HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n",
        body.len()
    );
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    request.push_str(body);
    let exchange = async {
        let mut stream = TcpStream::connect(host).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await?;
        Ok::<_, std::io::Error>(answer)
    };
    let answer = tokio::time::timeout(DEADLINE, exchange).await.ok()?.ok()?;
    let line = answer.split(|byte| *byte == b'\r').next()?;
    std::str::from_utf8(line).ok()?.split(' ').nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_this_machine_is_reached_and_only_https_is_taken_beside_it() {
        assert_eq!(loopback("http://127.0.0.1:8/a?b=c"), Some(("127.0.0.1:8", "/a?b=c")));
        assert_eq!(loopback("http://localhost:8"), Some(("localhost:8", "/")));
        for far in ["http://example.org/", "https://127.0.0.1/", "http://127.0.0.1.example.org/", "x"] {
            assert_eq!(loopback(far), None, "{far}");
        }
        assert!(is_webhook_url("https://polaris.example/hook") && is_webhook_url("http://127.0.0.1:1/"));
        assert!(!is_webhook_url("http://polaris.example/hook") && !is_webhook_url("https:///x"));
        assert!(!is_webhook_url("http://127.0.0.1:1/a\r\nx: y"));
    }
}
