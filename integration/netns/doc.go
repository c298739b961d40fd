// Package netns runs the built binary on hosts of its own: each is a network
// namespace on a cable, so that every process has its production ports, three
// clusters share nothing but the gateways' network, and what leaves a host can be
// counted on the wire. The kernel's hooks are real, and both ends are programs that
// nobody here wrote and nobody configured: curl, psql, Java on one, nginx,
// PostgreSQL, Redis on the other.
//
//	         wan 10.9.0.0/24
//	   ┌────────────┼─────────────┐
//	east-gw      west-gw       north-gw
//	   │            │             │
//	10.1.0.0/24  10.2.0.0/24   10.3.0.0/24
//	 web, …       orders        db
//	 outside      cache         health, chat
//
// A workload of one cluster has no other way to another than its gateway. In east
// the default route leads to the host "outside", which owns the mesh's virtual
// addresses and answers there: what should have been captured and was not arrives.
//
// It takes root, cgroup v2 and eBPF; without them the tests are skipped, in
// continuous integration they fail.
package netns
