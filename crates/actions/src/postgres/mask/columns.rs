//! Which columns a database has, and of what shape their values are, as far as masking cares: domains are taken
//! for what is under them.

use std::collections::BTreeMap;

use runbook_core::action::ActionError;

use super::scan::Reference;
use crate::postgres::catalog::own;
use crate::postgres::session::{Session, failed};
use crate::postgres::sql::qualified;

/// The shape of a column's values.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Kind {
    /// Text of so many characters at most.
    Text(Option<usize>),
    Json,
    Bytea,
    Inet,
    Mac,
    Uuid,
    Array(Box<Kind>),
    /// Anything else; whether it could hold what people wrote.
    Other {
        text_like: bool,
    },
}

impl Kind {
    /// Whether it could hold personal text, and so must be classified.
    pub(super) fn is_text_like(&self) -> bool {
        match self {
            Self::Text(_) | Self::Json | Self::Bytea | Self::Inet | Self::Mac => true,
            Self::Uuid => false,
            Self::Array(of) => of.is_text_like(),
            Self::Other { text_like } => *text_like,
        }
    }
}

/// One column.
#[derive(Debug, Clone)]
pub(super) struct Column {
    pub(super) name: String,
    pub(super) kind: Kind,
    /// As SQL writes it.
    pub(super) shown: String,
    pub(super) not_null: bool,
    /// Worked out from other columns: never loaded, never written.
    pub(super) generated: bool,
    /// Worth searching: numbers and text, not clocks and flags.
    pub(super) searched: bool,
}

/// Columns of tables by quoted name, and the relation's kind.
pub(super) type Tables = BTreeMap<String, Vec<Column>>;

/// The columns of every table of the given kinds (`pg_class.relkind`).
pub(super) async fn read(session: &Session, kinds: &str) -> Result<Tables, ActionError> {
    let sql = format!(
        "select n.nspname, c.relname, a.attname, a.attnotnull, a.attgenerated <> '', \
           pg_catalog.format_type(a.atttypid, a.atttypmod), b.typname, b.typtype::text, b.typcategory::text, \
           bn.nspname = 'pg_catalog', u.typmod, e.typname, e.typtype::text, en.nspname = 'pg_catalog' \
         from pg_catalog.pg_attribute a join pg_catalog.pg_class c on c.oid = a.attrelid \
         join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         join lateral (with recursive under(oid, typmod) as ( \
             select a.atttypid, a.atttypmod union all \
             select t.typbasetype, t.typtypmod from under join pg_catalog.pg_type t on t.oid = under.oid \
             where t.typtype = 'd') \
           select under.oid, under.typmod from under join pg_catalog.pg_type t on t.oid = under.oid \
           where t.typtype <> 'd') u on true \
         join pg_catalog.pg_type b on b.oid = u.oid \
         join pg_catalog.pg_namespace bn on bn.oid = b.typnamespace \
         left join pg_catalog.pg_type e on e.oid = b.typelem and b.typcategory = 'A' \
         left join pg_catalog.pg_namespace en on en.oid = e.typnamespace \
         where a.attnum > 0 and not a.attisdropped and {} and c.relkind::text = any ($1) \
         order by n.nspname, c.relname, a.attnum",
        own("n", "pg_class", "c.oid")
    );
    let kinds: Vec<String> = kinds.chars().map(String::from).collect();
    let asked = session.client.query(&sql, &[&kinds]).await;
    let rows = asked.map_err(|error| failed(format!("read the columns of `{}`", session.label), error))?;
    let mut tables = Tables::new();
    for row in rows {
        let flag = |at: usize| row.get::<_, Option<bool>>(at).unwrap_or(false);
        let text = |at: usize| row.get::<_, Option<String>>(at).unwrap_or_default();
        let typmod: i32 = row.get(10);
        let base = Base { name: text(6), typtype: text(7), category: text(8), system: flag(9), typmod };
        let kind = if base.category == "A" && row.get::<_, Option<String>>(11).is_some() {
            let element =
                Base { name: text(11), typtype: text(12), category: String::new(), system: flag(13), typmod };
            Kind::Array(Box::new(element.kind()))
        } else {
            base.kind()
        };
        let searched = kind.is_text_like()
            || matches!(base.name.as_str(), "int4" | "int8" | "numeric" | "uuid" | "money");
        tables.entry(qualified(row.get(0), row.get(1))).or_default().push(Column {
            name: row.get(2),
            kind,
            shown: row.get(5),
            not_null: row.get(3),
            generated: flag(4),
            searched,
        });
    }
    Ok(tables)
}

/// What the catalog says of a type.
struct Base {
    name: String,
    typtype: String,
    category: String,
    system: bool,
    typmod: i32,
}

impl Base {
    fn kind(&self) -> Kind {
        if self.name == "citext" {
            return Kind::Text(None);
        }
        if self.typtype == "e" || self.typtype == "r" || self.typtype == "m" {
            return Kind::Other { text_like: false };
        }
        if !self.system || self.typtype != "b" {
            // A type of an extension, or a composite one: who knows what is in it.
            return Kind::Other { text_like: true };
        }
        match self.name.as_str() {
            "varchar" | "bpchar" => Kind::Text(usize::try_from(self.typmod - 4).ok()),
            "text" | "xml" => Kind::Text(None),
            "name" => Kind::Text(Some(63)),
            "char" => Kind::Text(Some(1)),
            "json" | "jsonb" => Kind::Json,
            "bytea" => Kind::Bytea,
            "inet" | "cidr" => Kind::Inet,
            "macaddr" => Kind::Mac,
            "uuid" => Kind::Uuid,
            "tsvector" | "tsquery" | "jsonpath" | "macaddr8" => Kind::Other { text_like: true },
            _ => Kind::Other { text_like: false },
        }
    }
}

/// Foreign keys that a database has: child column to parent column.
pub(super) async fn references(session: &Session) -> Result<Vec<Reference>, ActionError> {
    let sql = "select n.nspname, c.relname, a.attname, pn.nspname, p.relname, pa.attname \
         from pg_catalog.pg_constraint x \
         cross join lateral rows from (pg_catalog.unnest(x.conkey), pg_catalog.unnest(x.confkey)) as k(child, parent) \
         join pg_catalog.pg_class c on c.oid = x.conrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace \
         join pg_catalog.pg_class p on p.oid = x.confrelid \
         join pg_catalog.pg_namespace pn on pn.oid = p.relnamespace \
         join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum = k.child \
         join pg_catalog.pg_attribute pa on pa.attrelid = p.oid and pa.attnum = k.parent \
         where x.contype = 'f'";
    let asked = session.client.query(sql, &[]).await;
    let rows =
        asked.map_err(|error| failed(format!("read the foreign keys of `{}`", session.label), error))?;
    Ok(rows
        .iter()
        .map(|row| Reference {
            child: (qualified(row.get(0), row.get(1)), row.get(2)),
            parent: (qualified(row.get(3), row.get(4)), row.get(5)),
        })
        .collect())
}
