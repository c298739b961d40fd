package kubernetes

import (
	"context"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/isthmus-mesh/isthmus/internal/state"
)

// pasts close when what conditions were written of is past. Those that are nil never do.
type pasts [3]<-chan struct{}

// keepConditions has the conditions of objects written by the gateway that leads, until ctx
// ends. look takes what there is, and has it written if leads says so; it is called again when
// that is past, and a while after an error, which it has logged.
func keepConditions(ctx context.Context, leads func() (bool, <-chan struct{}), look func(leads bool) (past pasts, err error)) {
	if leads == nil {
		return
	}
	for {
		does, ledPast := leads()
		past, err := look(does)
		again := state.Forever
		if err != nil {
			again = retryStatus
		}
		if !state.AwaitFor(ctx, again, append(past[:], ledPast)...) {
			return
		}
	}
}

// ignoreGone drops the error of a write to an object that is not there any more.
func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) { // another one of its name
		return nil
	}
	return err
}
