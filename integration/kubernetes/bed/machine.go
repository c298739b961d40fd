package bed

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// Machine is a plain host in the network between clusters: no Kubernetes, its own
// network namespace.
type Machine struct {
	Name    string
	Address netip.Addr
}

// Machine makes a host; index is as in [Bed.Start], and its own.
func (b *Bed) Machine(ctx context.Context, name string, index int) (*Machine, error) {
	if err := os.MkdirAll(filepath.Join(b.dir, "run", name), 0o755); err != nil { // so that down knows it
		return nil, err
	}
	m := &Machine{Name: name, Address: netip.AddrFrom4([4]byte{10, 210, 0, byte(index)})}
	return m, b.script(ctx, "wan", name, strconv.Itoa(index))
}

// Command runs a program on the machine. It ends by its context.
func (m *Machine) Command(ctx context.Context, argv ...string) *exec.Cmd {
	return inNetwork(ctx, "kube-"+m.Name, argv...)
}
