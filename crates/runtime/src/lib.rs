//! Containers: images, root file systems, the pod shim, the OCI lifecycle. The only crate with unsafe code.
//!
//! It knows no Kubernetes API type: the node agent hands it what to run in the shape of the container runtime interface.
//!
//! * [`PodRuntime`] is the seam: sandboxes, containers, commands, images, events. Start reading there.
//! * [`Engine`] implements it on this host. Per pod it starts one *shim*, a small process that owns the pod's
//!   namespaces, is the parent of its containers and outlives the agent.
//! * [`Cri`] implements it by another runtime, containerd or CRI-O, over the container runtime interface.
//! * [`shim_main`] and [`oci_main`] are the two subcommands that the binary must offer: the engine re-executes it as
//!   `shim DIRECTORY`, and `oci` is the embedded OCI runtime by itself, with runc's command line.
//!
//! On disk, below [`EngineConfig::root`]: `images/` records, `layers/` unpacked once each, `sandboxes/` and
//! `containers/` with a directory each. Every directory tells enough to be taken up again, or cleared away, by an agent
//! that knows nothing else.

mod cgroup;
mod container;
mod cri;
mod engine;
mod error;
#[cfg(any(test, fuzzing))]
pub mod fuzz;
mod id;
mod image;
mod oci;
mod own_pages;
mod pod_runtime;
mod sandbox;
mod shim;
mod snapshot;
mod spec;
mod sys;

pub use container::{
    ContainerConfig, ContainerState, ContainerStatus, Device, Mount, Propagation, Resources, SeccompProfile, Security,
};
pub use cri::{Cri, CriConfig};
pub use engine::{Engine, EngineConfig, Program};
pub use error::{Error, Result};
pub use id::{ContainerId, ImageId, SandboxId};
pub use image::{Auth, ImageConfig, ImageInfo, Phase, Progress, ProgressSink, RegistryConfig, check_reference};
pub use oci::oci_main;
pub use own_pages::give_back_own_pages;
pub use pod_runtime::{
    Abilities, Archive, AttachConfig, AttachControl, AttachStreams, DiskUsage, Event, EventKind, ExecConfig,
    ExecControl, ExecOutput, ExecStreams, Handler, Identity, PodRuntime, Reader, Stats, Writer,
};
pub use sandbox::{Sandbox, SandboxConfig, SandboxState, SandboxStatus, UserNamespace};
pub use shim::{LogLimits, shim_main};
