//! A store for tests: every promise of [`Journal`] but durability, and the same decisions as any other.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde_json::Value;

use super::chain::{Link, genesis, prove};
use super::error::{AppendError, JournalError, LeaseError};
use super::journal::{Journal, KeyClaim, Lease, LeaseInfo, RunRow, Stored, Verified, too_long};
use super::keys::Claimed;
use super::lease::{environment_held, may_take};
use crate::holder::Holder;

/// Runs that are gone when it is dropped.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    changes: u64,
    runs: BTreeMap<String, Run>,
    environments: BTreeMap<String, Environment>,
    keys: BTreeMap<(String, String), Claimed>,
}

#[derive(Debug)]
struct Run {
    row: RunRow,
    records: Vec<Stored>,
    epoch: u64,
    lease: Option<LeaseInfo>,
}

#[derive(Debug)]
struct Environment {
    run: String,
    since: Timestamp,
    last: Holder,
}

impl MemoryJournal {
    /// An empty journal.
    pub fn new() -> Self {
        Self::default()
    }

    /// A panic elsewhere cannot leave half a change: every change is checked first and made in one go.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Swaps the bytes of a record in place, as an intruder would.
    #[cfg(test)]
    pub(crate) fn tamper(&self, run: &str, change: impl FnOnce(&mut Vec<Stored>)) {
        change(&mut self.state().runs.get_mut(run).expect("the test made this run").records);
    }
}

impl State {
    fn run(&self, run: &str) -> Result<&Run, JournalError> {
        self.runs.get(run).ok_or_else(|| JournalError::NoRun { run: run.to_owned() })
    }

    fn run_mut(&mut self, run: &str) -> Result<&mut Run, JournalError> {
        self.runs.get_mut(run).ok_or_else(|| JournalError::NoRun { run: run.to_owned() })
    }
}

impl Run {
    fn new(row: RunRow, records: Vec<Stored>) -> Self {
        Self { row, records, epoch: 0, lease: None }
    }

    fn head(&self) -> Link {
        self.records.last().map_or_else(|| genesis(&self.row), |last| Link { seq: last.seq, hash: last.hash })
    }

    /// The lease, looked at now.
    fn held(&self) -> Option<LeaseInfo> {
        self.lease.clone().map(|info| LeaseInfo { alive: info.holder.alive(), ..info })
    }

    fn holds(&self, epoch: u64) -> bool {
        self.lease.as_ref().is_some_and(|info| info.epoch == epoch)
    }
}

impl Journal for MemoryJournal {
    fn create(&self, run: &RunRow, first: &[u8], at: Timestamp) -> Result<Stored, JournalError> {
        too_long(&run.id, first)?;
        let mut state = self.state();
        if state.runs.contains_key(&run.id) {
            return Err(JournalError::Exists { run: run.id.clone() });
        }
        let stored = genesis(run).next(&run.id, at, first.to_vec());
        state.runs.insert(run.id.clone(), Run::new(run.clone(), vec![stored.clone()]));
        state.changes += 1;
        Ok(stored)
    }

    fn adopt(&self, run: &RunRow, records: &[Stored], epoch: u64) -> Result<Verified, JournalError> {
        let verified = prove(run, records.iter().cloned())?;
        let mut state = self.state();
        if state.runs.contains_key(&run.id) {
            return Err(JournalError::Exists { run: run.id.clone() });
        }
        state.runs.insert(run.id.clone(), Run { epoch, ..Run::new(run.clone(), records.to_vec()) });
        state.changes += 1;
        Ok(verified)
    }

    fn append(
        &self,
        run: &str,
        after_seq: u64,
        records: &[(Timestamp, Vec<u8>)],
        fence: Option<u64>,
    ) -> Result<Vec<Stored>, AppendError> {
        records.iter().try_for_each(|(_, body)| too_long(run, body))?;
        let mut state = self.state();
        let entry = state.run_mut(run)?;
        if fence.is_some_and(|epoch| !entry.holds(epoch)) {
            let holder = entry.lease.as_ref().map(|info| Box::new(info.holder.clone()));
            return Err(AppendError::Fenced { current: entry.epoch, holder });
        }
        let mut link = entry.head();
        if link.seq != after_seq {
            return Err(AppendError::Moved { head: link.seq });
        }
        let mut stored = Vec::with_capacity(records.len());
        for (at, body) in records {
            let record = link.next(run, *at, body.clone());
            link = Link { seq: record.seq, hash: record.hash };
            stored.push(record);
        }
        entry.records.extend(stored.iter().cloned());
        state.changes += 1;
        Ok(stored)
    }

    fn read(&self, run: &str, after_seq: u64) -> Result<Vec<Stored>, JournalError> {
        let state = self.state();
        let entry = state.run(run)?;
        let skip = usize::try_from(after_seq).unwrap_or(usize::MAX).min(entry.records.len());
        let mut link = match skip.checked_sub(1) {
            None => genesis(&entry.row),
            Some(last) => Link { seq: after_seq, hash: entry.records[last].hash },
        };
        let mut records = Vec::new();
        for record in &entry.records[skip..] {
            let (next, record) = link.follow(run, record.clone())?;
            link = next;
            records.push(record);
        }
        Ok(records)
    }

    fn changed(&self) -> Result<u64, JournalError> {
        Ok(self.state().changes)
    }

    fn run(&self, run: &str) -> Result<RunRow, JournalError> {
        Ok(self.state().run(run)?.row.clone())
    }

    fn runs(&self) -> Result<Vec<RunRow>, JournalError> {
        let mut rows: Vec<_> = self.state().runs.values().map(|run| run.row.clone()).collect();
        rows.sort_by(|a, b| (b.created_at, &b.id).cmp(&(a.created_at, &a.id)));
        Ok(rows)
    }

    fn verify(&self, run: &str) -> Result<Verified, JournalError> {
        let state = self.state();
        let entry = state.run(run)?;
        prove(&entry.row, entry.records.iter().cloned())
    }

    fn take_lease(
        &self,
        run: &str,
        environment: &str,
        holder: &Holder,
        writes: bool,
        now: Timestamp,
    ) -> Result<Lease, LeaseError> {
        let mut state = self.state();
        let held = state.run(run)?.held();
        if let Some(held) = &held {
            may_take(run, held, now)?;
        }
        if writes {
            if let Some(lock) = state.environments.get(environment).filter(|lock| lock.run != run) {
                let engine = state.runs.get(&lock.run).and_then(Run::held);
                let last = lock.last.clone();
                return Err(environment_held(environment, &lock.run, lock.since, last, engine.as_ref()));
            }
            let since = state.environments.get(environment).map_or(now, |lock| lock.since);
            let lock = Environment { run: run.to_owned(), since, last: holder.clone() };
            state.environments.insert(environment.to_owned(), lock);
        }
        let entry = state.run_mut(run)?;
        entry.epoch += 1;
        let epoch = entry.epoch;
        let alive = crate::holder::Liveness::Unknown;
        entry.lease = Some(LeaseInfo { holder: holder.clone(), epoch, since: now, renewed_at: now, alive });
        state.changes += 1;
        Ok(Lease { epoch, taken_from: held.map(|info| info.holder) })
    }

    fn renew(&self, run: &str, epoch: u64, now: Timestamp) -> Result<(), LeaseError> {
        let mut state = self.state();
        let entry = state.run_mut(run)?;
        let current = entry.epoch;
        let info = entry.lease.as_mut().filter(|info| info.epoch == epoch);
        info.ok_or(LeaseError::Lost { epoch, current })?.renewed_at = now;
        Ok(())
    }

    fn release(&self, run: &str, epoch: u64, close_environment: bool) -> Result<(), JournalError> {
        let mut state = self.state();
        let entry = state.run_mut(run)?;
        if !entry.holds(epoch) {
            return Err(JournalError::NotHeld { run: run.to_owned(), epoch });
        }
        entry.lease = None;
        if close_environment {
            state.environments.retain(|_, lock| lock.run != run);
        }
        state.changes += 1;
        Ok(())
    }

    fn lease(&self, run: &str) -> Result<Option<LeaseInfo>, JournalError> {
        Ok(self.state().run(run)?.held())
    }

    fn environment_run(&self, environment: &str) -> Result<Option<String>, JournalError> {
        Ok(self.state().environments.get(environment).map(|lock| lock.run.clone()))
    }

    fn claim_key(
        &self,
        environment: &str,
        key: &str,
        params_digest: &str,
        run: &str,
        step: &str,
    ) -> Result<KeyClaim, JournalError> {
        let mut state = self.state();
        let name = (environment.to_owned(), key.to_owned());
        if let Some(claimed) = state.keys.get(&name) {
            return Ok(claimed.clone().answer(params_digest, run, step));
        }
        let claimed = Claimed {
            params_digest: params_digest.to_owned(),
            run: run.to_owned(),
            step: step.to_owned(),
            outputs: None,
        };
        state.keys.insert(name, claimed);
        state.changes += 1;
        Ok(KeyClaim::New)
    }

    fn finish_key(
        &self,
        environment: &str,
        key: &str,
        run: &str,
        outputs: &Value,
    ) -> Result<(), JournalError> {
        let mut state = self.state();
        let claimed = state.keys.get_mut(&(environment.to_owned(), key.to_owned()));
        let claimed = claimed.filter(|claimed| claimed.run == run);
        let claimed = claimed.ok_or_else(|| JournalError::not_claimed(environment, key, run))?;
        claimed.outputs.get_or_insert_with(|| outputs.clone());
        state.changes += 1;
        Ok(())
    }

    fn drop_key(&self, environment: &str, key: &str, run: &str) -> Result<(), JournalError> {
        let mut state = self.state();
        let name = (environment.to_owned(), key.to_owned());
        match state.keys.get(&name).filter(|claimed| claimed.run == run) {
            None => return Err(JournalError::not_claimed(environment, key, run)),
            Some(claimed) if claimed.outputs.is_some() => return Ok(()),
            Some(_) => {}
        }
        state.keys.remove(&name);
        state.changes += 1;
        Ok(())
    }
}
