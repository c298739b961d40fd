package sidecar

import (
	"testing"

	"github.com/isthmus-mesh/isthmus/interception/sockmap"
	"github.com/isthmus-mesh/isthmus/internal/relay"
)

func TestARedirectedSocketIsNeverSpliced(t *testing.T) {
	if relay.Socket(&sockmap.Conn{}) != nil {
		t.Error("splice(2) on a redirected socket loses what sk_msg brings")
	}
}
