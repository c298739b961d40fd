package http2

import "encoding/binary"

// Identifiers of settings, RFC 9113 §6.5.2 and RFC 8441 §3.
const (
	settingTableSize       = 0x1
	settingEnablePush      = 0x2
	settingMaxStreams      = 0x3
	settingInitialWindow   = 0x4
	settingMaxFrame        = 0x5
	settingMaxHeadSize     = 0x6
	settingExtendedConnect = 0x8
)

// peerSettings are what the peer allows us.
type peerSettings struct {
	maxStreams      uint32
	initialWindow   uint32
	maxFrame        uint32
	maxHeadSize     uint32
	extendedConnect bool
}

func defaultPeerSettings() peerSettings {
	return peerSettings{maxStreams: 1<<32 - 1, initialWindow: defaultWindow, maxFrame: MaxFrame, maxHeadSize: 1<<32 - 1}
}

func (c *Conn) appendSettings(out []byte) []byte {
	at := len(out)
	out = appendFrameHeader(out, 0, frameSettings, 0, 0)
	if c.server {
		out = appendSetting(out, settingMaxStreams, c.settings.MaxStreams)
		if c.settings.ExtendedConnect {
			out = appendSetting(out, settingExtendedConnect, 1)
		}
	} else {
		out = appendSetting(out, settingEnablePush, 0)
	}
	out = appendSetting(out, settingInitialWindow, c.settings.StreamWindow)
	out = appendSetting(out, settingMaxHeadSize, MaxHeadSize)
	putFrameLength(out[at:], len(out)-at-frameHeaderSize)
	c.unacked++
	return out
}

func appendSetting(out []byte, id uint16, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(out, id), value)
}

func (c *Conn) receiveSettings(h frameHeader, p []byte, ev *Event) error {
	switch {
	case h.stream != 0:
		return ErrNotStreamZero
	case h.has(flagAck) && len(p) > 0, len(p)%6 != 0:
		return ErrFrameLength
	case h.has(flagAck):
		if c.unacked == 0 {
			return ErrSettingsAck
		}
		c.unacked--
		ev.Kind = KindSettingsAck
		return nil
	}
	for ; len(p) > 0; p = p[6:] {
		if err := c.apply(binary.BigEndian.Uint16(p), be32(p[2:])); err != nil {
			return err
		}
	}
	ev.Kind = KindSettings
	c.pending = appendFrameHeader(c.pending, 0, frameSettings, flagAck, 0)
	return c.budgets.spend(settings)
}

// apply takes in one setting; those that we do not know are ignored.
func (c *Conn) apply(id uint16, v uint32) error {
	switch id {
	case settingTableSize:
		c.encoder.limit(v)
	case settingEnablePush:
		if v > 1 || v == 1 && !c.server {
			return ErrSettings
		}
	case settingMaxStreams:
		c.peer.maxStreams = v
	case settingInitialWindow:
		if v > maxWindow {
			return ErrInitialWindow
		}
		change := int64(v) - int64(c.peer.initialWindow)
		c.peer.initialWindow = v
		return c.shiftWindows(change)
	case settingMaxFrame:
		if v < 1<<14 || v > 1<<24-1 {
			return ErrSettings
		}
		c.peer.maxFrame = v
	case settingMaxHeadSize:
		c.peer.maxHeadSize = v
	case settingExtendedConnect:
		if v > 1 || v == 0 && c.peer.extendedConnect {
			return ErrSettings
		}
		c.peer.extendedConnect = v == 1
	}
	return nil
}

// PeerMaxStreams returns how many streams the peer allows us to have open.
func (c *Conn) PeerMaxStreams() int { return int(min(c.peer.maxStreams, maxStreamID)) }

// PeerMaxHeadSize returns what the peer takes of a head, as MaxHeadSize counts it: some end
// their connection with a larger one, and all streams with it.
func (c *Conn) PeerMaxHeadSize() int { return int(min(c.peer.maxHeadSize, maxWindow)) }

// PeerExtendedConnect reports whether the peer, a server, takes extended CONNECT.
func (c *Conn) PeerExtendedConnect() bool { return c.peer.extendedConnect }

func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
