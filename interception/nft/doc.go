// Package nft redirects a program's connections and DNS questions to its sidecar by one
// nftables table, where eBPF cannot be had.
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
//
// It needs root (or CAP_NET_ADMIN) to make and to remove the table. While it is there,
// every connection of the network namespace has a conntrack entry. The captured
// addresses must be routable (a default route is enough), since the kernel routes
// before it redirects. It cannot tell whether a sidecar is there: what it redirects to
// nobody is refused. Inbound connections are not redirected. A socket that is bound to a
// device (SO_BINDTODEVICE) waits until its connect times out: no rule can see that it is.
package nft
