package kube

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"sync"

	"k8s.io/client-go/tools/cache"
)

// set is the objects of a Followed, sorted. It is what a reflector writes to, from one
// goroutine.
type set[T Object] struct {
	trim func(T)

	mu      sync.Mutex
	sorted  []T  // nil: not known yet
	changes int  // how often it changed
	shared  bool // somebody has sorted, so that it is copied before it changes
	past    chan struct{}
}

func newSet[T Object](trim func(T)) *set[T] {
	return &set[T]{trim: trim, past: make(chan struct{})}
}

func (s *set[T]) snapshot() ([]T, <-chan struct{}) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.shared = true
	return s.sorted, s.past
}

func (s *set[T]) size() (objects int, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sorted), s.sorted != nil
}

// count returns how often the set has changed.
func (s *set[T]) count() (changes int, known bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.changes, s.sorted != nil
}

// recall makes objects the set, unless it is known by now.
func (s *set[T]) recall(objects []T) bool {
	for _, o := range objects {
		if _, err := s.trimmed(o); err != nil {
			return false
		}
	}
	slices.SortFunc(objects, compareObjects)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sorted != nil {
		return false
	}
	s.sorted, s.shared = objects, false
	s.changedLocked()
	return true
}

func compareObjects[T Object](a, b T) int {
	return cmp.Or(cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
}

// changedLocked says that sorted is another one now.
func (s *set[T]) changedLocked() {
	s.changes++
	close(s.past)
	s.past = make(chan struct{})
}

// editLocked returns a set that may be written to, and where obj is or belongs.
func (s *set[T]) editLocked(obj T) (at int, found bool) {
	if s.shared {
		s.sorted, s.shared = slices.Grow(slices.Clone(s.sorted), 1), false
	}
	return slices.BinarySearchFunc(s.sorted, obj, compareObjects)
}

// Add implements [cache.ReflectorStore].
func (s *set[T]) Add(obj any) error {
	o, err := s.trimmed(obj)
	if err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, found := slices.BinarySearchFunc(s.sorted, o, compareObjects); found && reflect.DeepEqual(s.sorted[at], o) {
		return nil // what has changed was trimmed
	}
	if at, found := s.editLocked(o); found {
		s.sorted[at] = o
	} else {
		s.sorted = slices.Insert(s.sorted, at, o)
	}
	s.changedLocked()
	return nil
}

// Update implements [cache.ReflectorStore].
func (s *set[T]) Update(obj any) error { return s.Add(obj) }

// Delete implements [cache.ReflectorStore].
func (s *set[T]) Delete(obj any) error {
	if gone, ok := obj.(cache.DeletedFinalStateUnknown); ok {
		obj = gone.Obj
	}
	o, ok := obj.(T)
	if !ok {
		return fmt.Errorf("kubernetes: a %T among others", obj)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if at, found := s.editLocked(o); found {
		s.sorted = slices.Delete(s.sorted, at, at+1)
		s.changedLocked()
	}
	return nil
}

// Replace implements [cache.ReflectorStore].
func (s *set[T]) Replace(objects []any, _ string) error {
	sorted := make([]T, 0, len(objects))
	for _, obj := range objects {
		o, err := s.trimmed(obj)
		if err != nil {
			return err
		}
		sorted = append(sorted, o)
	}
	slices.SortFunc(sorted, compareObjects)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sorted, s.shared = sorted, false
	s.changedLocked()
	return nil
}

// none says that the API server does not have the kind, and reports whether there are no
// objects then. What is known stays: objects go one by one before their kind does, so that
// this is an answer to distrust.
func (s *set[T]) none() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sorted == nil {
		s.sorted, s.shared = []T{}, false
		s.changedLocked()
	}
	return len(s.sorted) == 0
}

// Resync implements [cache.ReflectorStore].
func (s *set[T]) Resync() error { return nil }

// Transformer implements [cache.TransformingStore]: a first list is trimmed as it comes.
func (s *set[T]) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) { return s.trimmed(obj) }
}

// trimmed takes out what is not read. To trim twice does no harm.
func (s *set[T]) trimmed(obj any) (T, error) {
	o, ok := obj.(T)
	if !ok {
		return o, fmt.Errorf("kubernetes: a %T among others", obj)
	}
	o.SetManagedFields(nil)
	if s.trim != nil {
		s.trim(o)
	}
	return o, nil
}
