package sidecar

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"sync"

	"github.com/isthmus-mesh/isthmus/internal/authorize"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/internal/status"
	"github.com/isthmus-mesh/isthmus/sidecar/adsclient"
	"github.com/isthmus-mesh/isthmus/sidecar/beside"
	"github.com/isthmus-mesh/isthmus/sidecar/proxy"
)

// isTold reports whether a gateway tells what runs beside.
func (s *Sidecar) isTold() bool { return s.mode == config.Pod && len(s.cfg.Served()) == 0 }

// told is what runs beside in a pod, where nothing is configured: the gateways know it from
// Kubernetes, and nothing is registered or checked here. Whether the program is ready the
// kubelet finds out. Its methods may be called concurrently; of a nil one nothing is told.
type told struct {
	follower *beside.Follower
	callers  *callers
	ads      *adsclient.Client
	direct   *directAddresses
	proxy    *proxy.Proxy
	dial     func(ctx context.Context, network, addr string) (net.Conn, error) // the program
	observer *authorize.Observer
	log      *slog.Logger

	serving sync.Mutex // serializes serve
}

// ports are those that have been told; nil: none yet.
func (t *told) ports() []beside.Port {
	if t == nil {
		return nil
	}
	if ports, _ := t.follower.Snapshot(); ports != nil {
		return *ports
	}
	return nil
}

// follow serves what is told until ctx ends.
func (t *told) follow(ctx context.Context) error {
	for {
		_, past := t.follower.Snapshot()
		t.serve()
		if !state.Await(ctx, past) {
			return nil
		}
	}
}

// serve serves what has been told. A port is served once it is known who may call it: a
// caller that is refused before it has said anything asks another instance.
func (t *told) serve() {
	t.serving.Lock() // one at a time: the last has seen the newest
	defer t.serving.Unlock()
	var services []mesh.ServiceName
	var served []proxy.Served
	for _, p := range t.ports() {
		if !slices.Contains(services, p.Service) {
			services = append(services, p.Service)
		}
		callers := t.callers.of(p.Service)
		if callers.Load() == nil {
			continue
		}
		served = append(served, proxy.Served{
			Service: p.Service, Port: p.Port, Target: p.Target, Protocol: p.Protocol,
			Dial: t.dial, Policy: callers, Observer: t.observer,
		})
	}
	t.ads.SetServices(services)
	t.direct.serve(services)
	if err := t.proxy.SetServed(served); err != nil {
		t.log.Error("what a gateway says that runs beside is not served", "err", err)
	}
}

// unknown says why it is not known what runs beside; empty: it is.
func (t *told) unknown() string {
	if ports, _ := t.follower.Snapshot(); ports == nil {
		return "no gateway has told yet what this pod serves"
	}
	return ""
}

// status is what is told. It is ready once callers are let in.
func (t *told) status() (all []status.Registration) {
	for _, p := range t.ports() {
		all = append(all, status.Registration{
			Service: p.Service, Port: p.Port, Protocol: p.Protocol, Target: p.Target, Ready: t.callers.of(p.Service).Load() != nil,
		})
	}
	return all
}
