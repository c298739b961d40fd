package forward

import (
	"context"
	"net/http"
	"strings"
	"testing"

	"github.com/isthmus-mesh/isthmus/internal/connect"
)

func TestWhatIsNoReplyOfAGatewayIsABadGateway(t *testing.T) {
	_, _, err := connect.ReadReply(strings.NewReader("garbage\r\n\r\n"), nil)
	if r := replyRefusal(t.Context(), err); r.Status != http.StatusBadGateway || r.Type == "" || r.Details == "" {
		t.Errorf("garbage gives %+v", r)
	}
	_, _, err = connect.ReadReply(strings.NewReader(""), nil)
	if r := replyRefusal(t.Context(), err); r.Status != http.StatusServiceUnavailable || r.Type != connect.ConnectionTerminated {
		t.Errorf("a stream that ends without a reply gives %+v", r)
	}
	lost, cancel := context.WithCancelCause(t.Context())
	cancel(errLost)
	if r := replyRefusal(lost, err); r.Details != errLost.Error() {
		t.Errorf("an attempt that was cancelled gives %+v, want the cause", r)
	}
}
