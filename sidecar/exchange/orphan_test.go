package exchange

import (
	"io"
	"net"
	"testing"

	"github.com/isthmus-mesh/isthmus/integration/harness"
)

// pair returns both ends of a loopback connection.
func pair(t *testing.T, network, address string) (caller *net.TCPConn, accepted *Client) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		harness.Lacking(t, "no address of this family: "+err.Error())
	}
	defer l.Close()
	c, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(); _ = s.Close() })
	return c.(*net.TCPConn), &Client{Conn: s.(*net.TCPConn), Accepted: s}
}

func TestAClientThatSendsNoMoreIsThereUntilItCloses(t *testing.T) {
	for network, address := range map[string]string{"tcp4": "127.0.0.1:0", "tcp6": "[::1]:0"} {
		t.Run(network, func(t *testing.T) {
			caller, c := pair(t, network, address)
			if c.Gone() {
				t.Error("gone, and it has just come")
			}
			_ = caller.CloseWrite()
			if _, err := io.ReadAll(c.Conn); err != nil { // the FIN is here
				t.Fatal(err)
			}
			if c.Gone() {
				t.Error("gone after a half-close")
			}
			c.Peer = "spiffe://mesh.example/x" // a sidecar closes in whole only
			if !c.Gone() {
				t.Error("a sidecar that closed is there")
			}
			c.Peer = ""
			_ = caller.Close()
			if !c.Gone() {
				t.Error("there after it has closed")
			}
		})
	}
}

func TestAClientThatResetItsConnectionIsGone(t *testing.T) {
	for _, halfClosed := range []bool{false, true} {
		caller, c := pair(t, "tcp4", "127.0.0.1:0")
		if halfClosed {
			_ = caller.CloseWrite()
			_, _ = io.ReadAll(c.Conn)
		}
		_ = caller.SetLinger(0)
		_ = caller.Close()
		if !c.Gone() {
			t.Errorf("there after a reset (half-closed before: %v)", halfClosed)
		}
	}
}
