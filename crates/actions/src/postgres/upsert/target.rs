//! The table that rows go into, as its database describes it. Reads only.

use runbook_core::action::ActionError;
use runbook_dump::QualifiedName;

use crate::postgres::rows::source::table_name;
use crate::postgres::session::{Session, timed};
use crate::postgres::sql::{plain, qualified, quoted};

use super::params::{DifferenceParams, Update, UpdateWord};

/// One column.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) generated: bool,
    pub(super) identity: bool,
    always: bool,
    required: bool,
}

/// One reference from a table to another.
#[derive(Debug, Clone)]
pub(super) struct Reference {
    pub(super) name: String,
    /// The other table, quoted.
    pub(super) table: String,
    /// Columns here, and there.
    pub(super) columns: Vec<String>,
    pub(super) others: Vec<String>,
}

/// The table, and what is to be written to it.
#[derive(Debug, Clone)]
pub(super) struct Target {
    /// Quoted.
    pub(super) name: String,
    pub(super) columns: Vec<Column>,
    /// Foreign keys of the table, and those that point at it.
    pub(super) parents: Vec<Reference>,
    pub(super) children: Vec<Reference>,
    pub(super) triggers: Vec<String>,
    /// Columns of the rows that are written, in their order.
    pub(super) write: Vec<String>,
    pub(super) conflict: Vec<String>,
    pub(super) update: Vec<String>,
}

impl Target {
    /// Looks at the table and holds the parameters to it.
    pub(super) async fn find(session: &Session, params: &DifferenceParams) -> Result<Self, ActionError> {
        let text = params.table.as_ref().unwrap_or(&params.rows.table);
        let table = table_name(text)?;
        let attempted = || format!("look at `{text}` in `{}`", session.label);
        let columns = columns(session, &table).await?;
        let schema = table.schema.as_deref().unwrap_or("public");
        if columns.is_empty() {
            return Err(ActionError::refused(format!("{}: there is no such table", attempted()))
                .code("no-such-table"));
        }
        let mut target = Self {
            name: qualified(schema, &table.name),
            columns,
            parents: Vec::new(),
            children: Vec::new(),
            triggers: Vec::new(),
            write: Vec::new(),
            conflict: params.conflict.names(),
            update: Vec::new(),
        };
        target.choose(params)?;
        target.unique(session).await?;
        target.parents = references(session, &target.name, "conrelid", "confrelid").await?;
        target.children = references(session, &target.name, "confrelid", "conrelid").await?;
        let triggers = "select tgname::text from pg_catalog.pg_trigger where tgrelid = $1::text::regclass \
                        and not tgisinternal and tgenabled in ('O', 'A') order by 1";
        let rows = timed(session.client.query(triggers, &[&target.name]), attempted).await?;
        target.triggers = rows.iter().map(|row| row.get(0)).collect();
        Ok(target)
    }

    pub(super) fn shown(&self) -> String {
        plain(&self.name)
    }

    fn refused(&self, why: impl std::fmt::Display) -> ActionError {
        ActionError::refused(format!("put rows into `{}`: {why}", self.shown()))
    }

    fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Decides what is written and what is changed.
    fn choose(&mut self, params: &DifferenceParams) -> Result<(), ActionError> {
        let given: Vec<&String> =
            params.rows.columns.iter().filter(|name| !params.skip_columns.contains(name)).collect();
        let gone: Vec<&str> =
            given.iter().filter(|name| self.column(name).is_none()).map(|name| name.as_str()).collect();
        if !gone.is_empty() {
            return Err(self
                .refused(format!("it has no column {}", gone.join(", ")))
                .code("columns-missing")
                .hint(
                    "The table has changed since the backup. Name them in `skip_columns` to leave them out.",
                ));
        }
        let computed = |name: &&&String| self.column(name).is_some_and(|column| column.generated);
        self.write = given.iter().filter(|name| !computed(name)).map(|name| (*name).clone()).collect();
        if let Some(name) = self.conflict.iter().find(|name| !self.write.contains(name)) {
            return Err(self.refused(format!("the rows have no column `{name}` to tell them apart by")));
        }
        let fixed = |name: &String| {
            self.conflict.contains(name) || self.column(name).is_some_and(|column| column.always)
        };
        self.update = match &params.update {
            Update::Word(UpdateWord::None) => Vec::new(),
            Update::Word(UpdateWord::All) => self.write.iter().filter(|name| !fixed(name)).cloned().collect(),
            Update::Columns(names) => {
                let odd: Vec<&str> = names
                    .iter()
                    .filter(|name| !self.write.contains(name) || fixed(name))
                    .map(String::as_str)
                    .collect();
                if !odd.is_empty() {
                    return Err(self.refused(format!(
                        "`update` names {}, which the rows do not have, or which tells rows apart or is set by the database",
                        odd.join(", ")
                    )));
                }
                names.clone()
            }
        };
        Ok(())
    }

    /// Columns that a new row needs and the rows do not have.
    pub(super) fn lacking(&self) -> Vec<&str> {
        let lacks = |column: &&Column| column.required && !self.write.contains(&column.name);
        self.columns.iter().filter(lacks).map(|column| column.name.as_str()).collect()
    }

    async fn unique(&self, session: &Session) -> Result<(), ActionError> {
        let sql = "select 1 from pg_catalog.pg_index i where i.indrelid = $1::text::regclass and i.indisunique \
                   and i.indisvalid and i.indimmediate and i.indpred is null and i.indexprs is null and \
                   (select array_agg(a.attname::text order by a.attname::text) from pg_catalog.pg_attribute a \
                     where a.attrelid = i.indrelid and a.attnum = any (i.indkey[0:i.indnkeyatts - 1])) = \
                   (select array_agg(x order by x) from unnest($2::text[]) x) limit 1";
        let found = timed(session.client.query_opt(sql, &[&self.name, &self.conflict]), || {
            format!("look at the constraints of `{}` in `{}`", self.shown(), session.label)
        })
        .await?;
        match found {
            Some(_) => Ok(()),
            None => Err(self
                .refused(format!("it has no unique constraint on {}", self.conflict.join(", ")))
                .code("conflict-not-unique")),
        }
    }

    /// Every column that a row holds by itself: what is kept of rows as they were.
    pub(super) fn stored(&self) -> Vec<String> {
        self.columns.iter().filter(|column| !column.generated).map(|column| column.name.clone()).collect()
    }

    /// Columns that an UPDATE may set: not the key, and nothing that the database sets itself.
    pub(super) fn changeable(&self) -> Vec<String> {
        let own =
            |column: &&Column| !column.generated && !column.always && !self.conflict.contains(&column.name);
        self.columns.iter().filter(own).map(|column| column.name.clone()).collect()
    }

    /// `OVERRIDING SYSTEM VALUE` when values go into identity columns.
    pub(super) fn overriding(&self, columns: &[String]) -> &'static str {
        let identity = |name: &String| self.column(name).is_some_and(|column| column.identity);
        if columns.iter().any(identity) { "overriding system value" } else { "" }
    }

    /// `a.k = b.k and …` over the columns that tell rows apart.
    pub(super) fn same(&self, left: &str, right: &str) -> String {
        let same = |name: &String| format!("{left}.{0} = {right}.{0}", quoted(name));
        self.conflict.iter().map(same).collect::<Vec<_>>().join(" and ")
    }

    /// `a.c::text is distinct from b.c::text or …`; texts, since not every type knows equality.
    pub(super) fn differ(&self, columns: &[String], left: &str, right: &str) -> String {
        if columns.is_empty() {
            return "false".into();
        }
        let differ =
            |name: &String| format!("{left}.{0}::text is distinct from {right}.{0}::text", quoted(name));
        columns.iter().map(differ).collect::<Vec<_>>().join(" or ")
    }
}

/// Names with commas, each under an alias.
pub(super) fn listed(columns: &[String], alias: &str) -> String {
    let dot = if alias.is_empty() { "" } else { "." };
    columns.iter().map(|name| format!("{alias}{dot}{}", quoted(name))).collect::<Vec<_>>().join(", ")
}

async fn columns(session: &Session, table: &QualifiedName) -> Result<Vec<Column>, ActionError> {
    let sql = "select a.attname::text, a.attgenerated <> '', a.attidentity <> '', a.attidentity = 'a', \
               a.attnotnull and not a.atthasdef and a.attidentity = '' from pg_catalog.pg_attribute a \
               join pg_catalog.pg_class c on c.oid = a.attrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
               where n.nspname = $1 and c.relname = $2 and c.relkind in ('r', 'p') and a.attnum > 0 \
               and not a.attisdropped order by a.attnum";
    let schema = table.schema.as_deref().unwrap_or("public");
    let rows = timed(session.client.query(sql, &[&schema, &table.name]), || {
        format!("look at the columns of a table in `{}`", session.label)
    })
    .await?;
    let column = |row: &tokio_postgres::Row| Column {
        name: row.get(0),
        generated: row.get(1),
        identity: row.get(2),
        always: row.get(3),
        required: row.get(4),
    };
    Ok(rows.iter().map(column).collect())
}

async fn references(
    session: &Session,
    table: &str,
    mine: &str,
    other: &str,
) -> Result<Vec<Reference>, ActionError> {
    let names = |key: &str, of: &str| {
        format!(
            "array(select a.attname::text from pg_catalog.unnest(x.{key}) with ordinality k(n, o) \
             join pg_catalog.pg_attribute a on a.attrelid = x.{of} and a.attnum = k.n order by k.o)"
        )
    };
    let keys = [("conrelid", "conkey"), ("confrelid", "confkey")];
    let key_of = |of: &str| keys.iter().find(|(relid, _)| *relid == of).map_or("conkey", |(_, key)| key);
    let sql = format!(
        "select x.conname::text, n.nspname::text, c.relname::text, {}, {} from pg_catalog.pg_constraint x \
         join pg_catalog.pg_class c on c.oid = x.{other} join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         where x.contype = 'f' and x.conparentid = 0 and x.{mine} = $1::text::regclass order by 1",
        names(key_of(mine), mine),
        names(key_of(other), other)
    );
    let rows = timed(session.client.query(&sql, &[&table]), || {
        format!("look at the foreign keys of a table in `{}`", session.label)
    })
    .await?;
    let reference = |row: &tokio_postgres::Row| Reference {
        name: row.get(0),
        table: qualified(row.get(1), row.get(2)),
        columns: row.get(3),
        others: row.get(4),
    };
    Ok(rows.iter().map(reference).collect())
}
