//! What a platform owns in the target, and so is not the dump's to make. Lists and pure decisions; every
//! "leave out" carries its reason, which ends up in the outputs.
//!
//! Sources: the Supabase CLI's own dump filters and the errors that people reported when they restored
//! without them. [`VERSION`] names the state of these lists.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::postgres::catalog::{Catalog, of_table};
use crate::postgres::sql::{What, plain, schema_of};

/// The state of the lists below.
pub(super) const VERSION: &str = "supabase-2026-06";

/// Who owns parts of the target.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Profile {
    /// Nobody but the dump: every statement counts.
    #[default]
    Plain,
    /// A Supabase project: its own schemas, extensions, event triggers and publications stay as they are.
    Supabase,
}

/// Schemas that the platform makes and migrates by itself.
const SCHEMAS: &[&str] = &[
    "auth",
    "storage",
    "realtime",
    "_realtime",
    "extensions",
    "graphql",
    "graphql_public",
    "vault",
    "pgsodium",
    "pgsodium_masks",
    "pgbouncer",
    "supabase_functions",
    "cron",
    "net",
    "pgmq",
    "pgtle",
    "repack",
    "topology",
    "tiger",
    "tiger_data",
    "_analytics",
    "_supavisor",
    "etl",
    "dbdev",
];

/// Of these, the schemas whose rows belong to the project and are loaded.
const LOADED: &[&str] = &["auth", "storage", "pgmq"];

/// Tables in which the platform notes its own migrations: the target has its own rows.
const OWN_ROWS: &[&str] = &[
    "\"auth\".\"schema_migrations\"",
    "\"storage\".\"migrations\"",
    "\"supabase_functions\".\"migrations\"",
    "\"realtime\".\"schema_migrations\"",
];

/// Roles that `postgres` may not become; what they own stays theirs.
const ROLES: &[&str] = &[
    "supabase_admin",
    "supabase_auth_admin",
    "supabase_storage_admin",
    "supabase_functions_admin",
    "supabase_realtime_admin",
    "supabase_replication_admin",
    "supabase_read_only_user",
    "supabase_etl_admin",
    "dashboard_user",
    "pgbouncer",
    "authenticator",
    "pgsodium_keyholder",
    "pgsodium_keyiduser",
    "pgsodium_keymaker",
    "pgtle_admin",
];

/// Whether a statement is carried out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Decision {
    Run,
    Skip(&'static str),
}

use Decision::{Run, Skip};

/// What decisions are made from; `before` is the target as it was before the restore began.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ground<'a> {
    pub(super) profile: Profile,
    pub(super) before: &'a Catalog,
    /// `server_version_num`.
    pub(super) server: i32,
}

impl Ground<'_> {
    /// Whether the platform of the target provides a schema.
    fn platform(&self, schema: &str) -> bool {
        self.profile == Profile::Supabase
            && SCHEMAS.contains(&schema)
            && self.before.schemas.contains(&crate::postgres::sql::quoted(schema))
    }

    fn platform_object(&self, name: &str) -> bool {
        self.platform(&schema_of(name))
    }

    /// Decides about one statement.
    pub(super) fn decide(&self, what: &What) -> Decision {
        match what {
            What::Session { setting } if setting == "transaction_timeout" && self.server < 170_000 => {
                Skip("a server before version 17 does not know the setting")
            }
            What::Database => Skip("the database is the one that was given"),
            What::Create { kind: "schema", name, .. }
                if name == "\"public\"" && self.before.schemas.contains(name) =>
            {
                Skip("it is there")
            }
            What::Insert { table } | What::Copy { table } | What::Analyze { table } => self.rows(table),
            _ if self.profile == Profile::Plain => Run,
            What::Create { kind, name, on } => self.create(kind, name, on.as_deref()),
            What::AddConstraint { table, .. } | What::Validate { table, .. } | What::EnableRls { table }
                if self.platform_object(table) =>
            {
                Skip("the platform owns the table")
            }
            What::Owner { kind, name, role } => self.owner(kind, name, role),
            What::DefaultPrivileges { role } if is_platform_role(role) => {
                Skip("default privileges of a platform role")
            }
            What::On { kind, name, .. } => self.on(kind, name),
            What::Setval { sequence } if self.platform_object(sequence) => {
                self.rows_of_schema(&schema_of(sequence))
            }
            _ => Run,
        }
    }

    fn create(&self, kind: &str, name: &str, on: Option<&str>) -> Decision {
        let there = match kind {
            "schema" => self.before.schemas.contains(name),
            "extension" => self.before.extensions.contains(name),
            "publication" if is_realtime_internal(name) => return Skip("the platform owns the publication"),
            "publication" => self.before.publications.contains(name),
            "event trigger" => self.before.event_triggers.contains(name),
            "trigger" => on.is_some_and(|table| self.before.triggers.contains(&of_table(table, name))),
            "policy" => on.is_some_and(|table| self.before.policies.contains(&of_table(table, name))),
            _ if !self.platform_object(name) => return Run,
            "function" => {
                let start = format!("{name}(");
                self.before.functions.iter().any(|f| f.starts_with(&start))
            }
            "type" => self.before.types.contains(name),
            _ => self.before.relations.contains_key(name),
        };
        if there { Skip("the platform made it") } else { Run }
    }

    fn owner(&self, kind: &str, name: &str, role: &str) -> Decision {
        if is_platform_role(role) {
            return Skip("it belongs to a platform role");
        }
        let owned = match kind {
            "schema" => self.platform(&plain(name)),
            "publication" => name.starts_with("\"supabase_realtime"),
            "event trigger" => self.before.event_triggers.contains(name),
            _ => self.platform_object(name),
        };
        if owned { Skip("the platform owns it") } else { Run }
    }

    fn on(&self, kind: &str, name: &str) -> Decision {
        let owned = match kind {
            "schema" | "all" => self.platform(&plain(name)),
            "extension" => true,
            "publication" => is_realtime_internal(name),
            "event trigger" => self.before.event_triggers.contains(name),
            _ => self.platform_object(name),
        };
        if owned { Skip("the platform owns it") } else { Run }
    }

    /// Whether the rows of a table are loaded.
    fn rows(&self, table: &str) -> Decision {
        if self.profile == Profile::Supabase && OWN_ROWS.contains(&table) {
            return Skip("the target has its own migrations");
        }
        self.rows_of_schema(&schema_of(table))
    }

    fn rows_of_schema(&self, schema: &str) -> Decision {
        if !self.platform(schema) || LOADED.contains(&schema) {
            return Run;
        }
        Skip(match schema {
            "cron" => "loaded cron jobs would start at once: schedule them again after validation",
            "vault" | "pgsodium" => "encrypted under the old project's root key",
            "net" | "supabase_functions" => "a queue of calls that were already made",
            _ => "the platform fills it by itself",
        })
    }

    /// Whether rows in a table mean that the target holds data.
    pub(super) fn is_user_data(&self, table: &str) -> bool {
        self.rows(table) == Run
    }

    /// Whether the platform made the table, so that its triggers stay off while rows are loaded.
    pub(super) fn was_there(&self, table: &str) -> bool {
        self.before.relations.contains_key(table)
    }

    /// Whether a failed statement is a known and harmless one; the reason.
    pub(super) fn forgives(&self, what: &What, sqlstate: &str) -> Option<&'static str> {
        if self.profile == Profile::Plain {
            return None;
        }
        // 42501 insufficient_privilege, 42710 duplicate_object, 42P07 duplicate_table.
        let denied = sqlstate == "42501";
        let there = matches!(sqlstate, "42710" | "42P07");
        match what {
            What::Create { kind: "event trigger", .. } if denied => {
                Some("only the platform may make event triggers")
            }
            What::Create { kind: "index" | "function" | "view" | "type" | "sequence", name, .. }
                if denied && self.platform_object(name) =>
            {
                Some("the platform lets nobody else make objects there")
            }
            What::On { kind, .. } if denied && kind == "publication" => {
                Some("the platform owns the publication")
            }
            // `ALTER PUBLICATION supabase_realtime ADD TABLE` for a table that is in it.
            What::On { kind, .. } if there && kind == "publication" => Some("the publication has the table"),
            _ => None,
        }
    }

    /// What stays when a target is emptied to be overwritten.
    pub(super) fn keep(&self, now: &Catalog) -> Catalog {
        let public = "\"public\"".to_string();
        let mut keep = Catalog { extensions: now.extensions.clone(), ..Catalog::default() };
        if now.schemas.contains(&public) {
            keep.schemas.insert(public);
        }
        if self.profile == Profile::Plain {
            return keep;
        }
        let inside = |name: &str| SCHEMAS.contains(&schema_of(name).as_str());
        keep.schemas.extend(now.schemas.iter().filter(|s| SCHEMAS.contains(&plain(s).as_str())).cloned());
        keep.relations =
            now.relations.iter().filter(|(n, _)| inside(n)).map(|(n, r)| (n.clone(), r.clone())).collect();
        keep.constraints =
            now.constraints.iter().filter(|(n, _)| inside(n)).map(|(n, v)| (n.clone(), *v)).collect();
        let inner = |names: &std::collections::BTreeSet<String>| {
            names.iter().filter(|name| inside(name)).cloned().collect()
        };
        keep.functions = inner(&now.functions);
        keep.types = inner(&now.types);
        keep.triggers = inner(&now.triggers);
        keep.policies = inner(&now.policies);
        keep.event_triggers = now.event_triggers.clone();
        keep.publications = now.publications.iter().filter(|p| p.contains("realtime")).cloned().collect();
        keep
    }
}

fn is_platform_role(role: &str) -> bool {
    ROLES.contains(&plain(role).as_str())
}

fn is_realtime_internal(publication: &str) -> bool {
    publication.contains("realtime_messages_publication")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::postgres::sql::what;

    fn project() -> Catalog {
        let mut before = Catalog::default();
        before.schemas.extend(["\"auth\"", "\"public\"", "\"cron\"", "\"extensions\""].map(String::from));
        let table = crate::postgres::catalog::Relation { kind: 'r', columns: 3, rls: true, valid: true };
        before.relations.insert("\"auth\".\"users\"".into(), table);
        before.extensions.insert("\"pgcrypto\"".into());
        before
    }

    #[test]
    fn what_the_platform_made_is_left_and_what_users_added_runs() {
        let before = project();
        let ground = Ground { profile: Profile::Supabase, before: &before, server: 150_000 };
        let skipped = [
            "CREATE SCHEMA auth",
            "CREATE TABLE auth.users (id uuid)",
            "ALTER TABLE ONLY auth.users ADD CONSTRAINT users_pkey PRIMARY KEY (id)",
            "ALTER TABLE auth.users ENABLE ROW LEVEL SECURITY",
            "ALTER TABLE public.a OWNER TO supabase_admin",
            "GRANT ALL ON TABLE auth.users TO dashboard_user",
            "ALTER DEFAULT PRIVILEGES FOR ROLE supabase_admin IN SCHEMA public GRANT ALL ON TABLES TO anon",
            "COMMENT ON EXTENSION pgcrypto IS 'x'",
            "CREATE EXTENSION IF NOT EXISTS pgcrypto WITH SCHEMA extensions",
            "COPY auth.schema_migrations (version) FROM stdin",
            "COPY cron.job (jobid) FROM stdin",
            "SET transaction_timeout = 0",
        ];
        for sql in skipped {
            assert!(matches!(ground.decide(&what(sql)), Skip(_)), "{sql}");
        }
        let run = [
            "CREATE TRIGGER on_user AFTER INSERT ON auth.users FOR EACH ROW EXECUTE FUNCTION public.f()",
            "CREATE POLICY mine ON auth.users USING (true)",
            "COPY auth.users (id) FROM stdin",
            "CREATE TABLE public.a (id int)",
            "ALTER TABLE public.a OWNER TO postgres",
            "GRANT ALL ON TABLE public.a TO anon",
            "CREATE TABLE app.a (id int)",
            "SET statement_timeout = 0",
        ];
        for sql in run {
            assert_eq!(ground.decide(&what(sql)), Run, "{sql}");
        }
    }

    #[test]
    fn a_plain_restore_leaves_nothing_out() {
        let before = project();
        let ground = Ground { profile: Profile::Plain, before: &before, server: 170_000 };
        for sql in [
            "CREATE TABLE auth.users (id uuid)",
            "COPY cron.job (jobid) FROM stdin",
            "SET transaction_timeout = 0",
        ] {
            assert_eq!(ground.decide(&what(sql)), Run, "{sql}");
        }
    }
}
