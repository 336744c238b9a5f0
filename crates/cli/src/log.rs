//! What libraries and this program tell under `RUNBOOK_LOG`, on stderr. Nothing passes that a redactor knows: at
//! `trace` a client shows what it signs a request with.

use std::io::{self, IsTerminal as _, Write};
use std::sync::LazyLock;

use runbook_executor::redact::Redactor;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Every secret that this process has resolved.
static REDACTOR: LazyLock<Redactor> = LazyLock::new(Redactor::new);

/// The redactor that the log goes through: whoever resolves secrets registers them here.
pub(crate) fn redactor() -> Redactor {
    REDACTOR.clone()
}

/// Begins to listen; warnings and errors only, unless `RUNBOOK_LOG` says otherwise.
pub(crate) fn start() {
    let filter = EnvFilter::try_from_env("RUNBOOK_LOG").unwrap_or_else(|_| EnvFilter::new("warn"));
    let no_color = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_target(false)
        .with_ansi(io::stderr().is_terminal() && !no_color)
        .with_writer(Redacting)
        .init();
}

/// Writes whole events: the subscriber formats each into one buffer.
struct Redacting;

impl<'a> MakeWriter<'a> for Redacting {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        Self
    }
}

impl Write for Redacting {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let text = REDACTOR.redact(&String::from_utf8_lossy(event));
        io::stderr().lock().write_all(text.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().lock().flush()
    }
}
