//! What the guards know of a step: its action, its tags, and where the databases it touches come from.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::action::{Access, Description, Registry};
use crate::environment::Environment;
use crate::graph::Graph;
use crate::scope::template_references;
use crate::template::Reference;
use crate::types::Connection;
use crate::workflow::{Step, Template, Work, Workflow};

/// References that lead to references; deeper than runbooks can be nested.
const HOPS_MAX: usize = 32;

/// A workflow as the guards see it.
pub(super) struct Facts<'a> {
    pub(super) workflow: &'a Workflow,
    pub(super) environment: Option<&'a Environment>,
    pub(super) graph: Graph<'a>,
    registry: &'a dyn Registry,
}

/// Where a value comes from.
#[derive(Debug, Default)]
pub(super) struct Origin {
    /// Connections of the environment, by name.
    pub(super) connections: BTreeSet<String>,
    /// Some connection, not known which.
    any_connection: bool,
    /// Steps whose outputs it is made of.
    pub(super) steps: BTreeSet<String>,
    /// Maps that are written out.
    pub(super) literals: Vec<Value>,
}

impl<'a> Facts<'a> {
    pub(super) fn new(
        workflow: &'a Workflow,
        environment: Option<&'a Environment>,
        registry: &'a dyn Registry,
    ) -> Self {
        Self { workflow, environment, graph: Graph::new(workflow), registry }
    }

    /// The description of the action that a step calls.
    pub(super) fn description(&self, step: &Step) -> Option<&'a Description> {
        match &step.work {
            Work::Action { name } => self.registry.get(name).map(|action| action.description()),
            Work::Begin | Work::End { .. } => None,
        }
    }

    /// The named connections that a step touches in a way that passes the filter.
    pub(super) fn named_targets(&self, step: &Step, wanted: impl Fn(Access) -> bool) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for target in self.description(step).into_iter().flat_map(|d| &d.targets).filter(|t| wanted(t.access))
        {
            if let Some(template) = step.with.get(target.param) {
                names.extend(self.names(&self.origin(step, template)));
            }
        }
        names
    }

    /// Those of them that users depend on.
    pub(super) fn live_targets(&self, step: &Step, wanted: impl Fn(Access) -> bool) -> BTreeSet<String> {
        let mut names = self.named_targets(step, wanted);
        names.retain(|name| self.connection(name).is_some_and(|connection| connection.live));
        names
    }

    /// Whether a step has such an access at all.
    pub(super) fn has_access(&self, step: &Step, wanted: impl Fn(Access) -> bool) -> bool {
        self.description(step).is_some_and(|d| d.targets.iter().any(|target| wanted(target.access)))
    }

    fn connection(&self, name: &str) -> Option<&'a Connection> {
        self.environment?.connections.get(name)
    }

    fn names(&self, origin: &Origin) -> BTreeSet<String> {
        let mut names = origin.connections.clone();
        let Some(environment) = self.environment else { return names };
        if origin.any_connection {
            names.extend(environment.connections.keys().cloned());
        }
        for literal in &origin.literals {
            names.extend(same_database(environment, literal).map(|(name, _)| name.clone()));
        }
        names
    }

    /// Where a template of a step gets its value from; through inputs and outputs of used runbooks.
    pub(super) fn origin(&self, step: &Step, template: &Template) -> Origin {
        let mut origin = Origin::default();
        self.trace(&template.0, &step.scope, Some(step), HOPS_MAX, &mut origin);
        origin
    }

    fn trace(&self, value: &Value, scope: &str, step: Option<&Step>, hops: usize, origin: &mut Origin) {
        if value.is_object() {
            origin.literals.push(value.clone());
        }
        let mut used = Vec::new();
        template_references(value, &mut used);
        for reference in used {
            if hops > 0 {
                self.follow(&reference, scope, step, hops - 1, origin);
            }
        }
    }

    fn follow(
        &self,
        reference: &Reference,
        scope: &str,
        step: Option<&Step>,
        hops: usize,
        origin: &mut Origin,
    ) {
        let name = reference.path.get(1).map(String::as_str);
        match (reference.path[0].as_str(), name) {
            ("connections", Some(name)) => {
                origin.connections.insert(name.to_owned());
            }
            ("connections", None) => origin.any_connection = true,
            ("vars", Some(name)) => {
                let value = self.environment.and_then(|environment| environment.vars.get(name));
                origin.literals.extend(value.cloned());
            }
            ("inputs", Some(name)) => self.follow_input(name, scope, hops, origin),
            ("steps", Some(id)) => {
                self.follow_step(&format!("{scope}{id}"), reference.path.get(2), hops, origin);
            }
            (item, _) => {
                let each = step.and_then(|step| step.for_each.as_ref()).filter(|each| each.as_name == item);
                if let Some(each) = each {
                    self.trace(&each.items.0, scope, None, hops, origin);
                }
            }
        }
    }

    fn follow_input(&self, name: &str, scope: &str, hops: usize, origin: &mut Origin) {
        if scope.is_empty() {
            origin.literals.extend(self.workflow.inputs.get(name).cloned());
        } else if let Some(begin) = self.graph.step(&format!("{scope}(begin)"))
            && let Some(given) = begin.with.get(name)
        {
            self.trace(&given.0, &begin.scope, None, hops, origin);
        }
    }

    fn follow_step(&self, path: &str, field: Option<&String>, hops: usize, origin: &mut Origin) {
        match self.graph.step(path) {
            Some(Step { work: Work::End { outputs }, .. }) => {
                let inner = format!("{path}/");
                let read = outputs.iter().filter(|(name, _)| field.is_none_or(|field| field == *name));
                for (_, template) in read {
                    self.trace(&template.0, &inner, None, hops, origin);
                }
            }
            _ => {
                origin.steps.insert(path.to_owned());
            }
        }
    }

    /// Whether a person says yes before this step in every execution: its own approval, one of a used
    /// runbook that it is inside of, or a step that only asks.
    pub(super) fn is_approved(&self, step: &Step) -> bool {
        let dominators = self.graph.dominators(&step.path);
        step.approval.is_some()
            || dominators
                .iter()
                .any(|dominator| self.description(dominator).is_some_and(|d| d.asks && !d.chooses))
            || dominators.iter().any(|dominator| {
                let inside = dominator.path.as_str().trim_end_matches("(begin)");
                dominator.work == Work::Begin
                    && dominator.approval.is_some()
                    && step.path.as_str().starts_with(inside)
            })
    }

    /// Whether a step with such a tag was done before this one in every execution.
    pub(super) fn is_dominated_by_tag(&self, step: &Step, tag: &str) -> bool {
        self.graph.dominators(&step.path).iter().any(|dominator| has_tag(dominator, tag))
    }

    /// A step with such a tag that is there and does not dominate, to point at.
    pub(super) fn tagged(&self, tag: &str) -> Option<&'a Step> {
        self.workflow.steps.iter().find(|step| has_tag(step, tag))
    }
}

/// Whether a step is tagged `TAG` or `TAG:NAME`.
pub(super) fn has_tag(step: &Step, tag: &str) -> bool {
    step.tags
        .iter()
        .any(|written| written == tag || written.strip_prefix(tag).is_some_and(|rest| rest.starts_with(':')))
}

/// Steps that close or reopen for writes: they touch what is live on purpose.
pub(super) fn is_freeze_or_unfreeze(step: &Step) -> bool {
    has_tag(step, "freeze") || has_tag(step, "unfreeze")
}

/// Anything but looking.
pub(super) fn writes(access: Access) -> bool {
    access != Access::Read
}

/// The connections of an environment that are the same database as a map with `host`, `port`, `database`.
pub(super) fn same_database<'e>(
    environment: &'e Environment,
    target: &'e Value,
) -> impl Iterator<Item = (&'e String, &'e Connection)> {
    let text = |key: &str| target.get(key).and_then(Value::as_str);
    let host = text("host").map(plain_host);
    let database = text("database");
    let port = target.get("port").and_then(Value::as_u64).unwrap_or(5432);
    environment.connections.iter().filter(move |(_, connection)| {
        host.as_deref() == Some(plain_host(&connection.host).as_str())
            && database == Some(connection.database.as_str())
            && port == u64::from(connection.port)
    })
}

/// Names of one host that are written differently; what DNS says is not asked.
fn plain_host(host: &str) -> String {
    let host = host.trim_end_matches('.').to_ascii_lowercase();
    match host.as_str() {
        "127.0.0.1" | "::1" | "[::1]" => "localhost".to_owned(),
        _ => host,
    }
}

/// Names in backticks with commas between.
pub(super) fn listed(names: &BTreeSet<String>) -> String {
    crate::suggest::list_of(names.iter().map(String::as_str))
}
