package kube

import (
	"context"
	"errors"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/isthmus-mesh/isthmus/internal/state"
)

// Lease is held by one process at a time: who writes what several could write. Clocks of
// machines are never compared: who waits takes it when it has not seen it renewed for
// its duration. Make it with [Client.Lease]; its methods may be called concurrently.
type Lease struct {
	client          *Client
	namespace, name string
	self            string
	held            state.Store[bool]

	// Of Run's goroutine.
	renewed  time.Time // when this process last wrote it
	seen     string    // the resourceVersion as it was last seen in another's hands
	seenFrom time.Time
}

// Lease returns the lease of that name as process self wants it. Nothing happens before
// Run.
func (c *Client) Lease(namespace, name, self string) *Lease {
	return &Lease{client: c, namespace: namespace, name: name, self: self}
}

// Held reports whether this process holds it, and gives a channel that closes when that
// is past.
func (l *Lease) Held() (bool, <-chan struct{}) { return l.held.Snapshot() }

// Run takes the lease whenever it is free and renews it, until ctx ends; then it gives
// it back.
func (l *Lease) Run(ctx context.Context) error {
	for {
		err := l.once(ctx, time.Now())
		held := l.held.Load()
		if err != nil && ctx.Err() == nil {
			l.client.log.Debug("lease", "name", l.name, "err", err)
			if held && time.Since(l.renewed) >= leaseGrace {
				l.set(false)
			}
		}
		if !state.Pause(ctx, leaseRenewal) {
			break
		}
	}
	if l.held.Load() {
		l.set(false)
		ctx, done := context.WithTimeout(context.WithoutCancel(ctx), callTimeout)
		defer done()
		return l.giveBack(ctx)
	}
	return nil
}

func (l *Lease) set(held bool) {
	if l.held.Load() == held {
		return
	}
	l.held.Set(held)
	l.client.log.Info("lease", "name", l.name, "held", held)
}

// once renews the lease, or takes it when it is free.
func (l *Lease) once(ctx context.Context, now time.Time) error {
	ctx, done := context.WithTimeout(ctx, leaseRenewal)
	defer done()
	lease, err := Get[*coordinationv1.Lease](ctx, l.client, l.namespace, l.name)
	if apierrors.IsNotFound(err) {
		lease = &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: l.namespace, Name: l.name}}
		l.write(lease, now)
		_, err = Create(ctx, l.client, lease)
		return l.written(err, now)
	}
	if err != nil {
		return err
	}
	if holder := lease.Spec.HolderIdentity; holder != nil && *holder != "" && *holder != l.self {
		l.set(false)
		if l.seen != lease.ResourceVersion {
			l.seen, l.seenFrom = lease.ResourceVersion, now
			return nil
		}
		if now.Sub(l.seenFrom) < leaseFor {
			return nil
		}
	}
	l.write(lease, now)
	_, err = Replace(ctx, l.client, lease)
	return l.written(err, now)
}

// write puts this process into the lease.
func (l *Lease) write(lease *coordinationv1.Lease, now time.Time) {
	seconds, at := int32(leaseFor/time.Second), metav1.NewMicroTime(now)
	if lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity != l.self {
		changes := int32(1)
		if lease.Spec.LeaseTransitions != nil {
			changes += *lease.Spec.LeaseTransitions
		}
		lease.Spec.AcquireTime, lease.Spec.LeaseTransitions = &at, &changes
	}
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds, lease.Spec.RenewTime = &l.self, &seconds, &at
}

// written takes note of a write that began at now.
func (l *Lease) written(err error, now time.Time) error {
	switch {
	case err == nil:
		l.renewed = now
		l.set(true)
	case apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err):
		l.set(false) // somebody else was faster
	}
	return err
}

// giveBack frees the lease for the next one at once.
func (l *Lease) giveBack(ctx context.Context) error {
	lease, err := Get[*coordinationv1.Lease](ctx, l.client, l.namespace, l.name)
	if err != nil || lease.Spec.HolderIdentity == nil || *lease.Spec.HolderIdentity != l.self {
		return errors.Join(err)
	}
	nobody := ""
	lease.Spec.HolderIdentity = &nobody
	_, err = Replace(ctx, l.client, lease)
	return err
}
