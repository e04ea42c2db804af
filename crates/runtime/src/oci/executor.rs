//! The last steps in a container's process: finding the program, saying plainly when there is none, becoming it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::rc::Rc;

use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use nix::errno::Errno;
use nix::sys::prctl;
use nix::sys::signal::Signal;
use nix::unistd::{AccessFlags, access, execve};
use oci_spec::runtime::{LinuxSeccomp, Spec};

use super::users::Users;
use crate::sys;

/// How every reason starts that names the program, in runc's words.
pub(super) const MARKER: &str = "exec: \"";

#[derive(Clone, Default)]
pub(super) struct PodExecutor {
    environment: RefCell<Vec<CString>>,
    die_with_parent: bool,
    /// For processes that join a container: libcontainer filters only the first.
    seccomp: Option<LinuxSeccomp>,
    /// Likewise the user namespace.
    users: Option<Rc<Users>>,
}

impl PodExecutor {
    pub(super) fn for_init(die_with_parent: bool) -> Self {
        Self {
            die_with_parent,
            ..Self::default()
        }
    }

    pub(super) fn for_exec(seccomp: Option<LinuxSeccomp>, users: Option<Users>) -> Self {
        Self {
            seccomp,
            users: users.map(Rc::new),
            ..Self::default()
        }
    }
}

impl Executor for PodExecutor {
    fn validate(&self, spec: &Spec) -> Result<(), ExecutorValidationError> {
        program(spec)
            .map(|_| ())
            .map_err(ExecutorValidationError::ArgValidationError)
    }

    /// Keeps the environment for the program instead of changing this process's own.
    fn setup_envs(&self, environment: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        let entry = |(name, value): (String, String)| CString::new(format!("{name}={value}")).ok();
        *self.environment.borrow_mut() = environment.into_iter().filter_map(entry).collect();
        Ok(())
    }

    fn exec(&self, spec: &Spec) -> Result<(), ExecutorError> {
        let failed = |reason: String| ExecutorError::Other(reason);
        let program = program(spec).map_err(failed)?;
        let arguments = spec
            .process()
            .as_ref()
            .and_then(|process| process.args().clone())
            .unwrap_or_default();
        let arguments: Vec<CString> = arguments
            .into_iter()
            .map(CString::new)
            .collect::<Result<_, _>>()
            .map_err(|_| ExecutorError::InvalidArg)?;
        let path = CString::new(program.as_os_str().as_bytes()).map_err(|_| ExecutorError::InvalidArg)?;
        if self.die_with_parent {
            // By now the parent is the shim: what created this process had to end before it could be started.
            let _ = prctl::set_pdeathsig(Signal::SIGKILL);
        }
        if let Some(users) = &self.users {
            users
                .enter()
                .map_err(|error| failed(format!("become the container's user: {error}")))?;
        }
        if let Some(seccomp) = &self.seccomp {
            // Capabilities are gone by now, and without them a filter needs this promise.
            let filtered = prctl::set_no_new_privs()
                .map_err(|error| error.to_string())
                .and_then(|()| libcontainer::seccomp::initialize_seccomp(seccomp).map_err(|error| error.to_string()));
            filtered.map_err(|error| failed(format!("apply seccomp profile: {error}")))?;
        }
        sys::reset_signals();
        let Err(error) = execve(&path, &arguments, &self.environment.borrow());
        let reason = format!("{MARKER}{}\": {}", program.display(), describe(error));
        // Nobody listens any more but the container's log.
        eprintln!("{reason}");
        Err(failed(reason))
    }
}

/// The file to execute, or why there is none.
fn program(spec: &Spec) -> Result<PathBuf, String> {
    let process = spec.process().as_ref().ok_or("the specification has no process")?;
    let name = match process.args().as_ref().and_then(|arguments| arguments.first()) {
        Some(name) => name,
        None => return Err(format!("{MARKER}\": no command specified")),
    };
    let path = process
        .env()
        .iter()
        .flatten()
        .rev()
        .find_map(|entry| entry.strip_prefix("PATH="))
        .unwrap_or_default();
    look_up(name, path)
}

fn look_up(name: &str, path: &str) -> Result<PathBuf, String> {
    if name.contains('/') {
        return match check(Path::new(name)) {
            Ok(()) => Ok(name.into()),
            Err(Errno::ENOENT) => Err(format!("{MARKER}{name}\": stat {name}: no such file or directory")),
            Err(error) => Err(format!("{MARKER}{name}\": {}", describe(error))),
        };
    }
    let mut denied = false;
    for directory in path.split(':').filter(|_| !name.is_empty()) {
        let candidate = Path::new(if directory.is_empty() { "." } else { directory }).join(name);
        match check(&candidate) {
            Ok(()) => return Ok(candidate),
            Err(error) => denied |= error == Errno::EACCES,
        }
    }
    let reason = if denied {
        "permission denied"
    } else {
        "executable file not found in $PATH"
    };
    Err(format!("{MARKER}{name}\": {reason}"))
}

fn check(path: &Path) -> Result<(), Errno> {
    let stat = nix::sys::stat::stat(path)?;
    if stat.st_mode & nix::libc::S_IFMT == nix::libc::S_IFDIR {
        return Err(Errno::EISDIR);
    }
    access(path, AccessFlags::X_OK)
}

fn describe(error: Errno) -> &'static str {
    match error {
        Errno::EACCES | Errno::EPERM => "permission denied",
        Errno::ENOENT => "no such file or directory",
        Errno::ENOEXEC => "exec format error",
        Errno::EISDIR => "is a directory",
        other => other.desc(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_is_told_in_runcs_words() {
        assert_eq!(look_up("sh", "/nowhere:/bin"), Ok("/bin/sh".into()));
        assert_eq!(
            look_up("nope", "/bin"),
            Err("exec: \"nope\": executable file not found in $PATH".into())
        );
        assert_eq!(
            look_up("/nope", "/bin"),
            Err("exec: \"/nope\": stat /nope: no such file or directory".into())
        );
        assert_eq!(look_up("/bin", ""), Err("exec: \"/bin\": is a directory".into()));
        assert_eq!(
            look_up("/etc/passwd", ""),
            Err("exec: \"/etc/passwd\": permission denied".into())
        );
    }
}
