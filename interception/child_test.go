package interception

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The tests' programs and sidecars are this test binary again, told by its
// environment what to be.
const childEnv = "ISTHMUS_INTERCEPTION_CHILD"

func TestMain(m *testing.M) {
	if role := os.Getenv(childEnv); role != "" {
		roles := map[string]func([]string) error{
			"tcp": childTCP, "udp": childUDP, "load": childLoad, "hold": childHold, "serve": childServe, "self": childSelf, "talk": childTalk, "echo": childEcho, "early": childEarly, "bind": childBind, "connects": childConnects, "sidecar": childSidecar, "podsidecar": childPodSidecar, "podthief": childPodThief, "podtell": childPodTell,
			"probe": func([]string) error { fmt.Println(Probe().Err()); return nil },
		}
		if err := roles[role](os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(m.Run())
}

// seen is what a program sees of one exchange.
type seen struct {
	Peer   string // getpeername, or the sender of the datagram
	Answer string
	Err    string
}

func report(s seen, err error) error {
	if err != nil {
		s.Err = err.Error()
	}
	return json.NewEncoder(os.Stdout).Encode(s)
}

// sockaddr makes the address for a socket of the domain; IPv4 becomes
// IPv4-mapped on one of IPv6.
func sockaddr(a netip.AddrPort, domain int) unix.Sockaddr {
	if domain == unix.AF_INET {
		return &unix.SockaddrInet4{Port: int(a.Port()), Addr: a.Addr().As4()}
	}
	return &unix.SockaddrInet6{Port: int(a.Port()), Addr: a.Addr().As16()}
}

func addrOf(sa unix.Sockaddr) string {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String()
	case *unix.SockaddrInet6:
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr), uint16(sa.Port)).String()
	}
	return ""
}

func domainOf(s string) int {
	if s == "6" {
		return unix.AF_INET6
	}
	return unix.AF_INET
}

func patience(fd int) {
	for _, option := range []int{unix.SO_RCVTIMEO, unix.SO_SNDTIMEO} {
		_ = unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, option, &unix.Timeval{Sec: 5})
	}
}

// bindTo binds the socket to the device that way names after "device ".
func bindTo(fd int, way string) error {
	if device, ok := strings.CutPrefix(way, "device "); ok {
		return unix.BindToDevice(fd, device)
	}
	return nil
}

// childTCP connects by bare system calls: domain (4|6), address, way
// (multipath|fastopen|device NAME).
func childTCP(args []string) error {
	way, protocol := strings.Join(args[2:], ""), 0
	if way == "multipath" {
		protocol = unix.IPPROTO_MPTCP
	}
	fd, err := unix.Socket(domainOf(args[0]), unix.SOCK_STREAM, protocol)
	if err != nil {
		return err
	}
	patience(fd)
	if err := bindTo(fd, way); err != nil {
		return err
	}
	to := sockaddr(netip.MustParseAddrPort(args[1]), domainOf(args[0]))
	if way == "fastopen" {
		err = unix.Sendto(fd, []byte("first"), unix.MSG_FASTOPEN, to)
	} else {
		err = unix.Connect(fd, to)
	}
	if err != nil {
		return report(seen{}, err)
	}
	answer, err := io.ReadAll(os.NewFile(uintptr(fd), "socket"))
	if err != nil {
		return report(seen{}, err)
	}
	peer, err := unix.Getpeername(fd)
	return report(seen{Peer: addrOf(peer), Answer: string(answer)}, err)
}

// childUDP sends one datagram: domain (4|6), connected|unconnected, address, way
// (device NAME).
func childUDP(args []string) error {
	fd, err := unix.Socket(domainOf(args[0]), unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	patience(fd)
	if err := bindTo(fd, strings.Join(args[3:], "")); err != nil {
		return err
	}
	to := sockaddr(netip.MustParseAddrPort(args[2]), domainOf(args[0]))
	if args[1] == "connected" {
		if err := unix.Connect(fd, to); err != nil {
			return report(seen{}, err)
		}
		if _, err := unix.Write(fd, []byte("question")); err != nil {
			return report(seen{}, err)
		}
	} else if err := unix.Sendto(fd, []byte("question"), 0, to); err != nil {
		return report(seen{}, err)
	}
	b := make([]byte, 512)
	n, from, err := unix.Recvfrom(fd, b, 0)
	if err != nil {
		return report(seen{}, err)
	}
	return report(seen{Peer: addrOf(from), Answer: string(b[:n])}, nil)
}

// childLoad connects to the address again and again until its input ends, and
// prints what becomes of it, a line per change.
func childLoad(args []string) error {
	end := make(chan struct{})
	go func() { _, _ = io.Copy(io.Discard, os.Stdin); close(end) }()
	last := ""
	for {
		select {
		case <-end:
			return nil
		default:
		}
		state := "refused"
		if c, err := net.DialTimeout("tcp", args[0], 5*time.Second); err == nil {
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			b, _ := io.ReadAll(c)
			c.Close()
			state = string(b)
			if state == "" {
				continue // cut: the sidecar died with it
			}
		}
		if state != last {
			fmt.Println(state)
			last = state
		}
	}
}

// childHold connects to the address, tells its peer, and for each line of its
// input says it and tells the answer and its peer again.
func childHold(args []string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	patience(fd)
	if err := unix.Connect(fd, sockaddr(netip.MustParseAddrPort(args[0]), unix.AF_INET)); err != nil {
		return err
	}
	b := make([]byte, 512)
	for lines := bufio.NewScanner(os.Stdin); ; {
		peer, err := unix.Getpeername(fd)
		if err != nil {
			return err
		}
		fmt.Println(addrOf(peer))
		if !lines.Scan() {
			return nil
		}
		if _, err := unix.Write(fd, lines.Bytes()); err != nil {
			return err
		}
		n, err := unix.Read(fd, b)
		if err != nil {
			return err
		}
		fmt.Println(string(b[:n]))
	}
}

// childServe is a server that tells each client whom it sees: by accept(2), and by
// getpeername(2). Its argument is where it listens; it prints that first.
func childServe(args []string) error {
	l, err := listenTCP(args[0])
	if err != nil {
		return err
	}
	return serveEach(l, tellPeer)
}

// serveEach prints where l listens and serves every client.
func serveEach(l net.Listener, serve func(*net.TCPConn)) error {
	fmt.Println(l.Addr())
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go serve(c.(*net.TCPConn))
	}
}

func tellPeer(c *net.TCPConn) {
	defer c.Close()
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	_ = raw.Control(func(fd uintptr) {
		peer, err := unix.Getpeername(int(fd))
		fmt.Fprintf(c, "accepted %s, peer %s, %v", c.RemoteAddr(), netip.MustParseAddrPort(addrOf(peer)).Addr().Unmap(), err)
	})
}

// childSelf connects to a listener of its own, on the port that it is told.
func childSelf(args []string) error {
	l, err := listenTCP(args[0])
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("self"))
			c.Close()
		}
	}()
	c, err := net.Dial("tcp", args[0])
	if err != nil {
		return report(seen{}, err)
	}
	b, err := io.ReadAll(c)
	return report(seen{Peer: c.RemoteAddr().String(), Answer: string(b)}, err)
}

// childTalk makes connections beside each other, on which it says random messages and
// wants to hear them again: address, connections, messages on each, largest message,
// and "turns" (the next message after the answer), "stream" (all at once, reading
// beside) or "last" (all at once, reading when all is said); and a source address. It
// prints what is wrong.
func childEarly(args []string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	if err := unix.Sendto(fd, []byte("first, "), unix.MSG_FASTOPEN, sockaddr(netip.MustParseAddrPort(args[0]), unix.AF_INET)); err != nil {
		return err
	}
	fmt.Println("first")
	bufio.NewScanner(os.Stdin).Scan()
	if _, err := unix.Write(fd, []byte("second")); err != nil {
		return err
	}
	if err := unix.Shutdown(fd, unix.SHUT_WR); err != nil {
		return err
	}
	fmt.Println("second")
	_, err = unix.Read(fd, make([]byte, 1)) // until the other closes
	return err
}

// childBind tries to take an address that somebody uses.
func childBind(args []string) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err != nil {
		return err
	}
	for _, option := range []int{unix.SO_REUSEADDR, unix.SO_REUSEPORT} {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, option, 1); err != nil {
			return err
		}
	}
	return report(seen{}, unix.Bind(fd, sockaddr(netip.MustParseAddrPort(args[0]), unix.AF_INET)))
}

// childConnects connects to the address and closes so many times, and prints how
// long it took in nanoseconds.
func childConnects(args []string) error {
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	to := sockaddr(netip.MustParseAddrPort(args[0]), unix.AF_INET)
	start := time.Now()
	for range n {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		// A reset at close leaves no port waiting.
		if err := unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}); err != nil {
			return err
		}
		if err := unix.Connect(fd, to); err != nil {
			return err
		}
		if err := unix.Close(fd); err != nil {
			return err
		}
	}
	fmt.Println(time.Since(start).Nanoseconds())
	return nil
}

// childSidecar serves until its input ends: directory, name, outbound port.
func childSidecar(args []string) error {
	port, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	l, err := listenTCP(fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	i, err := Open(args[0], args[1])
	if err != nil {
		return err
	}
	if err := i.Serve(Sockets{Outbound: []net.Listener{l}}); err != nil {
		return err
	}
	fmt.Println("serving")
	go answerAsked(i, l)
	_, _ = io.Copy(io.Discard, os.Stdin)
	return nil
}

// answerAsked tells each client what it asked for.
func answerAsked(i *Handle, l net.Listener) { tellAsked(i.OriginalDestination, l) }

func tellAsked(original func(net.Conn) (netip.AddrPort, bool), l net.Listener) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if to, ok := original(c); ok {
			fmt.Fprintf(c, "asked %s", to)
		} else {
			fmt.Fprint(c, "not captured")
		}
		go func() {
			defer c.Close()
			_ = c.(*net.TCPConn).CloseWrite()
			_, _ = io.Copy(io.Discard, c) // what is unread at close would be a reset
		}()
	}
}

// await reads lines until one begins as told, and returns those before it.
func await(t *testing.T, r *bufio.Reader, prefix string) (before []string) {
	t.Helper()
	for {
		line := firstLine(t, r)
		if strings.HasPrefix(line, prefix) {
			return before
		}
		before = append(before, line)
	}
}

// firstLine reads one line of a child's output.
func firstLine(t *testing.T, r *bufio.Reader) string {
	t.Helper()
	line, err := r.ReadString('\n')
	if err != nil {
		t.Fatalf("child ended: %v", err)
	}
	return line[:len(line)-1]
}
