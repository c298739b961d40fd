package interception

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Redirection is the fallback where eBPF cannot be had: one nftables table that
// redirects the program's connections and DNS to the sidecar. It needs root (or
// CAP_NET_ADMIN) while it is made and removed, and conntrack for every connection
// of the network namespace meanwhile. The captured addresses must be routable (a
// default route does), since routing comes before it. It cannot tell whether a
// sidecar is there: what it redirects to nobody is refused. Inbound connections
// are not redirected.
//
//	table inet isthmus-NAME {
//		chain output { type nat hook output; socket cgroupv2 level N ID jump program }
//		chain program {
//			udp dport 53 redirect to :15053
//			tcp dport 53 redirect to :15053
//			ip daddr 240.66.0.0/16 tcp redirect to :15001
//			ip daddr 240.66.0.0/16 udp drop
//		}
//	}
type Redirection struct {
	table *nftables.Table
}

// Redirect puts the table in place, or replaces it whole, in one transaction. The
// pins' fields and Inbound of cfg are not used; OnFailure must be FailClosed.
func Redirect(cfg Config) (*Redirection, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("redirect %s: %w", cfg.Name, err)
	}
	if cfg.OnFailure == FailOpen {
		return nil, fmt.Errorf("redirect %s: onFailure open needs eBPF: nftables cannot tell that no sidecar is there; write closed", cfg.Name)
	}
	if len(cfg.Inbound) > 0 {
		return nil, fmt.Errorf("redirect %s: inbound ports need eBPF: leave them out and have callers come to the sidecar's own port", cfg.Name)
	}
	if len(cfg.Captured) > maxRedirected {
		return nil, fmt.Errorf("redirect %s: %d captured prefixes: at most %d by nftables; use shorter prefixes or eBPF", cfg.Name, len(cfg.Captured), maxRedirected)
	}
	path, id, err := resolveCgroup(cfg.Cgroup)
	if err != nil {
		return nil, fmt.Errorf("redirect %s: %w", cfg.Name, err)
	}
	root, err := CgroupRoot()
	if err != nil {
		return nil, fmt.Errorf("redirect %s: %w", cfg.Name, err)
	}
	below, err := filepath.Rel(root, path)
	if err != nil || below == "." || strings.HasPrefix(below, "..") {
		return nil, fmt.Errorf("redirect %s: cgroup %s is not below %s", cfg.Name, path, root)
	}
	r := &Redirection{table: tableOf(cfg.Name)}
	if err := r.install(cfg, id, strings.Count(below, "/")+1); err != nil {
		return nil, fmt.Errorf("redirect %s: %w", cfg.Name, err)
	}
	return r, nil
}

func tableOf(name string) *nftables.Table {
	return &nftables.Table{Name: "isthmus-" + name, Family: nftables.TableFamilyINet}
}

// install sends everything as one batch, which the kernel takes whole or not.
func (r *Redirection) install(cfg Config, cgroup uint64, level int) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	c.AddTable(r.table)
	c.DelTable(r.table) // what an earlier one left
	c.AddTable(r.table)
	output := c.AddChain(&nftables.Chain{
		Name: "output", Table: r.table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
	})
	program := c.AddChain(&nftables.Chain{Name: "program", Table: r.table})
	c.AddRule(&nftables.Rule{Table: r.table, Chain: output, Exprs: []expr.Any{
		&expr.Socket{Key: expr.SocketKeyCgroupv2, Level: uint32(level), Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.NativeEndian.AppendUint64(nil, cgroup)},
		&expr.Verdict{Kind: expr.VerdictJump, Chain: program.Name},
	}})
	add := func(parts ...[]expr.Any) {
		var all []expr.Any
		for _, p := range parts {
			all = append(all, p...)
		}
		c.AddRule(&nftables.Rule{Table: r.table, Chain: program, Exprs: all})
	}
	if cfg.DNSPort != 0 {
		add(protocol(unix.IPPROTO_UDP), toPort(53), redirectTo(cfg.DNSPort))
		add(protocol(unix.IPPROTO_TCP), toPort(53), redirectTo(cfg.DNSPort))
	}
	for _, p := range cfg.Captured {
		add(toPrefix(p), protocol(unix.IPPROTO_TCP), redirectTo(cfg.OutboundPort))
		add(toPrefix(p), protocol(unix.IPPROTO_UDP), []expr.Any{&expr.Verdict{Kind: expr.VerdictDrop}})
	}
	return flush(c)
}

// flush commits the batch and says what a refusal of the kernel means.
func flush(c *nftables.Conn) error {
	err := c.Flush()
	switch {
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("change nftables: %w: run as root, or with CAP_NET_ADMIN", err)
	case errors.Is(err, unix.EOPNOTSUPP), errors.Is(err, unix.EPROTONOSUPPORT), errors.Is(err, unix.ENOENT):
		return fmt.Errorf("change nftables: %w: the kernel needs nf_tables with nft_chain_nat, nft_redir and nft_socket (cgroupv2: Linux 5.13)", err)
	case err != nil:
		return fmt.Errorf("change nftables: %w", err)
	}
	return nil
}

// Close removes the table. Established connections go on.
func (r *Redirection) Close() error { return removeTable(r.table) }

// RemoveRedirect removes the table of that name which a killed process left. It
// is no error if there is none.
func RemoveRedirect(name string) error {
	if !nameForm.MatchString(name) {
		return fmt.Errorf("remove redirect: name %q: use lower-case letters, digits and dashes", name)
	}
	return removeTable(tableOf(name))
}

func removeTable(t *nftables.Table) error {
	c, err := nftables.New()
	if err != nil {
		return fmt.Errorf("remove table %s: open netlink: %w", t.Name, err)
	}
	c.AddTable(t) // so that there is one
	c.DelTable(t)
	if err := flush(c); err != nil {
		return fmt.Errorf("remove table %s: %w", t.Name, err)
	}
	return nil
}

// RedirectedDestination returns what the program asked for when it made the
// connection that the sidecar accepted as c and that [Redirect] sent there; false
// if c was made to the sidecar itself. It needs no privilege.
func RedirectedDestination(c net.Conn) (netip.AddrPort, bool) {
	local, ok := c.LocalAddr().(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, false
	}
	here := netip.AddrPortFrom(local.AddrPort().Addr().Unmap(), uint16(local.Port))
	s, ok := c.(syscall.Conn)
	if !ok {
		return netip.AddrPort{}, false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, false
	}
	var asked netip.AddrPort
	if err := raw.Control(func(fd uintptr) { asked, err = originalDestination(int(fd), here.Addr().Is4()) }); err != nil {
		return netip.AddrPort{}, false
	}
	return asked, err == nil && asked != here
}

// originalDestination asks conntrack. The two socket options have the number and
// shape of others that package unix can read.
func originalDestination(fd int, v4 bool) (netip.AddrPort, error) {
	const soOriginalDst = 80 // of SOL_IP and of SOL_IPV6
	if v4 {
		sa, err := unix.GetsockoptIPv6Mreq(fd, unix.IPPROTO_IP, soOriginalDst)
		if err != nil {
			return netip.AddrPort{}, err
		}
		b := sa.Multiaddr // struct sockaddr_in: family, port, address
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), binary.BigEndian.Uint16(b[2:4])), nil
	}
	sa, err := unix.GetsockoptIPv6MTUInfo(fd, unix.IPPROTO_IPV6, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, err
	}
	port := binary.BigEndian.Uint16(binary.NativeEndian.AppendUint16(nil, sa.Addr.Port))
	return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr.Addr), port), nil
}

func protocol(p byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{p}},
	}
}

func toPort(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
	}
}

func toPrefix(p netip.Prefix) []expr.Any {
	family, offset := byte(unix.NFPROTO_IPV4), uint32(16)
	if p.Addr().Is6() {
		family, offset = unix.NFPROTO_IPV6, 24
	}
	network := p.Masked().Addr().AsSlice()
	size := uint32(len(network))
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: net.CIDRMask(p.Bits(), int(size)*8), Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: network},
	}
}

func redirectTo(port uint16) []expr.Any {
	return []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(port)},
		&expr.Redir{RegisterProtoMin: 1},
	}
}
