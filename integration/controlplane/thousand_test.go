package controlplane

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/integration/harness"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// TestAThousandSidecarsComeBackAfterARestart has sidecars of one process, with 50
// instances of each of 20 services, lose their only gateway and find it again: all of
// them get their routes and are registered. How long that takes and what it costs is
// logged, and is nothing that the test judges.
func TestAThousandSidecarsComeBackAfterARestart(t *testing.T) {
	const services = 20
	each := 50
	if raceEnabled {
		each = 5
	}
	m := identitytest.New(t, "mesh.example")
	gw := role{Gateway: true, Identity: m.GatewayDir("east", "east-1"), Listen: freeAddr(t), Service: "orders"}
	p := spawn(t, gw)
	var all []*sidecar
	for i := range services {
		name := fmt.Sprintf("svc-%d", i)
		id := m.Workload("east", "shop", name)
		for k := range each {
			all = append(all, joinAs(t, id, p.addr, name, k))
		}
	}
	began, cpu := time.Now(), ownCPU()
	awaitAll(t, all)
	t.Logf("%d sidecars came in %s; CPU: gateway %s, sidecars %s", len(all), since(began), cpuOf(t, p), ownCPU()-cpu)

	p.hit(t, syscall.SIGKILL)
	for _, s := range all {
		s.waitADS(func(addr string) bool { return addr == "" })
	}
	began, cpu = time.Now(), ownCPU()
	p = spawn(t, gw)
	awaitAll(t, all)
	t.Logf("%d sidecars came back in %s; CPU: gateway %s, sidecars %s", len(all), since(began), cpuOf(t, p), ownCPU()-cpu)
}

// joinAs starts a sidecar of a service that subscribes to shop/orders.
func joinAs(t *testing.T, id *identity.Source, gateway, service string, k int) *sidecar {
	s := join(t, config{Identity: id, Gateways: []string{gateway}, Subscribe: []mesh.Destination{destination("orders")}})
	r := registrationOf(fmt.Sprintf("%s-%d", service, k))
	r.Service, r.Address = "shop/"+service, fmt.Sprintf(":%d", 20000+k)
	s.Register(r)
	return s
}

// awaitAll waits until every sidecar has its routes from the gateway and is registered.
func awaitAll(t *testing.T, all []*sidecar) {
	t.Helper()
	check := func() error {
		ads, registered := 0, 0
		var last string
		for _, s := range all {
			st := s.Status()[0]
			if st.ADS {
				ads++
			}
			if st.Registered() {
				registered++
			}
			if e := st.LastError(); e != "" {
				last = e
			}
		}
		if ads < len(all) || registered < len(all) {
			return fmt.Errorf("of %d sidecars %d have routes and %d are registered; one says %q", len(all), ads, registered, last)
		}
		return nil
	}
	err := harness.Eventually(check)
	for range 4 { // a machine that does much else at the time
		if err != nil {
			err = harness.Eventually(check)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
}

func since(t time.Time) time.Duration { return time.Since(t).Round(time.Millisecond) }

// ownCPU is what this process has used.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Round(time.Millisecond)
}

// cpuOf is what a part has used.
func cpuOf(t *testing.T, p *part) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	fields := strings.Fields(string(b[strings.LastIndexByte(string(b), ')')+2:]))
	ticks := 0
	for _, f := range fields[11:13] { // utime and stime, of USER_HZ, which is 100
		n, _ := strconv.Atoi(f)
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
