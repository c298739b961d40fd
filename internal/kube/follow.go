package kube

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// Selection says which objects are followed. The zero value means all of them.
type Selection struct {
	Namespace string // empty: every namespace
	Labels    string // a label selector, as "isthmus.io/inject=enabled"
	Fields    string // a field selector, as "spec.nodeName=n1"
	// Optional: an API server that does not have the kind, since its CRD is not installed, has
	// no objects of it. Otherwise the set is unknown until the kind is there.
	Optional bool
}

// Followed is the set of all selected objects of a type, kept by a watch. Its methods
// may be called concurrently.
type Followed[T Object] struct {
	client    *Client
	at        at
	selection Selection
	key       string // what the set is kept under
	set       *set[T]

	mu      sync.Mutex
	lost    time.Time // since when nothing is heard; zero: changes are heard
	err     error     // why
	unheard bool      // no attempt has succeeded yet
}

// Follow returns the set of the selected objects, which [Client.Run] fills and keeps. It
// is called before that. trim takes out of an object what nobody here reads, before it
// is kept; nil keeps everything but metadata.managedFields. A change of nothing but what it
// takes out, of metadata.resourceVersion if it does, is none.
func Follow[T Object](c *Client, selection Selection, trim func(T)) (*Followed[T], error) {
	where, err := c.where(newObject[T]())
	if err != nil {
		return nil, err
	}
	f := &Followed[T]{client: c, at: where, selection: selection, set: newSet(trim), lost: time.Now(), unheard: true}
	c.mu.Lock()
	defer c.mu.Unlock()
	f.key = f.name() + "#" + strconv.Itoa(len(c.followed)) // two may follow one kind, and trim it otherwise
	c.followed = append(c.followed, f)
	return f, nil
}

// newObject returns a new object of the type that T points to.
func newObject[T Object]() T { return reflect.New(reflect.TypeFor[T]().Elem()).Interface().(T) }

// Snapshot returns all objects, sorted by namespace and name, and a channel that closes
// when they are past. Neither the slice nor an object in it ever changes. Nil until
// all have been read once.
func (f *Followed[T]) Snapshot() ([]T, <-chan struct{}) { return f.set.snapshot() }

// state implements [followed].
func (f *Followed[T]) state() KindState {
	objects, known := f.set.size()
	f.mu.Lock()
	defer f.mu.Unlock()
	s := KindState{Kind: f.name(), Objects: objects, Known: known, Lost: f.lost}
	if f.err != nil {
		s.Err = f.err.Error()
	}
	return s
}

// name is the kind, with what is selected of it.
func (f *Followed[T]) name() string {
	name := f.at.resource.GroupResource().String()
	if of := strings.Join(strings.Fields(f.selection.Namespace+" "+f.selection.Labels+" "+f.selection.Fields), " "); of != "" {
		name += "[" + of + "]"
	}
	return name
}

// run follows until ctx ends.
func (f *Followed[T]) run(ctx context.Context) {
	reflector := cache.NewReflectorWithOptions(f.listWatch(), newObject[T](), f.set, cache.ReflectorOptions{
		Name:    f.at.resource.Resource,
		Backoff: &wait.Backoff{Duration: minBackoff, Cap: maxBackoff, Factor: 2, Jitter: 0.5, Steps: 8},
	})
	reflector.RunWithContext(ctx)
}

// listWatch asks the API server, and takes note of whether it answers.
func (f *Followed[T]) listWatch() cache.ListerWatcher {
	prepare := func(o *metav1.ListOptions) {
		o.LabelSelector, o.FieldSelector = f.selection.Labels, f.selection.Fields
	}
	parameters := runtime.NewParameterCodec(f.client.scheme)
	return &cache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			prepare(&o)
			list, err := f.client.scheme.New(f.at.kind.GroupVersion().WithKind(f.at.kind.Kind + "List"))
			if err != nil {
				return nil, err
			}
			ctx, done := context.WithTimeout(silent(ctx), 3*callTimeout)
			defer done()
			err = f.at.client.Get().NamespaceIfScoped(f.selection.Namespace, f.selection.Namespace != "").Resource(f.at.resource.Resource).
				VersionedParams(&o, parameters).Do(ctx).Into(list)
			f.heard(err)
			return list, err
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			prepare(&o)
			o.Watch = true
			w, err := f.at.client.Get().NamespaceIfScoped(f.selection.Namespace, f.selection.Namespace != "").Resource(f.at.resource.Resource).
				VersionedParams(&o, parameters).Watch(silent(ctx))
			if err == nil && reflect.TypeOf(w) == reflect.TypeOf(watch.NewEmptyWatch()) {
				err = errors.New("no answer in time") // which client-go takes for a watch without events
			}
			f.heard(err)
			if err != nil {
				return nil, err
			}
			return w, nil
		},
	}
}

// heard takes note of how a list or watch went. Where a watch breaks, the next attempt
// says so within moments; that an API server stands still, client-go's pings find within
// 45 seconds.
func (f *Followed[T]) heard(err error) {
	if apierrors.IsResourceExpired(err) || apierrors.IsGone(err) {
		err = nil // the API server answers: it wants to be asked anew
	}
	if apierrors.IsNotFound(err) {
		err = fmt.Errorf("the API server has no %s: install its CustomResourceDefinition", f.at.resource.GroupResource())
		if f.selection.Optional && f.set.none() {
			err = nil
		}
	} else if apierrors.IsForbidden(err) {
		err = fmt.Errorf("%w: give the service account the right to list and watch %s", err, f.at.resource.GroupResource())
	}
	recalled := err != nil && f.recall()
	f.mu.Lock()
	defer f.mu.Unlock()
	kind := f.name()
	switch {
	case err == nil:
		if !f.unheard && !f.lost.IsZero() {
			f.client.log.Info("the API server answers again", "kind", kind, "after", time.Since(f.lost).Round(time.Second))
		}
		f.lost, f.err, f.unheard = time.Time{}, nil, false
	case f.err == nil:
		if f.lost.IsZero() {
			f.lost = time.Now()
		}
		if !recalled { // which says so itself
			f.client.log.Warn("the API server does not answer: what is known of the cluster stays as it is", "kind", kind, "err", err)
		}
		f.err = err
	default:
		f.err = err
	}
}
