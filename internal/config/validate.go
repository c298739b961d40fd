package config

import (
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/hostport"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/strictyaml"
)

// completer fills in what was left out of a decoded configuration and collects
// what is wrong with it.
type completer struct {
	doc       *strictyaml.Document
	dir       string // of the file
	undecoded strictyaml.Faults
	faults    strictyaml.Faults
	listens   []listen
}

type listen struct {
	key  string
	addr hostport.Addr
}

// fault adds a fault, unless the value at the key could not be decoded: then
// what is there instead says nothing.
func (c *completer) fault(key, format string, args ...any) {
	for _, f := range c.undecoded {
		if rest, ok := strings.CutPrefix(f.Key, key); ok && (rest == "" || rest[0] == '.' || rest[0] == '[') {
			return
		}
	}
	c.faults = append(c.faults, c.doc.Fault(key, format, args...))
}

// label checks a name that is required.
func (c *completer) label(key, value, missing string) {
	if value == "" {
		c.fault(key, "is missing: %s", missing)
	} else if err := mesh.CheckLabel(value); err != nil {
		c.fault(key, "%v", err)
	}
}

// path makes a directory that was written in the file relative to the file.
// What came by environment or flag is relative to the working directory.
func (c *completer) path(key string, dir *string) {
	if *dir != "" && !filepath.IsAbs(*dir) && c.doc.Has(key) && !c.doc.IsSet(key) {
		*dir = filepath.Join(c.dir, *dir)
	}
}

// required is path for a directory that must be there.
func (c *completer) required(key string, dir *string) {
	c.path(key, dir)
	if *dir == "" {
		c.fault(key, "is empty: write a directory, or remove the key for the default")
	}
}

// listen completes an address to listen on; port stands in for one left out, 0
// for none. Callers outside this host are only let in by an address that says so.
func (c *completer) listen(key string, value *string, port int, private bool) {
	example := fmt.Sprintf(":%d", port)
	if private || port == 0 {
		example = fmt.Sprintf("127.0.0.1:%d", max(port, 9001))
	}
	if *value == "" {
		c.fault(key, "is missing: write host:port, such as %s", example)
		return
	}
	a, err := hostport.Parse(*value)
	if err != nil {
		if n, err := strconv.ParseUint(*value, 10, 16); err == nil {
			example = fmt.Sprintf(":%d", n)
			if private {
				example = "127.0.0.1" + example
			}
		}
		c.fault(key, "%v: write host:port, such as %s", err, example)
		return
	}
	if a.Port < 0 {
		if port == 0 {
			c.fault(key, "%q has no port: write host:port, such as %s", *value, example)
			return
		}
		a.Port = port
	}
	if private && a.Host == "" {
		c.fault(key, "%q listens on every interface, where anybody could use it: write 127.0.0.1:%d, or 0.0.0.0:%d if that is meant", *value, a.Port, a.Port)
		return
	}
	*value = a.String()
	for _, other := range c.listens {
		if a.Overlaps(other.addr) {
			c.fault(key, "%s is already the address of %s: write another port", a, other.key)
			break
		}
	}
	c.listens = append(c.listens, listen{key, a})
}

// listenIfSet is listen for an address that need not be there, and needs its port.
func (c *completer) listenIfSet(key string, value *string, private bool) {
	if *value != "" {
		c.listen(key, value, 0, private)
	}
}

// dial completes an address that somebody connects to; port stands in for one
// left out, 0 for none.
func (c *completer) dial(key string, value *string, port int, example string) (hostport.Addr, bool) {
	a, err := hostport.Parse(*value)
	switch {
	case err != nil:
		c.fault(key, "%v: write host:port, such as %s", err, example)
		return a, false
	case a.Host == "":
		c.fault(key, "%q has no host: write host:port, such as %s", *value, example)
		return a, false
	case a.Everywhere():
		c.fault(key, "%q cannot be dialled: write the address of one host, such as %s", *value, example)
		return a, false
	case a.Port < 0 && port == 0:
		c.fault(key, "%q has no port: write host:port, such as %s", *value, example)
		return a, false
	case a.Port == 0:
		c.fault(key, "%q has port 0, which cannot be dialled: write host:port, such as %s", *value, example)
		return a, false
	case a.Port < 0:
		a.Port = port
	}
	*value = a.String()
	return a, true
}

// dials completes a list of addresses and drops repetitions.
func (c *completer) dials(key string, values *[]string, port int, example string) {
	if len(*values) > maxListed {
		c.fault(key, "has %d entries: at most %d are read", len(*values), maxListed)
		return
	}
	var once []string
	for i, v := range *values {
		if _, ok := c.dial(fmt.Sprintf("%s[%d]", key, i), &v, port, example); ok && !slices.Contains(once, v) {
			once = append(once, v)
		}
	}
	*values = once
}

// between checks a number.
func (c *completer) between(key string, n, min, max int) {
	if n < min || n > max {
		c.fault(key, "%d is out of range: write %d to %d", n, min, max)
	}
}

func (c *completer) drain(d time.Duration) {
	if d < 0 || d > maxDrain {
		c.fault("drain", "%s is out of range: write 0s to %s", d, maxDrain)
	}
}

// port returns the port of an address that listen has completed, 0 when it could not.
func (c *completer) port(key string) int {
	for _, l := range c.listens {
		if l.key == key {
			return l.addr.Port
		}
	}
	return 0
}
