//! Virtual agents, job leases, and the Executor trait with the process executor.
