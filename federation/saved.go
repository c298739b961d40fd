package federation

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/federation/core"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// memory is what outlives the process: the state file, what the core takes of it and
// what the core has it hold. Nothing is saved before open has returned.
type memory struct {
	path  string // empty: memory only
	core  *lockedCore
	view  *state.Store[*View]
	log   *slog.Logger
	saver *state.Saver

	store *store // set by open
}

func newMemory(path string, c *lockedCore, view *state.Store[*View], log *slog.Logger) *memory {
	m := &memory{path: path, core: c, view: view, log: log, store: &store{}}
	m.saver = state.NewSaver(state.SaverConfig{What: "what is known of other gateways", Write: m.save, Interval: storeInterval, Log: log})
	return m
}

// open reads the state file and takes the next epoch.
func (m *memory) open() error {
	st, err := openStore(m.path, m.log)
	if err != nil {
		return err
	}
	was, err := st.load(m.log)
	if err != nil {
		_ = st.Close() // the other error says more
		return err
	}
	// The clock makes the epoch grow even without a state file; the file makes it
	// grow even when the clock was set back.
	now := time.Now()
	epoch := max(was.Epoch+1, uint64(now.UnixMilli()))
	if latest := uint64(now.Add(core.MaxAhead).UnixMilli()); epoch > latest {
		m.log.Error("this gateway's last epoch is more than a day ahead of its clock, where nobody believes it: check the clock", "epoch", was.Epoch)
		epoch = uint64(now.UnixMilli())
	}
	saved := st.saveEpoch(epoch)
	m.store = st
	m.restore(was, epoch)
	if saved != nil {
		m.log.Error("the epoch is not kept yet: until it is, peers do not believe this gateway after a restart with the clock set back", "err", saved)
		m.notSaved(&core.Changes{Epoch: epoch}, saved)
	}
	return nil
}

// restore has the core take over what the state file held.
func (m *memory) restore(was *saved, epoch uint64) {
	in := core.Restored{Epoch: epoch, Origins: make(map[mesh.GatewayID]core.SavedOrigin, len(was.Origins)), Confirmed: was.Confirmed, Gateways: was.Gateways}
	for id, s := range was.Origins {
		o := core.SavedOrigin{Floor: s.Floor}
		if s.Delta != nil {
			state, err := (*catalog.State)(nil).Apply(s.Delta)
			if err == nil && s.Signer.GatewayID() != id {
				err = fmt.Errorf("kept as signed by %s", s.Signer.ID)
			}
			if err != nil {
				m.log.Warn("catalog of the state file left out", "gateway", id.String(), "err", err)
			} else {
				o.State, o.Signature, o.Signer = state, s.Signature, s.Signer
				o.Exports, o.LeftOut = core.Judge(s.Signer, state.Exports())
			}
		}
		in.Origins[id] = o
	}
	m.core.with(func(c *core.Core) {
		c.Apply(time.Now(), in)
		m.view.Set(c.View())
	})
}

// save writes what changed to the state file. It is called by m.saver only.
func (m *memory) save() error {
	var unsaved *core.Changes
	m.core.with(func(c *core.Core) { unsaved = c.Unsaved(time.Now()) })
	c := &changes{Epoch: unsaved.Epoch, Origins: make(map[mesh.GatewayID]*savedOrigin, len(unsaved.Origins)), Confirmed: unsaved.Confirmed, Gateways: unsaved.Gateways}
	for id, o := range unsaved.Origins {
		c.Origins[id] = nil
		if o != nil {
			c.Origins[id] = &savedOrigin{Floor: o.Floor, Signature: o.Signature, Signer: o.Signer}
			if o.State != nil {
				c.Origins[id].Delta = o.State.Whole()
			}
		}
	}
	err := m.store.save(c)
	if err != nil {
		m.notSaved(unsaved, err)
	}
	return err
}

// saveEpoch writes a later epoch at once, before anybody is told of it.
func (m *memory) saveEpoch(epoch uint64) error {
	err := m.store.saveEpoch(epoch)
	if err != nil {
		m.notSaved(&core.Changes{}, err)
	}
	return err
}

// notSaved sees to it that what could not be written is written later, and all the
// rest when the file was damaged: it is a new one now.
func (m *memory) notSaved(c *core.Changes, err error) {
	m.core.apply(core.NotSaved{Changes: c})
	if errors.Is(err, errDamaged) {
		m.core.apply(core.StateLost{})
	}
}
