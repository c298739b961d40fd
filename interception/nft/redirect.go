package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// MaxCaptured is how many prefixes a table takes: each is two rules that every new
// connection of the program is compared with.
const MaxCaptured = 256

// Config is what a table redirects, and where to.
type Config struct {
	Name         string
	CgroupID     uint64 // of the program's cgroup
	CgroupLevel  int    // how many directories it is below the mount of cgroup v2
	Captured     []netip.Prefix
	OutboundPort uint16
	DNSPort      uint16 // 0: DNS is left alone
}

const prefix = "isthmus-"

func tableOf(name string) *nftables.Table {
	return &nftables.Table{Name: prefix + name, Family: nftables.TableFamilyINet}
}

// Redirect puts the table in place, or replaces it whole, in one transaction.
func Redirect(cfg Config) error {
	c, err := open()
	if err != nil {
		return err
	}
	table := tableOf(cfg.Name)
	c.AddTable(table)
	c.DelTable(table) // what an earlier one left
	c.AddTable(table)
	output := c.AddChain(&nftables.Chain{
		Name: "output", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityNATDest,
	})
	program := c.AddChain(&nftables.Chain{Name: "program", Table: table})
	c.AddRule(&nftables.Rule{Table: table, Chain: output, Exprs: []expr.Any{
		&expr.Socket{Key: expr.SocketKeyCgroupv2, Level: uint32(cfg.CgroupLevel), Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binary.NativeEndian.AppendUint64(nil, cfg.CgroupID)},
		&expr.Verdict{Kind: expr.VerdictJump, Chain: program.Name},
	}})
	outbound(adder(c, program), cfg.Captured, cfg.OutboundPort, cfg.DNSPort)
	return flush(c)
}

// adder returns what adds a rule of these parts to a chain.
func adder(c *nftables.Conn, chain *nftables.Chain) func(parts ...[]expr.Any) {
	return func(parts ...[]expr.Any) {
		c.AddRule(&nftables.Rule{Table: chain.Table, Chain: chain, Exprs: slices.Concat(parts...)})
	}
}

// outbound are the rules for what a program sends.
func outbound(add func(...[]expr.Any), captured []netip.Prefix, port, dnsPort uint16) {
	if dnsPort != 0 {
		add(protocol(unix.IPPROTO_UDP), toPort(53), redirectTo(dnsPort))
		add(protocol(unix.IPPROTO_TCP), toPort(53), redirectTo(dnsPort))
	}
	for _, p := range captured {
		add(toPrefix(p), protocol(unix.IPPROTO_TCP), redirectTo(port))
		add(toPrefix(p), protocol(unix.IPPROTO_UDP), verdict(expr.VerdictDrop))
	}
}

func open() (*nftables.Conn, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	return c, nil
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

// Remove removes the table of that name and reports whether there was one.
// Established connections go on.
func Remove(name string) (removed bool, err error) {
	names, err := Names()
	if err != nil || !slices.Contains(names, name) {
		return false, err
	}
	c, err := open()
	if err != nil {
		return false, err
	}
	c.DelTable(tableOf(name))
	if err := flush(c); err != nil {
		return false, fmt.Errorf("remove table %s%s: %w", prefix, name, err)
	}
	return true, nil
}

// Names lists the names that have a table. A kernel without nftables has none.
func Names() ([]string, error) {
	c, err := open()
	if err != nil {
		return nil, err
	}
	tables, err := c.ListTablesOfFamily(nftables.TableFamilyINet)
	if errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list nftables: %w", err)
	}
	var names []string
	for _, t := range tables {
		if name, ours := strings.CutPrefix(t.Name, prefix); ours {
			names = append(names, name)
		}
	}
	return names, nil
}
