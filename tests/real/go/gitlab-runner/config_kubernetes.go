// The settings of the Kubernetes executor: [runners.kubernetes] with its tables.

package main

import "time"

type kubernetesConfig struct {
	Host                        string      `toml:"host"`
	Context                     string      `toml:"context,omitempty"`
	CertFile                    string      `toml:"cert_file,omitempty"`
	KeyFile                     string      `toml:"key_file,omitempty"`
	CAFile                      string      `toml:"ca_file,omitempty"`
	BearerTokenOverwriteAllowed bool        `toml:"bearer_token_overwrite_allowed"`
	BearerToken                 string      `toml:"bearer_token,omitempty"`
	Image                       string      `toml:"image"`
	Namespace                   string      `toml:"namespace"`
	NamespaceOverwriteAllowed   string      `toml:"namespace_overwrite_allowed"`
	NamespacePerJob             bool        `toml:"namespace_per_job"`
	Privileged                  *bool       `toml:"privileged"`
	RuntimeClassName            *string     `toml:"runtime_class_name"`
	AllowPrivilegeEscalation    *bool       `toml:"allow_privilege_escalation"`
	AllowedUsers                unsupported `toml:"allowed_users"`
	AllowedGroups               unsupported `toml:"allowed_groups"`
	AllowedImages               unsupported `toml:"allowed_images"`
	AllowedPullPolicies         unsupported `toml:"allowed_pull_policies"`
	AllowedServices             unsupported `toml:"allowed_services"`

	CPULimit                                          string      `toml:"cpu_limit,omitempty"`
	CPURequest                                        string      `toml:"cpu_request,omitempty"`
	MemoryLimit                                       string      `toml:"memory_limit,omitempty"`
	MemoryRequest                                     string      `toml:"memory_request,omitempty"`
	EphemeralStorageLimit                             string      `toml:"ephemeral_storage_limit,omitempty"`
	EphemeralStorageRequest                           string      `toml:"ephemeral_storage_request,omitempty"`
	ServiceCPULimit                                   unsupported `toml:"service_cpu_limit"`
	ServiceCPURequest                                 unsupported `toml:"service_cpu_request"`
	ServiceMemoryLimit                                unsupported `toml:"service_memory_limit"`
	ServiceMemoryRequest                              unsupported `toml:"service_memory_request"`
	ServiceEphemeralStorageLimit                      unsupported `toml:"service_ephemeral_storage_limit"`
	ServiceEphemeralStorageRequest                    unsupported `toml:"service_ephemeral_storage_request"`
	HelperCPULimit                                    string      `toml:"helper_cpu_limit,omitempty"`
	HelperCPURequest                                  string      `toml:"helper_cpu_request,omitempty"`
	HelperMemoryLimit                                 string      `toml:"helper_memory_limit,omitempty"`
	HelperMemoryRequest                               string      `toml:"helper_memory_request,omitempty"`
	HelperEphemeralStorageLimit                       string      `toml:"helper_ephemeral_storage_limit,omitempty"`
	HelperEphemeralStorageRequest                     string      `toml:"helper_ephemeral_storage_request,omitempty"`
	CPULimitOverwriteMaxAllowed                       unsupported `toml:"cpu_limit_overwrite_max_allowed"`
	CPURequestOverwriteMaxAllowed                     unsupported `toml:"cpu_request_overwrite_max_allowed"`
	MemoryLimitOverwriteMaxAllowed                    unsupported `toml:"memory_limit_overwrite_max_allowed"`
	MemoryRequestOverwriteMaxAllowed                  unsupported `toml:"memory_request_overwrite_max_allowed"`
	EphemeralStorageLimitOverwriteMaxAllowed          unsupported `toml:"ephemeral_storage_limit_overwrite_max_allowed"`
	EphemeralStorageRequestOverwriteMaxAllowed        unsupported `toml:"ephemeral_storage_request_overwrite_max_allowed"`
	ServiceCPULimitOverwriteMaxAllowed                unsupported `toml:"service_cpu_limit_overwrite_max_allowed"`
	ServiceCPURequestOverwriteMaxAllowed              unsupported `toml:"service_cpu_request_overwrite_max_allowed"`
	ServiceMemoryLimitOverwriteMaxAllowed             unsupported `toml:"service_memory_limit_overwrite_max_allowed"`
	ServiceMemoryRequestOverwriteMaxAllowed           unsupported `toml:"service_memory_request_overwrite_max_allowed"`
	ServiceEphemeralStorageLimitOverwriteMaxAllowed   unsupported `toml:"service_ephemeral_storage_limit_overwrite_max_allowed"`
	ServiceEphemeralStorageRequestOverwriteMaxAllowed unsupported `toml:"service_ephemeral_storage_request_overwrite_max_allowed"`
	HelperCPULimitOverwriteMaxAllowed                 unsupported `toml:"helper_cpu_limit_overwrite_max_allowed"`
	HelperCPURequestOverwriteMaxAllowed               unsupported `toml:"helper_cpu_request_overwrite_max_allowed"`
	HelperMemoryLimitOverwriteMaxAllowed              unsupported `toml:"helper_memory_limit_overwrite_max_allowed"`
	HelperMemoryRequestOverwriteMaxAllowed            unsupported `toml:"helper_memory_request_overwrite_max_allowed"`
	HelperEphemeralStorageLimitOverwriteMaxAllowed    unsupported `toml:"helper_ephemeral_storage_limit_overwrite_max_allowed"`
	HelperEphemeralStorageRequestOverwriteMaxAllowed  unsupported `toml:"helper_ephemeral_storage_request_overwrite_max_allowed"`

	PullPolicy                   stringOrArray     `toml:"pull_policy,omitempty"`
	NodeSelector                 map[string]string `toml:"node_selector"`
	NodeSelectorOverwriteAllowed string            `toml:"node_selector_overwrite_allowed"`
	NodeTolerations              map[string]string `toml:"node_tolerations"`
	NodeTolerationsOverwrite     string            `toml:"node_tolerations_overwrite_allowed"`
	Affinity                     unsupported       `toml:"affinity"`
	ImagePullSecrets             []string          `toml:"image_pull_secrets,omitempty"`
	UseServiceAccountPullSecrets bool              `toml:"use_service_account_image_pull_secrets,omitempty"`
	HelperImage                  string            `toml:"helper_image,omitempty"`
	HelperImageFlavor            unsupported       `toml:"helper_image_flavor"`
	HelperImageAutoset           unsupported       `toml:"helper_image_autoset_arch_and_os"`
	TerminationGracePeriod       *int64            `toml:"terminationGracePeriodSeconds"`
	PodTerminationGracePeriod    *int64            `toml:"pod_termination_grace_period_seconds"`
	CleanupGracePeriod           *int64            `toml:"cleanup_grace_period_seconds"`
	CleanupResourcesTimeout      *time.Duration    `toml:"cleanup_resources_timeout"`
	PollInterval                 int               `toml:"poll_interval,omitzero"`
	PollTimeout                  int               `toml:"poll_timeout,omitzero"`
	ResourceAvailabilityAttempts int               `toml:"resource_availability_check_max_attempts,omitzero"`
	RequestRetryLimit            int               `toml:"retry_limit,omitzero"`
	RequestRetryBackoffMax       int               `toml:"retry_backoff_max,omitzero"`
	RequestRetryLimits           map[string]int    `toml:"retry_limits"`
	PodLabels                    map[string]string `toml:"pod_labels"`
	PodLabelsOverwriteAllowed    string            `toml:"pod_labels_overwrite_allowed"`
	SchedulerName                string            `toml:"scheduler_name,omitempty"`
	ServiceAccount               string            `toml:"service_account,omitempty"`
	ServiceAccountOverwrite      string            `toml:"service_account_overwrite_allowed"`
	AutomountServiceAccountToken *bool             `toml:"automount_service_account_token"`
	PodAnnotations               map[string]string `toml:"pod_annotations"`
	PodAnnotationsOverwrite      string            `toml:"pod_annotations_overwrite_allowed"`
	LogsBaseDir                  string            `toml:"logs_base_dir,omitempty"`
	ScriptsBaseDir               string            `toml:"scripts_base_dir,omitempty"`
	PriorityClassName            string            `toml:"priority_class_name,omitempty"`
	CapAdd                       []string          `toml:"cap_add"`
	CapDrop                      []string          `toml:"cap_drop"`
	DNSPolicy                    unsupported       `toml:"dns_policy"`
	PrintPodWarningEvents        *bool             `toml:"print_pod_warning_events"`
	PodDisruptionBudget          unsupported       `toml:"pod_disruption_budget"`

	PodSecurityContext     podSecurityContext        `toml:"pod_security_context,omitempty"`
	InitPermissionsContext containerSecurityContext  `toml:"init_permissions_container_security_context,omitempty"`
	BuildContext           containerSecurityContext  `toml:"build_container_security_context,omitempty"`
	HelperContext          containerSecurityContext  `toml:"helper_container_security_context,omitempty"`
	ServiceContext         *containerSecurityContext `toml:"service_container_security_context"`
	Volumes                volumes                   `toml:"volumes"`
	DNSConfig              dnsConfig                 `toml:"dns_config"`
	HostAliases            []hostAlias               `toml:"host_aliases"`
	Services               unsupported               `toml:"services"`
	ContainerLifecycle     unsupported               `toml:"container_lifecycle"`
	Autoscaler             unsupported               `toml:"autoscaler"`
	PodSpec                []podSpecPatch            `toml:"pod_spec"`
}

type podSecurityContext struct {
	FSGroup            *int64      `toml:"fs_group"`
	RunAsGroup         *int64      `toml:"run_as_group"`
	RunAsNonRoot       *bool       `toml:"run_as_non_root"`
	RunAsUser          *int64      `toml:"run_as_user"`
	SupplementalGroups []int64     `toml:"supplemental_groups,omitempty"`
	SELinuxType        string      `toml:"selinux_type,omitempty"`
	SeccompProfile     *profile    `toml:"seccomp_profile"`
	AppArmorProfile    unsupported `toml:"app_armor_profile"`
}

type containerSecurityContext struct {
	Capabilities             *capabilities `toml:"capabilities"`
	Privileged               *bool         `toml:"privileged"`
	RunAsUser                *int64        `toml:"run_as_user"`
	RunAsGroup               *int64        `toml:"run_as_group"`
	RunAsNonRoot             *bool         `toml:"run_as_non_root"`
	ReadOnlyRootFilesystem   *bool         `toml:"read_only_root_filesystem"`
	AllowPrivilegeEscalation *bool         `toml:"allow_privilege_escalation"`
	SELinuxType              string        `toml:"selinux_type,omitempty"`
	ProcMount                unsupported   `toml:"proc_mount"`
	SeccompProfile           *profile      `toml:"seccomp_profile"`
	AppArmorProfile          unsupported   `toml:"app_armor_profile"`
}

type capabilities struct {
	Add  []string `toml:"add"`
	Drop []string `toml:"drop"`
}

type profile struct {
	Type             string  `toml:"type"`
	LocalhostProfile *string `toml:"localhost_profile"`
}

type volumes struct {
	HostPaths  []volume    `toml:"host_path"`
	PVCs       []volume    `toml:"pvc"`
	ConfigMaps []volume    `toml:"config_map"`
	Secrets    []volume    `toml:"secret"`
	EmptyDirs  []volume    `toml:"empty_dir"`
	CSIs       unsupported `toml:"csi"`
	NFS        unsupported `toml:"nfs"`
}

// volume has the keys of all kinds of volumes.
type volume struct {
	Name             string            `toml:"name"`
	MountPath        string            `toml:"mount_path"`
	SubPath          string            `toml:"sub_path,omitempty"`
	ReadOnly         bool              `toml:"read_only,omitempty"`
	HostPath         string            `toml:"host_path,omitempty"`
	Medium           string            `toml:"medium,omitempty"`
	SizeLimit        string            `toml:"size_limit,omitempty"`
	MountPropagation *string           `toml:"mount_propagation"`
	Items            map[string]string `toml:"items,omitempty"`
}

type dnsConfig struct {
	Nameservers []string    `toml:"nameservers"`
	Searches    []string    `toml:"searches"`
	Options     unsupported `toml:"options"`
}

type hostAlias struct {
	IP        string   `toml:"ip"`
	Hostnames []string `toml:"hostnames"`
}

type podSpecPatch struct {
	Name      string `toml:"name"`
	PatchPath string `toml:"patch_path"`
	Patch     string `toml:"patch"`
	PatchType string `toml:"patch_type"`
}

// stringOrArray is a list that may be written as one string.
type stringOrArray []string

func (s *stringOrArray) UnmarshalTOML(value any) error {
	switch value := value.(type) {
	case string:
		*s = stringOrArray{value}
	case []any:
		*s = nil
		for _, one := range value {
			text, ok := one.(string)
			if !ok {
				return errNotText
			}
			*s = append(*s, text)
		}
	default:
		return errNotText
	}
	return nil
}
