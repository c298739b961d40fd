package hooks

import "testing"

func TestReservedPortsAreNotTaken(t *testing.T) {
	s := sources{first: 10, count: 5, reserved: portRanges("10-12,14,x,70000\n")}
	for range 10 {
		if p := s.port(); p != 13 {
			t.Errorf("port %d", p)
		}
	}
}
