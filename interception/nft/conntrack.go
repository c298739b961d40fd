package nft

import (
	"encoding/binary"
	"net/netip"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// conntrackTimeout bounds a look into conntrack, which takes microseconds.
const conntrackTimeout = time.Second

// Attributes of ctnetlink (linux/netfilter/nfnetlink_conntrack.h).
const (
	ctaTupleOrig  = 1
	ctaTupleReply = 2
	ctaTupleIP    = 1
	ctaTupleProto = 2
	ctaIPv4Src    = 1
	ctaIPv4Dst    = 2
	ctaIPv6Src    = 3
	ctaIPv6Dst    = 4
	ctaProtoNum   = 1
	ctaProtoSrc   = 2
	ctaProtoDst   = 3
)

// OriginalServer returns where the program sent a datagram that the sidecar received at
// its address at, from the address from; false if it was not redirected. Like the table,
// it takes CAP_NET_ADMIN. SO_ORIGINAL_DST is for connections only, so conntrack is asked
// for the flow whose answers go from at to from.
func OriginalServer(at, from netip.AddrPort) (netip.AddrPort, bool) {
	at, from = unmapped(at), unmapped(from)
	family := byte(unix.AF_INET)
	if at.Addr().Is6() {
		family = unix.AF_INET6
	}
	c, err := netlink.Dial(unix.NETLINK_NETFILTER, nil)
	if err != nil {
		return netip.AddrPort{}, false
	}
	defer func() { _ = c.Close() }()
	if c.SetDeadline(time.Now().Add(conntrackTimeout)) != nil {
		return netip.AddrPort{}, false
	}
	attributes := netlink.NewAttributeEncoder()
	attributes.Nested(ctaTupleReply, func(e *netlink.AttributeEncoder) error { encodeUDP(e, at, from); return nil })
	tuple, err := attributes.Encode()
	if err != nil {
		return netip.AddrPort{}, false
	}
	// The answer says that more follows, which is never so: its acknowledgement ends it.
	answers, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.NFNL_SUBSYS_CTNETLINK<<8 | 1, Flags: netlink.Request | netlink.Acknowledge}, // IPCTNL_MSG_CT_GET
		Data:   append([]byte{family, unix.NFNETLINK_V0, 0, 0}, tuple...),
	})
	if err != nil || len(answers) == 0 || len(answers[0].Data) < 4 {
		return netip.AddrPort{}, false
	}
	to, ok := originalOf(answers[0].Data[4:])
	return to, ok && to != at
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// encodeUDP writes a tuple.
func encodeUDP(e *netlink.AttributeEncoder, from, to netip.AddrPort) {
	e.Nested(ctaTupleIP, func(e *netlink.AttributeEncoder) error {
		src, dst := uint16(ctaIPv4Src), uint16(ctaIPv4Dst)
		if from.Addr().Is6() {
			src, dst = ctaIPv6Src, ctaIPv6Dst
		}
		e.Bytes(src, from.Addr().AsSlice())
		e.Bytes(dst, to.Addr().AsSlice())
		return nil
	})
	e.Nested(ctaTupleProto, func(e *netlink.AttributeEncoder) error {
		e.Uint8(ctaProtoNum, unix.IPPROTO_UDP)
		e.Bytes(ctaProtoSrc, binary.BigEndian.AppendUint16(nil, from.Port()))
		e.Bytes(ctaProtoDst, binary.BigEndian.AppendUint16(nil, to.Port()))
		return nil
	})
}

// originalOf reads the destination of the original direction.
func originalOf(attributes []byte) (netip.AddrPort, bool) {
	var ip netip.Addr
	var port uint16
	d, err := netlink.NewAttributeDecoder(attributes)
	if err != nil {
		return netip.AddrPort{}, false
	}
	for d.Next() {
		if d.Type() != ctaTupleOrig {
			continue
		}
		d.Nested(func(d *netlink.AttributeDecoder) error {
			for d.Next() {
				part := d.Type()
				d.Nested(func(d *netlink.AttributeDecoder) error {
					for d.Next() {
						switch b := d.Bytes(); {
						case part == ctaTupleIP && (d.Type() == ctaIPv4Dst || d.Type() == ctaIPv6Dst):
							ip, _ = netip.AddrFromSlice(b)
						case part == ctaTupleProto && d.Type() == ctaProtoDst && len(b) == 2:
							port = binary.BigEndian.Uint16(b)
						}
					}
					return d.Err()
				})
			}
			return d.Err()
		})
	}
	return netip.AddrPortFrom(ip, port), d.Err() == nil && ip.IsValid()
}
