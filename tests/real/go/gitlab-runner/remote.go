// What happens inside of the pod: scripts are saved by exec, started by attach, and their common output is
// read by exec from the helper container, all over SPDY as the real one does.

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	watching "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/remotecommand"
)

// watcher is an informer on the pod of one job.
type watcher struct {
	informer cache.Controller
	quit     chan struct{}
}

func watch(client *kubernetes.Clientset, namespace, name string) *watcher {
	selector := labels.Set{podLabel: name}.String()
	pods := client.CoreV1().Pods(namespace)
	lists := &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
			options.LabelSelector = selector
			return pods.List(ctx, options)
		},
		WatchFuncWithContext: func(ctx context.Context, options metav1.ListOptions) (watching.Interface, error) {
			options.LabelSelector = selector
			return pods.Watch(ctx, options)
		},
	}
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: lists, ObjectType: &corev1.Pod{}, Handler: cache.ResourceEventHandlerFuncs{},
	})
	w := &watcher{informer, make(chan struct{})}
	go informer.Run(w.quit)
	return w
}

func (w *watcher) stop() { close(w.quit) }

func (w *watcher) synced(ctx context.Context, limit time.Duration) bool {
	ctx, release := context.WithTimeout(ctx, limit)
	defer release()
	return cache.WaitForCacheSync(ctx.Done(), w.informer.HasSynced)
}

func (p *pod) stream(ctx context.Context, subresource string, options runtime.Object, streams remotecommand.StreamOptions) error {
	request := p.client.CoreV1().RESTClient().Post().Resource("pods").Namespace(p.namespace).Name(p.name).
		SubResource(subresource).VersionedParams(options, scheme.ParameterCodec)
	spdy, err := remotecommand.NewSPDYExecutor(p.config, http.MethodPost, request.URL())
	if err != nil {
		return err
	}
	return spdy.StreamWithContext(ctx, streams)
}

var passing = []string{
	"error dialing backend", "TLS handshake timeout", "connection refused", "unexpected EOF", "connection reset",
}

// again repeats what may pass: the API server's way to the kubelet is the weakest part.
func again(ctx context.Context, action func() error) error {
	pause := 500 * time.Millisecond
	for try := 1; ; try++ {
		err := action()
		passes := false
		for _, text := range passing {
			passes = passes || err != nil && strings.Contains(err.Error(), text)
		}
		if !passes || try == 5 || ctx.Err() != nil {
			return err
		}
		time.Sleep(pause)
		pause = min(2*pause, 2*time.Second)
	}
}

func (p *pod) exec(ctx context.Context, container string, command []string, input io.Reader, output io.Writer) error {
	var complaint bytes.Buffer
	err := p.stream(ctx, "exec", &corev1.PodExecOptions{
		Container: container, Command: command, Stdin: input != nil, Stdout: true, Stderr: true,
	}, remotecommand.StreamOptions{Stdin: input, Stdout: output, Stderr: &complaint})
	if err != nil && complaint.Len() > 0 {
		err = fmt.Errorf("%w: %s", err, strings.TrimSpace(complaint.String()))
	}
	return err
}

func (p *pod) get(ctx context.Context) error {
	now, err := p.client.CoreV1().Pods(p.namespace).Get(ctx, p.name, metav1.GetOptions{})
	if err == nil && now.Status.Phase != corev1.PodRunning {
		err = fmt.Errorf("pod status is %s", strings.ToLower(string(now.Status.Phase)))
	}
	return err
}

// detectShell asks the build container for its shell; the helper's is known.
func (p *pod) detectShell(ctx context.Context) error {
	var found bytes.Buffer
	command := []string{"sh", "-c", "command -v bash || command -v sh"}
	err := again(ctx, func() error { return p.exec(ctx, "build", command, nil, &found) })
	p.shell = strings.TrimSpace(found.String())
	return err
}

func (p *pod) run(ctx context.Context, stage stage) error {
	if p.made == nil {
		if err := p.setUp(ctx); err != nil {
			p.warnings(ctx)
			return err
		}
	}
	container, shell := "build", p.shell
	if stage.helper {
		container, shell = "helper", "sh"
	}
	script := p.scripts + "/" + stage.name
	if err := p.get(ctx); err != nil {
		return err
	}
	save := []string{"sh", "-c", "cat >" + script + " && chmod 777 " + script}
	err := again(ctx, func() error {
		return p.exec(ctx, container, save, strings.NewReader(stage.script), io.Discard)
	})
	if err != nil {
		return fmt.Errorf("setting up trapping scripts on emptyDir: %w", err)
	}
	if err := p.get(ctx); err != nil {
		return err
	}
	// One line for the container's first process. The end of the script is told in the log itself.
	line := fmt.Sprintf(`{ %s %s </dev/null 2>&1; printf '{"command_exit_code": %%d, "script": "%s"}\n' $?; } >>%s/output.log`+"\n",
		shell, script, script, p.logs)
	ended := p.tail.expect(script)
	err = again(ctx, func() error {
		return p.stream(ctx, "attach", &corev1.PodAttachOptions{Container: container, Stdin: true},
			remotecommand.StreamOptions{Stdin: strings.NewReader(line)})
	})
	if err != nil {
		return err
	}
	poll := time.NewTicker(seconds(p.settings.PollInterval, 3))
	defer poll.Stop()
	for {
		select {
		case code := <-ended:
			if code != 0 {
				return scriptFailed(code, fmt.Sprintf("command terminated with exit code %d", code))
			}
			return nil
		case <-ctx.Done():
			return ctx.Err()
		case err := <-p.tail.broken:
			return err
		case <-poll.C:
			if err := p.get(ctx); err != nil {
				return err
			}
		}
	}
}

// tail reads the log of all stages, and knows where each of them ends.
type tail struct {
	log    io.Writer
	broken chan error
	cancel context.CancelFunc
	done   sync.WaitGroup

	mutex   sync.Mutex
	script  string
	ended   chan int
	partial []byte
	read    int64
}

var trailer = regexp.MustCompile(`\{"command_exit_code": (\d+), "script": "([^"]*)"\}\n$`)

func (t *tail) expect(script string) <-chan int {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.script, t.ended = script, make(chan int, 1)
	return t.ended
}

// Write passes lines on, except those by which a stage ends.
func (t *tail) Write(more []byte) (int, error) {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	t.read += int64(len(more))
	t.partial = append(t.partial, more...)
	for {
		end := bytes.IndexByte(t.partial, '\n') + 1
		if end == 0 {
			return len(more), nil
		}
		line := t.partial[:end]
		match := trailer.FindSubmatchIndex(line)
		if match != nil && string(line[match[4]:match[5]]) == t.script {
			code, _ := strconv.Atoi(string(line[match[2]:match[3]]))
			line = line[:match[0]]
			if len(line) > 0 {
				line = append(bytes.Clone(line), '\n')
			}
			t.script = ""
			t.ended <- code
		}
		if _, err := t.log.Write(line); err != nil {
			return 0, err
		}
		t.partial = t.partial[end:]
	}
}

func (t *tail) stop() {
	t.cancel()
	t.done.Wait()
}

// follow reads the log from the helper container until the job is over, beginning again where it broke off.
func (p *pod) follow(ctx context.Context) *tail {
	ctx, cancel := context.WithCancel(ctx)
	t := &tail{log: p.log.stream(stdoutStream), broken: make(chan error, 1), cancel: cancel}
	t.done.Go(func() {
		for tries := 0; ctx.Err() == nil; {
			before := t.offset()
			command := []string{"tail", "-f", "-c", fmt.Sprintf("+%d", before+1), p.logs + "/output.log"}
			err := p.exec(ctx, "helper", command, nil, t)
			if ctx.Err() != nil {
				return
			}
			if err == nil {
				err = errors.New("the log ended")
			}
			if tries++; t.offset() > before {
				tries = 0
			}
			logLine("error", "Error streaming logs "+p.namespace+"/"+p.name+"/helper: "+err.Error()+". Retrying...",
				fields{"job": p.job.ID})
			if tries == 10 || strings.Contains(err.Error(), "forbidden") {
				t.broken <- fmt.Errorf("reading the log: %w", err)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	})
	return t
}

func (t *tail) offset() int64 {
	t.mutex.Lock()
	defer t.mutex.Unlock()
	return t.read
}
