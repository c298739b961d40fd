package sidecar

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/isthmus-mesh/isthmus/internal/config"
	"github.com/isthmus-mesh/isthmus/internal/identity/identitytest"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/policy"
	"github.com/isthmus-mesh/isthmus/sidecar/gatewaylink"
)

// made returns a sidecar that New has made, its file, and what writes that anew.
func made(t *testing.T, text string) (s *Sidecar, file string, write func(text string)) {
	t.Helper()
	dir := t.TempDir()
	file = filepath.Join(dir, "sidecar.yaml")
	common := "gateways: [\"127.0.0.1:1\", \"127.0.0.1:2\"]\nstate: state\nlisten: {admin: \"127.0.0.1:0\", inbound: \"127.0.0.1:0\"}\n" +
		"identity: {dir: " + identitytest.New(t, "mesh.example").WorkloadDir("east", "shop", "orders") + "}\n"
	write = func(text string) {
		if err := os.WriteFile(file, []byte(common+text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(text)
	load := func() (*config.Sidecar, error) { return config.LoadSidecar(file, nil) }
	cfg, err := load()
	if err != nil {
		t.Fatal(err)
	}
	if s, err = New(cfg, Options{Configuration: load}); err != nil {
		t.Fatal(err)
	}
	return s, file, write
}

func (s *Sidecar) unmet() []string {
	var names []string
	for _, c := range s.ready.Unmet() {
		names = append(names, c.Name)
	}
	return names
}

func TestASidecarIsReadyWhileItsRoutesItsRegistrationItsProgramAndAGatewayAreThere(t *testing.T) {
	s, _, _ := made(t, "service: {name: shop/orders, target: \"127.0.0.1:3\"}\nupstreams: [{listen: \"127.0.0.1:0\", service: shop/cart}]\n")
	expect := func(want ...string) {
		t.Helper()
		if got := s.unmet(); !slices.Equal(got, want) {
			t.Errorf("unmet %v, want %v: %v", got, want, s.ready.Unmet())
		}
	}
	expect("routes", "gateways", "registration", "policy", "program")
	s.applyPolicy(policy.SetOf(mesh.ServiceName{Namespace: "shop", Name: "orders"}, nil, nil))
	expect("routes", "gateways", "registration", "program")
	cart := mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "cart"}, Port: 80}
	s.routes.Replace(nil, []mesh.Destination{cart})
	s.gateways[0].Update(func(st *gatewaylink.Status) { st.ADS = true })
	s.served[0].answers.Met()
	expect("registration")
	orders := mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}, Port: 80}
	says := func(r gatewaylink.Registration) func(*gatewaylink.Status) {
		r.Of = orders
		return func(st *gatewaylink.Status) { st.SetRegistration(r) }
	}
	s.gateways[1].Update(says(gatewaylink.Registration{Error: "the name is taken"}))
	if got := s.ready.Unmet()[0].Reason; got != "no gateway holds it: 127.0.0.1:2: the name is taken" {
		t.Error(got)
	}
	for _, l := range s.gateways {
		l.Update(says(gatewaylink.Registration{Error: "write serves", Refused: true}))
		l.Update(func(st *gatewaylink.Status) { st.ADS = false })
	}
	expect("registration") // who refuses it is there
	if got := s.ready.Unmet()[0].Reason; got != "no gateway holds it: 127.0.0.1:1, 127.0.0.1:2: write serves" {
		t.Error(got)
	}
	s.gateways[0].Update(says(gatewaylink.Registration{Held: true})) // one is enough
	expect()

	s.gateways[0].Update(func(st *gatewaylink.Status) { *st = gatewaylink.Status{Gateway: st.Gateway, ADSError: "refused"} })
	s.gateways[1].Update(says(gatewaylink.Registration{Error: "the name is taken"}))
	expect("gateways", "registration")
	if got := s.ready.Unmet()[0].Reason; got != "none serves this sidecar: 127.0.0.1:1: refused, 127.0.0.1:2: the name is taken" {
		t.Error(got)
	}
	s.gateways[0].Update(says(gatewaylink.Registration{Held: true}))
	s.gateways[0].Update(func(st *gatewaylink.Status) { st.ADS = true })
	s.served[0].answers.Set("refused")
	expect("program")
	s.served[0].answers.Met()
	expect()
	s.stays.Set("the process ends")
	expect("drain")
}

func TestASidecarOfSeveralPortsIsReadyWhenEachIs(t *testing.T) {
	s, _, _ := made(t, "services: [{name: shop/orders, ports: [{port: 80, target: \"127.0.0.1:3\"}, {port: 81, target: \"127.0.0.1:4\"}]}, {name: shop/stock, ports: [{port: 80, target: \"127.0.0.1:5\"}]}]\n")
	for _, name := range []string{"orders", "stock"} {
		if got := s.unknownPolicy(); !strings.Contains(got, "shop/"+name) {
			t.Error(got)
		}
		s.applyPolicy(policy.SetOf(mesh.ServiceName{Namespace: "shop", Name: name}, nil, nil))
	}
	for i, p := range s.served {
		if why := s.unregistered(); !strings.HasPrefix(why, p.of.String()+": ") {
			t.Error(why)
		}
		s.gateways[0].Update(func(st *gatewaylink.Status) { st.SetRegistration(gatewaylink.Registration{Of: p.of, Held: true}) })
		if got := s.unmet(); !slices.Contains(got, "program") {
			t.Errorf("port %d has not answered, and unmet is %v", i, got)
		}
		p.answers.Met()
	}
	if got := s.unmet(); len(got) != 0 {
		t.Error(s.ready.Unmet())
	}
	if st := s.Status(); len(st.Services) != 3 || st.Services[1].Port != 81 || st.Services[2].Target != "127.0.0.1:5" {
		t.Errorf("%+v", st.Services)
	}
}

func TestAReloadOfServicesTakesWhatCanChangeOfEachPort(t *testing.T) {
	const services = "services: [{name: shop/orders, weight: %s, ports: [{port: 80, target: \"127.0.0.1:3\", health: {interval: %s}}, {port: %s, target: \"127.0.0.1:4\"}]}]\n"
	s, _, write := made(t, fmt.Sprintf(services, "1", "1s", "81"))
	write(fmt.Sprintf(services, "7", "2s", "81"))
	file, err := s.opts.Configuration()
	if err != nil {
		t.Fatal(err)
	}
	next := s.withReloaded(s.cfg, file)
	if got := next.Served(); got[0].Weight != 7 || got[0].Health.Interval != 2*time.Second || s.cfg.Served()[0].Weight != 1 {
		t.Errorf("%+v", got)
	}
	if got := config.Changes(next, file); len(got) != 0 {
		t.Errorf("%v wait for a restart", got)
	}
	write(fmt.Sprintf(services, "7", "2s", "82"))
	if file, err = s.opts.Configuration(); err != nil {
		t.Fatal(err)
	}
	if got := config.Changes(s.withReloaded(s.cfg, file), file); !slices.Equal(got, []string{"services"}) {
		t.Errorf("%v wait for a restart", got)
	}
}

func TestASidecarWithoutAServiceOrUpstreamsHasNobodyToWaitFor(t *testing.T) {
	if s, _, _ := made(t, ""); len(s.unmet()) != 0 {
		t.Error(s.ready.Unmet())
	}
}

func TestAReloadPutsInForceWhatCanChangeAndNamesWhatWaitsForARestart(t *testing.T) {
	const service = "service: {name: shop/orders, target: \"127.0.0.1:3\"%s}\n"
	s, file, rewrite := made(t, strings.Replace(service, "%s", "", 1))
	bound := make(chan error, 1)
	go func() { bound <- s.proxy.Run(t.Context()) }()
	select {
	case <-s.proxy.Ready():
	case err := <-bound:
		t.Fatal(err)
	}
	defer func() {
		if err := errors.Join(s.proxy.Shutdown(t.Context()), <-bound); err != nil {
			t.Error(err)
		}
		s.upstreams.Close()
	}()
	reload := func(text, want string) {
		t.Helper()
		rewrite(text)
		if got := s.Reload(t.Context()).String(); !strings.HasPrefix(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		if s.Status().Reload.String() != s.reloader.Last().String() {
			t.Error("the status says something else")
		}
	}
	reload("service: {name: shop/orders, target: nowhere}\n", "not reloaded, the old configuration stays in force: "+file+":5: service.target")
	reload(strings.Replace(service, "%s", "", 1), "reloaded: nothing has changed")
	upstream := "upstreams: [{listen: \"127.0.0.1:0\", service: shop/cart}]\ndrain: 3s\n"
	reload(strings.Replace(service, "%s", ", weight: 7", 1)+upstream, "reloaded: service.weight, upstreams, drain")
	if got := s.unmet(); !slices.Contains(got, "routes") {
		t.Errorf("nobody has told the new route, and unmet is %v", got)
	}
	if d := s.Drain(); d != 6*time.Second {
		t.Error(d)
	}
	reload(strings.Replace(service, "%s", ", weight: 7, port: 81", 1)+upstream+"log: {level: debug}\n",
		"reloaded: nothing has changed; these keys wait for a restart: service.port, log.level")
	reload("upstreams: [{listen: \"192.0.2.1:1\", service: shop/cart}]\n", "not reloaded, the old configuration stays in force: listen for cart.shop.mesh:80")
	if n := len(s.inForce.Load().Upstreams); n != 1 || s.inForce.Load().Upstreams[0].Listen != "127.0.0.1:0" {
		t.Error("what was refused is in force")
	}
}
