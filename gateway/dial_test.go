package gateway

import (
	"net"
	"strings"
	"testing"
)

func TestAGatewayWithAnAPIServerCallsNothingOnItsOwnHostWhateverNameLeadsThere(t *testing.T) {
	admin, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	_, port, _ := net.SplitHostPort(admin.Addr().String())
	dial := (&Gateway{kubernetes: &kubernetes{}}).dial()
	for _, host := range []string{"localhost", "127.0.0.1", "0.0.0.0", "::ffff:127.0.0.1", "169.254.169.254"} {
		c, err := dial(t.Context(), "tcp", net.JoinHostPort(host, port))
		if err == nil {
			_ = c.Close()
			t.Errorf("%s is called", host)
		} else if !strings.Contains(err.Error(), "own host or link") {
			t.Errorf("%s: %v", host, err)
		}
	}
	if (&Gateway{}).dial() != nil {
		t.Error("files are the operator's: what they name is called")
	}
}
