//! Runs one job message: steps, variables, logging commands, logs, timeline.
