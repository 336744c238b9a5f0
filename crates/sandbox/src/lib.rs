//! Local stand-ins with real protocols, for rehearsals and tests.
