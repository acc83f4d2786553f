//! The `dayfly` binary: reads arguments, wires the parts, prints.
//!
//! Nothing is decided here that a library could decide. Only this crate reads the process environment for
//! settings, writes to standard output and knows exit codes.

mod args;
mod commands;
mod host;
mod logging;
mod output;
mod run;
mod secret_files;
mod signals;

use std::process::ExitCode;

use crate::args::{Command, LogFormat};

fn main() -> ExitCode {
    let arguments = args::parse();
    logging::start(&arguments.global);
    match dispatch(arguments.command, arguments.global.log_format) {
        Ok(code) => code,
        Err(error) => {
            output::print_error(&error);
            ExitCode::from(output::EXIT_FAILED)
        }
    }
}

fn dispatch(command: Command, format: LogFormat) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => commands::run::run(*args),
        Command::Logs(args) => commands::logs::run(&args),
        Command::Agent(args) => commands::agent::run(&args, format),
        Command::Controller(args) => commands::controller::run(args),
        Command::Crds => commands::crds::run(),
        Command::Check(args) => commands::check::run(&args),
        Command::Emulator(args) => commands::emulator::run(&args),
        Command::Tasks(args) => commands::tasks::run(args),
        Command::Eval(args) => commands::eval::run(&args),
        Command::Worker(args) => commands::worker::run_to_the_end(args),
        Command::StepHost(args) => commands::step_host::run(args),
        Command::Deliver(args) => commands::deliver::run(&args),
        Command::Completions(args) => commands::completions::run(&args),
    }
}
