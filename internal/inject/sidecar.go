package inject

import (
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/isthmus-mesh/isthmus/internal/config"
)

// What a pod gets.
const (
	SidecarContainer = "isthmus-sidecar"
	InitContainer    = "isthmus-init"
	// UID is the user and the group of the sidecar: by it the interception knows whose
	// connections it has to let by.
	UID = 15000

	stateVolume = "isthmus-state"
	tokenVolume = "isthmus-token"
	stateDir    = "/var/lib/isthmus"
	tokenDir    = "/var/run/secrets/isthmus"
	tokenFile   = "token"
	// tokenAudience is what isthmus ca asks for.
	tokenAudience = "isthmus"
	// tokenLife is in seconds; the kubelet renews a token at 4/5 of it.
	tokenLife = 3600
	// stateSize bounds what a sidecar keeps: its key, its routes.
	stateSize = "64Mi"

	healthPort = 15021 // /startz, /readyz, /livez and /metrics, for the kubelet and Prometheus
)

// Probes, in seconds. Nothing but the program's start waits for the startup probe; a
// sidecar that never gets so far is no better for being restarted, so it is let try for an
// hour.
const (
	startEvery    = 1
	startAttempts = 3600
	readyEvery    = 5
	readyAttempts = 3
	probeTimeout  = 2
)

// sidecarPorts are the TCP ports of the pod that the sidecar listens on, and what for.
func sidecarPorts() map[int32]string {
	return map[int32]string{
		config.OutboundPort:     "captured connections",
		config.DNSPort:          "captured DNS questions",
		15006:                   "captured callers",
		config.InboundPort:      "callers of the mesh",
		config.SidecarAdminPort: "its operator's commands",
		healthPort:              "the kubelet's probes",
	}
}

// sidecar returns the container of the sidecar.
func (i *Injector) sidecar(s *settings, probes []config.Probe) corev1.Container {
	c := corev1.Container{
		Name:            SidecarContainer,
		Image:           s.Image,
		ImagePullPolicy: corev1.PullPolicy(s.ImagePullPolicy),
		Args:            []string{"sidecar"},
		RestartPolicy:   new(corev1.ContainerRestartPolicyAlways),
		Env: []corev1.EnvVar{
			{Name: "ISTHMUS_GATEWAYS", Value: strings.Join(s.Gateways, ",")},
			{Name: "ISTHMUS_IDENTITY_CA", Value: strings.Join(s.CA, ",")},
			{Name: "ISTHMUS_IDENTITY_TOKEN", Value: tokenDir + "/" + tokenFile},
			{Name: "ISTHMUS_IDENTITY_FINGERPRINT", Value: i.fingerprints},
			{Name: "ISTHMUS_IDENTITY_CLUSTER", Value: string(s.Cluster)},
			{Name: "ISTHMUS_STATE", Value: stateDir},
			{Name: "ISTHMUS_ADMIN", Value: fmt.Sprintf("127.0.0.1:%d", config.SidecarAdminPort)}, // of isthmus status in the container
			{Name: "ISTHMUS_LISTEN_METRICS", Value: fmt.Sprintf(":%d", healthPort)},
			{Name: "ISTHMUS_INTERCEPTION_MODE", Value: "pod"},
			{Name: "ISTHMUS_INTERCEPTION_INBOUND", Value: string(s.Inbound)},
			{Name: "ISTHMUS_DRAIN", Value: s.Drain.String()},
			{Name: "ISTHMUS_LOG_LEVEL", Value: strings.ToLower(slog.Level(s.LogLevel).String())},
			{Name: "ISTHMUS_LOG_FORMAT", Value: string(config.LogJSON)},
		},
		Ports: []corev1.ContainerPort{
			{Name: "isthmus-mesh", ContainerPort: config.InboundPort, Protocol: corev1.ProtocolTCP},
			{Name: "isthmus-health", ContainerPort: healthPort, Protocol: corev1.ProtocolTCP},
		},
		StartupProbe:   probe("/startz", startEvery, startAttempts),
		ReadinessProbe: probe("/readyz", readyEvery, readyAttempts),
		SecurityContext: &corev1.SecurityContext{
			RunAsUser:                new(int64(UID)),
			RunAsGroup:               new(int64(UID)),
			RunAsNonRoot:             new(true),
			ReadOnlyRootFilesystem:   new(true),
			AllowPrivilegeEscalation: new(false),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		VolumeMounts: []corev1.VolumeMount{
			{Name: stateVolume, MountPath: stateDir},
			{Name: tokenVolume, MountPath: tokenDir, ReadOnly: true},
			noAPIToken(),
		},
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
	if len(probes) > 0 {
		var words []string
		for _, p := range probes {
			words = append(words, p.String())
		}
		c.Env = append(c.Env, corev1.EnvVar{Name: "ISTHMUS_INTERCEPTION_PROBES", Value: strings.Join(words, " ")})
	}
	if len(s.requests) > 0 {
		c.Resources.Requests = s.requests
	}
	if len(s.limits) > 0 {
		c.Resources.Limits = s.limits
	}
	if limit, ok := s.limits[corev1.ResourceMemory]; ok { // the collector works harder before the kernel ends the process
		c.Env = append(c.Env, corev1.EnvVar{Name: "GOMEMLIMIT", Value: strconv.FormatInt(limit.Value()/10*9, 10)})
	}
	return c
}

// interceptor returns the init container that has the pod's connections go to the sidecar,
// where the node's agent does not.
func (i *Injector) interceptor(s *settings) corev1.Container {
	args := []string{"intercept", "pod"}
	if s.excludedInbound != "" {
		args = append(args, "--exclude-inbound-ports="+s.excludedInbound)
	}
	c := corev1.Container{
		Name:            InitContainer,
		Image:           s.Image,
		ImagePullPolicy: corev1.PullPolicy(s.ImagePullPolicy),
		Args:            args,
		SecurityContext: &corev1.SecurityContext{
			RunAsUser:                new(int64(0)),
			RunAsGroup:               new(int64(0)),
			RunAsNonRoot:             new(false),
			ReadOnlyRootFilesystem:   new(true),
			AllowPrivilegeEscalation: new(false),
			Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}, Add: []corev1.Capability{"NET_ADMIN"}},
			SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		VolumeMounts:             []corev1.VolumeMount{noAPIToken()},
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
	}
	if len(s.requests) > 0 { // a quota may ask every container for them; the sidecar's are not added to these
		c.Resources.Requests = s.requests
	}
	if len(s.limits) > 0 {
		c.Resources.Limits = s.limits
	}
	return c
}

// noAPIToken keeps the token for the API server, which is the program's, out of a container of
// ours: the API server mounts it wherever nothing else is.
func noAPIToken() corev1.VolumeMount {
	return corev1.VolumeMount{Name: stateVolume, MountPath: "/var/run/secrets/kubernetes.io/serviceaccount", ReadOnly: true}
}

func probe(page string, every, attempts int32) *corev1.Probe {
	return &corev1.Probe{
		ProbeHandler:     corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: page, Port: intstr.FromInt32(healthPort), Scheme: corev1.URISchemeHTTP}},
		PeriodSeconds:    every,
		FailureThreshold: attempts,
		TimeoutSeconds:   probeTimeout,
	}
}

// volumes returns those of the sidecar. The state is in memory, so that no key gets to the
// node's disk; it ends with the pod.
func volumes() []corev1.Volume {
	return []corev1.Volume{
		{Name: stateVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{
			Medium: corev1.StorageMediumMemory, SizeLimit: new(resource.MustParse(stateSize)),
		}}},
		{Name: tokenVolume, VolumeSource: corev1.VolumeSource{Projected: &corev1.ProjectedVolumeSource{
			Sources: []corev1.VolumeProjection{{ServiceAccountToken: &corev1.ServiceAccountTokenProjection{
				Audience: tokenAudience, ExpirationSeconds: new(int64(tokenLife)), Path: tokenFile,
			}}},
		}}},
	}
}
