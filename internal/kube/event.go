package kube

import (
	"context"
	"strconv"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

// recorder writes Events: what users of kubectl describe are told of an object.
type recorder struct {
	queue chan *corev1.Event

	mu   sync.Mutex
	said map[eventKey]time.Time
}

// eventKey is what makes two Events the same.
type eventKey struct {
	object          types.UID
	reason, message string
}

func (r *recorder) init() {
	r.queue = make(chan *corev1.Event, maxEvents)
	r.said = map[eventKey]time.Time{}
}

// new reports whether the Event was not recorded lately.
func (r *recorder) isNew(k eventKey, now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if at, ok := r.said[k]; ok && now.Sub(at) < repeatEvents {
		return false
	}
	if len(r.said) >= maxRecorded {
		clear(r.said) // to say it once more is better than to remember for ever
	}
	r.said[k] = now
	return true
}

// Event records that something happened to obj, for kubectl describe; warning: somebody
// has to do something about it. The reason is one word, as "InvalidSpec". It never
// blocks: the same is written once an hour, and what does not fit the queue is dropped.
func (c *Client) Event(obj Object, warning bool, reason, message string) {
	now := time.Now()
	if !c.events.isNew(eventKey{obj.GetUID(), reason, message}, now) {
		return
	}
	where, err := c.where(obj)
	if err != nil {
		return
	}
	if len(message) > 1024 { // the API server's limit
		message = message[:1021] + "..."
	}
	namespace := obj.GetNamespace()
	if namespace == "" {
		namespace = metav1.NamespaceDefault
	}
	e := &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: obj.GetName() + "." + strconv.FormatInt(now.UnixNano(), 16)},
		InvolvedObject: corev1.ObjectReference{APIVersion: where.kind.GroupVersion().String(), Kind: where.kind.Kind,
			Namespace: obj.GetNamespace(), Name: obj.GetName(), UID: obj.GetUID(), ResourceVersion: obj.GetResourceVersion()},
		Type: corev1.EventTypeNormal, Reason: reason, Message: message,
		Source: corev1.EventSource{Component: owner}, ReportingController: owner,
		FirstTimestamp: metav1.NewTime(now), LastTimestamp: metav1.NewTime(now), Count: 1,
	}
	if warning {
		e.Type = corev1.EventTypeWarning
	}
	select {
	case c.events.queue <- e:
	default:
	}
}

// writeEvents writes what is recorded until ctx ends.
func (c *Client) writeEvents(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case e := <-c.events.queue:
			if _, err := Create(ctx, c, e); err != nil && ctx.Err() == nil {
				c.log.Warn("an Event is not written", "object", e.InvolvedObject.Namespace+"/"+e.InvolvedObject.Name, "reason", e.Reason, "err", err)
			}
		}
	}
}
