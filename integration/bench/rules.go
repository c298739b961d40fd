package main

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// addRules gives a network namespace n rules of somebody else, as kube-proxy has
// them: a chain that the first packet of every connection walks, rule by rule,
// before it comes to ours.
//
//	table ip others {
//		chain output { type nat hook output priority dstnat - 1; jump services }
//		chain services { ip daddr 10.96.0.1 tcp dport 80 jump service; … }
//		chain service { }
//	}
func addRules(netns *os.File, n int) error {
	c, err := nftables.New(nftables.WithNetNSFd(int(netns.Fd())))
	if err != nil {
		return fmt.Errorf("open netlink: %w", err)
	}
	table := c.AddTable(&nftables.Table{Name: "others", Family: nftables.TableFamilyIPv4})
	service := c.AddChain(&nftables.Chain{Name: "service", Table: table})
	services := c.AddChain(&nftables.Chain{Name: "services", Table: table})
	before := *nftables.ChainPriorityNATDest - 1
	output := c.AddChain(&nftables.Chain{
		Name: "output", Table: table, Type: nftables.ChainTypeNAT,
		Hooknum: nftables.ChainHookOutput, Priority: &before,
	})
	jump := func(to *nftables.Chain) expr.Any { return &expr.Verdict{Kind: expr.VerdictJump, Chain: to.Name} }
	c.AddRule(&nftables.Rule{Table: table, Chain: output, Exprs: []expr.Any{jump(services)}})
	address := netip.AddrFrom4([4]byte{10, 96, 0, 0})
	for i := range n {
		address = address.Next()
		c.AddRule(&nftables.Rule{Table: table, Chain: services, Exprs: []expr.Any{
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: 16, Len: 4},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: address.AsSlice()},
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
			&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(80)},
			jump(service),
		}})
		if i%rulesPerBatch == 0 || i == n-1 {
			if err := c.Flush(); err != nil {
				return fmt.Errorf("add %d rules to nftables: %w", n, err)
			}
		}
	}
	return nil
}

// rulesPerBatch have echoes that fit into the buffer of a netlink socket.
const rulesPerBatch = 50
