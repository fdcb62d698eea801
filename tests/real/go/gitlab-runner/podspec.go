// The pod of a job as the real executor describes it: containers build and helper, the init container that
// makes the folders writable, and all that the settings say about them.

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"sigs.k8s.io/yaml"
)

const (
	// waiting is the first process of both containers: it runs the lines that are written to its input, and
	// ends when it is told to, which the first process of a container does not do by itself.
	waiting = `trap 'exit 0' TERM; while :; do if read -r line; then sh -c "$line" & wait $!; else sleep 1 & wait $!; fi; done`

	podLabel = "job.runner.gitlab.com/pod"
)

type resources struct{ cpuLimit, cpuRequest, memoryLimit, memoryRequest, diskLimit, diskRequest string }

func (r resources) parse() (corev1.ResourceRequirements, error) {
	result := corev1.ResourceRequirements{Limits: corev1.ResourceList{}, Requests: corev1.ResourceList{}}
	for _, one := range []struct {
		list corev1.ResourceList
		name corev1.ResourceName
		text string
	}{
		{result.Limits, corev1.ResourceCPU, r.cpuLimit},
		{result.Requests, corev1.ResourceCPU, r.cpuRequest},
		{result.Limits, corev1.ResourceMemory, r.memoryLimit},
		{result.Requests, corev1.ResourceMemory, r.memoryRequest},
		{result.Limits, corev1.ResourceEphemeralStorage, r.diskLimit},
		{result.Requests, corev1.ResourceEphemeralStorage, r.diskRequest},
	} {
		if one.text == "" {
			continue
		}
		quantity, err := resource.ParseQuantity(one.text)
		if err != nil {
			return result, misconfigured("parsing resource %s %q: %w", one.name, one.text, err)
		}
		one.list[one.name] = quantity
	}
	return result, nil
}

func pullPolicy(configured []string) (corev1.PullPolicy, error) {
	if len(configured) > 1 {
		return "", misconfigured("this stand-in does not fall back from one pull policy to another")
	}
	names := map[string]corev1.PullPolicy{
		"": "", "always": corev1.PullAlways, "if-not-present": corev1.PullIfNotPresent, "never": corev1.PullNever,
	}
	if len(configured) == 0 {
		return "", nil
	}
	policy, known := names[configured[0]]
	if !known {
		return "", misconfigured("pull_policy config: unsupported pull policy: %q", configured[0])
	}
	return policy, nil
}

func (p *profile) seccomp() *corev1.SeccompProfile {
	// Older ones do not know the setting, and ignore it.
	if p == nil || !atLeast(18, 11) {
		return nil
	}
	return &corev1.SeccompProfile{Type: corev1.SeccompProfileType(p.Type), LocalhostProfile: p.LocalhostProfile}
}

func capabilityList(names []string) []corev1.Capability {
	var list []corev1.Capability
	for _, name := range names {
		list = append(list, corev1.Capability(name))
	}
	return list
}

func or2[T any](first, second *T) *T {
	if first != nil {
		return first
	}
	return second
}

func selinux(label string) *corev1.SELinuxOptions {
	if label == "" {
		return nil
	}
	return &corev1.SELinuxOptions{Type: label}
}

// securityContext is a container's own, with what all containers share where that says nothing.
func (k *kubernetesConfig) securityContext(own containerSecurityContext) *corev1.SecurityContext {
	caps := corev1.Capabilities{Add: capabilityList(k.CapAdd), Drop: capabilityList(k.CapDrop)}
	if own.Capabilities != nil && own.Capabilities.Add != nil {
		caps.Add = capabilityList(own.Capabilities.Add)
	}
	if own.Capabilities != nil && own.Capabilities.Drop != nil {
		caps.Drop = capabilityList(own.Capabilities.Drop)
	}
	result := &corev1.SecurityContext{
		Privileged:               or2(own.Privileged, k.Privileged),
		AllowPrivilegeEscalation: or2(own.AllowPrivilegeEscalation, k.AllowPrivilegeEscalation),
		RunAsUser:                own.RunAsUser, RunAsGroup: own.RunAsGroup, RunAsNonRoot: own.RunAsNonRoot,
		ReadOnlyRootFilesystem: own.ReadOnlyRootFilesystem, SELinuxOptions: selinux(own.SELinuxType),
		SeccompProfile: own.SeccompProfile.seccomp(),
	}
	if caps.Add != nil || caps.Drop != nil {
		result.Capabilities = &caps
	}
	return result
}

func (k *kubernetesConfig) podSecurity() *corev1.PodSecurityContext {
	own := k.PodSecurityContext
	return &corev1.PodSecurityContext{
		FSGroup: own.FSGroup, RunAsGroup: own.RunAsGroup, RunAsUser: own.RunAsUser,
		RunAsNonRoot: own.RunAsNonRoot, SupplementalGroups: own.SupplementalGroups,
		SELinuxOptions: selinux(own.SELinuxType), SeccompProfile: own.SeccompProfile.seccomp(),
	}
}

func items(keys map[string]string) []corev1.KeyToPath {
	var list []corev1.KeyToPath
	for key, path := range keys {
		list = append(list, corev1.KeyToPath{Key: key, Path: path})
	}
	return list
}

// volumes are those of the runner itself, and those of the settings.
func (p *pod) volumes() ([]corev1.Volume, []corev1.VolumeMount, error) {
	var all []corev1.Volume
	var mounts []corev1.VolumeMount
	add := func(own volume, source corev1.VolumeSource) {
		all = append(all, corev1.Volume{Name: own.Name, VolumeSource: source})
		mount := corev1.VolumeMount{Name: own.Name, MountPath: own.MountPath, SubPath: own.SubPath, ReadOnly: own.ReadOnly}
		if own.MountPropagation != nil {
			mount.MountPropagation = (*corev1.MountPropagationMode)(own.MountPropagation)
		}
		mounts = append(mounts, mount)
	}
	for name, path := range map[string]string{"repo": p.root(), "scripts": p.scripts, "logs": p.logs} {
		add(volume{Name: name, MountPath: path}, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
	}
	configured := p.settings.Volumes
	for _, own := range configured.EmptyDirs {
		source := &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMedium(own.Medium)}
		if own.SizeLimit != "" {
			limit, err := resource.ParseQuantity(own.SizeLimit)
			if err != nil {
				return nil, nil, misconfigured("volume %s: %w", own.Name, err)
			}
			source.SizeLimit = &limit
		}
		add(own, corev1.VolumeSource{EmptyDir: source})
	}
	for _, own := range configured.HostPaths {
		path := own.HostPath
		if path == "" {
			path = own.MountPath
		}
		add(own, corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path}})
	}
	for _, own := range configured.PVCs {
		claim := &corev1.PersistentVolumeClaimVolumeSource{ClaimName: own.Name, ReadOnly: own.ReadOnly}
		add(own, corev1.VolumeSource{PersistentVolumeClaim: claim})
	}
	for _, own := range configured.ConfigMaps {
		source := &corev1.ConfigMapVolumeSource{Items: items(own.Items)}
		source.Name = own.Name
		add(own, corev1.VolumeSource{ConfigMap: source})
	}
	for _, own := range configured.Secrets {
		source := &corev1.SecretVolumeSource{SecretName: own.Name, Items: items(own.Items)}
		add(own, corev1.VolumeSource{Secret: source})
	}
	return all, mounts, nil
}

func (k *kubernetesConfig) tolerations() []corev1.Toleration {
	var list []corev1.Toleration
	for taint, effect := range k.NodeTolerations {
		one := corev1.Toleration{Key: taint, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffect(effect)}
		if key, value, equal := strings.Cut(taint, "="); equal {
			one.Key, one.Operator, one.Value = key, corev1.TolerationOpEqual, value
		}
		list = append(list, one)
	}
	return list
}

// describePod is the whole pod; its name is set already.
func (p *pod) describePod() (*corev1.Pod, error) {
	settings := p.settings
	policy, err := pullPolicy(settings.PullPolicy)
	if err != nil {
		return nil, err
	}
	if p.job.Image != nil && len(p.job.Image.PullPolicies) > 0 {
		return nil, misconfigured("this stand-in takes no pull policy from a job")
	}
	build, err := resources{
		settings.CPULimit, settings.CPURequest, settings.MemoryLimit, settings.MemoryRequest,
		settings.EphemeralStorageLimit, settings.EphemeralStorageRequest,
	}.parse()
	if err != nil {
		return nil, err
	}
	helper, err := resources{
		settings.HelperCPULimit, settings.HelperCPURequest, settings.HelperMemoryLimit,
		settings.HelperMemoryRequest, settings.HelperEphemeralStorageLimit, settings.HelperEphemeralStorageRequest,
	}.parse()
	if err != nil {
		return nil, err
	}
	all, mounts, err := p.volumes()
	if err != nil {
		return nil, err
	}
	container := func(name, image, script string, size corev1.ResourceRequirements, own containerSecurityContext) corev1.Container {
		return corev1.Container{
			Name: name, Image: image, Command: []string{"sh", "-c", script}, ImagePullPolicy: policy,
			Resources: size, SecurityContext: settings.securityContext(own), VolumeMounts: mounts, Stdin: true,
		}
	}
	logFile := p.logs + "/output.log"
	writable := fmt.Sprintf("touch %s && chmod 666 %s", logFile, logFile)
	initial := container("init-permissions", p.helperImage(), writable, helper, settings.InitPermissionsContext)
	initial.Stdin = false
	deadline := p.job.RunnerInfo.Timeout + 1
	spec := corev1.PodSpec{
		RestartPolicy: corev1.RestartPolicyNever, ActiveDeadlineSeconds: &deadline,
		InitContainers: []corev1.Container{initial},
		Containers: []corev1.Container{
			container("build", p.image, waiting, build, settings.BuildContext),
			container("helper", p.helperImage(), waiting, helper, settings.HelperContext),
		},
		Volumes: all, NodeSelector: settings.NodeSelector, Tolerations: settings.tolerations(),
		ServiceAccountName: settings.ServiceAccount, SchedulerName: settings.SchedulerName,
		AutomountServiceAccountToken: settings.AutomountServiceAccountToken,
		PriorityClassName:            settings.PriorityClassName, RuntimeClassName: settings.RuntimeClassName,
		SecurityContext:               settings.podSecurity(),
		TerminationGracePeriodSeconds: or2(settings.TerminationGracePeriod, settings.PodTerminationGracePeriod),
	}
	for _, alias := range settings.HostAliases {
		spec.HostAliases = append(spec.HostAliases, corev1.HostAlias{IP: alias.IP, Hostnames: alias.Hostnames})
	}
	if settings.DNSConfig.Nameservers != nil || settings.DNSConfig.Searches != nil {
		spec.DNSConfig = &corev1.PodDNSConfig{
			Nameservers: settings.DNSConfig.Nameservers, Searches: settings.DNSConfig.Searches,
		}
	}
	for _, name := range settings.ImagePullSecrets {
		spec.ImagePullSecrets = append(spec.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	if p.secret != nil && !settings.UseServiceAccountPullSecrets {
		spec.ImagePullSecrets = append(spec.ImagePullSecrets, corev1.LocalObjectReference{Name: p.secret.Name})
	}
	if p.entry.flag("FF_USE_ADVANCED_POD_SPEC_CONFIGURATION") {
		if err := patchSpec(&spec, settings.PodSpec); err != nil {
			return nil, err
		}
	}
	labels := map[string]string{}
	maps.Copy(labels, settings.PodLabels)
	labels[podLabel] = p.name
	notes := map[string]string{
		"job.runner.gitlab.com/id": fmt.Sprint(p.job.ID), "job.runner.gitlab.com/name": p.job.JobInfo.Name,
		"job.runner.gitlab.com/ref": p.job.GitInfo.Ref, "job.runner.gitlab.com/sha": p.job.GitInfo.SHA,
		"project.runner.gitlab.com/id": fmt.Sprint(p.job.JobInfo.ProjectID),
	}
	maps.Copy(notes, settings.PodAnnotations)
	meta := metav1.ObjectMeta{Name: p.name, Namespace: p.namespace, Labels: labels, Annotations: notes}
	return &corev1.Pod{ObjectMeta: meta, Spec: spec}, nil
}

// patchSpec changes the pod by the settings' own patches.
func patchSpec(spec *corev1.PodSpec, patches []podSpecPatch) error {
	for _, one := range patches {
		text := []byte(one.Patch)
		if one.PatchPath != "" {
			var err error
			if text, err = os.ReadFile(one.PatchPath); err != nil {
				return misconfigured("pod_spec %s: %w", one.Name, err)
			}
		}
		if one.PatchType != "" && one.PatchType != "strategic" {
			return misconfigured("this stand-in knows no pod_spec of type %s", one.PatchType)
		}
		patch, err := yaml.YAMLToJSON(text)
		if err != nil {
			return misconfigured("pod_spec %s: %w", one.Name, err)
		}
		before, err := json.Marshal(spec)
		if err != nil {
			return err
		}
		after, err := strategicpatch.StrategicMergePatch(before, patch, corev1.PodSpec{})
		if err != nil {
			return misconfigured("pod_spec %s: %w", one.Name, err)
		}
		*spec = corev1.PodSpec{}
		if err := json.Unmarshal(after, spec); err != nil {
			return misconfigured("pod_spec %s: %w", one.Name, err)
		}
	}
	return nil
}
