//! An Azure DevOps on this machine: pools, agents, sessions, queue, plans, logs, tasks, repositories.
