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

// Settings are what one end is made with. The zero value is what a sidecar wants.
type Settings struct {
	// MaxStreams bounds the streams that the peer may have open; 0: DefaultMaxStreams.
	// A client refuses pushed streams whatever it says.
	MaxStreams uint32
	// StreamWindow is how many bytes of a stream may be unread in the beginning; 0:
	// DefaultStreamWindow. Less than 65,535 cannot be had: a peer sends as much before it knows.
	StreamWindow uint32
	// ExtendedConnect offers RFC 8441, in a server.
	ExtendedConnect bool
}

// withDefaults returns the settings with those that were not given.
func (s Settings) withDefaults() Settings {
	if s.MaxStreams == 0 {
		s.MaxStreams = DefaultMaxStreams
	}
	if s.StreamWindow == 0 {
		s.StreamWindow = DefaultStreamWindow
	}
	s.StreamWindow = min(max(s.StreamWindow, defaultWindow), maxWindow)
	return s
}

// appendFrame appends the SETTINGS frame that tells the peer.
func (s *Settings) appendFrame(out []byte, server bool) []byte {
	at := len(out)
	out = appendFrameHeader(out, 0, frameSettings, 0, 0)
	if server {
		out = appendSetting(out, settingMaxStreams, s.MaxStreams)
		if s.ExtendedConnect {
			out = appendSetting(out, settingExtendedConnect, 1)
		}
	} else {
		out = appendSetting(out, settingEnablePush, 0)
	}
	out = appendSetting(out, settingInitialWindow, s.StreamWindow)
	out = appendSetting(out, settingMaxHeadSize, MaxHeadSize)
	putFrameLength(out[at:], len(out)-at-frameHeaderSize)
	return out
}

func appendSetting(out []byte, id uint16, value uint32) []byte {
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint16(out, id), value)
}

// PeerSettings are what the peer allows us: the protocol's defaults until its SETTINGS are here.
type PeerSettings struct {
	maxStreams      uint32
	initialWindow   uint32
	maxFrame        uint32
	maxHeadSize     uint32
	extendedConnect bool
}

func defaultPeerSettings() PeerSettings {
	return PeerSettings{maxStreams: 1<<32 - 1, initialWindow: defaultWindow, maxFrame: MaxFrame, maxHeadSize: 1<<32 - 1}
}

// apply takes in one setting, which fromClient says who sent; those that we do not know, or
// that bound nothing here, are ignored.
func (p *PeerSettings) apply(id uint16, v uint32, fromClient bool) error {
	switch id {
	case settingEnablePush:
		if v > 1 || v == 1 && !fromClient {
			return ErrSettings
		}
	case settingMaxStreams:
		p.maxStreams = v
	case settingInitialWindow:
		if v > maxWindow {
			return ErrInitialWindow
		}
		p.initialWindow = v
	case settingMaxFrame:
		if v < 1<<14 || v > 1<<24-1 {
			return ErrSettings
		}
		p.maxFrame = v
	case settingMaxHeadSize:
		p.maxHeadSize = v
	case settingExtendedConnect:
		if v > 1 || v == 0 && p.extendedConnect {
			return ErrSettings
		}
		p.extendedConnect = v == 1
	}
	return nil
}

// MaxStreams returns how many streams the peer allows us to have open.
func (p *PeerSettings) MaxStreams() int { return int(min(p.maxStreams, maxStreamID)) }

// MaxHeadSize returns what the peer takes of a head, as MaxHeadSize counts it: some end
// their connection with a larger one, and all streams with it.
func (p *PeerSettings) MaxHeadSize() int { return int(min(p.maxHeadSize, maxWindow)) }

// ExtendedConnect reports whether the peer, a server, takes extended CONNECT.
func (p *PeerSettings) ExtendedConnect() bool { return p.extendedConnect }

func be32(b []byte) uint32 { return binary.BigEndian.Uint32(b) }
