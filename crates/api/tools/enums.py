"""The values of upstream's types marked +enum, by Go type. Facts that neither struct tags nor .proto files carry."""

def _types(package, text):
    out = {}
    for line in text.strip().splitlines():
        name, *values = line.split()
        out[f'k8s.io/api/{package}.{name}'] = ['' if v == '""' else v for v in values]
    return out

_ADMISSION = '''
FailurePolicyType Fail Ignore
MatchPolicyType Equivalent Exact
ReinvocationPolicyType IfNeeded Never
SideEffectClass None NoneOnDryRun Some Unknown
ScopeType * Cluster Namespaced
OperationType * CONNECT CREATE DELETE UPDATE
ParameterNotFoundActionType Allow Deny
ValidationAction Audit Deny Warn
'''

ENUMS = {
    **_types('core/v1', '''
AppArmorProfileType Localhost RuntimeDefault Unconfined
AzureDataDiskCachingMode None ReadOnly ReadWrite
AzureDataDiskKind Dedicated Managed Shared
DNSPolicy ClusterFirst ClusterFirstWithHostNet Default None
HostPathType "" BlockDevice CharDevice Directory DirectoryOrCreate File FileOrCreate Socket
IPFamily "" IPv4 IPv6
IPFamilyPolicy PreferDualStack RequireDualStack SingleStack
MountPropagationMode Bidirectional HostToContainer None
NamespacePhase Active Terminating
NodeInclusionPolicy Honor Ignore
NodePhase Pending Running Terminated
NodeSelectorOperator DoesNotExist Exists Gt In Lt NotIn
PersistentVolumeAccessMode ReadOnlyMany ReadWriteMany ReadWriteOnce ReadWriteOncePod
PersistentVolumeClaimPhase Bound Lost Pending
PersistentVolumeMode Block Filesystem
PersistentVolumePhase Available Bound Failed Pending Released
PersistentVolumeReclaimPolicy Delete Recycle Retain
PodFSGroupChangePolicy Always OnRootMismatch
PodPhase Failed Pending Running Succeeded Unknown
PodQOSClass BestEffort Burstable Guaranteed
PreemptionPolicy Never PreemptLowerPriority
ProcMountType Default Unmasked
Protocol SCTP TCP UDP
PullPolicy Always IfNotPresent Never
ResourceQuotaScope BestEffort CrossNamespacePodAffinity NotBestEffort NotTerminating PriorityClass Terminating VolumeAttributesClass
RestartPolicy Always Never OnFailure
ScopeSelectorOperator DoesNotExist Exists In NotIn
SeccompProfileType Localhost RuntimeDefault Unconfined
ServiceAffinity ClientIP None
ServiceExternalTrafficPolicy Cluster Local
ServiceInternalTrafficPolicy Cluster Local
ServiceType ClusterIP ExternalName LoadBalancer NodePort
TaintEffect NoExecute NoSchedule PreferNoSchedule
TerminationMessagePolicy FallbackToLogsOnError File
TolerationOperator Equal Exists Gt Lt
UnsatisfiableConstraintAction DoNotSchedule ScheduleAnyway
URIScheme HTTP HTTPS
'''),
    **_types('apps/v1', '''
DaemonSetUpdateStrategyType OnDelete RollingUpdate
DeploymentStrategyType Recreate RollingUpdate
PodManagementPolicyType OrderedReady Parallel
StatefulSetUpdateStrategyType OnDelete RollingUpdate
'''),
    **_types('batch/v1', '''
CompletionMode Indexed NonIndexed
ConcurrencyPolicy Allow Forbid Replace
PodFailurePolicyAction Count FailIndex FailJob Ignore
PodFailurePolicyOnExitCodesOperator In NotIn
PodReplacementPolicy Failed TerminatingOrFailed
'''),
    **_types('discovery/v1', 'AddressType FQDN IPv4 IPv6'),
    **_types('networking/v1', 'PathType Exact ImplementationSpecific Prefix\nPolicyType Egress Ingress'),
    **_types('policy/v1', 'UnhealthyPodEvictionPolicyType AlwaysAllow IfHealthyBudget'),
    **_types('storage/v1', 'VolumeBindingMode Immediate WaitForFirstConsumer'),
    **_types('admissionregistration/v1', _ADMISSION),
    **_types('admissionregistration/v1beta1', _ADMISSION),
}
