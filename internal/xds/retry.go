package xds

import (
	"fmt"
	"strings"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/isthmus-mesh/isthmus/internal/mesh"
	"github.com/isthmus-mesh/isthmus/internal/traffic"
)

// lossesAndCodes are the conditions of Envoy's retries that every rule has which has some: what
// was lost, and the codes that are listed. Statuses of gRPC follow them.
const lossesAndCodes = "connect-failure,refused-stream,reset,retriable-status-codes"

// encodeRetry translates what bounds an attempt, and says when another follows; nil: neither does. Without
// conditions Envoy retries nothing.
func encodeRetry(r *mesh.Retry, each time.Duration) *routev3.RetryPolicy {
	if r == nil && each == 0 {
		return nil
	}
	out := &routev3.RetryPolicy{}
	if each > 0 {
		out.PerTryTimeout = durationpb.New(each)
	}
	if r == nil {
		return out
	}
	out.RetryOn, out.NumRetries = lossesAndCodes, wrapperspb.UInt32(uint32(r.Attempts))
	for _, name := range r.Statuses {
		out.RetryOn += "," + strings.ReplaceAll(strings.ToLower(name), "_", "-")
	}
	for _, code := range r.Codes {
		out.RetriableStatusCodes = append(out.RetriableStatusCodes, uint32(code))
	}
	if r.Backoff > 0 {
		out.RetryBackOff = &routev3.RetryPolicy_RetryBackOff{BaseInterval: durationpb.New(r.Backoff)}
	}
	return out
}

// decodeRetry reads when a request is sent again; nil: it is not. What is not known here, as of a newer
// gateway, is left out: then less is.
func decodeRetry(p *routev3.RetryPolicy) (*mesh.Retry, error) {
	statuses, ok := strings.CutPrefix(p.GetRetryOn(), lossesAndCodes)
	if !ok {
		return nil, nil
	}
	if len(statuses) > maxRetryOn || len(p.GetRetriableStatusCodes()) > traffic.MaxCodes {
		return nil, fmt.Errorf("it is retried on %d statuses, and %d bytes of others", len(p.GetRetriableStatusCodes()), len(statuses))
	}
	out := &mesh.Retry{Attempts: int(p.GetNumRetries().GetValue()), Backoff: p.GetRetryBackOff().GetBaseInterval().AsDuration()}
	for word := range strings.SplitSeq(statuses, ",") {
		if name := strings.ReplaceAll(strings.ToUpper(word), "-", "_"); traffic.IsRetriedStatus(name) {
			out.Statuses = append(out.Statuses, name)
		}
	}
	for _, code := range p.GetRetriableStatusCodes() {
		out.Codes = append(out.Codes, int(code))
	}
	return out, nil
}

// maxRetryOn bounds what is read of conditions of retries, in bytes.
const maxRetryOn = 1024
