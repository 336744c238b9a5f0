//! A project is a database, made from the template, and a login role of its own. `postgres.REF`
//! becomes `postgres` when it logs in to its database, so that what it makes belongs to `postgres`,
//! as behind Supabase's pooler. `postgres` may end its backends through `pg_signal_backend`; a
//! membership in the other direction would be a circle, which PostgreSQL refuses.

use super::cluster::{Cluster, TEMPLATE};
use crate::error::SandboxError;

impl Cluster {
    /// Makes database and role of a project, or makes them again where an earlier try was cut off.
    pub(crate) async fn provision(&self, reference: &str, password: &str) -> Result<(), SandboxError> {
        self.drop_project(reference).await?;
        let admin = self.admin("postgres").await?;
        let user = identifier(&format!("postgres.{reference}"));
        let database = identifier(reference);
        for sql in [
            format!("create role {user} login in role postgres password {}", literal(password)),
            format!("create database {database} template {TEMPLATE} owner postgres"),
            // Settings of a database do not come with the template.
            format!("alter database {database} set search_path to \"$user\", public, extensions"),
            format!("alter role {user} in database {database} set role to 'postgres'"),
        ] {
            admin.batch_execute(&sql).await.map_err(SandboxError::database("make the project", reference))?;
        }
        Ok(())
    }

    /// Removes database and role, connections included; nothing happens when they are not there.
    pub(crate) async fn drop_project(&self, reference: &str) -> Result<(), SandboxError> {
        let admin = self.admin("postgres").await?;
        for sql in [
            format!("drop database if exists {} with (force)", identifier(reference)),
            format!("drop role if exists {}", identifier(&format!("postgres.{reference}"))),
        ] {
            admin
                .batch_execute(&sql)
                .await
                .map_err(SandboxError::database("remove the project", reference))?;
        }
        Ok(())
    }

    /// Changes the password of a project's login role.
    pub(crate) async fn set_password(&self, reference: &str, password: &str) -> Result<(), SandboxError> {
        let admin = self.admin("postgres").await?;
        let user = identifier(&format!("postgres.{reference}"));
        admin
            .batch_execute(&format!("alter role {user} password {}", literal(password)))
            .await
            .map_err(SandboxError::database("change the password", reference))
    }

    /// Whether `alter database … set default_transaction_read_only = on` is in force.
    pub(crate) async fn is_read_only(&self, reference: &str) -> Result<bool, SandboxError> {
        let admin = self.admin("postgres").await?;
        let row = admin
            .query_one(
                "select exists (select 1 from pg_db_role_setting s join pg_database d on d.oid = s.setdatabase \
                 where d.datname = $1 and s.setrole = 0 \
                 and 'default_transaction_read_only=on' = any (s.setconfig))",
                &[&reference],
            )
            .await
            .map_err(SandboxError::database("read the settings", reference))?;
        Ok(row.get(0))
    }

    /// `15.8` and `15` of a server that calls itself `15.8 (Debian …)`.
    pub(crate) async fn version(&self) -> Result<(String, String), SandboxError> {
        let admin = self.admin("postgres").await?;
        let row = admin
            .query_one("select split_part(current_setting('server_version'), ' ', 1)", &[])
            .await
            .map_err(SandboxError::database("read the version", "postgres"))?;
        let full: String = row.get(0);
        let major = full.split('.').next().unwrap_or(&full).to_owned();
        Ok((full, major))
    }
}

/// A name, quoted.
fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A string, quoted. Standard-conforming strings are on, so only quotes matter.
fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}
