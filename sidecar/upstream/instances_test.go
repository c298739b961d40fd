package upstream

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/connect"
)

// weighted returns instances of these weights, each with many idle connections.
func weighted(weights ...float64) *instances {
	s := new(instances)
	for n, w := range weights {
		i := s.of(connect.Instance{Cluster: "west", Name: fmt.Sprintf("orders-%d", n+1)})
		i.weight = w
		i.idle = make([]*Conn, 100)
	}
	return s
}

// spread runs n requests, concurrency at a time that end in any order, and returns
// how many each instance got.
func (s *instances) spread(n, concurrency int) map[string]float64 {
	count := map[string]float64{}
	var running []*instance
	for range n {
		for len(running) >= concurrency {
			k := rand.IntN(len(running))
			running[k].active.Add(-1)
			running[k].idle = append(running[k].idle, nil)
			running[k] = running[len(running)-1]
			running = running[:len(running)-1]
		}
		i, _ := s.next()
		i.idle = i.idle[1:]
		s.charge(i)
		running = append(running, i)
		count[i.who.Name]++
	}
	for _, i := range running {
		i.active.Add(-1)
	}
	return count
}

func TestRequestsAreSpreadOverFarInstancesByWeight(t *testing.T) {
	const n = 12_000
	for _, weights := range [][]float64{{1, 1}, {1, 3}, {1, 1, 1}, {1, 2, 5}, {10, 1}} {
		sum := 0.0
		for _, w := range weights {
			sum += w
		}
		for _, concurrency := range []int{1, 2, 5, 20, 50} {
			count := weighted(weights...).spread(n, concurrency)
			for k, w := range weights {
				want, got := n*w/sum, count[fmt.Sprintf("orders-%d", k+1)]
				if got < want*0.85 || got > want*1.15 {
					t.Errorf("weights %v, %d at a time: instance %d gets %.0f of %d, want %.0f", weights, concurrency, k+1, got, n, want)
				}
			}
		}
	}
}

func TestAnInstanceThatHoldsItsRequestsIsPassedOver(t *testing.T) {
	s := weighted(1, 1)
	for range 20 { // the first one never answers
		i, _ := s.next()
		s.charge(i)
		if i != s.all[0] {
			i.active.Add(-1)
		}
	}
	if n := s.all[0].active.Load(); n > 7 {
		t.Errorf("%d of 20 requests went to the one that does not answer", n)
	}
}

func TestWhoComesLateIsOwedNothing(t *testing.T) {
	s := weighted(1, 1)
	s.spread(1000, 1)
	late := s.of(connect.Instance{Cluster: "west", Name: "late"})
	late.idle = make([]*Conn, 100)
	if count := s.spread(30, 1); count["late"] < 9 || count["late"] > 11 {
		t.Errorf("the next 30 requests: %v", count)
	}
}
