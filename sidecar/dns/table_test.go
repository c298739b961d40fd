package dns

import (
	"bytes"
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func host(t testing.TB, name string) mesh.Destination {
	t.Helper()
	d, err := mesh.ParseHost(name)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func open(t testing.TB, path string) *Table {
	t.Helper()
	table, err := OpenTable(path, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = table.Close() })
	return table
}

func addressOf(t testing.TB, table *Table, d mesh.Destination) netip.Addr {
	t.Helper()
	v4, v6, err := table.Of(d)
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range []netip.Addr{v4, v6, netip.AddrFrom16(v4.As16())} {
		if got, ok := table.Name(a); !ok || got != (mesh.Destination{Service: d.Service, Cluster: d.Cluster}) {
			t.Errorf("Name(%s) = %v, %v; want %s", a, got, ok, d.Host())
		}
	}
	if p := Prefixes(); !p[0].Contains(v4) || !p[1].Contains(v6) {
		t.Errorf("%s and %s are not in %v", v4, v6, p)
	}
	return v4
}

func TestANameHasOneAddressPairWhateverItsPortAndSpelling(t *testing.T) {
	table := open(t, "")
	orders := host(t, "orders.shop.mesh")
	a := addressOf(t, table, orders)
	withPort := orders
	withPort.Port = 8080
	if b := addressOf(t, table, withPort); b != a {
		t.Errorf("port 8080 has %s, port 0 %s", b, a)
	}
	if b := addressOf(t, table, host(t, "Orders.shop.svc.clusterset.local.")); b != a {
		t.Errorf("the clusterset name has %s, the mesh name %s", b, a)
	}
	if b := addressOf(t, table, host(t, "orders.shop.west.mesh")); b == a {
		t.Errorf("the name that is pinned to a cluster has the address of the other: %s", b)
	}
	if table.Len() != 2 {
		t.Errorf("%d names, want 2", table.Len())
	}
}

func TestAddressesSurviveAKillAtAnyMoment(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addresses")
	first := open(t, path)
	want := map[mesh.Destination]netip.Addr{}
	for i := range 300 {
		d := host(t, fmt.Sprintf("s%d.shop.mesh", i))
		want[d] = addressOf(t, first, d)
	}
	// No Close: the process was killed. Another one starts, in another order.
	second := open(t, path)
	addressOf(t, second, host(t, "newcomer.shop.mesh"))
	for d, a := range want {
		if got := addressOf(t, second, d); got != a {
			t.Errorf("%s had %s and has %s", d.Host(), a, got)
		}
	}
	if third := open(t, path); third.Len() != len(want)+1 {
		t.Errorf("%d names after the second start, want %d", third.Len(), len(want)+1)
	}
}

func TestNamesThatCollideGetTheNextFreeAddress(t *testing.T) {
	// A slot is taken by somebody else before the name that hashes to it comes.
	a := newAddresses()
	d := host(t, "orders.shop.mesh")
	free, _, _ := a.of(d)
	b := newAddresses()
	b.put(host(t, "squatter.shop.mesh"), free)
	got, fresh, err := b.of(d)
	if want := free%slots + 1; got != want || !fresh || err != nil {
		t.Errorf("slot %d, %v, %v; want %d", got, fresh, err, want)
	}
}

func TestAFullTableRefusesAndItsLastAddressIsFound(t *testing.T) {
	table := open(t, "")
	d := mesh.Destination{Service: mesh.ServiceName{Namespace: "shop"}}
	for s := slot(1); s < slots; s++ {
		d.Service.Name = fmt.Sprintf("s%d", s)
		if !table.addresses.put(d, s) {
			t.Fatalf("slot %d is taken", s)
		}
	}
	if a := addressOf(t, table, host(t, "last.shop.mesh")); a != netip.MustParseAddr("240.66.255.254") {
		t.Errorf("the last address is %s", a)
	}
	if _, _, err := table.Of(host(t, "one-more.shop.mesh")); err == nil || !strings.Contains(err.Error(), "one-more.shop.mesh") {
		t.Errorf("one more: %v", err)
	}
	if _, _, err := table.Of(d); err != nil {
		t.Errorf("a name that has an address: %v", err)
	}
	for _, a := range []string{"240.66.0.0", "240.66.255.255", "fd69:7374:6d75::", "fd69:7374:6d75::ffff"} {
		if _, ok := table.Name(netip.MustParseAddr(a)); ok {
			t.Errorf("%s was given away", a)
		}
	}
}

func TestADamagedFileKeepsWhatIsGoodAndIsSetAside(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addresses")
	good := addressOf(t, open(t, path), host(t, "orders.shop.mesh"))
	content, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for name, damage := range map[string]string{
		"a torn line":             "240.66.0.9 fd69:7374:6d75::9 cart.sh",
		"an address of another":   "240.66.0.9 fd69:7374:6d75::8 cart.shop.mesh\n",
		"no virtual address":      "10.0.0.9 fd69:7374:6d75::9 cart.shop.mesh\n",
		"no mesh name":            "240.66.0.9 fd69:7374:6d75::9 example.com\n",
		"a name twice":            "240.66.0.9 fd69:7374:6d75::9 orders.shop.mesh\n",
		"a line without an end":   strings.Repeat("x", 1<<20),
		"words":                   "# hello\n",
		"an IPv4-mapped spelling": "::ffff:240.66.0.9 fd69:7374:6d75::9 cart.shop.mesh\n",
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "addresses")
			if err := os.WriteFile(path, append(bytes.Clone(content), damage...), 0o600); err != nil {
				t.Fatal(err)
			}
			table := open(t, path)
			if got := addressOf(t, table, host(t, "orders.shop.mesh")); got != good || table.Len() != 1 {
				t.Errorf("%s, %d names; want %s alone", got, table.Len(), good)
			}
			if b, err := os.ReadFile(path + ".damaged"); err != nil || !bytes.HasSuffix(b, []byte(damage)) {
				t.Errorf("set aside: %d bytes, %v", len(b), err)
			}
			if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, content) {
				t.Errorf("the file is now %q, %v", b, err)
			}
		})
	}
}

func TestAFileOfAnotherFormatOrPlaceIsNotOverwrittenSilently(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addresses")
	if err := os.WriteFile(path, []byte("# isthmus virtual addresses 2\n{}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if table := open(t, path); table.Len() != 0 {
		t.Errorf("%d names", table.Len())
	}
	if _, err := os.Stat(path + ".damaged"); err != nil {
		t.Error(err)
	}
	if _, err := OpenTable(filepath.Join(t.TempDir(), "missing", "addresses"), nil); err == nil {
		t.Error("a folder that does not exist is no error")
	}
}

func TestADiskThatFailsCostsNobodyAnAddressAndIsMadeUpForLater(t *testing.T) {
	path := filepath.Join(t.TempDir(), "addresses")
	table := open(t, path)
	_ = table.file.Close() // every write fails from now on
	a := addressOf(t, table, host(t, "orders.shop.mesh"))
	b := addressOf(t, table, host(t, "cart.shop.mesh"))
	again := open(t, path)
	if addressOf(t, again, host(t, "orders.shop.mesh")) != a || addressOf(t, again, host(t, "cart.shop.mesh")) != b || again.Len() != 2 {
		t.Error("what could not be written at first is not there after a restart")
	}
}

func TestWhatADiskHasRefusedIsWrittenWhenItHasRoomAgain(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "addresses")
	synctest.Test(t, func(t *testing.T) {
		table := open(t, path)
		var running sync.WaitGroup
		ctx, cancel := context.WithCancel(t.Context())
		running.Go(func() { table.Run(ctx) })
		_ = table.file.Close() // every write fails from now on, and so does replacing the file
		if err := os.Rename(dir, dir+".gone"); err != nil {
			t.Fatal(err)
		}
		a := addressOf(t, table, host(t, "orders.shop.mesh"))
		time.Sleep(10 * time.Second)
		if table.StateErr() == nil {
			t.Error("nobody is told that addresses are not kept")
		}
		if err := os.Rename(dir+".gone", dir); err != nil {
			t.Fatal(err)
		}
		time.Sleep(10 * time.Second) // nobody asks for a new name
		if err := table.StateErr(); err != nil {
			t.Error(err)
		}
		if again := open(t, path); addressOf(t, again, host(t, "orders.shop.mesh")) != a || again.Len() != 1 {
			t.Error("what could not be written at first is not there after a restart")
		}
		cancel()
		running.Wait()
	})
}

func TestManyMayAskForAddressesAtOnce(t *testing.T) {
	table := open(t, filepath.Join(t.TempDir(), "addresses"))
	var all [8]netip.Addr
	var wg sync.WaitGroup
	for i := range all {
		wg.Go(func() {
			for j := range 100 {
				addressOf(t, table, host(t, fmt.Sprintf("s%d.shop.mesh", j)))
			}
			all[i] = addressOf(t, table, host(t, "s7.shop.mesh"))
		})
	}
	wg.Wait()
	for _, a := range all {
		if a != all[0] {
			t.Errorf("%s and %s for one name", a, all[0])
		}
	}
}

func TestLookingUpAnAddressAllocatesNothing(t *testing.T) {
	table := open(t, "")
	d := host(t, "orders.shop.mesh")
	a := addressOf(t, table, d)
	if n := testing.AllocsPerRun(100, func() {
		table.Name(a)
		_, _, _ = table.Of(d)
	}); n != 0 {
		t.Errorf("%v allocations, want none", n)
	}
	for _, a := range []netip.Addr{{}, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("::1"), netip.MustParseAddr("240.66.0.0"),
		netip.MustParseAddr("240.67.0.1"), netip.MustParseAddr("fd69:7374:6d75:1::1"), netip.MustParseAddr("240.66.255.255")} {
		if _, ok := table.Name(a); ok {
			t.Errorf("%s has a name", a)
		}
	}
}

func TestATableIsABijectionAndItsFileReadsBackTheSame(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := newAddresses()
		label := rapid.StringMatching(`[a-z]([a-z0-9]|-[a-z0-9]){0,3}`)
		for range rapid.IntRange(0, 50).Draw(t, "names") {
			d := mesh.Destination{Service: mesh.ServiceName{Namespace: label.Draw(t, "namespace"), Name: label.Draw(t, "name")}}
			if rapid.Bool().Draw(t, "pinned") {
				d.Cluster = mesh.ClusterName(label.Draw(t, "cluster"))
			}
			s, _, err := a.of(d)
			if again, fresh, _ := a.of(d); err != nil || again != s || fresh || a.names[s] != d {
				t.Fatalf("%s: %d then %d, %v", d.Host(), s, again, err)
			}
		}
		if len(a.names) != len(a.slots) {
			t.Fatalf("%d addresses for %d names", len(a.names), len(a.slots))
		}
		b := newAddresses()
		if err := b.unmarshal(bytes.NewReader(a.marshal())); err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(a.marshal(), b.marshal()) {
			t.Fatal("the file does not read back the same")
		}
	})
}

func FuzzTableFile(f *testing.F) {
	a := newAddresses()
	_, _, _ = a.of(mesh.Destination{Service: mesh.ServiceName{Namespace: "shop", Name: "orders"}})
	f.Add(a.marshal())
	f.Add([]byte(tableHeader + "240.66.0.9 fd69:7374:6d75::9 cart.sh"))
	f.Add([]byte(tableHeader + "\n\n  \n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		a := newAddresses()
		_ = a.unmarshal(bytes.NewReader(b))
		again := newAddresses()
		if err := again.unmarshal(bytes.NewReader(a.marshal())); err != nil || len(again.names) != len(a.names) || len(a.slots) != len(a.names) {
			t.Errorf("what was read does not read back: %v", err)
		}
	})
}
