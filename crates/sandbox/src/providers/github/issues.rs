//! Issues, comments, labels, search.

use std::collections::HashMap;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, Query, State as Extract};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::IntoResponse;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{Issue, REPOSITORY, Refusal, Reply, WITHOUT_ISSUES, invalid, missing, shape};
use crate::shared::Ctx;

/// So long the search does not know a new issue. The real one takes some seconds, sometimes minutes.
const SEARCH_LAG: SignedDuration = SignedDuration::from_secs(2);
/// Longest body that the API takes.
const BODY_CHARS_MAX: usize = 65_536;

type Pairs = Query<HashMap<String, String>>;

fn body<'b, T: Deserialize<'b>>(bytes: &'b Bytes) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map_err(|error| {
        if error.is_data() {
            return invalid("Issue", "title", "missing_field");
        }
        Refusal(StatusCode::BAD_REQUEST, "Problems parsing JSON", Value::Null)
    })
}

fn number(query: &HashMap<String, String>, name: &str, default: usize) -> usize {
    query.get(name).and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// One page, and where the next one is.
fn page(all: Vec<Value>, query: &HashMap<String, String>, path: &str) -> (Vec<Value>, Option<HeaderValue>) {
    let (size, page) = (number(query, "per_page", 30).clamp(1, 100), number(query, "page", 1).max(1));
    let more = all.len() > size.saturating_mul(page);
    let link = format!("<https://api.github.com{path}?page={}>; rel=\"next\"", page + 1);
    let shown = all.into_iter().skip(size.saturating_mul(page - 1)).take(size).collect();
    (shown, if more { HeaderValue::from_str(&link).ok() } else { None })
}

pub(super) async fn list(Extract(ctx): Extract<Ctx>, Query(query): Pairs) -> Reply {
    let state = query.get("state").map_or("open", String::as_str);
    let since: Option<Timestamp> = match query.get("since") {
        Some(text) => Some(text.parse().map_err(|_| invalid("Issue", "since", "invalid"))?),
        None => None,
    };
    let labels: Vec<&str> = query.get("labels").into_iter().flat_map(|text| text.split(',')).collect();
    let mut found: Vec<Value> = ctx.look(|world| {
        let fits = |issue: &Issue| {
            (state == "all" || (state == "closed") == issue.closed_at.is_some())
                && since.is_none_or(|since| issue.updated_at >= since)
                && labels.iter().all(|wanted| issue.labels.iter().any(|label| label == wanted))
        };
        let all = (1..).zip(&world.providers.github.issues);
        all.filter(|(_, issue)| fits(issue)).map(|(n, issue)| shape::issue(n, issue)).collect()
    });
    if query.get("direction").map(String::as_str) != Some("asc") {
        found.reverse();
    }
    let (shown, next) = page(found, &query, &format!("/repos/{REPOSITORY}/issues"));
    let mut response = Json(shown).into_response();
    if let Some(next) = next {
        response.headers_mut().insert(header::LINK, next);
    }
    Ok(response)
}

#[derive(Deserialize)]
struct Create {
    title: String,
    body: Option<String>,
    #[serde(default)]
    labels: Vec<String>,
    #[serde(default)]
    assignees: Vec<String>,
}

pub(super) async fn create(Extract(ctx): Extract<Ctx>, bytes: Bytes) -> Reply {
    let wanted: Create = body(&bytes)?;
    if wanted.title.trim().is_empty() {
        return Err(invalid("Issue", "title", "missing_field"));
    }
    if wanted.body.as_ref().is_some_and(|body| body.chars().count() > BODY_CHARS_MAX) {
        return Err(invalid("Issue", "body", "too_long"));
    }
    let now = Timestamp::now();
    let shown = ctx.change(|world| {
        let github = &mut world.providers.github;
        for label in &wanted.labels {
            if !github.labels.contains(label) {
                github.labels.push(label.clone());
            }
        }
        github.issues.push(Issue {
            title: wanted.title,
            body: wanted.body,
            labels: wanted.labels,
            assignees: wanted.assignees,
            closed_at: None,
            created_at: now,
            updated_at: now,
            comments: Vec::new(),
        });
        let number = github.issues.len();
        shape::issue(number, &github.issues[number - 1])
    })?;
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

type Numbered = Path<(String, String, usize)>;

/// Reads or changes one issue.
fn at<T>(ctx: &Ctx, number: usize, change: impl FnOnce(&mut Issue) -> T) -> Result<T, Refusal> {
    ctx.try_change(|world| {
        let issues = &mut world.providers.github.issues;
        number.checked_sub(1).and_then(|index| issues.get_mut(index)).map(change).ok_or_else(missing)
    })
}

pub(super) async fn show(Extract(ctx): Extract<Ctx>, Path((_, _, number)): Numbered) -> Reply {
    Ok(Json(at(&ctx, number, |issue| shape::issue(number, issue))?).into_response())
}

#[derive(Deserialize)]
struct Change {
    title: Option<String>,
    body: Option<String>,
    state: Option<String>,
    labels: Option<Vec<String>>,
}

pub(super) async fn change(
    Extract(ctx): Extract<Ctx>,
    Path((_, _, number)): Numbered,
    bytes: Bytes,
) -> Reply {
    let wanted: Change = body(&bytes)?;
    let now = Timestamp::now();
    let shown = at(&ctx, number, |issue| {
        match wanted.state.as_deref() {
            Some("closed") => issue.closed_at = issue.closed_at.or(Some(now)),
            Some("open") => issue.closed_at = None,
            _ => {}
        }
        issue.title = wanted.title.unwrap_or_else(|| std::mem::take(&mut issue.title));
        issue.body = wanted.body.or_else(|| issue.body.take());
        issue.labels = wanted.labels.unwrap_or_else(|| std::mem::take(&mut issue.labels));
        issue.updated_at = now;
        shape::issue(number, issue)
    })?;
    Ok(Json(shown).into_response())
}

pub(super) async fn comments(Extract(ctx): Extract<Ctx>, Path((_, _, number)): Numbered) -> Reply {
    let shown = at(&ctx, number, |issue| {
        let all = issue.comments.iter().enumerate();
        all.map(|(index, one)| shape::comment(number, index, one)).collect::<Vec<_>>()
    })?;
    Ok(Json(shown).into_response())
}

#[derive(Deserialize)]
struct NewComment {
    body: String,
}

pub(super) async fn comment(
    Extract(ctx): Extract<Ctx>,
    Path((_, _, number)): Numbered,
    bytes: Bytes,
) -> Reply {
    let wanted: NewComment =
        serde_json::from_slice(&bytes).map_err(|_| invalid("IssueComment", "body", "missing_field"))?;
    let shown = at(&ctx, number, |issue| {
        let one = (Timestamp::now(), wanted.body);
        let shown = shape::comment(number, issue.comments.len(), &one);
        issue.updated_at = one.0;
        issue.comments.push(one);
        shown
    })?;
    Ok((StatusCode::CREATED, Json(shown)).into_response())
}

pub(super) async fn labels(Extract(ctx): Extract<Ctx>) -> Reply {
    let shown: Vec<Value> =
        ctx.look(|world| world.providers.github.labels.iter().map(|name| shape::label(name)).collect());
    Ok(Json(shown).into_response())
}

#[derive(Deserialize)]
struct NewLabel {
    name: String,
}

pub(super) async fn create_label(Extract(ctx): Extract<Ctx>, bytes: Bytes) -> Reply {
    let wanted: NewLabel =
        serde_json::from_slice(&bytes).map_err(|_| invalid("Label", "name", "missing_field"))?;
    ctx.try_change(|world| {
        let labels = &mut world.providers.github.labels;
        if labels.contains(&wanted.name) {
            return Err(invalid("Label", "name", "already_exists"));
        }
        labels.push(wanted.name.clone());
        Ok(())
    })?;
    Ok((StatusCode::CREATED, Json(shape::label(&wanted.name))).into_response())
}

/// Finds issues by a quoted text in their body; `repo:` must name a repository that there is.
pub(super) async fn search(Extract(ctx): Extract<Ctx>, Query(query): Pairs) -> Reply {
    let q = query.get("q").filter(|q| !q.trim().is_empty());
    let q = q.ok_or_else(|| invalid("Search", "q", "missing"))?;
    let named = q.split_whitespace().filter_map(|word| word.strip_prefix("repo:")).next();
    if named.is_some_and(|repository| repository != REPOSITORY && repository != WITHOUT_ISSUES) {
        return Err(invalid("Search", "q", "invalid"));
    }
    let phrase = q.split('"').nth(1).unwrap_or_default().to_lowercase();
    let now = Timestamp::now();
    let found: Vec<Value> = ctx.look(|world| {
        let knows = |issue: &Issue| {
            let text = format!("{} {}", issue.title, issue.body.as_deref().unwrap_or_default());
            now.duration_since(issue.updated_at) >= SEARCH_LAG && text.to_lowercase().contains(&phrase)
        };
        let all = (1..).zip(&world.providers.github.issues);
        all.filter(|(_, issue)| named != Some(WITHOUT_ISSUES) && knows(issue))
            .map(|(number, issue)| {
                let mut shown = shape::issue(number, issue);
                shown["score"] = json!(1.0);
                shown
            })
            .collect()
    });
    let total = found.len();
    let (items, _) = page(found, &query, "/search/issues");
    Ok(Json(json!({
        "total_count": total, "incomplete_results": false, "items": items, "search_type": "lexical",
    }))
    .into_response())
}
