package tunnel

import (
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/integration/harness"
)

// namespace is a network namespace with nothing but a loopback interface. do runs
// a function on its thread.
type namespace struct{ do func(func() error) error }

// newNamespace makes one, or skips the test for want of the privilege.
func newNamespace(t *testing.T) namespace {
	t.Helper()
	if os.Geteuid() != 0 {
		harness.Lacking(t, "needs root for a network namespace")
	}
	work, done := make(chan func() error), make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		for f := range work {
			done <- f()
		}
	}()
	t.Cleanup(func() { close(work) })
	ns := namespace{do: func(f func() error) error { work <- f; return <-done }}
	if err := ns.do(func() error { return unix.Unshare(unix.CLONE_NEWNET) }); err != nil {
		harness.Lacking(t, "no network namespace: "+err.Error())
	}
	return ns
}

// loopback brings the loopback interface up with an MTU.
func (ns namespace) loopback(t *testing.T, mtu uint32) {
	t.Helper()
	err := ns.do(func() error {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd) //nolint:errcheck // nothing was written
		ifr, err := unix.NewIfreq("lo")
		if err != nil {
			return err
		}
		ifr.SetUint32(mtu)
		if err := unix.IoctlIfreq(fd, unix.SIOCSIFMTU, ifr); err != nil {
			return err
		}
		ifr.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
		return unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, ifr)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// listen is [ListenUDP] within the namespace.
func (ns namespace) listen(addr string) func() (net.PacketConn, error) {
	return func() (conn net.PacketConn, err error) {
		err = ns.do(func() error {
			conn, err = ListenUDP(addr)()
			return err
		})
		return conn, err
	}
}

// TestALowerMTUOfTheInterfaceRenewsTheTunnel runs on the kernel's own interface. How soon
// it must be is what tests in virtual time say; here nothing waits longer than a minute.
func TestALowerMTUOfTheInterfaceRenewsTheTunnel(t *testing.T) {
	for name, disable := range map[string]string{"with GSO": "", "without GSO": "true"} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("QUIC_GO_DISABLE_GSO", disable)
			ns := newNamespace(t)
			ns.loopback(t, 1500)
			w := newWorld(t, nil)
			inside := func(c *Config) {
				c.Listen, c.ListenPacket = ns.listen("127.0.0.1:0"), ns.listen("127.0.0.1:0")
			}
			east, west := w.start("east/e1", "", inside), w.start("west/w1", "", inside)
			west.echoes(t)
			east.dials(west)
			east.await(t, west.id, "connected", connections(defaultConnections))
			until := func(what string, ok func() bool) {
				t.Helper()
				for began := time.Now(); !ok(); time.Sleep(10 * time.Millisecond) {
					if time.Since(began) > time.Minute {
						t.Fatalf("never %s: %+v, %+v", what, east.peer(west.id), west.peer(east.id))
					}
				}
			}
			passes := func() bool { return east.try(west.id, 100_000) == nil }
			until("large packets", func() bool { return passes() && east.peer(west.id).PacketSize >= 1400 })
			ns.loopback(t, 1300)
			lowered := time.Now()
			until("requests that pass again", passes)
			t.Logf("requests pass again after %v: %+v", time.Since(lowered), east.peer(west.id))
			until("a word of a reduced MTU", func() bool { return east.peer(west.id).MTUReduced || west.peer(east.id).MTUReduced })
		})
	}
}
