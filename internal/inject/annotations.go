package inject

import (
	"cmp"
	"encoding"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/isthmus-mesh/isthmus/internal/config"
)

// The labels.
const (
	// InjectLabel stands on a namespace or a pod; the pod's outranks the namespace's.
	InjectLabel = "isthmus.io/inject"
	Enabled     = "enabled"
	Disabled    = "disabled"
	// SidecarLabel is on every pod that has a sidecar, with the value "true": so do the
	// gateways and the node's agent know it.
	SidecarLabel = "isthmus.io/sidecar"
)

// prefix is that of every label and annotation of ours.
const prefix = "isthmus.io/"

// Annotations that the webhook writes. It writes the one of interception, too, whatever it
// is: the node's agent reads it.
const (
	interceptionAnnotation = prefix + "interception"
	// NotInjectedAnnotation says why a pod, which was to have a sidecar, has none.
	NotInjectedAnnotation = prefix + "not-injected"
)

// settings are what one pod gets: the configuration, and over it the pod's annotations.
type settings struct {
	config.Injection
	requests, limits corev1.ResourceList
	onFailure        config.OnFailure // only in the annotation: the node's agent reads it
	excludedInbound  string           // ports, comma-separated
}

// annotation is one that a pod may have. The table of docs/annotations.md is written from
// these.
type annotation struct {
	name   string
	values string // what may be written
	absent string // what counts without it
	what   string
	apply  func(s *settings, value string) error
}

// annotations are all that are read.
func annotations() []annotation {
	return []annotation{
		{interceptionAnnotation, "`node`, `init`", "`sidecar.interception`", "who has the pod's connections go to its sidecar: `isthmus node` on its node, or an init container with NET_ADMIN",
			func(s *settings, v string) error { return word(&s.Interception, v) }},
		{prefix + "inbound", "`strict`, `permissive`", "`sidecar.inbound`", "what callers meet that come past the mesh: `strict` refuses them, `permissive` serves them where the service's policy allows anonymous",
			func(s *settings, v string) error { return word(&s.Inbound, v) }},
		{prefix + "exclude-inbound-ports", "ports, `9090,9091`", "none", "ports of the program that everybody reaches without the sidecar",
			func(s *settings, v string) (err error) { s.excludedInbound, err = ports(v); return err }},
		{prefix + "on-failure", "`closed`, `open`", "`closed`", "what becomes of captured connections while no sidecar runs; with interception `node` only",
			func(s *settings, v string) error { return word(&s.onFailure, v) }},
		{prefix + "cpu-request", "cores, `100m`, or `none`", "`sidecar.requests.cpu`", "what the sidecar asks the scheduler for",
			func(s *settings, v string) error { return s.quantity(s.requests, corev1.ResourceCPU, v) }},
		{prefix + "cpu-limit", "cores, `2`, or `none`", "`sidecar.limits.cpu`", "what the sidecar may use at most",
			func(s *settings, v string) error { return s.quantity(s.limits, corev1.ResourceCPU, v) }},
		{prefix + "memory-request", "bytes, `64Mi`, or `none`", "`sidecar.requests.memory`", "what the sidecar asks the scheduler for",
			func(s *settings, v string) error { return s.quantity(s.requests, corev1.ResourceMemory, v) }},
		{prefix + "memory-limit", "bytes, `512Mi`, or `none`", "`sidecar.limits.memory`", "what the sidecar may use at most",
			func(s *settings, v string) error { return s.quantity(s.limits, corev1.ResourceMemory, v) }},
		{prefix + "drain", "a duration, `10s`", "`sidecar.drain`", "how long the sidecar's running exchanges may take once the program has ended; a part of `terminationGracePeriodSeconds`",
			func(s *settings, v string) error { return s.drain(v) }},
		{prefix + "log-level", "`debug`, `info`, `warn`, `error`", "`sidecar.logLevel`", "what the sidecar logs",
			func(s *settings, v string) error { return word(&s.LogLevel, v) }},
	}
}

// settingsOf returns what a pod with these annotations gets. The error names every one that
// is wrong.
func settingsOf(cfg *config.Injection, podResources bool, given map[string]string) (*settings, error) {
	s := &settings{Injection: *cfg, requests: corev1.ResourceList{}, limits: corev1.ResourceList{}, onFailure: config.FailClosed}
	if !podResources { // else the sidecar shares what the pod has as a whole, which may not be less than its containers' sum
		if err := s.resources(); err != nil {
			return nil, err
		}
	}
	var faults []error
	var known []string
	for _, a := range annotations() {
		known = append(known, a.name)
		if v, ok := given[a.name]; ok {
			if err := a.apply(s, v); err != nil {
				faults = append(faults, fmt.Errorf("annotation %s: %w", a.name, err))
			}
		}
	}
	for name := range given {
		if strings.HasPrefix(name, prefix) && name != NotInjectedAnnotation && !slices.Contains(known, name) {
			faults = append(faults, fmt.Errorf("annotation %s is not known: write one of %s", name, strings.Join(known, ", ")))
		}
	}
	slices.SortFunc(faults, func(a, b error) int { return cmp.Compare(a.Error(), b.Error()) })
	if err := errors.Join(faults...); err != nil {
		return nil, err
	}
	for _, of := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		request, asks := s.requests[of]
		limit, limited := s.limits[of]
		if asks && limited && request.Cmp(limit) > 0 {
			if given[prefix+string(of)+"-limit"] == "" {
				return nil, fmt.Errorf("the sidecar's request of %s %s is more than its limit %s: write annotation %s%s-limit, too", of, request.String(), limit.String(), prefix, of)
			}
			if given[prefix+string(of)+"-request"] != "" {
				return nil, fmt.Errorf("annotation %s%s-request: %s is more than the limit %s: write less", prefix, of, request.String(), limit.String())
			}
			s.requests[of] = limit // the annotation of the limit is about both
		}
	}
	return s, nil
}

// resources reads the configuration's amounts.
func (s *settings) resources() error {
	for _, r := range []struct {
		key, value string
		into       corev1.ResourceList
		of         corev1.ResourceName
	}{
		{"requests.cpu", s.Requests.CPU, s.requests, corev1.ResourceCPU},
		{"requests.memory", s.Requests.Memory, s.requests, corev1.ResourceMemory},
		{"limits.cpu", s.Limits.CPU, s.limits, corev1.ResourceCPU},
		{"limits.memory", s.Limits.Memory, s.limits, corev1.ResourceMemory},
	} {
		if r.value == "" {
			continue
		}
		if err := s.quantity(r.into, r.of, r.value); err != nil {
			return &config.KeyError{Key: "sidecar." + r.key, Problem: err.Error()}
		}
	}
	return nil
}

// maxQuantity bounds the text of an amount, in bytes, before it is parsed.
const maxQuantity = 64

func (s *settings) quantity(into corev1.ResourceList, of corev1.ResourceName, value string) error {
	if value == "none" {
		delete(into, of)
		return nil
	}
	example := "100m"
	if of == corev1.ResourceMemory {
		example = "64Mi"
	}
	if len(value) > maxQuantity {
		return fmt.Errorf("%q… is no amount: write one such as %s", value[:maxQuantity], example)
	}
	q, err := resource.ParseQuantity(value)
	if err != nil || q.Sign() <= 0 {
		return fmt.Errorf("%q is no amount: write one such as %s, or none", value, example)
	}
	into[of] = q
	return nil
}

func (s *settings) drain(value string) error {
	d, err := time.ParseDuration(value)
	if err != nil || d < 0 || d > time.Hour {
		return fmt.Errorf("%q is no duration up to 1h: write a number with its unit, such as 10s", value)
	}
	s.Drain = d
	return nil
}

// word reads one of a few words.
func word(into encoding.TextUnmarshaler, value string) error {
	return into.UnmarshalText([]byte(value))
}

// maxPorts bounds a list of ports.
const maxPorts = 64

// ports reads a list of ports, and returns it without spaces.
func ports(value string) (string, error) {
	list := strings.FieldsFunc(value, func(r rune) bool { return r == ',' || r == ' ' })
	if len(list) > maxPorts {
		return "", fmt.Errorf("has %d ports: at most %d are read", len(list), maxPorts)
	}
	for _, p := range list {
		if n, err := strconv.ParseUint(p, 10, 16); err != nil || n == 0 {
			return "", fmt.Errorf("%q is no port: write numbers, such as 9090,9091", p)
		}
	}
	return strings.Join(list, ","), nil
}
