package federation

import (
	"errors"
	"fmt"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// restore takes over what the state file held.
func (f *Federation) restore(st *store, was *saved, epoch uint64) {
	in := core.Restored{Epoch: epoch, Origins: make(map[mesh.GatewayID]core.SavedOrigin, len(was.Origins)), Confirmed: was.Confirmed, Gateways: was.Gateways}
	for id, s := range was.Origins {
		o := core.SavedOrigin{Floor: s.Floor}
		if s.Delta != nil {
			state, err := (*catalog.State)(nil).Apply(s.Delta)
			if err == nil && s.Signer.GatewayID() != id {
				err = fmt.Errorf("kept as signed by %s", s.Signer.ID)
			}
			if err != nil {
				f.log.Warn("catalog of the state file left out", "gateway", id.String(), "err", err)
			} else {
				o.State, o.Signature, o.Signer = state, s.Signature, s.Signer
				o.Exports, o.LeftOut = core.Judge(s.Signer, state.Exports())
			}
		}
		in.Origins[id] = o
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	now := time.Now()
	f.store = st
	f.core.Apply(now, in)
	f.view.Set(f.core.View())
}

// save writes what changed to the state file. It is called by f.saver only.
func (f *Federation) save() error {
	f.mu.Lock()
	unsaved := f.core.Unsaved(time.Now())
	c := &changes{Epoch: unsaved.Epoch, Origins: make(map[mesh.GatewayID]*savedOrigin, len(unsaved.Origins)), Confirmed: unsaved.Confirmed, Gateways: unsaved.Gateways}
	st := f.store
	f.mu.Unlock()
	for id, o := range unsaved.Origins {
		c.Origins[id] = nil
		if o != nil {
			c.Origins[id] = &savedOrigin{Floor: o.Floor, Signature: o.Signature, Signer: o.Signer}
			if o.State != nil {
				c.Origins[id].Delta = o.State.Whole()
			}
		}
	}
	err := st.save(c)
	if err != nil {
		f.notSaved(unsaved, err)
	}
	return err
}

// notSaved sees to it that what could not be written is written later, and all the
// rest when the file was damaged: it is a new one now.
func (f *Federation) notSaved(c *core.Changes, err error) {
	f.apply(core.NotSaved{Changes: c})
	if errors.Is(err, errDamaged) {
		f.apply(core.StateLost{})
	}
}

// StateErr returns why what is known of other gateways is not kept on disk; nil: it is.
func (f *Federation) StateErr() error { return f.saver.Err() }
