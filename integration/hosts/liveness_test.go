package hosts

import (
	"errors"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/internal/liveness"
)

// listening makes a host that listens, and returns where.
func listening(t *testing.T, name string, lan Network, number int) net.Listener {
	t.Helper()
	_, err := New(name, lan, number)
	must(t, err)
	t.Cleanup(func() { must(t, IP("", "netns delete "+Namespace(name))) })
	var l net.Listener
	must(t, Within(name, func() (err error) {
		l, err = net.Listen("tcp", net.JoinHostPort(lan.V4(number), "80"))
		return err
	}))
	t.Cleanup(func() { _ = l.Close() })
	return l
}

// connect returns a connection from a host; its other end is read by nobody.
func connect(t *testing.T, from string, to net.Listener) net.Conn {
	t.Helper()
	var near net.Conn
	must(t, Within(from, func() (err error) {
		near, err = net.DialTimeout("tcp", to.Addr().String(), harness.Limit)
		return err
	}))
	far, err := to.Accept()
	must(t, err)
	t.Cleanup(func() { _, _ = near.Close(), far.Close() })
	return near
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestAMachineThatIsGoneIsFoundByTheKernelAndASlowReaderIsNone(t *testing.T) {
	if os.Geteuid() != 0 {
		harness.Lacking(t, "network namespaces need root")
	}
	harness.Tool(t, "ip")
	lan := Network{Name: "lan", Number: 77}
	must(t, PlugSwitch(lan))
	t.Cleanup(func() { must(t, IP("", "netns delete "+Namespace(TheSwitch))) })
	listening(t, "near", lan, 1)
	slow, gone := listening(t, "slow", lan, 2), listening(t, "gone", lan, 3)

	unread := connect(t, "near", slow)
	_ = unread.SetWriteDeadline(time.Now().Add(time.Second))
	for b := make([]byte, 1<<20); ; {
		if _, err := unread.Write(b); err != nil { // its window is closed
			break
		}
	}
	idle, unacknowledged := connect(t, "near", gone), connect(t, "near", gone)
	liveness.KeepAlive(idle)
	must(t, IP(Namespace(TheSwitch), "link set gone down"))
	_, err := unacknowledged.Write([]byte("x"))
	must(t, err)
	must(t, harness.Eventually(func() error {
		if liveness.MachineGone(unread) {
			t.Fatal("a machine that acknowledges is taken for gone")
		}
		if !liveness.MachineGone(unacknowledged) {
			return errors.New("the machine is not taken for gone")
		}
		return nil
	}))
	_ = idle.SetReadDeadline(time.Now().Add(harness.Limit))
	if _, err := idle.Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) {
		t.Errorf("read from a machine that is gone gives %v, want a timeout of the kernel", err)
	}
}
