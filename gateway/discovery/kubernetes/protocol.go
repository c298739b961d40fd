package kubernetes

import (
	"strings"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// protocolOf returns what a port speaks: by its appProtocol, or else by its name up to the
// first hyphen, or else by each connection's first bytes.
func protocolOf(appProtocol, name string) mesh.Protocol {
	switch appProtocol {
	case "":
	case "http", "kubernetes.io/ws", "grpc-web":
		return mesh.HTTP
	case "http2", "h2c", "kubernetes.io/h2c":
		return mesh.HTTP2
	case "grpc":
		return mesh.GRPC
	case "kubernetes.io/wss":
		return mesh.TCP
	default:
		// A name without a prefix is IANA's name of a service, such as https, redis or amqp:
		// bytes to us. Those with one are somebody's own.
		if !strings.Contains(appProtocol, "/") {
			return mesh.TCP
		}
	}
	if name == "grpc-web" || strings.HasPrefix(name, "grpc-web-") {
		return mesh.HTTP
	}
	switch word, _, _ := strings.Cut(name, "-"); word {
	case "http":
		return mesh.HTTP
	case "http2", "h2c":
		return mesh.HTTP2
	case "grpc":
		return mesh.GRPC
	case "tcp", "tls", "https":
		return mesh.TCP
	}
	return mesh.Auto
}
