// The Kubernetes executor: a job's pod from the access reviews to its deletion, by client-go.

package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

type pod struct {
	entry    *runner
	settings *kubernetesConfig
	job      *job
	log      *trace

	config    *rest.Config
	client    *kubernetes.Clientset
	namespace string
	image     string
	name      string
	scripts   string
	logs      string

	secret  *corev1.Secret
	owned   bool
	made    *corev1.Pod
	watcher *watcher
	tail    *tail
	shell   string
	warned  map[types.UID]bool
}

// newPod checks the settings: what is wrong here will not pass by trying again.
func newPod(entry *runner, payload *job, log *trace) (*pod, error) {
	settings := entry.Kubernetes
	if settings == nil {
		return nil, misconfigured("no [runners.kubernetes] in the configuration")
	}
	unknown := refused(settings)
	for prefix, table := range map[string]any{
		"pod_security_context": &settings.PodSecurityContext, "volumes": &settings.Volumes,
		"init_permissions_container_security_context": &settings.InitPermissionsContext,
		"build_container_security_context":            &settings.BuildContext,
		"helper_container_security_context":           &settings.HelperContext, "dns_config": &settings.DNSConfig,
	} {
		for _, name := range refused(table) {
			unknown = append(unknown, prefix+"."+name)
		}
	}
	if settings.NamespacePerJob {
		unknown = append(unknown, "namespace_per_job")
	}
	if len(unknown) > 0 {
		return nil, misconfigured("this stand-in does not know the settings %s", strings.Join(unknown, ", "))
	}
	p := &pod{entry: entry, settings: settings, job: payload, log: log, namespace: settings.Namespace}
	p.warned = map[types.UID]bool{}
	p.image = settings.Image
	if payload.Image != nil && payload.Image.Name != "" {
		p.image = os.Expand(payload.Image.Name, payload.value)
	}
	if p.image == "" {
		return nil, misconfigured("no image specified and no default set in config")
	}
	folder := fmt.Sprintf("%d-%d", payload.JobInfo.ProjectID, payload.ID)
	p.scripts = settings.ScriptsBaseDir + "/scripts-" + folder
	p.logs = settings.LogsBaseDir + "/logs-" + folder
	owner := strings.Trim(strings.ToLower(strings.ReplaceAll(short(entry.Token), "_", "-")), "-.")
	p.name = fmt.Sprintf("runner-%s-project-%d-concurrent-0-%s",
		owner, payload.JobInfo.ProjectID, strings.ToLower(rand.Text()[:8]))
	return p, nil
}

func (p *pod) describe() []string {
	lines := []string{}
	if p.namespace == "" {
		p.namespace = "default"
		p.log.note("0;33m", "WARNING: Namespace is empty, therefore assuming 'default'.")
	}
	lines = append(lines, "Using Kubernetes namespace: "+p.namespace)
	lines = append(lines, "Using Kubernetes executor with image "+p.image+" ...")
	return append(lines, "Using attach strategy to execute scripts...")
}

func (p *pod) root() string {
	if p.entry.BuildsDir != "" {
		return p.entry.BuildsDir
	}
	return "/builds"
}

func (p *pod) helperImage() string {
	if p.settings.HelperImage != "" {
		return p.settings.HelperImage
	}
	return "registry.gitlab.com/gitlab-org/gitlab-runner/gitlab-runner-helper:x86_64-v" + version
}

// connect makes a client: from host, token and CA, or, without a host, from the surroundings.
func (p *pod) connect() (err error) {
	settings := p.settings
	if settings.Host == "" {
		overrides := &clientcmd.ConfigOverrides{CurrentContext: settings.Context}
		rules := clientcmd.NewDefaultClientConfigLoadingRules()
		if p.config, err = rest.InClusterConfig(); err != nil {
			p.config, err = clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, overrides).ClientConfig()
		}
		if err != nil {
			return fmt.Errorf("getting Kubernetes config: %w", err)
		}
	} else {
		if settings.CertFile != "" && (settings.KeyFile == "" || settings.CAFile == "") {
			return misconfigured("getting Kubernetes config: ca_file, cert_file and key_file must be specified")
		}
		p.config = &rest.Config{Host: settings.Host, BearerToken: settings.BearerToken}
		p.config.TLSClientConfig = rest.TLSClientConfig{
			CAFile: settings.CAFile, CertFile: settings.CertFile, KeyFile: settings.KeyFile,
		}
	}
	p.config.UserAgent = "gitlab-runner " + version + " (stand-in)"
	if p.client, err = kubernetes.NewForConfig(p.config); err != nil {
		return fmt.Errorf("creating Kubernetes client: %w", err)
	}
	return nil
}

// prepare connects, and watches the job's pods where that is allowed.
func (p *pod) prepare(ctx context.Context) error {
	if err := p.connect(); err != nil {
		return err
	}
	for _, verb := range []string{"list", "watch"} {
		if reason := p.denied(ctx, verb); reason != "" {
			p.log.note("0;33m", fmt.Sprintf("WARNING: won't use informers: %q", reason))
			return nil
		}
	}
	limit := 2 * time.Second
	if p.settings.RequestRetryBackoffMax > 0 {
		limit = time.Duration(p.settings.RequestRetryBackoffMax) * time.Millisecond
	}
	p.watcher = watch(p.client, p.namespace, p.name)
	if !p.watcher.synced(ctx, limit) {
		p.watcher.stop()
		p.watcher = nil
		return errors.New("starting pod watcher: not synced")
	}
	return nil
}

func (p *pod) denied(ctx context.Context, verb string) string {
	review := &authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{
		ResourceAttributes: &authorizationv1.ResourceAttributes{
			Namespace: p.namespace, Verb: verb, Resource: "pods", Version: "v1",
		},
	}}
	answer, err := p.client.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, review, metav1.CreateOptions{})
	if err != nil {
		return "SelfSubjectAccessReview creation: " + err.Error()
	}
	if !answer.Status.Allowed {
		return "not allowed: " + verb + " on pods"
	}
	return ""
}

// setUp makes the secret for the registry and the pod, and waits for its containers.
func (p *pod) setUp(ctx context.Context) error {
	if err := p.makeSecret(ctx); err != nil {
		return fmt.Errorf("setting up credentials: %w", err)
	}
	if _, err := p.client.Discovery().ServerVersion(); err != nil {
		return fmt.Errorf("setting up build pod: %w", err)
	}
	description, err := p.describePod()
	if err != nil {
		return err
	}
	p.made, err = p.client.CoreV1().Pods(p.namespace).Create(ctx, description, metav1.CreateOptions{})
	if err != nil {
		p.made = nil
		return fmt.Errorf("setting up build pod: %w", err)
	}
	if err := p.ownSecret(ctx); err != nil {
		return fmt.Errorf("setting up build pod: error setting ownerReferences: %w", err)
	}
	if err := p.waitForContainers(ctx); err != nil {
		var known *failure
		if errors.As(err, &known) {
			return &failure{known.reason, fmt.Errorf("waiting for pod running: %w", known.err), 0}
		}
		return fmt.Errorf("waiting for pod running: %w", err)
	}
	if err := p.detectShell(ctx); err != nil {
		return fmt.Errorf("setting up trapping scripts on emptyDir: %w", err)
	}
	p.tail = p.follow(ctx)
	return nil
}

// warnings puts the cluster's warnings about the pod into the log; where that is not allowed they are missed.
func (p *pod) warnings(ctx context.Context) {
	if p.settings.PrintPodWarningEvents != nil && !*p.settings.PrintPodWarningEvents || p.made == nil {
		return
	}
	found, err := p.client.CoreV1().Events(p.namespace).List(ctx, metav1.ListOptions{
		FieldSelector: "involvedObject.name=" + p.name + ",type=Warning",
	})
	if err != nil {
		return
	}
	for _, event := range found.Items {
		if !p.warned[event.UID] {
			p.warned[event.UID] = true
			p.log.note("0;33m", "WARNING: Event retrieved from the cluster: "+event.Message)
		}
	}
}

func (p *pod) makeSecret(ctx context.Context) error {
	registries := map[string]any{}
	for _, one := range p.job.Credentials {
		if one.Type == "registry" {
			pair := base64.StdEncoding.EncodeToString([]byte(one.Username + ":" + one.Password))
			registries[one.URL] = map[string]string{"username": one.Username, "password": one.Password, "auth": pair}
		}
	}
	if len(registries) == 0 {
		return nil
	}
	text, err := json.Marshal(registries)
	if err != nil {
		return err
	}
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Name: p.name, Namespace: p.namespace}, Type: corev1.SecretTypeDockercfg,
		Data: map[string][]byte{corev1.DockerConfigKey: text},
	}
	p.secret, err = p.client.CoreV1().Secrets(p.namespace).Create(ctx, secret, metav1.CreateOptions{})
	return err
}

// ownSecret makes the pod the owner of the secret, so that both go together.
func (p *pod) ownSecret(ctx context.Context) error {
	if p.secret == nil {
		return nil
	}
	owned := p.secret.DeepCopy()
	owned.OwnerReferences = []metav1.OwnerReference{{
		APIVersion: "v1", Kind: "Pod", Name: p.made.Name, UID: p.made.UID,
	}}
	// If this fails, what client-go returns has no name, and the cleanup says so: as with the real one.
	var err error
	p.secret, err = p.client.CoreV1().Secrets(p.namespace).Update(ctx, owned, metav1.UpdateOptions{})
	p.owned = err == nil
	return err
}

var stuckImages = map[string]bool{
	"ErrImagePull": true, "ImagePullBackOff": true, "InvalidImageName": true, "ErrImageNeverPull": true,
	"ImageInspectError": true, "RegistryUnavailable": true,
}

func seconds(configured, fallback int) time.Duration {
	if configured > 0 {
		fallback = configured
	}
	return time.Duration(fallback) * time.Second
}

// waitForContainers polls until the build container is ready, which the informer may report sooner.
func (p *pod) waitForContainers(ctx context.Context) error {
	limit := time.After(seconds(p.settings.PollTimeout, 180))
	for {
		now, err := p.client.CoreV1().Pods(p.namespace).Get(ctx, p.name, metav1.GetOptions{})
		if err != nil {
			return err
		}
		ready := 0
		for _, status := range append(now.Status.InitContainerStatuses, now.Status.ContainerStatuses...) {
			if status.Ready && status.State.Running != nil {
				ready++
			}
			if waiting := status.State.Waiting; waiting != nil && stuckImages[waiting.Reason] {
				p.log.note("0;33m", fmt.Sprintf("WARNING: Failed to pull image %q for container %q with policy %q: "+
					"image pull failed: %s", status.Image, status.Name, p.settings.PullPolicy, waiting.Message))
				return &failure{reason: "image_pull_failure", err: fmt.Errorf(
					"pulling image %q for container %s: image pull failed: %s", status.Image, status.Name, waiting.Message)}
			}
		}
		switch {
		case now.Status.Phase == corev1.PodRunning && ready == len(now.Spec.Containers):
			return nil
		case now.Status.Phase == corev1.PodFailed || now.Status.Phase == corev1.PodSucceeded:
			return fmt.Errorf("pod status is %s", strings.ToLower(string(now.Status.Phase)))
		}
		p.warnings(ctx)
		fmt.Fprintf(p.log, "Waiting for pod %s/%s to be running, status is %s\n", p.namespace, p.name, now.Status.Phase)
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			return fmt.Errorf("timed out waiting for pod to start (last phase: %s)", now.Status.Phase)
		case <-time.After(seconds(p.settings.PollInterval, 3)):
		}
	}
}

// cleanup removes what was made; the secret goes with the pod that owns it.
func (p *pod) cleanup() {
	timeout := 5 * time.Minute
	if p.settings.CleanupResourcesTimeout != nil {
		timeout = *p.settings.CleanupResourcesTimeout
	}
	ctx, release := context.WithTimeout(context.Background(), timeout)
	defer release()
	if p.tail != nil {
		p.tail.stop()
	}
	if p.watcher != nil {
		p.watcher.stop()
	}
	if p.made != nil {
		background := metav1.DeletePropagationBackground
		err := p.client.CoreV1().Pods(p.namespace).Delete(ctx, p.name, metav1.DeleteOptions{
			PropagationPolicy:  &background,
			GracePeriodSeconds: or2(p.settings.TerminationGracePeriod, p.settings.CleanupGracePeriod),
		})
		if err != nil {
			p.log.note("31;1m", "ERROR: Error cleaning up pod: "+err.Error())
		}
	}
	if p.secret != nil && !p.owned {
		err := p.client.CoreV1().Secrets(p.namespace).Delete(ctx, p.secret.Name, metav1.DeleteOptions{})
		if err != nil {
			p.log.note("31;1m", "ERROR: Error cleaning up secrets: "+err.Error())
		}
	}
}
