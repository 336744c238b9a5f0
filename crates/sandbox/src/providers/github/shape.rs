//! What is remembered, in the shape that the API gives it. Pure.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Issue, REPOSITORY};

const API: &str = "https://api.github.com";

pub(super) fn user(login: &str) -> Value {
    let url = format!("{API}/users/{login}");
    let mut user = json!({
        "login": login, "id": 1, "node_id": "U_1", "avatar_url": format!("https://avatars.example/{login}"),
        "gravatar_id": "", "url": url, "html_url": format!("https://github.com/{login}"), "type": "Bot",
        "site_admin": false,
    });
    for name in [
        "followers",
        "following",
        "gists",
        "starred",
        "subscriptions",
        "organizations",
        "repos",
        "events",
        "received_events",
    ] {
        user[format!("{name}_url")] = json!(format!("{url}/{name}"));
    }
    user
}

pub(super) fn label(name: &str) -> Value {
    json!({
        "id": name.len(), "node_id": format!("LA_{name}"), "name": name, "color": "ededed", "default": false,
        "description": null, "url": format!("{API}/repos/{REPOSITORY}/labels/{name}"),
    })
}

fn second(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

pub(super) fn issue(number: usize, issue: &Issue) -> Value {
    let url = format!("{API}/repos/{REPOSITORY}/issues/{number}");
    let assignees: Vec<Value> = issue.assignees.iter().map(|login| user(login)).collect();
    json!({
        "id": 1_000 + number, "node_id": format!("I_{number}"), "number": number, "url": url,
        "repository_url": format!("{API}/repos/{REPOSITORY}"),
        "labels_url": format!("{url}/labels{{/name}}"), "comments_url": format!("{url}/comments"),
        "events_url": format!("{url}/events"),
        "html_url": format!("https://github.com/{REPOSITORY}/issues/{number}"),
        "title": issue.title, "body": issue.body, "user": user("polaris-bot"),
        "labels": issue.labels.iter().map(|name| label(name)).collect::<Vec<_>>(),
        "state": if issue.closed_at.is_some() { "closed" } else { "open" },
        "state_reason": issue.closed_at.map(|_| "completed"),
        "assignee": assignees.first(), "assignees": assignees, "milestone": null, "locked": false,
        "active_lock_reason": null, "comments": issue.comments.len(), "author_association": "MEMBER",
        "created_at": second(issue.created_at), "updated_at": second(issue.updated_at),
        "closed_at": issue.closed_at.map(second),
    })
}

pub(super) fn comment(number: usize, index: usize, (at, body): &(Timestamp, String)) -> Value {
    let url = format!("{API}/repos/{REPOSITORY}/issues/comments/{index}");
    json!({
        "id": index + 1, "node_id": format!("IC_{index}"), "url": url, "body": body,
        "html_url": format!("https://github.com/{REPOSITORY}/issues/{number}#issuecomment-{index}"),
        "issue_url": format!("{API}/repos/{REPOSITORY}/issues/{number}"), "user": user("polaris-bot"),
        "created_at": second(*at), "updated_at": second(*at), "author_association": "MEMBER",
    })
}
