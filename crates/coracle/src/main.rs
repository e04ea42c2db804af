//! Kubernetes in one binary. This crate only wires the others together: [`cli`] says what can be asked, `command/` has
//! one file per subcommand, [`cluster`] is a cluster's directory on this machine.

mod allocator;
mod cli;
mod cluster;
mod command;
mod image_service;
mod local_socket;
mod preflight;
mod renewals;
mod snapshots;
mod store;
mod user_kubeconfig;

use std::process::ExitCode;

use clap::Parser;

fn main() -> ExitCode {
    // The shim and the OCI runtime are single-threaded and small: they leave before anything else is set up.
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if let Some(code) = command::container::dispatch(&arguments) {
        return code;
    }
    allocator::give_back_at_rest();
    let cli = cli::Cli::parse_from(arguments);
    match command::run(cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
