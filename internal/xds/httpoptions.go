package xds

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	httpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// httpOptionsKey is where Envoy reads which HTTP to speak to a cluster.
const httpOptionsKey = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"

// httpOptions says to Envoy which HTTP a port's hosts speak; our sidecar reads the
// protocol itself. Nil is what Envoy does by default, HTTP/1.1.
func httpOptions(p mesh.Protocol) (map[string]*anypb.Any, error) {
	options := &httpv3.HttpProtocolOptions{}
	switch p {
	case mesh.HTTP2, mesh.GRPC:
		options.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_ExplicitHttpConfig_{
			ExplicitHttpConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig{
				ProtocolConfig: &httpv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{Http2ProtocolOptions: &corev3.Http2ProtocolOptions{}},
			},
		}
	case mesh.Auto: // and ALPN says which one that was, since the TLS context names none
		options.UpstreamProtocolOptions = &httpv3.HttpProtocolOptions_UseDownstreamProtocolConfig{
			UseDownstreamProtocolConfig: &httpv3.HttpProtocolOptions_UseDownstreamHttpConfig{
				HttpProtocolOptions: &corev3.Http1ProtocolOptions{}, Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
			},
		}
	default:
		return nil, nil
	}
	typed := &anypb.Any{}
	if err := anypb.MarshalFrom(typed, options, proto.MarshalOptions{Deterministic: true}); err != nil {
		return nil, err
	}
	return map[string]*anypb.Any{httpOptionsKey: typed}, nil
}
