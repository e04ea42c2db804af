//! A small OCI runtime over `libcontainer` with runc's command line: `create`, `start`, `exec`, `kill`, `delete`, `state`.
//!
//! The shim calls it in a forked child of its single-threaded self; a foreign runtime with the same command line can
//! take its place. It keeps libcontainer's state under `--root` and reports errors as runc's `--log` does.

mod executor;
mod propagation;
mod users;

use std::error::Error as StdError;
use std::ffi::OsString;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use libcontainer::container::Container;
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::signal::Signal;
use libcontainer::syscall::syscall::SyscallType;
use oci_spec::runtime::Spec;

use executor::PodExecutor;

type Failure = Box<dyn StdError>;

/// Runs one command line (without the program's name) and returns the exit code. For single-threaded processes.
pub fn oci_main(arguments: impl IntoIterator<Item = OsString>) -> i32 {
    let arguments = match Arguments::parse(arguments) {
        Ok(arguments) => arguments,
        Err(reason) => {
            eprintln!("coracle oci: {reason}");
            return 2;
        }
    };
    match arguments.run() {
        Ok(()) => 0,
        Err(failure) => {
            arguments.report(&explain(failure.as_ref()));
            1
        }
    }
}

#[derive(Debug, Default, PartialEq)]
struct Arguments {
    root: PathBuf,
    log: Option<PathBuf>,
    command: String,
    bundle: PathBuf,
    pid_file: Option<PathBuf>,
    console_socket: Option<PathBuf>,
    process: Option<PathBuf>,
    force: bool,
    all: bool,
    /// The container is killed when the parent of its first process ends. Not one of runc's.
    die_with_parent: bool,
    id: String,
    signal: Option<String>,
}

impl Arguments {
    fn parse(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, String> {
        let mut parsed = Self {
            root: "/run/coracle/oci".into(),
            bundle: ".".into(),
            ..Self::default()
        };
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let text = argument.to_string_lossy().into_owned();
            let mut value = || arguments.next().ok_or_else(|| format!("{text} needs a value"));
            match text.as_str() {
                "--root" => parsed.root = value()?.into(),
                "--log" => parsed.log = Some(value()?.into()),
                "--log-format" => {
                    value()?;
                }
                "--bundle" | "-b" => parsed.bundle = value()?.into(),
                "--pid-file" => parsed.pid_file = Some(value()?.into()),
                "--console-socket" => parsed.console_socket = Some(value()?.into()),
                "--process" | "-p" => parsed.process = Some(value()?.into()),
                "--force" | "-f" => parsed.force = true,
                "--all" | "-a" => parsed.all = true,
                "--detach" | "-d" => {}
                "--die-with-parent" => parsed.die_with_parent = true,
                option if option.starts_with('-') => return Err(format!("unknown option {option}")),
                _ if parsed.command.is_empty() => parsed.command = text,
                _ if parsed.id.is_empty() => parsed.id = text,
                _ if parsed.signal.is_none() => parsed.signal = Some(text),
                _ => return Err(format!("unexpected argument {text}")),
            }
        }
        if parsed.id.is_empty() {
            return Err("usage: oci [--root DIR] [--log FILE] create|start|exec|kill|delete|state ... ID".to_owned());
        }
        Ok(parsed)
    }

    fn run(&self) -> Result<(), Failure> {
        match self.command.as_str() {
            "create" => self.create(),
            "start" => Ok(self.load()?.start()?),
            "exec" => self.exec(),
            "kill" => {
                let name = self.signal.as_deref().unwrap_or("SIGTERM");
                let number = crate::image::config::parse_signal(name).ok_or_else(|| format!("no signal {name}"))?;
                Ok(self.load()?.kill(Signal::try_from(number)?, self.all)?)
            }
            "delete" => match self.load() {
                Ok(mut container) => Ok(container.delete(self.force)?),
                Err(_) if self.force => Ok(()),
                Err(error) => Err(error),
            },
            "state" => {
                let container = self.load()?;
                println!("{}", serde_json::to_string_pretty(&container.state)?);
                Ok(())
            }
            other => Err(format!("unknown command {other}").into()),
        }
    }

    fn load(&self) -> Result<Container, Failure> {
        Ok(Container::load(self.root.join(&self.id))?)
    }

    fn builder(&self, root: &Path, executor: PodExecutor) -> Result<ContainerBuilder, Failure> {
        Ok(ContainerBuilder::new(self.id.clone(), SyscallType::default())
            .validate_id()?
            .with_root_path(root)?
            .with_pid_file(self.pid_file.clone())?
            .with_console_socket(self.console_socket.clone())
            .with_executor(executor))
    }

    fn create(&self) -> Result<(), Failure> {
        fs::create_dir_all(&self.root)?;
        let executor = PodExecutor::for_init(self.die_with_parent);
        let container = self
            .builder(&self.root, executor)?
            .as_init(&self.bundle)
            .with_systemd(false)
            .with_detach(true)
            .build()?;
        let spec = Spec::load(self.bundle.join("config.json"))?;
        if let (Some(pid), Some(mounts)) = (container.pid(), spec.mounts()) {
            // libcontainer mounts everything with the propagation of its source. Until it is started the container's
            // process only waits, so this is the moment to set it right. This process ends next: it may change its
            // own mount namespace.
            propagation::apply(pid.as_raw(), mounts)?;
        }
        Ok(())
    }

    fn exec(&self) -> Result<(), Failure> {
        let container = self.load()?;
        let spec = Spec::load(container.bundle().join("config.json"))?;
        let seccomp = spec.linux().as_ref().and_then(|linux| linux.seccomp().clone());
        let users = match &self.process {
            Some(process) => users::Users::take(&spec, process)?,
            None => None,
        };
        // libcontainer leaves a socket beside the state for every exec. Given a copy of the state in a directory of
        // its own, it leaves it where it can be removed, probe after probe.
        let root = self.root.join(format!(".exec-{}", std::process::id()));
        let directory = root.join(&self.id);
        fs::create_dir_all(&directory)?;
        let result = fs::copy(
            self.root.join(&self.id).join("state.json"),
            directory.join("state.json"),
        )
        .map_err(Failure::from)
        .and_then(|_| {
            let builder = self.builder(&root, PodExecutor::for_exec(seccomp, users))?;
            builder
                .as_tenant()
                .with_detach(true)
                .with_process(self.process.clone())
                .build()?;
            Ok(())
        });
        let _ = fs::remove_dir_all(&root);
        result
    }

    /// Says why it failed where runc would: one line of JSON in the log, or standard error.
    fn report(&self, message: &str) {
        let line = serde_json::json!({ "level": "error", "msg": message }).to_string();
        let logged = self.log.as_ref().and_then(|log| {
            let mut file = fs::File::options().append(true).create(true).open(log).ok()?;
            writeln!(file, "{line}").ok()
        });
        if logged.is_none() {
            eprintln!("{message}");
        }
    }
}

/// What libcontainer adds when it could not take back what it had made. On a busy machine that is usual (the kernel counts
/// a dead process for a moment longer), and whoever called removes what is left.
const CLEANUP: &str = ". error during cleanup: ";

/// The innermost reason where there is a plain one, else the whole chain.
fn explain(failure: &dyn StdError) -> String {
    let mut text = failure.to_string();
    let mut next = failure.source();
    while let Some(source) = next {
        let part = source.to_string();
        if !text.contains(&part) {
            text.push_str(": ");
            text.push_str(&part);
        }
        next = source.source();
    }
    if let Some(end) = text.find(CLEANUP) {
        text.truncate(end);
    }
    match text.find(executor::MARKER) {
        Some(start) => {
            let reason = &text[start..];
            // Buffers of fixed size cross process boundaries on the way here, so cut at what cannot be text.
            reason
                .split(['\0', '\n'])
                .next()
                .unwrap_or(reason)
                .trim_end_matches(['"', ')', '\\'])
                .to_owned()
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Result<Arguments, String> {
        Arguments::parse(line.split_whitespace().map(OsString::from))
    }

    #[test]
    fn runcs_command_lines_are_understood() {
        let create = parse("--root /r --log /l --log-format json create --bundle /b --pid-file /p id").unwrap();
        assert_eq!((create.command.as_str(), create.id.as_str()), ("create", "id"));
        assert_eq!((create.root.to_str(), create.bundle.to_str()), (Some("/r"), Some("/b")));
        let kill = parse("--root /r kill --all id KILL").unwrap();
        assert!(kill.all);
        assert_eq!(kill.signal.as_deref(), Some("KILL"));
        assert!(parse("create --bundle").is_err());
        assert!(parse("create").is_err());
        assert!(parse("create --unknown id").is_err());
    }

    #[test]
    fn a_reason_is_what_failed_and_not_what_could_not_be_taken_back() {
        for (text, expected) in [
            (
                "failed to create container: exec: \"/x\": permission denied. error during cleanup: failed to cleanup \
                 container: io error: at /sys/fs/cgroup/pids/x: could not delete",
                "exec: \"/x\": permission denied",
            ),
            (
                "failed to create container: no such user. error during cleanup: x",
                "failed to create container: no such user",
            ),
        ] {
            assert_eq!(explain(&*Failure::from(text)), expected);
        }
    }
}
