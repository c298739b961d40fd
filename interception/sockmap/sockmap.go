package sockmap

import (
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/cilium/ebpf"

	"github.com/isthmus-mesh/isthmus/interception/bpf"
)

// Handle holds the pinned maps of acceleration. It is safe for concurrent use.
type Handle struct {
	on           atomic.Bool // what this process last wrote into acceleration
	acceleration *ebpf.Map   // whether the hooks prepare the program's sockets
	sockets      *ebpf.Map   // both ends of accelerated connections
	flows        *ebpf.Map   // what each end has sent
	caughtUp     *ebpf.Map   // what we have read
}

// Open opens the maps that are pinned in a directory, as package hooks has attached
// them.
func Open(dir string) (*Handle, error) {
	h := new(Handle)
	for _, m := range []struct {
		name string
		to   **ebpf.Map
	}{
		{bpf.KernelMapAcceleration, &h.acceleration},
		{bpf.KernelMapAcceleratedSockets, &h.sockets},
		{bpf.KernelMapFlows, &h.flows},
		{bpf.KernelMapCaughtUp, &h.caughtUp},
	} {
		var err error
		if *m.to, err = bpf.OpenMap(dir, m.name, false); err != nil {
			return nil, errors.Join(err, h.Close())
		}
	}
	return h, nil
}

// Close lets go of the maps. Connections that are accelerated stay so.
func (h *Handle) Close() error {
	return errors.Join(h.acceleration.Close(), h.sockets.Close(), h.flows.Close(), h.caughtUp.Close())
}

// Accelerate has the messages of a connection between the program and the sidecar
// redirected from socket to socket, if acceleration is on and the hooks have prepared
// the program's end. It returns the connection to use from now on in place of c; false
// means that c stays as it is. Nothing may have been read from or written to c.
func (h *Handle) Accelerate(c *net.TCPConn) (*Conn, bool) {
	if !h.on.Load() {
		return nil, false
	}
	here := pairOf(c)
	program := bpf.KernelPair{Local: here.Remote, Remote: here.Local}
	var flow bpf.KernelFlow
	if h.flows.Lookup(program, &flow) != nil {
		return nil, false // made before we were there, or in another way
	}
	born := flow.Born
	if h.join(here, c) != nil {
		return nil, false // the maps are full, or the program has gone
	}
	if h.flows.Lookup(program, &flow) != nil { // gone meanwhile: nobody takes ours out
		_ = h.flows.Delete(here)
		return nil, false
	}
	return &Conn{Conn: c, tcp: c, h: h, program: program, born: born, looks: catchUpLooks}, true
}

// join puts an end into the map of sockets and then gives it a flow: a flow means that
// the socket is in the map.
func (h *Handle) join(here bpf.KernelPair, c *net.TCPConn) error {
	err := bpf.Control(c, func(fd int) error { return h.sockets.Put(here, uint64(fd)) })
	if err != nil {
		return err
	}
	return h.flows.Put(here, bpf.KernelFlow{})
}

func pairOf(c *net.TCPConn) bpf.KernelPair {
	return bpf.KernelPair{
		Local:  bpf.EndpointOf(c.LocalAddr().(*net.TCPAddr).AddrPort()),
		Remote: bpf.EndpointOf(c.RemoteAddr().(*net.TCPAddr).AddrPort()),
	}
}

// forget removes the flows of a connection of the self-test. Those of a program's
// connection are removed by its socket.
func (h *Handle) forget(here bpf.KernelPair) error {
	there := bpf.KernelPair{Local: here.Remote, Remote: here.Local}
	var faults []error
	for _, err := range []error{h.flows.Delete(here), h.flows.Delete(there), h.caughtUp.Delete(here), h.caughtUp.Delete(there)} {
		if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			faults = append(faults, err)
		}
	}
	return errors.Join(faults...)
}

// On reports whether connections that are made now are accelerated.
func (h *Handle) On() bool { return h.on.Load() }

// switchTo tells the hooks whether to prepare the program's sockets.
func (h *Handle) switchTo(on bool) error {
	var value uint32
	if on {
		value = 1
	}
	h.on.Store(on)
	if err := h.acceleration.Put(uint32(0), value); err != nil {
		return fmt.Errorf("switch acceleration: %w", err)
	}
	return nil
}
