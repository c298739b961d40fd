package nft

import (
	"net/netip"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// MaxExcluded is how many ports and how many addresses the table of a pod lets pass: each
// is a rule that every new connection to the pod is compared with.
const MaxExcluded = 64

// Pod is what the table of a pod redirects. All of the pod's processes are meant, but
// the sidecar's.
type Pod struct {
	UID      uint32 // of the sidecar, whose own connections go their way
	Captured []netip.Prefix
	// OutboundPort and DNSPort are where the sidecar takes what the programs send, on the
	// loopback addresses, and InboundPort where it takes their callers.
	OutboundPort, DNSPort, InboundPort uint16
	Excluded                           []uint16     // ports whose callers pass, such as the sidecar's own
	Nodes                              []netip.Addr // callers that pass: the node, where its kubelet asks the programs and not the sidecar
}

// podTable is what the table of a pod is called, behind the prefix. There is one in a
// network namespace.
const podTable = "pod"

// RedirectPod puts the table into the network namespace of the caller, or replaces it
// whole, in one transaction.
//
//	table inet isthmus-pod {
//		set also4 { type ipv4_addr . inet_service; flags dynamic }
//		chain told { type filter hook output
//			meta skuid 15000 udp sport 15001 add @also4 { ip daddr . udp dport } drop
//			meta skuid 15000 udp sport 15006 delete @also4 { ip daddr . udp dport } drop
//		}
//		chain output { type nat hook output
//			ip daddr 240.66.0.0/16 tcp dport 15001 redirect to :15001   # the sidecar's test
//			meta skuid 15000 return
//			…as of a program
//			ip daddr . tcp dport @also4 redirect to :15001
//		}
//		chain prerouting { type nat hook prerouting
//			iif lo return
//			ip saddr 10.42.0.1 return
//			tcp dport 15008 return
//			meta l4proto tcp redirect to :15006
//		}
//	}
//
// What the sidecar says of further addresses is as in package bpf's capture.h.
func RedirectPod(cfg Pod) error {
	c, err := open()
	if err != nil {
		return err
	}
	table := tableOf(podTable)
	c.AddTable(table)
	c.DelTable(table)
	c.AddTable(table)
	also, err := alsoCaptured(c, table)
	if err != nil {
		return err
	}
	add := adder(c, c.AddChain(&nftables.Chain{
		Name: "told", Table: table, Type: nftables.ChainTypeFilter, Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFilter,
	}))
	for _, s := range also {
		for _, says := range []struct {
			from      uint16
			operation uint32
		}{{cfg.OutboundPort, dynsetAdd}, {cfg.InboundPort, dynsetDelete}} {
			add(byUser(cfg.UID), protocol(unix.IPPROTO_UDP), fromPort(says.from), s.load(), s.change(says.operation), verdict(expr.VerdictDrop))
		}
	}
	chain := func(name string, hook *nftables.ChainHook) *nftables.Chain {
		return c.AddChain(&nftables.Chain{Name: name, Table: table, Type: nftables.ChainTypeNAT, Hooknum: hook, Priority: nftables.ChainPriorityNATDest})
	}
	add = adder(c, chain("output", nftables.ChainHookOutput))
	for _, p := range cfg.Captured {
		add(toPrefix(p), protocol(unix.IPPROTO_TCP), toPort(cfg.OutboundPort), redirectTo(cfg.OutboundPort))
	}
	add(byUser(cfg.UID), verdict(expr.VerdictReturn))
	outbound(add, cfg.Captured, cfg.OutboundPort, cfg.DNSPort)
	for _, s := range also {
		add(protocol(unix.IPPROTO_TCP), s.load(), s.has(), redirectTo(cfg.OutboundPort))
	}

	add = adder(c, chain("prerouting", nftables.ChainHookPrerouting))
	add(fromLoopback(), verdict(expr.VerdictReturn))
	for _, a := range cfg.Nodes {
		add(from(a.Unmap()), verdict(expr.VerdictReturn))
	}
	for _, port := range cfg.Excluded {
		add(protocol(unix.IPPROTO_TCP), toPort(port), verdict(expr.VerdictReturn))
	}
	add(protocol(unix.IPPROTO_TCP), redirectTo(cfg.InboundPort))
	return flush(c)
}
