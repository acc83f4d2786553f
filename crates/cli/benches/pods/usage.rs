//! What a process uses, as Linux says it.

use std::fs;
use std::thread::sleep;
use std::time::Duration;

/// The memory of a process, and its share of a processor in the time that is looked at.
pub(crate) fn of(process: u32, time: Duration) -> String {
    let before = ticks(process);
    sleep(time);
    // Linux counts in hundredths of a second.
    let share = (ticks(process) - before) as f64 / time.as_secs_f64();
    let status = fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let memory = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or("unknown");
    format!("{}, {share:.1} % of a processor", memory.trim())
}

/// The time that it had so far, as a user and in the system (`proc_pid_stat(5)`).
fn ticks(process: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let after_name = text.rsplit_once(')').expect("a name").1;
    let fields: Vec<&str> = after_name.split_whitespace().collect();
    fields[11..=12].iter().map(|field| field.parse::<u64>().expect("a number")).sum()
}
