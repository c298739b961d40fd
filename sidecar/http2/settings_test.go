package http2

import "testing"

func TestThePeersSettingsAreCheckedAndWhatIsUnknownIsIgnored(t *testing.T) {
	p := defaultPeerSettings()
	for _, s := range []struct {
		id         uint16
		value      uint32
		fromClient bool
		want       error
	}{
		{settingEnablePush, 1, true, nil},
		{settingEnablePush, 1, false, ErrSettings},
		{settingEnablePush, 2, true, ErrSettings},
		{settingInitialWindow, maxWindow, false, nil},
		{settingInitialWindow, maxWindow + 1, false, ErrInitialWindow},
		{settingMaxFrame, 1<<14 - 1, false, ErrSettings},
		{settingMaxFrame, 1 << 24, false, ErrSettings},
		{settingMaxFrame, 1<<24 - 1, false, nil},
		{settingExtendedConnect, 2, false, ErrSettings},
		{settingExtendedConnect, 1, false, nil},
		{settingExtendedConnect, 0, false, ErrSettings}, // RFC 8441 §3: not taken back
		{0x99, 1 << 31, false, nil},
	} {
		if err := p.apply(s.id, s.value, s.fromClient); err != s.want {
			t.Errorf("setting %#x %d: %v, want %v", s.id, s.value, err, s.want)
		}
	}
	if p.initialWindow != maxWindow || p.maxFrame != 1<<24-1 || !p.ExtendedConnect() || p.MaxStreams() != maxStreamID || p.MaxHeadSize() != maxWindow {
		t.Errorf("%+v", p)
	}
}

func TestAGOAWAYOfThePeerNeverNamesAHigherStream(t *testing.T) {
	g := goAway{peerLast: maxStreamID}
	for _, s := range [][2]uint32{{maxStreamID, maxStreamID}, {7, 7}, {9, 7}, {3, 3}} {
		if last := g.receive(s[0]); last != s[1] {
			t.Errorf("after %d: %d, want %d", s[0], last, s[1])
		}
	}
	if g.lastTaken(5) != 5 {
		t.Error("the last stream is not the last that came, before ours names one")
	}
	if g.end(5); g.lastTaken(9) != 5 {
		t.Error("a stream behind ours is taken")
	}
}
