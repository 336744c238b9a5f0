//! Where a run stands and what comes next: state machine, journal, driver.
