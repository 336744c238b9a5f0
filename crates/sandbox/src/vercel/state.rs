//! What the stand-in knows of the project, and how time moves it on.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{PROJECT, TEAM};
use crate::disk;

/// The project with its variables, deployments and flags.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Vercel {
    pub(crate) id: String,
    pub(crate) global_config: String,
    /// Where the application answers; each deployment does below it.
    #[serde(default)]
    pub(crate) app_url: String,
    pub(crate) env: Vec<EnvVar>,
    /// Oldest first.
    pub(crate) deployments: Vec<Deployment>,
    /// Id of the deployment that users see.
    pub(crate) production: Option<String>,
    pub(crate) alias_request: Option<AliasRequest>,
    /// A rollback turns it off until the next promotion.
    pub(crate) auto_assign: bool,
    pub(crate) crons_disabled_at: Option<Timestamp>,
    pub(crate) crons_enabled_at: Option<Timestamp>,
    pub(crate) paused: bool,
    pub(crate) flags: BTreeMap<String, Flag>,
}

/// An environment variable.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct EnvVar {
    pub(crate) id: String,
    pub(crate) key: String,
    pub(crate) value: String,
    pub(crate) kind: String,
    pub(crate) target: Vec<String>,
    pub(crate) git_branch: Option<String>,
    pub(crate) comment: Option<String>,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// A deployment. Its variables are those of the moment when it was built.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Deployment {
    pub(crate) id: String,
    pub(crate) url: String,
    pub(crate) target: Option<String>,
    pub(crate) meta: BTreeMap<String, String>,
    pub(crate) created_at: Timestamp,
    pub(crate) ready_at: Timestamp,
    /// The moment when it has been given the production domain, if it has.
    pub(crate) assigned: bool,
    pub(crate) cancelled: bool,
    /// Made with `autoAssignCustomDomains: false`: it serves no earlier than it is promoted.
    #[serde(default)]
    pub(crate) held: bool,
    pub(crate) snapshot: BTreeMap<String, String>,
}

/// The latest promotion or rollback.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct AliasRequest {
    pub(crate) kind: String,
    pub(crate) from: Option<String>,
    pub(crate) to: String,
    pub(crate) requested_at: Timestamp,
    pub(crate) due_at: Timestamp,
    pub(crate) done: bool,
}

/// A global-config item.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Flag {
    pub(crate) value: Value,
    pub(crate) created_at: Timestamp,
    pub(crate) updated_at: Timestamp,
}

/// A random id as Vercel writes them: `dpl_…`.
pub(super) fn fresh_id(prefix: &str) -> String {
    let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    format!("{prefix}_{}", disk::random_text(24, letters))
}

/// `now` and so many milliseconds.
pub(super) fn later(now: Timestamp, ms: u64) -> Timestamp {
    let wait = SignedDuration::from_millis(i64::try_from(ms).unwrap_or(i64::MAX / 2));
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

impl Vercel {
    /// A project with ids and nothing else.
    pub(crate) fn new(now: Timestamp) -> Self {
        Self {
            id: fresh_id("prj"),
            global_config: fresh_id("ecfg"),
            auto_assign: true,
            crons_enabled_at: Some(now),
            ..Self::default()
        }
    }

    /// Adds a variable for production.
    pub(crate) fn set_production(&mut self, key: &str, value: String, kind: &str, now: Timestamp) {
        let (key, kind, target) = (key.to_owned(), kind.to_owned(), vec!["production".to_owned()]);
        let id = fresh_id("env");
        self.env.push(EnvVar {
            id,
            key,
            value,
            kind,
            target,
            git_branch: None,
            comment: None,
            created_at: now,
            updated_at: now,
        });
    }

    /// Starts a deployment with the variables of now.
    pub(crate) fn deploy(
        &mut self,
        target: Option<String>,
        meta: BTreeMap<String, String>,
        now: Timestamp,
        build_ms: u64,
    ) -> &mut Deployment {
        let wanted = target.as_deref().unwrap_or("preview");
        let snapshot = self
            .env
            .iter()
            .filter(|var| var.target.iter().any(|t| t == wanted) && var.git_branch.is_none())
            .map(|var| (var.key.clone(), var.value.clone()))
            .collect();
        let id = fresh_id("dpl");
        let url = format!(
            "{PROJECT}-{}.vercel.local",
            disk::random_text(9, b"abcdefghijklmnopqrstuvwxyz0123456789")
        );
        let ready_at = later(now, build_ms);
        let made = Deployment {
            id,
            url,
            target,
            meta,
            created_at: now,
            ready_at,
            assigned: false,
            cancelled: false,
            held: false,
            snapshot,
        };
        self.deployments.push_mut(made)
    }

    pub(crate) fn deployment(&self, id_or_url: &str) -> Option<&Deployment> {
        self.deployments.iter().find(|d| d.id == id_or_url || d.url == id_or_url)
    }

    /// The deployment that users see.
    pub(crate) fn live(&self) -> Option<&Deployment> {
        self.deployment(self.production.as_deref()?)
    }

    /// Whether the `read_only` flag is set.
    pub(crate) fn is_read_only(&self) -> bool {
        self.flags.get("read_only").is_some_and(|flag| flag.value == Value::Bool(true))
    }

    /// Lets builds finish and promotions take hold.
    pub(crate) fn advance(&mut self, now: Timestamp) {
        for deployment in &mut self.deployments {
            let ready = !deployment.cancelled && now >= deployment.ready_at;
            if ready && !deployment.assigned && deployment.target.as_deref() == Some("production") {
                deployment.assigned = true;
                if self.auto_assign && !deployment.held {
                    self.production = Some(deployment.id.clone());
                }
            }
        }
        if let Some(request) = self.alias_request.as_mut().filter(|r| !r.done && now >= r.due_at) {
            request.done = true;
            self.production = Some(request.to.clone());
            self.auto_assign = request.kind == "promote";
        }
    }

    pub(super) fn show_project(&self, now: Timestamp) -> Value {
        let production = self.live().map(|d| d.show(self, now));
        let alias_request = self.alias_request.as_ref().map(|r| {
            json!({
                "type": r.kind, "jobStatus": if r.done { "succeeded" } else { "in-progress" },
                "fromDeploymentId": r.from, "toDeploymentId": r.to, "requestedAt": r.requested_at.as_millisecond(),
            })
        });
        json!({
            "id": self.id, "name": PROJECT, "accountId": TEAM, "framework": "nextjs", "live": false,
            "crons": {
                "definitions": [
                    { "path": "/api/cron/digest", "schedule": "0 6 * * *", "host": "polaris.local" },
                    { "path": "/api/cron/expire", "schedule": "*/10 * * * *", "host": "polaris.local" },
                ],
                "deploymentId": self.production,
                "disabledAt": self.crons_disabled_at.map(Timestamp::as_millisecond),
                "enabledAt": self.crons_enabled_at.map(Timestamp::as_millisecond),
                "updatedAt": self.crons_disabled_at.max(self.crons_enabled_at).map(Timestamp::as_millisecond),
            },
            "paused": self.paused,
            "autoAssignCustomDomains": self.auto_assign,
            "lastAliasRequest": alias_request,
            "targets": { "production": production },
        })
    }
}

impl Deployment {
    pub(crate) fn state(&self, now: Timestamp) -> &'static str {
        if self.cancelled {
            "CANCELED"
        } else if now >= self.ready_at {
            "READY"
        } else {
            "BUILDING"
        }
    }

    pub(super) fn show(&self, project: &Vercel, now: Timestamp) -> Value {
        let live = project.production.as_deref() == Some(self.id.as_str());
        let state = self.state(now);
        let alias: &[&str] = if live { &["polaris.local"] } else { &[] };
        json!({
            "id": self.id, "uid": self.id, "url": format!("{}/deployments/{}", project.app_url, self.id), "name": PROJECT, "projectId": project.id,
            "target": self.target, "meta": self.meta, "readyState": state, "state": state, "status": state,
            "createdAt": self.created_at.as_millisecond(), "created": self.created_at.as_millisecond(),
            "ready": (state == "READY").then(|| self.ready_at.as_millisecond()),
            "readySubstate": (state == "READY").then_some(if live { "PROMOTED" } else { "STAGED" }),
            "alias": alias, "aliasAssigned": live, "aliasError": null, "public": false, "regions": ["sin1"],
            "creator": { "uid": "user_sandbox", "username": "sandbox" },
        })
    }
}
