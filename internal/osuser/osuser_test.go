package osuser

import (
	"errors"
	"net"
	"os"
	"runtime"
	"strconv"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/integration/harness"
)

func TestAUserIsFoundByNameAndByNumber(t *testing.T) {
	for _, name := range []string{"root", "0"} {
		u, err := Lookup(name)
		if err != nil || u.UID != 0 || u.GID != 0 || u.Name != "root" || u.Home == "" {
			t.Errorf("%s: %+v, %v", name, u, err)
		}
	}
	if u, err := Lookup("nobody-of-that-name"); err == nil {
		t.Errorf("got %+v of nobody", u)
	}
}

// connected returns both ends of a connection to a listener.
func connected(t *testing.T, network, address string, dial func(port int) (net.Conn, error)) (server, client net.Conn) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	client, err = dial(l.Addr().(*net.TCPAddr).Port) // it waits in the queue
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = client.Close() })
	server, err = l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = server.Close() })
	return server, client
}

func TestTheUserBehindAConnectionIsWhoOpenedIt(t *testing.T) {
	for name, way := range map[string][3]string{
		"v4": {"tcp4", "127.0.0.1:0", "127.0.0.1"}, "v6": {"tcp6", "[::1]:0", "::1"}, "v4 at a dual listener": {"tcp", ":0", "127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := connected(t, way[0], way[1], func(port int) (net.Conn, error) {
				return net.Dial("tcp", net.JoinHostPort(way[2], strconv.Itoa(port)))
			})
			if uid, err := Peer(c); err != nil || int(uid) != os.Getuid() {
				t.Errorf("%d, %v; want %d", uid, err, os.Getuid())
			}
		})
	}
}

func TestTheUserBehindAConnectionIsNotWhoAsks(t *testing.T) {
	if os.Getuid() != 0 {
		harness.Lacking(t, "root, to open a socket as another user")
	}
	const nobody = 65534
	mapped := [16]byte{10: 0xff, 11: 0xff, 12: 127, 15: 1}
	for name, to := range map[string]func(port int) (family int, at unix.Sockaddr){
		"v4": func(port int) (int, unix.Sockaddr) {
			return unix.AF_INET, &unix.SockaddrInet4{Port: port, Addr: [4]byte{127, 0, 0, 1}}
		},
		"v4 by a v6 socket": func(port int) (int, unix.Sockaddr) {
			return unix.AF_INET6, &unix.SockaddrInet6{Port: port, Addr: mapped}
		},
	} {
		t.Run(name, func(t *testing.T) {
			c, _ := connected(t, "tcp4", "127.0.0.1:0", func(port int) (net.Conn, error) {
				family, at := to(port)
				fd, err := socketAs(nobody, family)
				if err != nil {
					return nil, err
				}
				if err := unix.Connect(fd, at); err != nil {
					return nil, err
				}
				f := os.NewFile(uintptr(fd), "client")
				defer f.Close()
				return net.FileConn(f)
			})
			if uid, err := Peer(c); err != nil || uid != nobody {
				t.Errorf("%d, %v; want %d", uid, err, nobody)
			}
		})
	}
}

// socketAs opens a TCP socket that belongs to a user.
func socketAs(uid, family int) (fd int, err error) {
	runtime.LockOSThread() // the file system's user is the thread's
	defer runtime.UnlockOSThread()
	if _, err := unix.SetfsuidRetUid(uid); err != nil {
		return 0, err
	}
	defer func() {
		_, back := unix.SetfsuidRetUid(0)
		err = errors.Join(err, back)
	}()
	return unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
}

func TestACallerOfAnotherHostHasNoUserHere(t *testing.T) {
	c, _ := connected(t, "tcp4", "127.0.0.1:0", func(port int) (net.Conn, error) {
		return net.Dial("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
	})
	if _, err := Peer(elsewhere{c}); err == nil {
		t.Error("a user was found behind an address of another host")
	}
}

// elsewhere is a connection that claims to come from another host.
type elsewhere struct{ net.Conn }

func (elsewhere) RemoteAddr() net.Addr { return &net.TCPAddr{IP: net.IPv4(192, 0, 2, 7), Port: 4711} }
