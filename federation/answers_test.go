package federation

import (
	"context"
	"fmt"
	"io"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/isthmus-mesh/isthmus/federation/catalog"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

func TestAnswersAreGivenAFewAtATimeAndFairlyByCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnswers()
		var ends []func()
		for range maxClusterAnswers {
			end, ok := a.turn(t.Context(), "evil")
			if !ok {
				t.Fatal("refused")
			}
			ends = append(ends, end)
		}
		begun := time.Now()
		if _, ok := a.turn(t.Context(), "evil"); ok || time.Since(begun) != answerWait {
			t.Errorf("another one of the cluster after %v", time.Since(begun))
		}
		if _, ok := a.turn(t.Context(), "west"); !ok {
			t.Error("one cluster holds up another")
		}
		go func() {
			time.Sleep(answerWait / 2)
			ends[0]()
		}()
		if _, ok := a.turn(t.Context(), "evil"); !ok {
			t.Error("who waits gets no turn")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, ok := a.turn(ctx, "evil"); ok {
			t.Error("who has gone gets a turn")
		}
	})
}

func TestAnAnswerIsEncodedOnceAndOldOnesGo(t *testing.T) {
	a := newAnswers()
	s := stateOf(t, west1, 7, []mesh.Export{serving("west", "shop/orders", 2)}, []mesh.Export{serving("west", "shop/orders", 1)})
	var first []byte
	for range 3 {
		b, err := a.body(signedDelta{s.Whole(), identity.Signature{}})
		if err != nil || first != nil && &b[0] != &first[0] {
			t.Fatalf("encoded again, %v", err)
		}
		first = b
	}
	part, err := a.body(signedDelta{s.Delta(catalog.Version{Epoch: 7, Seq: 1}), identity.Signature{}})
	if err != nil || &part[0] == &first[0] {
		t.Errorf("a part is answered with the whole, %v", err)
	}
	for i := range 2 * maxKeptAnswers {
		if _, err := a.body(signedDelta{stateOf(t, west1, uint64(100+i), nil).Whole(), identity.Signature{}}); err != nil {
			t.Fatal(err)
		}
	}
	if len(a.kept) > maxKeptAnswers || a.bytes > maxKeptBytes {
		t.Errorf("%d answers of %d bytes are kept", len(a.kept), a.bytes)
	}
}

// TestReadersThatStallCostLittle has a gateway ask for a large catalog many times and read
// nothing of what it gets.
func TestReadersThatStallCostLittle(t *testing.T) { // alone: it looks at the whole heap
	w := newWorld(t, nil)
	east := w.start(plan{name: "east/east-1"})
	west := w.start(plan{name: "west/west-1", join: []string{east.addr}})
	north := w.start(plan{name: "north/north-1", join: []string{east.addr}})
	ports := make([]mesh.ExportPort, 20)
	for i := range ports {
		ports[i] = mesh.ExportPort{Port: uint16(i + 1), Protocol: mesh.TCP}
		for j := range 8 {
			ports[i].Identities = append(ports[i].Identities, fmt.Sprintf("spiffe://mesh.example/cluster/east/ns/n/sa/a%d-%d-%s", i, j, strings.Repeat("x", 40)))
		}
	}
	var large []mesh.Export
	for i := range 300 {
		large = append(large, mesh.Export{Service: mesh.ServiceName{Namespace: "n", Name: fmt.Sprintf("s%d", i)}, Ports: ports})
	}
	east.Own().Publish(large)
	west.await("east's catalog", soon, offers("n/s0", "east"))
	north.await("east's catalog", soon, offers("n/s0", "east"))

	runtime.GC()
	var before, during runtime.MemStats
	runtime.ReadMemStats(&before)
	var stalled []net.Conn
	var mu sync.Mutex
	var asking sync.WaitGroup
	for range 120 {
		asking.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), soon)
			defer cancel()
			s, err := west.tunnel.Open(ctx, east.id)
			if err != nil {
				return
			}
			_, _ = io.WriteString(s, "GET /catalog?origin=east/east-1&epoch=0&since=0 HTTP/1.1\r\nHost: gossip\r\nAccept-Encoding: gzip\r\n\r\n")
			mu.Lock()
			defer mu.Unlock()
			stalled = append(stalled, s)
		})
	}
	asking.Wait()
	// Who reads gets it meanwhile.
	d, err := north.client.delta(t.Context(), east.id, east.id, catalog.Version{}, accepting)
	if err != nil || len(d.Delta.Records) != len(large) {
		t.Fatalf("another cluster is not answered: %v", err)
	}
	runtime.GC()
	runtime.ReadMemStats(&during)
	if grown := int64(during.HeapAlloc) - int64(before.HeapAlloc); grown > 64<<20 {
		t.Errorf("%d stalled readers cost %d MiB", len(stalled), grown>>20)
	} else {
		t.Logf("%d stalled readers cost %d KiB", len(stalled), grown>>10)
	}
	for _, s := range stalled {
		_ = s.Close()
	}
}
