//! The minijinja environment: a fixed list of filters, tests and functions, none of which can grow a
//! value beyond [`VALUE_BYTES_MAX`] or look outside the scope it is given.

use std::sync::LazyLock;

use minijinja::value::ValueKind;
use minijinja::{Environment, Error, ErrorKind, State, UndefinedBehavior, Value};

/// Largest value a template may give, in bytes of JSON: a prompt or a list of objects fits, a dump does not.
pub const VALUE_BYTES_MAX: usize = 1 << 20;

/// Instructions one evaluation may take: a loop over every table of a large schema fits.
const FUEL: u64 = 1_000_000;

/// Nesting of blocks and calls; an author's template needs a handful.
const DEPTH_MAX: usize = 64;

/// The filters a template may use.
pub const FILTERS: &[&str] = &[
    "abs",
    "attr",
    "bool",
    "capitalize",
    "count",
    "d",
    "default",
    "dictsort",
    "first",
    "float",
    "groupby",
    "int",
    "items",
    "join",
    "last",
    "length",
    "lines",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "select",
    "selectattr",
    "sort",
    "split",
    "string",
    "sum",
    "title",
    "tojson",
    "trim",
    "unique",
    "upper",
];

/// The tests that may follow `is`.
pub const TESTS: &[&str] = &[
    "boolean",
    "defined",
    "divisibleby",
    "endingwith",
    "eq",
    "equalto",
    "even",
    "false",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "int",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sequence",
    "startingwith",
    "string",
    "true",
    "undefined",
    "upper",
];

/// The functions a template may call.
pub const FUNCTIONS: &[&str] = &["dict", "range"];

/// Everything minijinja brings that is left out: it formats without a bound, keeps state or escapes for HTML.
const LEFT_OUT: &[&str] =
    &["safe", "escape", "e", "pprint", "indent", "format", "batch", "slice", "chain", "zip"];

/// The environment for expressions, which it can own. A text needs one of its own from [`engine`].
pub(super) fn shared() -> &'static Environment<'static> {
    static SHARED: LazyLock<Environment<'static>> = LazyLock::new(engine);
    &SHARED
}

/// Makes an environment.
pub(super) fn engine<'a>() -> Environment<'a> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Strict);
    env.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    env.set_fuel(Some(FUEL));
    env.set_recursion_limit(DEPTH_MAX);
    env.set_debug(true);
    env.set_formatter(|out, state, value| {
        check_printable(value)?;
        minijinja::escape_formatter(out, state, value)
    });
    for name in LEFT_OUT {
        env.remove_filter(name);
    }
    for name in ["namespace", "debug"] {
        env.remove_global(name);
    }
    env.add_filter("join", join);
    env.add_filter("replace", replace);
    env.add_filter("tojson", to_json);
    env
}

/// What may stand in the middle of a text. Nothing printed as `none`, and no map printed as a dump of itself.
fn check_printable(value: &Value) -> Result<(), Error> {
    let why = match value.kind() {
        ValueKind::Undefined => "it is not defined",
        ValueKind::None => "it is none; give it a value with `| default('…', true)`",
        ValueKind::Map => "it is a map; take a field of it, or print it with `| tojson`",
        ValueKind::Seq | ValueKind::Iterable => "it is a list; print it with `| join(', ')` or `| tojson`",
        _ => return Ok(()),
    };
    Err(Error::new(ErrorKind::InvalidOperation, format!("print a value in a text: {why}")))
}

fn too_large() -> Error {
    Error::new(ErrorKind::InvalidOperation, format!("the value is larger than {VALUE_BYTES_MAX} bytes"))
}

fn join(_: &State, list: &Value, glue: Option<&str>) -> Result<String, Error> {
    let glue = glue.unwrap_or("");
    let mut text = String::new();
    for (at, item) in list.try_iter()?.enumerate() {
        check_printable(&item)?;
        if at > 0 {
            text.push_str(glue);
        }
        text.push_str(&item.to_string());
        if text.len() > VALUE_BYTES_MAX {
            return Err(too_large());
        }
    }
    Ok(text)
}

fn replace(text: &str, from: &str, to: &str) -> Result<String, Error> {
    let count = text.matches(from).count();
    if count.saturating_mul(to.len()).saturating_add(text.len()) > VALUE_BYTES_MAX {
        return Err(too_large());
    }
    Ok(text.replace(from, to))
}

/// Plain JSON: minijinja's own escapes for HTML, which nobody reads here.
fn to_json(value: &Value) -> Result<String, Error> {
    if value.is_undefined() {
        return Err(Error::from(ErrorKind::UndefinedError));
    }
    serde_json::to_string(value)
        .map_err(|e| Error::new(ErrorKind::BadSerialization, "write a value as JSON").with_source(e))
}
