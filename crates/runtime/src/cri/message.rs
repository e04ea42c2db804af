//! The messages of the container runtime interface, version 1, that this client sends and reads, and of them the fields
//! that it fills or looks at. Numbers and types are those of `k8s.io/cri-api/pkg/apis/runtime/v1/api.proto`.
//!
//! They are kept by hand: what a runtime sends beyond them is skipped, and no compiler for them is needed to build.

use std::collections::BTreeMap;

type Map = BTreeMap<String, String>;

/// A message, by its fields with their kinds and numbers.
macro_rules! message {
    ($($(#[$doc:meta])* $name:ident { $($(#[$field:meta])* $key:ident: $type:ty,)* })*) => {
        $($(#[$doc])*
        #[derive(Clone, PartialEq, prost::Message)]
        pub(super) struct $name { $($(#[$field])* pub(super) $key: $type,)* })*
    };
}

/// Namespaces: those of the pod, of the container alone, of the host, or of another container.
pub(super) mod namespace {
    pub(in crate::cri) const POD: i32 = 0;
    pub(in crate::cri) const CONTAINER: i32 = 1;
    pub(in crate::cri) const NODE: i32 = 2;
    pub(in crate::cri) const TARGET: i32 = 3;
}

/// Security profiles.
pub(super) mod profile {
    pub(in crate::cri) const RUNTIME_DEFAULT: i32 = 0;
    pub(in crate::cri) const UNCONFINED: i32 = 1;
    pub(in crate::cri) const LOCALHOST: i32 = 2;
}

pub(super) const SANDBOX_READY: i32 = 0;
pub(super) const CONTAINER_CREATED: i32 = 0;
pub(super) const CONTAINER_RUNNING: i32 = 1;

message! {
    Empty {}

    VersionRequest { #[prost(string, tag = "1")] version: String, }
    VersionResponse {
        #[prost(string, tag = "2")] runtime_name: String,
        #[prost(string, tag = "3")] runtime_version: String,
    }

    StatusRequest { #[prost(bool, tag = "1")] verbose: bool, }
    StatusResponse {
        #[prost(message, optional, tag = "1")] status: Option<RuntimeStatus>,
        #[prost(btree_map = "string, string", tag = "2")] info: Map,
        #[prost(message, repeated, tag = "3")] runtime_handlers: Vec<RuntimeHandler>,
        #[prost(message, optional, tag = "4")] features: Option<RuntimeFeatures>,
    }
    RuntimeStatus { #[prost(message, repeated, tag = "1")] conditions: Vec<RuntimeCondition>, }
    RuntimeCondition {
        #[prost(string, tag = "1")] kind: String,
        #[prost(bool, tag = "2")] status: bool,
        #[prost(string, tag = "3")] reason: String,
        #[prost(string, tag = "4")] message: String,
    }
    RuntimeHandler {
        #[prost(string, tag = "1")] name: String,
        #[prost(message, optional, tag = "2")] features: Option<RuntimeHandlerFeatures>,
    }
    RuntimeHandlerFeatures {
        #[prost(bool, tag = "1")] recursive_read_only_mounts: bool,
        #[prost(bool, tag = "2")] user_namespaces: bool,
    }
    RuntimeFeatures { #[prost(bool, tag = "1")] supplemental_groups_policy: bool, }

    Int64Value { #[prost(int64, tag = "1")] value: i64, }
    UInt64Value { #[prost(uint64, tag = "1")] value: u64, }
    KeyValue {
        #[prost(string, tag = "1")] key: String,
        #[prost(string, tag = "2")] value: String,
    }
    IdMapping {
        #[prost(uint32, tag = "1")] host_id: u32,
        #[prost(uint32, tag = "2")] container_id: u32,
        #[prost(uint32, tag = "3")] length: u32,
    }
    UserNamespace {
        #[prost(int32, tag = "1")] mode: i32,
        #[prost(message, repeated, tag = "2")] uids: Vec<IdMapping>,
        #[prost(message, repeated, tag = "3")] gids: Vec<IdMapping>,
    }
    NamespaceOption {
        #[prost(int32, tag = "1")] network: i32,
        #[prost(int32, tag = "2")] pid: i32,
        #[prost(int32, tag = "3")] ipc: i32,
        #[prost(string, tag = "4")] target_id: String,
        #[prost(message, optional, tag = "5")] userns_options: Option<UserNamespace>,
    }
    SecurityProfile {
        #[prost(int32, tag = "1")] profile_type: i32,
        #[prost(string, tag = "2")] localhost_ref: String,
    }

    PodSandboxMetadata {
        #[prost(string, tag = "1")] name: String,
        #[prost(string, tag = "2")] uid: String,
        #[prost(string, tag = "3")] namespace: String,
        #[prost(uint32, tag = "4")] attempt: u32,
    }
    LinuxSandboxSecurityContext {
        #[prost(message, optional, tag = "1")] namespace_options: Option<NamespaceOption>,
        #[prost(bool, tag = "6")] privileged: bool,
        #[prost(message, optional, tag = "9")] seccomp: Option<SecurityProfile>,
    }
    LinuxPodSandboxConfig {
        #[prost(string, tag = "1")] cgroup_parent: String,
        #[prost(message, optional, tag = "2")] security_context: Option<LinuxSandboxSecurityContext>,
        #[prost(btree_map = "string, string", tag = "3")] sysctls: Map,
        #[prost(message, optional, tag = "5")] resources: Option<LinuxContainerResources>,
    }
    PodSandboxConfig {
        #[prost(message, optional, tag = "1")] metadata: Option<PodSandboxMetadata>,
        #[prost(string, tag = "2")] hostname: String,
        #[prost(string, tag = "3")] log_directory: String,
        #[prost(btree_map = "string, string", tag = "6")] labels: Map,
        #[prost(btree_map = "string, string", tag = "7")] annotations: Map,
        #[prost(message, optional, tag = "8")] linux: Option<LinuxPodSandboxConfig>,
    }
    RunPodSandboxRequest {
        #[prost(message, optional, tag = "1")] config: Option<PodSandboxConfig>,
        #[prost(string, tag = "2")] runtime_handler: String,
    }
    /// Also the requests that name a sandbox and nothing else.
    SandboxRef { #[prost(string, tag = "1")] pod_sandbox_id: String, }
    PodSandboxStatusRequest {
        #[prost(string, tag = "1")] pod_sandbox_id: String,
        #[prost(bool, tag = "2")] verbose: bool,
    }
    PodIp { #[prost(string, tag = "1")] ip: String, }
    PodSandboxNetworkStatus {
        #[prost(string, tag = "1")] ip: String,
        #[prost(message, repeated, tag = "2")] additional_ips: Vec<PodIp>,
    }
    PodSandboxStatus {
        #[prost(string, tag = "1")] id: String,
        #[prost(int32, tag = "3")] state: i32,
        #[prost(int64, tag = "4")] created_at: i64,
        #[prost(message, optional, tag = "5")] network: Option<PodSandboxNetworkStatus>,
        #[prost(btree_map = "string, string", tag = "7")] labels: Map,
        #[prost(btree_map = "string, string", tag = "8")] annotations: Map,
    }
    PodSandboxStatusResponse {
        #[prost(message, optional, tag = "1")] status: Option<PodSandboxStatus>,
        #[prost(btree_map = "string, string", tag = "2")] info: Map,
    }
    PodSandboxFilter { #[prost(btree_map = "string, string", tag = "3")] label_selector: Map, }
    ListPodSandboxRequest { #[prost(message, optional, tag = "1")] filter: Option<PodSandboxFilter>, }
    PodSandbox {
        #[prost(string, tag = "1")] id: String,
        #[prost(int32, tag = "3")] state: i32,
    }
    ListPodSandboxResponse { #[prost(message, repeated, tag = "1")] items: Vec<PodSandbox>, }

    ImageSpec { #[prost(string, tag = "1")] image: String, }
    HugepageLimit {
        #[prost(string, tag = "1")] page_size: String,
        #[prost(uint64, tag = "2")] limit: u64,
    }
    LinuxContainerResources {
        #[prost(int64, tag = "1")] cpu_period: i64,
        #[prost(int64, tag = "2")] cpu_quota: i64,
        #[prost(int64, tag = "3")] cpu_shares: i64,
        #[prost(int64, tag = "4")] memory_limit_in_bytes: i64,
        #[prost(int64, tag = "5")] oom_score_adj: i64,
        #[prost(string, tag = "6")] cpuset_cpus: String,
        #[prost(string, tag = "7")] cpuset_mems: String,
        #[prost(message, repeated, tag = "8")] hugepage_limits: Vec<HugepageLimit>,
        #[prost(btree_map = "string, string", tag = "9")] unified: Map,
        #[prost(int64, tag = "10")] memory_swap_limit_in_bytes: i64,
    }
    Capability {
        #[prost(string, repeated, tag = "1")] add_capabilities: Vec<String>,
        #[prost(string, repeated, tag = "2")] drop_capabilities: Vec<String>,
    }
    LinuxContainerSecurityContext {
        #[prost(message, optional, tag = "1")] capabilities: Option<Capability>,
        #[prost(bool, tag = "2")] privileged: bool,
        #[prost(message, optional, tag = "3")] namespace_options: Option<NamespaceOption>,
        #[prost(message, optional, tag = "5")] run_as_user: Option<Int64Value>,
        #[prost(string, tag = "6")] run_as_username: String,
        #[prost(bool, tag = "7")] readonly_rootfs: bool,
        #[prost(int64, repeated, tag = "8")] supplemental_groups: Vec<i64>,
        #[prost(bool, tag = "11")] no_new_privs: bool,
        #[prost(message, optional, tag = "12")] run_as_group: Option<Int64Value>,
        #[prost(string, repeated, tag = "13")] masked_paths: Vec<String>,
        #[prost(string, repeated, tag = "14")] readonly_paths: Vec<String>,
        #[prost(message, optional, tag = "15")] seccomp: Option<SecurityProfile>,
        #[prost(message, optional, tag = "16")] apparmor: Option<SecurityProfile>,
        /// 1 for `Strict`.
        #[prost(int32, tag = "17")] supplemental_groups_policy: i32,
    }
    LinuxContainerConfig {
        #[prost(message, optional, tag = "1")] resources: Option<LinuxContainerResources>,
        #[prost(message, optional, tag = "2")] security_context: Option<LinuxContainerSecurityContext>,
    }
    ContainerMetadata {
        #[prost(string, tag = "1")] name: String,
        #[prost(uint32, tag = "2")] attempt: u32,
    }
    Mount {
        #[prost(string, tag = "1")] container_path: String,
        #[prost(string, tag = "2")] host_path: String,
        #[prost(bool, tag = "3")] readonly: bool,
        /// 0 private, 1 from the host to the container, 2 both ways.
        #[prost(int32, tag = "5")] propagation: i32,
        #[prost(message, repeated, tag = "6")] uid_mappings: Vec<IdMapping>,
        #[prost(message, repeated, tag = "7")] gid_mappings: Vec<IdMapping>,
        #[prost(bool, tag = "8")] recursive_read_only: bool,
        #[prost(message, optional, tag = "9")] image: Option<ImageSpec>,
        #[prost(string, tag = "10")] image_sub_path: String,
    }
    Device {
        #[prost(string, tag = "1")] container_path: String,
        #[prost(string, tag = "2")] host_path: String,
        #[prost(string, tag = "3")] permissions: String,
    }
    ContainerConfig {
        #[prost(message, optional, tag = "1")] metadata: Option<ContainerMetadata>,
        #[prost(message, optional, tag = "2")] image: Option<ImageSpec>,
        #[prost(string, repeated, tag = "3")] command: Vec<String>,
        #[prost(string, repeated, tag = "4")] args: Vec<String>,
        #[prost(string, tag = "5")] working_dir: String,
        #[prost(message, repeated, tag = "6")] envs: Vec<KeyValue>,
        #[prost(message, repeated, tag = "7")] mounts: Vec<Mount>,
        #[prost(message, repeated, tag = "8")] devices: Vec<Device>,
        #[prost(btree_map = "string, string", tag = "9")] labels: Map,
        #[prost(btree_map = "string, string", tag = "10")] annotations: Map,
        #[prost(string, tag = "11")] log_path: String,
        #[prost(bool, tag = "12")] stdin: bool,
        #[prost(bool, tag = "13")] stdin_once: bool,
        #[prost(bool, tag = "14")] tty: bool,
        #[prost(message, optional, tag = "15")] linux: Option<LinuxContainerConfig>,
    }
    CreateContainerRequest {
        #[prost(string, tag = "1")] pod_sandbox_id: String,
        #[prost(message, optional, tag = "2")] config: Option<ContainerConfig>,
        #[prost(message, optional, tag = "3")] sandbox_config: Option<PodSandboxConfig>,
    }
    /// Also the requests that name a container and nothing else.
    ContainerRef { #[prost(string, tag = "1")] container_id: String, }
    StopContainerRequest {
        #[prost(string, tag = "1")] container_id: String,
        /// Seconds.
        #[prost(int64, tag = "2")] timeout: i64,
    }
    ContainerFilter { #[prost(btree_map = "string, string", tag = "4")] label_selector: Map, }
    ListContainersRequest { #[prost(message, optional, tag = "1")] filter: Option<ContainerFilter>, }
    Container {
        #[prost(string, tag = "1")] id: String,
        #[prost(int32, tag = "6")] state: i32,
    }
    ListContainersResponse { #[prost(message, repeated, tag = "1")] containers: Vec<Container>, }
    ContainerStatusRequest {
        #[prost(string, tag = "1")] container_id: String,
        #[prost(bool, tag = "2")] verbose: bool,
    }
    ContainerStatus {
        #[prost(string, tag = "1")] id: String,
        #[prost(message, optional, tag = "2")] metadata: Option<ContainerMetadata>,
        #[prost(int32, tag = "3")] state: i32,
        #[prost(int64, tag = "4")] created_at: i64,
        #[prost(int64, tag = "5")] started_at: i64,
        #[prost(int64, tag = "6")] finished_at: i64,
        #[prost(int32, tag = "7")] exit_code: i32,
        #[prost(message, optional, tag = "8")] image: Option<ImageSpec>,
        #[prost(string, tag = "9")] image_ref: String,
        #[prost(string, tag = "10")] reason: String,
        #[prost(string, tag = "11")] message: String,
        #[prost(btree_map = "string, string", tag = "12")] labels: Map,
        #[prost(btree_map = "string, string", tag = "13")] annotations: Map,
        #[prost(string, tag = "15")] log_path: String,
    }
    ContainerStatusResponse {
        #[prost(message, optional, tag = "1")] status: Option<ContainerStatus>,
        #[prost(btree_map = "string, string", tag = "2")] info: Map,
    }
    UpdateContainerResourcesRequest {
        #[prost(string, tag = "1")] container_id: String,
        #[prost(message, optional, tag = "2")] linux: Option<LinuxContainerResources>,
    }

    ExecSyncRequest {
        #[prost(string, tag = "1")] container_id: String,
        #[prost(string, repeated, tag = "2")] cmd: Vec<String>,
        /// Seconds; 0 for none.
        #[prost(int64, tag = "3")] timeout: i64,
    }
    ExecSyncResponse {
        #[prost(bytes = "vec", tag = "1")] stdout: Vec<u8>,
        #[prost(bytes = "vec", tag = "2")] stderr: Vec<u8>,
        #[prost(int32, tag = "3")] exit_code: i32,
    }
    ExecRequest {
        #[prost(string, tag = "1")] container_id: String,
        #[prost(string, repeated, tag = "2")] cmd: Vec<String>,
        #[prost(bool, tag = "3")] tty: bool,
        #[prost(bool, tag = "4")] stdin: bool,
        #[prost(bool, tag = "5")] stdout: bool,
        #[prost(bool, tag = "6")] stderr: bool,
    }
    AttachRequest {
        #[prost(string, tag = "1")] container_id: String,
        #[prost(bool, tag = "2")] stdin: bool,
        #[prost(bool, tag = "3")] tty: bool,
        #[prost(bool, tag = "4")] stdout: bool,
        #[prost(bool, tag = "5")] stderr: bool,
    }
    /// Where to stream.
    Url { #[prost(string, tag = "1")] url: String, }

    FilesystemIdentifier { #[prost(string, tag = "1")] mountpoint: String, }
    FilesystemUsage {
        #[prost(message, optional, tag = "2")] fs_id: Option<FilesystemIdentifier>,
        #[prost(message, optional, tag = "3")] used_bytes: Option<UInt64Value>,
        #[prost(message, optional, tag = "4")] inodes_used: Option<UInt64Value>,
    }
    CpuUsage {
        /// Nanoseconds since 1970.
        #[prost(int64, tag = "1")] timestamp: i64,
        #[prost(message, optional, tag = "2")] usage_core_nano_seconds: Option<UInt64Value>,
    }
    MemoryUsage {
        #[prost(message, optional, tag = "2")] working_set_bytes: Option<UInt64Value>,
        #[prost(message, optional, tag = "4")] usage_bytes: Option<UInt64Value>,
        #[prost(message, optional, tag = "5")] rss_bytes: Option<UInt64Value>,
        #[prost(message, optional, tag = "6")] page_faults: Option<UInt64Value>,
        #[prost(message, optional, tag = "7")] major_page_faults: Option<UInt64Value>,
    }
    SwapUsage { #[prost(message, optional, tag = "3")] swap_usage_bytes: Option<UInt64Value>, }
    ContainerStats {
        #[prost(message, optional, tag = "2")] cpu: Option<CpuUsage>,
        #[prost(message, optional, tag = "3")] memory: Option<MemoryUsage>,
        #[prost(message, optional, tag = "4")] writable_layer: Option<FilesystemUsage>,
        #[prost(message, optional, tag = "5")] swap: Option<SwapUsage>,
    }
    ContainerStatsResponse { #[prost(message, optional, tag = "1")] stats: Option<ContainerStats>, }

    Image {
        #[prost(string, tag = "1")] id: String,
        #[prost(string, repeated, tag = "2")] repo_tags: Vec<String>,
        #[prost(string, repeated, tag = "3")] repo_digests: Vec<String>,
        #[prost(uint64, tag = "4")] size: u64,
        #[prost(message, optional, tag = "5")] uid: Option<Int64Value>,
        #[prost(string, tag = "6")] username: String,
        #[prost(bool, tag = "8")] pinned: bool,
    }
    ListImagesRequest {}
    ListImagesResponse { #[prost(message, repeated, tag = "1")] images: Vec<Image>, }
    ImageStatusRequest { #[prost(message, optional, tag = "1")] image: Option<ImageSpec>, }
    ImageStatusResponse { #[prost(message, optional, tag = "1")] image: Option<Image>, }
    AuthConfig {
        #[prost(string, tag = "1")] username: String,
        #[prost(string, tag = "2")] password: String,
        #[prost(string, tag = "6")] registry_token: String,
    }
    PullImageRequest {
        #[prost(message, optional, tag = "1")] image: Option<ImageSpec>,
        #[prost(message, optional, tag = "2")] auth: Option<AuthConfig>,
    }
    PullImageResponse { #[prost(string, tag = "1")] image_ref: String, }
    RemoveImageRequest { #[prost(message, optional, tag = "1")] image: Option<ImageSpec>, }
    ImageFsInfoResponse { #[prost(message, repeated, tag = "1")] image_filesystems: Vec<FilesystemUsage>, }
}
