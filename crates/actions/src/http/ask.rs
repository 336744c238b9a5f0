//! A harmless question to a service, to prove that a credential is taken. Changes nothing; knows no service.

use std::time::Duration;

use base64::Engine as _;
use jiff::Timestamp;
use reqwest::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Url};
use runbook_core::action::ActionError;
use runbook_core::secret::Revealed;
use serde_json::Value;

use super::answer;
use super::client::{Request, send};

/// The whole of one question.
const DEADLINE: Duration = Duration::from_secs(15);
/// Largest answer that is read.
const BYTES_MAX: usize = 4 << 20;

/// How somebody who asks says who they are.
pub(crate) enum Who {
    /// Nobody asks for it.
    Anybody,
    /// `Authorization: Bearer …`
    Bearer(Revealed),
    /// `Authorization: Basic …`
    Basic(Revealed, Revealed),
}

/// One question.
pub(crate) struct Question<'a> {
    /// How errors name the service: `PayPal`.
    pub(crate) system: &'static str,
    /// Follows "could not": `list the webhooks`.
    pub(crate) what: &'a str,
    pub(crate) base: &'a str,
    /// Segments after the base.
    pub(crate) path: &'a [&'a str],
    pub(crate) query: &'a [(&'a str, &'a str)],
    pub(crate) who: Who,
    /// A form to post: only for what hands out tokens.
    pub(crate) form: Option<&'static str>,
}

/// Asks once; the JSON of the answer. A status that is no success is an error in the service's own words.
pub(crate) async fn ask(question: Question<'_>) -> Result<Value, ActionError> {
    let attempted = format!("{} at {}", question.what, question.system);
    let mut url = Url::parse(question.base)
        .map_err(|error| ActionError::refused(format!("{attempted}: its address is wrong")).because(error))?;
    if let Ok(mut segments) = url.path_segments_mut() {
        segments.pop_if_empty().extend(question.path);
    }
    for (name, value) in question.query {
        url.query_pairs_mut().append_pair(name, value);
    }
    let mut headers = HeaderMap::new();
    headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
    let (login, hidden) = match question.who {
        Who::Anybody => (None, Vec::new()),
        Who::Bearer(token) => (Some(format!("Bearer {}", token.expose())), vec![token]),
        Who::Basic(user, password) => {
            let pair = format!("{}:{}", user.expose(), password.expose());
            let packed = base64::engine::general_purpose::STANDARD.encode(pair);
            (Some(format!("Basic {packed}")), vec![user, password])
        }
    };
    if let Some(login) = login {
        let mut value = HeaderValue::try_from(login).map_err(|_| {
            ActionError::refused(format!(
                "{attempted}: its credential holds characters that no header can carry"
            ))
        })?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
    }
    if question.form.is_some() {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/x-www-form-urlencoded"));
    }
    let method = if question.form.is_some() { Method::POST } else { Method::GET };
    let body = question.form.map(str::as_bytes);
    let request = Request { method, url, headers, body, deadline: DEADLINE, bytes_max: BYTES_MAX };
    let answered = send(&request).await;
    let answered =
        answered.map_err(|error| ActionError::unchanged(format!("{attempted}: no answer")).because(error))?;
    if !(200..300).contains(&answered.status) {
        let said = answer::message(&answered.body, &hidden);
        let body = serde_json::from_slice(&answered.body).unwrap_or(Value::Null);
        let wait = answer::retry_after(&answered.headers, &body, Timestamp::now());
        let why = format!("{attempted}: it answered {} {said}", answered.status);
        let error = ActionError::new(why.trim_end(), answer::aftermath(answered.status, wait, true));
        return Err(match answered.status {
            401 | 403 => error.code("not-permitted"),
            _ => error,
        });
    }
    serde_json::from_slice(&answered.body)
        .map_err(|error| ActionError::refused(format!("{attempted}: the answer is not JSON")).because(error))
}
