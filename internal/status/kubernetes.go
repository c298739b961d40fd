package status

import "time"

// Kubernetes is what a gateway knows from its cluster's API server.
type Kubernetes struct {
	Server string           `json:"server"`
	Leads  bool             `json:"leads"` // it is the one gateway of its cluster that writes statuses
	Kinds  []KubernetesKind `json:"kinds"`
}

// KubernetesKind is what is known of one kind of objects.
type KubernetesKind struct {
	Kind    string  `json:"kind"`
	Objects int     `json:"objects"`
	Known   bool    `json:"known"`                  // all were read once
	Lost    float64 `json:"lost_seconds,omitempty"` // for how long nothing has been heard of changes
	Error   string  `json:"error,omitempty"`        // why
}

// lost returns for how long some kind has not been heard of that was before, and why; 0:
// all are heard.
func (k *Kubernetes) lost() (longest time.Duration, why string) {
	if k == nil {
		return 0, ""
	}
	for _, kind := range k.Kinds {
		if lost := time.Duration(kind.Lost * float64(time.Second)); kind.Known && lost > longest {
			longest, why = lost, kind.Kind+": "+kind.Error
		}
	}
	return longest, why
}
