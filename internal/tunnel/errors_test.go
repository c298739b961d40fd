package tunnel

import (
	"testing"

	"github.com/quic-go/quic-go"
)

func TestAPlannedLeaveIsNoWarning(t *testing.T) {
	for name, c := range map[string]struct {
		err   error
		leave bool
	}{
		"it leaves":                  {&quic.ApplicationError{Remote: true, ErrorCode: quic.ApplicationErrorCode(codeLeaving)}, true},
		"its streams have ended":     {&quic.ApplicationError{Remote: true, ErrorCode: quic.ApplicationErrorCode(codeBye)}, true},
		"it stops and takes nothing": {&quic.TransportError{Remote: true, ErrorCode: quic.ConnectionRefused}, true},
		"we leave":                   {&quic.ApplicationError{ErrorCode: quic.ApplicationErrorCode(codeLeaving)}, false},
		"it does not trust us":       {&quic.ApplicationError{Remote: true, ErrorCode: quic.ApplicationErrorCode(codeUntrusted)}, false},
		"it is silent":               {&quic.IdleTimeoutError{}, false},
	} {
		if why, label := connError(c.err); saidGoodbye(why, label) != c.leave {
			t.Errorf("%s: %v is a goodbye: %v", name, why, !c.leave)
		}
	}
}
