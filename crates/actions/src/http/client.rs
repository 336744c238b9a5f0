//! The one HTTP client: TLS, deadlines, size caps. Sends one request once; never decides what a
//! status means and never repeats anything.

use std::sync::OnceLock;
use std::time::Duration;

use reqwest::header::{HeaderMap, LOCATION};
use reqwest::{Client, Method, Url};

/// How long a connection may take to open: longer means the address is wrong or filtered.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// An idle connection older than this is not used again: a server that closed it in the meantime
/// would turn an ordinary request into one whose answer is lost.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);
/// Redirects on one host that a read follows.
const REDIRECTS_MAX: usize = 5;

/// One request, ready to be sent any number of times.
pub(crate) struct Request<'a> {
    pub(crate) method: Method,
    pub(crate) url: Url,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Option<&'a [u8]>,
    pub(crate) deadline: Duration,
    /// The answer is cut off with an error after this many bytes.
    pub(crate) bytes_max: usize,
}

/// What came back, whatever the status.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

/// Why no whole answer came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    /// TLS or the client could not be set up.
    #[error("set up the HTTP client: {0}")]
    Setup(String),
    /// The request was never on its way.
    #[error("reach `{host}`")]
    NotSent {
        /// Host name only: a path may be a credential.
        host: String,
        #[source]
        source: reqwest::Error,
    },
    /// The request was sent, and the answer did not arrive whole.
    #[error("hear the answer of `{host}`")]
    Lost {
        /// Host name only.
        host: String,
        #[source]
        source: reqwest::Error,
    },
    /// The answer is larger than anything this call should bring.
    #[error("read the answer of `{host}`: it is larger than {bytes_max} bytes")]
    TooLarge { host: String, bytes_max: usize },
}

/// Proxies are for the world outside; loopback (the sandbox) is always reached directly.
fn client(loopback: bool) -> Result<&'static Client, SendError> {
    static DIRECT: OnceLock<Result<Client, String>> = OnceLock::new();
    static WORLD: OnceLock<Result<Client, String>> = OnceLock::new();
    let cell = if loopback { &DIRECT } else { &WORLD };
    cell.get_or_init(|| {
        // Another part of the program may have installed it already, which is as good.
        let _already = rustls::crypto::ring::default_provider().install_default();
        let builder = || {
            Client::builder()
                .user_agent(concat!("runbook/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(CONNECT_TIMEOUT)
                .pool_idle_timeout(IDLE_TIMEOUT)
                .redirect(reqwest::redirect::Policy::none())
        };
        let built = if loopback {
            // A machine without certificate authorities can still talk to its own sandbox.
            let bare = || builder().no_proxy().tls_certs_only([]).build();
            builder().no_proxy().build().or_else(|_| bare())
        } else {
            builder().build()
        };
        built.map_err(|error| error.without_url().to_string())
    })
    .as_ref()
    .map_err(|why| SendError::Setup(why.clone()))
}

fn is_loopback(url: &Url) -> bool {
    match url.host_str() {
        Some("localhost") => true,
        Some(host) => {
            host.trim_matches(['[', ']']).parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        }
        None => false,
    }
}

fn host(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (Some(host), None) => host.to_owned(),
        (None, _) => "(no host)".to_owned(),
    }
}

/// Sends it once. A GET or HEAD follows redirects that stay on its origin; any other redirect is
/// handed back as the answer, so that credentials never travel to another host.
pub(crate) async fn send(request: &Request<'_>) -> Result<Answer, SendError> {
    let mut url = request.url.clone();
    for _ in 0..REDIRECTS_MAX {
        let answer = send_to(request, &url).await?;
        match redirect(request, &url, &answer) {
            Some(next) => url = next,
            None => return Ok(answer),
        }
    }
    send_to(request, &url).await
}

fn redirect(request: &Request<'_>, from: &Url, answer: &Answer) -> Option<Url> {
    let follows = matches!(request.method, Method::GET | Method::HEAD);
    if !follows || !matches!(answer.status, 301 | 302 | 303 | 307 | 308) {
        return None;
    }
    let next = from.join(answer.headers.get(LOCATION)?.to_str().ok()?).ok()?;
    (next.origin() == from.origin()).then_some(next)
}

async fn send_to(request: &Request<'_>, url: &Url) -> Result<Answer, SendError> {
    let lost = |source: reqwest::Error| SendError::Lost { host: host(url), source: source.without_url() };
    let mut builder = client(is_loopback(url))?
        .request(request.method.clone(), url.clone())
        .headers(request.headers.clone())
        .timeout(request.deadline);
    if let Some(body) = request.body {
        builder = builder.body(body.to_vec());
    }
    let mut response = builder.send().await.map_err(|source| {
        if source.is_connect() || source.is_builder() {
            SendError::NotSent { host: host(url), source: source.without_url() }
        } else {
            lost(source)
        }
    })?;
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(lost)? {
        if body.len() + chunk.len() > request.bytes_max {
            return Err(SendError::TooLarge { host: host(url), bytes_max: request.bytes_max });
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Answer { status: response.status().as_u16(), headers: response.headers().clone(), body })
}
