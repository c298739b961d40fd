package inject

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/json"
)

// ParsePod reads a pod from JSON, as the API server does: keys are told by their case, and
// what is not known is passed over.
func ParsePod(raw []byte) (*corev1.Pod, error) {
	p := &corev1.Pod{}
	if err := json.UnmarshalCaseSensitivePreserveInts(raw, p); err != nil {
		return nil, fmt.Errorf("is no pod: %w", err)
	}
	return p, nil
}
