package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/integration/bench/load"
	"github.com/isthmus-mesh/isthmus/internal/process"
)

// flow is one thing that is measured, by several contenders.
type flow struct {
	name       string
	title      string
	traffic    traffic
	idle       bool         // memory of connections that nothing is asked on is measured, and nothing else
	contenders []*contender // the first is what the others are compared with
}

// traffic is what a flow's load is made of.
type traffic struct {
	protocol    load.Protocol
	connections int
	streams     int // on each connection at a time
	program     program
}

// program is what a flow ends at.
type program string

const (
	httpProgram  program = "http" // nginx, HTTP/1.1
	http2Program program = "http2"
	grpcProgram  program = "grpc"
	tcpProgram   program = "tcp" // nginx, of whose protocol nobody was told
)

var (
	requests = traffic{load.HTTP1, connections, 1, httpProgram}
	bytesOf  = traffic{load.HTTP1, connections, 1, tcpProgram}
	streams  = traffic{load.HTTP2, streamConnections, streamsEach, http2Program}
	calls    = traffic{load.GRPC, streamConnections, streamsEach, grpcProgram}
)

// contender is a chain of processes that serves a flow.
type contender struct {
	name      string
	url       string // where the load goes
	reconnect bool   // the load makes a connection for every request
	traffic   traffic
	load      place              // of the load generator
	hop       hopWire            // between the two ends of the TLS, where there is one
	path      []*process.Process // carry the traffic, in its order: what is accounted
	beside    []*process.Process // are needed and carry none of it
	world     *world             // what all this is in; nil: the benchmark's own network
}

// counted names what a contender's CPU time is made of. In a world the load counts,
// since the kernel does the work of capturing in whoever connects or sends.
func (c *contender) counted() []string {
	var names []string
	for _, p := range c.path {
		names = append(names, p.Name)
	}
	if c.world != nil {
		names = append(names, "program")
	}
	return names
}

func (c *contender) processes() []*process.Process { return slices.Concat(c.beside, c.path) }

// hopWire is the connection between two proxies.
type hopWire struct {
	address string // where the second listens; empty: there is none
	http2   bool   // what it must agree to speak
}

// flowMakers make each flow: they choose ports and write files, and start nothing.
var flowMakers = map[string]func(*bench) (*flow, error){
	"h1":         (*bench).h1Flow,
	"h2":         (*bench).h2Flow,
	"grpc-unary": (*bench).grpcFlow,
	"pair-http":  (*bench).pairHTTPFlow,
	"pair-grpc":  (*bench).pairGRPCFlow,
	"pair-tcp":   (*bench).pairTCPFlow,
	"path-http":  (*bench).pathHTTPFlow,
	"path-grpc":  (*bench).pathGRPCFlow,
	"idle":       (*bench).idleFlow,
	"idle-tcp":   (*bench).idleTCPFlow,

	"connect":     (*bench).connectFlow,
	"capture":     (*bench).captureFlow,
	"beside":      (*bench).besideFlow,
	"beside-keep": (*bench).besideKeepFlow,
}

// The order in which flows run.
const (
	proxyFlows = "h1,h2,grpc-unary,pair-http,pair-grpc,pair-tcp,path-http,path-grpc,idle,idle-tcp"
	allFlows   = proxyFlows + ",connect,capture,beside,beside-keep"
)

// parseFlows reads a list of flows.
func parseFlows(list string) ([]string, error) {
	names := strings.Split(list, ",")
	for i, n := range names {
		if flowMakers[n] == nil {
			return nil, fmt.Errorf("unknown flow %q: write one or more of %s", n,
				strings.Join(slices.Sorted(maps.Keys(flowMakers)), ","))
		}
		if slices.Contains(names[:i], n) {
			return nil, fmt.Errorf("flow %q is named twice", n)
		}
	}
	return names, nil
}

// One proxy.

func (b *bench) h1Flow() (*flow, error) {
	return b.flow("h1", "one proxy, HTTP/1.1 in and out, plain", requests,
		nginxProxy, haproxyProxy, envoyProxy, isthmusProxy)
}

func (b *bench) h2Flow() (*flow, error) {
	return b.flow("h2", "one proxy, HTTP/2 in and out, plain", streams,
		haproxyProxyH2, nginxProxyH2, envoyProxyH2, isthmusProxy)
}

func (b *bench) grpcFlow() (*flow, error) {
	return b.flow("grpc-unary", "one proxy, gRPC unary calls in and out, plain", calls,
		haproxyProxyH2, nginxProxyH2, envoyProxyH2, isthmusProxy)
}

// Two proxies with mutual TLS between them, as in one cluster.

func (b *bench) pairHTTPFlow() (*flow, error) {
	return b.flow("pair-http", "two hops: HTTP/1.1 in, mTLS between, HTTP/1.1 out", requests,
		nginxPair, haproxyPair, haproxyPairH2Between, envoyPair, envoyPairH2Between, isthmusPair)
}

func (b *bench) pairGRPCFlow() (*flow, error) {
	return b.flow("pair-grpc", "two hops: gRPC in, HTTP/2 over mTLS between, gRPC out", calls,
		haproxyPairH2, envoyPairH2, isthmusPair)
}

func (b *bench) pairTCPFlow() (*flow, error) {
	return b.flow("pair-tcp", "two hops: bytes in, mTLS between, bytes out", bytesOf,
		nginxPairTCP, haproxyPairTCP, envoyPairTCP, envoyPairTunnel, isthmusPair)
}

// The whole way from a program in one cluster to one in another.

func (b *bench) pathHTTPFlow() (*flow, error) {
	return b.flow("path-http", "four hops: HTTP/1.1 in, mTLS end to end through two relays of bytes, HTTP/1.1 out", requests,
		nginxPath, envoyPath, envoyPathH2Between, isthmusPath)
}

func (b *bench) pathGRPCFlow() (*flow, error) {
	return b.flow("path-grpc", "four hops: gRPC in, mTLS end to end through two relays of bytes, gRPC out", calls,
		envoyPathH2, isthmusPath)
}

// What connections cost on which nothing is asked.

func (b *bench) idleFlow() (*flow, error) {
	f, err := b.flow("idle", "one proxy: memory of idle HTTP/1.1 connections", requests,
		nginxProxy, haproxyProxy, envoyProxy, isthmusProxy)
	f.idle = true
	return f, err
}

func (b *bench) idleTCPFlow() (*flow, error) {
	f, err := b.flow("idle-tcp", "two hops with mTLS between: memory of idle TCP connections, of both together", bytesOf,
		nginxPairTCP, haproxyPairTCP, envoyPairTCP, isthmusPair)
	f.idle = true
	return f, err
}

// maker makes a contender of a flow, or none when its program is not installed.
type maker func(b *bench, flow string, t traffic) (*contender, error)

// flow makes the contenders: also that of the build to compare with, if one was named.
func (b *bench) flow(name, title string, t traffic, makers ...maker) (*flow, error) {
	f := &flow{name: name, title: title, traffic: t}
	add := func(b *bench, m maker, suffix string) error {
		c, err := m(b, name, t)
		if c == nil || err != nil {
			return err
		}
		c.name += suffix
		c.traffic, c.load.cpu = t, b.cpus.load
		f.contenders = append(f.contenders, c)
		return nil
	}
	for _, m := range makers {
		if err := add(b, m, ""); err != nil {
			return f, err
		}
	}
	if b.opts.before == "" {
		return f, nil
	}
	old := *b
	old.tools.isthmus, old.dir = b.opts.before, filepath.Join(b.dir, "before")
	return f, add(&old, makers[len(makers)-1], " before") // ours is the last one
}
