//! Containers: images, snapshots, the pod shim, OCI lifecycle. The only crate with unsafe code.
