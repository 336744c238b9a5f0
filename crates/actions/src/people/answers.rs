//! The answers that the executor collected before it started the attempt.

use jiff::Timestamp;
use runbook_core::action::ActionError;
use serde::Deserialize;

/// One person's yes.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Answer {
    /// Who.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// What they wrote beside it.
    #[serde(default)]
    pub reason: Option<String>,
    /// Which of the options.
    #[serde(default)]
    pub choice: Option<String>,
}

/// Who answered, joined; when the last did; what they wrote, joined. Without an answer nothing happened,
/// and the attempt is refused rather than taken for a yes.
pub(super) fn sum_up(
    question: &str,
    answers: &[Answer],
) -> Result<(String, Timestamp, Option<String>), ActionError> {
    let Some(at) = answers.iter().map(|a| a.at).max() else {
        return Err(ActionError::refused(format!("go on: nobody answered `{}`", question.escape_debug())));
    };
    let by: Vec<&str> = answers.iter().map(|a| a.by.as_str()).collect();
    let reasons: Vec<&str> =
        answers.iter().filter_map(|a| a.reason.as_deref()).map(str::trim).filter(|r| !r.is_empty()).collect();
    Ok((by.join(", "), at, (!reasons.is_empty()).then(|| reasons.join("; "))))
}
