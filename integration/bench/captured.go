package main

import "github.com/isthmus-mesh/isthmus/internal/process"

// way is how a program's connections reach their destination.
type way struct {
	name  string
	mode  string // keys of the sidecar's interception; empty: there is no sidecar
	rules int    // of somebody else in the same network namespace
}

var (
	direct   = way{name: "direct"}
	explicit = way{name: "explicit", mode: "mode: explicit"}

	// captures are what interception offers. Another kind of it is one more line.
	captures = []way{
		{name: "ebpf", mode: "mode: ebpf"},
		{name: "ebpf+sk_msg", mode: "mode: ebpf, acceleration: on"},
		{name: "nftables", mode: "mode: nftables"},
		{name: "nftables+5000", mode: "mode: nftables", rules: otherRules},
	}
)

// connectFlow is what a program pays for a connection to a service.
func (b *bench) connectFlow() (*flow, error) {
	return b.serviceFlow("connect", "a program to a service through its sidecar, a connection per request", true)
}

// captureFlow is what it pays for a request on a connection that it has.
func (b *bench) captureFlow() (*flow, error) {
	return b.serviceFlow("capture", "a program to a service through its sidecar, connections kept", false)
}

// besideFlow is what it pays for a connection to whoever is not of the mesh.
func (b *bench) besideFlow() (*flow, error) {
	return b.elsewhereFlow("beside", "a program to an address that is not of the mesh, a connection per request", true)
}

// besideKeepFlow is what it pays for a request to them.
func (b *bench) besideKeepFlow() (*flow, error) {
	return b.elsewhereFlow("beside-keep", "a program to an address that is not of the mesh, connections kept", false)
}

// serviceFlow asks the service: the origin itself, by the sidecar's explicit
// listener, or by the service's name.
func (b *bench) serviceFlow(name, title string, reconnect bool) (*flow, error) {
	return b.worldFlow(name, title, reconnect, append([]way{direct, explicit}, captures...), func(w *world) *contender {
		switch w.way {
		case direct:
			return &contender{url: b.originURL(), path: []*process.Process{w.origin}}
		case explicit:
			return &contender{url: w.sidecarURL, path: []*process.Process{w.sidecar, w.origin}, beside: []*process.Process{w.gateway}}
		}
		return &contender{url: "http://" + orders.Host() + "/", path: []*process.Process{w.sidecar, w.origin}, beside: []*process.Process{w.gateway}}
	})
}

// elsewhereFlow asks the origin at its address, which no sidecar has to do with.
func (b *bench) elsewhereFlow(name, title string, reconnect bool) (*flow, error) {
	return b.worldFlow(name, title, reconnect, append([]way{direct}, captures...), func(w *world) *contender {
		c := &contender{url: b.originURL(), path: []*process.Process{w.origin}}
		if w.sidecar != nil {
			c.beside = []*process.Process{w.gateway, w.sidecar}
		}
		return c
	})
}

// worldFlow makes one contender of each way.
func (b *bench) worldFlow(name, title string, reconnect bool, ways []way, in func(*world) *contender) (*flow, error) {
	f := &flow{name: name, title: title, traffic: requests}
	for _, way := range ways {
		w, err := b.world(way)
		if err != nil {
			return nil, err
		}
		c := in(w)
		c.name, c.world, c.traffic, c.reconnect = way.name, w, requests, reconnect
		f.contenders = append(f.contenders, c)
	}
	return f, nil
}
