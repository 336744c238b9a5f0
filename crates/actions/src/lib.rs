//! How it is done in the world: one module per system.
