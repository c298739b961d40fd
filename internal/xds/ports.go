package xds

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// maxPorts bounds the ports of one service. Kubernetes has no bound; nobody has
// been seen with more than a few dozen.
const maxPorts = 1000

// formatPorts writes ports as "80/http 443/tcp".
func formatPorts(ports []mesh.RoutePort) string {
	words := make([]string, len(ports))
	for i, p := range ports {
		words[i] = strconv.Itoa(int(p.Number)) + "/" + string(p.Protocol)
	}
	return strings.Join(words, " ")
}

// parsePorts reads what formatPorts writes.
func parsePorts(s string) ([]mesh.RoutePort, error) {
	if s == "" {
		return nil, nil
	}
	if n := strings.Count(s, " ") + 1; n > maxPorts {
		return nil, fmt.Errorf("%d ports, at most %d are read", n, maxPorts)
	}
	var ports []mesh.RoutePort
	for word := range strings.SplitSeq(s, " ") {
		number, protocol, _ := strings.Cut(word, "/")
		n, err := strconv.ParseUint(number, 10, 16)
		if err != nil || n == 0 || len(ports) > 0 && ports[len(ports)-1].Number >= uint16(n) {
			return nil, fmt.Errorf("ports %q: write number/protocol, sorted by number", s)
		}
		p, err := mesh.ReadProtocol(protocol)
		if err != nil {
			return nil, err
		}
		ports = append(ports, mesh.RoutePort{Number: uint16(n), Protocol: p})
	}
	return ports, nil
}
