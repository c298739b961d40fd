package registry

import (
	"fmt"
	"net"
	"strconv"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/isthmus-mesh/isthmus/internal/hostport"
	"github.com/isthmus-mesh/isthmus/internal/identity"
	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/register"
)

// parse checks a registration by the workload id that calls from addr, but not
// whether the address is the caller's, which is [Server.prove], nor whether it may serve
// ([mayServe]). Its errors are
// gRPC statuses that tell the sidecar's operator what to change.
func parse(m *register.Registration, id identity.ID, addr net.Addr) (key, entry, error) {
	name, err := mesh.ParseServiceName(m.GetService())
	if err != nil {
		return key{}, entry{}, errorf("%v", err)
	}
	if m.GetPort() == 0 || m.GetPort() > 65535 {
		return key{}, entry{}, errorf("port %d: must be 1 to 65535", m.GetPort())
	}
	protocol, err := mesh.ReadProtocol(m.GetProtocol())
	if err != nil {
		return key{}, entry{}, errorf("%v", err)
	}
	instance := m.GetInstance()
	if err := hostport.CheckName(instance); err != nil {
		return key{}, entry{}, errorf("instance: %v", err)
	}
	if m.GetWeight() > mesh.MaxWeight {
		return key{}, entry{}, errorf("weight %d: must be at most %d", m.GetWeight(), mesh.MaxWeight)
	}
	address, err := parseAddress(m.GetAddress(), addr)
	if err != nil {
		return key{}, entry{}, err
	}
	return key{name, uint16(m.GetPort()), instance}, entry{
		protocol: protocol,
		exported: !m.GetUnexported(),
		endpoint: mesh.Endpoint{
			Instance: instance,
			Address:  address,
			Ready:    m.GetReady(),
			Weight:   max(m.GetWeight(), 1),
			Identity: id.String(),
		},
	}, nil
}

// parseAddress reads host:port, where an empty host is the caller's own.
func parseAddress(s string, caller net.Addr) (string, error) {
	host, p, err := net.SplitHostPort(s)
	if err != nil || len(host) > maxHost {
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

// errorf is a refusal of a malformed message.
func errorf(format string, args ...any) error {
	return status.Error(codes.InvalidArgument, fmt.Sprintf(format, args...))
}
