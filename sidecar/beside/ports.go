package beside

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/isthmus-mesh/isthmus/internal/beside"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/wholefile"
)

// maxStateFile bounds the state file, in bytes: as many ports as there may be, of the longest
// names.
const maxStateFile = 128 << 10

// Port is a port of a service whose program is beside.
type Port struct {
	Service  mesh.ServiceName
	Port     uint16
	Protocol mesh.Protocol
	Target   string // ip:port of the program, an address of this host
}

// portsOf reads what a gateway says. A port that cannot be one is left out, and the error
// joins why.
func portsOf(m *beside.Ports, here []netip.Addr) ([]Port, error) {
	ports := []Port{}
	var faults []error
	for i, p := range m.GetPorts() {
		if i >= beside.MaxPorts {
			faults = append(faults, fmt.Errorf("more than %d ports", beside.MaxPorts))
			break
		}
		port, err := portOf(p, here)
		if err == nil && slices.ContainsFunc(ports, func(o Port) bool { return o.Service == port.Service && o.Port == port.Port }) {
			err = errors.New("it is there twice")
		}
		if err != nil {
			faults = append(faults, fmt.Errorf("port %d of %q: %w", p.GetPort(), p.GetService(), err))
			continue
		}
		ports = append(ports, port)
	}
	return ports, errors.Join(faults...)
}

func portOf(p *beside.Port, here []netip.Addr) (port Port, err error) {
	if port.Service, err = mesh.ParseServiceName(p.GetService()); err != nil {
		return port, err
	}
	if p.GetPort() == 0 || p.GetPort() > 65535 {
		return port, errors.New("it must be 1 to 65535")
	}
	port.Port = uint16(p.GetPort())
	if port.Protocol, err = mesh.ParseProtocol(p.GetProtocol()); err != nil {
		port.Protocol = mesh.Auto // one that a newer gateway knows
	}
	target, err := netip.ParseAddrPort(p.GetTarget())
	if err != nil || target.Port() == 0 {
		return port, fmt.Errorf("its target %q is no ip:port", p.GetTarget())
	}
	if !slices.Contains(here, target.Addr().Unmap()) {
		return port, fmt.Errorf("its target %s is not here", target)
	}
	port.Target = target.String()
	return port, nil
}

// save writes the state file.
func save(path string, m *beside.Ports) error {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return err
	}
	return wholefile.Write(path, b, 0o600)
}

// load reads the state file; nil: there is none.
func load(path string) (*beside.Ports, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxStateFile+1))
	if err == nil && len(b) > maxStateFile {
		err = fmt.Errorf("longer than %d bytes", maxStateFile)
	}
	m := &beside.Ports{}
	if err == nil {
		err = proto.Unmarshal(b, m)
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return m, nil
}
