//! One file per subcommand.

use crate::cli::{Cli, Command};

pub mod agent;
pub mod apply;
pub mod component;
pub mod container;
pub mod delete;
pub mod down;
pub mod fake_node;
pub mod get;
pub mod image;
pub mod logs;
pub mod node;
pub mod progress;
pub mod rollout;
pub mod server;
pub mod snapshot;
pub mod status;
pub mod store;
pub mod target;
pub mod up;
pub mod wait;

pub fn run(cli: Cli) -> anyhow::Result<()> {
    match cli.command {
        Command::Up(args) => up::run(&args),
        Command::Down(args) => down::run(&args),
        Command::Status(args) => status::run(&args),
        Command::Server(args) => server::run(args),
        Command::Agent(args) => agent::run(args),
        Command::FakeNode(args) => fake_node::run(args),
        Command::ControllerManager(args) => component::controllers(args),
        Command::Scheduler(args) => component::scheduler(args),
        Command::Image(args) => image::run(args),
        Command::Snapshot(args) => snapshot::run(args),
        Command::Store(args) => store::run(args),
        Command::Apply(args) => apply::run(args),
        Command::Get(args) => get::run(args),
        Command::Delete(args) => delete::run(args),
        Command::Logs(args) => logs::run(args),
        Command::Wait(args) => wait::run(args),
        Command::Rollout(args) => rollout::run(args),
    }
}
