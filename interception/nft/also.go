package nft

import (
	"fmt"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// maxAlso is how many addresses with a port a set takes, as many as the map of the hooks.
const maxAlso = 8192

// What a rule does with a set (enum nft_dynset_ops).
const (
	dynsetAdd    = 0
	dynsetDelete = 2
)

// alsoSet holds addresses of a family, each with a port, of which a pod's sidecar has said that
// TCP connections there are to come to it.
type alsoSet struct {
	set    *nftables.Set
	family byte
	// Of the destination address in the header of its family, in bytes.
	offset, size uint32
}

// alsoCaptured adds an empty set for each family.
func alsoCaptured(c *nftables.Conn, table *nftables.Table) ([]alsoSet, error) {
	all := []alsoSet{
		{set: &nftables.Set{Name: "also4", KeyType: nftables.MustConcatSetType(nftables.TypeIPAddr, nftables.TypeInetService)}, family: unix.NFPROTO_IPV4, offset: 16, size: 4},
		{set: &nftables.Set{Name: "also6", KeyType: nftables.MustConcatSetType(nftables.TypeIP6Addr, nftables.TypeInetService)}, family: unix.NFPROTO_IPV6, offset: 24, size: 16},
	}
	for _, s := range all {
		s.set.Table, s.set.Concatenation, s.set.Dynamic, s.set.Size = table, true, true, maxAlso
		if err := c.AddSet(s.set, nil); err != nil {
			return nil, fmt.Errorf("add set %s: %w", s.set.Name, err)
		}
	}
	return all, nil
}

// load puts the address and the port that a packet goes to side by side into registers, in
// fields of four bytes, as a set compares them.
func (s alsoSet) load() []expr.Any {
	const words = 8 // the number of the first register of four bytes, where register 1 begins
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{s.family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: s.offset, Len: s.size},
		&expr.Payload{DestRegister: words + s.size/4, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
	}
}

// has and change are about what load has loaded.
func (s alsoSet) has() []expr.Any {
	return []expr.Any{&expr.Lookup{SourceRegister: 1, SetName: s.set.Name, SetID: s.set.ID}}
}

func (s alsoSet) change(operation uint32) []expr.Any {
	return []expr.Any{&expr.Dynset{SrcRegKey: 1, SetName: s.set.Name, SetID: s.set.ID, Operation: operation}}
}
