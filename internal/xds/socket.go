package xds

import (
	"fmt"
	"slices"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	rawv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/raw_buffer/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
)

// The static secrets that an Envoy brings in its bootstrap.
const (
	secretIdentity = "isthmus/identity"
	secretRoots    = "isthmus/roots"
)

// nobody stands in for an empty list of identities. Without any matcher Envoy
// would accept every member of the trust domain; no certificate carries this URI.
const nobody = "spiffe://nobody.invalid/none"

// tlsSocket is the end-to-end mTLS to a route's destination.
func tlsSocket(r *mesh.Route) (*corev3.TransportSocket, error) {
	identities := slices.Clone(r.Identities)
	slices.Sort(identities)
	identities = slices.Compact(identities)
	if len(identities) == 0 {
		identities = []string{nobody}
	}
	matchers := make([]*tlsv3.SubjectAltNameMatcher, len(identities))
	for i, id := range identities {
		matchers[i] = &tlsv3.SubjectAltNameMatcher{
			SanType: tlsv3.SubjectAltNameMatcher_URI,
			Matcher: &matcherv3.StringMatcher{MatchPattern: &matcherv3.StringMatcher_Exact{Exact: id}},
		}
	}
	return socket("envoy.transport_sockets.tls", &tlsv3.UpstreamTlsContext{
		// With the port, and with the cluster when it is pinned: a gateway that is
		// given nothing but a ClientHello reads the destination from here.
		Sni: r.Destination.ServerName(),
		CommonTlsContext: &tlsv3.CommonTlsContext{
			TlsParams: &tlsv3.TlsParameters{
				TlsMinimumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
				TlsMaximumProtocolVersion: tlsv3.TlsParameters_TLSv1_3,
			},
			AlpnProtocols:                  r.Protocol.ProgramALPN(),
			TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{Name: secretIdentity}},
			ValidationContextType: &tlsv3.CommonTlsContext_CombinedValidationContext{
				CombinedValidationContext: &tlsv3.CommonTlsContext_CombinedCertificateValidationContext{
					DefaultValidationContext:         &tlsv3.CertificateValidationContext{MatchTypedSubjectAltNames: matchers},
					ValidationContextSdsSecretConfig: &tlsv3.SdsSecretConfig{Name: secretRoots},
				},
			},
		},
	})
}

// rawSocket is the way to an endpoint without TLS.
func rawSocket() (*corev3.TransportSocket, error) {
	return socket("envoy.transport_sockets.raw_buffer", &rawv3.RawBuffer{})
}

func socket(name string, config proto.Message) (*corev3.TransportSocket, error) {
	typed := &anypb.Any{}
	if err := anypb.MarshalFrom(typed, config, proto.MarshalOptions{Deterministic: true}); err != nil {
		return nil, fmt.Errorf("encode %s: %w", name, err)
	}
	return &corev3.TransportSocket{
		Name:       name,
		ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: typed},
	}, nil
}

// identitiesOf reads the SPIFFE IDs that a TLS socket accepts.
func identitiesOf(s *corev3.TransportSocket) ([]string, error) {
	context := &tlsv3.UpstreamTlsContext{}
	if err := s.GetTypedConfig().UnmarshalTo(context); err != nil {
		return nil, fmt.Errorf("transport socket %q: %w", s.GetName(), err)
	}
	var identities []string
	for _, m := range context.GetCommonTlsContext().GetCombinedValidationContext().GetDefaultValidationContext().GetMatchTypedSubjectAltNames() {
		id := m.GetMatcher().GetExact()
		if m.GetSanType() != tlsv3.SubjectAltNameMatcher_URI || id == "" {
			continue // whom it allows is allowed by newer sidecars only
		}
		if id != nobody {
			identities = append(identities, id)
		}
	}
	return identities, nil
}
