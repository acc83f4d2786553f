//! How long everything in the listener waits: one table, so that tests may shrink it and nothing else needs a
//! clock of its own.

use std::time::Duration;

/// The listener's waits and limits. The defaults are those of the official agent (`MessageListener.cs`,
/// `JobDispatcher.cs`) unless a field says otherwise.
#[derive(Debug, Clone)]
pub struct Timings {
    /// Pause before a session that is still held by somebody else is asked for again.
    pub conflict_retry: Duration,
    /// How long a session conflict is borne before the virtual agent gives up.
    pub conflict_limit: Duration,
    /// First pause after a failed call of the message loop; doubles with each further failure.
    pub retry_first: Duration,
    /// Bound of the pauses between two tries of the message loop; the longest are between half of it and all
    /// of it (the official agent pauses for 15 to 30 s at first and for 30 to 60 s later).
    pub retry_limit: Duration,
    /// Least time from one empty poll to the next; up to three times as long (the official agent pauses 5 to
    /// 15 s after every empty poll; here that includes the time for which the service held the poll).
    pub empty_poll_pause: Duration,
    /// Bound of one short call: deleting a message or a session, renewing a lock.
    pub call: Duration,
    /// How long a lock is taken to hold after a renewal, until the service has said so.
    pub usual_lock: Duration,
    /// Pause between two renewals of a job's lock.
    pub renew_interval: Duration,
    /// Failed tries of the first renewal that are borne before the job is given back.
    pub first_renewal_retries: u32,
    /// Longest pause between two tries of the first renewal.
    pub first_renewal_pause: Duration,
    /// Pause between tries of a later renewal (a random value up to three times this).
    pub renewal_pause: Duration,
    /// How long after the lock has run out a renewal is still tried.
    pub renewal_grace: Duration,
    /// Least time a cancelled job gets, whatever the service says.
    pub cancel_minimum: Duration,
    /// How long before the end of the cancel timeout the worker is told to flush its logs.
    pub flush_before: Duration,
    /// How long after the end of the cancel timeout the worker is killed.
    pub kill_after: Duration,
    /// How long a second job may wait for the one before it until the service is asked whether that one is
    /// still wanted.
    pub overdue: Duration,
    /// How long a worker whose job is over for the service may go on before it is killed.
    pub zombie_grace: Duration,
    /// How long the deletion of a job's message is tried before the job is failed: it is never started while
    /// its message could come again.
    pub claim_limit: Duration,
    /// How long a result is tried to be reported.
    pub report_limit: Duration,
    /// Pause between two tries of reporting a result.
    pub report_pause: Duration,
}

impl Default for Timings {
    fn default() -> Self {
        Self {
            conflict_retry: Duration::from_secs(30),
            conflict_limit: Duration::from_secs(240),
            retry_first: Duration::from_secs(1),
            retry_limit: Duration::from_secs(60),
            empty_poll_pause: Duration::from_secs(5),
            call: Duration::from_secs(30),
            usual_lock: Duration::from_secs(300),
            renew_interval: Duration::from_secs(60),
            first_renewal_retries: 5,
            first_renewal_pause: Duration::from_secs(10),
            renewal_pause: Duration::from_secs(5),
            renewal_grace: Duration::from_secs(300),
            cancel_minimum: Duration::from_secs(60),
            flush_before: Duration::from_secs(15),
            kill_after: Duration::from_secs(60),
            overdue: Duration::from_secs(5),
            zombie_grace: Duration::from_secs(45),
            claim_limit: Duration::from_secs(300),
            report_limit: Duration::from_secs(300),
            report_pause: Duration::from_secs(5),
        }
    }
}
