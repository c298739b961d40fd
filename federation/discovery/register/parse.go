package register

import (
	"net"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/register"
)

// parse checks a registration by the workload id that calls from addr. Its errors
// are gRPC statuses that tell the sidecar's operator what to change.
func parse(m *register.Registration, id identity.ID, addr net.Addr) (key, entry, error) {
	name, err := mesh.ParseServiceName(m.GetService())
	if err != nil {
		return key{}, entry{}, errorf("%v", err)
	}
	if name.Namespace != id.Namespace {
		return key{}, entry{}, status.Errorf(codes.PermissionDenied, "service %s is not of namespace %q, which is the namespace of %s: a workload may only register services of its own namespace", name, id.Namespace, id)
	}
	if m.GetPort() == 0 || m.GetPort() > 65535 {
		return key{}, entry{}, errorf("port %d: must be 1 to 65535", m.GetPort())
	}
	protocol, err := mesh.ParseProtocol(m.GetProtocol())
	if err != nil {
		return key{}, entry{}, errorf("%v", err)
	}
	instance := m.GetInstance()
	if err := checkInstance(instance); err != nil {
		return key{}, entry{}, err
	}
	if m.GetWeight() > maxWeight {
		return key{}, entry{}, errorf("weight %d: must be at most %d", m.GetWeight(), maxWeight)
	}
	address, err := parseAddress(m.GetAddress(), addr)
	if err != nil {
		return key{}, entry{}, err
	}
	return key{name, uint16(m.GetPort()), instance}, entry{
		protocol: protocol,
		export:   !m.GetUnexported(),
		endpoint: mesh.Endpoint{
			Instance: instance,
			Address:  address,
			Ready:    m.GetReady(),
			Weight:   max(m.GetWeight(), 1),
			Identity: id.String(),
		},
	}, nil
}

// checkInstance bounds what ends up in headers, metrics and logs.
func checkInstance(s string) error {
	if s == "" || len(s) > maxInstance {
		return errorf("instance of %d bytes: write 1 to %d", len(s), maxInstance)
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '.', c == '_':
		default:
			return errorf("instance %q: use letters, digits, hyphens, dots and underscores", s)
		}
	}
	return nil
}

// parseAddress reads host:port, where an empty host is the caller's own.
func parseAddress(s string, caller net.Addr) (string, error) {
	host, p, err := net.SplitHostPort(s)
	if err != nil || len(host) > maxInstance {
		return "", errorf("address %q: write host:port, or :port for the address that the gateway sees", s)
	}
	port, err := strconv.ParseUint(p, 10, 16)
	if err != nil || port == 0 {
		return "", errorf("address %q: port must be 1 to 65535", s)
	}
	if host == "" {
		if host, _, err = net.SplitHostPort(caller.String()); err != nil {
			return "", errorf("address %q: the gateway sees no IP address, write host:port", s)
		}
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		return "", errorf("address %q: nobody can dial it, write the host's own address or leave the host out", s)
	}
	return net.JoinHostPort(host, strconv.FormatUint(port, 10)), nil
}
