//! What anybody may ask of the state of a run.

use std::sync::Arc;

use runbook_core::workflow::StepPath;
use serde_json::{Map, Value};

use super::skeleton::{Bone, Skeleton};
use super::state::{Closed, Force, Instance, Machine, NodeView, Sitting, Started};
use crate::record::{Final, Waived};

impl Machine {
    /// What it was made from.
    pub fn skeleton(&self) -> Arc<Skeleton> {
        self.skeleton.clone()
    }
    /// The newest fencing epoch; 0 when no process has worked on it yet.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }
    /// The first record.
    pub fn started(&self) -> Option<&Started> {
        self.started.as_ref()
    }
    /// The process that works on it, as far as the journal knows.
    pub fn sitting(&self) -> Option<&Sitting> {
        self.sitting.as_ref()
    }
    /// Why the last process stopped.
    pub fn closed(&self) -> Option<Closed> {
        self.closed
    }
    /// How it ended for good.
    pub fn finished(&self) -> Option<Final> {
        self.finished
    }
    /// Who wants it paused.
    pub fn paused(&self) -> Option<&str> {
        self.paused.as_deref()
    }
    /// Who cancelled it.
    pub fn cancelled(&self) -> Option<&str> {
        self.cancelled.as_deref()
    }
    /// Who wants it rolled back.
    pub fn rolling_back(&self) -> Option<&str> {
        self.rollback.as_deref()
    }
    /// What is in force now (P12), oldest first.
    pub fn in_force(&self) -> &[Force] {
        &self.forces
    }
    /// Guards that do not hold for this run.
    pub fn waived(&self) -> &[Waived] {
        &self.waived
    }
    /// The steps and what is decided about each.
    pub fn nodes(&self) -> impl Iterator<Item = NodeView<'_>> {
        self.skeleton.steps.iter().zip(&self.nodes).map(|(bone, node)| NodeView {
            bone,
            ready: node.open_needs == 0,
            settled: node.settled,
            skipped: node.skipped,
            instances: &node.instances,
        })
    }
    /// The instance at a path.
    pub fn instance(&self, path: &StepPath) -> Option<&Instance> {
        let &(node, at) = self.index.get(path)?;
        self.nodes[node].instances.get(at)
    }
    /// What the machine knows of the step that an instance belongs to.
    pub fn bone(&self, path: &StepPath) -> Option<&Bone> {
        self.index.get(path).map(|&(node, _)| &self.skeleton.steps[node])
    }
    /// The item of an instance of a `for_each`.
    pub fn item(&self, path: &StepPath) -> Option<&Value> {
        let &(node, at) = self.index.get(path)?;
        self.nodes[node].items.as_ref()?.get(at).map(|item| &item.value)
    }

    /// What a step gave: the outputs, or for a `for_each` a map from item key to outputs. Nothing when the
    /// step is not settled, was skipped, or failed.
    pub fn output(&self, path: &StepPath) -> Option<Value> {
        if let Some(instance) = self.instance(path) {
            return instance.outcome.as_ref().map(|o| o.outputs.clone());
        }
        let node = &self.nodes[*self.paths.get(path)?];
        let items = node.items.as_ref().filter(|_| node.settled)?;
        let mut map = Map::new();
        for (item, instance) in items.iter().zip(&node.instances) {
            if let Some(outcome) = &instance.outcome {
                map.insert(item.key.clone(), outcome.outputs.clone());
            }
        }
        Some(Value::Object(map))
    }
}
