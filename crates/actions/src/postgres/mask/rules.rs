//! The rule file: what becomes of each column. Reads it strictly and says all mistakes at once. The rules of the
//! platform's own schemas are shipped with this program.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use runbook_core::action::{ActionError, Context};
use runbook_core::diagnostic::Sources;
use runbook_core::document::{Tree, TreeKind};
use runbook_core::suggest;
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use super::detect::Finding;
use super::pseudonym::Format;

/// The shipped rules, and the state of them.
const SUPABASE: &str = include_str!("supabase.yaml");
pub(super) const SUPABASE_VERSION: &str = "supabase-2026-11";
/// A rule file is read whole.
const FILE_BYTES_MAX: u64 = 4 << 20;
/// A shorter one would be found everywhere.
const CANARY_CHARS_MIN: usize = 4;

/// What becomes of a value.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Rule {
    Keep,
    /// It becomes NULL.
    Drop,
    Constant(String),
    Redact,
    Pseudonym {
        format: Format,
        domain: String,
    },
    /// An SQL expression over the row; in place only.
    Sql(String),
    /// The members of a JSON object, each by its own rule.
    Json {
        members: BTreeMap<String, Rule>,
        rest: Box<Rule>,
    },
}

impl Rule {
    /// Whether the value stays as it is.
    pub(super) fn keeps(&self) -> bool {
        matches!(self, Self::Keep)
    }
}

/// What becomes of a table.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum TableRule {
    /// Its rows are left out.
    Drop,
    Columns(BTreeMap<String, Rule>),
}

/// The rules of one masking.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Rules {
    pub(super) key_id: String,
    /// Own rules, by `schema.table`.
    pub(super) own: BTreeMap<String, TableRule>,
    /// Shipped ones, for what the own ones say nothing about.
    pub(super) shipped: BTreeMap<String, TableRule>,
    /// Version of those.
    pub(super) defaults: &'static str,
    pub(super) large_objects: Option<bool>,
    pub(super) canaries: Vec<String>,
    /// What a column may show although it looks like a leak.
    pub(super) allow: BTreeMap<String, BTreeSet<Finding>>,
    pub(super) sha256: String,
}

/// Reads the file that a step names.
pub(super) fn load(ctx: &Context, path: &str) -> Result<Rules, ActionError> {
    let file = ctx.base.join(path);
    let text = read(&file)
        .map_err(|why| ActionError::refused(format!("read the masking rules `{}`: {why}", file.display())))?;
    parse(path, text).map_err(|mistakes| {
        ActionError::refused(format!("read the masking rules `{path}`: {}", mistakes.join("; ")))
            .code("mask-rules")
    })
}

fn read(file: &Path) -> Result<String, String> {
    let length = std::fs::metadata(file).map_err(|error| error.to_string())?.len();
    if length > FILE_BYTES_MAX {
        return Err(format!("it has {length} bytes, more than {FILE_BYTES_MAX}"));
    }
    std::fs::read_to_string(file).map_err(|error| error.to_string())
}

/// Rules from text; all mistakes.
pub(super) fn parse(name: &str, text: String) -> Result<Rules, Vec<String>> {
    let sha256 = hex::encode(Sha256::digest(text.as_bytes()));
    let value = yaml(name, text)?;
    let mut reader = Reader::default();
    let mut rules = reader.file(&value);
    rules.sha256 = sha256;
    if reader.wants_supabase {
        let shipped = yaml("supabase", SUPABASE.to_owned())?;
        if let Some(tables) = shipped.get("tables").and_then(Value::as_object) {
            rules.shipped = reader.tables(tables);
        }
        rules.defaults = SUPABASE_VERSION;
    }
    if reader.wrong.is_empty() { Ok(rules) } else { Err(reader.wrong) }
}

fn yaml(name: &str, text: String) -> Result<Value, Vec<String>> {
    let mut sources = Sources::default();
    let id = sources.add(name.to_owned(), text);
    let (tree, found) = runbook_core::yaml::parse(&sources, id);
    match tree {
        Some(tree) if found.is_empty() => Ok(plain(&tree)),
        _ => Err(found.into_iter().map(|mistake| mistake.message).collect()),
    }
}

fn plain(tree: &Tree) -> Value {
    match &tree.kind {
        TreeKind::Null => Value::Null,
        TreeKind::Bool(value) => Value::Bool(*value),
        TreeKind::Number(value) => Value::Number(value.clone()),
        TreeKind::String(value) => Value::String(value.clone()),
        TreeKind::List(items) => Value::Array(items.iter().map(plain).collect()),
        TreeKind::Map(fields) => {
            Value::Object(fields.iter().map(|(key, value)| (key.value.clone(), plain(value))).collect())
        }
    }
}

/// Collects mistakes, and holds a domain to one format.
#[derive(Default)]
struct Reader {
    wrong: Vec<String>,
    domains: BTreeMap<String, Format>,
    wants_supabase: bool,
}

impl Reader {
    fn wrong(&mut self, message: impl Into<String>) {
        self.wrong.push(message.into());
    }

    fn file(&mut self, value: &Value) -> Rules {
        const KEYS: [&str; 7] =
            ["version", "key_id", "defaults", "tables", "large_objects", "canaries", "allow"];
        let mut rules = Rules {
            key_id: String::new(),
            own: BTreeMap::new(),
            shipped: BTreeMap::new(),
            defaults: "none",
            large_objects: None,
            canaries: Vec::new(),
            allow: BTreeMap::new(),
            sha256: String::new(),
        };
        let Some(file) = value.as_object() else {
            self.wrong("it is no map");
            return rules;
        };
        for key in file.keys().filter(|key| !KEYS.contains(&key.as_str())) {
            self.wrong(format!("`{key}` is none of {}", suggest::list_of(KEYS)));
        }
        if file.get("version") != Some(&Value::from(1)) {
            self.wrong("`version: 1` is missing");
        }
        match file.get("key_id").and_then(Value::as_str).filter(|id| !id.trim().is_empty()) {
            Some(id) => rules.key_id = id.to_owned(),
            None => self.wrong("`key_id` is missing: a name for the key, which is recorded"),
        }
        match file.get("defaults").map(Value::as_str) {
            None | Some(Some("supabase")) => self.wants_supabase = true,
            Some(Some("none")) => {}
            Some(_) => self.wrong("`defaults` is neither `supabase` nor `none`"),
        }
        rules.large_objects = match file.get("large_objects").map(Value::as_str) {
            None => None,
            Some(Some("keep")) => Some(true),
            Some(Some("drop")) => Some(false),
            Some(_) => {
                self.wrong("`large_objects` is neither `keep` nor `drop`");
                None
            }
        };
        match file.get("tables").map(Value::as_object) {
            None => {}
            Some(Some(tables)) => rules.own = self.tables(tables),
            Some(None) => self.wrong("`tables` is no map"),
        }
        rules.canaries = self.canaries(file.get("canaries"));
        rules.allow = self.allow(file.get("allow"));
        rules
    }

    fn canaries(&mut self, value: Option<&Value>) -> Vec<String> {
        let Some(value) = value else { return Vec::new() };
        let texts: Option<Vec<String>> =
            value.as_array().and_then(|list| list.iter().map(|v| v.as_str().map(str::to_owned)).collect());
        let Some(texts) = texts else {
            self.wrong("`canaries` is no list of texts");
            return Vec::new();
        };
        if texts.iter().any(|text| text.trim().chars().count() < CANARY_CHARS_MIN) {
            self.wrong(format!("a canary has less than {CANARY_CHARS_MIN} characters"));
        }
        texts
    }

    fn allow(&mut self, value: Option<&Value>) -> BTreeMap<String, BTreeSet<Finding>> {
        let mut allowed = BTreeMap::new();
        let Some(value) = value else { return allowed };
        let Some(columns) = value.as_object() else {
            self.wrong("`allow` is no map from columns to lists");
            return allowed;
        };
        for (column, kinds) in columns {
            let kinds: Option<BTreeSet<Finding>> = kinds
                .as_array()
                .and_then(|list| list.iter().map(|kind| Finding::named(kind.as_str()?)).collect());
            match kinds {
                Some(kinds) if column.matches('.').count() >= 2 => {
                    allowed.insert(column.clone(), kinds);
                }
                _ => self.wrong(format!(
                    "`allow: {column}`: write `schema.table.column: [{}]`",
                    Finding::NAMES.map(|(name, _)| name).join(", ")
                )),
            }
        }
        allowed
    }

    fn tables(&mut self, tables: &serde_json::Map<String, Value>) -> BTreeMap<String, TableRule> {
        let mut found = BTreeMap::new();
        for (table, value) in tables {
            if !table.contains('.') {
                self.wrong(format!("`{table}` has no schema: write `public.{table}`"));
            }
            let rule = match value {
                Value::String(text) if text == "drop" => TableRule::Drop,
                Value::Object(columns) => TableRule::Columns(
                    columns
                        .iter()
                        .filter_map(|(column, value)| {
                            Some((column.clone(), self.rule(value, &format!("{table}.{column}"))?))
                        })
                        .collect(),
                ),
                _ => {
                    self.wrong(format!("`{table}` is neither `drop` nor a map of columns"));
                    continue;
                }
            };
            found.insert(table.clone(), rule);
        }
        found
    }

    fn rule(&mut self, value: &Value, at: &str) -> Option<Rule> {
        const HELP: &str = "`keep`, `drop`, `redact`, `{ pseudonym: FORMAT, domain: NAME }`, \
                            `{ constant: TEXT }`, `{ sql: EXPRESSION }` or `{ json: { MEMBER: RULE }, rest: RULE }`";
        match value {
            Value::Null => return Some(Rule::Drop),
            Value::String(word) => match word.as_str() {
                "keep" => return Some(Rule::Keep),
                "drop" | "null" => return Some(Rule::Drop),
                "redact" => return Some(Rule::Redact),
                _ => {}
            },
            Value::Object(map) => {
                if let Some(rule) = self.compound(map, at) {
                    return Some(rule);
                }
            }
            _ => {}
        }
        self.wrong(format!("`{at}`: a rule is {HELP}"));
        None
    }

    fn compound(&mut self, map: &serde_json::Map<String, Value>, at: &str) -> Option<Rule> {
        let keys: Vec<&str> = map.keys().map(String::as_str).collect();
        let text = |key: &str| map.get(key).and_then(Value::as_str).map(str::to_owned);
        match keys.as_slice() {
            ["constant"] => Some(Rule::Constant(text("constant")?)),
            ["sql"] => Some(Rule::Sql(text("sql")?)),
            ["pseudonym"] | ["pseudonym", "domain"] | ["domain", "pseudonym"] => {
                let name = text("pseudonym")?;
                let format = Format::NAMES.iter().find(|(known, _)| *known == name)?.1;
                let domain = if keys.len() == 1 { name } else { text("domain")? };
                let known = *self.domains.entry(domain.clone()).or_insert(format);
                if known != format {
                    self.wrong(format!("`{at}`: domain `{domain}` has another format elsewhere"));
                }
                Some(Rule::Pseudonym { format, domain })
            }
            ["json"] | ["json", "rest"] | ["rest", "json"] => {
                let members = map.get("json")?.as_object()?;
                let members = members
                    .iter()
                    .filter_map(|(name, value)| {
                        Some((name.clone(), self.rule(value, &format!("{at}.{name}"))?))
                    })
                    .collect();
                let rest = match map.get("rest") {
                    Some(rest) => self.rule(rest, &format!("{at}.rest"))?,
                    None => Rule::Drop,
                };
                Some(Rule::Json { members, rest: Box::new(rest) })
            }
            _ => None,
        }
    }
}
