package main

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/process"
)

// flow is one thing that is measured, by several contenders.
type flow struct {
	name       string
	title      string
	contenders []*contender // the first is what the others are compared with
}

// contender is a chain of processes that serves a flow.
type contender struct {
	name      string
	url       string             // where the load goes
	reconnect bool               // the load makes a connection for every request
	load      place              // of the load generator
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

// flowMakers make each flow: they choose ports and write files, and start nothing.
var flowMakers = map[string]func(*bench) (*flow, error){
	"proxy": (*bench).proxyFlow,
	"path":  (*bench).pathFlow,

	"connect":     (*bench).connectFlow,
	"capture":     (*bench).captureFlow,
	"beside":      (*bench).besideFlow,
	"beside-keep": (*bench).besideKeepFlow,
}

// allFlows is the order in which flows run.
const allFlows = "proxy,path,connect,capture,beside,beside-keep"

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

// proxyFlow is a single proxy.
func (b *bench) proxyFlow() (*flow, error) {
	return b.flow("proxy", "one HTTP/1.1 proxy, plain in and out", (*bench).nginxProxy, (*bench).envoyProxy, (*bench).isthmusProxy,
		before((*bench).isthmusProxy))
}

// pathFlow is the whole way from a program in one cluster to one in another.
func (b *bench) pathFlow() (*flow, error) {
	return b.flow("path", "four hops: HTTP/1.1 in, mTLS end to end through two relays of bytes, HTTP/1.1 out",
		(*bench).nginxPath, (*bench).envoyPath, (*bench).envoyPathHTTP2, (*bench).isthmusPath, before((*bench).isthmusPath))
}

// before returns what makes the same contender of the build to compare with, if one
// was named.
func before(makes func(*bench) (*contender, error)) func(*bench) (*contender, error) {
	return func(b *bench) (*contender, error) {
		if b.opts.before == "" {
			return nil, nil
		}
		old := *b
		old.tools.isthmus, old.dir = b.opts.before, filepath.Join(b.dir, "before")
		c, err := makes(&old)
		if err != nil {
			return nil, err
		}
		c.name += " before"
		return c, nil
	}
}

// flow makes the contenders, but not those whose program is not installed.
func (b *bench) flow(name, title string, makers ...func(*bench) (*contender, error)) (*flow, error) {
	f := &flow{name: name, title: title}
	for _, m := range makers {
		c, err := m(b)
		if err != nil {
			return nil, err
		}
		if c != nil {
			c.load.cpu = b.cpus.load
			f.contenders = append(f.contenders, c)
		}
	}
	return f, nil
}
