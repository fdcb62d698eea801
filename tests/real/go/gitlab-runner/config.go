// The settings: every key of config.toml that gitlab-runner 19.4 knows. Those of type `unsupported` are
// loaded, kept and linted; a job of a runner that sets one is refused rather than run without it.

package main

import (
	"reflect"
	"time"
)

// unsupported holds whatever TOML value stands there.
type unsupported = any

type config struct {
	Concurrent       int            `toml:"concurrent"`
	CheckInterval    int            `toml:"check_interval"`
	LogLevel         *string        `toml:"log_level"`
	LogFormat        *string        `toml:"log_format"`
	User             string         `toml:"user,omitempty"`
	ConnectionMaxAge *time.Duration `toml:"connection_max_age"`
	ListenAddress    string         `toml:"listen_address,omitempty"`
	SentryDSN        *string        `toml:"sentry_dsn"`
	ShutdownTimeout  int            `toml:"shutdown_timeout"`
	Labels           unsupported    `toml:"labels"`
	Experimental     unsupported    `toml:"experimental"`

	SessionServer sessionServer `toml:"session_server,omitempty"`
	Runners       []*runner     `toml:"runners"`
}

type sessionServer struct {
	ListenAddress    string `toml:"listen_address,omitempty"`
	AdvertiseAddress string `toml:"advertise_address,omitempty"`
	SessionTimeout   int    `toml:"session_timeout,omitempty"`
}

// runner is one [[runners]].
type runner struct {
	Name                   string         `toml:"name"`
	Limit                  int            `toml:"limit,omitzero"`
	OutputLimit            int            `toml:"output_limit,omitzero"`
	RequestConcurrency     int            `toml:"request_concurrency,omitzero"`
	StrictCheckInterval    bool           `toml:"strict_check_interval,omitempty"`
	UnhealthyRequestsLimit int            `toml:"unhealthy_requests_limit,omitzero"`
	UnhealthyInterval      *time.Duration `toml:"unhealthy_interval"`
	JobStatusFinalTries    int            `toml:"job_status_final_update_retry_limit,omitzero"`

	URL             string    `toml:"url"`
	ID              int64     `toml:"id"`
	Token           string    `toml:"token"`
	TokenObtainedAt time.Time `toml:"token_obtained_at"`
	TokenExpiresAt  time.Time `toml:"token_expires_at"`
	TLSCAFile       string    `toml:"tls-ca-file,omitempty"`
	TLSCertFile     string    `toml:"tls-cert-file,omitempty"`
	TLSKeyFile      string    `toml:"tls-key-file,omitempty"`

	Executor             string      `toml:"executor"`
	BuildsDir            string      `toml:"builds_dir,omitempty"`
	CacheDir             string      `toml:"cache_dir,omitempty"`
	CloneURL             string      `toml:"clone_url,omitempty"`
	Environment          []string    `toml:"environment,omitempty"`
	CleanGitConfig       *bool       `toml:"clean_git_config"`
	DebugTraceDisabled   bool        `toml:"debug_trace_disabled,omitempty"`
	SafeDirectory        *bool       `toml:"safe_directory_checkout"`
	Shell                string      `toml:"shell,omitempty"`
	PreGetSourcesScript  unsupported `toml:"pre_get_sources_script"`
	PostGetSourcesScript unsupported `toml:"post_get_sources_script"`
	PreBuildScript       unsupported `toml:"pre_build_script"`
	PostBuildScript      unsupported `toml:"post_build_script"`
	StepRunnerImage      unsupported `toml:"step_runner_image"`
	ProxyExec            unsupported `toml:"proxy_exec"`
	Proxy                unsupported `toml:"proxy"`
	Labels               unsupported `toml:"labels"`

	CustomBuildDir *customBuildDir `toml:"custom_build_dir"`
	Cache          *cacheConfig    `toml:"cache"`
	FeatureFlags   map[string]bool `toml:"feature_flags"`
	Referees       unsupported     `toml:"referees"`

	// Tables of executors that this stand-in does not have.
	Instance   map[string]any `toml:"instance"`
	SSH        map[string]any `toml:"ssh"`
	Docker     map[string]any `toml:"docker"`
	Parallels  map[string]any `toml:"parallels"`
	VirtualBox map[string]any `toml:"virtualbox"`
	Machine    map[string]any `toml:"machine"`
	Custom     map[string]any `toml:"custom"`
	Autoscaler map[string]any `toml:"autoscaler"`

	Kubernetes *kubernetesConfig `toml:"kubernetes"`
}

type customBuildDir struct {
	Enabled *bool `toml:"enabled"`
}

type cacheConfig struct {
	Type                   string      `toml:"Type,omitempty"`
	Path                   string      `toml:"Path,omitempty"`
	Shared                 bool        `toml:"Shared,omitempty"`
	MaxUploadedArchiveSize int64       `toml:"MaxUploadedArchiveSize"`
	S3                     *cacheS3    `toml:"s3"`
	GCS                    *cacheGCS   `toml:"gcs"`
	Azure                  *cacheAzure `toml:"azure"`
}

type cacheS3 struct {
	ServerAddress             string `toml:"ServerAddress,omitempty"`
	AccessKey                 string `toml:"AccessKey,omitempty"`
	SecretKey                 string `toml:"SecretKey,omitempty"`
	SessionToken              string `toml:"SessionToken,omitempty"`
	BucketName                string `toml:"BucketName,omitempty"`
	BucketLocation            string `toml:"BucketLocation,omitempty"`
	Insecure                  bool   `toml:"Insecure,omitempty"`
	AuthenticationType        string `toml:"AuthenticationType,omitempty"`
	ServerSideEncryption      string `toml:"ServerSideEncryption,omitempty"`
	ServerSideEncryptionKeyID string `toml:"ServerSideEncryptionKeyID,omitempty"`
	DualStack                 *bool  `toml:"DualStack"`
	PathStyle                 *bool  `toml:"PathStyle"`
	Accelerate                bool   `toml:"Accelerate,omitempty"`
	RoleARN                   string `toml:"RoleARN,omitempty"`
	UploadRoleARN             string `toml:"UploadRoleARN,omitempty"`
	DisableAssumeRole         bool   `toml:"DisableAssumeRoleForS3,omitempty"`
	MaxConcurrency            int    `toml:"MaxConcurrency,omitzero"`
}

type cacheGCS struct {
	AccessID        string `toml:"AccessID,omitempty"`
	PrivateKey      string `toml:"PrivateKey,omitempty"`
	CredentialsFile string `toml:"CredentialsFile,omitempty"`
	BucketName      string `toml:"BucketName,omitempty"`
	UniverseDomain  string `toml:"UniverseDomain,omitempty"`
}

type cacheAzure struct {
	AccountName   string `toml:"AccountName,omitempty"`
	AccountKey    string `toml:"AccountKey,omitempty"`
	ContainerName string `toml:"ContainerName,omitempty"`
	StorageDomain string `toml:"StorageDomain,omitempty"`
}

func (r *runner) flag(name string) bool {
	if r.FeatureFlags[name] {
		return true
	}
	for _, pair := range r.Environment {
		if pair == name+"=true" || pair == name+"=1" {
			return true
		}
	}
	return false
}

// refused names the settings of a table that this stand-in does not act upon.
func refused(table any) []string {
	var names []string
	value := reflect.ValueOf(table)
	if value.Kind() == reflect.Pointer {
		if value.IsNil() {
			return nil
		}
		value = value.Elem()
	}
	for i := range value.NumField() {
		field := value.Field(i)
		if field.Kind() == reflect.Interface && !field.IsNil() {
			names = append(names, value.Type().Field(i).Tag.Get("toml"))
		}
	}
	return names
}
