package sidecar

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"

	"github.com/isthmus-mesh/isthmus/interception"
	"github.com/isthmus-mesh/isthmus/internal/admin"
	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/state"
	"github.com/isthmus-mesh/isthmus/sidecar/dns"
	"github.com/isthmus-mesh/isthmus/sidecar/proxy"
)

const (
	// podTestTimeout bounds a connection of the sidecar to itself.
	podTestTimeout = time.Second
	// podTestPause is the time between two tests that fail; podTestReminder that between
	// two lines about it.
	podTestPause    = 250 * time.Millisecond
	podTestReminder = 30 * time.Second
)

// wayOutOfPod is what a plain caller of a pod's port is told to do.
// It has a sidecar, and yet comes past it, when it knows an address that its sidecar does not.
const wayOutOfPod = "label the caller's namespace isthmus.io/inject=enabled and restart the caller, or, where it has a sidecar, " +
	"have it ask for the Service by its name before it calls an address; or annotate the called pod isthmus.io/inbound: permissive"

// steeredInPod is the listener for callers of all the programs of the pod.
func (s *Sidecar) steeredInPod() *proxy.Steered {
	return &proxy.Steered{
		Listen:     []string{fmt.Sprintf(":%d", config.PodInboundPort)},
		Permissive: s.cfg.Interception.Inbound == config.InboundPermissive,
		Original:   func(c net.Conn) (netip.AddrPort, bool) { return s.capture.intercept.OriginalDestination(c) },
		Others: func(ctx context.Context, to netip.AddrPort) (net.Conn, error) {
			return s.dialProgram(ctx, "tcp", to.String())
		},
		WayOut: wayOutOfPod,
	}
}

// PodTraffic is what is brought to the sidecar of a pod, but for the ports and the
// addresses of callers that pass.
func PodTraffic() interception.PodTable {
	return interception.PodTable{
		UID: config.PodUID, Captured: dns.Prefixes(),
		OutboundPort: config.OutboundPort, DNSPort: config.DNSPort, InboundPort: config.PodInboundPort,
		Excluded: []uint16{config.InboundPort, config.PodMetricsPort},
	}
}

// podTest finds out whether what programs of the pod send to the mesh comes to this
// sidecar: the sidecar dials an address of the mesh that is nobody's, and must meet itself.
// Its own connections go their way otherwise, and it has no privilege to look.
type podTest struct {
	captured *admin.Condition
	log      *slog.Logger
	met      chan netip.Addr // addresses of the test that have come here
}

func newPodTest(captured *admin.Condition, log *slog.Logger) *podTest {
	return &podTest{captured: captured, log: log, met: make(chan netip.Addr, 1)}
}

// targets are the first addresses of the captured prefixes, which no name gets, at the
// port at which the sidecar's own connections are captured, too.
func (*podTest) targets() (all []netip.AddrPort) {
	for _, p := range dns.Prefixes() {
		all = append(all, netip.AddrPortFrom(p.Addr(), config.OutboundPort))
	}
	return all
}

// takes reports whether a captured connection is the test's.
func (t *podTest) takes(to netip.AddrPort) bool {
	for _, a := range t.targets() {
		if a == to {
			select {
			case t.met <- to.Addr():
			default: // nobody waits
			}
			return true
		}
	}
	return false
}

// meet tests until it succeeds; false: ctx has ended before.
func (t *podTest) meet(ctx context.Context) bool {
	var said string
	var last time.Time
	for {
		err := t.once(ctx)
		if ctx.Err() != nil {
			return false
		}
		if err == nil {
			return true
		}
		t.captured.Set(err.Error())
		if err.Error() != said || time.Since(last) > podTestReminder {
			said, last = err.Error(), time.Now()
			t.log.Warn("the pod's programs wait: their traffic does not come here yet", "err", err)
		}
		if !state.Pause(ctx, podTestPause) {
			return false
		}
	}
}

// letStart lets the programs start.
func (t *podTest) letStart() {
	t.captured.Met()
	t.log.Info("the pod's traffic comes here: its programs may start")
}

// once dials each family. One that the pod cannot reach anything of needs no capture.
func (t *podTest) once(ctx context.Context) error {
	met := false
	for _, to := range t.targets() {
		switch err := t.meets(ctx, to); {
		case err == nil:
			met = true
		case errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EADDRNOTAVAIL), errors.Is(err, unix.EHOSTUNREACH):
		default:
			return fmt.Errorf("dial %s: %w: does isthmus node run on this node, and see this pod (kubectl -n isthmus-system get pods -o wide)? Without it, annotate the pod isthmus.io/interception: init", to, err)
		}
	}
	if !met {
		return errors.New("the pod has no route to the mesh's addresses: it needs a default route, or isthmus node")
	}
	return nil
}

var errNotMet = errors.New("connected, but not to this sidecar")

func (t *podTest) meets(ctx context.Context, to netip.AddrPort) error {
	select {
	case <-t.met: // of a test that was late
	default:
	}
	ctx, cancel := context.WithTimeout(ctx, podTestTimeout)
	defer cancel()
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	select {
	case at := <-t.met:
		if at == to.Addr() {
			return nil
		}
	case <-ctx.Done():
	}
	return errNotMet
}
