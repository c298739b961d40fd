package core

import (
	"log/slog"
	"slices"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
)

// Config is what a Core is told about its gateway. Self and Random are required.
type Config struct {
	Self        mesh.GatewayID
	Advertise   string              // host:port that other gateways dial; empty: they cannot
	MeshAddress string              // host:port that this cluster's sidecars dial
	Join        []string            // addresses of other gateways, host:port
	Imports     mesh.Imports        // what is taken of other clusters
	Random      func(n int64) int64 // a number in [0, n)
}

// Core is the state of one gateway's part in the federation. It is not safe for
// concurrent use. What its methods return is never changed afterwards.
type Core struct {
	cfg Config

	own         Own
	founding    identity.Founding         // of the own cluster
	refused     map[mesh.GatewayID]string // why nothing is sent there
	certificate Certificate               // the one that would sign now
	epochMoved  time.Time                 // when moving the own epoch was last decided
	moveEpoch   mesh.GatewayID
	leaving     bool
	awaiting    time.Time // until when any gateway is awaited that the state file tells of; zero: none is

	origins  origins
	gateways gateways

	forgotten   []mesh.GatewayID
	doubted     []mesh.GatewayID
	targets     []Target
	viewChanged bool
	unsaved     unsaved

	notes     []Note
	conflicts int
	refusals  []Refusal
}

// Own is this gateway's catalog at one version, signed.
type Own struct {
	State     *catalog.State
	Signature identity.Signature
}

// Input is something that happened.
type Input interface {
	apply(c *Core, now time.Time)
}

// Actions are what the driver is to do, in any order. What has a result comes back
// as an Input.
type Actions struct {
	Pull      []Pull           // Received and then Pulled
	Sync      []mesh.GatewayID // to be asked for their versions: Synced
	MoveEpoch mesh.GatewayID   // not zero: prove that it holds a newer catalog of ours, and move beyond that: Signed
	ReSign    bool             // the own catalog, with the new certificate: Signed
	Targets   []Target         // to keep tunnels to; nil: as before
	Redial    []mesh.GatewayID // without waiting: they are back
	Doubt     []mesh.GatewayID // gossip has lost them, and a tunnel leads to them: do they live?
	Forgotten []mesh.GatewayID // of which nothing is kept any more
	View      *View            // to be shown; nil: as before
	Save      bool             // Unsaved has something
	Conflicts int              // catalogs that differ under one version
	Refusals  []Refusal        // what others begin to offer and their clusters may not
	Notes     []Note
}

// Note is a line for the log.
type Note struct {
	Level   slog.Level
	Message string
	Args    []any
}

// New returns the core of a gateway that has not read its state file and knows
// nobody.
func New(cfg Config) *Core {
	return &Core{
		cfg:         cfg,
		own:         Own{State: catalog.New(cfg.Self, 0)},
		origins:     make(origins),
		gateways:    gateways{members: make(members), peers: make(peers), known: make(map[mesh.GatewayID]KnownGateway)},
		viewChanged: true,
		unsaved:     newUnsaved(),
	}
}

// Apply takes note of what happened.
func (c *Core) Apply(now time.Time, in Input) { in.apply(c, now) }

// Step says what to do now. Who gets the actions must carry them out: they are not
// given again before their result is applied.
func (c *Core) Step(now time.Time) Actions {
	c.forget(now)
	c.confirm(now)
	c.await(now)
	a := Actions{
		Sync:      c.startSyncs(now),
		Pull:      c.startPulls(now),
		MoveEpoch: c.moveEpoch,
		ReSign:    c.own.State.Head().Version.Seq > 0 && !c.leaving && !c.certificate.signed(c.own.Signature),
		Targets:   c.newTargets(now),
		Redial:    c.gateways.redials(now),
		Save:      !c.unsaved.empty(),
		Forgotten: c.forgotten,
		Doubt:     sortIDs(c.doubted),
	}
	c.forgotten, c.doubted = nil, nil
	c.moveEpoch = mesh.GatewayID{}
	if c.viewChanged {
		c.viewChanged = false
		c.refuse()
		a.View = c.View()
	}
	a.Notes, c.notes = c.notes, nil
	a.Conflicts, c.conflicts = c.conflicts, 0
	a.Refusals, c.refusals = c.refusals, nil
	return a
}

func (c *Core) note(level slog.Level, message string, args ...any) {
	c.notes = append(c.notes, Note{level, message, args})
}

// retryAfter returns when to try again what has failed so many times in a row.
func (c *Core) retryAfter(now time.Time, failures int) time.Time {
	return now.Add(state.Delay(minRetry, maxRetry, failures-1, c.cfg.Random))
}

// sortIDs sorts ids in place and returns them, each once.
func sortIDs(ids []mesh.GatewayID) []mesh.GatewayID {
	slices.SortFunc(ids, mesh.GatewayID.Compare)
	return slices.Compact(ids)
}
