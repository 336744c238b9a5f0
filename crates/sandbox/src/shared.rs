//! What every stand-in of the daemon can reach.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use crate::endpoints::{Endpoints, Layout};
use crate::error::SandboxError;
use crate::postgres::Cluster;
use crate::providers::Traffic;
use crate::s3::Store;
use crate::web::{Effects, Faults};
use crate::world::World;

/// Shared by all handlers.
pub(crate) type Ctx = Arc<Shared>;

/// The daemon's inside.
pub(crate) struct Shared {
    pub(crate) layout: Layout,
    pub(crate) endpoints: Endpoints,
    pub(crate) tokens: Tokens,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) store: Store,
    pub(crate) faults: Faults,
    pub(crate) effects: Effects,
    pub(crate) storage: crate::supabase::Pool,
    /// How the application answered lately.
    pub(crate) traffic: Traffic,
    pub(crate) stop: watch::Sender<bool>,
    world: Mutex<World>,
}

/// The parts a [`Shared`] is made of.
pub(crate) struct Parts {
    pub(crate) layout: Layout,
    pub(crate) endpoints: Endpoints,
    pub(crate) tokens: Tokens,
    pub(crate) cluster: Arc<Cluster>,
    pub(crate) store: Store,
    pub(crate) stop: watch::Sender<bool>,
    pub(crate) effects: Effects,
    pub(crate) world: World,
}

/// Who may talk to what.
#[derive(Clone)]
pub(crate) struct Tokens {
    pub(crate) supabase: String,
    pub(crate) vercel: String,
    pub(crate) control: String,
    /// By the name of the secret's file.
    pub(crate) providers: BTreeMap<&'static str, String>,
}

impl Tokens {
    /// The secret of a provider's stand-in, by the name of its file.
    pub(crate) fn provider(&self, name: &str) -> &str {
        self.providers.get(name).map_or("", String::as_str)
    }
}

/// How long the slow things take, in milliseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timing {
    /// From the creation of a project to `ACTIVE_HEALTHY`, at least.
    pub project_ms: u64,
    /// From the creation of a deployment to `READY`.
    pub deployment_ms: u64,
    /// From a promotion to its end.
    pub promotion_ms: u64,
    /// Between two changes of signing keys; 0 leaves them unthrottled. The real service: 300,000.
    pub signing_key_throttle_ms: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self { project_ms: 400, deployment_ms: 300, promotion_ms: 150, signing_key_throttle_ms: 0 }
    }
}

impl Shared {
    pub(crate) fn new(parts: Parts) -> Ctx {
        Arc::new(Self {
            layout: parts.layout,
            endpoints: parts.endpoints,
            tokens: parts.tokens,
            cluster: parts.cluster,
            store: parts.store,
            stop: parts.stop,
            faults: Faults::default(),
            effects: parts.effects,
            storage: crate::supabase::Pool::default(),
            traffic: Traffic::default(),
            world: Mutex::new(parts.world),
        })
    }

    /// Reads the world as it is now.
    pub(crate) fn look<T>(&self, read: impl FnOnce(&World) -> T) -> T {
        let mut world = self.lock();
        world.advance(jiff::Timestamp::now());
        read(&world)
    }

    /// Changes the world; the change survives a kill when this returns.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut World) -> T) -> Result<T, SandboxError> {
        let mut world = self.lock();
        world.advance(jiff::Timestamp::now());
        let outcome = change(&mut world);
        world.save(&self.layout.world())?;
        Ok(outcome)
    }

    /// Like [`Shared::change`], and the world is only written when the change was accepted.
    pub(crate) fn try_change<T, E: From<SandboxError>>(
        &self,
        change: impl FnOnce(&mut World) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut world = self.lock();
        world.advance(jiff::Timestamp::now());
        let outcome = change(&mut world)?;
        world.save(&self.layout.world())?;
        Ok(outcome)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, World> {
        self.world.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
