package connect

import (
	"errors"
	"net"
	"strings"
)

// Public returns the text of err for somebody who may not read the addresses inside
// the mesh: of what the kernel and the resolver say it leaves out where they said it.
// What our own code wrote into err is not looked at.
func Public(err error) string {
	text := err.Error()
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil {
		text = strings.ReplaceAll(text, op.Error(), Public(op.Err))
	}
	var lookup *net.DNSError
	if errors.As(err, &lookup) {
		text = strings.ReplaceAll(text, lookup.Error(), "lookup: "+lookup.Err)
	}
	var addr *net.AddrError
	if errors.As(err, &addr) {
		text = strings.ReplaceAll(text, addr.Error(), addr.Err)
	}
	return text
}
